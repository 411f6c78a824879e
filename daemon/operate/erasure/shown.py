"""What `forget` erases, for a person. Names no id but those that were given on the command line."""

from __future__ import annotations

from collections import Counter

from ...core.model import DIMENSIONS
from ...storage import raw
from ...storage.store import iso_date
from .forget import Change, Plan

_SHOWN = 20


def table(plan: Plan, *, dry: bool) -> str:
    """The plan for a terminal."""
    redacted = [one for one in plan.changes if one.records]
    if plan.is_nothing:
        lines = ["nothing in the output names them"]
    else:
        dates = Counter(plan.dates)
        others = len(plan.changes) - len(redacted)
        lines = [
            f"{'would erase' if dry else 'erased'} {sum(one.records for one in redacted):,} records in {len(redacted):,} drops, "
            f"{len(plan.dates):,} published orders on {len(dates):,} dates, {len(plan.erased):,} files in quarantine",
            *_section("drops whose raw copies are rewritten", [_drop(one) for one in redacted]),
            *_section("dates", [f"{iso_date(day)}: {count:,} orders" for day, count in sorted(dates.items())]),
            *_section(
                "files in quarantine that go as a whole, since they cannot be rewritten",
                [f"{one.path}: {one.naming:,} of its {one.lines:,} lines name them" for one in plan.erased],
            ),
            *_section("names of drops that change", _renamed(plan)),
            *([f"  the names or reasons of {others:,} other drops change"] if others else []),
            *_section("other files", [*plan.small_files, *plan.old_ledgers]),
        ]
    lines += _section(
        "files in quarantine that cannot be searched; look at them, and remove them with `strandline discard`",
        [one.path for one in plan.unclear],
    )
    return "\n".join(lines)


def _drop(one: Change) -> str:
    before = one.before
    what = "rows" if raw.kind_of(before.drop.name) in DIMENSIONS else "records"
    gone = before.counts.discarded.total() - one.after.counts.discarded.total()
    discards = f", of which {gone:,} were discarded" if gone else ""
    return f"drop {before.drop.seq} ({before.drop.name}): {one.records:,} {what}{discards}"


def _renamed(plan: Plan) -> list[str]:
    return [
        f"drop {one.before.drop.seq}: {one.before.drop.name} becomes {one.after.drop.name}"
        for one in plan.changes
        if one.before.drop.name != one.after.drop.name
    ]


def _section(title: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    rest = len(lines) - _SHOWN
    return [
        "",
        f"{title}:",
        *(f"  {line}" for line in lines[:_SHOWN]),
        *([f"  … and {rest:,} more"] if rest > 0 else []),
    ]
