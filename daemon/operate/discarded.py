"""Discarded records for people: each with why it was discarded, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

from ..core.entries import DropResult
from ..core.model import DIMENSIONS, Discard, ParseContext, Reason
from ..core.parse import rejected
from ..core.parse.discards import of_line
from ..storage import raw
from ..storage.raw import kind_of
from ..storage.receipts import as_dict, discards_path

_SHOWN = 5
_SHOWN_CHARACTERS = 300
_MOST_BYTES = 1 << 20
_LOOKED_AT_BYTES = 16 << 20  # of a raw copy; a page may ask for it


@dataclass(frozen=True, slots=True)
class Discarded:
    """A discarded record. `position`: from 1, in its drop. `why`: the reason in words; empty where nothing more is known."""

    drop: int
    position: int
    reason: Reason
    why: str
    record: str


def with_cause(one: Discard, context: ParseContext, *, is_row: bool = False, line: int | None = None) -> Discarded:
    """A discard with its cause; see rejected.cause."""
    why = rejected.cause(one, context, is_row=is_row, line=line)
    return Discarded(one.drop, one.position, one.reason, why, one.record)


def with_first_discards(result: DropResult, output: Path, *, placed: bool = False) -> dict[str, Any]:
    """A receipt with its first discards. Rows of users are not shown: they have e-mail addresses. `placed`: the lines of broken
    records are looked up in the beginning of the raw copy."""
    found: list[Discard] = []
    if result.counts.discarded.total() and kind_of(result.drop.name) not in DIMENSIONS:
        found = _first(output / discards_path(result.drop))
    lines = _lines(output / (result.drop.raw or ""), found) if placed else {}
    shown = [asdict(with_cause(one, result.drop.context, line=lines.get(one.position))) for one in found]
    cut = [one | {"record": one["record"][:_SHOWN_CHARACTERS]} for one in shown]
    return as_dict(result) | {"first_discards": [{key: one[key] for key in one if key != "drop"} for one in cut]}


def _first(path: Path) -> list[Discard]:
    """The first records of a file of discards that are not too long to show; none where it cannot be read."""
    try:
        with open(path, "rb") as kept:
            lines = list(islice(iter(lambda: kept.readline(_MOST_BYTES), b""), _SHOWN))
    except OSError:
        return []
    return list(filter(None, map(of_line, lines)))


def _lines(path: Path, discards: Sequence[Discard]) -> dict[int, int]:
    """The lines of these records in a raw copy, as far as its beginning has them; none where it cannot be read."""
    if not any(one.reason is Reason.MALFORMED_RECORD for one in discards):
        return {}
    try:
        with raw.opened(path) as copy:
            head = copy.read(_LOOKED_AT_BYTES)
    except Exception:  # also the errors of the libraries that decompress
        return {}
    return rejected.lines_of(BytesIO(head), discards)
