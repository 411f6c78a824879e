"""Where work runs: in this process, in worker processes, or on a Dask cluster. Two tasks, read and rewrite (tasks).

Owns processes, their memory, and how tables travel to them. Never decides, never changes what is published. Imports core and
storage; batch and what is above it may import it.
"""
