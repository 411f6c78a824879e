"""How drops arrive: the inbox as a folder of others, which file is settled, and what wakes the loop.

Owns every operation on a name inside the inbox (inbox_folder; docs/SECURITY.md has the rules). Never reads a record. Imports core
and storage; batch and what is above it may import it.
"""
