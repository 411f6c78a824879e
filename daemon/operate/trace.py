"""The history of one order, from raw: every version in any drop, which one won, and why. Of versions in raw copies that have gone
by age, or that cannot be read, only the one that won is known: the index names it.

Reads all applied drops again, the newest first, each under its original parse context. Versions that `--since` excluded are
shown, too. Changes nothing and may run beside a daemon; versions from drops that are applied meanwhile are not shown.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from heapq import merge
from itertools import takewhile
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..batch.engine import Engine
from ..batch.repair import damage_of, read_groups
from ..core.columns import EXTRA, extra_of
from ..core.entries import Drop, Undo
from ..core.model import DELETED_AT, DELETED_DATE, INDEX_ENTRY, SCALE, DropOutcome, Parsed
from ..core.parse.discards import each
from ..core.parse.reference import order_id_of
from ..core.parse.values import order_key
from ..storage import files
from ..storage.ages import RAW
from ..storage.ledger import Ledger
from ..storage.receipts import instant_text
from ..storage.store import iso_date
from ..storage.undos import told
from . import allocation, discarded
from .discarded import Discarded
from .mistyped import MOST, neighbours, question
from .plan import one_line
from .wording import counted

_CONTENT = ("created_at", "updated_at", "user_id", "amount", "currency", "metadata", "items")
_AT_ONCE = 200  # drops, between two looks at the clock
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Version:
    """One record of the order. `content`: its fields as the curated layer has them, instants and amounts as text."""

    drop: int
    name: str
    source: str
    received_at: str
    position: int
    instant: str  # updated_at, or else created_at
    before_since: bool  # excluded by --since, so not part of what is published
    content: dict[str, Any]  # empty if it is a deletion, or if its raw copy has gone
    is_deletion: bool = False
    has_gone: bool = False  # its raw copy has gone by age, or cannot be read
    date: str = ""  # of such a version, as in the index
    why: str = ""
    is_withdrawn: bool = False  # by an undo of its drop, so it is not part of what is published

    @property
    def counts(self) -> bool:
        """Whether it can be published."""
        return not self.before_since and not self.is_withdrawn

    @property
    def rank(self) -> tuple[str, int, int]:
        """The order of versions: the larger rank is later. All instants have the same format, so they compare as text."""
        return (self.instant, self.drop, self.position)

    @property
    def location(self) -> tuple[str, int, int]:
        """The date ("" of a deletion), drop and position, as in the index."""
        date = self.date if self.is_deletion or self.has_gone else self.content["created_at"][:10]
        return (date, self.drop, self.position)


@dataclass(frozen=True, slots=True)
class NotRead:
    """A drop whose raw copy is missing, damaged or cannot be read."""

    drop: int
    name: str
    reason: str


@dataclass(frozen=True)
class Trace:
    """All records with one order_id. `versions` are sorted from the earliest to the latest."""

    order_id: str
    versions: list[Version]
    discards: list[Discarded]
    repeats: dict[int, list[str]]  # by drop: the drops that were its duplicates
    undos: dict[int, list[str]]  # by drop: when it was withdrawn, and applied again
    published: tuple[str, int, int] | None  # the date ("": deleted), drop and position that the index names
    alike: Sequence[str] = ()  # where nothing has this id: ids of orders that may be meant
    gone_through: int = 0  # the raw copies of all drops up to this one have gone by age; 0: none has
    read_from: int = 0  # drops with smaller numbers were not read, but for the one that the index names; 0: all were
    not_read: Sequence[NotRead] = ()  # by number

    @property
    def winner(self) -> Version | None:
        """The version whose content should be published."""
        return next((one for one in reversed(self.versions) if one.counts), None)

    @property
    def agrees(self) -> bool:
        """Whether the index names the version that wins by raw."""
        return self.published == (self.winner.location if self.winner else None)


def trace(engine: Engine, order_id: str, seconds: float | None = None) -> Trace:
    """The history of one order. The drop that the index names is read first, then the newest ones; after so many seconds, no
    further ones. Drops whose raw copies are not what was archived are named, and not read."""
    key, ledger = _key(order_id), engine.ledger
    end = None if seconds is None else time.monotonic() + seconds
    versions: list[Version] = []
    discards: list[Discarded] = []
    gone = ledger.horizon(RAW)
    not_read: list[NotRead] = []
    withdrawn = {
        one.drop.seq: one.drop for one in ledger.withdrawn() if one.drop.seq > gone or _is_sound(engine, one.drop)
    }
    total, done, read_from = ledger.drop_count(DropOutcome.APPLIED, gone) + len(withdrawn), 0, 0
    drops = _in_order(ledger, withdrawn.values(), gone, published(ledger, order_id))
    for group in read_groups(drops, None if end is None else _AT_ONCE):
        by_number = {drop.seq: drop for drop in group}
        parsed, unread = _read(engine, group)
        not_read += unread
        found_here = parsed.orders.filter(pc.equal(parsed.orders["key"], pa.scalar(key, pa.binary(16))))
        for version in _versions(found_here, by_number):
            versions.append(replace(version, is_withdrawn=version.drop in withdrawn))
        discards += [
            discarded.with_cause(one, by_number[one.drop].context)
            for one in each(parsed.discards)
            if order_id_of(one.record.encode()) == order_id
        ]
        done += len(group)
        engine.progress("reading drops", done, total)
        if end is not None and time.monotonic() > end and done < total:
            read_from = group[-1].seq if done > 1 else ledger.last_drop + 1
            break
    not_read.sort(key=lambda one: one.drop)
    discards.sort(key=lambda one: (one.drop, one.position))
    found_in_index, winner = _in_index(ledger, key, gone, {one.drop for one in not_read})
    versions += [winner] if winner else []
    versions.sort(key=lambda version: version.rank)
    seen = {version.drop for version in versions}
    repeats = {
        drop: [f"drop {one.seq} ({one.name})" for one in again]
        for drop, again in ledger.duplicates_of(*sorted(seen)).items()
    }
    undos = {drop: [told(one) for one in _undos(ledger, drop)] for drop in sorted(seen)}
    alike = [] if versions or discards else _mistyped(ledger, order_id)
    found = Trace(order_id, versions, discards, repeats, undos, found_in_index, alike, gone, read_from, not_read)
    return replace(found, versions=_explained(versions, found.winner, found.agrees))


def _read(engine: Engine, drops: Sequence[Drop]) -> tuple[Parsed, list[NotRead]]:
    """The records of those drops whose raw copies are what was archived, without their `--since`; and the other drops."""
    why = {drop.seq: damage for drop in drops if (damage := damage_of(engine.output, drop))}
    sound = [replace(drop, context=replace(drop.context, since=None)) for drop in drops if drop.seq not in why]
    parsed = engine.reader.without_limits().read(sound)
    why |= parsed.unreadable
    return parsed, [NotRead(drop.seq, drop.name, why[drop.seq]) for drop in drops if drop.seq in why]


def _in_order(
    ledger: Ledger, withdrawn: Collection[Drop], gone: int, location: tuple[str, int, int] | None
) -> Iterator[Drop]:
    """The applied and the withdrawn drops whose raw copies are there: the one of this location, then the newest first."""
    first = location[1] if location else 0
    applied = takewhile(lambda drop: drop.seq > gone, ledger.applied_newest_first())
    older = sorted(withdrawn, key=lambda drop: -drop.seq)
    named = ledger.result(first) if first > gone else None
    if named is not None and named.outcome is DropOutcome.APPLIED:
        yield named.drop
    yield from (drop for drop in merge(applied, older, key=lambda drop: -drop.seq) if drop.seq != first)


def _mistyped(ledger: Ledger, order_id: str) -> list[str]:
    """Which orders may have been meant, where none has this id; none where too many may."""
    others = neighbours(order_id)
    keys = np.frombuffer(b"".join(order_key(one.encode(errors="replace")) for one in others), "<u8").reshape(-1, 2)
    wanted = np.zeros(len(others), INDEX_ENTRY)
    wanted["hi"], wanted["lo"] = keys[:, 0], keys[:, 1]
    order = np.argsort(wanted, order=("hi", "lo"))
    _, found = ledger.index.find(wanted[order])
    known = sorted(order[found])
    return [others[at] for at in known] if len(known) <= MOST else []


def _is_sound(engine: Engine, drop: Drop) -> bool:
    """Whether the raw copy of a withdrawn drop can be read. Nobody misses it otherwise."""
    return files.has_sha256(engine.output / (drop.raw or ""), drop.sha256)


def _undos(ledger: Ledger, seq: int) -> Sequence[Undo]:
    result = ledger.result(seq)
    return result.undos if result else ()


def _versions(orders: pa.Table, drops: dict[int, Drop]) -> Iterator[Version]:
    for row in orders.to_pylist():
        drop = drops[row["drop"]]
        is_deletion = row["created_at"] == DELETED_AT
        passed = drop.context.since is not None and row["created_at"] < drop.context.since and not is_deletion
        instant = row["created_at"] if row["updated_at"] is None else row["updated_at"]
        yield Version(
            drop.seq, drop.name, drop.context.source, _text(drop.context.received_at), row["position"], _text(instant),
            passed, {} if is_deletion else _content(row), is_deletion,
        )  # fmt: skip


def _content(row: dict[str, Any]) -> dict[str, Any]:
    items = [{"sku": one["sku"], "qty": _amount(one["qty"]), "price": _amount(one["price"])} for one in row["items"]]
    return {name: row[name] for name in _CONTENT} | {
        "created_at": _text(row["created_at"]),
        "updated_at": None if row["updated_at"] is None else _text(row["updated_at"]),
        "amount": _amount(row["amount"]),
        "items": items,
        **{name.removeprefix(EXTRA): _extra(row[name]) for name in extra_of(row)},
    }


def _extra(value: Any) -> Any:
    """The value of an extra column."""
    if isinstance(value, datetime):
        return _text((value - _EPOCH) // timedelta(microseconds=1))
    return f"{value:.4f}" if isinstance(value, Decimal) else value


def _text(instant: int) -> str:
    """An instant with all its digits, so that texts sort as instants do."""
    text = instant_text(instant)
    return text if "." in text else text.replace("Z", ".000000Z")


def _amount(units: int | None) -> str | None:
    return None if units is None else f"{Decimal(units) / SCALE:.4f}"


def _explained(versions: Sequence[Version], winner: Version | None, agrees: bool) -> list[Version]:
    """The same versions, from the earliest to the latest, each with why it is published or not."""
    found: list[Version] = []
    later: Version | None = None  # the next one that counts
    for version in reversed(versions):
        if version.is_withdrawn:
            why = "not applied: its drop is withdrawn"
        elif version.before_since:
            why = "not applied: it is before the --since that its drop was read under"
        elif version is winner:
            outcome = "deleted" if version.is_deletion else "published"
            why = f"{outcome}: no other is later" if agrees else "the latest, and not what the index names"
        else:
            assert later is not None, "only the winner has none later"
            why = f"superseded: {_record(later)} is later ({_reason(version, later)})"
        found.append(replace(version, why=why))
        later = version if version.counts else later
    return found[::-1]


def _record(version: Version) -> str:
    return f"record {version.position} of drop {version.drop}"


def _reason(one: Version, later: Version) -> str:
    if one.instant != later.instant:
        return f"its instant is {later.instant}"
    return "the same instant, " + (
        "and it arrived later" if one.drop != later.drop else "and it comes later in the drop"
    )


def published(ledger: Ledger, order_id: str) -> tuple[str, int, int] | None:
    """What the index names, found without reading a raw copy: the date ("": deleted), drop and position."""
    entry = _entry(ledger, _key(order_id))
    return None if entry is None else _location(entry)


def _key(order_id: str) -> bytes:
    return order_key(order_id.encode(errors="replace"))  # an id that is not UTF-8 matches no order


def _entry(ledger: Ledger, key: bytes) -> np.void | None:
    wanted = np.zeros(1, INDEX_ENTRY)
    wanted["hi"], wanted["lo"] = np.frombuffer(key, "<u8")
    entries, found = ledger.index.find(wanted)
    return entries[0] if found[0] else None


def _location(entry: np.void) -> tuple[str, int, int]:
    day, number, position = (int(entry[name]) for name in ("date", "drop", "position"))
    return "" if day == DELETED_DATE else iso_date(day), number, position


def _in_index(
    ledger: Ledger, key: bytes, gone: int, not_read: Collection[int]
) -> tuple[tuple[str, int, int] | None, Version | None]:
    """What the index names: date, drop and position; and as a version, if the raw copy of that drop has gone or was not
    read."""
    entry = _entry(ledger, key)
    if entry is None:
        return None, None
    date, number, position = _location(entry)
    drop = ledger.drop(number)
    if drop is None or (number > gone and number not in not_read):
        return (date, number, position), None
    received_at, instant = _text(drop.context.received_at), _text(int(entry["instant"]))
    return (date, number, position), Version(
        number, drop.name, drop.context.source, received_at, position, instant, before_since=False, content={},
        is_deletion=not date, has_gone=True, date=date,
    )  # fmt: skip


def next_step(found: Trace) -> str:
    """How it is, and what to do next: a line."""
    if not found.agrees:
        return "The index and raw do not agree: `strandline rebuild` repairs that"
    if found.winner is None and found.discards and not found.versions:
        return "Correct these records where they come from, and drop them again; `strandline plan FILE` shows how a file is read"
    if found.winner is None and (withdrawn := sorted({one.drop for one in found.versions if one.is_withdrawn})):
        return f"`strandline undo --revert {withdrawn[-1]}` applies again what was withdrawn last"
    if found.winner is None and found.versions:
        return "It is before the --since that its drops were read under; `strandline --since TS` with an earlier one applies it"
    if found.winner is None:
        alike = " ".join(["", question([one_line(one) for one in found.alike])]).rstrip()
        return f"No order is published under this id.{alike} Ids are as in fact_order: `strandline sql` looks there"
    drop = found.winner.drop
    versions = counted(len(found.versions), "version")
    return f"{versions}; the one that counts is of drop {drop}, which `strandline undo {drop}` would withdraw"


def as_dict(found: Trace) -> dict[str, Any]:
    """The trace as JSON."""
    date, drop, position = found.published or ("", 0, 0)
    record = {"drop": drop, "position": position}
    return {
        "order_id": found.order_id,
        "published": {"date": date, **record} if date else None,
        "deleted_by": record if found.published and not date else None,
        "agrees_with_raw": found.agrees,
        "raw_copies_gone_through_drop": found.gone_through,
        "read_from_drop": found.read_from,
        "not_read": [asdict(one) for one in found.not_read],
        "alike": list(found.alike),
        "versions": [
            asdict(one)
            | {"repeated_by": found.repeats[one.drop], "undos": found.undos[one.drop]}
            | {"allocation": allocation.as_dict(allocation.of_order(one.content))}
            for one in found.versions
        ],
        "discards": [asdict(one) for one in found.discards],
        "next_step": next_step(found),
    }
