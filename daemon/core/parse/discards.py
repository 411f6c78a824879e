"""Rejected records, each kept whole: how they are collected, and the lines that are written of them.

A drop of junk has a record in every two bytes. So a record is a Python object only for a moment, and the worker that rejects it
also prepares its text: whoever collects the discards of a batch only joins columns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..model import DISCARDS, Discard, Reason
from .reference import is_json
from .values import compact_json

_CHUNK_ROWS = 1 << 14  # records that are Python objects at the same time
_SLICE_ROWS = 1 << 14
_SLICE_BYTES = 8 << 20  # of one slice, unless a single record has more
_TEXT = pa.large_string()
_REASON = b"|".join(reason.encode() for reason in Reason)
_LINE = re.compile(rb'\{"drop":(\d+),"position":(\d+),"reason":"(' + _REASON + rb')","record":(.*)\}\n', re.DOTALL)


class Discards:
    """Collects the rows of a DISCARDS table."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, str]] = []
        self._chunks: list[pa.Table] = []

    def add(self, drop: int, position: int, reason: Reason, record: str) -> None:
        """`record` is JSON on one line: see `kept`."""
        self._rows.append((drop, position, _CODES[reason], record))
        if len(self._rows) == _CHUNK_ROWS:
            self._finish_chunk()

    def table(self) -> pa.Table:
        """All added rows, in order."""
        if self._rows:
            self._finish_chunk()
        return concat_discards(self._chunks)

    def _finish_chunk(self) -> None:
        drop, position, code, record = zip(*self._rows, strict=True)
        reason = pa.DictionaryArray.from_arrays(pa.array(code, pa.int8()), _REASONS)
        columns = [pa.array(drop, pa.uint32()), pa.array(position, pa.uint32()), reason, pa.array(record, _TEXT)]
        self._chunks.append(pa.table(columns, schema=DISCARDS))
        self._rows.clear()


_REASONS = pa.array([str(reason) for reason in Reason], _TEXT)
_CODES = {reason: code for code, reason in enumerate(Reason)}


def kept(record: bytes, reason: Reason) -> str:
    """What is kept of a record: its JSON without white space between tokens, or its text as a JSON string where it is not JSON.
    Only a malformed record may not be JSON."""
    text = record.decode(errors="replace")
    if reason is Reason.MALFORMED_RECORD and not is_json(text.encode()):
        return json.dumps(text, ensure_ascii=False)
    return compact_json(text)


def text_of_malformed(record: str) -> str:
    """The text of a malformed record, of which `kept` is given. One that is JSON but for its encoding is kept as JSON."""
    return str(json.loads(record)) if record.startswith('"') else record


def concat_discards(tables: Iterable[pa.Table]) -> pa.Table:
    """One DISCARDS table out of many, without copying. Empty tables are left out: a file holds one dictionary per column."""
    return pa.concat_tables([table for table in tables if table.num_rows] or [DISCARDS.empty_table()])


def each(discards: pa.Table) -> Iterator[Discard]:
    """The rows as values, a few at a time."""
    for batch in discards.to_batches(max_chunksize=_SLICE_ROWS):
        for row in batch.to_pylist():
            yield Discard(**(row | {"reason": Reason(row["reason"])}))


def slices(discards: pa.Table) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows in bounded slices, each of one drop."""
    for batch in discards.to_batches(max_chunksize=_SLICE_ROWS):
        drops = batch["drop"].to_numpy()
        seams = (np.flatnonzero(drops[1:] != drops[:-1]) + 1).tolist()
        for first, stop in pairwise([0, *seams, len(drops)]):
            for rows in _bounded(batch.slice(first, stop - first)):
                yield int(drops[first]), rows


def _bounded(rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    half = rows.num_rows // 2
    if rows.nbytes <= _SLICE_BYTES or not half:
        yield rows
        return
    yield from _bounded(rows.slice(0, half))
    yield from _bounded(rows.slice(half))


def lines(rows: pa.RecordBatch) -> memoryview:
    """Each row as one line of JSON."""
    drop, position, reason, record = (column.cast(_TEXT) for column in rows.columns)
    words = ('{"drop":', drop, ',"position":', position, ',"reason":"', reason, '","record":', record, "}\n", "")
    joined = pc.binary_join_element_wise(*(pa.scalar(word, _TEXT) if isinstance(word, str) else word for word in words))
    return memoryview(joined.buffers()[2])[: pc.sum(pc.binary_length(joined)).as_py()]


def of_line(line: bytes) -> Discard | None:
    """The discard of a line that `lines` has written; None where the line is damaged."""
    if (found := _LINE.fullmatch(line)) is None:
        return None
    drop, position, reason, record = found.groups()
    return Discard(int(drop), int(position), Reason(reason.decode()), record.decode(errors="replace"))
