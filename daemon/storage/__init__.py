"""What is on disk: the raw layer, the curated files, receipts, the ledger with its order index, the lock.

Owns durable file operations (files) and every path under the output folder. Never decides what a record means, never touches
the inbox. Imports core; execution, sources, batch and the packages above may import it.
"""
