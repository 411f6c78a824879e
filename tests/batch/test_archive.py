"""Taking the drops of a batch: who asks for an end in the middle waits for none of the rest, and loses none."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.batch.pipeline import take
from daemon.batch.taking import Copy, Taking
from daemon.core.errors import Stopped
from daemon.core.retry import Backoff
from daemon.sources.inbox import Arrival, Inbox
from daemon.sources.source_folder import SourceFolder
from tests.strategies import RECEIVED_AT_US
from tests.support.command import as_drop, order
from tests.support.crash import TERMS, drop, run
from tests.support.harness import apply_batch, open_engine, tree
from tests.support.zips import zipped

DROPS = [
    ("a.json", as_drop([order(1), order(2, 3)])),
    ("b.zip", zipped(*((f"{number}.json", as_drop([order(number)])) for number in (3, 4, 5)))),
    ("users.csv", b"user_id,email\nu_1,a@example.com\n"),
    ("c.json", as_drop([order(2, 3, updated_at="2026-03-09T00:00:00Z", amount="7.00")])),
]


def stopped_at(root: Path, question: int) -> bool:
    """Whether a batch ended at the n-th question whether to go on; false if it ended before."""
    asked = iter(range(1, question))
    with open_engine(root) as engine:
        try:
            apply_batch(replace(engine, stopped=lambda: next(asked, None) is None), root, DROPS, RECEIVED_AT_US)
        except Stopped:
            return True
    return False


def test_a_stop_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """While drops are copied, an archive is unpacked, or they are read: the next run publishes what this one would have."""
    whole, question = tmp_path / "whole", 1
    whole.mkdir()
    assert not stopped_at(whole, 10_000)
    names = {path.name for path in (whole / "output" / "raw").rglob("*.json")}
    while stopped_at(root := _made(tmp_path / str(question)), question):
        assert not (root / "output" / "curated").exists() or not tree(root / "output" / "curated")
        run(root)
        assert tree(root / "output" / "curated") == tree(whole / "output" / "curated")
        assert {path.name for path in (root / "output" / "raw").rglob("*.json")} == names
        assert not os.listdir(root / "inbox")
        question += 1
    assert question > len(DROPS) + 3


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("moment", ["copy", "hide"])
@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_drop_that_its_writer_takes_back_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, gone: int
) -> None:
    """Whether it is gone before it is copied or after: its number is given to the next, and nothing of it is left."""
    step = getattr(Taking, moment)

    def taken_back(taking: Taking, first: Arrival | Copy, *rest: object) -> Copy:
        if first.name == f"{gone}.json":
            (tmp_path / "inbox" / first.name).unlink()
        return step(taking, first, *rest)

    with open_engine(tmp_path) as engine:
        for number in range(3):
            drop(tmp_path, f"{number}.json", as_drop([order(number)]))
        arrivals = Inbox(SourceFolder(tmp_path / "inbox"), 0.0, Backoff(1, 0.1, 0.1)).scan(now=10**10).settled
        monkeypatch.setattr(Taking, moment, taken_back)
        outcome, refused = take(engine, arrivals, TERMS.contexts, RECEIVED_AT_US)
        assert outcome is not None and not refused
        left = [number for number in range(3) if number != gone]
        assert [(one.drop.seq, one.drop.name) for one in outcome.results] == [
            (n, f"{left[n - 1]}.json") for n in (1, 2)
        ]
        assert len(list((tmp_path / "output" / "raw").glob("received=*/*"))) == 2 and not os.listdir(tmp_path / "inbox")
