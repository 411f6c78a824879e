"""What is published at one moment: the tables that a query can name, with the files of each, as the ledger and the records of
models and checks have them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from ...core.errors import EnvironmentFault
from ...core.mapping import Columns
from ...downstream import inspection
from ...downstream.contract import Table, stale
from ...downstream.definitions import CHECK, MODEL
from ...downstream.inputs import Inputs, all_columns, published, schemas
from ...downstream.records import Records, State, telling_damage
from ...downstream.results import has_of, table_of, wanted
from ...downstream.settings import LEDGER, RECORDS
from ...storage.ledger import Ledger
from ...storage.set_aside import SetAside, days_of
from ...storage.store import iso_date
from . import history

DATED = {"fact_order", "order_items"}  # published tables with a file for each date
_OLDER = ("receipts/received=*/*.json", "curated/date=*", "quarantine/*")  # of an output that has had a ledger


@dataclass(frozen=True, slots=True)
class Behind:
    """A model or check that is not up to date."""

    name: str
    dates: int
    is_whole: bool
    error: str | None  # of its last run, if that failed

    def __str__(self) -> str:
        what = (
            "not up to date"
            if self.is_whole
            else f"{self.dates:,} {'date is' if self.dates == 1 else 'dates are'} not up to date"
        )
        return f"{self.name}: {what}{f' ({self.error})' if self.error else ''}"


@dataclass(frozen=True)
class Published:
    """One state. Equal states have the same files."""

    batch: int  # the newest one that is committed
    unpublished: int | None  # the same, where some of its files may not be in their place yet
    restatements_bytes: int
    tables: Mapping[str, Table] = field(default_factory=dict)
    reads: Mapping[str, Collection[str]] = field(default_factory=dict)  # of models and checks
    kinds: Mapping[str, str] = field(default_factory=dict)  # "model" or "check"
    set_aside: Mapping[str, SetAside] = field(default_factory=dict)  # the tables are without these
    schemas: Mapping[str, pa.Schema] = field(default_factory=dict, compare=False)
    behind: Mapping[str, Behind] = field(default_factory=dict, compare=False)

    def differs(self, other: Published, names: Collection[str]) -> bool:
        """Whether anything has changed that a query over these tables reads, or is about to."""
        mine, its = ({name: one.tables.get(name) for name in names} for one in (self, other))
        return mine != its or (self.batch, self.unpublished) != (other.batch, other.unpublished)

    def lacking(self, names: Collection[str]) -> list[str]:
        """The published dates that a query over these tables goes without: YYYY-MM-DD, oldest first."""
        return sorted(map(iso_date, days_of(self.set_aside.values()))) if DATED.intersection(names) else []

    def lost(self, names: Collection[str]) -> list[SetAside]:
        """The dimensions among these tables that are set aside."""
        return [one for one in self.set_aside.values() if one.name.removesuffix(".parquet") in names]

    def not_up_to_date(self, names: Collection[str]) -> list[Behind]:
        """Those models and checks among these and what they read that are not up to date."""
        found: dict[str, None] = {}
        waiting = sorted(names)
        while waiting:
            name = waiting.pop(0)
            if name not in found:
                found[name] = None
                waiting += sorted(self.reads.get(name, ()))
        return [self.behind[name] for name in found if name in self.behind]


def read(output: Path, inputs: Inputs, columns: Columns) -> Published:
    """The state now. `columns`: the extra ones of the configuration. An output without a ledger has its tables, empty."""
    path = output / LEDGER
    if not path.exists():
        _refuse_lost(output)
        return Published(0, None, 0, schemas=schemas(columns) | history.SCHEMAS)
    with closing(Ledger(path, read_only=True)) as ledger:
        if not ledger.last_seq:
            _refuse_lost(output)
        whole, aside = published(ledger), ledger.set_aside()
        batch, unpublished, size = ledger.next_batch - 1, ledger.unpublished_batch(), ledger.restatements_bytes
    days = set(days_of(aside.values()))
    tables = whole | {name: {day: one for day, one in whole[name].items() if day not in days} for name in DATED}
    known = schemas(all_columns(whole, columns)) | history.SCHEMAS
    if not (output / RECORDS).exists():
        return Published(batch, unpublished, size, tables, schemas=known, set_aside=aside)
    with telling_damage(output / RECORDS), closing(Records(output / RECORDS, read_only=True)) as records:
        states = {state.name: state for state in records.states() if state.name not in known}
        found = {name: table_of(records, state.kind, state.name) for name, state in states.items()}
        last = records.last_inspection()
        of_sql = {name: one.schema for name, one in inspection.from_json(last).items()} if last else {}
        behind = {one.name: one for one in _behind(records, states, whole | _of_models(states, found))}
    for name, table in found.items():
        schema = inputs.schema_of({date: file for date, file in table.items() if file.sha256}) or of_sql.get(name)
        if schema is not None:
            known[name] = schema
    return Published(
        batch, unpublished, size, tables | found,
        reads={name: tuple(state.definition.get("reads", ())) for name, state in states.items()},
        kinds={name: state.kind for name, state in states.items()}, schemas=known, behind=behind,
        set_aside=aside,
    )  # fmt: skip


def _of_models(states: Mapping[str, State], found: Mapping[str, Table]) -> dict[str, Table]:
    return {name: table for name, table in found.items() if states[name].kind == MODEL}


def _behind(records: Records, states: Mapping[str, State], tables: Mapping[str, Table]) -> Iterator[Behind]:
    for name, state in states.items():
        definition = state.definition
        if "base" not in definition:  # its file is wrong
            yield Behind(name, 1, True, state.error)
            continue
        is_whole = bool(definition["whole"]) or state.kind == CHECK
        base, lookback = bytes.fromhex(definition["base"]), definition["lookback"]
        has = has_of(records, state.kind, name, whole=is_whole)
        known = {other: tables.get(other, {}) for other in definition["reads"]}
        dates = stale(wanted(base, definition["reads"], known, lookback, whole=is_whole), has)
        if dates:
            yield Behind(name, len(dates), is_whole, state.error)


def _refuse_lost(output: Path) -> None:
    """Tables that are empty because their ledger is lost would be a wrong answer."""
    if any(any(output.glob(pattern)) for pattern in _OLDER):
        raise EnvironmentFault(
            "find the ledger of", output, f"{output / LEDGER} is not there or new, but there are receipts or partitions",
            "Restore the ledger, or rebuild it from the raw layer with `strandline rebuild`; nothing was changed.",
        )  # fmt: skip


def is_unknown(table: Table) -> bool:
    """Whether some file of a table is being replaced, so that its content is not known."""
    return any(not file.sha256 for file in table.values())
