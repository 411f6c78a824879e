"""Models and checks: downstreams whose results are Parquet files in the output folder.

The order of one piece: the results are made in a scratch folder; they become durable; it is recorded that these dates change; the
files are renamed to their paths; fingerprints and files are recorded. A crash in between leaves dates without a fingerprint, so
they are made again, whatever was renamed.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..storage import files
from ..storage.store import folder_name
from . import fingerprints
from .contract import TABLES, WHOLE, Aside, Brought, Downstream, DownstreamFailed, File, Piece, Table, Tables, Wanted
from .definitions import CHECK, MODEL, Definition
from .fingerprints import digest
from .inputs import Inputs, only
from .records import Records, ResultFile
from .runs import Made, Run
from .scratch import scratch
from .worker import Worker

MODELS, CHECKS = "models", "checks"  # folders below the output
_EPOCH = datetime.date(1970, 1, 1)
_PIECE_BYTES = 256 << 20  # of compressed input
_PANDAS_PIECE_BYTES = 32 << 20  # a frame takes ten times that, and a model copies it


@dataclass(frozen=True)
class Place:
    """What results are made with. `check`: raises if the output folder is no longer the one that was opened."""

    output: Path
    records: Records
    inputs: Inputs
    worker: Worker
    schemas: Callable[[Tables], Mapping[str, pa.Schema]]  # of the tables that are read
    check: Callable[[], None] = lambda: None


class Result(Downstream):
    """A model or a check."""

    def __init__(self, definition: Definition, place: Place) -> None:
        self.definition, self._place = definition, place
        self.kind, self.name, self.reads = definition.kind, definition.name, definition.reads

    def wanted(self, tables: Tables) -> Wanted:
        return wanted(self.definition.base, self.reads, tables, self.definition.lookback, whole=self.definition.whole)

    def has(self) -> Wanted:
        return has_of(self._place.records, self.kind, self.name, whole=self.definition.whole)

    def held_by(self, date: int, tables: Tables, aside: Aside) -> Aside:
        dates: Collection[int] = range(date - self.definition.lookback, date + 1)
        if self.definition.whole:
            dates = {date for name in self.reads for date in tables[name]}
        return Aside(aside.dates.intersection(dates), aside.tables.intersection(self.reads))

    def table(self) -> Table | None:
        return None if self.kind == CHECK else table_of(self._place.records, self.kind, self.name)

    def files(self) -> dict[int, ResultFile]:
        """The files that were recorded, by date."""
        return self._place.records.files(self.kind, self.name)

    def pieces(self, stale: Piece, tables: Tables) -> Iterator[Piece]:
        if self.definition.whole:
            yield stale
            return
        most = _PANDAS_PIECE_BYTES if self.definition.is_python else _PIECE_BYTES
        piece: dict[int, bytes | None] = {}
        size = 0
        for date, fingerprint in stale.items():
            own = sum(table[date].bytes for name in self.reads if date in (table := tables[name]))
            if piece and size + own > most:
                yield piece
                piece, size = {}, 0
            piece[date] = fingerprint
            size += own
        if piece:
            yield piece

    def bring(self, piece: Piece, tables: Tables, stopped: Callable[[], bool]) -> Brought:
        definition, records = self.definition, self._place.records
        distrusted = records.distrusted(self.kind, self.name)
        asked = None if definition.whole else sorted(date for date, wanted in piece.items() if wanted is not None)
        with scratch(self._place.output) as folder:
            made = self.made(asked, tables, folder, stopped) if asked is None or asked else {}
            before = records.files(self.kind, self.name)
            concerned = {*before, *made} if definition.whole else piece.keys()
            placed = {
                date: one for date, one in made.items() if date not in before or before[date].sha256 != one.sha256
            }
            removed = sorted(date for date in concerned if date in before and date not in made)
            files.sync_many(one.path for one in placed.values())
            self._place.check()
            self._replace(piece, placed, removed)
        wanted = {date: fingerprint for date, fingerprint in piece.items() if fingerprint is not None}
        kept = {date: ResultFile(one.sha256, one.rows, one.bytes) for date, one in made.items()}
        records.remember(self.kind, self.name, wanted, kept, removed, distrusted)
        return Brought(len(placed) + len(removed), sum(one.rows for one in made.values()))

    def made(
        self, asked: Sequence[int] | None, tables: Tables, folder: Path, stopped: Callable[[], bool]
    ) -> dict[int, Made]:
        """Runs it over the inputs of these dates, or all; the files are in a scratch folder."""
        definition = self.definition
        possible: list[int] | None = None
        read: set[int] | None = None
        if asked is not None:
            days = range(definition.lookback + 1)
            read = {date - back for date in asked for back in days}
            needed = {date for name in self.reads for date in tables[name] if date in read}
            possible = sorted({date + ahead for date in needed for ahead in days})
        inputs = {name: only(tables[name], read) for name in self.reads}
        if self.kind != CHECK and self.reads and not any(inputs.values()):  # before the first drop
            return {}
        schemas = self._place.schemas(tables)
        if unknown := sorted(inputs.keys() - schemas.keys()):
            raise DownstreamFailed(
                f"{definition.path}: it reads {unknown[0]}, whose columns are not known: it has no rows, or a column of it "
                "has not the same type on all dates"
            )
        out = folder / "out"
        out.mkdir()
        views = self._place.inputs.views(inputs, schemas, folder)
        run = Run(
            str(definition.path), definition.text, views, out, asked, possible, definition.is_ordered,
            is_dated=definition.kind != CHECK,
        )  # fmt: skip
        if definition.is_python:
            return self._call("run_pandas", run, stopped=stopped)
        return self._call("run_sql", run, self._place.worker.limits, folder, stopped=stopped)

    def _call(self, function: str, *arguments: Any, stopped: Callable[[], bool]) -> dict[int, Made]:
        made: dict[int, Made] = self._place.worker.call(
            str(self.definition.path), function, *arguments, stopped=stopped
        )
        return made

    def _replace(self, piece: Piece, placed: Mapping[int, Made], removed: Collection[int]) -> None:
        """Makes the files visible. Before the first of them, it is recorded that the content of these files is not known."""
        records, output = self._place.records, self._place.output
        records.intend(self.kind, self.name, piece.keys(), [*placed, *removed])
        folders = set()
        for date, one in placed.items():
            target = output / path_of(self.kind, self.name, date)
            files.make_folder(target.parent, within=output)
            files.move(one.path, target)
            folders.add(target.parent)
        for date in removed:
            target = output / path_of(self.kind, self.name, date)
            files.unlink(target)
            if target.parent.is_dir():
                folders.add(target.parent)
        files.sync_many(folders)
        for date in removed:
            if date != WHOLE:
                files.remove_folder_if_empty((output / path_of(self.kind, self.name, date)).parent)

    def forget(self, dates: Collection[int] | None) -> None:
        forget(self._place.records, self.kind, self.name, dates, whole=self.definition.whole)

    def remove(self) -> None:
        remove(self._place.output, self._place.records, self.kind, self.name)


def wanted(base: bytes, reads: Collection[str], tables: Tables, lookback: int, *, whole: bool) -> Wanted:
    """The fingerprints of a model or a check."""
    known = {name: tables.get(name, {}) for name in reads}
    if columns := {column for file in known.get("fact_order", {}).values() for column in file.columns}:
        base = digest(base, *(f"{name} {kind}" for name, kind in sorted(columns)))  # each date shows all of them
    if whole:
        return fingerprints.of_everything(base, reads, known)
    return fingerprints.by_date(base, reads, known, lookback)


def settled(definitions: Collection[Definition], tables: Tables, records: Records) -> set[str]:
    """The models that are up to date with their present texts, and so is every model that they read: their files have the columns
    that the next run gives. What SQL reads is that of its last inspection; if its text changed since, it is not up to date."""
    states = {state.name: state for state in records.states() if state.kind == MODEL}
    models = [one for one in definitions if one.kind == MODEL and one.name in states]
    known = dict(tables) | {one.name: table_of(records, MODEL, one.name) for one in models}
    found: dict[str, Collection[str]] = {}
    for one in models:
        reads = one.reads if one.is_python else tuple(states[one.name].definition.get("reads", ()))
        base = replace(one, reads=reads).base
        if wanted(base, reads, known, one.lookback, whole=one.whole) == has_of(
            records, MODEL, one.name, whole=one.whole
        ):
            found[one.name] = reads
    while unsettled := {name for name, reads in found.items() if not {*found, *TABLES}.issuperset(reads)}:
        found = {name: reads for name, reads in found.items() if name not in unsettled}
    return set(found)


def has_of(records: Records, kind: str, name: str, *, whole: bool) -> Wanted:
    """The fingerprints of a result. Files without one are of a run that was killed, or of other options: they have an empty
    one."""
    found = records.has(kind, name)
    return found if whole else dict.fromkeys(records.files(kind, name), b"") | found


def table_of(records: Records, kind: str, name: str) -> Table:
    """The files of a result. One whose content is not known is there, and differs from every other."""
    found = records.files(kind, name).items()
    return {date: File(path_of(kind, name, date), one.sha256, one.bytes) for date, one in found}


def forget(records: Records, kind: str, name: str, dates: Collection[int] | None, *, whole: bool) -> None:
    """Forgets what these dates were made from, or all; a whole result is made again as a whole. Of a destination: they are to be
    sent again."""
    if kind in (MODEL, CHECK):
        records.distrust(kind, name, None if whole else dates)
    else:
        records.forget_sent(kind, name, dates)


def remove(output: Path, records: Records, kind: str, name: str) -> None:
    """Removes the files of a model or a check and all that is recorded of it. Other files in its folder stay."""
    for date in records.files(kind, name):
        path = output / path_of(kind, name, date)
        files.unlink(path)
        files.remove_folder_if_empty(path.parent)
    files.remove_folder_if_empty(folder_of(output, kind, name))
    records.drop(kind, name)


def adopt(output: Path, records: Records) -> None:
    """Enters the files that there are, with unknown content: after the records were lost, those that nothing makes any more are
    removed, and the others are made anew."""
    for kind, folder in ((MODEL, MODELS), (CHECK, CHECKS)):
        for path in (output / folder).glob("*/*/*.parquet" if kind == MODEL else "*/*.parquet"):
            day = WHOLE if kind == CHECK else _day_of(path.parent.name)
            if day is not None and output / path_of(kind, path.stem, day) == path:
                records.define(kind, path.stem, {})
                records.intend(kind, path.stem, (), [day])


def _day_of(folder: str) -> int | None:
    """The date of `date=YYYY-MM-DD` in days since 1970; None where it is another name."""
    try:
        return (datetime.date.fromisoformat(folder.removeprefix("date=")) - _EPOCH).days
    except ValueError:
        return None


def folder_of(output: Path, kind: str, name: str) -> Path:
    """The folder of the files of a model or a check."""
    return output / (CHECKS if kind == CHECK else MODELS) / name


def path_of(kind: str, name: str, date: int) -> str:
    """The path of a file of a result, relative to the output folder."""
    if kind == CHECK:
        return f"{CHECKS}/{name}/{name}.parquet"
    return f"{MODELS}/{name}/{folder_name(date)}/{name}.parquet"
