"""Reading drops: however they are divided, and whatever one of them brings, each gets what it gets alone."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.batch.outcome import BatchOutcome
from daemon.batch.reading import Limits, Reader
from daemon.batch.repair import partitions_from_raw
from daemon.core.errors import Corruption, Stopped
from daemon.core.model import DropOutcome, ParseContext
from daemon.core.parse import discards, documents
from daemon.core.parse.documents import Form
from daemon.execution import early, spill, tasks
from daemon.execution.workers import Inline, Workers
from daemon.observe import log
from daemon.storage import files
from tests.support.command import order
from tests.support.examples import examples
from tests.support.harness import DAY, apply_batch, dates, open_engine, rows, tree
from tests.support.zips import zipped

SLOW = examples(200)
NOW = 1_780_000_000_000_000


def outcomes(outcome: BatchOutcome) -> dict[str, str]:
    return {result.drop.name: result.outcome.value for result in outcome.results}


@pytest.mark.parametrize("deep_at", [0, 57, 199])
def test_a_record_too_deep_makes_the_whole_array_unreadable_also_when_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deep_at: int
) -> None:
    """A drop is read or not read as a whole, however it is divided."""
    orders = [order(number) for number in range(200)]
    nested = "[" * 5000 + "]" * 5000
    texts = [json.dumps(one) for one in orders]
    texts[deep_at] = texts[deep_at][:-1] + f', "metadata": {nested}}}'
    data = f"[{', '.join(texts)}]".encode()
    answers = []
    for piece_bytes in (1 << 20, 2000):
        monkeypatch.setattr(tasks, "PIECE_BYTES", piece_bytes)
        root = tmp_path / str(piece_bytes)
        with open_engine(root) as engine:
            outcome = apply_batch(engine, root, [("deep.json", data), ("good.json", b"[%s]" % texts[0].encode())], NOW)
        answers.append([(r.drop.name, r.outcome, r.reason) for r in outcome.results])
    assert answers[0] == answers[1]
    assert answers[0][0][1] is DropOutcome.QUARANTINED and "deep" in str(answers[0][0][2])


def test_a_wrong_cut_is_noticed_and_the_drop_is_read_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seams that lie inside records: lists of objects that open like the array's own."""
    orders = [order(number, metadata={"parts": [{"order_id": "x", "n": 1}] * 40}) for number in range(50)]
    data = json.dumps(orders).encode()
    wrong = 0

    def counted(*arguments: object, **options: object) -> object:
        nonlocal wrong
        answer = read(*arguments, **options)  # type: ignore[arg-type]
        wrong += answer is None
        return answer

    read = tasks.read
    results = []
    for piece_bytes in (1 << 20, 1500):
        monkeypatch.setattr(tasks, "PIECE_BYTES", piece_bytes)
        monkeypatch.setattr(tasks, "read", counted)
        root = tmp_path / str(piece_bytes)
        with open_engine(root) as engine:
            apply_batch(engine, root, [("a.json", data)], NOW)
        results.append(tree(root / "output" / "curated"))
    assert results[0] == results[1] and wrong > 0


PERSONAL = "erika.mustermann@example.com"


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({PERSONAL: 1, "error": PERSONAL}),
        f'[{{"order_id": "{PERSONAL}"',
        f'{{"order_id": "{PERSONAL}"}} trailing',
        f"<html>{PERSONAL}</html>",
        f'"{PERSONAL}"',
        f'{{"data": {{"{PERSONAL}": [1]}}}}',
        f"{PERSONAL},{PERSONAL}",
    ],
)
def test_no_log_holds_anything_of_a_record(tmp_path: Path, content: str) -> None:
    """The text around a damage is where the drop is: in quarantine, receipts and on the page. In logs it has no place."""
    stream = io.StringIO()
    log.set_up("debug", "json", stream)
    with open_engine(tmp_path) as engine:
        outcome = apply_batch(engine, tmp_path, [("a.json", content.encode())], NOW)
    log.Reporter().applied(outcome, [])
    assert outcome.results[0].outcome is DropOutcome.QUARANTINED
    assert "drop quarantined" in stream.getvalue() and "mustermann" not in stream.getvalue().lower()


def test_an_error_that_nobody_foresaw_costs_its_drop_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of ours in the parse room quarantines the drop that brought it about; the rest of its batch is applied."""
    split = documents.split

    def broken(data: bytes, *rest: object) -> object:
        if b"poison" in data:
            raise ZeroDivisionError("a mistake of ours")
        return split(data, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("daemon.core.parse.parse.split", broken)
    drops = [(f"{number}.json", json.dumps([order(number)]).encode()) for number in range(5)]
    drops.insert(2, ("poison.json", json.dumps([order(9, note="poison")]).encode()))
    with open_engine(tmp_path) as engine:
        outcome = apply_batch(engine, tmp_path, drops, NOW)
    assert outcomes(outcome) == {name: "quarantined" if "poison" in name else "applied" for name, _ in drops}
    reason = next(result.reason for result in outcome.results if result.reason)
    assert "an unexpected error in broken (test_reading.py, line" in reason and "a mistake" not in reason
    assert len(rows(tmp_path / "output", "2026-03-02")) == 5


class Deadly(Inline):
    """Workers that are killed by what has something of one drop, and with it all that runs: here, all that follows at once."""

    def __init__(self, drop: int) -> None:
        self.drop, self.kills = drop, 0

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        if all(span.drop != self.drop for span in arguments[0]):
            return super().submit(function, *arguments, **options)
        self.kills += 1
        future: Future[Any] = Future()
        future.set_exception(BrokenExecutor("a worker was killed"))
        return future


@pytest.mark.parametrize("piece_bytes", [150, 1_000], ids=["divided", "together"])
@pytest.mark.parametrize("deadly", [1, 3, 5])
def test_a_drop_that_kills_its_worker_is_unreadable_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deadly: int, piece_bytes: int
) -> None:
    """Whether it was divided, or read together with others; and nothing is, if a signal ended all processes."""
    monkeypatch.setattr(tasks, "PIECE_BYTES", piece_bytes)
    drops = [(f"{n}.jsonl", lines([order(10 * n + i) for i in range(4)])) for n in range(1, 6)]
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, drops, NOW)
        applied = list(engine.ledger.applied_drops())
        workers = Deadly(deadly)
        parsed = replace(engine.reader, executor=workers).read(applied)
        with pytest.raises(Stopped):
            replace(engine.reader, executor=workers).read(applied, stopped=lambda: True)
    assert workers.kills > 1 and parsed.unreadable.keys() == {deadly}
    assert "killed a process that read only this file" in parsed.unreadable[deadly]
    expected = sorted(f"o_{10 * n + i}" for n in range(1, 6) for i in range(4) if n != deadly)
    assert sorted(parsed.orders["order_id"].to_pylist()) == expected and parsed.tallies.keys() == {1, 2, 3, 4, 5} - {
        deadly
    }


@pytest.mark.parametrize(
    ("one", "other"), [("a.txt", "b.json"), ("b.txt.gz", "b.json.gz"), ("users.csv", "products.csv")]
)
def test_equal_bytes_that_are_read_differently_are_no_duplicates(tmp_path: Path, one: str, other: str) -> None:
    """In one batch and one after the other: what cannot be read under one name may be fine under another."""
    data = b"sku,user_id\np_1,u_1\n" if "csv" in one else json.dumps([order(1)]).encode()
    for root, batches in ((tmp_path / "together", [[one, other]]), (tmp_path / "apart", [[other], [one]])):
        with open_engine(root) as engine:
            found = [outcomes(apply_batch(engine, root, [(name, data) for name in batch], NOW)) for batch in batches]
        assert "duplicate" not in {outcome for batch in found for outcome in batch.values()}


def test_limits_that_were_lowered_do_not_judge_again(tmp_path: Path) -> None:
    """What was applied once is made anew from raw, whatever the settings say today."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", json.dumps([order(n) for n in range(50)]).encode())], NOW)
        before = tree(tmp_path / "output" / "curated")
        fact = tmp_path / "output" / "curated" / "date=2026-03-02" / "fact_order.parquet"
        fact.unlink()
        strict = Reader(engine.output, engine.store.staging, Limits(10, 1), Inline())
        partitions_from_raw(engine.ledger, strict, engine.store, list(engine.ledger.partitions()))
    assert tree(tmp_path / "output" / "curated") == before


def test_a_damaged_raw_copy_makes_nothing_anew(tmp_path: Path) -> None:
    """The error names the file and what to do; what is published stays as it is."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", json.dumps([order(1)]).encode())], NOW)
        before = tree(tmp_path / "output" / "curated")
        (copy,) = (tmp_path / "output" / "raw").glob("received=*/*_a.json")
        copy.write_bytes(json.dumps([order(2)]).encode())
        with pytest.raises(Corruption, match=r"00000001_.*_a\.json is missing or is not what was archived.*backup"):
            partitions_from_raw(engine.ledger, engine.reader, engine.store, list(engine.ledger.partitions()))
    assert tree(tmp_path / "output" / "curated") == before


def test_orders_move_across_many_dates_in_one_batch(tmp_path: Path) -> None:
    """Every order of 40 dates goes to another one of them; each is there once, where its latest version says."""
    days = [f"2026-{3 + number // 28:02d}-{1 + number % 28:02d}" for number in range(40)]

    def all_orders(shift: int) -> bytes:
        orders = [
            order(
                number,
                created_at=f"{days[(number + shift) % 40]}T10:00:00Z",
                updated_at=f"2026-05-{10 + shift}T00:00:00Z",
            )
            for number in range(200)
        ]
        return json.dumps(orders).encode()

    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", all_orders(0))], NOW)
        apply_batch(engine, tmp_path, [("b.json", all_orders(13))], NOW)
    found = {row["order_id"]: date for date in dates(tmp_path / "output") for row in rows(tmp_path / "output", date)}
    assert found == {f"o_{number}": days[(number + 13) % 40] for number in range(200)}
    assert sum(len(rows(tmp_path / "output", date)) for date in days) == 200


# --------------------------------------------------------------------------------------------------------- a resend


class Near(Workers):
    """Workers that are there from the start, in this thread."""

    def __init__(self) -> None:
        super().__init__(1, 1 << 30)
        self.started, self.inline = True, Inline()
        self.read: list[list[int]] = []  # the drops of each read task

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        if function is tasks.read:
            self.read.append([span.drop for span in arguments[0]])
        return self.inline.submit(function, *arguments, **options)


def lines(orders: Sequence[dict[str, object]]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in orders)


def array(orders: Sequence[dict[str, object]]) -> bytes:
    return json.dumps(orders).encode()


# What becomes of an order that comes again: the same, another spelling, a change, a move to another date, an older
# version, one that may not be (it is discarded), a record for the strict lane.
AGAIN: list[dict[str, object]] = [
    {}, {"unknown": 1}, {"amount": 7}, {"created_at": "2026-03-09T10:00:00Z"}, {"updated_at": "2026-03-01T00:00:00Z"},
    {"created_at": None}, {"amount": "1e0"},
]  # fmt: skip


USERS = b"user_id,email\nu_1,a@example.com\n"
ZIP = zipped(("x.json", lines([order(1), order(2)])), ("y.json", array([order(3)])))


def both_ways(root: Path, batches: Sequence[Sequence[tuple[str, bytes]]]) -> tuple[dict[str, str], dict[str, str]]:
    """The published layers after some batches: read while drops are copied, and after."""
    found = []
    for name, executor in (("near", Near()), ("plain", None)):
        home = root / name
        with open_engine(home, executor) as engine:
            for batch in batches:
                outcome = apply_batch(engine, home, batch, NOW)
        counts = {f"counts {result.drop.seq}": result.counts.to_json() for result in outcome.results}
        found.append(tree(home / "output" / "curated") | tree(home / "output" / "discarded") | counts)
        assert not list((home / "output" / ".staging").rglob("read-*"))
    return found[0], found[1]


@examples(30)
@given(st.data())
def test_a_resend_is_applied_alike_whether_it_is_read_while_it_is_copied_or_after(choice: st.DataObject) -> None:
    """Batches of drops of whatever size, some of their orders changed in whatever way, known to most or not; the same bytes
    again, and drops of other kinds between them."""
    many = 60
    orders = [order(number, day=1 + number % 5) for number in range(many)]
    batches = [[("a.json", lines(orders))]]
    others = [
        ("a.json", lines(orders)),
        ("users.csv", USERS),
        ("d.json.gz", gzip.compress(lines(orders[:9]))),
        ("e.zip", ZIP),
    ]
    for batch in range(choice.draw(st.integers(1, 2))):
        drops = []
        for name in "bcdefg"[: choice.draw(st.integers(1, 6))]:
            again = [one | {"unknown": f"{batch}{name}"} for one in orders]
            for number in choice.draw(st.lists(st.integers(0, many - 1), max_size=8)):
                again[number] |= choice.draw(st.sampled_from(AGAIN))
            more = [
                again[number] | {"amount": number} for number in choice.draw(st.lists(st.integers(0, 5), max_size=3))
            ]
            form = choice.draw(st.sampled_from([lines, array]))
            kept = choice.draw(st.sampled_from([2, 5, many]))
            drops.append((f"{batch}{name}.json", form(again[:kept] + more)))
        for other in choice.draw(st.lists(st.sampled_from([*others, *drops]), max_size=2)):
            drops.insert(
                choice.draw(st.integers(0, len(drops))), (other[0].replace(".", f"-{len(drops)}.", 1), other[1])
            )
        batches.append(drops)
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as root:
        patch.setattr(tasks, "PIECE_BYTES", choice.draw(st.sampled_from([150, 700, 2_000])))
        patch.setattr(early, "_LEAST_BYTES", choice.draw(st.sampled_from([0, 400])))
        patch.setattr(files, "_BLOCK_BYTES", choice.draw(st.sampled_from([1_000, 1 << 20])))
        found, expected = both_ways(Path(root), batches)
    assert found == expected


def test_each_drop_is_read_once_and_most_before_all_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "_LEAST_BYTES", 0)
    monkeypatch.setattr(tasks, "PIECE_BYTES", 2_500)
    drops = [(f"{number}.json", lines([order(10 * number + one) for one in range(6)])) for number in range(9)]
    assert 2_500 / 4 < len(drops[0][1]) < 2_500 / 3  # three a task
    near, began = Near(), []
    begin = Reader.begin
    monkeypatch.setattr(Reader, "begin", lambda *given: began.append(len(near.read)) or begin(*given))
    with open_engine(tmp_path, near) as engine:
        outcome = apply_batch(engine, tmp_path, drops, NOW)
    assert near.read == [[1, 2, 3], [4, 5, 6], [7, 8, 9]] and began == [2]  # tasks that had begun when all were copied
    assert sum(result.counts.extracted for result in outcome.results) == 54


@pytest.mark.parametrize("is_zipped", [False, True])
def test_what_was_read_of_a_batch_that_was_given_up_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_zipped: bool
) -> None:
    """The next batch has drops with the same numbers, names of copies and sizes."""
    monkeypatch.setattr(early, "_LEAST_BYTES", 0)
    monkeypatch.setattr(tasks, "PIECE_BYTES", 800)

    def batch(amount: int) -> list[tuple[str, bytes]]:
        return [(f"{number}.json", lines([order(number, amount=amount)])) for number in range(12)]

    with open_engine(tmp_path, Near()) as engine:
        with monkeypatch.context() as patch:
            patch.setattr(Reader, "begin", lambda *given: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                apply_batch(engine, tmp_path, batch(111), NOW)
        for path in (tmp_path / "inbox").iterdir():
            path.unlink()
        apply_batch(engine, tmp_path, [("all.zip", zipped(*batch(222)))] if is_zipped else batch(222), NOW)
    found = [row["amount"] for date in dates(tmp_path / "output") for row in rows(tmp_path / "output", date)]
    assert sum(found) == 12 * 222, found


# ------------------------------------------------------------------------------------------------------------- junk


def junk(lines: int) -> bytes:
    """A drop of one order, and of so many records that are none, in as few bytes as possible."""
    return b'{"order_id":"a","created_at":"2026-03-02"}\n' + b"1\n" * lines


def test_junk_travels_as_a_file(tmp_path: Path) -> None:
    """A drop may have a discard in every two bytes. What is sent of them to the process that gathers is no larger for that."""
    path = tmp_path / "junk.jsonl"
    path.write_bytes(junk(100_000))
    span = tasks.Span(1, path, 0, path.stat().st_size, ParseContext(NOW, DAY), Form.WHOLE)
    answer = tasks.read([span], tmp_path)
    assert answer is not None and len(pickle.dumps(answer)) < 10_000
    (parsed,) = answer.collected()
    assert parsed.discards.num_rows == 100_000 and list(tmp_path.iterdir()) == [path]


def test_discards_are_the_same_bytes_however_they_are_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces, files and slices: positions go on through a drop, and each drop's file has all of it, by position."""
    records = [
        b'{"order_id":"a", "created_at":"2026-03-02"}',
        b"{ }",
        b"\xff",
        '{"order_id": "ü"}'.encode(),
        b'"a text"',
        b'{"a" 1}',
    ]
    drops = [(f"{n}.jsonl", b"\n".join(records * (n + 1)) + b"\n") for n in range(12)]
    drops.insert(5, ("users.csv", b"user_id,email\n" + b",x\n" * 9 + b"u,x,too many\nv,x\n"))
    found = []
    for piece_bytes, least_bytes, together in ((1 << 20, 1 << 20, 1 << 14), (300, 1, 3)):
        monkeypatch.setattr(tasks, "PIECE_BYTES", piece_bytes)
        monkeypatch.setattr(spill, "LEAST_BYTES", least_bytes)
        for name in ("_CHUNK_ROWS", "_SLICE_ROWS", "_SLICE_BYTES"):
            monkeypatch.setattr(discards, name, together)
        root = tmp_path / str(piece_bytes)
        with open_engine(root) as engine:
            apply_batch(engine, root, drops, NOW)
        found.append(tree(root / "output" / "discarded"))
        assert not list((root / "output" / ".staging").rglob("read-*"))
    assert found[0] == found[1] and len(found[0]) == 13
    (last,) = (tmp_path / "300" / "output" / "discarded").rglob("00000013.jsonl")
    positions = [json.loads(line)["position"] for line in last.read_text(encoding="utf-8").splitlines()]
    assert positions == [position for position in range(1, 73) if position % 6 != 1]


def test_who_asks_for_an_end_does_not_wait_for_junk_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two slices a stop is seen; nothing is committed then, and the next start writes all of it."""
    written = 0

    def counted(rows: object) -> memoryview:
        nonlocal written
        written += 1
        return lines(rows)  # type: ignore[arg-type]

    lines = discards.lines
    monkeypatch.setattr("daemon.batch.prepare.lines", counted)
    monkeypatch.setattr(discards, "_SLICE_ROWS", 10)
    with open_engine(tmp_path) as engine, pytest.raises(Stopped):
        apply_batch(replace(engine, stopped=lambda: written == 3), tmp_path, [("a.jsonl", junk(100))], NOW)
    assert written == 3 and not (tmp_path / "output" / "discarded").exists()
