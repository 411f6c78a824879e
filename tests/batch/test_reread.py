"""The same bytes are a duplicate only if they were read under the same settings; and an applied drop can be read anew."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon import cli
from daemon.batch import reread
from daemon.batch.pipeline import publish_committed
from daemon.core.errors import Corruption
from daemon.core.model import ParseContext
from daemon.operate.rebuild import prepare_rebuild, take_over
from daemon.sources.source_folder import SourceFolder
from tests.model import Drop, Model
from tests.strategies import RECEIVED_AT_US, drops
from tests.support.as_model import assert_counts, assert_published
from tests.support.examples import examples
from tests.support.harness import apply_batch, open_engine, tree

HOUR = 3_600_000_000
DAY = 24 * HOUR
SLOW = examples(40)


def order(order_id: str, created_at: str, **more: object) -> dict[str, object]:
    return {"order_id": order_id, "created_at": created_at, **more}


INSIDE = json.dumps({"data": [order("p", "2026-11-18")], "page": {"orders": [order("p", "2026-11-19")]}}).encode()
FUTURE = json.dumps([order("now", "2026-11-20T11:00:00Z"), order("soon", "2026-11-21T13:00:00Z")]).encode()
CONTENTS = [
    INSIDE,
    FUTURE,
    json.dumps([order("a", "2026-11-18", amount=5)]).encode(),
    b'{"order_id":"a","created_at":"2026-11-18"}\n',
]


@st.composite
def settings_of_batches(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Some batches, each under settings of its own, of a few contents that come again and again."""
    contents = [*CONTENTS, draw(drops())]
    batches, received_at = [], RECEIVED_AT_US
    for _ in range(draw(st.integers(2, 5))):
        received_at += draw(st.sampled_from([0, HOUR, 30 * HOUR]))
        batches.append(
            {
                "drops": draw(st.lists(st.sampled_from(contents), min_size=1, max_size=3)),
                "received_at": received_at,
                "tolerance": draw(st.sampled_from([DAY, DAY, 2 * DAY])),
                "records_path": draw(st.sampled_from(["", "", "page.orders"])),
                "again": draw(st.lists(st.sampled_from(contents), max_size=1)),
            }
        )
    return batches


@SLOW
@given(settings_of_batches(), st.booleans())
def test_bytes_are_read_again_where_they_may_say_more(batches: list[dict[str, Any]], lose_state: bool) -> None:
    """Every batch is as the model says; and a rebuild, with the ledger or from receipts alone, publishes the same bytes."""
    model = Model()
    number = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with open_engine(root) as engine:
            for one in batches:
                named = [(f"drop-{number + i}.json", data) for i, data in enumerate(one["drops"])]
                number += len(named)
                for data in one["again"]:
                    mark(root / "output", data)
                terms = {"tolerance": one["tolerance"], "records_path": one["records_path"]}
                outcome = apply_batch(engine, root, named, one["received_at"], **terms)
                expected = model.apply(
                    [Drop(name, data, one["received_at"]) for name, data in named],
                    tolerance_us=one["tolerance"], records_path=one["records_path"],
                    again=list(one["again"]),
                )  # fmt: skip
                reread.clear(root / "output", [hash_of(data) for data in one["again"]])
                assert_counts(outcome, expected)
                assert_published(engine, root / "output", model)
        published = tree(root / "output" / "curated")
        if lose_state:
            shutil.rmtree(root / "output" / "state")
        with open_engine(root) as engine:
            take_over(engine, prepare_rebuild(engine, RECEIVED_AT_US, {"default": ParseContext(0, 0)}))
        with open_engine(root) as engine:
            publish_committed(engine, recovering=True)
            assert not engine.ledger.uncommitted()
        assert tree(root / "output" / "curated") == published


def mark(output: Path, data: bytes) -> None:
    (output / "state" / "again").mkdir(parents=True, exist_ok=True)
    (output / "state" / "again" / hash_of(data).hex()).write_bytes(b"")


def hash_of(data: bytes) -> bytes:
    import hashlib

    return hashlib.sha256(data).digest()


def test_a_mended_setting_and_the_same_file_read_it_anew(tmp_path: Path) -> None:
    """Under the wrong path it was applied with other versions; dropped again under the right one it is no duplicate."""
    with open_engine(tmp_path) as engine:
        first, again, right, repeated = (
            apply_batch(engine, tmp_path, [("a.json", INSIDE)], RECEIVED_AT_US, records_path=path).results[0]
            for path in ("", "", "page.orders", "page.orders")
        )
    assert [str(one.outcome) for one in (first, again, right, repeated)] == [
        "applied",
        "duplicate",
        "applied",
        "duplicate",
    ]
    assert (right.counts.corrected, repeated.duplicate_of) == (1, right.drop.seq)


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STRANDLINE_PATHS__INBOX", str(tmp_path / "inbox"))
    monkeypatch.setenv("STRANDLINE_PATHS__OUTPUT", str(tmp_path / "output"))
    return cli.main(arguments)


@pytest.mark.parametrize("name", ["1", "a b%.json", "raw", "00000001"])
def test_retry_of_an_applied_drop_reads_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """By its number, its name or its raw copy; once. Its raw copy stays as it is, whoever writes to the file in the inbox."""
    data = json.dumps([order("a", "2026-11-18", amount=5)]).encode()
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a b%.json", data)], RECEIVED_AT_US)
        raw_copy = tmp_path / "output" / (engine.ledger.results(1)[0].drop.raw or "")
    before = raw_copy.stat()
    assert run(tmp_path, monkeypatch, "retry", str(raw_copy) if name == "raw" else name) == 0
    assert "read again" in capsys.readouterr().out and os.listdir(tmp_path / "inbox") == ["a b%.json"]
    assert (raw_copy.stat().st_mtime_ns, raw_copy.stat().st_nlink) == (before.st_mtime_ns, before.st_nlink)
    with open_engine(tmp_path) as engine:
        outcomes = [
            apply_batch(engine, tmp_path, [("a b%.json", data)], RECEIVED_AT_US + 1).results[0] for _ in range(2)
        ]
    assert [str(one.outcome) for one in outcomes] == ["applied", "duplicate"] and outcomes[0].counts.unchanged == 1
    assert os.listdir(tmp_path / "output" / "state" / "again") == []


def test_retry_names_what_it_does_not_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither in quarantine nor applied: nothing is put back, not even the others."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", CONTENTS[2])], RECEIVED_AT_US)
    assert run(tmp_path, monkeypatch, "retry", "a.json", "b.json") == 2
    assert "b.json" in capsys.readouterr().err and os.listdir(tmp_path / "inbox") == []


def test_a_damaged_raw_copy_is_not_put_back(tmp_path: Path) -> None:
    """What it says now is not what was applied."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", CONTENTS[2])], RECEIVED_AT_US)
        drop = engine.ledger.results(1)[0].drop
        (tmp_path / "output" / (drop.raw or "")).write_bytes(b"[]")
        with pytest.raises(Corruption):
            reread.request(tmp_path / "output", [SourceFolder(tmp_path / "inbox")], [drop])
    assert os.listdir(tmp_path / "inbox") == []
