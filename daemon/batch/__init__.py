"""One batch, from settled files to published partitions. Read pipeline first.

Owns the order of the steps, the content of a commit, and recovery at start-up. Never serves, shows or logs a result: it returns
values. Imports core, storage, execution and sources; operate, observe and the top level may import it.
"""
