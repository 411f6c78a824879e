"""One batch, from settled files to published partitions. READ FIRST: pipeline.

Owns the order of the steps, what a commit holds, and what start-up finishes. Never serves, shows or logs a result: it returns
values. Imports core, storage, execution and sources; operate, observe and the top level may import it.
"""
