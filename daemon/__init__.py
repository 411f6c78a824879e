"""Strandline: watches an inbox for drops of orders and keeps date-partitioned Parquet exact.

Read batch/pipeline.py first. The packages, from the bottom up; each imports only those before it:

    core        the rules, pure: model, versions, parsing, merging, and the C below them
    storage     what is kept on disk: raw layer, curated files, receipts, ledger, lock
    execution   where work runs: threads, worker processes, a Dask cluster
    sources     how drops arrive: the inbox, settling, the watcher
    batch       one batch: archive, parse, merge, stage, commit, publish; recovery
    operate     status, plan, verify, trace, rebuild, retry, warehouse
    observe     log, metrics, health, HTTP, the page

    service     the loop: drain, wait, drain          stopping    how a run is asked to stop
    wiring      builds it all from config             cli         the command line and exit codes; arguments
    config      config.toml and the environment       commands    what each command does; administration
    reloading   the configuration, read again         serving     the main command
    frames      the public pandas API
"""
