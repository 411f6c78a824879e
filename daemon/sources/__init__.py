"""How drops arrive: the inbox as a folder that others write to, which files are settled, and what wakes the loop.

Owns every operation on a name inside the inbox (inbox_folder; docs/SECURITY.md has the rules). Never reads a record. Imports core
and storage; batch and the packages above it may import it.
"""
