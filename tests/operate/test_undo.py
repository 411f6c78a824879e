"""`strandline undo`: which drop is meant, what is refused, and what every view of the history says of it then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daemon.core.entries import Undo
from daemon.core.errors import UsageError
from daemon.core.mapping import FieldMapping
from daemon.operate.status import gather
from daemon.operate.status import table as status_table
from daemon.operate.trace import trace
from daemon.operate.trace_text import table as traced
from daemon.operate.undo import as_dict, preview, table, undo
from daemon.sources.source_folder import SourceFolder
from daemon.storage.ledger import Ledger
from daemon.storage.set_aside import SetAside
from tests.support.command import as_drop, order, receipts, strandline
from tests.support.harness import DAY, apply_batch, open_engine, tree

NOW = 20_600 * DAY


def withdrawal(seq: int) -> Undo:
    return Undo(seq, NOW, "ada", "wrong prices", False)


def revert(seq: int) -> Undo:
    return Undo(seq, NOW, "bob", "", True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """1: orders, 2: its duplicate, 3: quarantined, 4: a correction, and 5: a new order under the same name."""
    corrected = order(1, amount=7, updated_at="2026-03-06T00:00:00Z")
    many = [
        [("a.json", as_drop([order(1), order(2, 3)]))], [("a-again.json", as_drop([order(1), order(2, 3)]))],
        [("broken.json", b"<html>")], [("b.json", as_drop([corrected]))], [("b.json", as_drop([order(3, 4)]))],
    ]  # fmt: skip
    with open_engine(tmp_path) as engine:
        for batch in many:
            apply_batch(engine, tmp_path, batch, NOW)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("2", "drop 2 (a-again.json) was a duplicate of drop 1, and applied nothing; `strandline undo 1`"),
        (
            "broken.json",
            "drop 3 (broken.json) is quarantined, and was never applied; `strandline discard 3` removes it",
        ),
        ("b.json", "2 drops are called b.json: 4 (applied), 5 (applied); nothing was changed. Give the number of one"),
        (
            "x.json",
            "there is no drop with the number, name or SHA-256 x.json; did you mean b.json? Nothing was changed; `strandline",
        ),
        (
            "77",
            "there is no drop with the number, name or SHA-256 77. Nothing was changed; `strandline history` lists all",
        ),
    ],
)
def test_what_cannot_be_withdrawn_is_refused_with_what_to_do(home: Path, name: str, why: str) -> None:
    with open_engine(home) as engine:
        before = tree(home / "output" / "curated")
        with pytest.raises(UsageError) as refused:
            undo(engine, name, withdrawal)
        assert why in str(refused.value)
        with pytest.raises(UsageError, match="only a drop that was withdrawn can be applied again"):
            undo(engine, "1", revert)
        assert tree(home / "output" / "curated") == before and engine.ledger.result(1).undos == ()  # type: ignore[union-attr]


@pytest.mark.parametrize("called", ["number", "name", "hash", "short hash"])
def test_a_drop_is_named_by_number_name_or_hash(home: Path, called: str) -> None:
    """The bytes of a duplicate are those of the drop, which is meant."""
    with open_engine(home) as engine:
        digest = engine.ledger.drop(1).sha256.hex()  # type: ignore[union-attr]
        name = {"number": "1", "name": "default/a.json", "hash": digest.upper(), "short hash": digest[:12]}[called]
        assert undo(engine, name, withdrawal).result.drop.seq == 1
        with pytest.raises(
            UsageError, match=r"is withdrawn by ada at .* \(wrong prices\) already; `strandline undo --rev"
        ):
            undo(engine, name, withdrawal)
        assert undo(engine, name, revert).result.drop.seq == 1


def test_a_dry_run_says_what_the_undo_does(home: Path) -> None:
    """The same, but for its tense; and it changes nothing."""
    with open_engine(home) as engine:
        before, path = tree(home / "output"), engine.ledger.path
        seen = preview(engine, lambda: Ledger(path, read_only=True), "4", withdrawal)
        assert {k: v for k, v in tree(home / "output").items() if "staging" not in k and "state" not in k} == {
            k: v for k, v in before.items() if "state" not in k
        }
        done = undo(engine, "4", withdrawal)
        assert as_dict(seen, dry_run=True) == as_dict(done, dry_run=False) | {"dry_run": True}
        assert table(done, dry_run=False).splitlines() == [
            "drop 4 (b.json) is withdrawn",
            "          1 orders return to the version of another drop",
            "          0 orders go: no other drop has them",
            "",
            "Partitions",
            "  2026-03-02  rewritten, 1 order before, 1 after",
            "",
            "Drop 4 is withdrawn; `strandline undo 4 --revert` takes that back",
        ]
        assert "with its duplicates, which brought nothing else: 2" in table(
            undo(engine, "1", withdrawal), dry_run=True
        )


def test_dates_that_are_set_aside_are_named(home: Path) -> None:
    """By the dry run and by the undo, in both forms: they change once they are mended."""
    with open_engine(home) as engine:
        (home / "output" / "curated" / "date=2026-03-03" / "fact_order.parquet").write_bytes(b"damaged")
        engine.ledger.set_one_aside(SetAside("2026-03-03", NOW, "damaged"))
        path = engine.ledger.path
        seen = preview(engine, lambda: Ledger(path, read_only=True), "1", withdrawal)
        done = undo(engine, "1", withdrawal)
        for found, dry_run in ((seen, True), (done, False)):
            assert as_dict(found, dry_run=dry_run)["set_aside"] == ["2026-03-03"]
            shown = table(found, dry_run=dry_run).splitlines()
            assert shown[-4:-2] == [
                "Set aside, and changed once they are mended: see `strandline status`",
                "  2026-03-03",
            ]
        assert "set_aside" not in as_dict(undo(engine, "4", withdrawal), dry_run=False)


def test_every_view_of_the_history_tells_of_an_undo(home: Path) -> None:
    """The receipt, the log of restatements, the trace of an order, what notifies, and a page of a pull that was withdrawn."""
    told = "withdrawn by ada at 2026-05-27T00:00:00Z (wrong prices)"
    with open_engine(home) as engine:
        newest = engine.ledger.next_batch - 1
        undo(engine, "4", withdrawal)
        receipt = receipts(home)["4:b.json"]
        assert (receipt["outcome"], receipt["reason"], receipt["records"]["corrected"]) == ("withdrawn", told, 1)
        assert receipt["undos"] == [
            {"at": "2026-05-27T00:00:00Z", "by": "ada", "reason": "wrong prices", "is_revert": False}
        ]
        line = json.loads((home / "output" / "restatements.jsonl").read_text().splitlines()[-1])
        assert line["cause"] == {
            "batch": newest + 1, "drops": [4], "withdrawn": {"by": "ada", "reason": "wrong prices"},
        }  # fmt: skip
        shown = traced(trace(engine, "o_1"))
        assert "published in date=2026-03-02, from record 1 of drop 1" in shown
        assert "not applied: its drop is withdrawn" in shown and f"its drop was {told}" in shown
        drops, count = engine.ledger.results_after(newest, newest + 1, 10)
        assert [(one.drop.seq, str(one.outcome), batch) for one, batch in drops] == [(4, "withdrawn", newest + 1)]
        assert count == 1 and len(engine.ledger.results_after(0, newest + 1, 10)[0]) == 5
        assert (engine.ledger.totals()["drops.applied"], engine.ledger.totals()["drops.withdrawn"]) == (3, 1)
        undo(engine, "4", revert)
        receipt = receipts(home)["4:b.json"]
        assert (receipt["outcome"], receipt["reason"], len(receipt["undos"])) == ("applied", None, 2)
        assert "its drop was applied again by bob" in traced(trace(engine, "o_1"))


def test_marks_of_sources_and_rounds_follow(home: Path) -> None:
    """The mark of a source is that of its applied drops. A round is not begun again for a page that was withdrawn."""
    with open_engine(home) as engine:
        sql = engine.ledger._sql
        pages = [engine.ledger.drop(5).sha256]  # type: ignore[union-attr]
        with engine.ledger.transaction():
            sql.execute("INSERT INTO rounds VALUES ('default', 5, 9)")
            sql.executemany("INSERT INTO pages VALUES ('default', ?)", [(one,) for one in pages])
        before = sql.execute("SELECT hwm FROM pulls").fetchone()
        undo(engine, "5", withdrawal)
        (after,), (cursor,) = (
            sql.execute("SELECT hwm FROM pulls").fetchone(),
            sql.execute("SELECT cursor FROM pulls").fetchone(),
        )
        assert before != (after,) and after == engine.ledger.hwm and cursor == 5
        undo(engine, "5", revert)
        assert sql.execute("SELECT hwm FROM pulls").fetchone() == before == (engine.ledger.hwm,)


def test_keys_that_only_a_withdrawn_drop_had_are_told_of_again(tmp_path: Path) -> None:
    """A key that nothing reads, and a path that it lacked; a revert tells nothing."""
    mapping = FieldMapping(fields=(("currency", ("money",)),))
    many = [order(1, money="EUR"), order(2, shop="x"), order(3, shop="x")]
    with open_engine(tmp_path) as engine:

        def told(number: int) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
            content = as_drop([many[number - 1]])
            outcome = apply_batch(engine, tmp_path, [(f"{number}.json", content)], NOW, mapping=mapping)
            return [(one.unread, one.missing) for one in outcome.drift]

        told(1)
        assert told(2) == [(("shop",), ("money",))]
        before = engine.ledger.record_keys()
        undo(engine, "2", withdrawal)
        assert not [one for one in engine.ledger.record_keys() if one.key == "shop" or one.missing_since]
        undo(engine, "2", revert)
        assert engine.ledger.record_keys() == before
        undo(engine, "2", withdrawal)
        assert told(3) == [(("shop",), ("money",))]


def test_a_damaged_partition_is_rebuilt_before_orders_leave_it(home: Path) -> None:
    """As before any batch. Where raw cannot rebuild it, nothing is changed."""
    with open_engine(home) as engine:
        path = home / "output" / "curated" / "date=2026-03-03" / "fact_order.parquet"
        path.write_bytes(path.read_bytes()[:-1])
        undo(engine, "1", withdrawal)
        assert not path.exists()
        assert [str(day) for day in engine.ledger.partitions()] == ["20514", "20516"]


def test_the_status_counts_withdrawn_drops(home: Path) -> None:
    """Beside what ever became of drops, since sums do not fall."""
    with open_engine(home) as engine:
        undo(engine, "1", withdrawal)
        found = gather(engine.ledger, [SourceFolder(home / "inbox")], home / "output", NOW)
        assert (found["withdrawn"], found["drops"]["withdrawn"], found["drops"]["applied"]) == (1, 1, 3)
        assert "Withdrawn         1 of them" in status_table(found)


def test_the_commands(tmp_path: Path) -> None:
    """A dry run, an undo, a retry that is refused, and a revert."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", as_drop([order(1)]))], NOW)
    dry = strandline(tmp_path, "undo", "a.json", "--dry-run")
    assert (dry.returncode, dry.stdout.splitlines()[0]) == (0, "drop 1 (a.json) would be withdrawn")
    done = strandline(tmp_path, "undo", "1", "--reason", "a test", "--json")
    assert (done.returncode, json.loads(done.stdout)["partitions"]) == (
        0, [{"date": "2026-03-02", "orders_before": 1, "orders_after": 0}],
    )  # fmt: skip
    refused = strandline(tmp_path, "retry", "a.json")
    assert refused.returncode == 2 and "`strandline undo --revert 1` applies it again" in refused.stderr
    assert strandline(tmp_path, "undo", "--revert", "1").returncode == 0
    with open_engine(tmp_path) as engine:
        assert [one.reason for one in engine.ledger.result(1).undos] == ["a test", ""]  # type: ignore[union-attr]
