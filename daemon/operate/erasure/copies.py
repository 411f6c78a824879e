"""Redacts the raw copy of one drop: unpacks it, removes the records that name somebody, and packs it in the same way.

The counts of a drop say what became of its records when it was applied, and stay. Only the counts of discards go down, since they
are the numbers of lines in discarded/, and the number of records before `since`, which may still be read.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from ...core.entries import Counts, Drop, DropResult
from ...core.errors import UsageError
from ...core.model import DIMENSIONS, ORDERS, DimensionRows, ParseContext, Parsed, Tally
from ...core.parse import csv
from ...core.parse.blocking import Block, without_blocked
from ...core.parse.naming import Ids
from ...core.parse.parse import Piece, parse
from ...core.parse.redaction import NotExact, Redaction, lost, without_records, without_rows_of
from ...storage import raw

_LEAST_CHARACTERS = 4  # of an id that is looked for in records of others


@dataclass(frozen=True)
class RedactedCopy:
    """A raw copy without some records. `result`: of its drop, with the SHA-256, the size and the counts that it has now."""

    content: bytes
    result: DropResult
    records: int
    is_mentioning: bool  # other records of it have one of the ids, as a whole word


def redacted(output: Path, result: DropResult, ids: Ids, blocks: Sequence[Block]) -> RedactedCopy | None:
    """The raw copy of an applied drop without the records that name one of these ids; None where it has none. Raises UsageError
    where these cannot be removed exactly."""
    drop = result.drop
    packed = (output / (drop.raw or "")).read_bytes()
    compression = raw.compression_of(packed[:4])
    data = unpacked(packed, compression)
    try:
        found = _without(data, drop, ids)
    except NotExact as error:
        raise UsageError(
            f"cannot forget: drop {drop.seq} ({ids.without_words(drop.name)}) cannot be rewritten: {error}. Nothing was "
            f"changed. Its raw copy is {drop.raw}; please report this with a file of its form"
        ) from None
    if found is None:
        return None
    content = _packed(found.data, compression)
    now = replace(drop, sha256=hashlib.sha256(content).digest(), size_bytes=len(content))
    reasons, before_since = lost(*(_tally(one, drop, blocks) for one in (data, found.data)))
    counts = Counts.from_dict(result.counts.as_dict())
    counts.discarded = counts.discarded - reasons
    counts.before_since -= before_since
    counts.extracted -= reasons.total() + before_since
    return RedactedCopy(
        content, replace(result, drop=now, counts=counts), len(found.positions), _is_mentioning(found.data, ids)
    )


def mentions(output: Path, drop: Drop, ids: Ids) -> bool:
    """Whether the raw copy of a drop has one of these ids, as a whole word."""
    packed = (output / (drop.raw or "")).read_bytes()
    return _is_mentioning(unpacked(packed, raw.compression_of(packed[:4])), ids)


def _is_mentioning(data: bytes, ids: Ids) -> bool:
    """Short ids are left out: they are words of most drops."""
    long = Ids(orders=frozenset(one for one in ids.all if len(one) >= _LEAST_CHARACTERS))
    return bool(long) and long.are_words_of(data)


def unpacked(content: bytes, compression: str | None) -> bytes:
    """The decompressed bytes of a copy."""
    if compression == "gzip":
        return gzip.decompress(content)
    if compression == "zstd":
        with raw.zstd_module().open(BytesIO(content)) as file:
            return bytes(file.read())
    return content


def _packed(data: bytes, compression: str | None) -> bytes:
    if compression == "gzip":
        return gzip.compress(data, mtime=0)
    return bytes(raw.zstd_module().compress(data)) if compression == "zstd" else data


def _without(data: bytes, drop: Drop, ids: Ids) -> Redaction | None:
    kind = raw.kind_of(drop.name)
    if kind not in DIMENSIONS:
        return without_records(data, drop.context, _naming(ids, drop.context), lambda rest: not ids.are_words_of(rest))
    is_user = kind == "user"

    def is_gone(layout: csv.Layout, row: Sequence[str]) -> bool:
        if is_user and layout.key_of(row) in ids.users:
            return True
        return layout.why_discarded(row) is not None and ids.are_in_cells(row, drop.context.mapping)

    return without_rows_of(DIMENSIONS[kind], data, drop.context, is_gone)


def _naming(ids: Ids, context: ParseContext) -> Callable[[bytes], bool]:
    """Whether a record names one of these ids. Reads only those that have the bytes of one, or escapes."""
    spelled = re.compile(b"|".join(re.escape(one.encode()) for one in sorted(ids.of(context.mapping))))
    return lambda record: (b"\\" in record or spelled.search(record) is not None) and ids.are_named(record, context)


def _tally(data: bytes, drop: Drop, blocks: Sequence[Block]) -> Tally:
    """The counts of a drop with these bytes, as it is read by a rebuild."""
    kind, context = raw.kind_of(drop.name), drop.context
    if kind in DIMENSIONS:
        read = csv.read(DIMENSIONS[kind], drop.seq, data, context, refusing=False)
        rows = {drop.seq: DimensionRows(kind, read.rows)}
        parsed = Parsed(ORDERS.empty_table(), read.discards, {drop.seq: read.tally}, {}, rows)
    else:
        of_orders = replace(context, mapping=context.mapping.of_orders)
        parsed = parse([Piece(drop.seq, data, of_orders)], refusing=False)
    return without_blocked(parsed, blocks, {drop.seq: context.mapping}).tallies[drop.seq]
