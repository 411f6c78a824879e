"""The part of `verify` that compares the files of the output folder with the ledger: raw copies, quarantine, discards, receipts,
published files, the log of restatements, the link. Also checks that the counts in the ledger are consistent."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

from ..batch.commit import RESTATEMENTS, totals_of
from ..batch.engine import Engine
from ..batch.published import published_files
from ..core.entries import REASON, Drop
from ..core.mapping import DEFAULT_SOURCE
from ..core.model import DropOutcome
from ..core.parse.discards import of_line
from ..storage import ages, files, raw, receipts
from ..storage.adoption import drop_without_copy, kept_as
from ..storage.ledger import Ledger
from ..storage.raw import Stored
from ..storage.set_aside import SetAside
from .difference import Difference
from .rebuild import newest_orders

_RECHECKS = 20  # while a daemon is publishing
_RECHECK_SECONDS = 0.5
REBUILD = "`strandline rebuild` writes it again"
_QUARANTINED = re.compile("([0-9]{1,18})_([0-9a-f]{12})_.*", re.DOTALL)

Fresh = Callable[[], Ledger]


def check_counts(ledger: Ledger) -> Iterator[Difference]:
    totals: Counter[tuple[str, str]] = Counter()
    for result in ledger.all_results():
        one = result.counts
        applied = one.superseded + one.unchanged + one.new + one.corrected + one.deleted
        ended = sum(one.discarded.values()) + one.before_since + applied
        if one.extracted != ended:
            yield Difference(
                "conservation", f"drop {result.drop.seq}", f"{one.extracted} records extracted, but {ended} counted"
            )
        totals += totals_of([result])
    committed = ledger.totals_by_source()
    for key in sorted(totals.keys() | committed.keys()):
        if totals[key] != committed[key]:
            what = f"the total {key[1]} of source {key[0]}"
            yield Difference("conservation", what, f"{committed[key]}, but the drops add up to {totals[key]}")


def check_raw(engine: Engine) -> Iterator[Difference]:
    gone = engine.ledger.horizon(ages.RAW)
    total = engine.ledger.drop_count(DropOutcome.APPLIED, gone)
    for number, drop in enumerate(engine.ledger.applied_drops(gone), 1):
        found = files.sha256_if_readable(engine.output / (drop.raw or ""))
        if found != drop.sha256:
            yield Difference("raw", drop.raw or f"drop {drop.seq}", f"{_damage(found)}; restore it from a backup")
        engine.progress("checking raw", number, total)


def _damage(found: bytes | None) -> str:
    """What is wrong with a copy, of which `files.sha256_if_readable` says this."""
    return {None: "missing", b"": "cannot be read"}.get(found, "not the bytes that arrived")


def _waiting_copies(engine: Engine, ledger: Ledger) -> list[Difference]:
    """Raw copies of drops that are archived and not applied: without them, they wait."""
    found = []
    for drop in ledger.uncommitted():
        sha256 = drop.sha256 if drop.raw is None else files.sha256_if_readable(engine.output / drop.raw)
        if sha256 != drop.sha256:
            why = f"{_damage(sha256)}, so that drop {drop.seq} is not applied"
            found.append(
                Difference("raw", drop.raw or "", f"{why}; restore it from a backup, or drop the same file again")
            )
    return found


def check_withdrawn(engine: Engine) -> Iterator[Difference]:
    """The raw copy of a withdrawn drop is not needed. It may be missing; one that is there must have the bytes that arrived."""
    for one in engine.ledger.withdrawn():
        found = files.sha256_if_readable(engine.output / (one.drop.raw or ""))
        if found not in (None, one.drop.sha256):
            why = f"{_damage(found)}, so that the drop cannot be applied again; restore it from a backup, or remove it"
            yield Difference("raw", one.drop.raw or f"drop {one.drop.seq}", why)


def check_quarantine(engine: Engine) -> Iterator[Difference]:
    """Copies that were removed or retried are not missed. The name of a copy has the beginning of its hash, the ledger all of
    it."""
    for copy in sorted(engine.output.glob("quarantine/[0-9]*")):
        name = _QUARANTINED.fullmatch(copy.name)
        if name is None or copy.name.endswith(REASON) or not copy.is_file():
            continue
        drop, short = engine.ledger.drop(int(name[1])), name[2]
        expected = drop.sha256.hex() if drop and drop.sha256.hex().startswith(short) else short
        found = files.sha256_of(copy)
        if found is not None and not found.hex().startswith(expected):
            yield Difference(
                "quarantine",
                f"quarantine/{copy.name}",
                "not the bytes that arrived; restore it from a backup, or move it away",
            )


def check_discards(engine: Engine) -> Iterator[Difference]:
    """Compares the number of discards for each reason. The replay compares their content."""
    total = engine.ledger.drop_count(after=engine.ledger.horizon(ages.DISCARDS))
    for number, result in enumerate(engine.ledger.all_results(engine.ledger.horizon(ages.DISCARDS)), 1):
        engine.progress("checking discards", number, total)
        path = receipts.discards_path(result.drop)
        counted = {} if result.outcome is DropOutcome.WITHDRAWN else result.counts.discarded
        expected = {reason: number for reason, number in counted.items() if number}
        found = _reasons(engine.output / path)
        if found != expected:
            advice = REBUILD if expected else "remove it"
            yield Difference(
                "discards", path, f"holds {_shown(found)}, but {_shown(expected)} were discarded; {advice}"
            )


def check_records(engine: Engine, fresh: Fresh) -> Iterator[Difference]:
    """Receipts, copies of drops that wait, files of no known drop, the log of restatements, the link."""
    for wrong in (_wrong_receipts, _waiting_copies, _unknown_copies, _unknown_records, _log, _link):
        yield from _confirmed(engine, fresh, partial(wrong, engine))


def _wrong_receipts(engine: Engine, ledger: Ledger) -> list[Difference]:
    found = []
    total = ledger.drop_count(after=ledger.horizon(ages.RECEIPTS))
    for number, result in enumerate(ledger.all_results(ledger.horizon(ages.RECEIPTS)), 1):
        engine.progress("checking receipts", number, total)
        what = receipts.receipt_name(result.drop)
        try:
            if (engine.output / what).read_bytes() != receipts.receipt(result):
                found.append(Difference("receipts", what, f"does not say what the ledger says; {REBUILD}"))
        except FileNotFoundError:
            found.append(Difference("receipts", what, f"missing; {REBUILD}"))
    return found


def _reasons(path: Path) -> dict[str, int]:
    """How many records a file of discards holds, by reason."""
    reasons: Counter[str] = Counter()
    try:
        with open(path, "rb") as lines:
            for line in lines:
                one = of_line(line)
                reasons["(damaged)" if one is None else str(one.reason)] += 1
    except FileNotFoundError:
        pass
    return dict(reasons)


def _shown(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {reason}" for reason, number in sorted(counts.items())) or "nothing"


def _expected(ledger: Ledger) -> dict[str, bytes]:
    """The SHA-256 of every curated file."""
    return {name: one.sha256 for name, one in published_files(ledger).items()}


def check_curated(engine: Engine, fresh: Fresh) -> Iterator[Difference]:
    curated, expected = engine.store.curated, _expected(engine.ledger)
    there = {str(path.relative_to(curated)) for path in curated.rglob("*") if path.is_file()}
    names = sorted(expected.keys() | there)
    doubtful = []
    for number, name in enumerate(names, 1):
        if files.sha256_if_readable(curated / name) != expected.get(name):
            doubtful.append(name)
        engine.progress("checking curated", number, len(names))

    def wrong(ledger: Ledger) -> list[Difference]:
        nonlocal doubtful
        expected, aside = _expected(ledger), ledger.set_aside()
        doubtful = [name for name in doubtful if files.sha256_if_readable(curated / name) != expected.get(name)]
        return [
            Difference("curated", f"curated/{name}", _what_is_wrong(curated / name, expected.get(name), aside))
            for name in doubtful
        ]

    yield from _confirmed(engine, fresh, wrong)


def _confirmed(engine: Engine, fresh: Fresh, wrong: Callable[[Ledger], list[Difference]]) -> list[Difference]:
    """The differences from the copy of the ledger that are also differences from the current ledger. A daemon may be running, so
    the check is repeated until no difference is left or the ledger did not change meanwhile."""
    found = wrong(engine.ledger)
    for _ in range(_RECHECKS if found else 0):
        with closing(fresh()) as ledger:
            before, still = _progress(ledger), {one.what: one for one in wrong(ledger)}
        found = [still[one.what] for one in found if one.what in still]
        with closing(fresh()) as ledger:
            if not found or (_progress(ledger) == before and _is_idle(engine, ledger)):
                break
        time.sleep(_RECHECK_SECONDS)
    return found


def _progress(ledger: Ledger) -> tuple[int, int]:
    return ledger.next_batch, ledger.last_seq


def _is_idle(engine: Engine, ledger: Ledger) -> bool:
    """Whether no batch is being published, and no raw copy is about to be entered in the ledger."""
    newest = max((copy.seq for copy in engine.raw.stored()), default=0)
    return ledger.unpublished_batch() is None and newest <= ledger.last_seq


def _what_is_wrong(path: Path, expected: bytes | None, aside: Mapping[str, SetAside]) -> str:
    if expected is None:
        return "it was never committed"
    day = path.parent.name.removeprefix("date=")
    command = f"`strandline rebuild {day}`" if day != path.parent.name else "`strandline rebuild`"
    what = {None: "missing", b"": "cannot be read"}.get(files.sha256_if_readable(path), "not what was committed")
    if (found := aside.get(day) or aside.get(path.name)) is not None:
        return f"{what}, and set aside: {found.reason}"
    return f"{what}; {command} rebuilds it"


def _unknown_copies(engine: Engine, ledger: Ledger) -> list[Difference]:
    """Raw copies that the ledger does not have under this path."""
    found = []
    for copy in engine.raw.stored():
        drop = ledger.drop(copy.seq)
        if (drop is None or drop.raw != copy.path) and (engine.output / copy.path).exists():
            found.append(Difference("raw", copy.path, _what_is_unknown(engine.output, ledger, copy, drop)))
    return found


def _what_is_unknown(output: Path, ledger: Ledger, copy: Stored, drop: Drop | None) -> str:
    """What is wrong, and what to do. Advises to remove a copy only if its bytes are kept elsewhere."""
    sha256 = files.sha256_of(output / copy.path)
    if sha256 is None or not sha256.startswith(copy.sha256):
        return (
            "its content does not match the hash in its name, so it is not adopted; put the whole file in its place, "
            "or move it out of raw/"
        )
    if kept := kept_as(ledger, output, sha256, besides=copy.path):
        return f"the same bytes are kept as {kept}; this copy may be removed"
    if owner := drop_without_copy(ledger, output, sha256):
        return f"it has the bytes of drop {owner.seq}, whose own copy is missing or damaged; move it to {owner.raw}"
    if drop is None:
        configured = "" if copy.source == DEFAULT_SOURCE else f", if [sources.{copy.source}] is configured"
        return f"the ledger does not know it, and it was never applied; `strandline rebuild` adopts it{configured}"
    return f"its number is that of another drop ({drop.name}); `strandline rebuild` adopts it under a free number"


def _unknown_records(engine: Engine, ledger: Ledger) -> list[Difference]:
    """Receipts and discards of drops that the ledger does not know."""
    found = []
    for folder, suffix in (("receipts", "json"), ("discarded", "jsonl")):
        for path in engine.output.glob(f"{folder}/received=*/*.{suffix}"):
            what = str(path.relative_to(engine.output))
            number = re.match("[0-9]{1,18}", path.name)
            drop = ledger.drop(int(number[0])) if number else None
            if drop is None or what not in (receipts.discards_path(drop), receipts.receipt_name(drop)):
                advice = f"it belongs to no known drop; move it out of {folder}/"
                found.append(Difference(folder.replace("discarded", "discards"), what, advice))
    return found


def _log(engine: Engine, ledger: Ledger) -> list[Difference]:
    path = engine.output / RESTATEMENTS
    found, expected = path.stat().st_size if path.exists() else 0, ledger.restatements_bytes
    if found == expected:
        return []
    advice = (
        "restore it from a backup, or run `strandline rebuild` to continue with what is left"
        if found < expected
        else "the rest was never committed, and the next restatement overwrites it; cut it off"
    )
    return [Difference("restatements", RESTATEMENTS, f"{found:,} bytes, but {expected:,} were committed; {advice}")]


def _link(engine: Engine, ledger: Ledger) -> list[Difference]:
    newest = newest_orders(engine.output, ledger)
    expected = None if newest is None else raw.link_text(newest.raw or "")
    try:
        found = str((engine.output / raw.LINK).readlink())
    except OSError:  # missing, or not a link
        found = None
    if found == expected:
        return []
    return [Difference("raw", raw.LINK, f"points to {found or 'nothing'}, not to {expected or 'nothing'}; {REBUILD}")]
