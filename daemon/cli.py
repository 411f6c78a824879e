"""The command line: its options, its help and its exit codes. What each command does is in commands.

Exit codes: 0 done; 1 done, but something was quarantined or left, a model is not up to date, an API could not be
read, or the run was stopped early; 2 usage or configuration; 3 the environment failed.
"""

from __future__ import annotations

import argparse
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import serving
from .commands import administration, copies, erasing, looking, mending, withdrawing
from .commands.shared import ATTENTION, DONE, ENVIRONMENT, USAGE, commit, version
from .core.errors import NO_THREAD, Corruption, EnvironmentFault, UsageError, instead_of
from .stopping import release

if TYPE_CHECKING:
    from .config import Config

_Run = Callable[["Config", argparse.Namespace], int] | Callable[[argparse.Namespace], int]
_Add = Callable[[str, _Run, str], argparse.ArgumentParser]
# These stop at a safe point; the others end at once.
_HANDLE_SIGNALS = (
    serving.serve,
    looking.plan,
    mending.rebuild,
    erasing.forget,
    looking.verify,
    looking.trace,
    looking.sql,
    mending.pull,
    administration.check,
    withdrawing.undo,
)
# These look at what is there, or mend it: an output that is missing or empty is a mistake, not the first run.
_NEED_OUTPUT = (
    looking.status,
    looking.usage,
    looking.verify,
    looking.trace,
    mending.rebuild,
    erasing.forget,
    mending.retry,
    looking.downstream,
    mending.refresh,
    looking.sql,
    looking.manifest,
    administration.pause,
    administration.resume,
    looking.history,
    mending.discard,
    copies.backup,
    withdrawing.undo,
)
# These read the configuration themselves: one writes it, the other tells what is wrong with it.
_BEFORE_CONFIG = (administration.init, administration.check)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit code. Expected errors are one clear line on standard error."""
    options = _parser().parse_args(arguments)
    if options.run is not serving.serve and (options.once or options.since is not None):
        return _fail(USAGE, "--once and --since do not go with a command; remove them, or remove the command")
    if options.run not in _HANDLE_SIGNALS:
        release()
    exit_code = DONE
    try:
        exit_code = _run(options)
        print(end="", flush=True)  # report an error of standard output here, not at exit
        return exit_code
    except UsageError as error:
        return _fail(USAGE, str(error))
    except (EnvironmentFault, Corruption) as error:
        return _fail(ENVIRONMENT, str(error))
    except BrokenPipeError:  # the reader of our output closed it, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at exit
        return exit_code
    except OSError as error:
        where = f" on {error.filename}" if error.filename else ""
        return _fail(
            ENVIRONMENT,
            f"the system refused an operation{where}: {error.strerror or error}. "
            "Nothing is lost: remove the cause and start again",
        )
    except sqlite3.Error as error:
        from .storage import database

        cause, advice = database.shown(error), database.advice(error)
        return _fail(ENVIRONMENT, f"a file in state/ could not be read or written: {cause}. Nothing is lost. {advice}")
    except BrokenExecutor as error:
        return _fail(
            ENVIRONMENT,
            f"a worker process died ({error}), most likely because memory ran out. Nothing is lost: give it more memory or "
            "fewer [engine] workers, and start again",
        )
    except MemoryError as error:
        return _fail(ENVIRONMENT, _out_of_memory(error))
    except KeyboardInterrupt:
        return _fail(ATTENTION, "interrupted; archived drops are applied at the next start")
    except Exception as error:
        out_of_memory = isinstance(error, RuntimeError) and str(error) == NO_THREAD
        return _fail(ENVIRONMENT, _out_of_memory(error) if out_of_memory else _unexpected(error))


def _run(options: argparse.Namespace) -> int:
    if options.run in _BEFORE_CONFIG:
        return int(options.run(options))
    from .config import load

    config = load(options.config, os.environ)
    os.umask(config.paths.umask)  # of this process and those that it starts: what they make is the owner's
    if options.run in _NEED_OUTPUT:
        from .operate.presence import refuse_empty

        refuse_empty(config.paths.output)
    return int(options.run(config, options))


def _out_of_memory(error: Exception) -> str:
    return (
        f"memory ran out ({str(error) or type(error).__name__}). Nothing is lost: give it more memory (and threads, if these are "
        "limited), fewer [engine] workers, or smaller batches ([batch] max_bytes), and start again"
    )


def _unexpected(error: Exception) -> str:
    import logging
    import traceback

    frame = traceback.extract_tb(error.__traceback__)[-1]
    logging.getLogger("strandline").debug("unexpected error", exc_info=error)
    return (
        f"unexpected error: {type(error).__name__} in {frame.name} ({Path(frame.filename).name}, line {frame.lineno}; "
        '[log] level = "debug" shows the traceback). Nothing is lost: archived drops are applied at the next start. '
        "Please report this"
    )


def _fail(code: int, message: str) -> int:
    print(f"strandline: {message}", file=sys.stderr)
    return code


# --------------------------------------------------------------------------------------------------------------- parser


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="strandline",
        description="Watches an inbox for drops of orders (JSON), users and products (CSV), and keeps date-partitioned Parquet "
        "exact: a batch rewrites only the dates that it changes. Without a command, it watches until it is stopped.",
        epilog="Exit codes: 0 done; 1 done, but something was quarantined or left, a model is not up to date, or "
        "an API could not be read; "
        "2 usage or configuration error; "
        "3 the environment failed (disk full, output locked by another instance).",
    )
    parser.add_argument("--once", action="store_true", help="apply everything that is in the inbox, then exit")
    parser.add_argument(
        "--since", metavar="TS", help="apply only orders created at or after this instant (UTC unless it has a zone); hwm: the "
        "high-water mark. Orders since then in drops that are archived already are applied too"
    )  # fmt: skip
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and the commit, and exit")
    parser.set_defaults(run=serving.serve, config=None)
    _add_config(parser)
    subparsers = parser.add_subparsers(metavar="COMMAND", title="commands")

    def add(name: str, run: _Run, help: str) -> argparse.ArgumentParser:
        command = subparsers.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        command.set_defaults(run=run)
        _add_config(command)
        return command

    _add_looking(add)
    _add_mending(add)
    _add_administration(add)
    _add_copies(add)
    return parser


def _add_looking(add: _Add) -> None:
    status = add(
        "status", looking.status, "show the high-water mark, the backlog, the last drops, discards and partitions"
    )
    status.add_argument("--json", action="store_true", help="as JSON, for programs")
    usage = add("usage", looking.usage, "show the disk by part: how much, how old, how long it is kept")
    usage.add_argument("--json", action="store_true", help="as JSON, for programs")
    history = add("history", looking.history, "list all drops and what became of them, batch by batch, the newest last")
    history.add_argument(
        "--since",
        dest="history_since",
        metavar="TS",
        help="those received at or after this instant (UTC unless it has a zone)",
    )
    history.add_argument("--json", action="store_true", help="as a JSON array with one drop a line, for programs")
    trace = add("trace", looking.trace, "show the history of one order: every version in raw, which one won, and why")
    trace.add_argument("order", metavar="ORDER_ID")
    trace.add_argument("--json", action="store_true", help="as JSON, for programs")
    trace.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="read no further drops after so many seconds; the newest are read first",
    )
    plan = add(
        "plan",
        looking.plan,
        "show what a file would become if it were dropped now and how its first records are read, and change nothing",
    )
    plan.add_argument("file", type=Path, metavar="FILE", help="a file with the name that it would be dropped under")
    plan.add_argument("--json", action="store_true", help="as JSON, with every discard")
    plan.add_argument(
        "--source",
        metavar="NAME",
        help="the source to read it as (default: that of the folder where it is, else default)",
    )
    verify = add(
        "verify",
        looking.verify,
        "check that everything is there and right, down to a rebuild from raw; exit code 1 if not",
    )
    verify.add_argument("--json", action="store_true", help="as JSON, for programs")
    verify.add_argument(
        "--destinations", action="store_true", help="also fetch and compare all that loads, tables and mirrors have"
    )
    downstream = add(
        "downstream",
        looking.downstream,
        "list models, checks and destinations: what they read, and what is not up to date",
    )
    downstream.add_argument("--json", action="store_true", help="as JSON, for programs")
    sql = add(
        "sql",
        looking.sql,
        "run a read-only SQL query over what is published; without one, on a terminal, ask for queries",
    )
    sql.epilog = 'Example: strandline sql "SELECT date, sum(amount) FROM fact_order GROUP BY ALL ORDER BY ALL"'
    sql.add_argument(
        "query",
        nargs="?",
        metavar="QUERY",
        help="the query; -: from standard input (also without one, where that is no terminal)",
    )
    form = sql.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_const", dest="form", const="csv", help="as CSV")
    form.add_argument("--json", action="store_const", dest="form", const="json", help="as a JSON array of objects")
    sql.add_argument("--output", type=Path, metavar="FILE", help="write FILE.parquet, FILE.csv or FILE.json")
    schema = add("schema", looking.schema, "print the tables of the model as SQL")
    schema.add_argument("--dialect", choices=["redshift", "postgres", "duckdb"], default="redshift")
    manifest = add("manifest", looking.manifest, "print a Redshift COPY manifest of published files")
    manifest.add_argument("table", metavar="TABLE", help="fact_order, order_items, dim_user or dim_product")
    manifest.add_argument("prefix", metavar="PREFIX", help="where the output folder is copied to: s3://bucket/path")
    manifest.add_argument("dates", nargs="*", default=[], metavar="DATE", help="YYYY-MM-DD; none: all")


def _add_mending(add: _Add) -> None:
    retry = add(
        "retry", mending.retry, "put quarantined drops back into the inbox (all, or those named); an applied drop that is named "
        "is read again"
    )  # fmt: skip
    retry.add_argument(
        "names", nargs="*", metavar="NAME", help="a file in quarantine/ or raw/, the name of a drop, or its number"
    )
    discard = add(
        "discard", mending.discard, "remove drops from quarantine; their receipts keep who did that, when and why"
    )
    discard.add_argument(
        "names", nargs="+", metavar="NAME", help="a file in quarantine/, the name of a drop, or its number"
    )
    discard.add_argument("--reason", default="", metavar="TEXT", help="why, for the record")
    undo = add("undo", withdrawing.undo, "withdraw an applied drop, as if it had never come; its raw copy stays")
    undo.add_argument(
        "drop", metavar="DROP", help="its number, its name, or its SHA-256 (12 or more of its hexadecimal digits)"
    )
    undo.add_argument("--revert", action="store_true", help="apply a withdrawn drop again, as if it had stayed")
    undo.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    undo.add_argument("--reason", default="", metavar="TEXT", help="why, for the record")
    undo.add_argument("--json", action="store_true", help="as JSON, for programs")
    pull = add(
        "pull", mending.pull, "read the API of a source once, from where the last round left off, and apply what came"
    )
    pull.add_argument("name", metavar="NAME", help="a source with a section [sources.NAME.pull]")
    pull.add_argument(
        "--dry-run", action="store_true", help="read the first page only, and show it as plan does; keep nothing"
    )
    pull.add_argument(
        "--since",
        dest="pull_since",
        metavar="TS",
        help="begin at this instant in place of the cursor; a later one leaves the cursor where it is",
    )
    refresh = add(
        "refresh",
        mending.refresh,
        "make the results of a model or a check again, or send a destination again what it has: all, or some dates",
    )
    refresh.add_argument("name", metavar="NAME")
    refresh.add_argument("dates", nargs="*", default=[], metavar="DATE", help="YYYY-MM-DD; none: all")
    rebuild = add(
        "rebuild", mending.rebuild, "rebuild partitions from the raw layer; without dates, all of them and the ledger"
    )
    rebuild.add_argument("dates", nargs="*", metavar="DATE", help="YYYY-MM-DD")
    forget = add(
        "forget", erasing.forget, "erase users and orders: their records in raw copies, and all that was made of these"
    )
    forget.add_argument(
        "--user", dest="users", action="append", default=[], metavar="ID",
        help="a user_id as in fact_order, with its orders; may be given several times",
    )  # fmt: skip
    forget.add_argument(
        "--order",
        dest="orders",
        action="append",
        default=[],
        metavar="ID",
        help="an order_id; may be given several times",
    )
    forget.add_argument("--dry-run", action="store_true", help="show what would be erased, and change nothing")
    forget.add_argument(
        "--block", action="store_true", help="refuse what comes later for these ids; a salted hash of each is kept"
    )
    forget.add_argument(
        "--unblock", action="store_true", help="erase nothing; apply again what comes later for these ids"
    )


def _add_administration(add: _Add) -> None:
    init = add("init", administration.init, "write a commented configuration and make its folders; writes over nothing")
    init.add_argument("--preset", metavar="NAME", help="the shop that orders come from, such as shopify")
    check = add(
        "check",
        administration.check,
        "test the configuration, folders, rights, disk, models, APIs and destinations, and change nothing; exit code 1 with "
        "warnings, 2 with errors",
    )
    check.add_argument("--json", action="store_true", help="as JSON, for programs")
    pause = add("pause", administration.pause, "take no more drops, also after a restart, until `strandline resume`")
    pause.add_argument("--reason", default="", metavar="TEXT", help="why; it is shown wherever the pause is")
    add("resume", administration.resume, "take drops again")


def _add_copies(add: _Add) -> None:
    backup = add(
        "backup", copies.backup, "copy the output, as it is at one moment, into a new folder, beside a running daemon"
    )
    backup.add_argument("folder", type=Path, metavar="DIR", help="a folder that is empty or does not exist")
    backup.add_argument("--json", action="store_true", help="as JSON, for programs")
    restore = add("restore", copies.restore, "put a backup into the output folder, which must be empty or not exist")
    restore.add_argument("folder", type=Path, metavar="DIR", help="what `strandline backup` made")
    restore.add_argument("--json", action="store_true", help="as JSON, for programs")


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="PATH", default=argparse.SUPPRESS,
        help="the settings (default: ./config.toml if it exists, else the defaults)",
    )  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """Parsers of commands are of this class, too."""

    def error(self, message: str) -> NoReturn:
        """One line that says what is wrong, and one that says where to look; the usage of all commands would hide both."""
        if found := re.match(r"argument COMMAND: invalid choice: (.+?) \(choose from (.+)\)$", message):
            names = [name.strip("'") for name in found[2].split(", ")]
            message = f"there is no command {found[1]}; {instead_of(found[1].strip(chr(39)), names)}"
        self.exit(USAGE, f"strandline: {message}\n`{self.prog} --help` shows what there is\n")


class _ShowVersion(argparse.Action):
    """Looks the version up only when it is asked for: the lookup takes as long as reading a drop."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"strandline {version()} (commit {commit()})")
        parser.exit()
