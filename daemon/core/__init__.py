"""The rules, pure: values in, values out. No I/O, no clock, no logging.

Owns the vocabulary (model, entries, errors), the comparison of versions (versions), parsing (parse/), order lines and partitions
(merge/), and the C that makes these fast (native/). Imports nothing of the program outside core. Everything may import it.
"""
