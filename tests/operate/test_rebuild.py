"""`rebuild` over ledgers of other versions."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from daemon.batch.engine import Engine
from daemon.storage.ledger_schema import VERSION
from tests.strategies import RECEIVED_AT_US
from tests.support.command import as_drop, drop, order, strandline
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


SOURCES = """\
[sources.default]
preset = "shopify"
[sources.berlin]
id_prefix = "b-"
[watch]
settle_seconds = 0
"""


def delivered(home: Path) -> None:
    """A drop of each source, applied; then ledger and receipts are lost."""
    home.mkdir()
    (home / "config.toml").write_text(SOURCES)
    drop(home, "a.json", [{"id": 1, "created_at": "2026-03-02", "total_price": "5"}])
    (home / "inbox" / "berlin").mkdir()
    drop(home, "berlin/b.json", as_drop([order(2, 3)]))
    assert strandline(home, "--once").returncode == 0
    for folder in ("state", "receipts"):
        shutil.rmtree(home / "output" / folder)


@pytest.mark.parametrize(("change", "said"), [
    (("[sources.berlin]", "[sources.paris]"), ("berlin (1)", "Add [sources.berlin]")),
    (('preset = "shopify"', 'preset = "stripe"'), ("none of the 1 drops", "Keys of its records: id, created_at")),
])  # fmt: skip
def test_a_rebuild_without_history_changes_nothing_where_the_configuration_reads_nothing(
    tmp_path: Path, change: tuple[str, str], said: tuple[str, ...]
) -> None:
    """A source is not configured any more, or reads its drops in another way. With the right configuration it is as before."""
    home = tmp_path / "home"
    delivered(home)
    published, copies = tree(home / "output" / "curated"), tree(home / "output" / "raw")
    if "preset" in change[0]:
        shutil.rmtree(home / "output" / "raw" / "source=berlin")
        copies = tree(home / "output" / "raw")
    (home / "config.toml").write_text(SOURCES.replace(*change))
    ended = strandline(home, "rebuild")
    assert ended.returncode == 2 and all(one in ended.stderr for one in said), ended.stderr
    assert tree(home / "output" / "curated") == published and tree(home / "output" / "raw") == copies
    (home / "config.toml").write_text(SOURCES)
    ended = strandline(home, "rebuild")
    assert ended.returncode == 0 and strandline(home, "verify").returncode == 0, ended.stderr
    kept = {name: digest for name, digest in published.items() if "preset" not in change[0] or "2026-03-02" in name}
    assert tree(home / "output" / "curated") == kept


def test_a_rebuild_from_nothing_keeps_what_is_published(tmp_path: Path) -> None:
    home = tmp_path / "home"
    delivered(home)
    shutil.rmtree(home / "output" / "raw")
    published = tree(home / "output" / "curated")
    ended = strandline(home, "rebuild")
    assert ended.returncode == 2 and "raw/ has no drops" in ended.stderr, ended.stderr
    assert tree(home / "output" / "curated") == published
    shutil.rmtree(home / "output" / "curated")
    assert strandline(home, "rebuild").returncode == 0


def test_a_rebuild_that_leaves_a_raw_copy_ends_with_1(tmp_path: Path) -> None:
    """A damaged copy that no history knows."""
    home = tmp_path / "home"
    delivered(home)
    (copy,) = (home / "output" / "raw").glob("received=*/*.json")
    copy.write_bytes(copy.read_bytes().replace(b"5", b"6"))
    ended = strandline(home, "rebuild")
    assert ended.returncode == 1 and copy.name in ended.stderr, ended.stderr
