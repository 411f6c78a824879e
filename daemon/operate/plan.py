"""A dry run: shows what would happen to one file if it were dropped now. Prepares the batch (batch/prepare.py) and shows it.

Files are staged in a scratch folder; nothing under the output folder changes. It may run beside a daemon: if a file does not
match the ledger, both are read again before the file is reported as damaged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from ..batch.duplicates import to_read, with_duplicates
from ..batch.engine import Engine
from ..batch.outcome import Written
from ..batch.phases import Phases
from ..batch.prepare import prepare
from ..batch.reading import too_large
from ..batch.unpacking import extract
from ..core.entries import Drop, DropResult
from ..core.errors import Corruption, EnvironmentFault, Unreadable, UsageError
from ..core.model import DIMENSIONS, DropOutcome, ParseContext
from ..core.parse.discards import each
from ..core.parse.explain import ReadRecord
from ..storage import files, raw, receipts
from ..storage.ledger import Ledger
from ..storage.set_aside import dimensions_of
from . import discarded, first_records
from .discarded import Discarded
from .wording import counted, named, of_unknown

_SHOWN = 20
_SHOWN_CHARACTERS = 200
_EXPLAINED = 3  # records of each drop
_TRIES = 50  # while a daemon is publishing
_RETRY_SECONDS = 0.1
Fresh = Callable[[], Ledger]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Plan:
    """What would happen to a drop; to each of its files, if it is a zip archive."""

    results: Sequence[DropResult]
    discards: list[Discarded]
    written: Sequence[Written]
    first_records: Mapping[int, Sequence[ReadRecord]]  # by drop of orders: how its first records are read
    waiting: Sequence[str] = ()  # dates that would change once they are no longer set aside

    @property
    def result(self) -> DropResult:
        """What would happen to the first drop, which is the only one unless the file is a zip archive."""
        return self.results[0]


def plan(engine: Engine, fresh: Fresh, path: Path, context: ParseContext) -> Plan:
    """What would happen to this file if it were dropped now. `fresh` opens the ledger in its current state. Raises UsageError if
    the file cannot be read at all, or would wait for a dimension that is set aside; Corruption if a published file that it would
    be merged with is damaged; EnvironmentFault if the published files change faster than they can be read."""
    first = engine.ledger.last_seq + 1
    drop = _as_drop(path, first, context)
    if why := too_large(drop.size_bytes, engine.reader.limits):
        raise UsageError(f"{path} would stay in the inbox: {why}")
    drops = with_duplicates(engine.ledger, _unpacked(engine, path, first, context) or [drop])
    if held := dimensions_of(engine.ledger.set_aside().values()) & {raw.kind_of(one.name) or "" for one in drops}:
        those = ", ".join(DIMENSIONS[name].file for name in sorted(held))
        raise UsageError(
            f"{path} would be archived, and applied once {those} is no longer set aside: `strandline status` says what to restore"
        )
    with engine.reader.begin(to_read(drops), {one.seq: Path(one.raw or "") for one in drops}) as reading:
        parsed = reading.result(engine.progress, engine.stopped)
        explained = reading.explained(_EXPLAINED, engine.stopped)
        lines = reading.lines_of(parsed.discards)
    discards = _explained(drops, parsed.discards, lines)

    def attempt(ledger: Ledger) -> Plan:
        prepared = prepare(replace(engine, ledger=ledger), drops, parsed, context.received_at, Phases())
        return Plan(prepared.commit.results, discards, prepared.written, explained, prepared.waiting)

    return steadily(engine, fresh, attempt)


def _explained(drops: Sequence[Drop], discards: pa.Table, lines: Mapping[tuple[int, int], int]) -> list[Discarded]:
    """The discards with their causes. `lines`: of malformed records, by drop and position."""
    by_number = {drop.seq: drop for drop in drops}
    return [
        discarded.with_cause(
            one, by_number[one.drop].context, is_row=raw.kind_of(by_number[one.drop].name) in DIMENSIONS,
            line=lines.get((one.drop, one.position)),
        )
        for one in each(discards)
    ]  # fmt: skip


def steadily(engine: Engine, fresh: Fresh, attempt: Callable[[Ledger], _T]) -> _T:
    """What `attempt` returns of a view of the ledger. While a daemon is publishing, files may not match the view: then both are
    read again."""
    for _ in range(_TRIES):
        with closing(fresh()) as ledger:
            try:
                return attempt(ledger)
            except Corruption:
                if _is_unchanged(ledger, fresh):
                    raise
        time.sleep(_RETRY_SECONDS)
    raise EnvironmentFault(
        "read the published files under", engine.output, f"at each of {_TRIES} tries they were being replaced",
        "Try again when fewer drops arrive. If no strandline is running, start it: it finishes what an earlier run left.",
    )  # fmt: skip


def _is_unchanged(before: Ledger, fresh: Fresh) -> bool:
    """Whether no batch was being published when this view of the ledger was opened, and none has been committed since. Then a
    published file that does not match the view is damaged."""
    with closing(fresh()) as after:
        return before.unpublished_batch() is None and after.next_batch == before.next_batch


def _unpacked(engine: Engine, path: Path, first: int, context: ParseContext) -> list[Drop]:
    """The drops of the files of a zip archive, in the scratch folder; none if it is no archive or cannot be unpacked."""
    if not raw.is_archive(path.name):
        return []
    try:
        members = extract(engine, path, path.name, first, context)
    except Unreadable:
        return []
    places = [str(engine.raw.temporary(one.seq)) for one in members]
    return [
        Drop(one.seq, one.name, place, one.sha256, one.size_bytes, context)
        for one, place in zip(members, places, strict=True)
    ]


def _as_drop(path: Path, seq: int, context: ParseContext) -> Drop:
    try:
        sha256 = files.sha256_of(path) if path.is_file() else None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; give a file as it would be dropped") from None
    if sha256 is None:
        raise UsageError(f"there is no file {path}; give a file as it would be dropped")
    return Drop(seq, raw.printable(path.name), str(path), sha256, path.stat().st_size, context)


def as_dict(plan: Plan) -> dict[str, Any]:
    """The plan as JSON. For a zip archive, the drops are in a list."""
    drops = [
        _receipt(result, [d for d in plan.discards if d.drop == result.drop.seq])
        | {"first_records": first_records.as_dicts(plan.first_records.get(result.drop.seq, ()))}
        for result in plan.results
    ]
    partitions = [
        {"date": one.date, "orders_before": one.orders_before, "orders_after": one.orders} for one in plan.written
    ]
    is_archive = raw.own_name(plan.result.drop.name) != plan.result.drop.name
    waiting = {"set_aside": list(plan.waiting)} if plan.waiting else {}
    return ({"drops": drops} if is_archive else drops[0]) | {"partitions": partitions} | waiting


def _receipt(result: DropResult, discards: Sequence[Discarded]) -> dict[str, Any]:
    receipt = receipts.as_dict(replace(result, keeps_raw=False))
    del receipt["drop"], receipt["raw"], receipt["received_at"], receipt["undos"]
    found = [asdict(one) for one in discards]
    return receipt | {"discards": [{key: one[key] for key in one if key != "drop"} for one in found]}


def table(plan: Plan) -> str:
    """The plan for a terminal. The files of a zip archive come one after another."""
    drops = [
        [
            *_of_drop(result, [d for d in plan.discards if d.drop == result.drop.seq]),
            *first_records.lines(plan.first_records.get(result.drop.seq, ())),
        ]
        for result in plan.results
    ]
    lines = [line for drop in drops for line in (*drop, "")][:-1]
    lines += shown("Partitions", [f"  {one.date}  {change_of(one)}" for one in plan.written])
    return "\n".join(lines + shown_waiting(plan.waiting))


def last_line(plan: Plan) -> str:
    """The last line: that nothing happened, and what to do next."""
    outcomes = {one.outcome for one in plan.results}
    if DropOutcome.QUARANTINED in outcomes:
        step = "correct what the reason says first: the file itself, or the settings of its source"
    elif outcomes == {DropOutcome.DUPLICATE}:
        step = "it need not be dropped"
    elif plan.discards:
        step = "to apply it without the discarded records, put it into the inbox"
    else:
        step = "to apply it, put it into the inbox"
    return f"Nothing was changed; {step}"


def _of_drop(result: DropResult, discards: Sequence[Discarded]) -> list[str]:
    counts = result.counts
    lines = [f"{result.drop.name} would be {result.outcome}" + (f": {result.reason}" if result.reason else "")]
    if result.outcome is DropOutcome.DUPLICATE:
        lines.append(f"  it has the content of drop {result.duplicate_of}, so nothing would change")
    kinds = ("extracted", "new", "corrected", "deleted", "unchanged", "superseded", "before_since", "late")
    lines += [f"  {getattr(counts, kind):>9,} {kind}" for kind in kinds if getattr(counts, kind)]
    lines += [f"  {number:>9,} discarded: {reason}" for reason, number in sorted(counts.discarded.items())]
    lines += [
        f"  {number:>9,} {named(number, 'field fault')}: {field}" for field, number in sorted(counts.faults.items())
    ]
    lines += [f"            {of_unknown(name, number)}" for name, number in sorted(counts.unknown.items())]
    return lines + shown("Discards", [line for one in discards for line in _of_discard(one)], each=2)


def _of_discard(one: Discarded) -> list[str]:
    why = one.why and f": {one_line(one.why)}"
    return [f"  {one.position:>9,}  {one.reason}{why}", f"{'':13}{one_line(one.record)}"]


def change_of(one: Written) -> str:
    if not one.orders_before:
        return f"new, {counted(one.orders, 'order')}"
    if not one.orders:
        return (
            f"removed: its last {counted(one.orders_before, 'order')} {'leaves' if one.orders_before == 1 else 'leave'}"
        )
    return f"rewritten, {counted(one.orders_before, 'order')} before, {one.orders:,} after"


def shown_waiting(dates: Sequence[str]) -> list[str]:
    """The dates that do not change now, because they are set aside."""
    return shown("Set aside, and changed once they are mended: see `strandline status`", [f"  {day}" for day in dates])


def shown(title: str, lines: list[str], *, each: int = 1) -> list[str]:
    """A titled list, cut to a size that can be read. `each`: the lines of one entry."""
    if not lines:
        return []
    rest = len(lines) // each - _SHOWN
    return ["", title, *lines[: _SHOWN * each], *([f"  … and {rest:,} more (--json has all)"] if rest > 0 else [])]


def one_line(text: str) -> str:
    """The beginning of a text on one line, without characters that a terminal would interpret."""
    shown = "".join(c if c.isprintable() else " " for c in text[: _SHOWN_CHARACTERS + 1])
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…"
