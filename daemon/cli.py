"""Commands and exit codes. Nothing heavy is imported before it is needed.

Exit codes: 0 done; 1 done, but something was quarantined or left (also by an early stop); 2 usage or configuration;
3 the environment failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core.errors import MOVE_AWAY, Corruption, EnvironmentFault, UsageError
from .stopping import Stop, release

if TYPE_CHECKING:
    from .batch.engine import Engine
    from .config import Config
    from .service import Summary

DONE, DONE_BUT, USAGE, ENVIRONMENT = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit code. Errors that are expected come out as one clear line."""
    options = _parser().parse_args(arguments)
    if options.run is not _serve and (options.once or options.since is not None):
        return _fail(USAGE, "--once and --since are for a run without a command; leave them or the command away")
    if options.run not in (_serve, _plan, _rebuild, _verify, _trace):  # these end as they should
        release()
    exit_code = DONE
    try:
        from .config import load

        exit_code = options.run(load(options.config, os.environ), options)
        print(end="", flush=True)  # what is wrong with the output is said now
        return exit_code
    except UsageError as error:
        return _fail(USAGE, str(error))
    except (EnvironmentFault, Corruption) as error:
        return _fail(ENVIRONMENT, str(error))
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # it is flushed once more at the end
        return exit_code
    except OSError as error:
        where = f" on {error.filename}" if error.filename else ""
        return _fail(
            ENVIRONMENT,
            f"the system refused an operation{where}: {error.strerror or error}. "
            "Nothing is lost: remove the cause and start again",
        )
    except sqlite3.Error as error:
        damaged = type(error) is sqlite3.DatabaseError  # its subclasses are about the machine or the statement
        mend = f"if the file is damaged, {MOVE_AWAY}" if damaged else "remove the cause and start again"
        return _fail(ENVIRONMENT, f"the ledger could not be read or written: {error}. Nothing is lost: {mend}")
    except BrokenExecutor as error:
        return _fail(
            ENVIRONMENT,
            f"a worker process died ({error}), most likely for want of memory. Nothing is lost: give it more memory or fewer "
            "[engine] workers, and start again",
        )
    except KeyboardInterrupt:
        return _fail(DONE_BUT, "interrupted; what was archived is applied at the next start")
    except Exception as error:
        return _fail(ENVIRONMENT, _unforeseen(error))


def _unforeseen(error: Exception) -> str:
    import logging
    import traceback

    frame = traceback.extract_tb(error.__traceback__)[-1]
    logging.getLogger("strandline").debug("unforeseen error", exc_info=error)
    return (
        f"something happened that nobody foresaw: {type(error).__name__} in {frame.name} "
        f'({Path(frame.filename).name}, line {frame.lineno}; [log] level = "debug" shows more). Nothing is lost: what was '
        "archived is applied at the next start. Please report it"
    )


def _fail(code: int, message: str) -> int:
    print(f"strandline: {message}", file=sys.stderr)
    return code


# ------------------------------------------------------------------------------------------------------------- commands


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="strandline",
        description="Watches an inbox for drops of orders (JSON), users and products (CSV), and keeps date-partitioned Parquet "
        "exact: only the dates that a drop really changes are rewritten. Without a command it watches until it is stopped.",
        epilog="Exit codes: 0 done; 1 done, but something was quarantined or left; 2 usage or configuration error; "
        "3 the environment failed (disk full, output locked by another instance).",
    )
    parser.add_argument("--once", action="store_true", help="apply everything that is in the inbox, then exit")
    parser.add_argument(
        "--since", metavar="TS", help="apply only orders created at or after this instant (UTC without a zone); hwm: the "
        "high-water mark. What archived drops still hold since then is applied, too"
    )  # fmt: skip
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show program's version number and exit")
    parser.set_defaults(run=_serve, config=None)
    _add_config(parser)
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")

    def add(name: str, run: Callable[[Config, argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        command.set_defaults(run=run)
        _add_config(command)
        return command

    status = add("status", _status, "show the high-water mark, the backlog, the last drops, discards and partitions")
    status.add_argument("--json", action="store_true", help="as JSON, for programs")
    plan = add("plan", _plan, "show what a file would become if it were dropped now, and change nothing")
    plan.add_argument("file", type=Path, metavar="FILE", help="a file as it would be dropped, under its name")
    plan.add_argument("--json", action="store_true", help="as JSON, with every discard")
    rebuild = add(
        "rebuild", _rebuild, "make partitions anew from the raw layer; without dates all, and the ledger, too"
    )
    rebuild.add_argument("dates", nargs="*", metavar="DATE", help="YYYY-MM-DD")
    verify = add(
        "verify", _verify, "show whether all of it is there and right, down to a rebuild from raw; exit code 1 if not"
    )
    verify.add_argument("--json", action="store_true", help="as JSON, for programs")
    trace = add("trace", _trace, "show the life of one order: every version from raw, which one won, and why")
    trace.add_argument("order", metavar="ORDER_ID")
    trace.add_argument("--json", action="store_true", help="as JSON, for programs")
    retry = add(
        "retry", _retry, "put quarantined drops back into the inbox (all of them, or those named); an applied drop that is named "
        "is read anew"
    )  # fmt: skip
    retry.add_argument(
        "names", nargs="*", metavar="NAME", help="a file in quarantine/ or raw/, a drop's name, or its number"
    )
    schema = add("schema", _schema, "print the tables of the model as SQL")
    schema.add_argument("--dialect", choices=["redshift", "postgres", "duckdb"], default="redshift")
    manifest = add("manifest", _manifest, "print a Redshift COPY manifest of published files")
    manifest.add_argument("table", metavar="TABLE", help="fact_order, order_items, dim_user or dim_product")
    manifest.add_argument("prefix", metavar="PREFIX", help="where the output folder is copied to: s3://bucket/path")
    manifest.add_argument("dates", nargs="*", metavar="DATE", help="YYYY-MM-DD; none: all")
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="PATH", default=argparse.SUPPRESS,
        help="the settings (default: ./config.toml, or the defaults without one)",
    )  # fmt: skip


class _ShowVersion(argparse.Action):
    """argparse's own wants to know the version before anybody asks, and looking for it takes as long as reading a drop."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"strandline {_version()}")
        parser.exit()


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("strandline")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _serve(config: Config, options: argparse.Namespace) -> int:
    """Watching, or with --once catching up."""
    stop = Stop()
    stop.on_signals(DONE_BUT if options.once else DONE)
    from .arguments import instant

    instant(options.since, None)  # what is wrong with it is said before anything is touched
    with _engine(config, stop) as engine:
        from .batch.recovery import refuse_lost_ledger
        from .observe.log import log

        refuse_lost_ledger(engine)
        log.info("run started", extra={"inbox": str(config.paths.inbox), "output": str(engine.output),
                                       "once": options.once})  # fmt: skip
        since = instant(options.since, engine.ledger.hwm)
        return _catch_up(config, engine, stop, since) if options.once else _watch(config, engine, stop, since)


def _catch_up(config: Config, engine: Engine, stop: Stop, since: int | None) -> int:
    from .wiring import service

    _refuse_textfile_nowhere(config.metrics.textfile)
    if not config.metrics.textfile:
        return _ended(service(config, engine, [], since).once(stop.asked), once=True)
    from .observe.log import log
    from .observe.metrics import Metrics, write_textfile

    metrics = Metrics(engine.output, _version())
    metrics.restore(engine.ledger.hwm, engine.ledger.last_commit(with_new_data=True), engine.ledger.last_commit())
    try:
        return _ended(service(config, engine, [metrics], since).once(stop.asked), once=True)
    finally:
        trouble = write_textfile(metrics.registry, Path(config.metrics.textfile))
        if trouble:
            log.warning("the textfile could not be read, its counters begin anew",
                        extra={"file": config.metrics.textfile, "cause": trouble})  # fmt: skip


def _refuse_textfile_nowhere(textfile: str) -> None:
    """It is written at the end, when all is applied: what is wrong with it is better said before."""
    if textfile and not Path(textfile).parent.is_dir():
        raise UsageError(f"[metrics] textfile {textfile}: there is no folder {Path(textfile).parent}; make it first")


def _watch(config: Config, engine: Engine, stop: Stop, since: int | None) -> int:
    from prometheus_client import ProcessCollector

    from .observe.health import Health
    from .observe.http import application, document, serving
    from .observe.log import log
    from .observe.metrics import Metrics
    from .observe.page import Page
    from .observe.systemd import notify
    from .sources.watcher import Watcher
    from .wiring import service

    watcher = Watcher(config.paths.inbox, config.watch.mode, config.watch.rescan_seconds, stop.bell.set)

    def watching() -> bool:
        return watcher.up

    rest_seconds = max(config.watch.rescan_seconds, config.retry.max_delay_seconds)
    health = Health(engine.store.staging, rest_seconds, watching, lambda: notify("READY=1"))
    metrics = Metrics(engine.output, _version(), watching)
    metrics.restore(engine.ledger.hwm, engine.ledger.last_commit(with_new_data=True), engine.ledger.last_commit())
    ProcessCollector(registry=metrics.registry)

    def stopped() -> bool:
        health.turn()
        return stop.asked.is_set()

    loop = service(config, replace(engine, stopped=stopped), [metrics, health], since)
    with ExitStack() as stack:
        if config.http.enabled:
            page = Page(lambda: _gathered(config), health.why_not_ready, _version())
            more = {
                "/": document("text/html", page.html, {"Content-Security-Policy": page.policy}),
                "/api/status": document("application/json", page.json),
            }
            answer = application(metrics.registry, health.why_unhealthy, health.why_not_ready, more)
            address = stack.enter_context(serving(answer, config.http.host, config.http.port))
            log.info("listening", extra={"address": address})
        summary = loop.watch(watcher, stop.bell, stop.asked)
        notify("STOPPING=1")
    return _ended(summary, once=False)


def _status(config: Config, options: argparse.Namespace) -> int:
    from .operate import status

    found = _gathered(config)
    print(json.dumps(found, indent=2) if options.json else status.table(found))
    return DONE


def _plan(config: Config, options: argparse.Namespace) -> int:
    from tempfile import TemporaryDirectory

    from .core.model import ParseContext
    from .operate import plan
    from .wiring import tolerance

    stop = Stop()
    stop.on_signals(DONE_BUT)
    with TemporaryDirectory(prefix="strandline-plan-") as scratch, _engine(config, stop, dry=Path(scratch)) as engine:
        from .storage.ledger import Ledger

        context = ParseContext(time.time_ns() // 1000, tolerance(config), config.input.records_path)
        path = engine.ledger.path  # none yet: an empty one in the scratch folder
        found = plan.plan(engine, lambda: Ledger(path, read_only=True), options.file, context)
        print(json.dumps(plan.as_dict(found), indent=2) if options.json else plan.table(found))
        return DONE_BUT if found.result.outcome == "quarantined" else DONE


def _rebuild(config: Config, options: argparse.Namespace) -> int:
    stop = Stop()
    stop.on_signals(DONE_BUT)
    from .arguments import day

    days = [day(text) for text in options.dates]
    with _engine(config, stop, anew=not days) as engine:
        from .batch.recovery import is_lost, refuse_lost_ledger
        from .batch.repair import partitions_from_raw, refuse_unknown
        from .observe.log import log
        from .operate.rebuild import make_anew, take_over
        from .storage import receipts
        from .wiring import recovered, service, tolerance

        if days:
            refuse_lost_ledger(engine)
            recovered(config, engine)
            refuse_unknown(engine.ledger, days)
            partitions_from_raw(engine.ledger, engine.reader, engine.store, days)
            log.info("partitions made anew from raw", extra={"dates": sorted(set(options.dates))})
            return DONE
        if not is_lost(engine):
            recovered(config, engine)
        take_over(engine, make_anew(engine, time.time_ns() // 1000, tolerance(config), config.input.records_path))
    with _engine(config, stop) as engine:
        summary = service(config, engine, []).resume(stop.asked)
        receipts.restore(engine.output, engine.ledger.all_results())
        log.info("everything made anew from raw", extra={"partitions": len(engine.ledger.partitions())})
        return _ended(summary, once=True)


def _verify(config: Config, options: argparse.Namespace) -> int:
    from tempfile import TemporaryDirectory

    stop = Stop()
    stop.on_signals(DONE_BUT)
    with TemporaryDirectory(prefix="strandline-verify-") as scratch, _engine(config, stop, dry=Path(scratch)) as engine:
        from .batch.recovery import refuse_lost_ledger
        from .operate.verify import copy_at_rest, verify
        from .storage.ledger import Ledger

        refuse_lost_ledger(engine)
        path = (
            engine.ledger.path
        )  # there is none yet, or a new one in the scratch folder, where nothing was ever applied
        copy_at_rest(engine.ledger, Path(scratch) / "copy.sqlite")
        found = []
        with closing(Ledger(Path(scratch) / "copy.sqlite")) as copy:
            still = replace(engine, ledger=copy)
            for one in verify(
                still, lambda: Ledger(path, read_only=True), Path(scratch) / "rebuilt", time.time_ns() // 1000
            ):
                found.append(one)
                if not options.json:
                    print(one, flush=True)
            drops, partitions = copy.drop_count(), len(copy.partitions())
        if options.json:
            differences = [{"check": one.check, "what": one.what, "found": one.found} for one in found]
            print(json.dumps({"drops": drops, "partitions": partitions, "differences": differences}, indent=2))
        else:
            verdict = f"{len(found):,} differences" if found else "all of it is there and right"
            print(f"{drops:,} drops and {partitions:,} partitions verified: {verdict}")
        return DONE_BUT if found else DONE


def _trace(config: Config, options: argparse.Namespace) -> int:
    from tempfile import TemporaryDirectory

    stop = Stop()
    stop.on_signals(DONE_BUT)
    with TemporaryDirectory(prefix="strandline-trace-") as scratch, _engine(config, stop, dry=Path(scratch)) as engine:
        from .batch.recovery import refuse_lost_ledger
        from .operate import trace

        refuse_lost_ledger(engine)
        found = trace.trace(engine, options.order.strip())
        print(json.dumps(trace.as_dict(found), indent=2) if options.json else trace.table(found))
        return DONE if found.versions and found.agrees else DONE_BUT


def _retry(config: Config, options: argparse.Namespace) -> int:
    from .batch.reread import applied, put_again
    from .operate.quarantine import called, retry

    output, inbox = config.paths.output.resolve(), config.paths.inbox
    again = applied(output, [name for name in options.names if not called(output / "quarantine", name)])
    if not options.names or len(again) < len(options.names):
        for file in retry(output / "quarantine", inbox, [name for name in options.names if name not in again]):
            print(f"{file} is back in {inbox}")
    put_again(output, inbox, list(again.values()))
    for drop in again.values():
        print(f"drop {drop.seq} ({drop.name}) was applied, and is in {inbox} once more, to be read anew")
    return DONE


def _schema(_: Config, options: argparse.Namespace) -> int:
    from .operate.ddl import ddl

    print(ddl(options.dialect), end="")
    return DONE


def _manifest(config: Config, options: argparse.Namespace) -> int:
    from .operate.warehouse import manifest

    print(manifest(config.paths.output, options.table, options.dates or None, options.prefix), end="")
    return DONE


# -------------------------------------------------------------------------------------------------------- their parts


def _engine(
    config: Config, stop: Stop, dry: Path | None = None, *, anew: bool = False
) -> AbstractContextManager[Engine]:
    from .execution.process import prepare

    prepare()  # before anything heavy is imported
    from .wiring import engine

    return engine(config, stop, dry, anew=anew)


def _gathered(config: Config) -> dict[str, Any]:
    """What `status` and the page say."""
    from .operate import status
    from .storage.ledger import Ledger

    output = config.paths.output.resolve()
    path = output / "state" / "ledger.sqlite"
    with ExitStack() as stack:
        ledger = stack.enter_context(closing(Ledger(path, read_only=True))) if path.exists() else None
        return status.gather(ledger, config.paths.inbox, output, time.time_ns() // 1000, config.watch.ignore)


def _ended(summary: Summary, *, once: bool) -> int:
    from .observe.log import log

    log.info("run ended", extra={"applied": summary.applied, "duplicates": summary.duplicates,
                                 "quarantined": summary.quarantined, "left": summary.left,
                                 "stopped": summary.stopped})  # fmt: skip
    return DONE_BUT if once and (summary.quarantined or summary.left or summary.stopped) else DONE
