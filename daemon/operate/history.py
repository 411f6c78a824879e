"""`history`: every committed drop and its batch, the newest last. One line at a time, so that memory does not grow."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from ..core.entries import DropResult
from ..core.errors import escaped
from ..storage.receipts import as_dict, instant_text, local_text
from .status import drop_row
from .wording import counted

# The result of a drop, its batch, and when that was committed, if that is known.
Row = tuple[DropResult, int, int | None]
_INSTANT = re.compile(r"(?<= at )\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")  # when somebody withdrew or discarded a drop
_LINE = "{:>7}  {:25}  {:>8}  {:11}  {}"


def table(rows: Iterable[Row]) -> Iterator[str]:
    """For a terminal: a heading, then one line a drop. The first drop of a batch has its number and when it was committed."""
    yield _LINE.format("BATCH", "COMMITTED", "DROP", "OUTCOME", "NAME: WHAT BECAME OF IT")
    shown, outcomes = None, Counter[str]()
    for result, batch, committed_at in rows:
        drop, name, outcome, detail = drop_row(as_dict(result))
        at = "(unknown)" if committed_at is None else local_text(instant_text(committed_at))
        first = (str(batch), at) if batch != shown else ("", "")
        if result.duplicate_of is not None:
            detail = f"as drop {result.duplicate_of}" + (f": {detail}" if result.reason else "")
        outcomes[outcome] += 1
        detail = _INSTANT.sub(lambda found: local_text(found[0]), detail)  # as the other times here
        line = _LINE.format(*first, drop, outcome, f"{name}: {detail}")
        yield escaped(line)
        shown = batch
    yield ""
    yield _last_line(outcomes)


def _last_line(outcomes: Counter[str]) -> str:
    """The last line: what is shown, and what to do next."""
    if not outcomes:
        return "No drop was received then; `strandline history` without --since lists all"
    numbers = ", ".join(f"{number:,} {outcome}" for outcome, number in sorted(outcomes.items()))
    steps = {
        "quarantined": "`strandline retry` or `strandline discard` what is quarantined",
        "applied": "`strandline undo NUMBER` withdraws an applied drop",
    }
    step = next((text for outcome, text in steps.items() if outcomes[outcome]), "")
    return f"{counted(outcomes.total(), 'drop')}: {numbers}" + (f"; {step}" if step else "")


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
