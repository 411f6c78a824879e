"""Strandline: watches an inbox for drops of orders and keeps date-partitioned Parquet exact.

READ FIRST: batch/pipeline.py. Then, from the bottom up, each package imports only those before it:

    core        the rules, pure: model, versions, parsing, merging, and the C below them
    storage     what is kept on disk: raw layer, curated files, receipts, ledger, lock
    execution   where work runs: threads, worker processes, a Dask cluster
    sources     how drops arrive: the inbox, settling, the watcher
    batch       one batch: archive, parse, prepare, commit, publish; recovery
    operate     status, plan, verify, trace, rebuild, retry, warehouse
    observe     log, metrics, health, HTTP, the page

    service     the loop: drain, wait, drain          stopping    how a run is asked to end
    wiring      builds all of it from config          cli         commands and exit codes; arguments
    config      config.toml and the environment       frames      the public pandas API
"""
