"""An undo: withdraws an applied drop as if it had never come, or applies it again as if it had never been withdrawn.

What is published is a function of the applied drops alone: of each order, the latest version in any of them. So the orders
whose version is of a withdrawn drop get the latest version that the other drops have, or leave; all others stay as they are. A
drop that is applied again is compared with the index, under its own number. Either is prepared, committed and published as a
batch is (pipeline.py), and finished by the next start after a crash.

The counts of drops are those of when they were applied, and stay.

Which drops have another version of an order of the withdrawn drop W? Where nothing better is known, any, and all of raw is read
once. But if every accepted record of W counted as new, and the index never had a deletion, only those are read that had a record
superseded, or were withdrawn once. For let B be another applied drop with a version of an order k whose entry is of W:
  - If B was withdrawn once, it is read. If W was, all are: what came between its undo and the revert did not count W.
  - B was there before W's record of k. Then the index had k, so W's record was not new, and all are read.
  - B came with W, or later. Had B won, its version would be later than that of W, and the entry would be of B, which is still
    applied. So B lost, to W or to what was there in its place, and counted a record as superseded.
A record is there from the batch that accepts it; `--since` may accept some of a drop later, and its counts include them then.

Where raw copies have gone by age, what only they had does not come back. A dimension is then made of what is published, without
the rows of the withdrawn drop, and of the drops that are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..core.drift import changes, drifts
from ..core.entries import Commit, Drop, DropResult, Effect, Undo
from ..core.errors import Corruption, Stopped
from ..core.merge.keys import latest, matches
from ..core.model import DELETED_AT, DIMENSIONS, DISCARDS, INDEX_ENTRY, ORDERS, Parsed, concat_orders
from ..core.versions import Outcome, keys_of, reinstate
from ..storage import raw
from ..storage.ages import DISCARDS as OF_DISCARDS
from ..storage.ages import RAW
from ..storage.ledger import Ledger
from ..storage.receipts import discards_path
from ..storage.set_aside import days_of
from ..storage.store import iso_date
from . import dimensions
from .commit import WITHDRAWALS, Before, DimensionChange, rewriting_of, seen_keys
from .decide import Decided, accepted_of, by_date, decided
from .engine import Engine
from .outcome import BatchOutcome
from .phases import Phases
from .pipeline import carried_out
from .prepare import Prepared, rewrite, stage_discards, waited_for, waiting, written
from .repair import Damaged, read_all, read_groups

_NO_ENTRIES = np.zeros(0, INDEX_ENTRY)


@dataclass(frozen=True)
class Undoing:
    """An undo of a drop, with what was read for it. `parsed`: of a drop that is applied again, its records; of one that is
    withdrawn, the latest other versions of its orders. Its `rows` are those that a dimension is made of anew."""

    result: DropResult
    undo: Undo
    withdrawn: np.ndarray  # the entries of the index that name the drop
    parsed: Parsed
    seed: pa.Table | None = None  # what a dimension begins with where drops of it have gone by age
    newest: int = 0  # the newest other drop of that dimension; 0: there is none
    gone_through: int = 0  # raw copies up to this drop have gone by age, and may have had what would come back; 0: none

    @property
    def drop(self) -> Drop:
        return self.result.drop

    @property
    def dimension(self) -> str | None:
        """The dimension that the drop has rows of, if any."""
        kind = raw.kind_of(self.drop.name)
        return kind if kind in DIMENSIONS else None


def read(engine: Engine, result: DropResult, undo: Undo) -> Undoing:
    """Reads what an undo needs. To withdraw a drop does not need its own raw copy. Raises Corruption where a raw copy that is
    needed is damaged or missing."""
    drop, ledger = result.drop, engine.ledger
    parsed = read_all(engine.reader, [drop]) if undo.is_revert else _nothing()
    if raw.kind_of(drop.name) in DIMENSIONS:
        return _of_dimension(engine, result, undo, parsed)
    if undo.is_revert:
        return Undoing(result, undo, _NO_ENTRIES, parsed)
    withdrawn = ledger.index.of_drop(drop.seq)
    rivals = ledger.besides(drop.seq, only_rivals=not _may_have_older_versions(engine, result))
    others = [other for other in rivals if raw.kind_of(other.name) == raw.ORDERS] if len(withdrawn) else []
    there, gone_through = _still_there(ledger, others)
    left = ORDERS.empty_table()
    for group in _groups(engine, there):
        left = _latest(concat_orders([left, _of(withdrawn, read_all(engine.reader, group).orders)]))
    return Undoing(result, undo, withdrawn, replace(parsed, orders=left), gone_through=gone_through)


def _of_dimension(engine: Engine, result: DropResult, undo: Undo, parsed: Parsed) -> Undoing:
    """What the undo of a drop of users or products needs. `parsed`: the drop, if it is applied again."""
    drop, ledger, kind = result.drop, engine.ledger, raw.kind_of(result.drop.name) or ""
    others = [other for other in ledger.besides(drop.seq) if raw.kind_of(other.name) == kind]
    there, gone_through = _still_there(ledger, others)
    rows = {seq: one for group in _groups(engine, there) for seq, one in read_all(engine.reader, group).rows.items()}
    seed = dimensions.published_table(ledger, engine.store, DIMENSIONS[kind]) if gone_through else None
    if seed is not None and not undo.is_revert:
        key = DIMENSIONS[kind].key
        own = read_all(engine.reader, [drop]).rows[drop.seq].table[key].combine_chunks()
        seed = seed.filter(pc.invert(pc.is_in(seed[key], value_set=own)))
    newest = max((other.seq for other in others), default=0)
    both = replace(parsed, rows={**rows, **parsed.rows})
    return Undoing(result, undo, _NO_ENTRIES, both, seed, newest, 0 if undo.is_revert else gone_through)


def _still_there(ledger: Ledger, drops: Sequence[Drop]) -> tuple[list[Drop], int]:
    """Those of the drops whose raw copy has not gone by age; and the horizon, if that of one has."""
    gone = ledger.horizon(RAW)
    there = [drop for drop in drops if drop.seq > gone]
    return there, gone if len(there) < len(drops) else 0


def _may_have_older_versions(engine: Engine, result: DropResult) -> bool:
    """Whether drops that never lost a record may have a version of an order of this drop. See above."""
    counts = result.counts
    had_others = counts.superseded + counts.unchanged + counts.corrected + counts.deleted > 0
    return had_others or bool(result.undos) or engine.ledger.may_know_deletions()


def _groups(engine: Engine, drops: Sequence[Drop]) -> Iterator[list[Drop]]:
    done = 0
    for group in read_groups(drops):
        if engine.stopped():
            raise Stopped("stopped while drops were being read")
        yield group
        done += len(group)
        engine.progress("reading drops", done, len(drops))


def _of(withdrawn: np.ndarray, orders: pa.Table) -> pa.Table:
    """The latest versions of the withdrawn orders among these."""
    winners, rows = latest(orders)
    found, _ = matches(winners, withdrawn, np.zeros(len(winners), np.bool_))
    return orders.take(pa.array(rows[found]))


def _latest(orders: pa.Table) -> pa.Table:
    return orders.take(pa.array(latest(orders)[1]))


def _nothing() -> Parsed:
    return Parsed(ORDERS.empty_table(), DISCARDS.empty_table(), {}, {})


def carry_out(engine: Engine, undoing: Undoing) -> BatchOutcome:
    """Commits and publishes an undo."""
    phase = Phases()
    return carried_out(engine, phase, undoing.undo.at, lambda: prepare(engine, undoing, phase))


def prepare(engine: Engine, undoing: Undoing, phase: Phases) -> Prepared:
    """What committing an undo changes; see prepare.prepare."""
    ledger, store, drop, parsed = engine.ledger, engine.store, undoing.drop, undoing.parsed
    batch = ledger.next_batch
    with phase("decide"):
        again = undoing.undo.is_revert
        decision, entries = decided(ledger, parsed, engine.background) if again else _withdrawn(engine, undoing)
        index = engine.write_index(entries)
    with waited_for(index):
        with phase("rewrite"):
            made = _dimension(engine, batch, undoing)
            rewritten = rewrite(engine, batch, decision, [drop], {})
        with phase("stage"):
            discards = _discards(engine, batch, undoing)
            store.sync_staged(batch)
        with phase("commit"):
            days = [one.day for one in rewritten]
            before = Before(batch, ledger.hwm, ledger.restatements_bytes, ledger.partitions(days), ledger.gone(days))
            removed = [undoing.dimension] if undoing.dimension and not made else []
            gone = [Effect("remove", f"curated/{DIMENSIONS[name].file}") for name in removed]
            effects = [*gone, *discards, *_link(engine, undoing)]
            commit = rewriting_of(
                undoing.undo.at, before, decision, rewritten, made, effects, index.result(), undoing.undo
            )
            commit = replace(
                _with_keys(engine, undoing, commit),
                dimensions_removed=removed,
                totals={} if undoing.undo.is_revert else {(drop.context.source, WITHDRAWALS): 1},
                newest=decision.newest if undoing.undo.is_revert else {},
                hwm=_hwm(engine, undoing, decision),
            )
    files_written = [one.file for one in made]
    return Prepared(batch, commit, written(rewritten, before.gone), files_written, waiting(ledger, decision))


def _withdrawn(engine: Engine, undoing: Undoing) -> tuple[Decided, np.ndarray]:
    """The decision on the orders of a withdrawn drop, and their new entries in the index."""
    left, rows = latest(undoing.parsed.orders)
    new = reinstate(undoing.withdrawn, left)
    leaves = (new.decision.outcome == Outcome.DELETED) & (new.source < 0)
    orders = concat_orders([undoing.parsed.orders, _named(engine, undoing.withdrawn[leaves])])
    row = np.zeros(len(new.entries), np.int64)
    row[new.source >= 0] = rows[new.source[new.source >= 0]]
    row[leaves] = undoing.parsed.orders.num_rows + np.arange(np.count_nonzero(leaves))
    return by_date(accepted_of(orders), new.entries, row, new.decision, None), new.entries


def _named(engine: Engine, leaving: np.ndarray) -> pa.Table:
    """ORDERS with the ids of these published orders, in order, and nothing else that counts. The ids are in the partitions: the
    index has only their hashes, and the raw copy of the drop may be damaged. Those on dates that are set aside have none."""
    days = np.unique(leaving["date"]).tolist()
    partitions, aside = engine.ledger.partitions(days), days_of(engine.ledger.set_aside().values())
    ids: dict[bytes, str] = {}
    damaged = []
    for day in days:
        if day in aside:  # it is not rewritten, so nobody needs them
            ids.update(dict.fromkeys(_keys(leaving[leaving["date"] == day]), ""))
            continue
        fact = engine.store.read_fact(day, partitions[day].fact_sha256)
        if fact is None:
            damaged.append(day)
            continue
        order_ids = fact.filter(pc.less_equal(fact["line_number"], 1))["order_id"].cast(pa.large_string())
        wanted = set(_keys(leaving[leaving["date"] == day]))
        ids.update(
            (key, id) for key, id in zip(keys_of(order_ids), order_ids.to_pylist(), strict=True) if key in wanted
        )
    if damaged:
        raise Damaged(damaged)
    found = [ids.get(key) for key in _keys(leaving)]
    if None in found:
        day = iso_date(leaving["date"][found.index(None)])
        raise Corruption(
            f"could not withdraw the drop: the ledger has an order of it on {day}, but the partition does not; nothing was "
            "changed. Rebuild the ledger and the partitions with `strandline rebuild`"
        )
    given: dict[str, Any] = {"order_id": found, "created_at": [DELETED_AT] * len(found)}
    empty = {"key": bytes(16), "content": bytes(16), "drop": 0, "position": 0, "items": []}
    columns = [given.get(field.name) or [empty.get(field.name)] * len(found) for field in ORDERS]
    return pa.table([pa.array(v, f.type) for v, f in zip(columns, ORDERS, strict=True)], schema=ORDERS)


def _keys(entries: np.ndarray) -> list[bytes]:
    """The 128-bit keys of entries, in order."""
    pairs = np.stack([entries["hi"], entries["lo"]], axis=1).astype("<u8").tobytes()
    return [pairs[start : start + 16] for start in range(0, len(pairs), 16)]


def _dimension(engine: Engine, batch: int, undoing: Undoing) -> list[DimensionChange]:
    """The dimension of the drop, made of all the drops that are applied then. None where there is no such drop."""
    if undoing.dimension is None:
        return []
    newest = max(undoing.newest, undoing.drop.seq if undoing.undo.is_revert else 0)
    if not newest:
        return []
    dimension = DIMENSIONS[undoing.dimension]
    return [dimensions.stage_anew(engine.store, batch, dimension, undoing.seed, undoing.parsed.rows, newest)]


def _discards(engine: Engine, batch: int, undoing: Undoing) -> list[Effect]:
    if undoing.drop.seq <= engine.ledger.horizon(OF_DISCARDS):  # they have gone by age
        return []
    if undoing.undo.is_revert:
        return stage_discards(engine, batch, [undoing.drop], undoing.parsed.discards)
    has_some = undoing.result.counts.discarded.total() > 0
    return [Effect("remove", discards_path(undoing.drop))] if has_some else []


def _link(engine: Engine, undoing: Undoing) -> list[Effect]:
    """Lets the link point to the newest drop of orders that is applied then."""
    if raw.kind_of(undoing.drop.name) != raw.ORDERS:
        return []
    gone = engine.ledger.horizon(RAW)
    later: Iterable[Drop] = takewhile(lambda one: one.seq > gone, engine.ledger.applied_newest_first())
    others = (one for one in later if one.seq != undoing.drop.seq)
    newest = next((one for one in others if _may_be_linked(engine, one)), None)
    if undoing.undo.is_revert and _may_be_linked(engine, undoing.drop):
        newest = max([undoing.drop, *([newest] if newest else [])], key=lambda drop: drop.seq)
    if newest is None:
        return [Effect("remove", raw.LINK)]
    return [Effect("link", raw.LINK, text=raw.link_text(newest.raw or ""))]


def _may_be_linked(engine: Engine, drop: Drop) -> bool:
    return raw.may_be_linked(engine.output / (drop.raw or ""), drop.name)


def _hwm(engine: Engine, undoing: Undoing, decision: Decided) -> int | None:
    """The high-water mark after the undo."""
    own = decision.newest.values() if undoing.undo.is_revert else ()
    others = engine.ledger.newest_besides(undoing.drop.seq)
    return max([*own, *([] if others is None else [others])], default=None)


def _with_keys(engine: Engine, undoing: Undoing, commit: Commit) -> Commit:
    """Forgets what the known keys of the source owe to a withdrawn drop: the next drop with such a key is told of again. A drop
    that is applied again brings its keys again, and nothing is told."""
    drop = undoing.drop
    known = {(one.source, one.is_read, one.key): one for one in engine.ledger.record_keys({drop.context.source})}
    if undoing.undo.is_revert:
        after = dict(known)
        drifts(after, seen_keys([drop], undoing.parsed, ()))
    else:
        left = {place: one for place, one in known.items() if one.first_drop != drop.seq}
        after = {
            place: replace(one, missing_since=None, told=False) if one.missing_since == drop.seq else one
            for place, one in left.items()
        }
    keys, forgotten = changes(known, after)
    return replace(commit, keys=keys, forgotten=forgotten)
