"""How the first rows of users and products are read, as explain.py shows records: each field with the column that it came from.
For people; decides nothing."""

from __future__ import annotations

from itertools import islice

import pyarrow as pa

from ..errors import Unreadable
from ..model import Dimension, ParseContext, Reason
from .csv import Layout, layout_of
from .explain import ReadField, ReadRecord, shown_cell, text_of
from .values import Fault


def explained_rows(dimension: Dimension, data: bytes, context: ParseContext, most: int) -> list[ReadRecord]:
    """The first rows of a CSV file; fewer where a later one cannot be read. Unreadable where the header cannot be read."""
    layout = layout_of(dimension, data, context)
    found: list[ReadRecord] = []
    try:
        for position, row in enumerate(islice(layout.sheet.rows, most), 1):
            found.append(_row(layout, dimension, row, position))
    except Unreadable:
        pass
    return found


def _row(layout: Layout, dimension: Dimension, row: list[str], position: int) -> ReadRecord:
    reason = layout.why_discarded(row)
    fields = [
        _field(layout, field.name, field.type, row, is_key=field.name == dimension.key) for field in dimension.schema
    ]
    if reason is not None:
        fields = [
            ReadField(one.field, one.value, one.path, is_fault=reason is not Reason.MALFORMED_RECORD)
            for one in fields
            if one.field == dimension.key
        ]
    return ReadRecord(position, dimension.name if reason is None else str(reason), fields, [], layout.unread())


def _field(layout: Layout, name: str, kind: pa.DataType, row: list[str], *, is_key: bool) -> ReadField:
    place = layout.column_of[name]
    if place is None:
        return ReadField(name, None, ", ".join(layout.names[name]))
    cell = row[place] if place < len(row) else ""
    value = layout.key_of(row) if is_key else layout.reader(kind)(cell or None)
    path = layout.sheet.header[place]
    if isinstance(value, Fault):
        return ReadField(name, shown_cell(cell), path, is_fault=True)
    return ReadField(name, text_of(name, value), path)
