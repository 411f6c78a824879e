"""Hashes of orders, and entries sorted by key, against the same in plain Python."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.columns import EXTRA, TYPES
from daemon.core.mapping import Columns
from daemon.core.merge import keys
from daemon.core.merge.facts import lines_of
from daemon.core.model import DECIMAL_LIMIT, INDEX_ENTRY, LAST_INSTANT, MICROSECONDS_PER_DAY, ORDERS, concat_orders
from tests.support.examples import examples

SLOW = examples(200)
DAY = MICROSECONDS_PER_DAY
FIELDS = ("created_at", "updated_at", "user_id", "amount", "currency", "metadata")


def identified(orders: list[dict[str, Any]], columns: Columns = ()) -> pa.Table:
    """An ORDERS table with these extra columns; drop 1, positions from 1 on, unless said otherwise."""
    rows = [{"drop": 1, "position": i} | order for i, order in enumerate(orders, 1)]
    names = [name for name in ORDERS.names if name not in ("key", "content")]
    arrays = {n: pa.array([row[n] for row in rows], ORDERS.field(n).type) for n in names}
    for name, kind in columns:
        values = [row.get("extra", {}).get(name) for row in rows]
        is_number = kind in ("decimal", "instant")
        arrays[EXTRA + name] = pa.array(values, pa.int64() if is_number else TYPES[kind]).view(TYPES[kind])
    return keys.with_hashes(arrays)


# ----------------------------------------------------------------------------------------------------------- contents

# Few values, so that orders are often equal, or nearly: texts that could be taken for another's length, mark or end.
NUMBERS = st.sampled_from([None, 0, 1, -1, 63, 64, 127, 128, 10_000, DECIMAL_LIMIT - 1, 1 - DECIMAL_LIMIT])
TEXTS = st.sampled_from(
    [None, "a", "aa", "\x00", "\x01", "\x01a", "\x02", "é", "a" * 126, "a" * 127, "a" * 128, "a" * 256]
)
ITEM = st.fixed_dictionaries({"sku": TEXTS, "qty": NUMBERS, "price": NUMBERS})
CONTENT = st.fixed_dictionaries(
    {
        "order_id": st.just("o"),
        "created_at": st.sampled_from([0, 1, DAY - 1, DAY, LAST_INSTANT]),
        "updated_at": st.sampled_from([None, 0, 1, DAY]),
        "user_id": TEXTS, "amount": NUMBERS, "currency": TEXTS, "metadata": TEXTS,
        "items": st.lists(ITEM, max_size=3),
    }
)  # fmt: skip


@st.composite
def alike(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two orders that differ in few fields, or in none."""
    one, other = draw(CONTENT), draw(CONTENT)
    changed = draw(st.sets(st.sampled_from([*FIELDS, "items"]), max_size=2))
    return one, one | {name: other[name] for name in changed}


@SLOW
@given(alike() | st.tuples(CONTENT, CONTENT))
def test_contents_are_equal_where_fact_rows_are(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """So the index alone can call an order unchanged."""
    orders = identified(list(pair))
    one, other = orders["content"].to_pylist()
    facts = [lines_of(orders.combine_chunks(), np.array([i])).table() for i in (0, 1)]
    assert (one == other) == facts[0].equals(facts[1])


def spelled(order: dict[str, Any]) -> bytes:
    """How keyed.c spells an order, a second time."""

    def size(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value % 128 + 128]) + size(value // 128)

    def number(value: int | None) -> bytes:
        return size(0 if value is None else 1 + (2 * value if value >= 0 else -2 * value - 1))

    def text(value: str | None) -> bytes:
        return size(0) if value is None else size(len(value.encode()) + 1) + value.encode()

    fields = [text(order[n]) if n in ("user_id", "currency", "metadata") else number(order[n]) for n in FIELDS]
    items = [text(item["sku"]) + number(item["qty"]) + number(item["price"]) for item in order["items"]]
    extra = b""
    for name, value in sorted(order.get("extra", {}).items()):
        if value is not None:
            kind = 0 if isinstance(value, str) else 2 if isinstance(value, bool) else 1
            extra += size(len(name)) + name.encode() + size(kind) + (text, number, size)[kind](value)
    return b"".join(fields) + size(len(items)) + b"".join(items) + extra


BIG = {"metadata": "m" * 65_535, "items": [{"sku": "s" * 256, "qty": DECIMAL_LIMIT - 1, "price": None}] * 1_000}


@SLOW
@given(st.lists(CONTENT | CONTENT.map(lambda order: order | BIG), max_size=5), st.text(max_size=200))
def test_hashes_are_those_of_the_spelling(orders: list[dict[str, Any]], order_id: str) -> None:
    """BLAKE2b as hashlib has it, over what tells its own end everywhere; whatever came before in the same table."""
    orders = [order | {"order_id": order_id} for order in orders]
    made = identified(orders)
    assert made["content"].to_pylist() == [hashlib.blake2b(spelled(o), digest_size=16).digest() for o in orders]
    assert set(made["key"].to_pylist()) <= {hashlib.blake2b(order_id.encode(), digest_size=16).digest()}


COLUMNS: Columns = (("gift", "boolean"), ("status", "text"), ("tip", "decimal"), ("told", "instant"))
EXTRAS = st.fixed_dictionaries(
    {
        "gift": st.sampled_from([None, True, False]),
        "status": TEXTS,
        "tip": NUMBERS,
        "told": st.sampled_from([None, 0, LAST_INSTANT]),
    }
)


@SLOW
@given(st.lists(st.tuples(CONTENT, EXTRAS), max_size=20), st.sets(st.sampled_from(COLUMNS)), st.data())
def test_hashes_cover_extra_columns_where_they_have_a_value(
    many: list[tuple[dict[str, Any], dict[str, Any]]], some: set[tuple[str, str]], data: st.DataObject
) -> None:
    """A column without values is as one that is not there; also in a slice, which begins in the middle of its bits."""
    orders = [order | {"extra": extra} for order, extra in many]
    made = identified(orders, COLUMNS)
    assert made["content"].to_pylist() == [hashlib.blake2b(spelled(o), digest_size=16).digest() for o in orders]
    fewer = [o | {"extra": {n: v for n, v in o["extra"].items() if n in dict(some)}} for o in orders]
    assert identified(fewer, COLUMNS)["content"] == identified(fewer, tuple(sorted(some)))["content"]
    start = data.draw(st.integers(0, len(orders)))
    names = [name for name in made.schema.names if name not in ("key", "content")]
    part = keys.with_hashes({name: made[name].combine_chunks().slice(start) for name in names})
    assert part.equals(made.slice(start))


def test_hashes_of_texts_of_every_length() -> None:
    """All lengths around a block, in lanes that end early, and a last group that is not full."""
    empty: dict[str, Any] = dict.fromkeys(FIELDS) | {"created_at": 1}
    orders = [empty | {"order_id": "o" * n, "metadata": "m" * (n * 7 % 400), "items": []} for n in range(389)]
    made = identified(orders)
    assert made["key"].to_pylist() == [hashlib.blake2b(o["order_id"].encode(), digest_size=16).digest() for o in orders]
    assert made["content"].to_pylist() == [hashlib.blake2b(spelled(o), digest_size=16).digest() for o in orders]


def test_a_slice_of_arrays_has_its_own_hashes() -> None:
    """Columns that begin in the middle of their memory, NULLs included."""
    order = {"order_id": "o", "updated_at": None, "user_id": None, "amount": 1, "currency": None, "metadata": None}
    orders = [order | {"created_at": i, "items": [{"sku": None, "qty": i, "price": None}] * (i % 3)} for i in range(20)]
    whole = identified(orders)
    names = [name for name in ORDERS.names if name not in ("key", "content")]
    part = keys.with_hashes({name: whole[name].chunk(0).slice(7, 9) for name in names})
    assert part.equals(whole.slice(7, 9))


# ------------------------------------------------------------------------------------------------------------ entries

# Keys that share their first half as they never do in practice, and some that do not.
KEYS = st.tuples(st.sampled_from([0, 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1), st.integers(0, 3))
RECORD = st.tuples(KEYS, st.integers(0, 3 * DAY), st.none() | st.integers(0, 5), st.integers(1, 3))


def table(records: list[tuple]) -> pa.Table:
    """An ORDERS table with these keys and versions; positions from 1 on."""
    empty: dict[str, Any] = dict.fromkeys(FIELDS) | {"order_id": "", "items": []}
    made = identified(
        [empty | {"created_at": at, "updated_at": updated, "drop": drop} for _, at, updated, drop in records]
    )
    keys = [np.array(key, "<u8").tobytes() for key, *_ in records]
    return made.set_column(0, ORDERS.field("key"), pa.array(keys, pa.binary(16)))


@SLOW
@given(st.lists(RECORD, max_size=80), st.data())
def test_the_latest_record_of_each_order_is_an_entry(records: list[tuple], data: st.DataObject) -> None:
    """Sorted by key, the largest version of each, with the row it is; however the table is divided."""
    whole = table(records)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=4)))
    orders = concat_orders(whole.slice(a, b - a) for a, b in zip([0, *cuts], [*cuts, len(records)], strict=True))
    best: dict[tuple[int, int], tuple] = {}
    for row, (key, at, updated, drop) in enumerate(records):
        best[key] = max(best.get(key, (-1,)), (at if updated is None else updated, drop, row + 1, at // DAY))
    entries, rows = keys.latest(orders)
    assert keys.ascending(entries)
    found = [(e["instant"], e["drop"], e["position"], e["date"]) for e in entries]
    assert found == [best[key] for key in sorted(best)]
    assert rows.tolist() == [best[key][2] - 1 for key in sorted(best)]
    contents = whole["content"].to_pylist()
    assert [e["content"].tobytes() for e in entries] == [contents[row] for row in rows]


@pytest.mark.parametrize("order", ["as it came", "backwards", "shuffled"])
def test_one_order_that_came_very_often(order: str) -> None:
    """All records in one bucket are sorted in a moment, too."""
    count = 50_000
    drops = np.arange(1, count + 1)
    drops = {"as it came": drops, "backwards": drops[::-1], "shuffled": np.random.default_rng(1).permutation(drops)}[
        order
    ]
    made = table([((5, 5), 0, None, 1)])
    orders = pa.concat_tables([made] * count).set_column(2, ORDERS.field("drop"), pa.array(drops)).combine_chunks()
    entries, rows = keys.latest(orders)
    assert entries["drop"].tolist() == [count] and rows.tolist() == [int(np.argmax(drops))]


ENTRIES = st.dictionaries(KEYS, st.tuples(*[st.integers(0, 2)] * 4, st.sampled_from([0, 1, 2**120])), max_size=60)


def entries_of(content: dict[tuple[int, int], tuple]) -> np.ndarray:
    entries = np.zeros(len(content), INDEX_ENTRY)
    for entry, (key, (date, instant, drop, position, hashed)) in zip(entries, sorted(content.items()), strict=True):
        entry["hi"], entry["lo"], entry["date"], entry["instant"], entry["drop"], entry["position"] = (
            *key, date, instant, drop, position,
        )  # fmt: skip
        entry["content"] = hashed.to_bytes(16, "little")
    return entries


@SLOW
@given(ENTRIES, ENTRIES)
def test_entries_are_merged_as_dicts_are(some: dict, others: dict) -> None:
    """Of equal keys, the second one's entry stays."""
    ours, theirs = entries_of(some), entries_of(others)
    assert keys.merged(theirs, ours).tobytes() == entries_of(others | some).tobytes()
    assert keys.merged(ours, theirs).tobytes() == entries_of(some | others).tobytes()


def test_entries_are_taken_and_put_as_numpy_does_it() -> None:
    """In any order, some twice."""
    chosen = np.random.default_rng(7)
    entries = np.frombuffer(chosen.bytes(INDEX_ENTRY.itemsize * 100), INDEX_ENTRY)
    for order in (chosen.integers(0, 100, 1000), np.zeros(0, np.int64)):
        assert keys.take_entries(entries, order).tobytes() == entries[order].tobytes()
    ours, theirs = entries.copy(), entries.copy()
    source, target = chosen.integers(0, 100, 50), chosen.permutation(100)[:50]
    keys.put_entries(entries, source, target, ours)
    theirs[target] = entries[source]
    assert ours.tobytes() == theirs.tobytes()
