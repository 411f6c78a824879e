"""Copies that go by age: what is published stays exact, and everything knows what can no longer be made anew."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from daemon.batch.ageing import Aged, one_pass
from daemon.batch.engine import Engine
from daemon.batch.pipeline import publish_committed
from daemon.core.model import MICROSECONDS_PER_DAY, ParseContext
from daemon.operate.rebuild import prepare_rebuild, take_over
from daemon.operate.verify import verify
from daemon.storage import ages
from daemon.storage.ledger import Ledger
from tests.batch.test_deletions import MAPPING, RECORDS, expected, published
from tests.model import Drop, Model
from tests.strategies import RECEIVED_AT_US, batches
from tests.support.as_model import assert_published
from tests.support.examples import examples
from tests.support.harness import DAY, apply_batch, open_engine, tree

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
