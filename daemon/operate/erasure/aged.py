"""What is about somebody where raw copies have gone by age: published rows, and files of discards, are all that is left of them.

Rows and index entries of erased orders are no seeds of the replay (../seeds.py). A file of discards loses the lines that name
somebody, as it would where the raw copy is redacted and read again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...batch.engine import Engine
from ...batch.repair import came_from_aged
from ...core.entries import Counts, DropResult
from ...core.errors import Corruption
from ...core.model import DIMENSIONS, Discard, Reason
from ...core.parse.discards import of_line, text_of_malformed
from ...core.parse.naming import Ids
from ...core.versions import keys_of
from ...storage import raw, receipts
from ...storage.ages import RAW
from ...storage.store import iso_date
from .. import seeds


@dataclass(frozen=True)
class RedactedDiscards:
    """The file of discards of a drop without some lines. `result`: with the counts that the drop has now."""

    content: bytes
    result: DropResult


def orders_of(engine: Engine, users: frozenset[str], orders: frozenset[str]) -> Iterator[dict[str, Any]]:
    """The published orders whose latest version came from a raw copy that has gone, and that are of one of these users, or one of
    these orders: order_id, user_id, created_at and updated_at in microseconds, drop, position. Corruption where a published file
    is damaged."""
    through = engine.ledger.horizon(RAW)
    for partitions, entries in seeds.by_group(engine.ledger) if through else ():
        aged = entries[came_from_aged(entries, through)]
        for one in partitions:
            if len(own := aged[aged["date"] == one.date]):
                fact = engine.store.read_fact(one.date, one.fact_sha256)
                if fact is None:
                    raise Corruption(
                        f"could not search the partition of {iso_date(one.date)}: its file is damaged, and raw copies of its "
                        "orders have gone by age; nothing was changed. Restore it from a backup"
                    )
                yield from _rows(fact, own, users, orders)


def _rows(fact: pa.Table, own: np.ndarray, users: frozenset[str], orders: frozenset[str]) -> Iterator[dict[str, Any]]:
    first = fact.filter(pc.less_equal(fact["line_number"], 1)).select(
        ["order_id", "user_id", "created_at", "updated_at"]
    )
    texts = [(name, pa.array(sorted(ids), pa.string())) for name, ids in (("user_id", users), ("order_id", orders))]
    masks = [pc.fill_null(pc.is_in(first[name].cast(pa.string()), value_set=ids), False) for name, ids in texts]
    found = first.filter(pc.or_(*masks))
    instants = {name: found[name].cast(pa.int64()) for name in ("created_at", "updated_at")}
    columns = {name: instants.get(name, found[name]).to_pylist() for name in found.column_names}
    entries = {(int(one["hi"]), int(one["lo"])): one for one in own}
    for key, *values in zip(keys_of(found["order_id"].cast(pa.large_string())), *columns.values(), strict=True):
        entry = entries.get(tuple(np.frombuffer(key, "<u8").tolist()))
        if entry is not None:
            yield dict(zip(columns, values, strict=True)) | {
                "drop": int(entry["drop"]),
                "position": int(entry["position"]),
            }


def has_users(engine: Engine, users: frozenset[str]) -> bool:
    """Whether one of these users is in the published dimension."""
    dimension = DIMENSIONS["user"]
    file = engine.ledger.dimensions().get(dimension.name)
    keys = engine.store.dimension_keys(dimension, file.sha256) if file and users else None
    return keys is not None and bool(pc.any(pc.is_in(keys, value_set=pa.array(sorted(users), keys.type))).as_py())


def discards_without(engine: Engine, result: DropResult, ids: Ids) -> RedactedDiscards | None:
    """The discards of a drop whose raw copy has gone without those that name somebody; None where none does."""
    path = engine.output / receipts.discards_path(result.drop)
    if not result.counts.discarded.total() or not path.exists():
        return None
    kept, counts = [], Counts.from_dict(result.counts.as_dict())
    for line in path.read_bytes().splitlines(keepends=True):
        one = of_line(line)
        if one is None:
            raise Corruption(f"{path} has a damaged line, so whom it names is unknown; restore the file from a backup")
        if not _names(one, result, ids):
            kept.append(line)
            continue
        counts.discarded = counts.discarded - type(counts.discarded)([one.reason])
        counts.extracted -= 1
    content = b"".join(kept)
    return RedactedDiscards(content, replace(result, counts=counts)) if counts != result.counts else None


def _names(one: Discard, result: DropResult, ids: Ids) -> bool:
    text = one.record
    if raw.kind_of(result.drop.name) in DIMENSIONS:
        text = json.dumps(json.loads(text), ensure_ascii=False)
    elif one.reason is Reason.MALFORMED_RECORD:
        text = text_of_malformed(text)
    return ids.are_in_rejected(text.encode(errors="replace"), result.drop.context.mapping)
