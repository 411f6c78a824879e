"""`history`: every committed drop and its batch, the newest last. One line at a time, so that memory does not grow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from ..core.entries import DropResult
from ..storage.receipts import as_dict, instant_text, local_text
from .status import drop_row

# The result of a drop, its batch, and when that was committed, if that is known.
Row = tuple[DropResult, int, int | None]
_LINE = "{:>7}  {:25}  {:>8}  {:11}  {}"


def table(rows: Iterable[Row]) -> Iterator[str]:
    """For a terminal: a heading, then one line a drop. The first drop of a batch has its number and when it was committed."""
    yield _LINE.format("BATCH", "COMMITTED", "DROP", "OUTCOME", "NAME: WHAT BECAME OF IT")
    shown = None
    for result, batch, committed_at in rows:
        drop, name, outcome, detail = drop_row(as_dict(result))
        at = "(unknown)" if committed_at is None else local_text(instant_text(committed_at))
        first = (str(batch), at) if batch != shown else ("", "")
        if result.duplicate_of is not None:
            detail = f"as drop {result.duplicate_of}" + (f": {detail}" if result.reason else "")
        line = _LINE.format(*first, drop, outcome, f"{name}: {detail}")
        yield "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        shown = batch


def as_json(rows: Iterable[Row]) -> Iterator[str]:
    """For programs: an array of receipts with the batch and when it was committed, in UTC; one a line."""
    yield "["
    line = ""
    for result, batch, committed_at in rows:
        if line:
            yield f"{line},"
        at = None if committed_at is None else instant_text(committed_at)
        line = json.dumps(as_dict(result) | {"batch": batch, "committed_at": at})
    if line:
        yield line
    yield "]"
