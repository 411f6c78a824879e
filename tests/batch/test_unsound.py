"""Drops that an earlier run archived, and whose raw copies cannot be read any more: they wait, and no other drop does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from daemon.batch import pipeline, unsound
from daemon.batch.engine import Engine
from daemon.batch.unsound import Unsound
from daemon.core.model import DropOutcome
from daemon.operate import found
from tests.strategies import RECEIVED_AT_US
from tests.support.command import as_drop, drop, order, strandline
from tests.support.harness import apply_batch, open_engine, rows

NOW = RECEIVED_AT_US


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with open_engine(tmp_path) as engine:
        yield engine


def archived(engine: Engine, root: Path, drops: Sequence[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Drops of a run that ended before it committed them."""

    def ends(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(pipeline, "_apply", ends)
        apply_batch(engine, root, drops, NOW)


def raw_of(engine: Engine, seq: int) -> Path:
    drop = engine.ledger.drop(seq)
    assert drop is not None and drop.raw is not None
    return engine.output / drop.raw


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed"])
def test_a_drop_whose_raw_copy_is_damaged_waits_alone(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """It is told of once, with what to do, and applied once the copy is back. What is damaged is not read: it may have lost
    records, and be JSON all the same."""
    first = b"".join(as_drop([order(number)])[1:-1] + b"\n" for number in (1, 2))
    archived(engine, tmp_path, [("a.json", first), ("b.json", as_drop([order(3, 3)]))], monkeypatch)
    copy, notes = raw_of(engine, 1), []
    content = copy.read_bytes()
    changed = {"truncated": content[: len(content) // 2], "changed": content.replace(b"o_2", b"o_9")}
    copy.unlink() if damage == "missing" else copy.write_bytes(changed[damage])
    waiting = Unsound(engine, notes.append)
    left = waiting.sound(engine.ledger.uncommitted())
    assert [drop.seq for drop in left] == [2] and waiting.names == {"a.json"}
    pipeline.resume(engine, left, NOW)
    assert [row["order_id"] for row in rows(engine.output, "2026-03-03")] == ["o_3"]
    assert not waiting.is_due()
    monkeypatch.setattr(unsound.time, "monotonic", lambda: 1e12)
    assert waiting.is_due() and waiting.sound(engine.ledger.uncommitted()) == []
    (note,) = notes
    assert note.startswith("drop 1 (a.json) waits: ") and str(copy) in note and "restore it from a backup" in note
    receipt = found.receipt(engine.ledger, engine.output, 1)
    assert receipt is not None and str(copy) in receipt["reason"]
    copy.write_bytes(content)
    assert waiting.is_due()
    pipeline.resume(engine, waiting.sound(engine.ledger.uncommitted()), NOW + 1)
    assert [row["order_id"] for row in rows(engine.output, "2026-03-02")] == ["o_1", "o_2"]
    assert not waiting.is_due() and not waiting.names
    assert strandline(tmp_path, "verify").returncode == 0


@pytest.mark.parametrize("damage", ["missing", "changed"])
@pytest.mark.parametrize(
    ("name", "again", "content"),
    [("a.json", "b.json", as_drop([order(1)])), ("users-2.csv", "users-3.csv", b"user_id,email\nu_1,b@example.com\n")],
)
def test_the_same_bytes_again_give_it_its_copy_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, again: str, content: bytes, damage: str
) -> None:
    """Of orders as of a dimension, in one run, and whatever the name. Before, `status`, `verify` and the run itself name the drop
    and its copy."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("users-1.csv", b"user_id,email\nu_1,a@example.com\n")], NOW)
        archived(engine, tmp_path, [(name, content)], monkeypatch)
        copy = raw_of(engine, 2)
    if damage == "missing":
        copy.unlink()
    else:
        copy.write_bytes(b"[]")
    ended = strandline(tmp_path, "--once")
    assert ended.returncode == 1 and copy.name in ended.stderr and "or in raw/" in ended.stderr
    status = strandline(tmp_path, "status").stdout
    assert copy.name in status and "Needs attention: 1 drop archived and not applied" in status
    (waits,) = json.loads(strandline(tmp_path, "status", "--json").stdout)["waiting"]
    assert waits["drop"] == 2 and waits["name"] == name and str(copy) in waits["reason"]
    verified = strandline(tmp_path, "verify")
    assert verified.returncode == 1 and copy.name in verified.stdout and "drop 2 is not applied" in verified.stdout
    drop(tmp_path, again, content)
    ended = strandline(tmp_path, "--once")
    assert ended.returncode == 0, ended.stderr
    assert "Nothing needs attention" in strandline(tmp_path, "status").stdout
    verified = strandline(tmp_path, "verify")
    assert verified.returncode == 0, verified.stdout
    with open_engine(tmp_path) as engine:
        outcomes = {seq: result.outcome for seq in (2, 3) if (result := engine.ledger.result(seq)) is not None}
        assert sorted(outcomes.values()) == [DropOutcome.APPLIED, DropOutcome.DUPLICATE]


def test_later_drops_of_its_dimension_wait_for_it(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later row of a user wins, so they are applied in order; also one with the bytes of the newest that is applied. Drops of
    orders and of products go on."""
    users = [f"user_id,email\nu_1,{name}@example.com\n".encode() for name in "abc"]
    apply_batch(engine, tmp_path, [("users-1.csv", users[0])], NOW)
    archived(engine, tmp_path, [("users-2.csv", users[1])], monkeypatch)
    copy, waiting = raw_of(engine, 2), Unsound(engine, lambda note: None)
    content = copy.read_bytes()
    copy.write_bytes(b"damaged")
    assert waiting.sound(engine.ledger.uncommitted()) == []
    others = [("a.json", as_drop([order(1)])), ("products.csv", b"sku,name,price\np_1,One,1\n")]
    apply_batch(engine, tmp_path, [*others, ("users-3.csv", users[0])], NOW + 1)
    assert [row["email"] for row in _users(engine)] == ["a@example.com"]
    assert [drop.seq for drop in engine.ledger.uncommitted()] == [2, 5]
    assert engine.ledger.dimensions()["product"].rows == 1 and rows(engine.output, "2026-03-02")
    apply_batch(engine, tmp_path, [("b.json", as_drop([order(2)])), ("users-4.csv", users[2])], NOW + 2)
    copy.write_bytes(content)
    pipeline.resume(engine, waiting.sound(engine.ledger.uncommitted()), NOW + 3)
    assert [row["email"] for row in _users(engine)] == ["c@example.com"] and not engine.ledger.uncommitted()
    assert strandline(tmp_path, "verify").returncode == 0


def _users(engine: Engine) -> list[dict[str, str]]:
    import pyarrow.parquet as pq

    found: list[dict[str, str]] = pq.ParquetFile(engine.output / "curated" / "dim_user.parquet").read().to_pylist()
    return found
