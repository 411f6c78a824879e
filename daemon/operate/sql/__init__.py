"""`strandline sql`: SQL over what is published, read-only, beside a running daemon.

Owns how one query is read, answered and shown. Never changes a file of the output but its own scratch folder there; what a query
may do besides reading is refused by its parsed form and by DuckDB's settings. Session is its story: read that first.
"""
