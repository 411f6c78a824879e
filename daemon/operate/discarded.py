"""Discarded records for people: each with why it was discarded, in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..core.entries import DropResult
from ..core.model import DIMENSIONS, Discard, ParseContext, Reason
from ..core.parse import rejected
from ..core.parse.discards import of_line
from ..storage.raw import kind_of
from ..storage.receipts import as_dict, discards_path

_SHOWN = 5
_SHOWN_CHARACTERS = 300
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Discarded:
    """A discarded record. `position`: from 1, in its drop. `why`: the reason in words; empty where nothing more is known."""

    drop: int
    position: int
    reason: Reason
    why: str
    record: str


def explained(one: Discard, context: ParseContext, *, is_row: bool = False, line: int | None = None) -> Discarded:
    """A discard with its cause; see rejected.cause."""
    why = rejected.cause(one, context, is_row=is_row, line=line)
    return Discarded(one.drop, one.position, one.reason, why, one.record)


def with_first_discards(result: DropResult, output: Path) -> dict[str, Any]:
    """A receipt with its first discards. Rows of users are not shown: they have e-mail addresses."""
    found: list[Discarded] = []
    if result.counts.discarded.total() and kind_of(result.drop.name) not in DIMENSIONS:
        found = list(_first(output / discards_path(result.drop), result.drop.context))
    shown = [asdict(one) | {"record": one.record[:_SHOWN_CHARACTERS]} for one in found]
    return as_dict(result) | {"first_discards": [{key: one[key] for key in one if key != "drop"} for one in shown]}


def _first(path: Path, context: ParseContext) -> Iterable[Discarded]:
    """The first records of a file of discards that are not too long to show; none where it cannot be read."""
    try:
        with open(path, "rb") as kept:
            lines = list(islice(iter(lambda: kept.readline(_MOST_BYTES), b""), _SHOWN))
    except OSError:
        return
    for one in filter(None, map(of_line, lines)):
        yield explained(one, context)
