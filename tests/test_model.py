"""The reference model itself: hand-computed truths first, then what must hold for any drops at all.

It never looks at the daemon; the tests that hold the two against each other live with the engine they test.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import strategies as given_drops
from tests.model import Drop, Item, Model, Unreadable, allocate, read_drop, scan, split
from tests.support import REPO
from tests.support.examples import examples

NOW = given_drops.RECEIVED_AT_US
PATIENT = examples(40)


def drop(*records: str) -> Drop:
    return Drop("orders.jsonl", "\n".join(records).encode(), NOW)


def order(order_id: str = "o_1", day: str = "2026-11-18", **fields: object) -> str:
    return json.dumps({"order_id": order_id, "created_at": day, **fields})


_AN_ORDER = '{"order_id":"sound","created_at":"2026-11-18"}'


def read_one(record: str) -> tuple[object, str | None, Counter[str]]:
    """The order, or else the reason of its discard, and the faults."""
    orders, discards, faults = read_drop(f"[{record}]".encode(), received_at_us=NOW)
    return (orders[0][1] if orders else None), (discards[0].reason if discards else None), faults


def field_of(name: str, text: str) -> object:
    """What a field becomes; "fault" if it is one."""
    got, _, faults = read_one(f'{{"order_id":"x","created_at":"2026-11-18","{name}":{text}}}')
    return "fault" if faults else getattr(got, name)


def line(qty: str | None, price: str | None) -> Item:
    return Item(None, Decimal(qty) if qty else None, Decimal(price) if price else None)


def amounts(amount: str, *lines: tuple[str | None, str | None]) -> list[str]:
    return [str(share) for share in allocate(Decimal(amount), [line(*one) for one in lines])]


# --- Allocation


def test_the_share_follows_the_weights_and_the_lines_add_up() -> None:
    """100 over three equal lines is 33.3333, 33.3334 (66.6667 - 33.3333) and 33.3333."""
    assert amounts("100", ("1", "1"), ("1", "1"), ("1", "1")) == ["33.3333", "33.3334", "33.3333"]
    assert amounts("118.40", ("2", "54.20"), ("1", "10")) == ["108.4000", "10.0000"]


def test_rounding_goes_half_away_from_zero_on_both_sides() -> None:
    """0.0001 halved is 0.00005: away from zero, so the first line gets it all; the same below zero."""
    assert amounts("0.0001", ("1", "1"), ("1", "1")) == ["0.0001", "0.0000"]
    assert amounts("-0.0001", ("1", "1"), ("1", "1")) == ["-0.0001", "0.0000"]


def test_unknown_weights_are_zero_and_all_zero_means_equal() -> None:
    """A line without a price carries nothing beside one that has it, and its half among its likes."""
    assert amounts("10", (None, "5"), ("1", "5")) == ["0.0000", "10.0000"]
    assert amounts("10", (None, "5"), ("0", "5")) == ["5.0000", "5.0000"]


def test_a_negative_quantity_weighs_as_much_as_a_positive_one() -> None:
    """|-2 x 3| = 6 is half of 12."""
    assert amounts("9", ("-2", "3"), ("1", "6")) == ["4.5000", "4.5000"]


def test_the_widest_order_is_allocated_exactly() -> None:
    """Weights of 1e28 take no digit from the amount."""
    wide = ("99999999999999.9999", "99999999999999.9999")
    assert amounts("99999999999999.9999", wide, wide) == ["50000000000000.0000", "49999999999999.9999"]


def test_a_missing_amount_stays_missing_and_no_items_is_one_row() -> None:
    """NULL is not zero; an order without items carries all of its amount itself."""
    assert allocate(None, [line("1", "1")] * 2) == [None, None]
    assert allocate(Decimal("5"), []) == [Decimal("5")]


# --- Fields


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.00005", "1.0001"),
        ("-1.00005", "-1.0001"),
        ("1.00004999999999999999999", "1.0000"),
        ("12345678901234.5678", "12345678901234.5678"),
        ('" 125.50 "', "125.5000"),
        ("1e2", "100.0000"),
        ("-0", "0.0000"),
        ("-0.00001", "0.0000"),
        ("1e-999999999999999999999", "0.0000"),
        ("99999999999999.99994", "99999999999999.9999"),
    ],
)
def test_an_amount_is_exact_to_four_decimals(text: str, value: str) -> None:
    """Read from the number's text, rounded half away from zero, never through a float."""
    assert str(field_of("amount", text)) == value


@pytest.mark.parametrize(
    "text", ["99999999999999.99995", "1e999999999", "true", '"1_000"', '"NaN"', '".5"', '"0x10"', "[]"]
)
def test_what_is_no_amount_is_a_fault(text: str) -> None:
    """Out of range, or not JSON number grammar: NULL, and counted."""
    assert field_of("amount", text) == "fault"


@pytest.mark.parametrize("text", ["null", '""', '" \\u000b"'])
def test_nothing_is_null_without_a_fault(text: str) -> None:
    """null and blank say nothing, for every optional field."""
    for name in ("user_id", "amount", "currency", "updated_at", "metadata"):
        assert field_of(name, text) is None
    assert field_of("items", text) == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("null", "missing_order_id"),
        ('"  "', "missing_order_id"),
        ("7.0", None),
        ("7.5", "invalid_order_id"),
        ("true", "invalid_order_id"),
        ('"\\ud800"', "invalid_order_id"),
        (f'"{"x" * 257}"', "invalid_order_id"),
        (f'"{"x" * 256}"', None),
        ("18446744073709551617", None),
    ],
)
def test_an_order_id_is_text_or_a_whole_number(text: str, reason: str | None) -> None:
    """order_id is judged first, so a bad created_at beside it is never named."""
    for created_at, expected in (("2026-11-18", reason), ("bad", reason or "invalid_created_at")):
        record = f'{{"order_id":{text},"created_at":"{created_at}"}}'
        # Beside one that is sound
        orders, discards, _ = read_drop(f"[{record},{_AN_ORDER}]".encode(), received_at_us=NOW)
        assert [one.reason for one in discards] == ([expected] if expected else [])
        assert len(orders) == (1 if expected else 2)


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ('"2026-11-18T23:30:00-05:00"', "2026-11-19"),
        ('"2026-11-19T00:30+0100"', "2026-11-18"),
        ('"2026-11-18 23:59:59.9999999"', "2026-11-18"),
        ("1795046399.9999999", "2026-11-18"),
        ("1795046400000", "2026-11-19"),
        ("100000000000e-3", "1973-03-03"),
        ("99999999999e-3", "quarantined"),
        ('"2026-11-21T12:00:00Z"', "2026-11-21"),
        ('"2026-11-21T12:00:00.000001Z"', "future_created_at"),
        ('"9999-12-31T23:59-05:00"', "future_created_at"),
        ("1e999999999999", "future_created_at"),
        ('"1969-12-31T23:59:59.9999999Z"', "quarantined"),
        ("-0.0000001", "quarantined"),
        ('"2026-02-30"', "quarantined"),
        ('"2026-11-18Z"', "quarantined"),
        ('"2026-11-18T24:00"', "2026-11-19"),
        ("true", "quarantined"),
        ('"1795046400"', "2026-11-19"),
        ("null", "quarantined"),
    ],
)
def test_the_date_is_the_utc_calendar_date(text: str, outcome: str) -> None:
    """Offsets move the date, digits past microseconds are cut, and a drop without a moment is quarantined."""
    model = Model()
    [result] = model.apply([Drop("x.json", f'{{"order_id":1,"created_at":{text}}}'.encode(), NOW)])
    assert (model.dates() or list(result.discarded) or [result.outcome]) == [outcome]


def test_an_updated_at_from_a_wrong_clock_cannot_pin_an_order() -> None:
    """Beyond the tolerance it is a fault, and the order counts by created_at."""
    assert field_of("updated_at", '"2026-11-22"') == "fault"
    assert field_of("updated_at", '"2026-11-21"') == 1_795_219_200_000_000


def test_metadata_keeps_its_spelling_and_loses_only_white_space() -> None:
    """Numbers, escapes and repeated nested keys stay as they are; white space inside strings too."""
    assert field_of("metadata", '{ "a" : 1.10 , "a":"\\u0041 b" }') == '{"a":1.10,"a":"\\u0041 b"}'
    assert field_of("metadata", '"' + "x" * 65_533 + '"') == '"' + "x" * 65_533 + '"'
    assert field_of("metadata", '"' + "x" * 65_534 + '"') == "fault"


def test_of_equal_keys_the_last_counts_however_it_is_spelled() -> None:
    """At the top and inside an item, an escaped key is the same key."""
    assert read_one('{"order_id":"a","created_at":"2026-11-18","order\\u005fid":"b"}')[0].order_id == "b"  # type: ignore[attr-defined]
    assert field_of("items", '[{"sku":true,"sku":"p"}]') == (Item("p", None, None),)


def test_an_item_that_is_no_object_is_a_line_of_nulls() -> None:
    """Each is counted, and the other lines stay."""
    record = '{"order_id":"a","created_at":"2026-11-18","items":[null,7,{"sku":{},"qty":"2","price":"x"}]}'
    got, _, faults = read_one(record)
    assert got.items == (line(None, None), line(None, None), line("2", None))  # type: ignore[attr-defined]
    assert faults == Counter(item=2, sku=1, price=1)


# --- Forms of a drop


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"[]", 0),
        (b"\xef\xbb\xbf[{},\n null]", 2),
        (b'{"order_id":null,"orders":[1,2]}', 2),
        (b"[NaN]", 1),
        (b'{"data":[1,2],"orders":null}', 2),
        (b'{"data":[1,2],"orders":[3]}', 1),
        (b"{}\r\n\r\n \t\n{}\n", 2),
        (b'{}\n{"order_id":', 2),
        (b"garbage\n{}\n", 2),
        (b"\xff\n{}", 2),
    ],
)
def test_a_readable_form_gives_its_records(data: bytes, count: int) -> None:
    """Arrays, one order, envelopes (orders first) and lines; blank lines are no records, malformed ones are."""
    assert len(split(data)) == count


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" \n",
        b"null",
        b"7",
        b"{}",
        b'{"error":1}',
        b"[{}",
        b'[\n{"a":1}\n',
        b"[{}]x",
        b'{"order_id":1,\n{}\n',
        b"[{},]",
        b"<html>",
        '[{"order_id":1}]'.encode("utf-16"),
        "[{}]".encode("utf-16-le"),
        b'["\xff"]',
        b'{"a":"\xe6\x97',
        b"1\n2\n",
        b"[" * 9999,
        b"[" * 9999 + b"]" * 9999,
        b'{"order_id":1,"x":' + b"[" * 512 + b"]" * 512 + b"}",
    ],
)
def test_an_unreadable_form_is_quarantined_with_a_reason(data: bytes) -> None:
    """A document that is truncated, foreign or nested beyond reason, and lines without a single object."""
    with pytest.raises(Unreadable, match=r"\w+"):
        split(data)


def test_records_path_is_where_an_envelope_has_its_records_and_no_more() -> None:
    """An array, one order and lines are read as without one; the usual keys of an envelope do not count beside it."""
    assert len(split(b'{"a":{"order_id":1,"b":[1,2]}}', "a.b")) == 2
    assert len(split(b"{}\n{}", "a.b")) == 2
    assert len(split(b"[1,2,3]", "a.b")) == 3
    assert len(split(b'{"order_id":1,"a":{"b":[1,2]}}', "a.b")) == 2
    assert len(split(b'{"order_id":1,"created_at":"2026-11-18","a":{"b":[1,2]}}', "a.b")) == 1
    assert split(b'{"a":{"b":{}}}', "a.b") == split(b'{"a":{"b":null}}', "a.b") == []  # an empty page
    for data in (b"{}", b'{"a":{"b":7}}', b'{"orders":[]}'):
        with pytest.raises(Unreadable, match=r"envelope|records_path"):
            split(data, "a.b")


def test_a_line_may_nest_512_levels_and_no_more() -> None:
    """The record's own braces are the first level."""
    for inner, reasons in ((511, []), (512, ["malformed_record"])):
        deep = order() + '\n{"order_id":"d","created_at":"2026-11-18","x":' + "[" * inner + "]" * inner + "}"
        assert [d.reason for d in read_drop(deep.encode(), received_at_us=NOW)[1]] == reasons


# --- Versions


def test_an_order_moves_across_dates_and_the_emptied_date_is_gone() -> None:
    """The later version wins with its date; the old date is restated to nothing."""
    model = Model()
    model.apply([drop(order(amount=5))])
    [outcome] = model.apply([drop(order(day="2026-11-19", amount=7))])
    assert (outcome.corrected, outcome.late, model.dates()) == (1, 0, ["2026-11-19"])
    assert [tuple(r) for r in model.restatements] == [("2026-11-18", 1, 0, Decimal(5), None)]
    assert model.index()["o_1"] == ("2026-11-19", (1_795_046_400_000_000, 2, 1))


def test_a_date_that_comes_back_is_restated() -> None:
    """It had been published before, and who follows the restatements alone has deleted it."""
    model = Model()
    model.apply([drop(order())])
    model.apply([drop(order(day="2026-11-19"))])
    model.apply([drop(order("o_2"))])
    assert [r[:3] for r in model.restatements] == [("2026-11-18", 1, 0), ("2026-11-18", 0, 1)]


def test_between_equal_instants_the_later_arrival_wins_its_items_as_a_set() -> None:
    """A tie goes to the later drop, and within a drop to the later position."""
    two, none = [{"sku": "a"}, {"sku": "b"}], list[object]()
    model = Model()
    [outcome] = model.apply([drop(order(items=none), order(items=two))])
    assert (outcome.superseded, outcome.new, len(model.item_rows("2026-11-18"))) == (1, 1, 2)
    [outcome] = model.apply([drop(order(items=none))])
    assert (outcome.corrected, model.item_rows("2026-11-18")) == (1, [])
    assert [row["line_number"] for row in model.fact_rows("2026-11-18")] == [0]


def test_an_older_version_is_superseded_but_still_moves_the_mark() -> None:
    """updated_at decides; the HWM follows created_at of every accepted order, and lateness looks at it."""
    model = Model()
    model.apply([drop(order(day="2026-11-17", updated_at="2026-11-20"))])
    [outcome] = model.apply([drop(order(day="2026-11-19"), order("o_2", day="2026-11-16"))])
    assert (outcome.superseded, outcome.new, outcome.late) == (1, 1, 1)
    assert (model.dates(), model.hwm_us) == (["2026-11-16", "2026-11-17"], 1_795_046_400_000_000)


def test_the_same_content_changes_nothing() -> None:
    """A resend in another spelling is unchanged; the same bytes are a duplicate that still takes a number. The later version
    counts, and the index names it."""
    model = Model()
    outcomes = [model.apply([drop(text)])[0] for text in (order(amount=5), order(amount=5), order(amount="5.0"))]
    assert [o.outcome for o in outcomes] == ["applied", "duplicate", "applied"]
    assert (outcomes[2].unchanged, model.affected) == (1, [])
    assert (model.latest()["o_1"].seq, model.index()["o_1"][1].seq) == (3, 3)


def test_a_quarantined_drop_makes_no_duplicate() -> None:
    """It may be retried, and fails again."""
    assert [o.outcome for o in Model().apply([drop("x"), drop("x")])] == ["quarantined", "quarantined"]


def test_before_since_is_neither_applied_nor_progress() -> None:
    """Such records are counted and leave no other trace."""
    model = Model()
    [outcome] = model.apply([drop(order(), order("o_2", day="2026-11-19"))], since_us=1_795_046_400_000_000)
    assert (outcome.before_since, outcome.new, model.dates()) == (1, 1, ["2026-11-19"])


def test_rows_are_sorted_by_instant_then_id_in_utf8_order() -> None:
    """U+FF5E sorts before U+1F600 in UTF-8, as code points do, and not as UTF-16 would."""
    model = Model()
    model.apply(
        [drop(order("\U0001f600"), order("\uff5e"), order("b", items=[{}, {}]), order("a", "2026-11-18T01:00"))]
    )
    rows = model.fact_rows("2026-11-18")
    assert [(r["order_id"], r["line_number"]) for r in rows] == [
        *(("b", 1), ("b", 2), ("\uff5e", 0), ("\U0001f600", 0), ("a", 0))
    ]
    columns = (
        "order_id, user_id, sku, amount, qty, price, created_at, date, line_number, currency, updated_at, metadata"
    )
    assert ", ".join(rows[0]) == columns


# --- What it knows


@pytest.mark.parametrize("name", ["model", "csv_model", "strategies", "hostile", "support.third_party"])
def test_the_oracle_knows_nothing_of_the_product(name: str) -> None:
    """No code, no constant, no limit: only then can the two disagree. What it imports of the tests is another part of it."""
    tree = ast.parse((REPO / "tests" / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8"))
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert imported and not any(module.split(".")[0] in ("daemon", "strandline") for module in imported)
    assert {module for module in imported if module.startswith("tests")} <= {"tests", "tests.model", "tests.strategies"}


# --- What holds for any drops


@PATIENT
@given(given_drops.batches())
def test_counts_add_up_and_batching_does_not_matter(batches: list[list[bytes]]) -> None:
    """Conservation in every drop; one by one, in batches or all at once, the rows are the same, and the versions that win."""
    flat = [Drop("d", data, NOW) for batch in batches for data in batch]
    batched, single, whole = Model(), Model(), Model()
    results = [o for batch in batches for o in batched.apply([Drop("d", data, NOW) for data in batch])]
    results += [o for one in flat for o in single.apply([one])] + whole.apply(flat)
    for outcome in results:
        outcome.check()
    for other in (single, whole):
        assert (other.hwm_us, other.latest()) == (batched.hwm_us, batched.latest())
        for date in {*batched.dates(), *other.dates()}:
            assert other.fact_rows(date) == batched.fact_rows(date)
            assert other.item_rows(date) == batched.item_rows(date)


@PATIENT
@given(given_drops.batches())
def test_the_rows_conserve_orders_and_amounts(batches: list[list[bytes]]) -> None:
    """Each accepted order lives on one date, and its lines carry its amount exactly."""
    model, accepted = Model(), dict[str, set[Decimal | None]]()
    for batch in batches:
        model.apply([Drop("d", data, NOW) for data in batch])
        for data in batch:
            try:
                orders = read_drop(data, received_at_us=NOW)[0]
            except Unreadable:
                continue
            for _, one in orders:
                accepted.setdefault(one.order_id, set()).add(one.amount)
    homes = [(row["order_id"], date) for date in model.dates() for row in model.fact_rows(date)]
    assert dict(homes) == {key: home[0] for key, home in model.index().items()}
    assert sorted(accepted) == sorted(order_id for order_id, _ in set(homes))
    for order_id, date in set(homes):
        shares = [row["amount"] for row in model.fact_rows(date) if row["order_id"] == order_id]
        assert (None if None in shares else sum(shares)) in accepted[order_id]


@PATIENT
@given(given_drops.clean_drops())
def test_clean_drops_are_clean(data: bytes) -> None:
    """The clean strategies give no discard and no fault, so that merges really happen."""
    _, discards, faults = read_drop(data, received_at_us=NOW)
    assert (discards, faults) == ([], Counter())


@PATIENT
@given(st.one_of(given_drops.records(), given_drops.dirty_records()), st.data())
def test_scan_agrees_with_the_standard_library(text: str, data: st.DataObject) -> None:
    """Every record is complete, every proper prefix of an object is unfinished, and garbage behind it is wrong."""
    json.loads(text, parse_int=str, parse_float=str)
    assert (scan(text), scan(text + "x")) == ("complete", "wrong")
    if text.startswith("{"):
        assert scan(text[: data.draw(st.integers(0, min(len(text) - 1, 3000)))]) == "unfinished"
