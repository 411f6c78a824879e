"""`undo`: finds the drop that is meant, withdraws it or applies it again, and shows what that changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..batch import withdraw
from ..batch.engine import Engine
from ..batch.outcome import BatchOutcome, Written
from ..batch.phases import Phases
from ..batch.prepare import Prepared
from ..batch.reread import names_of
from ..core.entries import DropResult, Undo
from ..core.errors import Corruption, UsageError, meant
from ..core.model import DIMENSIONS, DropOutcome
from ..storage import raw
from ..storage.ages import RAW
from ..storage.ledger import Ledger
from ..storage.receipts import instant_text, local_text
from .plan import change_of, shown, shown_waiting, steadily

_COMPARED = 1_000  # drops whose names are compared with one that none has
_HASH_DIGITS = 12  # of the short hash in the name of a raw copy


@dataclass(frozen=True)
class Undone:
    """What an undo changed or, in a dry run, would change. `leaving`: the orders of a withdrawn drop that no other drop has;
    `returning`: those that get the version of another drop."""

    result: DropResult
    undo: Undo
    duplicates: list[int]
    twins: list[int]  # applied drops with the same bytes, which stay
    dimension: str | None  # that is made anew, or goes with its last drop
    leaving: int
    returning: int
    written: list[Written]
    hwm_before: int | None
    hwm: int | None
    gone_through: int = 0  # raw copies up to this drop have gone by age: what only they had does not come back
    waiting: Sequence[str] = ()  # dates that change once they are set aside no longer


def undo(engine: Engine, name: str, wanted: Callable[[int], Undo]) -> Undone:
    """Withdraws the named drop, or applies it again. `wanted`: of its number, the undo. Raises UsageError where it cannot be done
    with this drop, Corruption where a raw copy that is needed is damaged."""
    result, one = _wanted(engine.ledger, name, wanted)
    hwm = engine.ledger.hwm
    read = _read(engine, result, one)
    outcome = withdraw.carry_out(engine, read)
    return _undone(engine.ledger, read, outcome, hwm, outcome.hwm)


def preview(engine: Engine, fresh: Callable[[], Ledger], name: str, wanted: Callable[[int], Undo]) -> Undone:
    """What `undo` would change. May run beside a daemon; `fresh` opens the ledger in its current state."""

    def attempt(ledger: Ledger) -> Undone:
        of_view = replace(engine, ledger=ledger)
        read = _read(of_view, *_wanted(ledger, name, wanted))
        prepared = withdraw.prepare(of_view, read, Phases())
        return _undone(ledger, read, prepared, ledger.hwm, prepared.commit.hwm)

    return steadily(engine, fresh, attempt)


def _wanted(ledger: Ledger, name: str, wanted: Callable[[int], Undo]) -> tuple[DropResult, Undo]:
    result = named(ledger, name)
    one = wanted(result.drop.seq)
    _refuse(result, is_revert=one.is_revert)
    _refuse_gone(result, ledger.horizon(RAW), is_revert=one.is_revert)
    return result, one


def _read(engine: Engine, result: DropResult, one: Undo) -> withdraw.Undoing:
    try:
        return withdraw.read(engine, result, one)
    except Corruption as error:
        what = "apply drop {} again" if one.is_revert else "withdraw drop {}"
        raise Corruption(f"could not {what.format(result.drop.seq)}; nothing was changed: {error}") from None


def _undone(
    ledger: Ledger, read: withdraw.Undoing, done: Prepared | BatchOutcome, hwm_before: int | None, hwm: int | None
) -> Undone:
    duplicates = [one.seq for one in ledger.duplicates_of(read.drop.seq)[read.drop.seq]]
    returning = 0 if read.undo.is_revert else read.parsed.orders.num_rows
    leaving = len(read.withdrawn) - returning if not read.undo.is_revert else 0
    redacted = {one.seq for one in ledger.redactions()}  # these may have the same bytes by now, and had others
    same = [one.drop.seq for one in ledger.applied(read.drop.sha256) if one.drop.seq != read.drop.seq]
    twins = [] if read.drop.seq in redacted else [seq for seq in same if seq not in redacted]
    return Undone(
        read.result,
        read.undo,
        duplicates,
        twins,
        read.dimension,
        leaving,
        returning,
        list(done.written),
        hwm_before,
        hwm,
        read.gone_through,
        done.waiting,
    )


# ------------------------------------------------------------------------------------------------------- naming a drop


def named(ledger: Ledger, name: str) -> DropResult:
    """The drop with this number, name or SHA-256. UsageError where there is none, or more than one."""
    found = _called(ledger, name)
    numbers = {one.drop.seq for one in found}
    found = [one for one in found if one.duplicate_of not in numbers or one.outcome is not DropOutcome.DUPLICATE]
    if len(found) > 1:
        those = ", ".join(f"{one.drop.seq} ({one.outcome})" for one in found)
        raise UsageError(
            f"{len(found):,} drops are called {name}: {those}; nothing was changed. Give the number of one"
        )
    if not found:
        newest = (one.drop.name for one in ledger.last_results(_COMPARED))
        question = f"; {meant(name, newest)}".removesuffix("; ")
        raise UsageError(
            f"there is no drop with the number, name or SHA-256 {name}{question or '.'} Nothing was changed; "
            "`strandline history` lists all"
        )
    return found[0]


def _called(ledger: Ledger, name: str) -> list[DropResult]:
    if name.isascii() and name.isdigit() and len(name) < 19 and (drop := ledger.drop(int(name))) is not None:
        result = ledger.result(drop.seq)
        if result is None:
            raise UsageError(f"drop {name} is archived and not applied yet; start strandline, which applies it")
        return [result]
    digits = name.lower()
    is_hash = len(name) >= _HASH_DIGITS and set(digits) <= set("0123456789abcdef")
    return [
        one for one in ledger.all_results()
        if name in names_of(one.drop) or (is_hash and one.drop.sha256.hex().startswith(digits))
    ]  # fmt: skip


def _refuse(result: DropResult, *, is_revert: bool) -> None:
    """Raises UsageError where the drop is not what the undo is for."""
    seq, called = result.drop.seq, f"drop {result.drop.seq} ({result.drop.name})"
    if result.outcome is (DropOutcome.WITHDRAWN if is_revert else DropOutcome.APPLIED):
        return
    whys = {
        DropOutcome.APPLIED: f"{called} is applied; only a drop that was withdrawn can be applied again",
        DropOutcome.WITHDRAWN: f"{called} is {result.reason} already; `strandline undo --revert {seq}` applies it again",
        DropOutcome.DUPLICATE: f"{called} was a duplicate of drop {result.duplicate_of}, and applied nothing; "
        f"`strandline undo {result.duplicate_of}` withdraws that one, and all that it brought",
        DropOutcome.QUARANTINED: f"{called} is quarantined, and was never applied; `strandline discard {seq}` removes it",
    }
    raise UsageError(
        f"cannot {'apply again' if is_revert else 'withdraw'}: {whys[result.outcome]}. Nothing was changed"
    )


def _refuse_gone(result: DropResult, gone: int, *, is_revert: bool) -> None:
    """Raises UsageError where only the raw copy of the drop, which has gone by age, says what it brought."""
    of_dimension = raw.kind_of(result.drop.name) in DIMENSIONS
    if result.drop.seq > gone or not (is_revert or of_dimension):
        return
    raise UsageError(
        f"cannot {'apply again' if is_revert else 'withdraw'}: the raw copy of drop {result.drop.seq} ({result.drop.name}) has "
        "gone by age ([raw] keep), and only it says what the drop brought. Nothing was changed. Drop the right rows as a new file"
    )


# ------------------------------------------------------------------------------------------------------------- showing


def as_dict(found: Undone, *, dry_run: bool) -> dict[str, Any]:
    """What was undone, as JSON."""
    drop, one = found.result.drop, found.undo
    before, after = (None if hwm is None else instant_text(hwm) for hwm in (found.hwm_before, found.hwm))
    orders = {} if one.is_revert else {"orders": {"returned": found.returning, "gone": found.leaving}}
    return {
        "drop": drop.seq, "name": drop.name, "source": drop.context.source, "sha256": drop.sha256.hex(),
        "outcome": str(DropOutcome.APPLIED if one.is_revert else DropOutcome.WITHDRAWN), "dry_run": dry_run,
        "at": instant_text(one.at), "by": one.who, "reason": one.reason, "duplicates": found.duplicates,
        "same_bytes_applied": found.twins,
        **orders, "dimension": found.dimension, "raw_copies_gone_through_drop": found.gone_through,
        "partitions": [
            {"date": day.date, "orders_before": day.orders_before, "orders_after": day.orders} for day in found.written
        ],
        "high_water_mark_before": before, "high_water_mark": after,
        **({"set_aside": list(found.waiting)} if found.waiting else {}),
    }  # fmt: skip


def table(found: Undone, *, dry_run: bool) -> str:
    """What was undone, for a terminal."""
    drop, is_revert = found.result.drop, found.undo.is_revert
    verb = "would be" if dry_run else "is"
    lines = [f"drop {drop.seq} ({drop.name}) {verb} {'applied again' if is_revert else 'withdrawn'}"]
    if found.duplicates:
        those = ", ".join(map(str, found.duplicates))
        lines.append(f"  with its duplicates, which brought nothing else: {those}")
    if found.twins:
        lines.append(f"  the same bytes were read again, and stay applied, as drop {', '.join(map(str, found.twins))}")
    if found.dimension is not None:
        lines.append(
            f"  {DIMENSIONS[found.dimension].file} {verb} made anew of all drops of its kind that are applied then"
        )
    if found.leaving or found.returning:
        lines.append(f"  {found.returning:>9,} orders return to the version of another drop")
        lines.append(f"  {found.leaving:>9,} orders go: no other drop has them")
    if found.gone_through:
        lines.append(
            f"  the raw copies of drops up to {found.gone_through} have gone by age; what only they had "
            f"{'would' if dry_run else 'does'} not come back"
        )
    if found.hwm != found.hwm_before:
        marks = (None if hwm is None else instant_text(hwm) for hwm in (found.hwm_before, found.hwm))
        before, after = (local_text(mark, "(none)") for mark in marks)
        lines.append(f"  the high-water mark {'would go' if dry_run else 'goes'} from {before} to {after}")
    lines += shown("Partitions", [f"  {one.date}  {change_of(one)}" for one in found.written])
    lines += shown_waiting(found.waiting)
    lines += ["", _last_line(drop.seq, is_revert=is_revert, dry_run=dry_run)]
    return "\n".join(lines)


def _last_line(seq: int, *, is_revert: bool, dry_run: bool) -> str:
    """The last line: what happened, and what to do next."""
    if dry_run:
        return f"Nothing was changed; `strandline undo {seq}{' --revert' if is_revert else ''}` does it"
    back = f"undo {seq}" + ("" if is_revert else " --revert")
    return f"Drop {seq} is {'applied again' if is_revert else 'withdrawn'}; `strandline {back}` takes that back"
