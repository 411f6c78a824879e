"""Parses the bytes of a drop into orders, discards and faults, or into the reason why the drop cannot be read.

There are two parsers. The fast path (native/scan.c) reads the usual spellings and refuses the rest. The reference parser
(reference, values) reads any record and is the authority. They agree on every byte of the outcome.
"""
