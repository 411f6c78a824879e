"""`forget` over random histories, against the model; who owns an order; blocks; and ends in the middle."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.batch.pipeline import catch_up, publish_committed
from daemon.core.errors import UsageError
from daemon.core.mapping import FieldMapping
from daemon.core.model import DELETED_DATE
from daemon.core.parse.naming import Ids
from daemon.operate.difference import Difference
from daemon.operate.erasure import copies
from daemon.operate.erasure.forget import Plan, planned, prepare_erasure
from daemon.operate.rebuild import take_over
from daemon.operate.verify import verify
from daemon.storage.ledger import Ledger
from tests.model import Drop, Model, Order, read_drop
from tests.strategies import RECEIVED_AT_US, batches
from tests.support.command import as_drop, order
from tests.support.crash import Crash, World, run
from tests.support.examples import examples
from tests.support.harness import apply_batch, dates, open_engine, rows, tree

USERS = ("p_1", "p_2", "7", "a b", "Ä")
ORDERS = ("7", "o_2", "o_3", "18446744073709551617")


def forget(root: Path, ids: Ids, *, block: bool = False) -> Plan:
    """As the command does it, in this process."""
    with open_engine(root) as engine:
        path, plan = prepare_erasure(engine, ids, RECEIVED_AT_US, block=block)
        if path is not None:
            take_over(engine, path)
    with open_engine(root) as engine:
        publish_committed(engine)
    return plan


def found_by_verify(root: Path) -> list[Difference]:
    path = root / "output" / "state" / "ledger.sqlite"
    with open_engine(root) as engine, tempfile.TemporaryDirectory() as scratch:
        return list(verify(engine, lambda: Ledger(path, read_only=True), Path(scratch) / "again", RECEIVED_AT_US))


def published_without(applied: Sequence[tuple[int, bytes]], ids: Ids) -> Model:
    """What must be published of these drops, each with when it was received: plain and slow, by the definition of whose an order
    is."""
    versions: list[tuple[tuple[int, int, int], Order]] = []
    for number, (received_at, data) in enumerate(applied):
        orders, _, _ = read_drop(data, received_at_us=received_at)
        for position, one in orders:
            versions.append(((one.created_at if one.updated_at is None else one.updated_at, number, position), one))
    versions.sort(key=lambda version: version[0])
    owner = {one.order_id: one.user_id for _, one in versions if one.user_id is not None}  # the latest stays
    theirs = ids.orders | {order_id for order_id, user in owner.items() if user in ids.users}
    model = Model()
    for rank, one in versions:
        if one.order_id not in theirs and one.user_id not in ids.users:
            model._published[one.order_id] = (rank, one)  # type: ignore[assignment]
    return model


@examples(24)
@given(
    batches(), st.sets(st.sampled_from(USERS), max_size=2), st.sets(st.sampled_from(ORDERS), max_size=1), st.booleans()
)
def test_what_is_left_is_what_the_drops_without_these_records_give(
    many: list[list[bytes]], users: set[str], orders: set[str], block: bool
) -> None:
    """Any history: published rows are those of the model; `verify` finds nothing; what comes again is new, or is refused."""
    ids = Ids(frozenset(users), frozenset(orders))
    if not ids:
        return
    with tempfile.TemporaryDirectory() as folder:
        root, number, model = Path(folder), 0, Model()
        with open_engine(root) as engine:
            for batch in many:
                named = [(f"drop-{number + at}.json", data) for at, data in enumerate(batch)]
                number += len(batch)
                apply_batch(engine, root, named, RECEIVED_AT_US)
                model.apply([Drop(name, data, RECEIVED_AT_US) for name, data in named])
        applied = [(RECEIVED_AT_US, drop.data) for _, drop, _ in model._history]
        plan = forget(root, ids, block=block)
        expected = published_without(applied, ids)
        assert dates(root / "output") == expected.dates()
        for day in expected.dates():
            assert [r | {"date": str(r["date"])} for r in rows(root / "output", day)] == [
                r | {"date": str(r["date"])} for r in expected.fact_rows(day)
            ]
        assert found_by_verify(root) == []
        with open_engine(root) as engine:
            assert planned(engine, ids).is_nothing
            outcome = apply_batch(engine, root, [("again.json", again(ids))], RECEIVED_AT_US)
            (result,) = outcome.results
            refused = len(ids.users) + len(ids.orders) if block else 0
            assert result.counts.discarded["blocked"] == refused
            assert (
                result.counts.extracted
                == refused + result.counts.new + result.counts.unchanged + result.counts.superseded
            )
        assert found_by_verify(root) == []
        assert plan.asked == ids


def again(ids: Ids) -> bytes:
    """A record of each that was forgotten, and one of nobody."""
    theirs = [order(0, order_id=f"new-{number}", user_id=user) for number, user in enumerate(sorted(ids.users))]
    return as_drop([*theirs, *(order(0, order_id=one) for one in sorted(ids.orders)), order(0, order_id="other")])


def history(root: Path, *many: Sequence[dict[str, object]], **more: object) -> None:
    with open_engine(root) as engine:
        for number, orders in enumerate(many):
            apply_batch(engine, root, [(f"{number}.json", as_drop(list(orders)))], RECEIVED_AT_US, **more)  # type: ignore[arg-type]


def users_of(root: Path) -> dict[str, str | None]:
    """By published order, its user."""
    return {
        str(row["order_id"]): row["user_id"] for day in dates(root / "output") for row in rows(root / "output", day)
    }  # type: ignore[misc]


LATER = {"updated_at": "2026-03-09T00:00:00Z"}


@pytest.mark.parametrize(("versions", "left"), [
    ([{"user_id": "a"}], {}),
    ([{"user_id": "a"}, {"user_id": "b"} | LATER], {"o_1": "b"}),  # what is published of it is another's
    ([{"user_id": "b"}, {"user_id": "a"} | LATER], {}),  # it would come back as it was before
    ([{"user_id": "a"}, {"user_id": None} | LATER], {}),  # the latest that names any user names this one
    ([{"user_id": "b"}, {"user_id": None} | LATER], {"o_1": None}),
    ([{"user_id": "a", "amount": 5} | LATER, {"user_id": "b"}], {}),  # the other came later, and is older
])  # fmt: skip
def test_an_order_is_of_the_user_whom_its_latest_version_names(
    tmp_path: Path, versions: list[dict[str, object]], left: dict[str, str | None]
) -> None:
    """All its versions go with that user; with another one, only the versions that name this one."""
    history(tmp_path, *([order(1, **one)] for one in versions))
    forget(tmp_path, Ids(users=frozenset({"a"})))
    assert users_of(tmp_path) == left
    kept = b"".join(path.read_bytes() for path in (tmp_path / "output" / "raw").rglob("0*"))
    assert b'"user_id": "a"' not in kept and found_by_verify(tmp_path) == []


def test_a_deletion_goes_too_and_its_order_may_come_again(tmp_path: Path) -> None:
    """Also one whose user only the raw record names. Nothing is left in the order index: the order is new."""
    mapping = FieldMapping(deleted_path="state", deleted_values=('"gone"',))
    gone = order(1, state="gone", user_id="a")
    history(tmp_path, [order(2, user_id="b"), gone], mapping=mapping)
    with open_engine(tmp_path) as engine:
        before = len(engine.ledger.index.of_dates([DELETED_DATE]))
    plan = forget(tmp_path, Ids(users=frozenset({"a"})))
    assert [one.records for one in plan.changes] == [1] and before == 1
    with open_engine(tmp_path) as engine:
        assert len(engine.ledger.index.of_dates([DELETED_DATE])) == 0
        old = order(1, user_id="c", created_at="2026-01-01T00:00:00Z")
        outcome = apply_batch(engine, tmp_path, [("late.json", as_drop([old]))], RECEIVED_AT_US, mapping=mapping)
        assert outcome.results[0].counts.new == 1
    assert found_by_verify(tmp_path) == []


def test_records_of_others_that_mention_an_id_stay_and_are_told(tmp_path: Path) -> None:
    """Nobody can say whether such an order is about the same person."""
    friend = order(2, user_id="u_bob", metadata={"recommended_by": "u_ada"})
    history(tmp_path, [order(1, user_id="u_ada"), order(3)], [friend], [order(4, user_id="u_adam")])
    plan = forget(tmp_path, Ids(users=frozenset({"u_ada"})))
    assert plan.mentioning == [2] and set(users_of(tmp_path)) == {"o_2", "o_3", "o_4"}


def test_the_same_bytes_are_a_new_drop_afterwards(tmp_path: Path) -> None:
    """They are not those of the redacted copy. The redacted ones are its duplicate."""
    history(tmp_path, [order(1, user_id="a"), order(2, user_id="b")])
    forget(tmp_path, Ids(users=frozenset({"a"})))
    (copy,) = (path for path in (tmp_path / "output" / "raw").rglob("0*"))
    with open_engine(tmp_path) as engine:
        drops = [("x.json", copy.read_bytes()), ("y.json", as_drop([order(1, user_id="a"), order(2, user_id="b")]))]
        outcome = apply_batch(engine, tmp_path, drops, RECEIVED_AT_US)
        assert [str(result.outcome) for result in outcome.results] == ["duplicate", "applied"]
        assert outcome.results[1].counts.new == 1 and outcome.results[1].counts.unchanged == 1
    assert users_of(tmp_path) == {"o_1": "a", "o_2": "b"} and found_by_verify(tmp_path) == []


def test_a_block_holds_until_it_is_lifted_and_a_rebuild_keeps_what_it_refused(tmp_path: Path) -> None:
    """Orders, rows of users and discards. Nothing of them is in the discards; no id is in the ledger."""
    ids = Ids(frozenset({"u_ada"}), frozenset({"o_9"}))
    history(tmp_path, [order(1, user_id="u_ada"), order(2)])
    forget(tmp_path, ids, block=True)
    records = [order(3, user_id="u_ada"), order(9), order(4), {"refund": "u_ada"}, {"refund": "x"}]
    users = b"user_id,email\nu_ada,ada@x\nu_bob,bob@x\n,u_ada\n"
    with open_engine(tmp_path) as engine:
        outcome = apply_batch(engine, tmp_path, [("b.json", as_drop(records)), ("users.csv", users)], RECEIVED_AT_US)
        orders, rows_of_users = outcome.results
        assert +orders.counts.discarded == {"blocked": 3, "missing_order_id": 1} and orders.counts.new == 1
        assert +rows_of_users.counts.discarded == {"blocked": 2} and rows_of_users.counts.new == 1
    texts = b"".join(path.read_bytes() for path in (tmp_path / "output" / "discarded").rglob("*.jsonl"))
    assert b"u_ada" not in texts and b"ada@x" not in texts
    assert b"u_ada" not in (tmp_path / "output" / "state" / "ledger.sqlite").read_bytes()
    with open_engine(tmp_path) as engine:
        assert engine.ledger.lift_blocks(Ids(frozenset({"u_ada", "u_eve"}))) == ["u_eve"]
    with open_engine(tmp_path) as engine:
        later = [order(5, user_id="u_ada"), order(9, amount=3)]
        (result,) = apply_batch(engine, tmp_path, [("c.json", as_drop(later))], RECEIVED_AT_US).results
        assert result.counts.new == 1 and result.counts.discarded["blocked"] == 1
    assert set(users_of(tmp_path)) == {"o_2", "o_4", "o_5"} and found_by_verify(tmp_path) == []
    # The raw copies of what was refused still have it, until it is forgotten again.
    plan = forget(tmp_path, ids)
    assert sum(one.records for one in plan.changes) == 7
    assert set(users_of(tmp_path)) == {"o_2", "o_4"} and found_by_verify(tmp_path) == []
    raw = b"".join(path.read_bytes() for path in (tmp_path / "output" / "raw").rglob("0*"))
    assert b"u_ada" not in raw and b'"o_9"' not in raw


def test_orders_before_since_are_erased_and_refused_too(tmp_path: Path) -> None:
    """They are not published, but may be read later."""
    since = RECEIVED_AT_US - 86_400_000_000
    history(tmp_path, [order(1, user_id="a"), order(2, created_at="2026-11-20T01:00:00Z")], since=since)
    forget(tmp_path, Ids(users=frozenset({"a"})), block=True)
    with open_engine(tmp_path) as engine:
        assert [result.counts.before_since for result in engine.ledger.all_results()] == [0]
        recent = {"created_at": "2026-11-20T01:00:00Z"}
        blocked = [order(3, user_id="a"), order(4), order(5, **recent), order(6, user_id="a", **recent)]
        (first,) = apply_batch(engine, tmp_path, [("b.json", as_drop(blocked))], RECEIVED_AT_US, since=since).results
        assert (first.counts.before_since, first.counts.discarded["blocked"]) == (2, 1)
        catch_up(engine, engine.ledger.read_since(0), 0, RECEIVED_AT_US)
        result = engine.ledger.result(2)
        assert result and (result.counts.before_since, result.counts.discarded["blocked"]) == (0, 2)
        assert result.counts.extracted == 2 + result.counts.new
    (kept,) = (tmp_path / "output" / "discarded").rglob("00000002.jsonl")
    assert [json.loads(line)["position"] for line in kept.read_text(encoding="utf-8").splitlines()] == [1, 4]
    assert set(users_of(tmp_path)) == {"o_2", "o_4", "o_5"} and found_by_verify(tmp_path) == []


def test_nothing_changes_where_a_copy_cannot_be_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command stops with the drop's number; nor does it search what the ledger does not know."""
    history(tmp_path, [order(1, user_id="a"), order(2)])
    before = tree(tmp_path / "output")
    ids = Ids(users=frozenset({"a"}))

    def refused(*_: object) -> None:
        raise copies.NotExact("no")

    with monkeypatch.context() as patched, open_engine(tmp_path) as engine:
        patched.setattr(copies, "without_records", refused)
        with pytest.raises(UsageError, match=r"drop 1 \(0.json\) cannot be rewritten"):
            prepare_erasure(engine, ids, RECEIVED_AT_US, block=False)
        engine.store.clean_staging()
    assert tree(tmp_path / "output") == before
    (copy,) = (tmp_path / "output" / "raw").rglob("0*")
    shutil.copy(copy, copy.with_name(copy.name.replace("00000001", "00000007")))
    with open_engine(tmp_path) as engine, pytest.raises(UsageError, match="strandline rebuild"):
        planned(engine, ids)


def test_reasons_and_names_lose_the_ids(tmp_path: Path) -> None:
    """A file in quarantine that names somebody goes as a whole; of one that went before, the quoted text goes."""
    broken = b'[{"order_id": "o_1", "user_id": "u_ada", "name": "Ada"'
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("gone.json", b'[{"n":"Ada",}]'), ("u_ada.json", b"x")], RECEIVED_AT_US)
        apply_batch(engine, tmp_path, [("b.json", broken), ("users-u_ada.csv", b"user_id\nu_1\n")], RECEIVED_AT_US)
        for path in (tmp_path / "output" / "quarantine").glob("*_gone.json*"):
            path.unlink()  # as `retry` does
    (tmp_path / "output" / "state" / "paused").write_text(json.dumps({"reason": "u_ada asked"}))
    (tmp_path / "output" / "state" / "ledger.version-3.1.sqlite").write_bytes(b"u_ada")
    forget(tmp_path, Ids(users=frozenset({"u_ada"})))
    for path in (tmp_path / "output").rglob("*"):
        assert "u_ada" not in path.name
        assert not path.is_file() or (b"u_ada" not in path.read_bytes() and b"Ada" not in path.read_bytes()), path
    with open_engine(tmp_path) as engine:
        found = {result.drop.name: result for result in engine.ledger.all_results()}
    assert found.keys() == {"gone.json", "redacted.json", "b.json", "users-redacted.csv"}
    assert "erased" in (found["b.json"].reason or "") and "near" not in (found["gone.json"].reason or "near")
    assert json.loads((tmp_path / "output" / "state" / "paused").read_text()) == {"reason": "redacted asked"}
    assert list((tmp_path / "output" / "quarantine").iterdir()) == [] and found_by_verify(tmp_path) == []


# ------------------------------------------------------------------------------------------------ ends in the middle


def half_published(root: Path, last: int, ids: Ids, *, after: bool) -> bool:
    """One `forget` that ends at a change to a file or the ledger. False: it completed before."""
    world = World(last, after=after)
    try:
        with world.running():
            forget(root, ids)
    except Crash:
        return True
    return False


def test_an_end_in_the_middle_changes_nothing_or_is_finished_by_the_next_start(tmp_path: Path) -> None:
    """At some of the changes to files and the ledger, before or after the change in turn."""
    base = tmp_path / "base"
    with open_engine(base) as engine:
        first = [("a.json", as_drop([order(1, user_id="u_ada"), order(2)])), ("u_ada.json", as_drop([order(3, 3)]))]
        apply_batch(engine, base, first, RECEIVED_AT_US)
        second = [("b.jsonl", b'{"user":"u_ada"}\n' + json.dumps(order(4)).encode()), ("c.json", b"[u_ada")]
        apply_batch(engine, base, second, RECEIVED_AT_US)
    before = tree(base / "output")
    ids = Ids(users=frozenset({"u_ada"}))
    whole = Path(shutil.copytree(base, tmp_path / "whole", symlinks=True))
    forget(whole, ids)
    expected = {name: one for name, one in tree(whole / "output").items() if not name.startswith("state/")}
    seen = set()
    for last in range(1, 1000, 9):
        root = Path(shutil.copytree(base, tmp_path / "run", symlinks=True))
        ended = half_published(root, last, ids, after=last % 2 == 0)
        run(root)
        found = {name: one for name, one in tree(root / "output").items() if not name.startswith("state/")}
        is_done = found == expected
        seen.add(is_done)
        assert is_done or found == {name: one for name, one in before.items() if not name.startswith("state/")}, last
        if is_done:
            assert b"u_ada" not in (root / "output" / "state" / "ledger.sqlite").read_bytes()
        shutil.rmtree(root)
        if not ended:
            break
    assert last > 60 and seen == {False, True}
