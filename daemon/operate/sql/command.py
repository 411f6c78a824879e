"""The command: one query from the command line or standard input, or the prompt. Results go to standard output, all else to
standard error."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import UsageError
from ...downstream.settings import Settings
from .box import write_box
from .output import refuse_target, write_csv, write_file, write_json
from .session import Result, Session, opened
from .signals import Signals, Stuck, leave

_FORMATS = {"csv": write_csv, "json": write_json}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to run, and how to show it. `query`: `-` for standard input; None: the prompt on a terminal, else standard input.
    `form`: csv or json; None: a table, or what the name of the file says."""

    query: str | None
    form: str | None
    target: Path | None


def run(wanted: Wanted, output: Path, settings: Settings, release: Callable[[], None]) -> bool:
    """Runs the command; returns whether it came to its end, and was not interrupted, and its result is of all published dates.
    `release`: delivers signals that wait."""
    signals = Signals(release)
    if wanted.target is not None:
        refuse_target(wanted.target, output)
        _refuse_contradiction(wanted.form, wanted.target)
    is_prompt = wanted.query is None and sys.stdin.isatty() and sys.stdout.isatty()
    if is_prompt and wanted.target is not None:
        raise UsageError("--output needs a query; write it behind the options, or give it on standard input")
    try:
        text = "" if is_prompt else _text(wanted.query, signals)
        with opened(output, settings) as session:
            is_whole = True
            try:
                if is_prompt:
                    from .prompt import Prompt

                    Prompt(session, signals, lambda query: answered(session, signals, query, wanted)).run()
                else:
                    is_whole = answered(session, signals, text, wanted)
            except Stuck:
                print("strandline: the query did not end, and is left behind", file=sys.stderr)
                session.abandon()
                leave(1)
    except KeyboardInterrupt:
        print("strandline: interrupted", file=sys.stderr)
        return False
    return is_whole and not signals.terminated


def answered(session: Session, signals: Signals, text: str, wanted: Wanted) -> bool:
    """Runs one query and shows its result; returns whether that is of all published dates."""
    try:
        result: Result = signals.run(lambda: session.answer(text), session.stop, tell=sys.stderr.isatty())
        for note in result.notes:
            print(f"strandline: {note}", file=sys.stderr)
        with signals.raising():
            _show(result, wanted)
    except Stuck:  # the query is still using what it has open
        raise
    except BaseException:
        session.release()
        raise
    session.release()
    return not result.lacking


def _show(result: Result, wanted: Wanted) -> None:
    if wanted.target is not None:
        write_file(result, wanted.target)
        print(f"{result.count:,} {'row' if result.count == 1 else 'rows'} written to {wanted.target}", file=sys.stderr)
        return
    if wanted.form is not None:
        _FORMATS[wanted.form](result, sys.stdout)
    else:
        write_box(result, sys.stdout, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
    sys.stdout.flush()


def _text(query: str | None, signals: Signals) -> str:
    if query is not None and query != "-":
        return query
    with signals.raising():
        return sys.stdin.read()


def _refuse_contradiction(form: str | None, target: Path) -> None:
    if form is not None and target.suffix != f".{form}":
        raise UsageError(f"--{form} does not go with --output {target}: the end of its name says what is written")
