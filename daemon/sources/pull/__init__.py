"""The API step: reads the pages of a source's API, from where the last round left off, into the folder of the source.

Owns [sources.NAME.pull]. Never judges a record: a page in the inbox is a drop like any other. Read round.py first.
"""
