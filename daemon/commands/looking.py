"""The commands that look, and change nothing: status, usage, history, plan, verify, trace, downstream, sql, schema, manifest,
docs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import UsageError, instead_of
from ..stopping import Stop
from .shared import ATTENTION, DONE, engine_of, gathered, scratch_folder, show, stop_on_signals, used

if TYPE_CHECKING:
    from ..batch.engine import Engine
    from ..config import Config
    from ..operate.difference import Difference


def status(config: Config, options: argparse.Namespace) -> int:
    from ..operate.status import table

    found = gathered(config)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        show(table(found))
    return DONE


def usage(config: Config, options: argparse.Namespace) -> int:
    from ..core import progress
    from ..operate.usage import table

    found = used(config, progress.to(sys.stderr))
    progress.make_room()
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        show(table(found))
    return DONE


def history(config: Config, options: argparse.Namespace) -> int:
    from ..core.errors import UsageError
    from ..operate.arguments import instant
    from ..operate.history import as_json, table
    from ..storage.ledger import Ledger

    path = config.paths.output.resolve() / "state" / "ledger.sqlite"
    if not path.exists():
        raise UsageError(f"there is no history: {path.parent.parent} has no ledger; see [paths] output")
    with closing(Ledger(path, read_only=True)) as ledger:
        results = ledger.by_batch(instant(options.history_since, ledger.hwm) or 0)
        for line in as_json(results) if options.json else table(results):
            print(line) if options.json else show(line)
    return DONE


def plan(config: Config, options: argparse.Namespace) -> int:
    from ..core.mapping import DEFAULT_SOURCE
    from ..sources.source_folder import source_of
    from ..wiring import contexts, places, refuse_retyped

    stop = stop_on_signals(ATTENTION)
    with scratch_folder("plan") as scratch, engine_of(config, stop, dry=scratch) as engine:
        from ..operate import plan
        from ..storage.ledger import Ledger

        source = options.source or source_of(options.file, places(config)) or DEFAULT_SOURCE
        if source not in config.sources:
            raise UsageError(f"there is no source {source}; {instead_of(source, config.sources, 'configured are')}")
        refuse_retyped(config, engine.ledger)
        context = contexts(config, time.time_ns() // 1000)[source]
        path = engine.ledger.path  # before the first run, an empty ledger in the scratch folder
        found = plan.plan(engine, lambda: Ledger(path, read_only=True), options.file, context)
        if options.json:
            print(json.dumps(plan.as_dict(found), indent=2))
        else:
            show(f"{plan.table(found)}\n\n{plan.last_line(found)}")
        return ATTENTION if any(one.outcome == "quarantined" for one in found.results) else DONE


def verify(config: Config, options: argparse.Namespace) -> int:
    stop = stop_on_signals(ATTENTION)
    with scratch_folder("verify") as scratch, engine_of(config, stop, dry=scratch) as engine:
        from ..batch.recovery import refuse_lost_ledger
        from ..core.progress import make_room
        from ..operate import seeds
        from ..operate.verify import copy_ledger, verify
        from ..operate.wording import counted
        from ..storage.ledger import Ledger

        refuse_lost_ledger(engine)
        path = engine.ledger.path  # before the first run, an empty ledger in the scratch folder
        copy_ledger(engine.ledger, scratch / "copy.sqlite")
        found = []
        with closing(Ledger(scratch / "copy.sqlite")) as copy:
            of_copy, now = replace(engine, ledger=copy), time.time_ns() // 1000
            for one in verify(of_copy, lambda: Ledger(path, read_only=True), scratch / "rebuilt", now):
                found.append(one)
                make_room()
                if not options.json:
                    print(one, flush=True)
            drops, partitions = copy.drop_count(), len(copy.partitions())
            kept, orders = seeds.count(copy)
        of_models, behind = _verify_downstreams(config, engine, scratch, stop, destinations=options.destinations)
        found += of_models
        if not options.json:
            print(*of_models, sep="\n", end="\n" if of_models else "", flush=True)
        if options.json:
            differences = [{"check": one.check, "what": one.what, "found": one.found} for one in found]
            numbers = {"drops": drops, "partitions": partitions, "stale_dates": behind}
            numbers |= {"partitions_not_made_anew": kept, "orders_not_made_anew": orders}
            print(json.dumps(numbers | {"differences": differences}, indent=2))
        else:
            if behind:
                print(f"{behind:,} dates of what follows are not up to date, and were not compared")
            if orders:
                print(
                    f"{orders:,} orders in {kept:,} partitions came from raw copies that have gone by age: they cannot be made "
                    "anew, and the SHA-256 of their partitions guards them"
                )
            verdict = (
                f"{counted(len(found), 'difference')}; what each says mends it"
                if found
                else "all of it is there and right"
            )
            print(f"{drops:,} drops and {partitions:,} partitions verified: {verdict}")
        return ATTENTION if found else DONE


def _verify_downstreams(
    config: Config, engine: Engine, scratch: Path, stop: Stop, *, destinations: bool
) -> tuple[list[Difference], int]:
    """The differences of models and checks from a fresh run, and of destinations, if asked for, from what is published; and how
    many dates are not up to date."""
    from ..downstream.follow import Following
    from ..downstream.records import copy
    from ..downstream.settings import RECORDS
    from ..operate.verify_destinations import check_destinations
    from ..operate.verify_models import check_models
    from ..wiring import following_settings

    if (engine.output / RECORDS).exists():
        copy(engine.output / RECORDS, scratch / RECORDS)
    elif not destinations:
        return [], 0
    else:  # a destination says itself what it has
        (scratch / RECORDS).parent.mkdir(parents=True, exist_ok=True)
    with closing(Following(engine.output, following_settings(config), dry=scratch)) as following:
        found, behind = check_models(following, engine.output, scratch, stop.asked.is_set)
        if not destinations:
            return found, behind
        sent, behind_sent = check_destinations(following, scratch, stop.asked.is_set)
        return [*found, *sent], behind + behind_sent


def trace(config: Config, options: argparse.Namespace) -> int:
    stop = stop_on_signals(ATTENTION)
    with scratch_folder("trace") as scratch, engine_of(config, stop, dry=scratch) as engine:
        from ..batch.recovery import refuse_lost_ledger
        from ..operate import trace, trace_text

        refuse_lost_ledger(engine)
        found = trace.trace(engine, options.order.strip(), options.seconds)
        if options.json:
            print(json.dumps(trace.as_dict(found), indent=2))
        else:
            show(trace_text.table(found))
        return DONE if found.versions and found.agrees else ATTENTION


def downstream(config: Config, options: argparse.Namespace) -> int:
    from ..operate.downstreams import gather, table
    from ..storage.ledger import Ledger

    output = config.paths.output.resolve()
    path = output / "state" / "ledger.sqlite"
    with ExitStack() as stack:
        ledger = stack.enter_context(closing(Ledger(path, read_only=True))) if path.exists() else None
        found = gather(ledger, output, config.paths.models, config.paths.checks, config.destinations)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        show(table(found))
    return DONE


def sql(config: Config, options: argparse.Namespace) -> int:
    from ..execution.process import prepare

    prepare()  # before anything heavy is imported
    from ..operate.sql.command import Wanted, run
    from ..stopping import release
    from ..wiring import following_settings

    wanted = Wanted(options.query, options.form, options.output)
    return DONE if run(wanted, config.paths.output.resolve(), following_settings(config), release) else ATTENTION


def schema(config: Config, options: argparse.Namespace) -> int:
    from ..core.ddl import ddl

    print(ddl(options.dialect, config.columns), end="")
    print(
        "\n-- Run this in the warehouse; a section [load.NAME], or `strandline manifest`, fills the tables: "
        "`strandline docs WAREHOUSE`"
    )
    return DONE


def manifest(config: Config, options: argparse.Namespace) -> int:
    """The manifest goes to standard output, and all else to standard error."""
    from ..operate.warehouse import manifest
    from ..operate.wording import counted

    found = manifest(config.paths.output, options.table, options.dates or None, options.prefix)
    print(found.text, end="")
    if found.lacking:
        print(
            f"strandline: not in the manifest: {', '.join(found.lacking)}, set aside or in a folder that cannot be read. "
            "Leave what the warehouse has of them; `strandline status` and `strandline verify` say what to restore",
            file=sys.stderr,
        )
    files = f"{counted(found.files, 'file')} of {options.table} listed"
    print(f"{files}; put the manifest beside them, and COPY reads it: `strandline docs WAREHOUSE`", file=sys.stderr)
    return ATTENTION if found.lacking else DONE


def docs(options: argparse.Namespace) -> int:
    """Needs no configuration: who reads may be about to write one."""
    from ..operate import docs

    print(docs.table() if options.page is None else docs.asked(options.page).rstrip())
    return DONE
