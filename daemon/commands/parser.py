"""The arguments of the command line and their help. What a command does is in the other modules here; what its help says below
the arguments is in guide."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .. import serving
from ..core.errors import escaped, instead_of, meant
from . import administration, completion, copies, erasing, looking, mending, withdrawing
from .guide import GUIDES, MAIN, epilog
from .shared import USAGE, commit, version

if TYPE_CHECKING:
    from ..config import Config

Run = Callable[["Config", argparse.Namespace], int] | Callable[[argparse.Namespace], int]
_Add = Callable[[str, Run, str], argparse.ArgumentParser]


def parser() -> argparse.ArgumentParser:
    """All commands, each with the function that runs it as `run`."""
    main = _Parser(
        prog="strandline",
        formatter_class=_Formatter,
        description="Watches an inbox for drops of orders (JSON), users and products (CSV), and keeps date-partitioned Parquet "
        "exact: a batch rewrites only the dates that it changes. Without a command, it watches until it is stopped.",
        epilog=epilog(MAIN)
        + "\n\nExit codes: 0 done; 1 done, but something was quarantined or left, a model is not up to date, or "
        "an API could not be read; "
        "2 usage or configuration error; "
        "3 the environment failed (disk full, output locked by another instance).",
    )
    main.add_argument("--once", action="store_true", help="apply everything that is in the inbox, then exit")
    main.add_argument(
        "--since", metavar="TS", help="apply only orders created at or after this instant (UTC unless it has a zone); hwm: the "
        "high-water mark. Orders since then in drops that are archived already are applied too"
    )  # fmt: skip
    main.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and the commit, and exit")
    main.set_defaults(run=serving.serve, config=None)
    _add_config(main)
    subparsers = main.add_subparsers(metavar="COMMAND", title="commands")

    def add(name: str, run: Run, help: str) -> argparse.ArgumentParser:
        said = help[0].upper() + help[1:] + "."
        command = subparsers.add_parser(
            name, help=help, description=said, epilog=epilog(GUIDES[name]), formatter_class=_Formatter
        )
        command.set_defaults(run=run)
        _add_config(command)
        return command

    _add_looking(add)
    _add_mending(add)
    _add_administration(add)
    _add_copies(add)
    _offer_nothing_else(main)
    return main


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
    trace.add_argument("order", metavar="ORDER_ID", help="an order_id as in fact_order; behind -- if it begins with -")
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
    source = plan.add_argument(
        "--source",
        metavar="NAME",
        help="the source to read it as (default: that of the folder where it is, else default)",
    )
    _completed(source, completion.sources)
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
    table = manifest.add_argument("table", metavar="TABLE", help="fact_order, order_items, dim_user or dim_product")
    _completed(table, completion.tables)
    manifest.add_argument("prefix", metavar="PREFIX", help="where the output folder is copied to: s3://bucket/path")
    _add_dates(manifest, "YYYY-MM-DD; none: all")


def _add_mending(add: _Add) -> None:
    retry = add(
        "retry", mending.retry, "put quarantined drops back into the inbox (all, or those named); an applied drop that is named "
        "is read again"
    )  # fmt: skip
    names = retry.add_argument(
        "names", nargs="*", metavar="NAME", help="a file in quarantine/ or raw/, the name of a drop, or its number"
    )
    _completed(names, completion.quarantined)
    discard = add(
        "discard", mending.discard, "remove drops from quarantine; their receipts keep who did that, when and why"
    )
    names = discard.add_argument(
        "names", nargs="+", metavar="NAME", help="a file in quarantine/, the name of a drop, or its number"
    )
    _completed(names, completion.quarantined)
    discard.add_argument("--reason", default="", metavar="TEXT", help="why, for the record")
    undo = add("undo", withdrawing.undo, "withdraw an applied drop, as if it had never come; its raw copy stays")
    one = undo.add_argument(
        "drop", metavar="DROP", help="its number, its name, or its SHA-256 (12 or more of its hexadecimal digits)"
    )
    _completed(one, completion.applied)
    undo.add_argument("--revert", action="store_true", help="apply a withdrawn drop again, as if it had stayed")
    undo.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    undo.add_argument("--reason", default="", metavar="TEXT", help="why, for the record")
    undo.add_argument("--json", action="store_true", help="as JSON, for programs")
    pull = add(
        "pull", mending.pull, "read the API of a source once, from where the last round left off, and apply what came"
    )
    _completed(
        pull.add_argument("name", metavar="NAME", help="a source with a section [sources.NAME.pull]"), completion.pulled
    )
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
    _completed(
        refresh.add_argument("name", metavar="NAME", help="of a model, a check or a destination"), completion.following
    )
    _add_dates(refresh, "YYYY-MM-DD; none: all")
    rebuild = add(
        "rebuild", mending.rebuild, "rebuild partitions from the raw layer; without dates, all of them and the ledger"
    )
    _add_dates(rebuild, "YYYY-MM-DD; none: everything")
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
    preset = init.add_argument("--preset", metavar="NAME", help="the shop that orders come from, such as shopify")
    _completed(preset, completion.presets)
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
    docs = add("docs", looking.docs, "list the pages of the documentation, or print one")
    page = docs.add_argument("page", nargs="?", metavar="NAME", help="a page, or PAGE#SECTION for a section of it")
    _completed(page, completion.pages)
    shell = add("completion", completion.completion, "print what a shell needs to complete commands, options and names")
    shell.add_argument("shell", choices=completion.SHELLS, metavar="SHELL", help=", ".join(completion.SHELLS))


def _add_copies(add: _Add) -> None:
    backup = add(
        "backup", copies.backup, "copy the output, as it is at one moment, into a new folder, beside a running daemon"
    )
    backup.add_argument("folder", type=Path, metavar="DIR", help="a folder that is empty or does not exist")
    backup.add_argument("--json", action="store_true", help="as JSON, for programs")
    restore = add("restore", copies.restore, "put a backup into the output folder, which must be empty or not exist")
    restore.add_argument("folder", type=Path, metavar="DIR", help="what `strandline backup` made")
    restore.add_argument("--json", action="store_true", help="as JSON, for programs")


def _add_dates(parser: argparse.ArgumentParser, help: str) -> None:
    _completed(parser.add_argument("dates", nargs="*", default=[], metavar="DATE", help=help), completion.dates)


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="PATH", default=argparse.SUPPRESS,
        help="the settings (default: ./config.toml if it exists, else the defaults)",
    )  # fmt: skip


def _completed(argument: argparse.Action, by: completion.Completer) -> None:
    """Shells offer the names that `by` finds."""
    argument.completer = by  # type: ignore[attr-defined]  # so argcomplete wants it


def _offer_nothing_else(parser: argparse.ArgumentParser) -> None:
    """Without a completer, shells would offer files for any value."""
    for one in parser._actions:
        if isinstance(one, argparse._SubParsersAction):
            for command in one.choices.values():
                _offer_nothing_else(command)
        elif one.type is not Path and one.nargs != 0 and one.choices is None and not hasattr(one, "completer"):
            _completed(one, completion.nothing)


class _Formatter(argparse.HelpFormatter):
    """Fills paragraphs, and keeps indented lines as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        filled = []
        for paragraph in text.split("\n\n"):
            lines = paragraph.splitlines()
            is_list = any(line.startswith(" ") for line in lines)
            filled.append(paragraph if is_list else textwrap.fill(" ".join(lines), width, break_on_hyphens=False))
        return "\n\n".join(filled)


class _Parser(argparse.ArgumentParser):
    """Parsers of commands are of this class, too."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuses what this command does not know itself: argparse would leave that to the main one, whose help says less."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            options = [option for option in self._option_string_actions if option.startswith("--")]
            questions = (meant(one.partition("=")[0], options) for one in unknown if one.startswith("-"))
            question = next(filter(None, questions), "")
            self.error(f"unrecognized arguments: {' '.join(unknown)}{'; ' if question else ''}{question}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """One line that says what is wrong, and one that says where to look; the usage of all commands would hide both."""
        if found := re.match(r"argument (\S+): invalid choice: (.+?) \(choose from (.+)\)$", message):
            names = [name.strip("'") for name in found[3].split(", ")]
            wrong = "there is no command" if found[1] == "COMMAND" else f"{found[1]} cannot be"
            message = f"{wrong} {found[2]}; {instead_of(found[2].strip(chr(39)), names)}"
        self.exit(USAGE, f"strandline: {escaped(message)}\n`{self.prog} --help` shows what there is\n")


class _ShowVersion(argparse.Action):
    """Looks the version up only when it is asked for: the lookup takes as long as reading a drop."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"strandline {version()} (commit {commit()})")
        parser.exit()
