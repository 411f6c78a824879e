"""Strandline: watches an inbox for drops of orders and keeps date-partitioned Parquet exact.

The rooms, in reading order:

    pipeline    READ FIRST: one batch, top to bottom
    core/       pure: no I/O, no clock, no logging
        model       the vocabulary: reasons, outcomes, the columns that flow between the rooms
        parse       bytes -> orders and discards, in two lanes:
            documents   what a drop is, and where its records begin and end
            scan.c      the fast lane, in C: records -> columns; native: for Python
            strict      the strict lane: one record, exactly; scalars: one value, exactly
        discards    rejected records: their table, and the lines that are kept of them
        keyed       orders by key: hashes of what they say, entries of the index; keyed.c
        versions    which of two versions is the later, and what that means
        facts       orders -> order lines, amounts allocated
        merge       one affected partition
        parquet     rows -> the bytes of a file, by pyarrow
        dimensions  users and products: CSV -> rows, rows -> the next table
        entries     what the ledger remembers, as values
        retry, errors
    inbox       what is in the inbox and is settled           raw         the raw layer: byte for byte
    inbox_folder    every operation on a name in the inbox    taking      how a drop leaves it
    names, unfinished   what is no drop, or no whole one
    ledger      the only memory (SQLite)                      order_index where each order lives, inside the ledger
    ledger_schema   its tables
    tasks       the two functions that may run elsewhere      reading     archived drops -> parsed, through tasks
    rewriting   versions -> staged partitions, through tasks
    workers     what runs them here; preloaded: what it needs  cluster     what runs them on other machines
    spill       tables as files, on their way between them
    store       the curated Parquet files                     changeset   what a batch changes, as one value
    publish     makes a commit visible                        receipts    what became of each drop
    dimensions  the dimensions' part in a batch               recovery    what start-up finishes
    rebuild     partitions anew from raw                      replay      all of them, and the ledger
    adoption    raw copies that the ledger does not know  guard       is the output still the one that was opened?
    published   the files as the ledger knows them
    plan        a dry run                                     status      what is known, for people and programs
    quarantine  back through the door                         frames      the pandas face
    ddl         the model as SQL tables                       warehouse   what a warehouse loads: manifests
    service     the loop: drain, wait, drain                  watcher     wakes it, and knows when it is deaf
    persistence what is tried again, and for how long         stopping    how a run is asked to end
    observer    what the service tells: log, metrics, health  http        the endpoint; systemd
    verify      is all of it there and right              trace       the life of one order
    page        the status as a page for people           wiring      builds the rooms from config, for cli
    files, lock, phases, progress, lean
"""
