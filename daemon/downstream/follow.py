"""Brings everything that follows up to date. Read this module first.

One round: read what is published; read the models and checks there are; for each of them, after those that it reads, and then for
each destination, compare what it wants with what it has, and bring the stale dates up to date, oldest first, a piece at a time.

A round neither waits for a batch nor makes one wait. What fails is tried again later, with growing delays, and whatever reads it
waits; everything else goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from ..core.errors import Stopped
from ..storage.ledger import Ledger
from ..storage.set_aside import days_of, dimensions_of
from .attempts import Attempts, Followed, Progress, untold
from .catalog import Catalog, Reader
from .contract import TABLES, Aside, Downstream, InputChanged, Table
from .definitions import CHECK, MODEL, missing_folder
from .destinations.present import Destinations
from .destinations.remote import Remote
from .destinations.settings import KINDS, MIRROR, Destination
from .inputs import Inputs, all_columns, published, schemas
from .records import Records, State
from .results import Place, Result, adopt, forget, remove, settled, table_of
from .scratch import remove_abandoned
from .settings import LEDGER, RECORDS, Settings
from .worker import Worker

_CHANGED_TRIES = 20  # of a round, while no batch is being published; then a file is damaged, not changed
_CHANGED_SECONDS = 0.05


class Following:
    """What follows one output folder. Not thread-safe; belongs to the process that holds the lock of the output. `dry`: a
    folder with a copy of the records; then nothing in the output changes, and there are no rounds."""

    def __init__(
        self, output: Path, settings: Settings, check: Callable[[], None] = lambda: None, dry: Path | None = None
    ) -> None:
        self._output, self._settings = output, settings
        if dry is None:
            remove_abandoned(output)
        self._ledger = output / LEDGER
        self._records = Records((dry or output) / RECORDS)
        if self._records.is_new:
            adopt(output, self._records)
        self._worker = Worker(settings.limits, settings.niceness)
        taken = {one.name: one.where for one in settings.destinations}
        self._reader = Reader(settings.models, settings.checks, dry or output, self._worker, self._records, taken)
        self._inputs = Inputs(output)
        self._catalog = Catalog()
        self._settled: set[str] = set()  # models whose files have the columns that they will have
        self._place = Place(output, self._records, self._inputs, self._worker, self._schemas, check)
        self._attempts = Attempts(self._records, settings.backoff)
        self._batch = 0  # the newest one that is published
        self._hwm: int | None = None  # with that batch
        self._destinations = Destinations(settings.destinations, self._place, self._ledger)

    def close(self) -> None:
        self._worker.close()
        self._records.close()

    def catalog(self, stopped: Callable[[], bool]) -> Catalog:
        """The models and checks there are now. Raises Stopped."""
        return self._read(self._published(), stopped)

    def refresh(self, names: Collection[str] | None = None, dates: Collection[int] | None = None) -> None:
        """Forgets what the named downstreams have, or all models and checks."""
        for state in self._records.states():
            if state.name in names if names is not None else state.kind not in KINDS:
                forget(self._records, state.kind, state.name, dates, whole=bool(state.definition.get("whole")))
        self._attempts.forget_all()

    def each(self, stopped: Callable[[], bool]) -> Iterator[tuple[Result, dict[str, Table]]]:
        """Each model and check that can be read, with the tables that are published now."""
        tables = self._published()
        self.catalog(stopped)
        for definition in self._catalog.definitions:
            one = Result(definition, self._place)
            if all(name in tables for name in one.reads):
                yield one, dict(tables)
            if (table := one.table()) is not None:
                tables[one.name] = table

    def remotes(self, stopped: Callable[[], bool]) -> Iterator[tuple[Remote, dict[str, Table]]]:
        """Each load, table and mirror, with the tables that are published when it is its turn."""
        for settings in self._settings.destinations:
            tables = self._with_all_models(self._published())
            one = self._destinations.made(settings, tables, self._batch, self._hwm, stopped)
            if isinstance(one, Remote):
                yield one, tables

    def states(self) -> list[State]:
        """How the runs went so far."""
        return self._records.states()

    def rest(self) -> None:
        """Ends the worker process until it is needed again."""
        self._worker.close()

    def round(self, stopped: Callable[[], bool], *, now: bool = False, progress: Progress = untold) -> list[Followed]:
        """One round. `now`: also what is to be tried again later. `progress`: told of each downstream when it is begun, after
        each piece of it and when it is done, since a round may take hours. Raises Stopped, OutputReplaced, or an error of the
        environment that is not of one downstream."""
        tries = 0
        while tries < _CHANGED_TRIES:
            try:
                return self._round(stopped, progress, trying_all=now)
            except InputChanged:
                tries += self._settled_down(stopped)
        self._attempts.found_damaged = True
        try:
            return self._round(stopped, progress, trying_all=now)
        finally:
            self._attempts.found_damaged = False

    @property
    def delay_seconds(self) -> float | None:
        """How long until something that failed is due; None where nothing failed."""
        return self._attempts.delay_seconds

    def _round(self, stopped: Callable[[], bool], progress: Progress, *, trying_all: bool) -> list[Followed]:
        tables = self._published()
        catalog = self._read(tables, stopped)
        found = self._define(catalog)
        behind: set[str] = set()  # whatever reads these waits
        done: set[tuple[str, str]] = set()

        def tell(result: Followed) -> None:
            found.append(result)
            progress(result)
            done.add((result.kind, result.name))
            if result.error and not result.waiting and result.kind in (MODEL, MIRROR):
                behind.add(result.name)

        while True:
            for where, error in catalog.errors.items():
                if where not in done:
                    tell(self._broken(where, str(error)))
            definition = next((one for one in catalog.definitions if (one.kind, one.name) not in done), None)
            if definition is None:
                break
            one = Result(definition, self._place)
            waits_for = sorted(behind.intersection(one.reads))
            known: dict[str, Table] = {name: {} for name in waits_for} | tables
            result = self._tried(one, waits_for, known, stopped, progress, trying_all=trying_all)
            tell(self._with_rows(one, result))
            if (table := one.table()) is not None:
                tables[one.name] = table
            # Its columns may be known only now, so what reads it is bound again.
            if definition.is_python and not result.error:
                self._settled.add(one.name)
                catalog = self._inspected(tables, stopped)
        for settings in self._settings.destinations:
            tell(self._sent(settings, behind, stopped, progress, trying_all=trying_all))
        return found

    def _sent(
        self,
        settings: Destination,
        behind: Collection[str],
        stopped: Callable[[], bool],
        progress: Progress,
        *,
        trying_all: bool,
    ) -> Followed:
        """Brings a destination up to date with what is published when it is its turn. Batches that come meanwhile are no reason
        to begin the round again: a slow destination would keep it from all others."""
        for tries_left in range(_CHANGED_TRIES, -1, -1):
            tables = self._with_all_models(self._published())
            one = self._destinations.made(settings, tables, self._batch, self._hwm, stopped)
            waits_for = sorted(set(behind).intersection(one.after))
            before, self._attempts.found_damaged = self._attempts.found_damaged, not tries_left
            try:
                return self._tried(one, waits_for, tables, stopped, progress, trying_all=trying_all)
            except InputChanged:
                self._settled_down(stopped)
            finally:
                self._attempts.found_damaged = before
        raise AssertionError("the last try tells of damage")

    def _settled_down(self, stopped: Callable[[], bool]) -> bool:
        """Waits a moment, and until no batch is being published; False where one was. Raises Stopped."""
        was_publishing = self._is_publishing()
        while True:
            if stopped():
                raise Stopped("stopped between two rounds")
            time.sleep(_CHANGED_SECONDS)
            if not self._is_publishing():
                return not was_publishing

    def _tried(
        self,
        one: Downstream,
        waits_for: Sequence[str],
        tables: Mapping[str, Table],
        stopped: Callable[[], bool],
        progress: Progress,
        *,
        trying_all: bool,
    ) -> Followed:
        if waits_for:
            return self._attempts.waiting(one, tables, f"it waits for {', '.join(waits_for)}")
        if not trying_all and not self._attempts.is_due(one):
            return self._attempts.waiting(one, tables, self._attempts.recorded_error(one) or "it failed before")
        return self._attempts.brought(one, tables, stopped, progress)

    def _broken(self, where: tuple[str, str], error: str) -> Followed:
        """A file with an error in it: tried again when it changes, so it is reported once."""
        kind, name = where
        state, failures = self._records.state(kind, name), 0
        if state is None or state.error != error:
            self._records.define(kind, name, {"error": error})
            failures = self._records.failed(kind, name, time.time_ns() // 1000, error)
        return Followed(kind, name, 0, 0, 0, 1, 0.0, error, failures)

    def _with_rows(self, one: Result, result: Followed) -> Followed:
        if one.kind != CHECK:
            return result
        files = self._records.files(one.kind, one.name).values()
        return replace(result, found=sum(file.rows for file in files), severity=one.definition.severity)

    def _define(self, catalog: Catalog) -> list[Followed]:
        """Records the definitions, and removes what belongs to none. A folder that is not there is no order to remove anything:
        it may be moved, or not mounted."""
        known = {(state.kind, state.name): state for state in self._records.states()}
        present = {(one.kind, one.name) for one in catalog.definitions} | catalog.errors.keys()
        for one in catalog.definitions:
            state = known.get((one.kind, one.name))
            if state is None or dict(state.definition) != one.recorded:
                self._records.define(one.kind, one.name, one.recorded)
                self._attempts.forget(one.kind, one.name)
        self._destinations.define(self._records)
        present |= {(one.kind, one.name) for one in self._settings.destinations}
        found = []
        for kind, name in sorted(known.keys() - present):
            if kind in KINDS:  # what is there belongs to its users
                self._records.drop(kind, name)
                self._attempts.forget(kind, name)
                found.append(Followed(kind, name, 0, 0, 0, 0, 0.0, is_removed=True))
                continue
            files = len(self._records.files(kind, name))
            if missing := missing_folder(kind, self._settings.models, self._settings.checks):
                found.append(Followed(kind, name, 0, 0, 0, 0, 0.0, missing))
                continue
            self._place.check()
            remove(self._output, self._records, kind, name)
            self._attempts.forget(kind, name)
            found.append(Followed(kind, name, 0, files, 0, 0, 0.0, is_removed=True))
        return found

    def _read(self, tables: Mapping[str, Table], stopped: Callable[[], bool]) -> Catalog:
        self._settled = settled(self._reader.read(), tables, self._records)
        return self._inspected(tables, stopped)

    def _inspected(self, tables: Mapping[str, Table], stopped: Callable[[], bool]) -> Catalog:
        """What reads a Python model is bound against its columns only where these are settled: those of files that another text
        gave would refuse SQL that was changed together with it."""
        known = self._known_schemas(tables)
        python = {one for one in known if one not in TABLES}
        schemas = {name: schema for name, schema in known.items() if name not in python - self._settled}
        self._catalog = self._reader.inspected(schemas, stopped)
        return self._catalog

    def _is_publishing(self) -> bool:
        """Whether files of the newest batch may not be in their place yet."""
        with closing(Ledger(self._ledger, read_only=True)) as ledger:
            return ledger.unpublished_batch() is not None

    def _published(self) -> dict[str, Table]:
        with closing(Ledger(self._ledger, read_only=True)) as ledger:
            self._batch, self._hwm = ledger.next_batch - 1, ledger.hwm
            aside = ledger.set_aside().values()
            dimensions = (f"dim_{name}" for name in dimensions_of(aside))
            self._attempts.aside = Aside(frozenset(days_of(aside)), frozenset(dimensions))
            return published(ledger)

    def _with_all_models(self, tables: dict[str, Table]) -> dict[str, Table]:
        """These tables with those of models that cannot be read now: their results are still there."""
        names = [state.name for state in self._records.states() if state.kind == MODEL and state.name not in tables]
        return tables | {name: table_of(self._records, MODEL, name) for name in names}

    def _schemas(self, tables: Mapping[str, Table]) -> dict[str, pa.Schema]:
        """The columns of all tables, for a run. Those of SQL that is not bound yet are those of its files."""
        found = self._known_schemas(tables) | dict(self._catalog.schemas)
        for name in tables.keys() - found.keys():
            if (schema := self._schema_of_files(tables[name])) is not None:
                found[name] = schema
        return found

    def _known_schemas(self, tables: Mapping[str, Table]) -> dict[str, pa.Schema]:
        """The columns of the published tables, and those of models by their files: the only source for Python models."""
        found = schemas(all_columns(tables, self._settings.columns))
        for state in self._records.states():
            is_python = state.kind != CHECK and str(state.definition.get("file", "")).endswith(".py")
            files = table_of(self._records, state.kind, state.name) if is_python else {}
            if (schema := self._schema_of_files(files)) is not None:
                found[state.name] = schema
        return found

    def _schema_of_files(self, table: Table) -> pa.Schema | None:
        return self._inputs.schema_of({date: file for date, file in table.items() if file.sha256})


def failing(followed: Sequence[Followed]) -> list[str]:
    """The names of what is not up to date, and of checks with the severity `error` that found rows."""
    return [one.name for one in followed if one.error or (one.severity == "error" and one.found)]
