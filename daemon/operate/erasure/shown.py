"""What `forget` erases, for a person. Names no id but those that were given on the command line."""

from __future__ import annotations

from collections import Counter

from ...core.model import DIMENSIONS
from ...storage import raw
from ...storage.store import iso_date
from ..wording import counted
from .forget import Change, Plan

_SHOWN = 20


def table(plan: Plan, *, dry: bool) -> str:
    """The plan for a terminal."""
    redacted = [one for one in plan.changes if one.records]
    if plan.is_nothing:
        lines = ["nothing in the output names them; ids are as in fact_order"]
    else:
        dates = Counter(plan.dates)
        renamed = _renamed(plan)
        reasons = sum(one.before.reason != one.after.reason for one in plan.changes)
        lines = [
            f"{'would erase' if dry else 'erased'} {counted(sum(one.records for one in redacted), 'record')} in "
            f"{counted(len(redacted), 'drop')}, {counted(len(plan.dates), 'published order')} on {counted(len(dates), 'date')}, "
            f"{counted(len(plan.erased), 'file')} in quarantine",
            *_section("drops whose raw copies are rewritten", [_drop(one) for one in redacted]),
            *_section("dates", [f"{iso_date(day)}: {counted(count, 'order')}" for day, count in sorted(dates.items())]),
            *_section(
                "files in quarantine that go as a whole, since they cannot be rewritten",
                [
                    f"{one.path}: {one.naming:,} of its {counted(one.lines, 'line')} name{'s' if one.naming == 1 else ''} them"
                    for one in plan.erased
                ],
            ),
            *_section("names of drops that change", renamed),
            *_section("reasons that change", [counted(reasons, "drop")] if reasons else []),
            *_section("other files", [*plan.small_files, *plan.old_ledgers]),
        ]
    lines += _section(
        "files in quarantine that cannot be searched; look at them, and remove them with `strandline discard`",
        [one.path for one in plan.unclear],
    )
    lines += _section(
        "drops whose other records mention one of the ids, and stay as they are; erase these orders, too, if they are about "
        "the same person",
        [f"drop {seq}" for seq in plan.mentioning],
    )
    if dry:
        lines += ["", "Nothing was changed; without --dry-run it is erased"]
    elif not plan.is_nothing:
        lines += ["", "Backups from before still have them: remove those"]
    return "\n".join(lines)


def _drop(one: Change) -> str:
    before = one.before
    what = "row" if raw.kind_of(before.drop.name) in DIMENSIONS else "record"
    gone = before.counts.discarded.total() - one.after.counts.discarded.total()
    discards = f", of which {gone:,} {'was' if gone == 1 else 'were'} discarded" if gone else ""
    return f"drop {before.drop.seq} ({before.drop.name}): {counted(one.records, what)}{discards}"


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
