"""What follows the published partitions: SQL and pandas models, and checks. One contract keeps each of them up to date.

Owns the folders models/ and checks/ of the output, and state/downstream.sqlite, which has what each of them was made from. Reads
published files and never changes them, nor the ledger. A downstream that fails costs no drop and delays no batch. Imports core,
storage and batch; operate, observe and the top level may import it.
"""
