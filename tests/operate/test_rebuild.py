"""`rebuild` over ledgers of other versions."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from daemon.batch.engine import Engine
from daemon.storage.ledger_schema import VERSION
from tests.strategies import RECEIVED_AT_US
from tests.support.command import as_drop, order, strandline
from tests.support.harness import apply_batch, open_engine, tree


def unchanged_drop(engine: Engine, root: Path, name: str, data: bytes) -> int:
    """Applies a drop of which nothing must come but newer versions; how many."""
    before = tree(root / "output" / "curated")
    outcome = apply_batch(engine, root, [(name, data)], RECEIVED_AT_US)
    (result,) = outcome.results
    assert (list(outcome.written), list(outcome.repaired)) == ([], []) and tree(root / "output" / "curated") == before
    assert result.counts.unchanged == result.counts.extracted
    return result.counts.unchanged


@pytest.mark.parametrize("version", [VERSION - 1, VERSION + 1])
def test_a_ledger_of_another_version_is_refused_and_a_rebuild_makes_a_new_one(tmp_path: Path, version: int) -> None:
    """Every command but `rebuild` says what to do, and changes nothing. `rebuild` sets the ledger aside, and takes the history
    from the receipts."""
    home = tmp_path / "home"
    with open_engine(home) as engine:
        apply_batch(engine, home, [("a.json", as_drop([order(1), order(2, 3)])), ("x.json", b"[")], RECEIVED_AT_US)
        apply_batch(engine, home, [("b.json", as_drop([order(1, amount=4)]))], RECEIVED_AT_US)
        path, published = engine.ledger.path, tree(home / "output" / "curated")
        results = [result.counts for result in engine.ledger.all_results()]
    with closing(sqlite3.connect(path)) as sql:
        sql.execute(f"PRAGMA user_version = {version}")
    before = tree(home / "output")
    for command in (["--once"], ["status"], ["verify"], ["rebuild", "2026-03-02"]):
        ended = strandline(home, *command)
        assert ended.returncode == 3 and "`strandline rebuild`" in ended.stderr, ended.stderr
    assert {name: digest for name, digest in tree(home / "output").items() if "state/" not in name} == {
        name: digest for name, digest in before.items() if "state/" not in name
    }
    ended = strandline(home, "rebuild")
    assert ended.returncode in (0, 1), ended.stderr
    assert (path.parent / f"ledger.version-{version}.1.sqlite").exists()
    assert tree(home / "output" / "curated") == published
    assert strandline(home, "verify").returncode == 0
    with open_engine(home) as engine:
        assert [result.counts for result in engine.ledger.all_results()] == results
        assert unchanged_drop(engine, home, "c.json", as_drop([order(1, amount=4), order(2, 3)], indent=1)) == 2
