"""`forget` where raw copies have gone by age and drops were withdrawn: nothing of a person is left there either."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from daemon.core.entries import Undo
from daemon.core.mapping import FieldMapping
from daemon.core.parse.naming import Ids
from daemon.downstream.destinations.notices import Message, Notices, reword
from daemon.downstream.records import Records
from daemon.operate.undo import undo
from daemon.storage import ages
from tests.operate.test_forget import left_of
from tests.operate.test_forget_histories import forget, found_by_verify, published_without, users_of
from tests.strategies import RECEIVED_AT_US, batches
from tests.support.command import as_drop, order
from tests.support.examples import examples
from tests.support.harness import DAY, apply_batch, dates, open_engine, rows, tree
from tests.test_ages import age, rebuilt

WORDS = ("u_ada", "Ada Lovelace", "ada@example.com", "o_901", "o_902", "o_905")
NUMBER = b"9" * 5_000  # has more digits than Python turns into an integer
ADA = Ids(users=frozenset({"u_ada"}))


def of_ada(number: int, day: int) -> dict[str, object]:
    return order(number, day, user_id="u_ada", metadata={"to": "Ada Lovelace, ada@example.com"})


def of_bob(number: int, day: int) -> dict[str, object]:
    return order(number, day, user_id="u_bob")


def undone(seq: int, reason: str = "", *, is_revert: bool = False) -> Undo:
    return Undo(seq, RECEIVED_AT_US, "op", reason, is_revert)


def home_of(root: Path) -> None:
    """Users, two drops of orders whose copies go, two that stay, and one of those is withdrawn."""
    users = b"user_id,email\nu_ada,ada@example.com\nu_bob,bob@example.com\n,u_ada\n"
    wrong = {"user_id": "u_ada", "to": "Ada Lovelace", "created_at": "2026-03-02"}
    first = as_drop([of_ada(901, 2), of_bob(1, 2), wrong, {"x": "Bob"}])
    many = [
        ("users.csv", users), ("a.json", first.rstrip()[:-1] + b"," + NUMBER + b"]"),
        ("u_ada.json", as_drop([of_bob(2, 2)])), ("b.json", as_drop([of_ada(902, 3), of_bob(3, 3)])),
        ("c.json", as_drop([of_ada(905, 2), of_bob(9, 4)])), ("users-2.csv", b"user_id,email\nu_cyd,c@example.com\n"),
    ]  # fmt: skip
    with open_engine(root) as engine:
        for number, one in enumerate(many, 1):
            apply_batch(engine, root, [one], RECEIVED_AT_US + number)
        age(engine, {ages.RAW: 0}, RECEIVED_AT_US + 4)
        undo(engine, "5", lambda seq: undone(seq, "u_ada asked for it"))


def test_nothing_is_left_in_partitions_discards_and_withdrawn_drops(tmp_path: Path) -> None:
    """What has no raw copy is filtered where it is; what was withdrawn is redacted, and can be applied again without her."""
    home_of(tmp_path)
    output = tmp_path / "output"
    assert {word for _, word in left_of(output, WORDS)} == set(WORDS)
    kept = rows(output, "2026-03-02")
    forget(tmp_path, ADA)
    assert left_of(output, WORDS) == set()
    assert found_by_verify(tmp_path) == []
    assert users_of(tmp_path) == {"o_1": "u_bob", "o_2": "u_bob", "o_3": "u_bob"}
    assert rows(output, "2026-03-02") == [row for row in kept if row["user_id"] == "u_bob"]
    (discards,) = (output / "discarded").rglob("00000002.jsonl")
    assert discards.read_text().count("\n") == 2 and "Bob" in discards.read_text()
    before = tree(output / "curated")
    rebuilt(tmp_path)
    assert tree(output / "curated") == before and found_by_verify(tmp_path) == []
    with open_engine(tmp_path) as engine:
        undo(engine, "5", lambda seq: undone(seq, is_revert=True))
    assert users_of(tmp_path) == {"o_1": "u_bob", "o_2": "u_bob", "o_3": "u_bob", "o_9": "u_bob"}
    assert left_of(output, WORDS) == set() and found_by_verify(tmp_path) == []


def test_an_order_that_only_a_partition_has_is_forgotten(tmp_path: Path) -> None:
    """No drop that is left names it; and what comes again is applied."""
    home_of(tmp_path)
    plan = forget(tmp_path, Ids(orders=frozenset({"o_901"})))
    assert len(plan.dates) == 1 and "o_901" not in users_of(tmp_path)
    assert found_by_verify(tmp_path) == []
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("again.json", as_drop([of_bob(901, 5)]))], RECEIVED_AT_US + 9)
    assert users_of(tmp_path)["o_901"] == "u_bob" and found_by_verify(tmp_path) == []


@examples(15)
@given(batches(), st.data())
def test_what_is_left_is_what_the_drops_without_these_records_give(
    many: list[list[bytes]], data: st.DataObject
) -> None:
    """Whichever first drops have gone. Of orders, since whose an order is depends on versions that may have gone."""
    orders = Ids(orders=frozenset(data.draw(st.sets(st.sampled_from(["7", "o_2", "o_3"]), min_size=1))))
    drops = [content for batch in many for content in batch]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with open_engine(root) as engine:
            applied = []
            for number, content in enumerate(drops):
                outcome = apply_batch(engine, root, [(f"{number}.json", content)], RECEIVED_AT_US + number)
                applied += [(RECEIVED_AT_US + number, content)] if outcome.results[0].outcome == "applied" else []
            age(engine, {ages.RAW: 0}, RECEIVED_AT_US + data.draw(st.integers(0, len(drops))))
        forget(root, orders)
        model = published_without(applied, orders)
        assert dates(root / "output") == model.dates()
        for day in model.dates():
            assert [row | {"date": str(row["date"])} for row in rows(root / "output", day)] == [
                row | {"date": str(row["date"])} for row in model.fact_rows(day)
            ]
        assert found_by_verify(root) == []


# -------------------------------------------------------------------------------------------- a source with an id_prefix

BERLIN = FieldMapping(id_prefix="berlin-")


def test_ids_as_a_source_writes_them_go_too_and_those_of_others_stay(tmp_path: Path) -> None:
    """In lines that cannot be parsed, quarantine, names and reasons; the same text of another source is somebody else."""
    lines = (
        b'{"order_id":"o_1","user_id":"u_ada","created_at":"2026-03-02"}\n'
        b'{"order_id":"o_2","user_id":"u_bob","created_at":"2026-03-02"}\n'
        b'{"user_id":"u_ada","mail":"ada@example.com", bad}\n'
    )
    other = b'{"order_id":"o_7","user_id":"u_ada","created_at":"2026-03-02"}\n{"user_id":"u_ada","order_id":7}\n'
    with open_engine(tmp_path) as engine:
        for name, content, mapping in [
            ("a.jsonl", lines, BERLIN), ("of u_ada.jsonl", lines[63:126], BERLIN),
            ("c.json", b'[{"user_id":"u_ada","m":"ada@exa', BERLIN), ("other.jsonl", other, FieldMapping()),
        ]:  # fmt: skip
            apply_batch(engine, tmp_path, [(name, content)], RECEIVED_AT_US, mapping=mapping)
    forget(tmp_path, Ids(users=frozenset({"berlin-u_ada"})))
    output = tmp_path / "output"
    left = {name for name, _ in left_of(output, ("u_ada", "ada@example.com", "ada@exa"))}
    of_others = ("other", "curated/date=2026-03-02", "00000004")
    assert left and all(any(one in name for one in of_others) for name in left), left
    assert users_of(tmp_path) == {"berlin-o_2": "berlin-u_bob", "o_7": "u_ada"}
    assert found_by_verify(tmp_path) == []


def test_what_is_malformed_and_of_somebody_who_is_blocked_is_not_kept(tmp_path: Path) -> None:
    """Also where only the source's own spelling of the id is in it, between quotes or white space."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", as_drop([of_ada(1, 2)]))], RECEIVED_AT_US)
    forget(tmp_path, Ids(users=frozenset({"u_ada", "berlin-u_cyd"})), block=True)
    with open_engine(tmp_path) as engine:
        for name, content, mapping in [
            ("b.jsonl", b'{"order_id":"o_1","created_at":"2026-03-02"}\n{"user_id":"u_ada","mail":"a@b", bad}\n', FieldMapping()),
            ("c.jsonl", b'{"order_id":"o_2","created_at":"2026-03-02"}\n{"to":"x u_cyd y","mail":"c@b", bad}\n', BERLIN),
        ]:  # fmt: skip
            outcome = apply_batch(engine, tmp_path, [(name, content)], RECEIVED_AT_US, mapping=mapping)
            assert outcome.results[0].counts.discarded == {"blocked": 1}
    assert not any(
        word in path.read_text()
        for path in (tmp_path / "output" / "discarded").rglob("*.jsonl")
        for word in ("a@b", "c@b")
    )


def test_a_block_survives_a_rebuild_of_a_ledger_without_drops(tmp_path: Path) -> None:
    """Nothing was ever applied."""
    forget(tmp_path, Ids(users=frozenset({"u_ada"})), block=True)
    rebuilt(tmp_path)
    with open_engine(tmp_path) as engine:
        assert len(engine.ledger.blocks()) == 1


# ------------------------------------------------------------------------------------------------- where the three meet


def test_marks_are_those_of_what_is_left(tmp_path: Path) -> None:
    """Whether raw copies have gone or not, and whatever comes after it."""
    with open_engine(tmp_path) as engine:
        for number, orders in enumerate([[of_bob(1, 2)], [of_bob(2, 3)], [of_ada(3, 20)]]):
            apply_batch(engine, tmp_path, [(f"{number}.json", as_drop(orders))], RECEIVED_AT_US + number)
        mark = engine.ledger.hwm - 17 * DAY  # type: ignore[operator]
        age(engine, {ages.RAW: 0}, RECEIVED_AT_US + 1)
    forget(tmp_path, ADA)
    for _ in range(2):
        with open_engine(tmp_path) as engine:
            assert engine.ledger.hwm == mark
        rebuilt(tmp_path)
    assert found_by_verify(tmp_path) == []


def test_discards_that_have_gone_do_not_come_back_with_a_revert(tmp_path: Path) -> None:
    """No pass would remove them again."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", as_drop([of_bob(1, 2), {"x": 1}]))], RECEIVED_AT_US)
        undo(engine, "1", undone)
        age(engine, {ages.DISCARDS: 0}, RECEIVED_AT_US + 9)
        undo(engine, "1", lambda seq: undone(seq, is_revert=True))
    assert list((tmp_path / "output" / "discarded").rglob("*.jsonl")) == [] and found_by_verify(tmp_path) == []


def test_a_message_that_has_not_arrived_names_nobody(tmp_path: Path) -> None:
    """It is sent later."""
    (tmp_path / "state").mkdir()
    records = Records(tmp_path / "state" / "downstream.sqlite")
    messages = Notices(records, "team")
    messages.begin(Message("team-1", b'{"drops": [{"name": "a_u_ada.json"}]}', 1, {}))
    reword(records, ADA.without_words)
    under_way = messages.under_way()
    assert under_way is not None and under_way.body == b'{"drops": [{"name": "a_redacted.json"}]}'
    records.close()
