"""`forget`: erases users and orders from the output. Read this module first.

    1 search     which drops name them, and which orders are theirs                                     (search.py)
    2 redact     their raw copies without these records, staged; each is proven to be exact              (copies.py)
    3 others     quarantine, names and reasons that name them                                           (others.py)
    4 replay     all drops into a new ledger and a new curated layer in the staging folder, from the redacted copies
    5 commit     one rename replaces the ledger. Its effects place the redacted copies and remove the old ones, and the same for
                 partitions, dimensions, discards, receipts and quarantine

Steps 1 to 3 are `planned`, which changes nothing. A crash before step 5 changes nothing; after it, the next start carries out the
effects. The new ledger never held what was erased, but for the history, which is corrected before its file is written anew; so
nothing is left in free pages. No effect names anybody: files whose names do are removed by number and hash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...batch.commit import RESTATEMENTS, totals_of
from ...batch.engine import Engine
from ...core.entries import DropResult, Effect
from ...core.errors import Stopped, UsageError
from ...core.parse.naming import Ids
from ...downstream.scratch import remove_abandoned
from ...storage import files, raw, receipts
from ...storage.adoption import unknown
from ...storage.ages import DISCARDS, RAW, RECEIPTS, only
from ...storage.ledger import Ledger
from ...storage.redactions import Redacted
from ..rebuild import SCRATCH, differences, newest_orders, replace_discards, replaying
from . import others
from .aged import discards_without, has_users
from .copies import RedactedCopy, mentions, redacted
from .search import published_dates, search, searched


@dataclass(frozen=True)
class Change:
    """What becomes of a drop. `records`: how many are removed from its raw copy; 0: only its name or reason changes."""

    before: DropResult
    after: DropResult
    records: int = 0


@dataclass(frozen=True)
class Plan:
    """All that is erased. `asked`: the ids that were given; `ids`: with the orders of the users."""

    asked: Ids
    ids: Ids
    changes: Sequence[Change]  # by number
    dates: Sequence[int]  # one for each order that is published
    refused: Sequence[others.Refused]  # files in quarantine
    small_files: dict[str, str]
    old_ledgers: Sequence[str]
    mentioning: Sequence[int]  # drops of which records that stay have one of the ids in some other field
    is_in_dimension: bool  # a user is published
    is_in_errors: bool  # the last error of a pull names one

    @property
    def erased(self) -> list[others.Refused]:
        """The files in quarantine that go."""
        return [one for one in self.refused if one.naming]

    @property
    def unclear(self) -> list[others.Refused]:
        """Those that could not be searched, and stay."""
        return [one for one in self.refused if not one.naming]

    @property
    def is_nothing(self) -> bool:
        """Whether nothing names them."""
        found = (self.changes, self.dates, self.is_in_dimension, self.erased, self.small_files, self.old_ledgers)
        return not (any(found) or self.is_in_errors)


def planned(
    engine: Engine,
    asked: Ids,
    keep: Callable[[RedactedCopy], None] = lambda copy: None,
    keep_discards: Callable[[int, bytes], None] = lambda seq, content: None,
) -> Plan:
    """Steps 1 to 3. `keep` is called with each redacted copy, `keep_discards` with the number of a drop whose copy has gone by
    age and the discards that it still has. Raises UsageError where a copy cannot be redacted exactly, or raw/ has copies that the
    ledger does not know."""
    newest = engine.ledger.last_drop if engine.dry else 1 << 62  # a daemon may be taking drops
    if left := [copy for copy in unknown(engine.ledger, engine.raw, everywhere=True) if copy.seq <= newest]:
        raise UsageError(others.unknown_copies(left))
    _refuse_unswept(engine.ledger)
    found = search(engine, replace(asked, prefixes=engine.ledger.id_prefixes()))
    copies: dict[int, RedactedCopy] = {}
    for number, drop in enumerate(found.drops, 1):
        if engine.stopped():
            raise Stopped("stopped while drops were being redacted")
        result = engine.ledger.result(drop.seq)
        assert result is not None, "an applied drop has a result"
        if copy := redacted(engine.output, result, found.ids, engine.ledger.blocks()):
            copies[drop.seq] = replace(copy, content=b"")
            keep(copy)
        engine.progress("redacting drops", number, len(found.drops))
    gone = engine.ledger.horizon(RAW)
    aged: dict[int, DropResult] = {}
    for result in engine.ledger.all_results(0, gone) if gone else ():
        if discards := discards_without(engine, result, found.ids):
            aged[result.drop.seq] = discards.result
            keep_discards(result.drop.seq, discards.content)
    refused = others.in_quarantine(engine.output, found.ids, engine.reader.limits)
    erased = [one for one in refused if one.naming]
    changes = []
    for result in engine.ledger.all_results():
        drop_copy = copies.get(result.drop.seq)
        redacted_result = drop_copy.result if drop_copy else aged.get(result.drop.seq, result)
        now = others.reworded(redacted_result, found.ids, erased, engine.output)
        if now.drop.raw and now.drop.sha256 != result.drop.sha256:
            path = raw.raw_path(now.drop.seq, now.drop.name, now.drop.context, now.drop.sha256)
            now = replace(now, drop=replace(now.drop, raw=path))
        if now != result:
            changes.append(Change(result, now, drop_copy.records if drop_copy else 0))
    return Plan(
        asked, found.ids, changes, published_dates(engine, found.ids.orders), refused,
        others.small_files(engine.output, found.ids), others.old_ledgers(engine.output), _mentioning(engine, found.ids, copies),
        has_users(engine, asked.users), any(found.ids.without_words(one) != one for one in engine.ledger.pull_errors()),
    )  # fmt: skip


def _refuse_unswept(ledger: Ledger) -> None:
    """Raises UsageError while copies that have gone by age, as the ledger has it, may still be there: nobody searches them."""
    for kind in (RAW, DISCARDS):
        horizon = only(ledger.horizons(), kind)
        if horizon.swept < horizon.through:
            raise UsageError(
                f"cannot forget: old copies ({kind}) are still being removed by age, and are not searched. Nothing was changed. "
                "Run `strandline --once`, which finishes that, then run this again"
            )


def _mentioning(engine: Engine, ids: Ids, copies: Mapping[int, RedactedCopy]) -> list[int]:
    found = []
    for drop in searched(engine):
        copy = copies.get(drop.seq)
        if copy.is_mentioning if copy else mentions(engine.output, drop, ids):
            found.append(drop.seq)
    return found


def prepare_erasure(engine: Engine, asked: Ids, now: int, *, block: bool) -> tuple[Path | None, Plan]:
    """Steps 1 to 4: the ledger to take over, None where nothing names these ids, and what it erases. `block`: the ids that were
    asked for are refused once it is taken over, or from now on where nothing names them."""
    remove_abandoned(engine.output)  # of a backup or a query that was killed: links to what is erased
    scratch = engine.store.staging / SCRATCH
    staged = scratch / "raw"
    files.make_folder(staged)
    discards = scratch / "discards"
    files.make_folder(discards)
    plan = planned(
        engine,
        asked,
        lambda copy: files.write(staged / str(copy.result.drop.seq), copy.content),
        lambda seq, content: files.write(discards / str(seq), content),
    )
    if plan.is_nothing:
        if block:
            engine.ledger.remember_erasure([], asked)
        return None, plan
    # Now: a message without a name is right whether this is committed or not.
    others.reword_messages(engine.output, plan.ids)
    renamed = [one for one in plan.changes if one.after.drop.raw != one.before.drop.raw]
    # The raw copies of other drops have gone by age: only the paths in the ledger change.
    moved = [one for one in renamed if (engine.output / (one.before.drop.raw or "")).exists()]
    for one in moved:
        if not one.records:  # only its name changes
            content = (engine.output / (one.before.drop.raw or "")).read_bytes()
            files.write(staged / str(one.before.drop.seq), content)
    replaced: list[Effect] = []

    def begin(ledger: Ledger) -> None:
        here = str(staged.relative_to(engine.output))
        temporary = {one.after.drop.seq: f"{here}/{one.after.drop.seq}" for one in moved}
        ledger.redact(
            [replace(one.after, drop=replace(one.after.drop, raw=temporary.get(one.after.drop.seq, one.after.drop.raw)))
             for one in plan.changes],
            _taken_from_totals(plan.changes), plan.ids.without_words,
        )  # fmt: skip
        ledger.remember_erasure(
            [Redacted(one.before.drop.seq, now, one.before.drop.sha256, one.after.drop.sha256, one.records)
             for one in plan.changes if one.records],
            plan.asked if block else Ids(),
        )  # fmt: skip

    def keep(discards: Sequence[Effect]) -> None:
        replaced.extend(replace_discards(engine.output, scratch, discards))

    with replaying(engine, scratch, now, keep, began=begin, without=plan.ids) as (ledger, first, restatements):
        curated = differences(engine, ledger, scratch)
        newest, no_receipts = newest_orders(engine.output, ledger), ledger.horizon(RECEIPTS)
        ledger.redact([one.after for one in plan.changes], {}, plan.ids.without_words)
        paths = {one.after.drop.seq: one.after.drop.raw for one in moved}
        link = [] if newest is None else [
            Effect("link", raw.LINK, text=raw.link_text(paths.get(newest.seq, newest.raw) or ""))
        ]  # fmt: skip
        effects = [
            *(_placed(engine.output, staged / str(one.after.drop.seq), one.after.drop.raw or "") for one in moved),
            *link,
            *curated,
            *replaced,
            *(
                _placed(engine.output, discards / str(one.after.drop.seq), receipts.discards_path(one.after.drop))
                for one in plan.changes
                if +one.after.counts.discarded and (discards / str(one.after.drop.seq)).exists()
            ),
            *_receipts(engine.output, scratch, [one for one in plan.changes if one.after.drop.seq > no_receipts]),
            *_small_files(engine.output, scratch, plan.small_files),
            *_without_discards(engine.output, plan.changes),
            *(Effect("remove", path) for path in plan.old_ledgers),
            *(_swept(one.before.drop.raw or "", one.after.drop.raw) for one in moved),
            *(Effect("sweep", one.prefix) for one in plan.erased),
            *_old_receipts(plan.changes),
        ]
        log, kept_bytes = _log_without(engine.output, scratch, plan.ids, ledger.restatements_bytes)
        ledger.end_replay(first, now, [*effects, *log], restatements, kept_bytes)
        ledger.vacuum()
        return ledger.path, plan


def _taken_from_totals(changes: Sequence[Change]) -> Counter[tuple[str, str]]:
    taken = totals_of([one.before for one in changes])
    taken.subtract(totals_of([one.after for one in changes]))
    return Counter({name: number for name, number in taken.items() if number})


# ------------------------------------------------------------------------------------------------------------ effects


def _placed(output: Path, staged: Path, target: str) -> Effect:
    return Effect("place", target, str(staged.relative_to(output)), files.sha256_of(staged))


def _swept(before: str, after: str | None) -> Effect:
    """Removes a file by the part of its name that names nobody."""
    folder, _, name = before.rpartition("/")
    prefix = "_".join(name.split("_")[:2])
    return Effect("sweep", f"{folder}/{prefix}_", text=(after or "").rpartition("/")[2])


def _receipts(output: Path, scratch: Path, changes: Sequence[Change]) -> list[Effect]:
    files.make_folder(scratch / "receipts")
    effects = []
    for one in changes:
        staged = scratch / "receipts" / f"{one.after.drop.seq}.json"
        files.write(staged, receipts.receipt(one.after))
        effects.append(_placed(output, staged, receipts.receipt_name(one.after.drop)))
    return effects


def _old_receipts(changes: Sequence[Change]) -> list[Effect]:
    paths = [(receipts.receipt_name(one.before.drop), receipts.receipt_name(one.after.drop)) for one in changes]
    return [
        Effect(
            "sweep",
            f"{before.rpartition('/')[0]}/{before.rpartition('/')[2].split('_')[0]}_",
            text=after.rpartition("/")[2],
        )
        for before, after in paths
        if before != after
    ]


def _small_files(output: Path, scratch: Path, found: dict[str, str]) -> list[Effect]:
    files.make_folder(scratch / "small")
    effects = []
    for number, (target, text) in enumerate(found.items()):
        staged = scratch / "small" / str(number)
        files.write(staged, text.encode())
        effects.append(_placed(output, staged, target))
    return effects


def _log_without(output: Path, scratch: Path, ids: Ids, size: int) -> tuple[list[Effect], int]:
    """The effect that replaces the log of restatements, where the reason of an undo names somebody; and its length."""
    log = output / RESTATEMENTS
    content = log.read_bytes()[:size] if log.exists() else b""
    without = ids.without_words(content.decode(errors="replace")).encode()
    if without == content:
        return [], len(content)
    files.write(scratch / RESTATEMENTS, without)
    return [_placed(output, scratch / RESTATEMENTS, RESTATEMENTS)], len(without)


def _without_discards(output: Path, changes: Sequence[Change]) -> list[Effect]:
    """Removes the discards of drops that have none any more."""
    paths = [receipts.discards_path(one.after.drop) for one in changes if not +one.after.counts.discarded]
    return [Effect("remove", path) for path in paths if (output / path).exists()]
