"""What the ledger remembers, as values. Pure.

A Drop is archived. A DropResult is what became of it, in Counts. A Partition and a DimensionFile are published files. An Effect
is one committed step that makes a batch visible. A Commit is everything that one batch changes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .drift import Drift, KnownKey
from .mapping import Columns
from .model import DropOutcome, ParseContext

REASON = ".reason.json"  # appended to the name of a quarantined drop: the file with its reason


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the order index that is written, but not adopted yet."""

    number: int
    entries: int
    replaces: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Drop:
    """An archived drop: its number, its raw copy, and what it is parsed under."""

    seq: int
    name: str
    raw: str | None
    sha256: bytes
    size_bytes: int
    context: ParseContext
    duplicate_of: int | None = None


@dataclass(slots=True)
class Counts:
    """What became of a drop's records. extracted = discarded + before_since + superseded + unchanged + new
    + corrected + deleted."""

    extracted: int = 0
    discarded: Counter[str] = field(default_factory=Counter)
    before_since: int = 0
    superseded: int = 0
    unchanged: int = 0
    new: int = 0
    corrected: int = 0
    deleted: int = 0
    late: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)  # orders with a key that the dimension does not know
    bare: int = 0  # bare orders: see parse/bare.py
    bare_keys: list[str] = field(default_factory=list)  # keys of the first one that nothing reads

    def plus(self, more: Counts) -> Counts:
        """These counts plus those of more records of the same drop."""
        summed = {name: getattr(self, name) + getattr(more, name) for name in self._summed()}
        return Counts(**summed, bare_keys=self.bare_keys or more.bare_keys)

    def less(self, before: Counts) -> Counts:
        """These counts minus those `before`."""
        summed = {name: getattr(self, name) - getattr(before, name) for name in self._summed()}
        return Counts(**summed, bare_keys=self.bare_keys)

    def _summed(self) -> list[str]:
        return [name for name in self.__slots__ if name != "bare_keys"]

    def to_json(self) -> str:
        return json.dumps(self.as_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Counts:
        """The reverse of as_dict."""
        typed: dict[str, Any] = {name: Counter(v) if isinstance(v, dict) else v for name, v in values.items()}
        return cls(**typed)

    def as_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: dict(sorted(v.items())) if isinstance(v, Counter) else v for name, v in values.items()}


@dataclass(frozen=True, slots=True)
class Undo:
    """A drop that is withdrawn or, where `is_revert`, applied again after that. `at`: in microseconds."""

    drop: int
    at: int
    who: str
    reason: str
    is_revert: bool = False


@dataclass(frozen=True, slots=True)
class DropResult:
    """The outcome of one drop, as it is committed. `before`: its earlier counts, where it is read again. `undos`: the newest
    last."""

    drop: Drop
    outcome: DropOutcome
    counts: Counts
    reason: str | None = None
    duplicate_of: int | None = None
    keeps_raw: bool = True
    before: Counts | None = None
    undos: tuple[Undo, ...] = ()

    @property
    def gained(self) -> Counts:
        """What this batch adds to the counts of the drop. `before_since` falls where a drop is read again."""
        return self.counts if self.before is None else self.counts.less(self.before)


@dataclass(frozen=True, slots=True)
class Partition:
    """A published date (days since 1970)."""

    date: int
    orders: int
    lines: int
    amount: int
    fact_sha256: bytes
    items_sha256: bytes
    bytes: int
    writer: str  # of both files: see parquet.WRITER
    restatements: int = 0
    columns: Columns = ()  # extra ones, of fact_order


@dataclass(frozen=True, slots=True)
class DimensionFile:
    """A published dimension."""

    name: str
    rows: int
    sha256: bytes
    bytes: int
    writer: str
    last_drop: int  # the newest drop of it that was applied


@dataclass(frozen=True, slots=True)
class Effect:
    """One committed step that makes a batch visible. Paths are relative to the output folder.

    place: rename `source` (of this sha256) to `target`.    remove: unlink `target`.
    quarantine: move the raw copy `source` to `target`, and write its reason (`text`) beside it.
    sweep: unlink the files whose paths begin with `target`, but for the one called `text`.
    append: let the file `target` continue with `text` from byte `position` on.    link: let `target` point to `text`.
    """

    kind: str
    target: str
    source: str | None = None
    sha256: bytes | None = None
    position: int | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """Everything that one batch changes."""

    committed_at: int
    results: Sequence[DropResult]
    run: Run | None  # of the order index, written ahead
    partitions: Sequence[Partition]
    removed: Sequence[int]
    dimensions: Sequence[DimensionFile]
    totals: Mapping[tuple[str, str], int]  # added to each sum; by (source, name)
    hwm: int | None
    effects: Sequence[Effect]
    restatements_bytes: int
    drift: Sequence[Drift] = ()  # to be reported
    keys: Sequence[KnownKey] = ()  # of sources, new or changed
    forgotten: Sequence[KnownKey] = ()
    newest: Mapping[int, int] = field(default_factory=dict)  # by drop, the latest `created_at` that this batch accepts
    dimensions_removed: Sequence[str] = ()
    mended: Sequence[str] = ()  # names of what is no longer set aside
    undo: Undo | None = None  # marks are then those of the drops that are left
