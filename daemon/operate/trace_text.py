"""The history of one order as text for a terminal: see trace."""

from __future__ import annotations

from dataclasses import astuple
from decimal import Decimal
from typing import Any

from ..core.mapping import DEFAULT_SOURCE
from . import allocation
from .plan import one_line
from .trace import Trace, Version, next_step

_SHOWN = 20


def table(found: Trace) -> str:
    """The trace for a terminal."""
    nowhere = "" if found.versions or found.discards else "no applied drop has a record of it"
    if found.published is None:
        nothing = "not published" if found.versions else "only discarded records name it"
        lines = [f"order {one_line(found.order_id)}: {nowhere or nothing}"]
    else:
        date, drop, position = found.published
        where = f"published in date={date}, from" if date else "deleted, by"
        lines = [f"order {one_line(found.order_id)} is {where} record {position} of drop {drop}"]
    if not found.agrees:
        lines.append(
            "  THIS IS NOT WHAT RAW SAYS. `strandline verify` shows the difference, `strandline rebuild` repairs it"
        )
    if nowhere and found.published is not None:
        lines.append(f"  {nowhere}")
    if found.gone_through:
        lines.append(
            f"  raw copies up to drop {found.gone_through} have gone by age: what they have of it is not shown, but for the "
            "version that won"
        )
    if found.read_from:
        lines.append(
            f"  the time was up: drops before {found.read_from} were not read, but for the one that is published"
        )
    lines += [f"  drop {one.drop} ({one_line(one.name)}) was not read: {one.reason}" for one in found.not_read[:_SHOWN]]
    if (rest := len(found.not_read) - _SHOWN) > 0:
        lines.append(f"  {rest:,} more drops were not read; `strandline verify` names them")
    before: dict[str, Any] = {}
    unread = {one.drop for one in found.not_read}
    for version in found.versions:
        lines += ["", f"record {version.position} of drop {version.drop} ({_named(version)}), "
                      f"received {version.received_at}", f"  {version.why}"]  # fmt: skip
        lines += [f"  also received as {again}, not applied again" for again in found.repeats[version.drop]]
        lines += [f"  its drop was {once}" for once in found.undos[version.drop]]
        lines += ["  it deletes the order"] if version.is_deletion else []
        if version.has_gone:
            copy = "was not read" if version.drop in unread else "has gone by age"
            lines.append(f"  its raw copy {copy}; what it says is in the partition")
        lines += [f"  {name:11} {_shown(value)}{_was(before, name, value)}" for name, value in version.content.items()]
        if version is found.winner:
            lines += _divided(allocation.of_order(version.content))
        before = version.content
    for discard in found.discards:
        why = discard.why and f": {one_line(discard.why)}"
        lines += ["", f"record {discard.position} of drop {discard.drop} was discarded: {discard.reason}{why}",
                  f"  {one_line(discard.record)}"]  # fmt: skip
    lines += ["", next_step(found)]
    return "\n".join(lines)


def _divided(found: allocation.Allocation | None) -> list[str]:
    """How the amount of the version that counts is divided over its lines."""
    if found is None:
        return []
    lines = ["", f"  {found.why} (`strandline docs EXACTNESS`)"]
    if found.rule in (allocation.BY_WEIGHT, allocation.EQUALLY):
        lines += _steps(found)
    if Decimal(found.amount or 0) != Decimal(found.items_total) and found.rule in (
        allocation.BY_WEIGHT,
        allocation.ONE_ITEM,
    ):
        lines.append(
            f"  the items add up to {found.items_total}; what counts is the order's own amount, {found.amount}"
        )
    return lines


def _steps(found: allocation.Allocation) -> list[str]:
    """A table with the steps of the allocation."""
    lines = []
    rows: list[tuple[str, ...]] = [("line", "sku", "qty", "price", "weight", "share so far", "rounded", "amount")]
    rows += [tuple(one_line(str(_shown(value))) for value in astuple(one)) for one in found.lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if column == 1 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("    " + "  ".join(cells))
    return [*lines, "  each line gets its rounded share so far, less that of the line before"]


def _named(version: Version) -> str:
    """The name of its drop, with the source where that is not the default one."""
    return version.name if version.source == DEFAULT_SOURCE else f"{version.source}: {version.name}"


def _was(before: dict[str, Any], name: str, value: Any) -> str:
    """The value in the previous version, if it differs."""
    return f"   (was {_shown(before.get(name))})" if before and before.get(name) != value else ""


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, list):
        return one_line(str(value))
    return "; ".join(one_line(" ".join(_shown(part) for part in item.values())) for item in value) or "none"
