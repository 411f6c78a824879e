"""Copies that go by age: what is published stays exact, and everything knows what can no longer be made anew."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.batch.ageing import Aged, one_pass
from daemon.batch.engine import Engine
from daemon.batch.pipeline import publish_committed, resume
from daemon.batch.recovery import recover
from daemon.batch.repair import partitions_from_raw
from daemon.core.errors import Corruption, EnvironmentFault, UsageError
from daemon.core.mapping import FieldMapping
from daemon.core.model import MICROSECONDS_PER_DAY, DropOutcome, ParseContext
from daemon.core.progress import silent
from daemon.operate import backup as module
from daemon.operate import seeds, usage
from daemon.operate.backup import backup, restore
from daemon.operate.rebuild import prepare_rebuild, take_over
from daemon.operate.trace import trace
from daemon.operate.trace_text import table
from daemon.operate.verify import verify
from daemon.storage import ages, receipts
from daemon.storage.ledger import Ledger
from tests.batch.test_deletions import MAPPING, RECORDS, expected, published
from tests.model import Drop, Model
from tests.strategies import RECEIVED_AT_US, batches
from tests.support.as_model import assert_published
from tests.support.command import as_drop, order, strandline
from tests.support.examples import examples
from tests.support.harness import DAY, apply_batch, dates, open_engine, rows, tree

DAY_US = MICROSECONDS_PER_DAY
CONTEXTS = {"default": ParseContext(0, DAY)}
SLOW = examples(12)
BATCHES = batches()


def age(engine: Engine, keep_days: Mapping[str, int], now: int) -> list[Aged]:
    """One whole pass; what it told."""
    told: list[Aged] = []
    keep = {kind: days * DAY_US for kind, days in keep_days.items()}
    for _ in one_pass(engine, keep, now, told.append):
        pass
    return told


def differences(engine: Engine) -> list[str]:
    """What `verify` finds."""
    path = engine.ledger.path
    with tempfile.TemporaryDirectory() as scratch:
        return list(map(str, verify(engine, lambda: Ledger(path, read_only=True), Path(scratch), RECEIVED_AT_US)))


def rebuilt(root: Path) -> None:
    """As the command does it: a new ledger takes over, and the next start publishes what differs."""
    with open_engine(root) as engine:
        take_over(engine, prepare_rebuild(engine, RECEIVED_AT_US, CONTEXTS))
    with open_engine(root) as engine:
        publish_committed(engine, recovering=True)


def unchanged_by_a_rebuild(root: Path, hwm: int | None) -> None:
    """Neither `verify` nor a rebuild finds anything to change; nor does a rebuild of what that left."""
    before = tree(root / "output" / "curated")
    for _ in range(2):
        with open_engine(root) as engine:
            assert differences(engine) == []
            assert engine.ledger.hwm == hwm
        rebuilt(root)
        assert tree(root / "output" / "curated") == before


# ------------------------------------------------------------------------------------------------------ random histories


@SLOW
@given(BATCHES, st.data())
def test_what_is_published_is_what_all_drops_say_whatever_has_gone(
    many: list[list[bytes]], data: st.DataObject
) -> None:
    """Between any two batches, the raw copies of any first drops go: rows, index and high-water mark stay those of the model,
    which has all drops. A day goes by between two batches."""
    model = Model()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with open_engine(root) as engine:
            for day, batch in enumerate(many):
                named = [(f"{day}-{number}.json", content) for number, content in enumerate(batch)]
                received_at = RECEIVED_AT_US + day * 1000  # a day of this test: later would be another tolerance
                apply_batch(engine, root, named, received_at)
                model.apply([Drop(name, content, received_at) for name, content in named])
                assert_published(engine, root / "output", model)
                if data.draw(st.booleans()):
                    keep = {kind: data.draw(st.integers(0, 3)) * 1000 for kind in (ages.RAW, ages.DISCARDS)}
                    for _ in one_pass(engine, keep, received_at + 1, lambda one: None):
                        pass
        unchanged_by_a_rebuild(root, model.hwm_us)


USERS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=3)


def content_of(drop: Any) -> tuple[str, bytes]:
    """The ending and the content of a drop of orders or of users."""
    if isinstance(drop[0], dict):
        return ".jsonl", "\n".join(map(json.dumps, drop)).encode()
    return ".csv", "".join(["user_id,email\n", *(f"{user},{mail}@example.com\n" for user, mail in drop)]).encode()


@SLOW
@given(st.lists(st.lists(RECORDS, min_size=1, max_size=4) | USERS, min_size=2, max_size=6), st.data())
def test_corrections_moves_and_deletions_of_aged_orders_are_exact(many: list[list[Any]], data: st.DataObject) -> None:
    """An output whose copies go has the same files, to the byte, as one that keeps all. Both are rebuilt on the way."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        for root in (Path(one), Path(other)):
            for number, drop in enumerate(many):
                ending, content = content_of(drop)
                name = f"{'users' if ending == '.csv' else 'orders'}-{number}{ending}"
                with open_engine(root) as engine:
                    apply_batch(engine, root, [(name, content)], RECEIVED_AT_US + number, mapping=MAPPING)
                    if root == Path(other):
                        gone = data.draw(st.integers(0, number + 1))
                        for _ in one_pass(engine, {ages.RAW: 0}, RECEIVED_AT_US + gone, lambda one: None):
                            pass
                        assert differences(engine) == []
                if root == Path(other) and data.draw(st.booleans()):
                    rebuilt(root)
        assert published(Path(other) / "output") == expected([drop for drop in many if isinstance(drop[0], dict)])
        assert tree(Path(one) / "output" / "curated") == tree(Path(other) / "output" / "curated")
        with open_engine(Path(one)) as engine:
            hwm = engine.ledger.hwm
        unchanged_by_a_rebuild(Path(other), hwm)


# ----------------------------------------------------------------------------------------- what cannot be made anew

OLD, RECENT = RECEIVED_AT_US - 500 * DAY_US, RECEIVED_AT_US - 10 * DAY_US
FIRST, SECOND, THIRD = (int(np.datetime64(f"2024-03-0{day}", "D").astype(int)) for day in (2, 3, 4))


def of(number: int, day: int, **more: object) -> dict[str, object]:
    return order(number, day, created_at=f"2024-03-0{day}T10:00:00Z", **more)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Orders of three dates: those of the first came from a raw copy that has gone, those of the second partly, those of the
    third from one that is there. So did users, and some discards."""
    with open_engine(tmp_path) as engine:
        users = ("users.csv", b"user_id,email\nu_1,a@example.com\n")
        apply_batch(engine, tmp_path, [("a.json", as_drop([of(1, 2), of(2, 3), {"order_id": 1}])), users], OLD)
        recent = as_drop([of(3, 3), of(4, 4), of(5, 4), {"order_id": 2}])
        apply_batch(engine, tmp_path, [("b.json.gz", gzip.compress(recent, mtime=0))], RECENT)
        age(engine, {ages.RAW: 400}, RECEIVED_AT_US)
    return tmp_path


def fact(home: Path, day: int) -> Path:
    return home / "output" / "curated" / f"date=2024-03-0{day}" / "fact_order.parquet"


def test_a_damaged_date_without_raw_is_named_and_the_others_are_made_again(home: Path) -> None:
    """By a repair; a batch that would merge with it leaves it aside. What only lost its items is made again."""
    before = tree(home / "output" / "curated")
    for day in (2, 3, 4):
        fact(home, day).with_name("order_items.parquet").write_bytes(b"damaged")
    fact(home, 3).write_bytes(b"damaged")
    fact(home, 4).unlink()
    with open_engine(home) as engine:
        with pytest.raises(Corruption, match=r"rebuild 2024-03-03 \(1 orders\).*gone by age") as raised:
            partitions_from_raw(engine.ledger, engine.reader, engine.store, [FIRST, SECOND, THIRD])
        assert "2024-03-02" not in str(raised.value) and "2024-03-04" not in str(raised.value)
        after = tree(home / "output" / "curated")
        assert {name for name in before if before[name] != after[name]} == {
            "date=2024-03-03/fact_order.parquet", "date=2024-03-03/order_items.parquet",
        }  # fmt: skip
        apply_batch(engine, home, [("c.json", as_drop([of(3, 3, amount=8, updated_at="2024-03-05")]))], RECENT)
        (aside,) = engine.ledger.set_aside().values()
        assert aside.name == "2024-03-03" and "(1 orders)" in aside.reason and fact(home, 3).read_bytes() == b"damaged"


@pytest.mark.parametrize("name", ["date=2024-03-02/fact_order.parquet", "dim_user.parquet"])
def test_a_rebuild_changes_nothing_where_a_file_cannot_be_made_anew(home: Path, name: str) -> None:
    """`verify` says so, too, and goes on with the rest."""
    (home / "output" / "curated" / name).write_bytes(b"damaged")
    fact(home, 4).write_bytes(b"damaged")
    before = tree(home / "output" / "curated")
    with open_engine(home) as engine:
        ledger = engine.ledger.path
        with pytest.raises(Corruption, match="gone by age"):
            prepare_rebuild(engine, RECEIVED_AT_US, CONTEXTS)
        assert tree(home / "output" / "curated") == before and ledger.exists()
        found = differences(engine)
    assert [one for one in found if f"curated/{name}" in one] and [one for one in found if "2024-03-04" in one]
    assert [one for one in found if one.startswith("rebuild") and "gone by age" in one]


def test_a_date_of_a_command_is_made_again_beside_one_that_cannot_be(home: Path) -> None:
    whole = fact(home, 4).read_bytes()
    for day in (2, 4):
        fact(home, day).write_bytes(b"damaged")
    ended = strandline(home, "rebuild", "2024-03-02", "2024-03-04")
    assert ended.returncode == 3 and "could not rebuild 2024-03-02 (1 orders)" in ended.stderr
    assert fact(home, 4).read_bytes() == whole and fact(home, 2).read_bytes() == b"damaged"


def test_a_rebuild_without_the_ledger_is_refused(home: Path) -> None:
    """Only the ledger knew which orders came from what has gone. The same for a ledger of another version, before it is set
    aside. With a backup of it, all is well."""
    output = home / "output"
    before, backup = tree(output / "curated"), home / "ledger.sqlite"
    with open_engine(home) as engine:
        engine.ledger.copy_to(backup)
    for path in (output / "state").glob("ledger.sqlite*"):
        path.unlink()
    for words in (["rebuild"], ["--once"]):
        ended = strandline(home, *words)
        assert ended.returncode == 3 and "gone by age, up to drop 2" in ended.stderr, ended.stderr
        assert "from a backup" in ended.stderr
    shutil.copyfile(backup, output / "state" / "ledger.sqlite")
    with closing(sqlite3.connect(output / "state" / "ledger.sqlite")) as sql:
        sql.execute("PRAGMA user_version = 99")
    ended = strandline(home, "rebuild")
    assert ended.returncode == 3 and "gone by age, up to drop 2" in ended.stderr, ended.stderr
    assert sorted(path.name for path in (output / "state").glob("ledger*")) == ["ledger.sqlite"]
    shutil.copyfile(backup, output / "state" / "ledger.sqlite")
    assert strandline(home, "rebuild").returncode == 0
    assert tree(output / "curated") == before and found_by_verify(home) == []


def test_a_ledger_that_is_older_than_what_has_gone_learns_it_or_is_refused(home: Path) -> None:
    """Where it has the drops as applied, all that it lacks is to say so."""
    with open_engine(home) as engine:
        with engine.ledger.transaction():
            engine.ledger._sql.execute("DELETE FROM horizons")
        assert recover(engine, [], CONTEXTS) == []
        assert engine.ledger.horizon(ages.RAW) == 2
        ages.mark(engine.output, ages.Horizon(4, RECENT))
        with pytest.raises(EnvironmentFault, match="older than what has gone"):
            recover(engine, [], CONTEXTS)
        ages.mark(engine.output, ages.Horizon(2, RECENT))
    assert found_by_verify(home) == []


# ----------------------------------------------------------------------------------------------------------- commands


def found_by_verify(home: Path) -> list[str]:
    with open_engine(home) as engine:
        return differences(engine)


def test_commands_say_what_has_gone(home: Path) -> None:
    """`verify` in a line, `trace` of its winner, `retry` and `usage`; the link does not dangle."""
    assert not (home / "output" / "raw" / "orders_raw.json").is_symlink()
    with open_engine(home) as engine:
        assert seeds.count(engine.ledger) == (2, 2)
        aged, there, unknown = (trace(engine, f"o_{number}") for number in (1, 3, 9))
        assert aged.agrees and there.agrees and aged.published == ("2024-03-02", 1, 1)
        assert "its raw copy has gone by age" in table(aged) and "has gone by age" not in table(there)
        assert "raw copies up to drop 2 have gone" in table(unknown)
        apply_batch(engine, home, [("c.json", as_drop([of(1, 2, amount=7, updated_at="2024-03-09")]))], RECENT)
        corrected = trace(engine, "o_1")
        assert corrected.agrees and [one.drop for one in corrected.versions] == [4]
    ended = strandline(home, "verify")
    assert ended.returncode == 0 and "1 orders in 1 partitions came from raw copies that have gone" in ended.stdout
    ended = strandline(home, "retry", "a.json")
    assert ended.returncode == 2 and "its raw copy has gone by age" in ended.stderr
    assert list((home / "inbox").iterdir()) == []


def test_the_same_bytes_again_are_a_duplicate_though_their_copy_has_gone(home: Path) -> None:
    """Also of a copy that a crash left without a row in the ledger; and nothing has to be read."""
    first = as_drop([of(1, 2), of(2, 3), {"order_id": 1}])
    with open_engine(home) as engine:
        assert apply_batch(engine, home, [("a.json", first)], RECENT).results[0].outcome is DropOutcome.DUPLICATE
        folder = home / "output" / "raw" / "received=2026-11-10"
        (folder / f"00000005_{hashlib.sha256(first).hexdigest()[:12]}_a.json").write_bytes(first)
        drops = recover(engine, [], CONTEXTS)
        assert [drop.seq for drop in drops] == [5]
        assert resume(engine, drops, RECEIVED_AT_US).results[0].outcome is DropOutcome.DUPLICATE
        assert len(list(folder.iterdir())) == 1
    assert found_by_verify(home) == []


def test_new_columns_reach_what_can_be_read_again(home: Path) -> None:
    """A rebuild with them leaves aged orders without; their file under the new columns is no duplicate. A column that has
    another type in what cannot be made anew is refused."""
    mapping = FieldMapping(columns=(("amount2", "decimal", ("amount",)),))
    contexts = {"default": ParseContext(0, DAY, mapping=mapping)}
    before = fact(home, 2).read_bytes()
    with open_engine(home) as engine:
        take_over(engine, prepare_rebuild(engine, RECEIVED_AT_US, contexts))
    with open_engine(home) as engine:
        publish_committed(engine, recovering=True)
        receipts.restore(engine.output, engine.ledger.all_results())
        assert fact(home, 2).read_bytes() == before
        values = {row["order_id"]: row["amount2"] for row in rows(home / "output", "2024-03-03")}
        assert values == {"o_2": None, "o_3": Decimal(3)}
        assert differences(engine) == []
        again = as_drop([of(1, 2), of(2, 3), {"order_id": 1}])
        result = apply_batch(engine, home, [("a.json", again)], RECENT, mapping=mapping).results[0]
        assert result.outcome is DropOutcome.APPLIED
        age(engine, {ages.RAW: 0}, RECEIVED_AT_US)
        texts = FieldMapping(columns=(("amount2", "text", ("amount",)),))
        with pytest.raises(UsageError, match=r"amount2 = \"text\".*cannot be made anew"):
            prepare_rebuild(engine, RECEIVED_AT_US, {"default": ParseContext(0, DAY, mapping=texts)})
        assert differences(engine) == []


def test_an_earlier_since_says_what_it_cannot_read(tmp_path: Path) -> None:
    with open_engine(tmp_path) as engine:
        for name, received_at in (("a.json", OLD), ("b.json", RECENT)):
            records = as_drop([of(1, 2), of(len(name) + received_at % 7, 4)], indent=1 if name == "a.json" else None)
            since = int(np.datetime64("2024-03-03", "us").astype(int))
            apply_batch(engine, tmp_path, [(name, records)], received_at, since=since)
        age(engine, {ages.RAW: 400}, RECEIVED_AT_US)
    ended = strandline(tmp_path, "--once", "--since", "2024-01-01")
    assert ended.returncode == 0 and "1 drops may have orders" in ended.stderr, ended.stderr
    assert dates(tmp_path / "output") == ["2024-03-02", "2024-03-04"]
    assert found_by_verify(tmp_path) == []


def test_a_backup_has_what_is_there_and_says_what_has_gone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is damaged in it, also where copies go while they are copied."""
    found = backup(home / "output", home / "one", "now", silent)
    assert found["damaged"] == []
    with open_engine(home) as engine:
        copy = module._copy_drops

        def slow(*given: Any) -> Any:
            age(engine, dict.fromkeys(ages.KINDS, 0), RECEIVED_AT_US)
            return copy(*given)

        monkeypatch.setattr(module, "_copy_drops", slow)
        assert backup(home / "output", home / "two", "now", silent)["damaged"] == []
    for name, gone in (("one", 2), ("two", 3)):
        restore(home / name, home / f"new-{name}" / "output", silent)
        with open_engine(home / f"new-{name}") as engine:
            assert recover(engine, [], CONTEXTS) == []
            assert engine.ledger.horizon(ages.RAW) == gone
            assert differences(engine) == []
        unchanged_by_a_rebuild(home / f"new-{name}", int(np.datetime64("2024-03-04T10:00:00", "us").astype(int)))


def test_usage_shows_the_disk_by_part(home: Path) -> None:
    """The sums are those of all files; what the next pass frees is what that removes."""
    keep = {kind: "forever" if kind == ages.RESTATEMENTS else "1d" for kind in ages.KINDS}
    limits = dict.fromkeys(ages.OF_DROPS, DAY_US)
    with open_engine(home) as engine:
        found = usage.gather(engine.output, usage.known(engine.output, engine.ledger, keep, limits, RECEIVED_AT_US))
        parts = {one["name"]: one for one in found["parts"]}
        there = [path for path in engine.output.rglob("*") if path.is_file()]
        assert (found["files"], found["bytes"]) == (len(there), sum(path.stat().st_size for path in there))
        assert {name: parts[name]["files"] for name in ("raw", "receipts", "discards", "fact_order", "dimensions")} == {
            "raw": 2, "receipts": 3, "discards": 2, "fact_order": 3, "dimensions": 1,
        }  # fmt: skip
        assert (parts["raw"]["oldest"], parts["fact_order"]["oldest"]) == ("2026-11-10", "2024-03-02")
        assert (parts["raw"]["keep"], parts["restatements"]["keep"], parts["ledger"]["keep"]) == ("1d", "forever", "")
        told = {one.kind: one for one in age(engine, dict.fromkeys(ages.OF_DROPS, 1), RECEIVED_AT_US)}
        removed = {kind: (told[kind].files, told[kind].bytes) for kind in (ages.RAW, ages.RECEIPTS, ages.DISCARDS)}
        assert removed == {kind: (parts[kind]["freed_files"], parts[kind]["freed_bytes"]) for kind in removed}
        text = usage.table(
            usage.gather(engine.output, usage.known(engine.output, engine.ledger, keep, limits, RECEIVED_AT_US))
        )
        assert "Gone by age: raw up to drop 3" in text and "order index" in text
    ended = strandline(home, "usage", "--json")
    assert ended.returncode == 0 and json.loads(ended.stdout)["free_disk_bytes"] > 0, ended.stderr
