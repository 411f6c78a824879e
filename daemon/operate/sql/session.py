"""Answers queries over one output folder, each over one state of it, also while a daemon publishes.

One query: parse it and refuse whatever does more than read; see what is published; link the files that it names, checked by
SHA-256; run it in a sandbox that has these files and nothing else, into a temporary table; hand that back. If a batch was
published before all files were linked, start again.

Whoever cannot write to the output cannot make links there. The published paths are then read themselves, and what the ledger says
before and after the run must be the same; if not, the query is run again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...core.errors import EnvironmentFault, Stopped, UsageError
from ...downstream.contract import InputChanged
from ...downstream.inputs import Inputs
from ...downstream.sandbox import RESULT, Limits, View, connect, materialized, message_of
from ...downstream.scratch import FOLDER, scratch
from ...downstream.settings import LEDGER, Settings
from ...storage.lock import holder_of
from .history import SCHEMAS, History
from .published import Published, is_unknown, read
from .statement import Query, parsed, sql_error

_WAIT_SECONDS = 60.0  # for a batch that is being published
_FAILING_SECONDS = 1.0  # for results that are being replaced, where the last run failed: this one may end well
_PAUSE_SECONDS = 0.05
_RUNS = 5  # of a query over files that are not linked
_BATCH_ROWS = 8192


@dataclass(frozen=True)
class Result:
    """What a query came to: a temporary table, which is there until the next query. `notes`: what a reader must know of it."""

    connection: Any
    columns: list[tuple[str, str]]  # the names, each once, with their types in DuckDB's words
    count: int
    is_explain: bool
    notes: list[str]
    lacking: list[str]  # published dates that are set aside: the result is without them

    @property
    def schema(self) -> Any:
        """The Arrow schema of the rows."""
        return self.connection.table(f'"{RESULT}"').limit(0).to_arrow_table().schema

    def rows(self, expressions: list[str], condition: str = "") -> Iterator[Any]:
        """Expressions over the columns, as Arrow record batches in the order of the result."""
        query = f'SELECT {", ".join(expressions)} FROM "{RESULT}" {condition}'
        yield from self.connection.sql(query).to_arrow_reader(_BATCH_ROWS)


class Session:
    """Not thread-safe, except for `stop`."""

    def __init__(self, output: Path, settings: Settings, folder: Path, *, linked: bool) -> None:
        self._output, self._settings, self._folder, self._linked = output, settings, folder, linked
        self._stopped = threading.Event()
        self._inputs = Inputs(output, self._check)
        self._parser = connect(folder, {}, Limits(64 << 20, 1, 0.0))
        self._open: Any = None
        self._number = 0

    def close(self) -> None:
        self.release()
        self._parser.close()

    def abandon(self) -> None:
        """Removes the scratch folder beside a query that does not end."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def stop(self) -> None:
        """Ends the running query, from another thread. To be called again until it has ended: DuckDB forgets an interrupt that
        comes between two statements."""
        self._stopped.set()
        if (connection := self._open) is not None:
            with suppress(Exception):  # it is being closed
                connection.interrupt()

    def tables(self) -> dict[str, tuple[str, list[tuple[str, str]]]]:
        """The tables that there are now, each with what it is and its columns."""
        self._stopped.clear()
        self.release()
        state = self._read()
        with self._folder_of_run() as folder:
            connection = self._connected(folder, {name: View(schema, ()) for name, schema in state.schemas.items()})
            with _closed(connection):
                return {
                    name: (state.kinds.get(name, "table"), _columns(connection.view(f'"{name}"')))
                    for name in state.schemas
                }

    def answer(self, text: str) -> Result:
        """Runs a query. Raises UsageError, EnvironmentFault, Stopped."""
        self._stopped.clear()
        self.release()
        began, runs = time.monotonic(), 0
        while True:
            self._check()
            state = self._read()
            query = parsed(self._parser, text, state.schemas.keys())
            names = query.named & state.schemas.keys()
            self._refuse_without_result(query, state)
            self._refuse_set_aside(names, state)
            self.release()
            try:
                if not self._linked and (state.unpublished is not None or _unknown(state, names)):
                    raise InputChanged("files are being replaced")
                result = self._run(query, names, state)
            except InputChanged as error:
                self._refuse_lasting(state, names, error, time.monotonic() - began)
                time.sleep(_PAUSE_SECONDS)
                continue
            except _Failed as error:
                runs += 1
                if not self._linked and runs < _RUNS and self._read().differs(state, names):
                    continue
                raise self._explained(error.cause, state.schemas.keys()) from None
            runs += 1
            if self._linked or not self._read().differs(state, names):
                return result
            if runs == _RUNS:
                result.notes.append("a batch was published whenever the query ran, so the result may mix two states")
                return result

    # ------------------------------------------------------------------------------------------------------- one run

    def _run(self, query: Query, names: frozenset[str], state: Published) -> Result:
        import duckdb

        folder = self._folder / str(self._number)
        folder.mkdir()
        views = {name: View(schema, (), is_there=False) for name, schema in state.schemas.items()}
        found = {name: state.tables[name] for name in names & state.tables.keys()}
        if self._linked:
            views |= self._inputs.views(found, state.schemas, folder)
        else:
            views |= self._inputs.unlinked(found, state.schemas)
        views |= {name: replace(view, differing=True) for name, view in views.items() if name in state.kinds}
        history = History(self._output, folder, self._check, linked=self._linked)
        views |= {name: View(state.schemas[name], ()) for name in names - state.tables.keys()}
        for name in names & SCHEMAS.keys():
            views[name] = View(SCHEMAS[name], history.write(name, state.batch, state.restatements_bytes))
        try:
            connection = self._open = self._connected(folder, views)
            self._check()
            columns, count = self._filled(connection, query)
        except duckdb.Error as error:
            self._check()
            raise _Failed(error) from None
        lacking = state.lacking(names)
        notes = [*_told(lacking), *map(str, state.not_up_to_date(names))]
        return Result(connection, columns, count, query.is_explain, notes, lacking)

    def _filled(self, connection: Any, query: Query) -> tuple[list[tuple[str, str]], int]:
        """Runs the query into a temporary table, which goes to disk where memory is short. SHOW must not see that table."""
        if query.is_explain or query.is_about_tables:
            rows = connection.sql(query.text).to_arrow_table()
            connection.from_arrow(rows).create(f'"{RESULT}"')
            table = connection.table(f'"{RESULT}"')
        else:
            table = materialized(connection, query.text)
        count = connection.sql(f'SELECT count(*) FROM "{RESULT}"').fetchall()[0][0]
        return _columns(table), int(count)

    def _connected(self, folder: Path, views: dict[str, View]) -> Any:
        paths = [path for view in views.values() for path in view.paths if not path.startswith(str(folder) + os.sep)]
        return connect(folder, views, self._settings.limits, paths)

    @contextmanager
    def _folder_of_run(self) -> Iterator[Path]:
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def release(self) -> None:
        """Closes what the last run left, with its files."""
        if self._open is not None:
            self._open.close()
            self._open = None
        shutil.rmtree(self._folder / str(self._number), ignore_errors=True)
        self._number += 1

    def _read(self) -> Published:
        return read(self._output, self._inputs, self._settings.columns)

    def _check(self) -> None:
        if self._stopped.is_set():
            raise Stopped("interrupted")

    # ------------------------------------------------------------------------------------------------ what went wrong

    def _refuse_lasting(
        self, before: Published, names: frozenset[str], error: InputChanged, waited_seconds: float
    ) -> None:
        """Returns where the files of a table are being replaced, which ends soon. Raises where they are not: before they are, the
        ledger or the records say so."""
        state = self._read()
        unknown = sorted(name for name in names if is_unknown(state.tables.get(name, {})))
        if not state.differs(before, names) and state.unpublished is None and not unknown:
            hint = (
                "`strandline refresh` makes it again."
                if any(name in before.kinds for name in names)
                else "`strandline rebuild DATE` makes it again; a date that cannot be made again is set aside, and then the "
                "others can be read. For a dimension, `strandline rebuild`."
            )
            raise self._unreadable(error, f"The file is damaged: `strandline verify` names what is wrong, and {hint}")
        is_running = holder_of(self._output / "state" / "lock") is not None
        failing = [one for one in state.not_up_to_date(unknown) if one.error]
        if failing and not (is_running and waited_seconds < _FAILING_SECONDS):
            cause = f"results of {', '.join(unknown)} are to be made again, and that fails: {failing[0].error}"
            raise self._unreadable(cause, "Mend that, and they are made by the next run.")
        if waited_seconds < _WAIT_SECONDS and (is_running or state.differs(before, names)):
            return
        if not is_running and not state.differs(before, names):
            hint = "No daemon is running to finish it: start it, or run `strandline --once`, and try again."
        elif unknown:
            hint = f"Results of {', '.join(unknown)} are still being made: `strandline downstream` tells when they are done."
        else:
            hint = "A daemon has been publishing without a pause: try again, or read fewer tables at a time."
        raise self._unreadable(error, hint)

    def _refuse_set_aside(self, names: Collection[str], state: Published) -> None:
        """A dimension is one file: without it, there are no rows."""
        for one in state.lost(names):
            raise self._unreadable(f"{one.name} is set aside: {one.reason}", "Other tables can be read meanwhile.")

    def _unreadable(self, cause: object, hint: str) -> EnvironmentFault:
        return EnvironmentFault("read what is published in", self._output, cause, hint)

    def _refuse_without_result(self, query: Query, state: Published) -> None:
        """A better error than that there is no such table, for a model that has not run yet."""
        for name in query.named - state.schemas.keys():
            if failing := [one for one in state.not_up_to_date([name]) if one.error]:
                raise UsageError(
                    f"there are no results of {name} that can be read, and its run fails: {failing[0].error}"
                )
            for folder, what in ((self._settings.models, "model"), (self._settings.checks, "check")):
                if any((folder / f"{name}{suffix}").is_file() for suffix in (".sql", ".py")):
                    when = "a running daemon runs it soon, and `strandline --once` at once"
                    raise UsageError(f"the {what} {name} has no result yet; {when}")

    def _explained(self, error: Exception, tables: Collection[str]) -> Exception:
        """An error of DuckDB, as one of ours. Its class tells whether the query or the machine failed."""
        kind = type(error).__name__
        limit = f"[models] memory_limit is {self._settings.limits.memory_bytes >> 20} MiB"
        if kind == "OutOfMemoryException":
            return EnvironmentFault(
                "run", "the query", message_of(error)[0], f"{limit}; increase it, or let the query hold less."
            )
        if kind == "IOException":
            return EnvironmentFault("run", "the query", message_of(error)[0], "Remove the cause, and run it again.")
        return sql_error(error, tables)


class _Failed(Exception):
    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextmanager
def opened(output: Path, settings: Settings) -> Iterator[Session]:
    """A session with a scratch folder, which is removed at the end. Below the output where that is possible, so that files can be
    linked; it is never the first to create a folder there that the daemon could not write to."""
    linked = (output / LEDGER).exists() and _may_link(output)
    place = (
        scratch(output) if linked else tempfile.TemporaryDirectory(prefix="strandline-sql-", ignore_cleanup_errors=True)
    )
    with place as folder:
        session = Session(output, settings, Path(os.path.realpath(folder)), linked=linked)
        try:
            yield session
        finally:
            session.close()


def _may_link(output: Path) -> bool:
    parent = output / FOLDER
    if parent.exists():
        return os.access(parent, os.W_OK | os.X_OK)
    return os.access(output, os.W_OK | os.X_OK) and os.geteuid() in (0, output.stat().st_uid)


def _told(lacking: Sequence[str]) -> list[str]:
    if not lacking:
        return []
    them = f"{', '.join(lacking)}, which {'is' if len(lacking) == 1 else 'are'} set aside"
    why = "published files are damaged and cannot be made anew; `strandline status` says what to restore"
    return [f"the result is without {them}: {why}"]


def _unknown(state: Published, names: Collection[str]) -> bool:
    """Whether files of some of these tables are being replaced."""
    return any(is_unknown(state.tables.get(name, {})) for name in names)


@contextmanager
def _closed(connection: Any) -> Iterator[None]:
    try:
        yield
    finally:
        connection.close()


def _columns(relation: Any) -> list[tuple[str, str]]:
    return [(name, str(kind)) for name, kind in zip(relation.columns, relation.types, strict=True)]
