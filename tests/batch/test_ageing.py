"""The pass that removes what is old: what goes, what stays, and what a crash or an error leaves."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from daemon.batch import ageing
from daemon.batch.ageing import Aged, Ageing, one_pass
from daemon.batch.engine import Engine
from daemon.batch.pipeline import publish_committed
from daemon.batch.recovery import recover
from daemon.core.model import MICROSECONDS_PER_DAY as DAY_US
from daemon.core.model import DropOutcome
from daemon.service import Service
from daemon.sources.inbox import Inbox
from daemon.sources.inboxes import Inboxes
from daemon.sources.source_folder import SourceFolder
from daemon.storage import ages, files
from daemon.storage.ledger import Ledger
from tests.support.command import as_drop, differences, order, strandline
from tests.support.crash import TERMS, Crash, World
from tests.support.harness import apply_batch, open_engine, tree

NOW = time.time_ns() // 1000
OLD, RECENT = NOW - 500 * DAY_US, NOW - 10 * DAY_US
KEEP = 400
EVERYTHING = dict.fromkeys(ages.KINDS, KEEP)


def aged(engine: Engine, keep_days: Mapping[str, int] = EVERYTHING, now: int = NOW) -> dict[str, Aged]:
    """One whole pass; what it told, by kind."""
    told: list[Aged] = []
    for _ in one_pass(engine, {kind: days * DAY_US for kind, days in keep_days.items()}, now, told.append):
        pass
    return {one.kind: one for one in told}


def history(root: Path) -> None:
    """Three batches of long ago and one of these days, with discards, a drop in quarantine and two restatements."""
    corrected = {"amount": 9, "updated_at": "2026-03-05T10:00:00Z"}
    with open_engine(root) as engine:
        first = [("a.json", as_drop([order(1), order(2, 3), {"order_id": 1}])), ("broken.json", b"<html>")]
        apply_batch(engine, root, first, OLD, tolerance=10_000 * DAY_US)
        users = ("users.csv", b"user_id,email\nu_1,a@example.com\n")
        apply_batch(
            engine, root, [("b.json", as_drop([order(1, **corrected)])), users], OLD + 1, tolerance=10_000 * DAY_US
        )
        recent = [("c.json", as_drop([order(2, 4, updated_at="2026-03-06T10:00:00Z"), {"order_id": 2}]))]
        apply_batch(engine, root, recent, RECENT, tolerance=10_000 * DAY_US)
        with engine.ledger.transaction():  # batches are of the time of their drops here
            engine.ledger._sql.execute("UPDATE batches SET committed_at = ? WHERE batch <= 2", (OLD,))


def copies(output: Path, kind: str) -> list[str]:
    """The drops that have copies of a kind, by number."""
    folder = {"discards": "discarded"}.get(kind, kind)
    found = (path for path in (output / folder).rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(
        {path.name.lstrip("0").partition("_")[0].partition(".")[0] for path in found if path.name != "aged.json"}
    )


def test_what_is_old_goes_and_the_rest_stays(tmp_path: Path) -> None:
    """Of each kind the copies of the old drops, with their folders; what is published stays, and `verify` finds nothing."""
    history(tmp_path)
    output = tmp_path / "output"
    published = tree(output / "curated")
    with open_engine(tmp_path) as engine:
        told = aged(engine)
        assert {kind: one.files for kind, one in told.items()} == {
            "raw": 3, "receipts": 4, "discards": 1, "quarantine": 2, "restatements": 0,
        }  # fmt: skip
        assert all(one.bytes > 0 and not one.left for one in told.values())
        assert [copies(output, kind) for kind in ages.OF_DROPS] == [["5"], ["5"], ["5"], []]
        assert sorted(path.name for path in (output / "raw").iterdir() if path.is_dir()) == [
            f"received={time.strftime('%Y-%m-%d', time.gmtime(RECENT / 1e6))}"
        ]
        assert json.loads((output / "raw" / "aged.json").read_text())["raw_copies_gone_through_drop"] == 4
        log = [json.loads(line)["cause"]["batch"] for line in (output / "restatements.jsonl").read_text().splitlines()]
        assert log == [3] and engine.ledger.horizon(ages.RESTATEMENTS) == 2
        assert tree(output / "curated") == published
        assert aged(engine) == {}
        apply_batch(engine, tmp_path, [("d.json", as_drop([order(2, 4, amount=5, updated_at="2026-03-09")]))], RECENT)
        assert len((output / "restatements.jsonl").read_text().splitlines()) == 2
    assert differences(tmp_path) == []


def test_a_drop_that_is_not_old_or_not_committed_keeps_all_after_it(tmp_path: Path) -> None:
    """A horizon is a prefix by number: neither a wrong clock nor an unapplied drop loses anything."""
    with open_engine(tmp_path) as engine:
        for number, received_at in enumerate([OLD, OLD, NOW + 900 * DAY_US, OLD]):
            apply_batch(engine, tmp_path, [(f"{number}.json", as_drop([order(number)]))], received_at, 10_000 * DAY_US)
        assert engine.ledger.reach(ages.RAW, NOW) == 2
        with engine.ledger.transaction():
            engine.ledger._sql.execute("UPDATE drops SET batch = NULL, outcome = NULL WHERE seq = 2")
        assert engine.ledger.reach(ages.RAW, NOW) == 1
        with engine.ledger.transaction():
            engine.ledger._sql.execute("UPDATE batches SET published = 0 WHERE batch = 1")
        assert engine.ledger.reach(ages.RAW, NOW) == 0


def test_receipts_stay_as_long_as_raw_copies_do(tmp_path: Path) -> None:
    """Whatever their own age, and a horizon never goes back."""
    history(tmp_path)
    with open_engine(tmp_path) as engine:
        assert aged(engine, {ages.RECEIPTS: KEEP}) == {}
        aged(engine, {ages.RAW: KEEP})
        assert aged(engine, {ages.RECEIPTS: KEEP})[ages.RECEIPTS].files == 4
        aged(engine, {ages.RAW: 600})
        assert engine.ledger.horizon(ages.RAW) == 4


def test_what_cannot_be_removed_is_tried_again_and_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history(tmp_path)
    unlink = files.unlink

    def refused(path: Path) -> None:
        if path.name.endswith("a.json") and "raw" in str(path):
            raise PermissionError(1, "Operation not permitted", str(path))
        unlink(path)

    with open_engine(tmp_path) as engine:
        with monkeypatch.context() as broken:
            broken.setattr(files, "unlink", refused)
            told = aged(engine)[ages.RAW]
        assert (told.files, told.left) == (2, 1) and "not permitted" in told.cause
        assert copies(tmp_path / "output", "raw") == ["1", "5"]
        assert differences(tmp_path) == []  # the ledger says that it has gone
        assert aged(engine, {})[ages.RAW].files == 1  # also where raw copies are kept forever by now
        assert copies(tmp_path / "output", "raw") == ["5"]


def test_an_entry_in_quarantine_stays_while_a_later_retry_has_it(tmp_path: Path) -> None:
    """A retry that fails again keeps the entry of the first drop: it is as old as the retry."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("x.json", b"<html>"), ("y.json", b"<body>")], OLD)
        (entry,) = (tmp_path / "output" / "quarantine").glob("*x.json")
        entry.unlink()  # as `retry` does
        result = apply_batch(engine, tmp_path, [("x.json", b"<html>")], RECENT).results[0]
        assert (result.outcome, result.duplicate_of) == (DropOutcome.QUARANTINED, 1)
        aged(engine)
        assert copies(tmp_path / "output", "quarantine") == ["1"] and entry.exists()
        aged(engine, now=NOW + KEEP * DAY_US)
        assert copies(tmp_path / "output", "quarantine") == []


def test_a_pass_is_done_in_steps_an_hour_after_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step at a time where there is something else to do; nothing before the next pass is due, unless the clock is set
    back."""
    monkeypatch.setattr(ageing, "_STEP_DROPS", 1)
    history(tmp_path)
    told: list[Aged] = []
    told_notes: list[str] = []
    with open_engine(tmp_path) as engine:
        passes = Ageing(engine, {ages.RAW: KEEP * DAY_US}, told.append, told_notes.append)
        passes.run(lambda: True, NOW)
        assert copies(tmp_path / "output", "raw") == ["3", "4", "5"]
        apply_batch(engine, tmp_path, [("d.json", as_drop([order(7)]))], OLD)
        for _ in range(9):
            passes.run(lambda: True, NOW)
        assert copies(tmp_path / "output", "raw") == ["5", "6"] and len(told) == 1
        early = RECENT + KEEP * DAY_US - DAY_US // 100  # the next drop is old soon, and before another pass is due
        for now, found in ((early, ["5", "6"]), (early + DAY_US // 25, ["5", "6"]), (NOW + 395 * DAY_US, [])):
            passes.run(lambda: False, now)
            assert copies(tmp_path / "output", "raw") == found


def service(engine: Engine, root: Path) -> Service:
    inbox = Inbox(SourceFolder(root / "inbox"), 0.0, TERMS.backoff)
    terms = replace(TERMS, keep=dict.fromkeys(ages.KINDS, KEEP * DAY_US))
    return Service(engine, Inboxes([inbox]), terms, [], lambda: recover(engine, [inbox.place], terms.contexts))


def left_of(root: Path) -> dict[str, str]:
    """All files but those of the ledger; of the marker, which has the time of its pass, what it says."""
    found = {name: digest for name, digest in tree(root / "output").items() if not name.startswith("state/")}
    return found | {ages.MARKER: str(ages.marked(root / "output").through)}


def test_whenever_a_pass_ends_the_next_run_finishes_it(tmp_path: Path) -> None:
    """Before or after each change to a file or the ledger; `--once` ends with a pass. Nothing old is left, and all the rest is as
    it was."""
    begun, whole = tmp_path / "begun", tmp_path / "whole"
    history(begun)
    shutil.copytree(begun, whole, symlinks=True)
    with open_engine(whole) as engine:
        service(engine, whole).once(Event())
    expected = left_of(whole)
    assert [copies(whole / "output", kind) for kind in ages.OF_DROPS] == [["5"], ["5"], ["5"], []]
    for last in range(1, 400):
        root = tmp_path / "ended"
        shutil.copytree(begun, root, symlinks=True)
        world = World(last, after=last % 2 == 1)
        try:
            with open_engine(root) as engine, world.running():
                service(engine, root).once(Event())
        except Crash:
            pass
        else:
            break
        with open_engine(root) as engine:
            service(engine, root).once(Event())
            assert engine.ledger.unpublished_batch() is None
            horizons = engine.ledger.horizons()
        assert all(one.swept == one.through for one in horizons.values()), last
        assert left_of(root) == expected, last
        shutil.rmtree(root)
    assert last > 30, "a pass has many steps"


def test_the_ledger_says_first_what_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the first file goes, the ledger as another process reads it and the marker beside the copies have it."""
    history(tmp_path)
    seen: list[tuple[int, int]] = []

    def look(path: Path) -> int:
        with closing(Ledger(tmp_path / "output" / "state" / "ledger.sqlite", read_only=True)) as ledger:
            seen.append((ledger.horizon(ages.RAW), ages.marked(tmp_path / "output").through))
        size = os.lstat(path).st_size
        files.unlink(path)
        return size

    monkeypatch.setattr(ageing, "_remove", look)
    with open_engine(tmp_path) as engine:
        aged(engine, {ages.RAW: KEEP})
        publish_committed(engine)
    assert seen == [(4, 4)] * 3


def test_queries_see_what_is_kept(tmp_path: Path) -> None:
    """All drops, and the discards and restatements that have not gone."""
    history(tmp_path)
    with open_engine(tmp_path) as engine:
        aged(engine)
    counts = 'SELECT (SELECT count(*) FROM drops), (SELECT list("drop") FROM discards), (SELECT list(batch) FROM restatements)'
    ended = strandline(tmp_path, "sql", counts, "--csv")
    assert ended.returncode == 0 and ended.stdout.splitlines()[-1] == "5,[5],[3]", ended.stdout + ended.stderr
