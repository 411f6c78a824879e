"""Records of blocked users and orders are refused, in the drops that the block holds for, and nothing is kept of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from daemon.core.mapping import FieldMapping
from daemon.core.model import DIMENSIONS, ORDERS, DimensionRows, ParseContext, Parsed
from daemon.core.parse import csv
from daemon.core.parse.blocking import ORDER, USER, Block, hash_of, without_blocked
from daemon.core.parse.discards import each
from daemon.core.parse.parse import Piece, parse
from tests.strategies import RECEIVED_AT_US

SALT = b"0" * 16
PREFIXED = FieldMapping(id_prefix="shop-")


def block(kind: str, one: str, first: int = 1, last: int | None = None, salt: bytes = SALT) -> Block:
    return Block(kind, salt, hash_of(salt, one), first, last)


def order(number: int, user: str = "u", **more: Any) -> dict[str, Any]:
    return {"order_id": f"o_{number}", "created_at": "2026-11-18", "amount": 1, "user_id": user, **more}


def read(drops: dict[int, list[Any]], blocks: list[Block], mapping: FieldMapping | None = None) -> Parsed:
    context = ParseContext(RECEIVED_AT_US, 86_400_000_000, mapping=mapping or FieldMapping())
    pieces = [Piece(number, json.dumps(records).encode(), context) for number, records in drops.items()]
    return without_blocked(parse(pieces, refusing=False), blocks, dict.fromkeys(drops, context.mapping))


def kept(parsed: Parsed) -> list[tuple[int, str]]:
    """The orders that stay, with their drops."""
    return sorted(zip(parsed.orders["drop"].to_pylist(), parsed.orders["order_id"].to_pylist(), strict=True))


def discarded(parsed: Parsed) -> list[tuple[int, int, str, str]]:
    return [(one.drop, one.position, one.reason, one.record) for one in each(parsed.discards)]


@pytest.mark.parametrize(("first", "last", "drops"), [
    (1, None, {1, 2, 3, 4}), (2, None, {2, 3, 4}), (4, None, {4}), (5, None, set()), (2, 3, {2, 3}), (3, 3, {3}),
    (1, 4, {1, 2, 3, 4}),
])  # fmt: skip
def test_a_block_holds_from_its_first_drop_to_its_last(first: int, last: int | None, drops: set[int]) -> None:
    """Of orders by their ids and by their users, and of records that are no orders."""
    records = [order(1, "ada"), order(2, "bob"), {"refund": "o_1"}]
    for one in (block(USER, "ada", first, last), block(ORDER, "o_1", first, last)):
        parsed = read(dict.fromkeys(range(1, 5), records), [one])
        assert {drop for drop, order_id in kept(parsed) if order_id == "o_2"} == {1, 2, 3, 4}
        assert {1, 2, 3, 4} - {drop for drop, order_id in kept(parsed) if order_id == "o_1"} == drops
        refused = {1, 3} if one.kind == ORDER else {1}
        assert {(drop, at) for drop, at, reason, _ in discarded(parsed) if reason == "blocked"} == {
            (drop, at) for drop in drops for at in refused
        }
        for drop, tally in parsed.tallies.items():
            others = {"missing_order_id": 1} if drop not in drops or one.kind == USER else {}
            blocked = {"blocked": len(refused)} if drop in drops else {}
            assert +tally.discarded == {**others, **blocked}


def test_nothing_is_kept_of_what_is_refused() -> None:
    parsed = read({1: [order(1, "ada"), {"mail": "to ada, please"}, order(2, "bob")]}, [block(USER, "ada")])
    assert discarded(parsed) == [(1, 1, "blocked", "null"), (1, 2, "blocked", "null")]


def test_several_blocks_hold_each_for_itself() -> None:
    """Also two of one id, and of another salt."""
    blocks = [
        block(USER, "ada", 1, 1),
        block(USER, "ada", 3, 3),
        block(ORDER, "o_2", 2),
        block(USER, "eve", 1, None, b"1" * 16),
    ]
    parsed = read({number: [order(1, "ada"), order(2, "bob"), order(3, "eve")] for number in (1, 2, 3)}, blocks)
    assert kept(parsed) == [(1, "o_2"), (2, "o_1")]


def test_an_id_is_of_one_kind() -> None:
    """In an order, the id of a user is no order's. In what is no order, a text may be either."""
    assert kept(read({1: [order(1, "o_2"), order(2, "o_1")]}, [block(ORDER, "o_1")])) == [(1, "o_2")]
    parsed = read({1: [order(9), {"refund": "x"}, {"refund": "y"}]}, [block(ORDER, "x"), block(USER, "y")])
    assert [reason for _, _, reason, _ in discarded(parsed)] == ["blocked", "blocked"]


def test_a_source_writes_ids_without_its_prefix() -> None:
    """They are blocked as they are published."""
    parsed = read({1: [order(1, "ada"), order(2, "bob"), {"to": "ada"}]}, [block(USER, "shop-ada")], PREFIXED)
    assert kept(parsed) == [(1, "shop-o_2")] and [one[2] for one in discarded(parsed)] == ["blocked", "blocked"]
    parsed = read({1: [order(1, "ada"), {"to": "ada"}]}, [block(USER, "ada")], FieldMapping(id_prefix="x-"))
    assert kept(parsed) == [(1, "x-o_1")]


@pytest.mark.parametrize("record", [
    '{"order_id": "o_1"', 'for "o_1": wrong', "o_1", "id=o_1;", "(o_1)", '{"refund": [[{"o_1": 1}]]}', "<o_1>",
])  # fmt: skip
def test_a_record_that_cannot_be_read_is_searched_for_whole_words(record: str) -> None:
    context = ParseContext(RECEIVED_AT_US, 86_400_000_000)
    for text, reason in [
        (record, "blocked"),
        (record.replace("o_1", "o_12"), None),
        (record.replace("o_1", "go_1"), None),
    ]:
        data = json.dumps(order(9)).encode() + b"\n" + text.encode()
        parsed = without_blocked(
            parse([Piece(1, data, context)], refusing=False), [block(ORDER, "o_1")], {1: context.mapping}
        )
        assert [one[2] == "blocked" for one in discarded(parsed)] == [reason == "blocked"], text


def test_rows_of_users_are_refused_and_those_of_products_are_not() -> None:
    """At their positions in the file, whatever was rejected before."""
    context = ParseContext(RECEIVED_AT_US, 86_400_000_000)
    data = b"user_id,sku,email\n,,nobody\nada,ada,a@x\nbob,bob,b@x\n,,nobody\nada,ada,a@y\n"
    found = {name: csv.read(DIMENSIONS[name], 1, data, context) for name in ("user", "product")}
    users, products = (
        without_blocked(
            Parsed(ORDERS.empty_table(), one.discards, {1: one.tally}, {}, {1: DimensionRows(name, one.rows)}),
            [block(USER, "ada")],
            {1: context.mapping},
        )
        for name, one in found.items()
    )
    assert users.rows[1].table["user_id"].to_pylist() == ["bob"]
    assert [(at, reason) for _, at, reason, _ in discarded(users)] == [
        (1, "missing_key"), (2, "blocked"), (4, "missing_key"), (5, "blocked"),
    ]  # fmt: skip
    assert users.tallies[1].discarded["blocked"] == 2
    assert products.rows[1].table["sku"].to_pylist() == ["ada", "bob", "ada"]
