"""Bytes of a drop to orders, discards, faults, or the reason why the drop cannot be read.

Two parsers: the fast path (native/scan.c) takes what is spelled as usual and refuses the rest; the reference parser (reference,
values) reads any record and is the authority. They agree on every byte of the outcome.
"""
