"""Rows of the ledger as values. Each is compared with its checksum first: Corruption where it is not what was written."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache

from ..core.entries import Counts, Drop, DropResult, Partition
from ..core.mapping import Columns, FieldMapping
from ..core.model import DropOutcome, ParseContext
from . import checksums, undos

DROP_COLUMNS = (
    "seq, name, raw, sha256, bytes, received_at, tolerance, records_path, source, mapping, since, duplicate_of"
)
# All columns of a row, since its checksum is of all.
DROP = (
    "seq, name, raw, sha256, bytes, received_at, tolerance, records_path, source, mapping, since, batch, outcome, reason, "
    "duplicate_of, counts, newest, checksum, (SELECT mapping FROM mappings WHERE number = drops.mapping)"
)
RESULT = f"{DROP}, {undos.OF_DROP}"
AFTER = 20  # the first column after those of RESULT
mapping_of = lru_cache(maxsize=256)(FieldMapping.from_json)


def partitions_of(rows: Iterable[tuple]) -> dict[int, Partition]:
    """Of rows of partitions with all columns; by date."""
    found = {}
    for row in rows:
        checksums.refuse_unsound(row[:-1], row[-1], f"the partition of day {row[0]}")
        found[row[0]] = _partition(row)
    return found


def _partition(row: tuple) -> Partition:
    date, orders, lines, amount, fact, items, size, writer, _, restatements, text, _ = row
    return Partition(date, orders, lines, int(amount), fact, items, size, writer, restatements, columns_of(text))


def columns_of(text: str) -> Columns:
    """Extra columns of fact_order, from JSON."""
    return tuple((name, kind) for name, kind in json.loads(text))


def drop_of(row: tuple) -> Drop:
    """Of a row of the columns DROP."""
    values = row[:17]
    checksums.refuse_unsound(values, row[17], f"drop {row[0]}")
    seq, name, raw, sha256, size, received_at, tolerance, records_path, source, _, since, *_, duplicate_of, _, _ = (
        values
    )
    context = ParseContext(received_at, tolerance, records_path, since, source=source, mapping=mapping_of(row[18]))
    return Drop(seq, name, raw, sha256, size, context, duplicate_of)


def result_of(row: tuple) -> DropResult:
    """Of a row of the columns RESULT."""
    drop, outcome, reason, counts = drop_of(row), row[12], row[13], row[15]
    return DropResult(
        drop, DropOutcome(outcome), Counts.from_dict(json.loads(counts)), reason, drop.duplicate_of,
        undos=undos.parse(drop.seq, row[19]),
    )  # fmt: skip
