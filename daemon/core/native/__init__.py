"""The C: the fast path of the parser (scan.c), keys and winners (keyed.c), hashes (blake2b.h). `bindings` calls it with ctypes.

It computes and does nothing else: no I/O, no state between calls. Only core imports it.
"""
