"""Rebuilds the ledger, the index and every partition from raw. Nothing that is published is missing at any moment.

All applied drops are read again in order of arrival, each under its original parse context, but all with the extra columns of
today's configuration, into a second ledger and a second curated layer in the staging folder. Then one rename replaces the ledger.
The new ledger has, as committed effects, the files that differ from what is published, and they are published like those of any
batch. A crash before the rename changes nothing; after it, the next start finishes.

Where raw copies have gone by age, the replay begins with the published orders that came from them: see seeds.py.

If the ledger is lost or damaged, the history comes from the receipts; not where raw copies have gone. Raw copies that are in
neither the ledger nor a receipt are entered in the new ledger before the rename and applied afterwards, so that no crash loses
them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import date
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..batch.commit import RESTATEMENTS, totals_of
from ..batch.engine import Engine
from ..batch.phases import Phases
from ..batch.prepare import prepare
from ..batch.publish import publish
from ..batch.repair import read_all, read_groups
from ..core.columns import together
from ..core.entries import Commit, Counts, Drop, DropResult, Effect, Undo
from ..core.errors import UsageError
from ..core.mapping import DEFAULT_SOURCE, FieldMapping
from ..core.model import DIMENSIONS, Contexts, DropOutcome, ParseContext
from ..core.parse.advice import for_source
from ..core.parse.naming import NOBODY, Ids
from ..core.parse.values import read_instant
from ..storage import ages, files, raw
from ..storage.adoption import adopt, unknown
from ..storage.ages import RAW
from ..storage.ledger import Ledger
from ..storage.receipts import discards_path, receipt_name
from ..storage.store import FACT_FILE, ITEMS_FILE, Store, folder_name
from . import seeds

SCRATCH = "rebuild"  # in the staging folder


def prepare_rebuild(engine: Engine, now: int, contexts: Contexts) -> Path:
    """Builds a ledger and a curated layer in the staging folder from all drops of the history. Returns the path of the ledger,
    ready to replace `engine.ledger`. It also has the raw copies without history: the next start applies them, parsed under
    `contexts`. Raises Corruption if the raw copy of an applied drop is not what was archived; UsageError, before anything is
    changed, if raw copies without history are of a source that is not configured, or if all that is published would be lost;
    and EnvironmentFault, if the ledger is lost and raw copies have gone by age."""
    scratch = engine.store.staging / SCRATCH
    replaced: list[Effect] = []

    def keep(discards: Sequence[Effect]) -> None:
        replaced.extend(replace_discards(engine.output, scratch, discards))

    with replaying(engine, scratch, now, keep, contexts=contexts) as (ledger, first, restatements):
        adopt(ledger, engine.raw, engine.output, contexts, everywhere=True)
        if not ledger.drop_count(DropOutcome.APPLIED):
            _refuse_nothing(engine, ledger.uncommitted())
        log = engine.output / RESTATEMENTS
        # The log may be shorter than what was committed: lost bytes cannot be restored.
        kept_bytes = min(log.stat().st_size if log.exists() else 0, ledger.restatements_bytes)
        effects = [*differences(engine, ledger, scratch), *replaced, *_link(engine.output, ledger)]
        ledger.end_replay(first, now, effects, restatements, kept_bytes)
        return ledger.path


def replay(
    engine: Engine,
    scratch: Path,
    now: int,
    discards: Callable[[Sequence[Effect]], None],
    records: Callable[[pa.Table], None],
) -> Path:
    """Applies all drops of the history again under `scratch`, for a comparison. Returns the path of the resulting ledger.
    After each group of drops, `discards` is called with its staged files of discards, and `records` with its VERSIONS."""
    with replaying(engine, scratch, now, discards, records) as (ledger, _, _):
        return ledger.path


@contextmanager
def replaying(
    engine: Engine,
    scratch: Path,
    now: int,
    discards: Callable[[Sequence[Effect]], None],
    records: Callable[[pa.Table], None] = lambda versions: None,
    contexts: Contexts | None = None,
    began: Callable[[Ledger], None] = lambda ledger: None,
    without: Ids = NOBODY,
) -> Iterator[tuple[Ledger, int, Mapping[int, int]]]:
    """The ledger of a replay, the number of its first batch after the history, and how often each date was restated. `contexts`:
    from now on, all drops are read with the extra columns of these. `began`: called with the ledger once it has the history.
    `without`: what is erased of published rows whose raw copies have gone."""
    store = Store(scratch)
    for folder in (store.curated, store.staging):
        files.make_folder(folder)
    with closing(Ledger(scratch / "ledger.sqlite")) as ledger:
        restatements = _copy_history(engine, ledger, now)
        if contexts is not None:
            _refuse_unconfigured(engine, ledger, contexts)
            ledger.remap(partial(_with_columns, contexts))
        began(ledger)
        first, gone = ledger.next_batch, ledger.horizon(RAW)
        seeds.plant(engine, ledger, store, without)
        if contexts is not None:
            seeds.refuse_retyped(ledger, contexts)
        reader = replace(engine.reader.without_limits(), blocks=ledger.blocks())
        inner = replace(engine, output=scratch, ledger=ledger, store=store, reader=reader, dry=False)
        total, done = ledger.drop_count(DropOutcome.APPLIED, gone), 0
        for group in read_groups(ledger.applied_drops(gone)):
            _apply(inner, group, discards, records)
            done += len(group)
            engine.progress("replaying drops", done, total)
        yield ledger, first, restatements


def _with_columns(contexts: Contexts, source: str, mapping: FieldMapping) -> FieldMapping:
    """The mapping of a drop with today's extra columns. A source that is not configured any more keeps the paths that it had."""
    if source in contexts:
        return replace(mapping, columns=contexts[source].mapping.columns)
    paths = {name: paths for name, _, paths in mapping.columns}
    today = together(context.mapping.extra_columns for context in contexts.values())
    return replace(mapping, columns=tuple((name, kind, paths.get(name, (name,))) for name, kind in today))


def _refuse_unconfigured(engine: Engine, ledger: Ledger, contexts: Contexts) -> None:
    """Raises UsageError for raw copies of which neither the history nor the configuration says how to read them."""
    copies = Counter(
        copy.source for copy in unknown(ledger, engine.raw, everywhere=True) if copy.source not in contexts
    )
    if copies:
        count = ", ".join(f"{source} ({number:,})" for source, number in sorted(copies.items()))
        sections = ", ".join(f"[sources.{source}]" for source in sorted(copies))
        raise UsageError(
            f"cannot rebuild: raw/ has drops of sources that are not configured, and the history does not have them: {count}. "
            f"Nothing was changed. Add {sections} to the configuration, as it was when these drops arrived; or move "
            "raw/source=NAME out of the output to do without them"
        )


def _refuse_nothing(engine: Engine, drops: Sequence[Drop]) -> None:
    """Raises UsageError if partitions are published, and none of these drops, which are all that there is, can be read. All that
    is published would be removed."""
    if not any(engine.store.curated.glob(f"date=*/{FACT_FILE}")):
        return
    reason = ""
    for group in read_groups(drops):
        parsed = engine.reader.read(group, engine.stopped)
        if parsed.orders.num_rows:
            return
        contexts = {drop.seq: drop.context for drop in group}
        reasons = (for_source(why, contexts[seq]) for seq, why in sorted(parsed.unreadable.items()))
        reason = reason or next(reasons, "")
    why = (
        f"none of the {len(drops):,} drops in raw/ gives an order under this configuration"
        if drops
        else "raw/ has no drops"
    )
    raise UsageError(
        f"cannot rebuild: the history is lost, and {why}; what is published would be removed. Nothing was changed. "
        + (f"The first reason: {reason}. " if reason else "")
        + "Set each source as it was when the drops arrived, or restore raw/ or receipts/; to begin anew, remove curated/"
    )


def take_over(engine: Engine, path: Path) -> None:
    """Replaces the engine's ledger, which it closes, with the one from `prepare_rebuild`."""
    engine.guard.check()
    engine.ledger.retire()
    files.move(path, engine.ledger.path)
    files.sync(engine.ledger.path.parent)


def _copy_history(engine: Engine, ledger: Ledger, now: int) -> Mapping[int, int]:
    """Copies the history into a new ledger, from the old one or from the receipts. Returns how often each date was restated."""
    if engine.ledger.last_seq or engine.ledger.blocks():
        engine.guard.check()  # the history is read by path
        ledger.copy_history(engine.ledger.path)
        return engine.ledger.restatements()
    ages.refuse_without_ledger(engine.output, engine.ledger.path)
    by_number: dict[int, DropResult] = {}
    for result in history_from_receipts(engine.output):
        known = by_number.get(result.drop.seq)
        # A number may have been given twice, before and after a restore.
        if known is None or not _has_copy(engine.output, known):
            by_number[result.drop.seq] = result
    results = list(by_number.values())
    ledger.enter([result.drop for result in results])
    path = engine.output / RESTATEMENTS
    size = path.stat().st_size if path.exists() else 0
    ledger.commit(Commit(now, results, None, [], [], [], totals_of(results), None, [], size))
    ledger.enter_undos([undo for result in results for undo in result.undos])
    ledger.published(ledger.unpublished_batch() or 0)
    ledger.take_from_aside(engine.ledger.path)
    return _restatements(path)


def _has_copy(output: Path, result: DropResult) -> bool:
    return not result.keeps_raw or (output / (result.drop.raw or "")).is_file()


def _apply(
    scratch: Engine,
    drops: Sequence[Drop],
    discards: Callable[[Sequence[Effect]], None],
    records: Callable[[pa.Table], None],
) -> None:
    """Applies a batch as pipeline.py does, and publishes it in the scratch folder. The outcomes of its drops are left out: the
    history has them."""
    parsed = read_all(scratch.reader, drops)
    records(parsed.versions)
    ledger = scratch.ledger
    change = prepare(scratch, drops, parsed, 0, Phases()).commit
    kept = {discards_path(drop) for drop in drops if drop.seq > ledger.horizon(ages.DISCARDS)}
    discards([effect for effect in change.effects if effect.target in kept])
    curated = [effect for effect in change.effects if effect.target.startswith("curated/")]
    kept_bytes = ledger.restatements_bytes
    ledger.commit(replace(change, results=[], totals={}, effects=curated, restatements_bytes=kept_bytes))
    publish(scratch.output, curated)
    ledger.published(ledger.unpublished_batch() or 0)
    scratch.store.clean_staging()


# --------------------------------------------------------------------------------------------- effects of the rebuild


def differences(engine: Engine, ledger: Ledger, scratch: Path) -> list[Effect]:
    """The effects that turn the published layer into the one under `scratch`. Files are placed before others are removed."""
    source = str((scratch / "curated").relative_to(engine.output))
    targets: dict[str, bytes] = {DIMENSIONS[name].file: file.sha256 for name, file in ledger.dimensions().items()}
    for day, one in ledger.partitions().items():
        targets[f"{folder_name(day)}/{FACT_FILE}"] = one.fact_sha256
        targets[f"{folder_name(day)}/{ITEMS_FILE}"] = one.items_sha256
    curated = engine.output / "curated"
    ours = [curated / one.file for one in DIMENSIONS.values()]
    ours += [folder / name for folder in sorted(curated.glob("date=*")) for name in (FACT_FILE, ITEMS_FILE)]
    found = {str(path.relative_to(curated)): files.sha256_if_readable(path) for path in ours}  # empty: cannot be read
    stale = [name for name, sha256 in found.items() if sha256 is not None and name not in targets]
    return [
        *(
            Effect("place", f"curated/{name}", f"{source}/{name}", sha256)
            for name, sha256 in targets.items() if found.get(name) != sha256
        ),
        *(Effect("remove", f"curated/{name}") for name in stale),
    ]  # fmt: skip


def replace_discards(output: Path, scratch: Path, discards: Sequence[Effect]) -> list[Effect]:
    """The effects that replace published files of discards that differ from these. Moves the new files out of staging, which is
    emptied after each group of drops."""
    effects = []
    for one in discards:
        if files.sha256_of(output / one.target) != one.sha256:
            files.make_folder((scratch / one.target).parent)
            files.move(scratch / (one.source or ""), scratch / one.target)
            source = str((scratch / one.target).relative_to(output))
            effects.append(Effect("place", one.target, source, one.sha256))
    files.sync_many({(output / (one.source or "")).parent for one in effects})
    return effects


def _link(output: Path, ledger: Ledger) -> list[Effect]:
    """The effect that links to the newest orders drop of the history."""
    newest = newest_orders(output, ledger)
    return [] if newest is None else [Effect("link", raw.LINK, text=raw.link_text(newest.raw or ""))]


def newest_orders(output: Path, ledger: Ledger) -> Drop | None:
    """The applied drop that raw/orders_raw.json must point to; None where its raw copy has gone by age."""
    gone = ledger.horizon(RAW)
    found = takewhile(lambda drop: drop.seq > gone, ledger.applied_newest_first())
    return next((drop for drop in found if raw.may_be_linked(output / (drop.raw or ""), drop.name)), None)


# ------------------------------------------------------------------------------------- history without a ledger


def history_from_receipts(output: Path) -> Iterator[DropResult]:
    """The result of each drop, from the receipts. Skips a receipt that cannot be read: its raw copy is then applied as a new
    drop. Also skips one that is not at the path of its drop's receipt: it may be a copy that somebody made."""
    for path in sorted(output.glob("receipts/received=*/*.json")):
        try:
            result = _result(json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if path == output / receipt_name(result.drop):
            yield result


def _result(receipt: dict[str, Any]) -> DropResult:
    parsed_with = receipt.get("parsed_with") or receipt["judged_by"]  # the name in receipts of version 0.1
    context = ParseContext(
        _instant(receipt["received_at"]), int(parsed_with["future_tolerance_microseconds"]), str(parsed_with["records_path"]),
        None if parsed_with["since"] is None else _instant(parsed_with["since"]),
        source=str(receipt.get("source", DEFAULT_SOURCE)), mapping=FieldMapping.from_dict(parsed_with.get("mapping")),
    )  # fmt: skip
    outcome = DropOutcome(receipt["outcome"])
    drop = Drop(
        int(receipt["drop"]), str(receipt["name"]), receipt["raw"], bytes.fromhex(receipt["sha256"]),
        int(receipt["bytes"]), context, receipt["duplicate_of"],
    )  # fmt: skip
    bare = receipt.get("without_amount_and_price", {"orders": 0, "other_keys": []})
    counts = Counts.from_dict(
        receipt["records"]
        | {"late": receipt["late"], "faults": receipt["field_faults"], "unknown": receipt["unknown_keys"]}
        | {"bare": bare["orders"], "bare_keys": bare["other_keys"]}
    )
    undos = tuple(
        Undo(drop.seq, _instant(one["at"]), str(one["by"]), str(one["reason"]), bool(one["is_revert"]))
        for one in receipt.get("undos", ())  # none before there was an undo
    )
    keeps_raw = receipt["raw"] is not None
    return DropResult(drop, outcome, counts, receipt["reason"], receipt["duplicate_of"], keeps_raw, undos=undos)


def _instant(text: str) -> int:
    value = read_instant(text)
    if not isinstance(value, int):
        raise ValueError(text)
    return value


def _restatements(log: Path) -> dict[int, int]:
    """How often each date was restated, from restatements.jsonl."""
    counts: Counter[int] = Counter()
    for line in log.read_bytes().splitlines() if log.exists() else []:
        try:
            counts[(date.fromisoformat(json.loads(line)["date"]) - date(1970, 1, 1)).days] += 1
        except (ValueError, KeyError, TypeError):
            continue
    return counts
