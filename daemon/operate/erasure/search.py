"""Finds what is about users and orders: the drops that have a record that names them, and which orders are theirs.

An order is of a user if the latest of its versions that names any user names this one. Then all its versions go. Of an order that
was given to another user since, only the versions that name this one go, which are superseded: what is published of it stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...batch.engine import Engine
from ...batch.repair import read_all, read_groups
from ...core.entries import Drop
from ...core.errors import Stopped
from ...core.mapping import FieldMapping
from ...core.model import DELETED_AT, DELETED_DATE, INDEX_ENTRY, Discard, Parsed, Reason
from ...core.parse.discards import each, text_of_malformed
from ...core.parse.naming import Ids
from ...core.parse.values import order_key
from ...storage.ages import RAW
from .aged import orders_of

_USER = "user"  # the dimension
_Rank = tuple[bool, int, int, int]
_Owners = dict[str, tuple[_Rank, str]]  # by order: the latest version that names a user, and the user


@dataclass(frozen=True)
class Search:
    """`ids`: those that were asked for, with the orders of the users. `drops`: the applied ones that may name them."""

    ids: Ids
    drops: Sequence[Drop]


def search(engine: Engine, asked: Ids) -> Search:
    """Reads all applied drops: once for orders, twice for users. Raises Corruption where a raw copy is not what was archived."""
    suspects = _orders_naming(engine, asked.users) if asked.users else frozenset[str]()
    suspects |= {row["order_id"] for row in orders_of(engine, asked.users, frozenset())}
    near = replace(asked, orders=asked.orders | suspects)
    owners: _Owners = {}
    withdrawn = {result.drop.seq for result in engine.ledger.withdrawn()}
    found: list[Drop] = []
    for drops, parsed in _read(engine):
        by_number = {drop.seq: drop for drop in drops}
        numbers = _naming(parsed, near, by_number)
        found += [drop for drop in drops if drop.seq in numbers]
        for row in _versions(parsed.orders, suspects):
            if row["user_id"] is not None:
                _claim(owners, row, _rank(row, by_number[row["drop"]], withdrawn))
    for row in orders_of(engine, frozenset(), suspects):
        drop = engine.ledger.drop(row["drop"])
        if row["user_id"] is not None and drop is not None:
            _claim(owners, row, _rank(row, drop, withdrawn))
    theirs = frozenset(order for order, (_, user) in owners.items() if user in asked.users)
    return Search(replace(asked, orders=asked.orders | theirs), found)


def _claim(owners: _Owners, row: dict[str, Any], rank: _Rank) -> None:
    if row["order_id"] not in owners or rank > owners[row["order_id"]][0]:
        owners[row["order_id"]] = rank, row["user_id"]


def searched(engine: Engine) -> list[Drop]:
    """The drops whose raw copies are searched, by number: those that are applied and those that were withdrawn, unless their
    copies have gone by age. That of a withdrawn drop may be missing."""
    gone = engine.ledger.horizon(RAW)
    withdrawn = (result.drop for result in engine.ledger.withdrawn() if result.drop.seq > gone)
    there = [drop for drop in withdrawn if (engine.output / (drop.raw or "")).exists()]
    return sorted([*engine.ledger.applied_drops(gone), *there], key=lambda drop: drop.seq)


def published_dates(engine: Engine, orders: Iterable[str]) -> list[int]:
    """The dates on which these orders are published, one for each order that is, sorted."""
    wanted = np.zeros(len(keys := sorted({order_key(one.encode()) for one in orders})), INDEX_ENTRY)
    for number, key in enumerate(keys):
        wanted["hi"][number], wanted["lo"][number] = np.frombuffer(key, "<u8")
    wanted.sort(order=["hi", "lo"])
    entries, is_found = engine.ledger.index.find(wanted)
    return sorted(day for day in entries["date"][is_found].tolist() if day != DELETED_DATE)


def _read(engine: Engine) -> Iterator[tuple[list[Drop], Parsed]]:
    """All drops in groups, with all their records: also those before `since`, and those of somebody who is blocked."""
    all_drops, done = searched(engine), 0
    reader = replace(engine.reader, blocks=())
    for drops in read_groups(all_drops):
        if engine.stopped():
            raise Stopped("stopped while drops were being searched")
        yield drops, read_all(reader, [replace(drop, context=replace(drop.context, since=None)) for drop in drops])
        done += len(drops)
        engine.progress("searching drops", done, len(all_drops))


def _orders_naming(engine: Engine, users: frozenset[str]) -> frozenset[str]:
    found: set[str] = set()
    for _, parsed in _read(engine):
        found.update(pc.unique(parsed.orders.filter(_is_in(parsed.orders["user_id"], users))["order_id"]).to_pylist())
    return frozenset(found)


def _naming(parsed: Parsed, ids: Ids, drops: dict[int, Drop]) -> set[int]:
    """The drops with a record that may name one of these ids. A deletion may be of a user whom only its raw record names."""
    orders = parsed.orders
    mask = pc.or_(_is_in(orders["order_id"], ids.orders), _is_in(orders["user_id"], ids.users))
    if ids.users:
        mask = pc.or_(mask, pc.equal(orders["created_at"], DELETED_AT))
    found = set(pc.unique(orders.filter(mask)["drop"]).to_pylist())
    for seq, rows in parsed.rows.items():
        if rows.dimension == _USER and pc.any(_is_in(rows.table["user_id"], ids.users)).as_py():
            found.add(seq)
    for discard in each(parsed.discards):
        if discard.drop not in found and _names(discard, ids, drops[discard.drop].context.mapping):
            found.add(discard.drop)
    return found


def _names(discard: Discard, ids: Ids, mapping: FieldMapping) -> bool:
    record = discard.record
    text = text_of_malformed(record) if discard.reason is Reason.MALFORMED_RECORD else record
    return ids.are_in_rejected(text.encode(errors="replace"), mapping)


def _versions(orders: pa.Table, suspects: frozenset[str]) -> list[dict[str, Any]]:
    if not suspects:
        return []
    columns = ["order_id", "user_id", "drop", "position", "created_at", "updated_at"]
    return orders.filter(_is_in(orders["order_id"], suspects)).select(columns).to_pylist()


def _rank(row: dict[str, Any], drop: Drop, withdrawn: Collection[int]) -> _Rank:
    """Of a version: versions that are not applied, since they are before `since` or were withdrawn, come first."""
    created_at, updated_at = row["created_at"], row["updated_at"]
    is_applied = drop.context.since is None or created_at >= drop.context.since
    return (
        is_applied and drop.seq not in withdrawn,
        created_at if updated_at is None else updated_at,
        drop.seq,
        row["position"],
    )


def _is_in(column: pa.ChunkedArray, ids: Iterable[str]) -> pa.ChunkedArray:
    return pc.is_in(column, value_set=pa.array(sorted(ids), pa.large_string()))
