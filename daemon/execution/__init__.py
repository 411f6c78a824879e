"""Where work runs: in this process, in worker processes, or on a Dask cluster. There are two tasks, read and rewrite (tasks).

Owns processes, their memory, and how tables travel between them. Never decides, never changes published files. Imports core and
storage; batch and the packages above it may import it.
"""
