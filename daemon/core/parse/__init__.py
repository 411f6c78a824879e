"""Parses the bytes of a drop into orders, discards and faults, or into the reason why the drop cannot be read.

There are two parsers. The fast path (native/scan.c) reads the usual spellings and refuses the rest. The reference parser
(reference, values) reads any record and is the authority. They agree on every byte of the outcome.

    documents, nested              where the records of a drop begin and end; records inside a line or an element
    envelopes, pages               which array of an object has the records; what is an empty page, and what an error of an API
    hidden, refusals               what would be lost with a record that is no order; drops that are refused for their records
    parse                          all records of some pieces, by both parsers
    mapped                         records of a source that spells its orders in another way
    csv_text, csv                  users and products
    damage, advice, explain        words for people: what is wrong, which setting helps, how a record is read
    shapes, discards, texts        keys of the first records, for drift; rejected records; JSON values as texts
"""
