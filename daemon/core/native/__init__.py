"""The C code: the fast path of the parser (scan.c), keys and index entries (keyed.c), hashes (blake2b.h). `bindings` calls it.

It only computes: no I/O, no state between calls. Only core imports this package.
"""
