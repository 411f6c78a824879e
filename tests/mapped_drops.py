"""Hypothesis strategies for mappings, and for drops of sources that spell their orders so.

A record is one of tests/strategies.py whose values are put at paths of the mapping: at one of several, mostly, with nothing or
something else at the others; among keys that mean nothing, and among keys that would mean something without the mapping.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from daemon.core.mapping import ITEM_FIELDS, ORDER_FIELDS, FieldMapping
from tests import strategies as usual

# Some lead through others (`customer`), some go into arrays, and some are those of another field.
PATHS = {
    "order_id": ("id", "ids.0", "order_id", "o.number.value", "email"),
    "created_at": ("created", "dates.made.at", "created_at", "dates.made"),
    "updated_at": ("changed", "dates.changed", "updated_at", "created"),
    "user_id": ("customer.id", "email", "customer", "billing.contacts.1.email", "user_id"),
    "amount": ("total", "total_money.amount", "amount", "totals.0.value"),
    "currency": ("currency", "total_money.currency", "currency_code_of_the_order"),
    "metadata": ("meta", "metadata", "meta.inner"),
    "items": ("line_items", "lines.data", "items", "items.list"),
    "sku": ("sku", "product.id", "codes.0", "product"),
    "qty": ("quantity", "qty", "amounts.ordered"),
    "price": ("unit_price", "price", "money.amount", "product.price"),
}
NOISE = (
    '"noise"',
    '"id_"',
    '"customers"',
    '"created_at"',
    '"amount"',
    '"items"',
    '"order_id"',
    '"total_money"',
    '"\\u0069d"',
)
# Extra columns, of which some read what a field reads or what is inside one.
COLUMN_PATHS = (
    "status", "state.now", "customer.tier", "meta.channel", "metadata.channel", "marks.1", "email", "total", "placed", "o.number",
    "tip", "user_id.tier", "o.state",
)  # fmt: skip
COLUMN_VALUES = {
    "text": ('"paid"', '" open "', "17", "17.0", "1.5", "true", '"\\u00e9\\u2028"', f'"{"x" * 257}"', '"0"', '"\\ud800"', "[1]"),
    "decimal": ("12.5", '"12.34565"', '" 7 "', "-0.00005", "1e3", "100000000000000", '"1,5"', "true", "NaN", "0", "[]"),
    "instant": (
        '"2026-11-20T10:00:00Z"', '"2099-01-01"', "1795000000", "999999999999999", '"2026-03-29 02:30"',
        '"2026-10-25T02:30:00.5"',
        '"9999-12-31T23:59:59.999999Z"', '"9999-12-31T23:59:59-23:00"',
        '"20261120T101500Z"', "20261120", '{"$date":"2026-11-20"}',
        "-1", '"soon"', "253402300800",
    ),
    "boolean": ("true", "false", '"TRUE"', '" false "', "1", '"yes"', "0", "[]", "{}", '"t"', '"tru\\u0065"', "truer"),
}  # fmt: skip
# Of items that may be left out
MARKS = (
    "7",
    '"x"',
    "{}",
    "0",
    '"0"',
    "0.0",
    "0e1",
    '"\\u0030"',
    '"0 "',
    "[]",
    "false",
)
NOTHING = ("null", '""', '" "')


@st.composite
def mappings(draw: DrawFn, *, deleting: bool = False) -> FieldMapping:
    """Any mapping; some have the usual format with extra columns. The reference model does not know deletions."""
    if not draw(st.integers(0, 5)):
        return FieldMapping(columns=draw(columns()))
    fields = {}
    for name in draw(st.sets(st.sampled_from(sorted(PATHS)), min_size=1)):
        most = draw(st.sampled_from([1, 1, 2, 3]))
        fields[name] = tuple(draw(st.lists(st.sampled_from(PATHS[name]), max_size=most, min_size=1, unique=True)))
        if name not in ("order_id", "created_at") and not draw(st.integers(0, 7)):
            fields[name] = ()
    return FieldMapping(
        record=draw(st.sampled_from(["", "", "", "node", "data.object", "rows.0"])),
        fields=tuple(sorted(fields.items())),
        time_zone=draw(st.sampled_from(["UTC", "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])),
        minor_units=draw(st.booleans()),
        id_prefix=draw(st.sampled_from(["", "", "shop-", "é"])),
        deleted_path=draw(st.sampled_from(["", "status", "o.state"])) if deleting else "",
        deleted_values=('"gone"', "true", "5", '"\\u00e9"') if deleting else (),
        skip_items_with=draw(st.sampled_from(["", "", "parent_item_id", "product.parent"])),
        columns=draw(columns()),
    )


@st.composite
def columns(draw: DrawFn) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Often none; some are not read, some have several paths."""
    if draw(st.booleans()):
        return ()
    names = sorted(
        draw(st.sets(st.sampled_from(["status", "tip", "placed", "gift", "order", "key"]), min_size=1, max_size=3))
    )
    paths = st.lists(st.sampled_from(COLUMN_PATHS), max_size=2, unique=True)
    return tuple((name, draw(st.sampled_from(sorted(COLUMN_VALUES))), tuple(draw(paths))) for name in names)


Tree = dict[str, Any]  # key to the text of a value, or a tree


def _put(tree: Tree, path: str, text: str) -> None:
    *parents, last = path.split(".")
    for key in parents:
        inner = tree.get(key)
        if not isinstance(inner, dict):
            inner = tree[key] = {}
        tree = inner
    if not isinstance(tree.get(last), dict):
        tree[last] = text


def _text(draw: DrawFn, tree: Tree, space: str) -> str:
    if tree and all(key.isdigit() for key in tree):
        elements = [tree.get(str(number), "null") for number in range(max(map(int, tree)) + 1)]
        return "[" + ",".join(one if isinstance(one, str) else _text(draw, one, space) for one in elements) + "]"
    members = [(json.dumps(key), one if isinstance(one, str) else _text(draw, one, space)) for key, one in tree.items()]
    if draw(st.booleans()):
        members = draw(st.permutations(members))
    if not draw(st.integers(0, 7)):
        noise = (
            draw(st.sampled_from(NOISE)),
            draw(st.sampled_from(["null", "1", '"x"', "[]", "{}", '[{"id":1}]', "7.5", '{"id":null}', "NaN"])),
        )
        members.insert(draw(st.integers(0, len(members))), noise)
    return "{" + f",{space}".join(f"{key}:{space}{value}" for key, value in members) + "}"


def _spell(draw: DrawFn, values: dict[str, str], fields: tuple[str, ...], mapping: FieldMapping) -> Tree:
    tree: Tree = {}
    given = dict(mapping.fields)
    for name in fields:
        paths = given.get(name, (name,))
        chosen = draw(st.integers(0, max(len(paths) - 1, 0)))
        for number, path in enumerate(paths):
            if number == chosen and name in values:
                _put(tree, path, values[name])
            elif not draw(st.integers(0, 2)):
                _put(tree, path, draw(st.sampled_from([*NOTHING, '"other"', "5", "0", '"0"'])))
    return tree


@st.composite
def _items(draw: DrawFn, mapping: FieldMapping, space: str) -> str:
    if not draw(st.integers(0, 7)):
        return draw(st.sampled_from([*usual.ITEM_LISTS, *usual.BAD_ITEM_LISTS]))
    found = []
    for _ in range(draw(st.integers(0, 3))):
        kinds = {"sku": usual.clean_texts, "qty": usual.clean_numbers, "price": usual.clean_numbers}
        if not draw(st.integers(0, 5)):
            kinds |= {"sku": usual.dirty_texts, "qty": usual.dirty_numbers, "price": usual.dirty_numbers}
        tree = _spell(draw, {name: draw(kind) for name, kind in kinds.items()}, ITEM_FIELDS, mapping)
        if mapping.skip_items_with and not draw(st.integers(0, 2)):
            _put(tree, mapping.skip_items_with, draw(st.sampled_from([*MARKS, *NOTHING])))
        found.append(_text(draw, tree, space))
    return "[" + f",{space}".join(found) + "]"


@st.composite
def records(draw: DrawFn, mapping: FieldMapping) -> str:
    """A record on one line, as a source with this mapping writes it; some are odd."""
    if not draw(st.integers(0, 11)):
        return draw(usual.records())
    values = draw(usual._members())
    if mapping.minor_units and draw(st.booleans()):
        values["amount"] = str(draw(st.integers(-(10**6), 10**9)))
        values["currency"] = draw(st.sampled_from(['"usd"', '"JPY"', '"kwd"', '" jpy "', '"XXXX"', "7"]))
    space = draw(st.sampled_from(["", "", " "]))
    if not draw(st.integers(0, 3)):
        for name in draw(st.lists(st.sampled_from(sorted(usual.DIRTY_FIELDS)), min_size=1, max_size=3, unique=True)):
            values[name] = draw(usual.DIRTY_FIELDS[name])
    if "items" in values:
        values["items"] = draw(_items(mapping, space))
    tree = _spell(draw, values, ORDER_FIELDS, mapping)
    for _, kind, paths in mapping.columns:
        for path in paths:
            if draw(st.integers(0, 3)):
                clean = COLUMN_VALUES[kind][:3] if draw(st.booleans()) else COLUMN_VALUES[kind]
                _put(tree, path, draw(st.sampled_from([*clean, *NOTHING])))
    if mapping.deleted_path and draw(st.booleans()):
        states = ['"paid"', '"gone"', "true", "5", '"\\u0067one"', '"é"', "null", "[]", "1.50"]
        _put(tree, mapping.deleted_path, draw(st.sampled_from(states)))
    text = _text(draw, tree, space)
    if mapping.record and draw(st.integers(0, 7)):
        around: Tree = {"type": '"order"'}
        _put(around, mapping.record, text)
        text = _text(draw, around, space)
    return text


@st.composite
def drops(draw: DrawFn, *, deleting: bool = False) -> tuple[FieldMapping, bytes]:
    """A mapping, and a drop of any form whose records are spelled so, mostly."""
    mapping = draw(mappings(deleting=deleting))
    dirty = not draw(st.integers(0, 5))
    return mapping, draw(usual.readable(records(mapping), dirty=dirty))
