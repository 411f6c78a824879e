"""Undo: whatever is withdrawn or applied again, what is published is what the applied drops come to. Two oracles say what that
is: the model of rows, and a plain one that also knows deletions, `--since` that moves back, and dimensions."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.batch import withdraw
from daemon.batch.engine import Engine
from daemon.batch.outcome import BatchOutcome
from daemon.batch.pipeline import catch_up, publish_committed
from daemon.core.entries import Undo
from daemon.core.mapping import DIRECT, FieldMapping
from daemon.core.model import ParseContext
from daemon.operate.rebuild import prepare_rebuild, take_over
from daemon.operate.verify import copy_ledger, verify
from daemon.storage.ledger import Ledger
from tests.model import Drop, Model
from tests.strategies import RECEIVED_AT_US, batches
from tests.support.as_model import assert_published, assert_restated, assert_restatements
from tests.support.crash import Crash, World
from tests.support.crash import run as next_run
from tests.support.examples import LONG, examples
from tests.support.harness import DAY, apply_batch, dates, open_engine, rows, tree

MAPPING = FieldMapping(deleted_path="gone", deleted_values=("true",))
HOURS = ["2026-11-10T10:00:00Z", "2026-11-10T11:00:00Z", "2026-11-11T10:00:00Z"]
LIMIT = "2026-11-11"  # of `--since`, where there is one


def undo(engine: Engine, seq: int, *, is_revert: bool = False) -> BatchOutcome:
    result = engine.ledger.result(seq)
    assert result is not None
    one = Undo(seq, RECEIVED_AT_US, "ada", "a test", is_revert)
    return withdraw.carry_out(engine, withdraw.read(engine, result, one))


def differences(engine: Engine) -> list[str]:
    """What `verify` finds."""
    with tempfile.TemporaryDirectory() as folder:
        scratch, path = Path(folder), engine.ledger.path
        copy_ledger(engine.ledger, scratch / "copy.sqlite")
        with closing(Ledger(scratch / "copy.sqlite")) as copy:
            return list(map(str, verify(replace(engine, ledger=copy), lambda: Ledger(path), scratch / "again", 0)))


def rebuilt(root: Path) -> None:
    with open_engine(root) as engine:
        take_over(engine, prepare_rebuild(engine, RECEIVED_AT_US, {"default": ParseContext(0, DAY, mapping=MAPPING)}))
    with open_engine(root) as engine:
        publish_committed(engine, recovering=True)


# ------------------------------------------------------------------------------------------------- the model of rows


@examples(30)
@given(batches(), st.data())
def test_rows_restatements_and_marks_are_those_of_the_model(many: list[list[bytes]], data: st.DataObject) -> None:
    """Rows, the order index, the high-water mark, and the log of restatements, after each batch, undo and revert."""
    model, number = Model(), 0
    with tempfile.TemporaryDirectory() as folder, open_engine(Path(folder)) as engine:
        root = Path(folder)

        def check() -> None:
            assert engine.ledger.hwm == model.hwm_us
            assert engine.ledger.pull_states() == {}
            assert_restatements(root / "output", model)
            assert_restated(engine, model)
            assert_published(engine, root / "output", model)

        for batch in many:
            named = [(f"drop-{number + i}.json", content) for i, content in enumerate(batch)]
            number += len(batch)
            apply_batch(engine, root, named, RECEIVED_AT_US)
            model.apply([Drop(name, content, RECEIVED_AT_US) for name, content in named])
            for _ in range(data.draw(st.integers(0, 2))):
                which = data.draw(st.sampled_from([*model.applied(), *model.withdrawn(), 0]))
                if which in model.applied():
                    outcome = undo(engine, which)
                    model.undo(which)
                elif which:
                    outcome = undo(engine, which, is_revert=True)
                    model.revert(which)
                else:
                    continue
                assert sorted(w.date for w in outcome.written) == model.affected
                check()
        check()
        assert differences(engine) == []


# ------------------------------------------------------------------------------------------------- any kind of history


@dataclass
class Told:
    """One drop, as the plain oracle has it."""

    seq: int
    kind: str  # orders, user
    content: bytes
    records: list[dict[str, Any]]
    since: str | None
    is_applied: bool = True


@dataclass
class Oracle:
    """What all applied drops come to."""

    drops: list[Told] = field(default_factory=list)

    def add(self, one: Told) -> bool:
        """Adds a drop, unless it is a duplicate; returns whether it was none."""
        alike = [other for other in self.drops if other.is_applied and other.kind == one.kind]
        alike = alike[-1:] if one.kind == "user" else alike
        for other in alike:
            as_far_back = other.since is None or (one.since is not None and other.since <= one.since)
            if other.content == one.content and as_far_back:
                return False
        self.drops.append(one)
        return True

    def chosen(self, kind: str) -> list[Told]:
        return sorted((one for one in self.drops if one.is_applied and one.kind == kind), key=lambda one: one.seq)

    def versions(self) -> list[tuple[tuple[str, int, int], dict[str, Any]]]:
        """The accepted records of all applied drops, with their versions."""
        return [
            ((record.get("updated_at", record["created_at"]), one.seq, position), record)
            for one in self.chosen("orders")
            for position, record in enumerate(one.records)
            if record["gone"] or one.since is None or record["created_at"] >= one.since
        ]

    def published(self) -> dict[str, tuple[str, int]]:
        latest: dict[str, tuple[tuple[str, int, int], dict[str, Any]]] = {}
        for version, record in self.versions():
            if record["order_id"] not in latest or version > latest[record["order_id"]][0]:
                latest[record["order_id"]] = version, record
        kept = [record for _, record in latest.values() if not record["gone"]]
        return {record["order_id"]: (record["created_at"][:10], record["amount"]) for record in kept}

    def hwm(self) -> int | None:
        created = [record["created_at"] for _, record in self.versions() if not record["gone"]]
        return max((int(datetime.fromisoformat(one).timestamp()) * 1_000_000 for one in created), default=None)

    def users(self) -> dict[str, str] | None:
        """None: no drop of users is applied."""
        drops = self.chosen("user")
        found = {record["user_id"]: record["country"] for one in drops for record in one.records}
        return dict(sorted(found.items())) if drops else None


def _record(order_id: int, created: int, updated: int | None, gone: bool, amount: int) -> dict[str, Any]:
    found = {"order_id": str(order_id), "created_at": HOURS[created], "amount": amount, "gone": gone}
    return found if updated is None else found | {"updated_at": HOURS[updated]}


def _records(ids: int, gone: list[bool]) -> st.SearchStrategy[list[dict[str, Any]]]:
    one = st.builds(
        _record, st.integers(1, ids), st.integers(0, 2), st.none() | st.integers(0, 2), st.sampled_from(gone),
        st.integers(0, 2),
    )  # fmt: skip
    return st.lists(one, min_size=1, max_size=3)


USERS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["DE", "NL"])), min_size=0, max_size=2)
STEPS = ["drop"] * 4 + ["undo"] * 3 + ["revert"] * 2 + ["users", "catch up"]


def _state(root: Path) -> tuple[dict[str, tuple[str, int]], dict[str, str] | None]:
    output = root / "output"
    orders = {str(row["order_id"]): (date, int(str(row["amount"]).partition(".")[0])) for date in dates(output) for row in rows(output, date)}  # fmt: skip # noqa: E501
    path = output / "curated" / "dim_user.parquet"
    if not path.exists():
        return orders, None
    users = pq.read_table(path)
    return orders, dict(zip(users["user_id"].to_pylist(), users["country"].to_pylist(), strict=True))


class Steps:
    """Steps, each taken by an engine and by the oracle. `deletes`: whether the mapping knows deletions, which
    decides what an undo has to read."""

    def __init__(self, root: Path, engine: Engine, *, deletes: bool) -> None:
        self.root, self.engine, self.mapping = root, engine, MAPPING if deletes else DIRECT
        self.oracle, self.seq = Oracle(), 0

    def orders(self, drops: list[list[dict[str, Any]]], since: str | None = None) -> None:
        named = []
        for records in drops:
            content = "\n".join(map(json.dumps, records)).encode()
            self.seq += 1
            self.oracle.add(Told(self.seq, "orders", content, records, since))
            named.append((f"{self.seq:03}.jsonl", content))
        self._apply(named, since)

    def users(self, records: list[dict[str, Any]]) -> None:
        content = "".join(["user_id,country\n", *(f"{one['user_id']},{one['country']}\n" for one in records)]).encode()
        self.seq += 1
        self.oracle.add(Told(self.seq, "user", content, records, None))
        self._apply([(f"users{self.seq:03}.csv", content)], None)

    def _apply(self, named: list[tuple[str, bytes]], since: str | None) -> None:
        instant = None if since is None else int(datetime.fromisoformat(f"{since}T00:00:00Z").timestamp()) * 1_000_000
        outcome = apply_batch(self.engine, self.root, named, RECEIVED_AT_US, since=instant, mapping=self.mapping)
        applied = {one.seq for one in self.oracle.drops}
        for one in outcome.results:
            assert str(one.outcome) == ("applied" if one.drop.seq in applied else "duplicate")

    def catch_up(self) -> None:
        if found := self.engine.ledger.read_since(0):
            catch_up(self.engine, found, 0, RECEIVED_AT_US)
            for one in self.oracle.drops:
                if one.seq in {result.drop.seq for result in found}:
                    one.since = ""

    def undo(self, seq: int, *, is_revert: bool = False) -> None:
        (one,) = [one for one in self.oracle.drops if one.seq == seq]
        one.is_applied = is_revert
        undo(self.engine, seq, is_revert=is_revert)

    def revert(self, seq: int) -> None:
        self.undo(seq, is_revert=True)

    def check(self) -> None:
        assert _state(self.root) == (self.oracle.published(), self.oracle.users())
        assert self.engine.ledger.hwm == self.oracle.hwm()
        assert differences(self.engine) == []
        self.engine.ledger.refuse_lost_drops()  # a start would refuse a ledger whose sums do not count its drops


class History(Steps):
    """Random steps."""

    def __init__(self, root: Path, engine: Engine, data: st.DataObject) -> None:
        self.gone = data.draw(st.sampled_from([[False], [False, False, True]]))
        super().__init__(root, engine, deletes=len(self.gone) > 1)
        self.draw = data.draw
        self.ids = self.draw(st.sampled_from([2, 9]))  # with 9, drops often bring new orders only

    def step(self) -> None:
        name = self.draw(st.sampled_from(STEPS))
        if name == "drop":
            drops = self.draw(st.lists(_records(self.ids, self.gone), min_size=1, max_size=2))
            self.orders(drops, self.draw(st.sampled_from([None, None, None, LIMIT])))
        elif name == "users":
            self.users([{"user_id": key, "country": country} for key, country in self.draw(USERS)])
        elif name == "catch up":
            self.catch_up()
        elif choice := [one.seq for one in self.oracle.drops if one.is_applied == (name == "undo")]:
            self.undo(self.draw(st.sampled_from(choice)), is_revert=name == "revert")


@examples(30)
@given(st.data())
def test_any_history_comes_to_what_its_applied_drops_say(data: st.DataObject) -> None:
    """Drops, duplicates, corrections, deletions, users, `--since` that moves back, undos and reverts, in any order: orders, users
    and the high-water mark are those of the oracle, `verify` finds nothing, and a rebuild changes nothing, also of a lost
    ledger."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with open_engine(root) as engine:
            history = History(root, engine, data)
            for _ in range(data.draw(st.integers(3, 9))):
                history.step()
                assert _state(root) == (history.oracle.published(), history.oracle.users())
            history.check()
            before = tree(root / "output" / "curated")
        if data.draw(st.booleans()):
            shutil.rmtree(root / "output" / "state")
        rebuilt(root)
        assert tree(root / "output" / "curated") == before
        with open_engine(root) as history.engine:
            history.check()
            history.step()
            history.check()


def _at(updated: int, amount: int = 0, *, gone: bool = False) -> list[list[dict[str, Any]]]:
    """A drop with a version of the one order."""
    return [[_record(1, 0, updated, gone, amount)]]


def _came_back_meanwhile(take: Steps) -> None:
    """The first drop was away when the second came, whose order was new then."""
    take.orders(_at(0, 1))
    take.undo(1)
    take.orders(_at(1, 2))
    take.revert(1)
    take.undo(2)


def _was_away_meanwhile(take: Steps) -> None:
    """The first drop was away when the second came, which lost nothing."""
    take.orders(_at(1, 1))
    take.undo(1)
    take.orders(_at(0, 2))
    take.revert(1)
    take.undo(1)


def _new_after_a_deletion(take: Steps) -> None:
    """The third drop brings the order back as a new one. Its deletion counts again, and then what that deleted."""
    take.orders(_at(0, 1))
    take.orders(_at(1, gone=True))
    take.orders(_at(2, 2))
    take.undo(3)
    take.check()
    take.undo(2)


def _new_after_a_deletion_that_an_undo_brought(take: Steps) -> None:
    """The deletion was superseded when it came, so no drop counts one."""
    take.orders(_at(0, 1))
    take.orders(_at(2, 2))
    take.orders(_at(1, gone=True))
    take.undo(2)
    take.orders(_at(2, 3))
    take.undo(3)
    take.undo(4)


def _caught_up(take: Steps) -> None:
    """The version of the first drop is accepted after the second drop came."""
    take.orders([*_at(0, 1), [_record(2, 2, None, gone=False, amount=1)]], LIMIT)
    take.orders(_at(1, 2))
    take.catch_up()
    take.undo(3)


@pytest.mark.parametrize(
    "history",
    [
        _came_back_meanwhile, _was_away_meanwhile, _new_after_a_deletion, _new_after_a_deletion_that_an_undo_brought,
        _caught_up,
    ],
)  # fmt: skip
def test_every_drop_that_may_have_an_older_version_is_read(tmp_path: Path, history: Callable[[Steps], None]) -> None:
    """Histories in which all records of the withdrawn drop counted as new, and another drop has one of its orders."""
    with open_engine(tmp_path) as engine:
        steps = Steps(tmp_path, engine, deletes="deletion" in history.__name__)
        history(steps)
        steps.check()


# ------------------------------------------------------------------------------------------------------------- crashes


def _orders(*numbers: int, **more: object) -> list[dict[str, object]]:
    return [{"order_id": str(n), "created_at": HOURS[n % 3], "amount": n} | more for n in numbers]


def _lines(*records: dict[str, object]) -> bytes:
    return "\n".join(map(json.dumps, records)).encode()


def _world(root: Path) -> None:
    """The third drop corrects, moves, deletes and adds orders, has discards, and fills a date of its own; the fourth has a
    superseded version of one of them; the sixth is a duplicate of the third. Two drops of users."""
    moved = {"order_id": "1", "created_at": HOURS[2], "updated_at": "2026-11-12T00:00:00Z", "amount": 7}
    gone = {"order_id": "3", "created_at": HOURS[0], "updated_at": "2026-11-12T00:00:00Z", "gone": True}
    alone = {"order_id": "9", "created_at": "2026-11-13T00:00:00Z", "updated_at": "2026-11-14T00:00:00Z", "amount": 9}
    third = _lines(moved, gone, alone, *_orders(4, 5), {"order_id": "bad"})
    many = [
        [("1.jsonl", _lines(*_orders(1, 2, 3)))],
        [("users2.csv", b"user_id,country\na,DE\n")],
        [("3.jsonl", third)],
        [("4.jsonl", _lines(*_orders(9, 8)))],
        [("users5.csv", b"user_id,country\na,NL\nb,NL\n"), ("users5x.csv", b"user_id,country\n,NL\n")],
        [("6.jsonl", third)],
    ]
    with open_engine(root) as engine:
        for batch in many:
            apply_batch(engine, root, batch, RECEIVED_AT_US, mapping=MAPPING)


def _seen(root: Path) -> dict[str, str]:
    """Everything under the output, but for the ledger, whose content `verify` compares with it."""
    found = tree(root / "output")
    return {path: digest for path, digest in found.items() if not path.startswith("state/") and path[-4:] != ".tmp"}


def _dies(root: Path, work: Callable[[Engine], object], last: int, *, after: bool) -> bool:
    try:
        with World(last, after=after).running(), open_engine(root) as engine:
            work(engine)
    except Crash:
        return True
    return False


@pytest.mark.parametrize(("seq", "is_revert"), [(3, False), (3, True), (5, False), (5, True)])
def test_an_undo_that_ends_anywhere_is_finished_or_never_was(tmp_path: Path, seq: int, is_revert: bool) -> None:
    """At each change to a file or the ledger, and at some of those of the next run, too."""
    template, done = tmp_path / "template", tmp_path / "done"
    _world(template)
    with open_engine(template) as engine:
        if is_revert:
            undo(engine, seq)
    shutil.copytree(template, done, symlinks=True)
    before = _seen(template)
    with open_engine(done) as engine:
        undo(engine, seq, is_revert=is_revert)
        assert differences(engine) == []
    expected = _seen(done)
    outcomes = set()
    for last in range(1, 1000, 1 if LONG or seq == 5 else 3):
        root = tmp_path / str(last)
        shutil.copytree(template, root, symlinks=True)
        if not _dies(root, lambda engine: undo(engine, seq, is_revert=is_revert), last, after=last % 4 > 1):
            break
        if last % 5 == 0:  # the run that finishes ends early, too
            with pytest.raises(Crash), World(3 + last % 7, after=True).running():
                next_run(root)
                raise Crash
        next_run(root)
        with open_engine(root) as engine:
            is_done = len(engine.ledger.result(seq).undos) == 1 + is_revert  # type: ignore[union-attr]
            assert _seen(root) == (expected if is_done else before), last
            if not is_done:
                undo(engine, seq, is_revert=is_revert)
        outcomes.add(is_done)
        assert _seen(root) == expected, last
        if last % 9 == 0:
            with open_engine(root) as engine:
                assert differences(engine) == []
        shutil.rmtree(root)
    assert outcomes == {True, False} and last > 10, "the undo must have many steps"


# ------------------------------------------------------------------------------------------------------------- raw copies


def test_the_raw_copy_of_a_withdrawn_drop_is_not_needed_until_it_is_applied_again(tmp_path: Path) -> None:
    """Damaged or gone, it hinders no undo; the revert says what is wrong, and changes nothing."""
    _world(tmp_path)
    copy = next((tmp_path / "output" / "raw").rglob("00000003_*"))
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-1])
    with open_engine(tmp_path) as engine:
        undo(engine, 3)
        assert ["not the bytes that arrived" in one for one in differences(engine)] == [True]
        copy.unlink()
        assert differences(engine) == []
        before = _seen(tmp_path)
        with pytest.raises(Exception, match="missing or is not what was archived as drop 3; restore it from a backup"):
            undo(engine, 3, is_revert=True)
        assert _seen(tmp_path) == before
        copy.write_bytes(whole)
        undo(engine, 3, is_revert=True)
        assert differences(engine) == []


def test_only_drops_that_lost_a_record_are_read_where_all_records_were_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fourth drop has an earlier version of an order of the third; nobody else can have one."""
    read: list[int] = []
    ours = withdraw.read_all
    monkeypatch.setattr(
        withdraw, "read_all", lambda reader, drops: read.extend(d.seq for d in drops) or ours(reader, drops)
    )
    with open_engine(tmp_path) as engine:
        newer = _orders(7, 8, updated_at="2026-11-12T00:00:00Z")
        for number, records in enumerate([_orders(1, 2), _orders(3), newer, _orders(7, 5), _orders(4)], 1):
            apply_batch(engine, tmp_path, [(f"{number}.jsonl", _lines(*records))], RECEIVED_AT_US)
        undo(engine, 3)
        assert read == [4]
        assert set(_state(tmp_path)[0]) == {"1", "2", "3", "7", "5", "4"}
        assert differences(engine) == []
        undo(engine, 3, is_revert=True)
        read.clear()
        undo(engine, 3)  # it was away once, and what came meanwhile did not count it
        assert read == [1, 2, 4, 5]


def test_the_same_bytes_after_an_undo_are_a_new_drop(tmp_path: Path) -> None:
    """And not a duplicate of what is withdrawn; the duplicates that came before go with it."""
    with open_engine(tmp_path) as engine:
        for name in ("a.json", "b.json"):
            apply_batch(engine, tmp_path, [(name, json.dumps(_orders(1)).encode())], RECEIVED_AT_US)
        undo(engine, 1)
        assert dates(tmp_path / "output") == [] and engine.ledger.hwm is None
        assert not (tmp_path / "output" / "raw" / "orders_raw.json").is_symlink()
        (result,) = apply_batch(engine, tmp_path, [("c.json", json.dumps(_orders(1)).encode())], RECEIVED_AT_US).results
        assert (str(result.outcome), result.counts.new) == ("applied", 1)
        undo(engine, 1, is_revert=True)
        assert differences(engine) == []


def test_what_a_drop_sent_again_is_found_where_it_also_sent_something_older(tmp_path: Path) -> None:
    """As many of its records are superseded as unchanged: neither number alone says that no other drop has these orders."""
    first = [
        {"order_id": "o_1", "created_at": HOURS[0], "updated_at": HOURS[2], "amount": 1},
        {"order_id": "o_2", "created_at": HOURS[0], "amount": 2},
    ]
    second = [
        {"order_id": "o_1", "created_at": HOURS[0], "updated_at": HOURS[1], "amount": 9},
        {"order_id": "o_2", "created_at": HOURS[0], "amount": 2},
    ]
    with open_engine(tmp_path) as engine:
        for number, orders in enumerate((first, second)):
            content = "".join(json.dumps(one) + "\n" for one in orders).encode()
            apply_batch(engine, tmp_path, [(f"{number}.ndjson", content)], RECEIVED_AT_US)
        result = engine.ledger.result(2)
        assert result is not None and (result.counts.superseded, result.counts.unchanged) == (1, 1)
        before = rows(tmp_path / "output", "2026-11-10")
        undo(engine, 2)
        assert rows(tmp_path / "output", "2026-11-10") == before and len(before) == 2
        assert differences(engine) == []
