"""Commands, wiring, exit codes. The only room that builds the others. Nothing heavy is imported before it is needed.

Exit codes: 0 done; 1 done, but something was quarantined or left (also by an early stop); 2 usage or configuration;
3 the environment failed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import sys
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from importlib import metadata
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from .core.errors import Corruption, EnvironmentFault, UsageError

if TYPE_CHECKING:
    from .config import Config
    from .service import Summary

DONE, DONE_BUT, USAGE, ENVIRONMENT = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit code. Errors that are expected come out as one clear line."""
    options = _parser().parse_args(arguments)
    try:
        from .config import load

        config = load(options.config, os.environ)
        return _run(config, once=options.once)
    except UsageError as error:
        return _fail(USAGE, str(error))
    except EnvironmentFault as error:
        return _fail(ENVIRONMENT, str(error))
    except Corruption as error:
        return _fail(ENVIRONMENT, str(error))
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        return _fail(
            ENVIRONMENT,
            f"the system refused an operation on{where or ' a file'}: {error.strerror or error}. "
            "Nothing is lost: remove the cause and start again",
        )
    except sqlite3.Error as error:
        return _fail(
            ENVIRONMENT,
            f"the ledger could not be read or written: {error}. Nothing is lost: remove the cause and start again",
        )
    except BrokenExecutor as error:
        return _fail(
            ENVIRONMENT,
            f"a worker process died ({error}), most likely for want of memory. Nothing is lost: give it more memory or fewer "
            "[engine] workers, and start again",
        )
    except Exception as error:
        import logging
        import traceback

        frame = traceback.extract_tb(error.__traceback__)[-1]
        logging.getLogger("strandline").debug("unforeseen error", exc_info=error)
        return _fail(
            ENVIRONMENT,
            f"something happened that nobody foresaw: {type(error).__name__} in {frame.name} "
            f'({Path(frame.filename).name}, line {frame.lineno}; [log] level = "debug" shows more). Nothing is lost: what was '
            "archived is applied at the next start. Please report it",
        )
    except KeyboardInterrupt:
        return _fail(DONE_BUT, "interrupted; what was archived is applied at the next start")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="strandline",
        description="Watches an inbox for drops of orders (JSON) and keeps date-partitioned Parquet exact: only the dates "
        "that a drop really changes are rewritten.",
        epilog="Exit codes: 0 done; 1 done, but something was quarantined or left; 2 usage or configuration error; "
        "3 the environment failed (disk full, output locked by another instance).",
    )
    parser.add_argument("--once", action="store_true", help="apply everything that is in the inbox, then exit")
    parser.add_argument(
        "--config", type=Path, metavar="PATH", help="the settings (default: ./config.toml, or the defaults without one)"
    )
    parser.add_argument("--version", action="version", version=f"strandline {_version()}")
    return parser


def _version() -> str:
    try:
        return metadata.version("strandline")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _fail(code: int, message: str) -> int:
    print(f"strandline: {message}", file=sys.stderr)
    return code


def _run(config: Config, *, once: bool) -> int:
    """Builds the rooms and lets the service work in them."""
    stop = _stop_on_signals()
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import ExitStack, closing

    from .lean import prepare

    prepare()

    from . import files, progress, tasks
    from .inbox import Inbox
    from .ledger import Ledger
    from .lock import Lock
    from .log import Reporter, log, set_up
    from .pipeline import House
    from .raw import RawLayer
    from .reading import Limits, Reader
    from .recovery import recover
    from .service import Service, Terms
    from .store import Store

    set_up(config.log.level, config.log.format)
    inbox_path, output = config.paths.inbox, config.paths.output.resolve()
    with ExitStack() as stack:
        stack.enter_context(closing(Lock(output / "state" / "lock")))
        inbox_path.mkdir(parents=True, exist_ok=True)
        store = Store(output)
        files.make_folder(store.staging)
        files.make_folder(store.curated)
        workers = config.engine.worker_count
        limits = Limits(config.input.max_drop_bytes, config.input.max_expansion)
        reading = stack.enter_context(tasks.processes(workers))
        rewriting = stack.enter_context(ThreadPoolExecutor(workers, "rewrite"))
        house = House(
            output,
            ledger=stack.enter_context(closing(Ledger(output / "state" / "ledger.sqlite"))),
            raw=RawLayer(output, store.staging),
            store=store,
            reader=Reader(output, store.staging, limits, reading),
            rewriting=rewriting,
            background=stack.enter_context(ThreadPoolExecutor(1, "background")),
            progress=progress.to(sys.stderr),
            stopped=stop.is_set,
        )
        tolerance = int(config.orders.future_tolerance * 1_000_000)
        backoff = config.retry.backoff
        terms = Terms(
            tolerance,
            config.input.records_path,
            config.batch.max_drops,
            config.batch.max_bytes,
            config.watch.rescan_seconds,
            patience_seconds=config.watch.settle_seconds + backoff.total_seconds + 1.0,
        )
        log.info("run started", extra={"inbox": str(inbox_path), "output": str(output), "once": once})
        uncommitted = recover(house, inbox_path, tolerance, config.input.records_path)
        service = Service(house, Inbox(inbox_path, config.watch.settle_seconds, backoff), terms, Reporter())
        summary = service.run(uncommitted, once=once, stop=stop)
        log.info("run ended", extra={"applied": summary.applied, "duplicates": summary.duplicates,
                                     "quarantined": summary.quarantined, "left": summary.left,
                                     "stopped": summary.stopped})  # fmt: skip
        return _exit_code(summary, once=once)


def _exit_code(summary: Summary, *, once: bool) -> int:
    return DONE_BUT if once and (summary.quarantined or summary.left or summary.stopped) else DONE


def _stop_on_signals() -> Event:
    """An event that SIGTERM and SIGINT set; the work ends at the next good place. A second signal ends it at once."""
    stop = Event()

    def handle(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop
