"""The prompt: queries of several lines until `;`, the words that begin with a dot, history and completion."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from ...core.errors import StrandlineError
from .session import Session
from .signals import Signals, Terminated

_FIRST, _NEXT = "strandline> ", "       ...> "
_HISTORY_LINES = 1000
_HELP = """\
SQL            a query, on one or several lines, ended by ;
.tables        the tables that there are
.schema NAME   the columns of a table
.help          this list
.quit          leave (also Ctrl-D)
Ctrl-C ends a query that is running, or forgets the lines typed so far."""
_KEYWORDS = (
    "SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "HAVING", "LIMIT", "JOIN", "LEFT JOIN", "USING", "SUM(", "COUNT(*)", "ALL",
    "DESCRIBE", "SUMMARIZE", "EXPLAIN", "PIVOT", "WITH", "DISTINCT", "BETWEEN",
)  # fmt: skip
_WORDS = (".tables", ".schema", ".help", ".quit")


class Prompt:
    """`show` runs a query and shows its result."""

    def __init__(self, session: Session, signals: Signals, show: Callable[[str], object]) -> None:
        self._session, self._signals, self._show = session, signals, show
        self._names: list[str] = []

    def run(self) -> None:
        """Asks until the end of input, .quit or SIGTERM."""
        history = _History(history_file())
        self._learn_names()
        history.begin(self._completions)
        print("SQL over what strandline has published. .help says what else there is.")
        try:
            self._loop()
        finally:
            history.end()

    def _loop(self) -> None:
        lines: list[str] = []
        while not self._signals.terminated:
            try:
                with self._signals.raising():
                    line = input(_NEXT if lines else _FIRST)
            except EOFError:
                print()
                return
            except Terminated:
                return
            except KeyboardInterrupt:
                print()
                lines = []
                continue
            if not lines and line.strip().startswith("."):
                if self._said(line.split()):
                    return
                continue
            if lines or line.strip():
                lines.append(line)
            if line.rstrip().endswith(";"):
                self._guarded(partial(self._show, "\n".join(lines)))
                lines = []

    def _guarded(self, work: Callable[[], object]) -> None:
        """Does something whose errors are said, and then the prompt comes again."""
        try:
            work()
        except StrandlineError as error:
            print(f"strandline: {error}", file=sys.stderr)
        except Terminated:
            return
        except KeyboardInterrupt:
            print("strandline: interrupted", file=sys.stderr)
        except OSError as error:
            print(f"strandline: {error.strerror or error}", file=sys.stderr)

    def _said(self, words: list[str]) -> bool:
        """Does what a line that begins with a dot says; returns whether that is to leave."""
        if words[0] in (".quit", ".exit"):
            return True
        if words[0] == ".tables":
            self._guarded(self._tables)
        elif words[0] == ".schema" and len(words) == 2:
            self._guarded(lambda: self._schema(words[1].rstrip(";")))
        elif words[0] == ".help":
            print(_HELP)
        else:
            print(f"strandline: {' '.join(words)} is not known; .help says what is", file=sys.stderr)
        return False

    def _tables(self) -> None:
        for name, (what, columns) in self._found().items():
            print(f"{name:<24} {what:<6} {len(columns):>3} columns")

    def _schema(self, name: str) -> None:
        found = self._found().get(name.lower())
        if found is None:
            raise StrandlineError(f"there is no table {name}; .tables says what there is")
        for column, kind in found[1]:
            print(f"{column:<24} {kind}")

    def _found(self) -> dict[str, tuple[str, list[tuple[str, str]]]]:
        found: dict[str, tuple[str, list[tuple[str, str]]]] = self._signals.run(
            self._session.tables, self._session.stop, tell=False
        )
        return found

    def _learn_names(self) -> None:
        with suppress(StrandlineError):
            found = self._found()
            self._names = sorted({*found, *(column for _, columns in found.values() for column, _ in columns)})

    def _completions(self, text: str) -> list[str]:
        small = text.lower()
        keywords = [word.lower() if text.islower() else word for word in _KEYWORDS]
        return [word for word in (*self._names, *keywords, *_WORDS) if text and word.lower().startswith(small)]


class _History:
    """What was typed, kept in a file that only its owner can read. Where that is impossible, it is not kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            import readline
        except ImportError:  # a Python without it: lines are read all the same
            readline = None  # type: ignore[assignment]
        self._readline = readline

    def begin(self, completions: Callable[[str], list[str]]) -> None:
        """Reads the file, and completes names from now on."""
        if self._readline is None:
            return
        with suppress(OSError):
            self._readline.read_history_file(self._path)
        self._readline.set_history_length(_HISTORY_LINES)
        self._readline.set_completer_delims(" \t\n()=<>+-*/,;'\"")

        def completion(text: str, number: int) -> str | None:
            return next(iter(completions(text)[number:]), None)

        self._readline.set_completer(completion)
        self._readline.parse_and_bind("tab: complete")

    def end(self) -> None:
        """Writes the file."""
        if self._readline is None:
            return
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._path.chmod(0o600)
            self._readline.write_history_file(self._path)


def history_file() -> Path:
    """Where that is: $XDG_STATE_HOME, or else ~/.local/state."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "strandline" / "history"
