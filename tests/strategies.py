"""Hypothesis strategies for drops as bytes: every shape and every kind of dirty data that docs/INPUT.md names.

Records are written as JSON text, member by member, so that the spelling of numbers, strings and keys varies. With `json.dumps`
alone, drops would not show what a parser rounds, merges or repairs. Order ids, instants and amounts come from small sets, so that
corrections, ties, moves between dates and repeats are common. Most records are clean and most drops are readable: an early
rejection would leave the rest untested.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

RECEIVED_AT = datetime(2026, 11, 20, 12)
EPOCH = datetime(1970, 1, 1)
RECEIVED_AT_US = (RECEIVED_AT - EPOCH) // timedelta(microseconds=1)

Member = tuple[str, str]  # key text and value text, both raw JSON


def _sometimes(draw: DrawFn, one_in: int) -> bool:
    """True about once in `one_in` draws; shrinks to False."""
    return draw(st.sampled_from([False] * (one_in - 1) + [True]))


# --- Strings and their spellings ----------------------------------------------------------------------------------


def _plain(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _ascii(text: str) -> str:
    return json.dumps(text)


def _all_escaped(text: str) -> str:
    units = text.encode("utf-16-be", "surrogatepass").hex(" ", 2).split()
    return '"' + "".join(f"\\u{unit}" for unit in units) + '"'


def _slashed(text: str) -> str:
    return json.dumps(text).replace("/", "\\/")


SPELLINGS = (_plain, _ascii, _plain, _ascii, _slashed, _all_escaped)


def spelled(texts: Sequence[str]) -> SearchStrategy[str]:
    """One of the texts as a JSON string, in one of its spellings."""
    return st.builds(lambda text, spell: spell(text), st.sampled_from(texts), st.sampled_from(SPELLINGS))


WORDS = ("p_1", "p_2", "p_3", "a b", "Ä", "straße", "日本", "😀", 'q"uote', "back\\slash", "a/b", "\x7f", "1e5", "null")
AWKWARD_TEXTS = (
    "nul\0l",
    "line\nbreak",
    "tab\tinside",
    " padded ",
    "\t\r\n\x0b\x0cpadded\x0c",
    "\xa0kept\xa0",
    "\u2028",
    "x" * 256,
    "é" * 128,
    " " + "x" * 256 + " ",
    "},{",
    '{"order_id":"inner"}',
    "[]",
    "NaN",
    "\ufeffbom",
    "\u0130",
)
BAD_TEXTS = (
    _plain("x" * 257),
    _plain("é" * 128 + "x"),
    '"\\ud800"',
    '"a\\udc00b"',
    '"\\udc00\\ud800"',
    "1.5",
    "1e3",
    "1.0e0",
    "1E0",
    "NaN",
    '{"$oid":7.5}',
    '{"$oid":"a","b":1}',
    "true",
    "false",
    "[]",
    '["x"]',
    "{}",
    '{"id":"x"}',
    "9" * 257,
)
BLANK = ("null", '""', '"   "', '"\\t\\n\\u000b\\f\\r"', '"\\u0020"')
INTEGERS = ("0", "-0", "-5", "42", "18446744073709551615", "18446744073709551616", "-9223372036854775809", "9" * 40)

clean_texts = st.one_of(spelled(WORDS), st.sampled_from(INTEGERS), st.sampled_from(BLANK[:2]))
dirty_texts = st.one_of(
    spelled(AWKWARD_TEXTS), st.sampled_from(BAD_TEXTS), st.sampled_from(BLANK), st.text(max_size=6).map(_ascii)
)

# Several spellings of one id, on purpose: 7, "7" and " 7 " are one order; 18446744073709551616 and ...617 are two.
CLEAN_IDS = (
    *("7", '"7"', '" 7 "', '"\\u0037"', '"o_1"', '"o_2"', '"o_3"', '"\\u006f_3"', '"o\\u005f1\\t"', '"Ö"', '"\\u00d6"'),
    *("18446744073709551616", "18446744073709551617", '"18446744073709551616"', '"o_10"', '"a\\"b\\\\c"', '"😀"'),
)
ODD_IDS = (
    "0",
    "-0",
    "-7",
    '"-0"',
    '"07"',
    '"7\\u0000"',
    '"\\ufffd"',
    '"\\u00a07"',
    '"7.0"',
    "7.0",
    "9007199254740992.0",
    "9007199254740992",
    "-9007199254740991.0",
    "-0.0",
    '"1.23E+12"',
    '"-1E+05"',
    '"1,23457e+10"',
    '"1.23E+123"',
    '"E+12"',
    '{"$oid":"5f0000"}',
    '{"$numberLong":"7"}',
    _plain("x" * 256),
    "1" * 256,
)


# --- Instants -----------------------------------------------------------------------------------------------------

CLEAN_INSTANTS = (
    *("2026-11-17T08:00:00Z", "2026-11-18T08:00:00Z", "2026-11-18T23:59:59.999999Z", "2026-11-19T00:00:00Z"),
    *("2026-11-19T08:30:00Z", "2026-11-20T11:59:00Z", "2026-11-18T23:30:00-05:00", "2026-11-19T00:30:00+01:00"),
    *(
        "2026-11-18 08:00",
        "2026-11-18T08:00",
        "2026-11-18",
        " 2026-11-19 ",
        "2026-11-19T04:30Z",
        "2026-11-19T10:00+0530",
    ),
)
EDGE_INSTANTS = (
    *("1970-01-01", "1970-01-01T00:00:00Z", "1970-01-01T01:00+01:00", "2000-02-29", "2024-02-29T12:00:00+00:00"),
    *(
        "2026-11-21T12:00:00Z",
        "2026-11-21T12:00:00.000000999Z",
        "2026-11-19T00:00:00-00:00",
        "2026-11-19T23:59:59-23:59",
    ),
    *("2026-11-19T00:00:00+23:59", "\t2026-11-19T08:30:00Z\n", "2026-11-18 23:30:00.5-0500", "\x0b2026-11-19\x0c"),
)
ODD_INSTANTS = (  # read, and spelled as few do
    *("2026-11-19T24:00:00", "2026-11-19T08:30:60Z", "2026-11-19t08:30:00Z", "2026-11-19T08:30:00z", "2026-11-19T08"),
    *("2026-11-19T08:30:00 Z", "2026-11-19T08:30:00+05", "1795075200", "1795075200123", "2026-11-19T08:30:00,5Z"),
    *(
        "2026-11-19T08:30:00+01:00[Europe/Berlin]",
        "2026-11-19 08:30:10.25 UTC",
        "2026-11-19 08:30 +0530",
        "20261119T083000Z",
    ),
    *("20261119T083000.5+0100", "Thu, 19 Nov 2026 08:30:00 GMT", "9 Nov 2026 08:30 -0500", "/Date(1795075200123)/"),
    *(
        "/Date(1795075200123+0100)/",
        "2026-11-19T23:59:60Z",
        "20261119t240000",
        "2026-11-19T08Z",
        "2026-11-19 24:00 UTC",
    ),
)
BAD_INSTANTS = (
    *(
        "2026-02-30",
        "2026-13-01",
        "2026-00-10",
        "2025-02-29",
        "0000-01-01",
        "1969-12-31T23:59:59.999999Z",
        "0001-01-01",
    ),
    *(
        "1970-01-01T00:00:00+00:01",
        "12025-01-01",
        "2026-11-19T08:60",
    ),
    *(
        "2026-11-19Z",
        "2026-11-19T",
        "2026-11-19T08:30:00.",
    ),
    *("2026-11-19T08:30.5Z", "2026-11-19T08:30:00+24:00", "2026-11-19T08:30:00+05:60"),
    *("2026-11-19T08:30:00+5:00", "2026-11-19  08:30", "20261119", "2026-11-9", "26-11-19"),
    *("19/11/2026", "infinity", "nan", "now", "٢٠٢٦-11-19", "2026-W47-4"),
    *("-2026-11-19", "+2026-11-19", "2026-11-19T8:30:00Z", "x"),
    *(
        "2026-11-19T24:00:01",
        "2026-11-19T24:01",
        "2026-11-19T08:30:61Z",
        "Thu Nov 19 08:30:00 +0000 2026",
        "179507520012",
    ),
    *(
        "20261119T0830Z",
        "20261119083000",
        "Thu, 19 Foo 2026 08:30:00 GMT",
        "19 Nov 2026 08:30:00",
        "/Date(x)/",
        "9999-12-31T24:00:00",
    ),
    *(
        "2026-11-19T08:30:00[UTC]",
        "2026-11-19T08:30:00  UTC",
        "2026-11-19 UTC",
        "2026-11-19T08:30:00 utc",
        "/Date(-1)/",
    ),
)
FUTURE_INSTANTS = (
    *("2026-11-21T12:00:00.000001Z", "2026-11-22", "2026-11-21T23:30:00-05:00", "2999-12-31", "9999-12-31T23:59:59Z"),
    "9999-12-31T23:59-05:00",
)
CLEAN_EPOCHS = (
    "1795075200",
    "1795075200.5",
    "1795075200123",
    "1.7950752e9",
    "1795075200123.456",
    "17950752e2",
    "1795161600",
)
EDGE_EPOCHS = (
    *("0", "-0", "0.0000001", "0e999999999999", "99999999999.5e-9", "1795075200.1234567891", "1795075200123.4567"),
    *("20250820", "45889.64", "99999999", "99999999.999999", "100000000", "1e8", "99999999.9e0", "NaN", "-Infinity"),
    *('{"$date":"2026-11-19T08:30:00.069Z"}', '{"$date":{"$numberLong":"1795075200123"}}', '{"$date":1795075200123}'),
    *(
        "1e-999999999999",
        "100000000000",
        "1e11",
        "1e+11",
        "1795262400",
        "1795262400.000000999",
        "1795075200" + "." + "3" * 400,
    ),
)
BAD_EPOCHS = (
    "-1",
    "-0.0000001",
    "-1e11",
    "-1e999999999999",
    "true",
    "false",
    "[]",
    '["2026-11-19"]',
    "{}",
    '"\\ud800"',
)
FUTURE_EPOCHS = (
    "99999999999",
    "99999999999.999999",
    "1795262400.000001",
    "1e300",
    "1e999999999999",
    "9" * 500,
    "1795262400001",
)


@st.composite
def fine_instants(draw: DrawFn) -> str:
    """A clean instant text with a fraction of any length and any zone."""
    second = RECEIVED_AT - timedelta(seconds=draw(st.integers(0, 4 * 86_400)))
    digits = draw(st.text("0123456789", max_size=12))
    zone = draw(st.sampled_from(["", "Z", "+00:00", "+0530", "-05:00", "+14:00", "-12:00", "+01:00"]))
    text = second.strftime(draw(st.sampled_from(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])))
    return _plain(text + ("." + digits if digits else "") + zone)


clean_instants = st.one_of(
    spelled(CLEAN_INSTANTS), spelled(CLEAN_INSTANTS), st.sampled_from(CLEAN_EPOCHS), fine_instants()
)
dirty_instants = st.one_of(
    spelled(EDGE_INSTANTS),
    spelled(BAD_INSTANTS),
    spelled(ODD_INSTANTS),
    spelled(FUTURE_INSTANTS),
    st.sampled_from(EDGE_EPOCHS),
    st.sampled_from(BAD_EPOCHS),
    st.sampled_from(FUTURE_EPOCHS),
    st.sampled_from(BLANK),
    st.builds(lambda length: _plain("2026-11-19T08:30:00." + "1234567890123"[:length] + "Z"), st.integers(0, 13)),
)

# --- Amounts, quantities and prices -------------------------------------------------------------------------------

CLEAN_NUMBERS = (
    *("0", "1", "10", "100", "118.40", "9.99", "0.01", "-5.25", "33.3333", "1e2", "1.5E1", "2.50", "0.0001", "1000000"),
    *('"125.50"', '"7"', '" 12.5 "', '"-3"', '"1e2"', "null", '""'),
)
ODD_NUMBERS = (
    *("0.00005", "-0.00005", "0.00004999999999999999999999", "1.00005", "1.00015", "2.00025", "-1.00015", "0.000049"),
    *("12345678901234.5678", "99999999999999.9999", "-99999999999999.9999", "99999999999999.99994", "1234567890.12345"),
    *(
        "0.1e1",
        "1e13",
        "1E+2",
        "1e-4",
        "5e-5",
        "4e-5",
        "1e-999999999",
        "-1e-99999999999999999999",
        "-0",
        "-0.0",
        "0e999999999",
    ),
    *("0.30000000000000004", "1.005", "123456789012.3455", "100000000000", "9007199254740993", "0." + "1" * 400),
    *(
        "0." + "0" * 400 + "1e401",
        "1" + "0" * 400 + "e-400",
        '"0.00005"',
        '"-0"',
        '{"$numberDecimal":"10.50"}',
        '{"$numberDouble":"NaN"}',
        "NaN",
        "-Infinity",
        '"\\t1.5\\n"',
        '"1\\u0030"',
        '"1E-2"',
    ),
)
BAD_NUMBERS = (
    *(
        "99999999999999.99995",
        "-99999999999999.99995",
        "100000000000000",
        "1e14",
        "1e999999999",
        "-1e99999999999999999999",
    ),
    *(
        "9" * 5000,
        "18446744073709551616",
        "true",
        "false",
        "[]",
        "[1]",
        "{}",
        '{"value":1}',
        '"1_000"',
        '"0x10"',
        '"NaN"',
    ),
    *('"Infinity"', '"-Infinity"', '"nan"', '"1,000.00"', '"+5"', '".5"', '"5."', '"01"', '"1 000"', '"$5"', '"abc"'),
    *('"true"', '"1e"', '"--1"', '"\\ud800"', '"١٢"', '"\\uff11"', '"1\\u00a0"', '"1e999999999"', '"1\\u0000"', '"-"'),
)


@st.composite
def fine_numbers(draw: DrawFn) -> str:
    """A number with up to 18 digits and up to 7 decimals, as a token or as text."""
    whole, decimals = draw(st.integers(-(10**12), 10**12)), draw(st.text("0123456789", max_size=7))
    number = f"{whole}.{decimals}" if decimals else str(whole)
    return _plain(number) if draw(st.booleans()) else number


clean_numbers = st.sampled_from(CLEAN_NUMBERS)
dirty_numbers = st.one_of(
    st.sampled_from(ODD_NUMBERS), st.sampled_from(BAD_NUMBERS), st.sampled_from(BLANK), fine_numbers()
)

# --- Items and metadata -------------------------------------------------------------------------------------------


def _object(members: Sequence[Member], space: str = "") -> str:
    return "{" + f",{space}".join(f"{key}:{space}{value}" for key, value in members) + "}"


def _array(elements: Sequence[str], space: str = "") -> str:
    return "[" + f",{space}".join(elements) + "]"


@st.composite
def items(draw: DrawFn, *, dirty: bool = False) -> str:
    """One element of `items`."""
    members: list[Member] = []
    for name, clean, soiled in (
        ('"sku"', clean_texts, dirty_texts),
        ('"qty"', clean_numbers, dirty_numbers),
        ('"price"', clean_numbers, dirty_numbers),
    ):
        if not _sometimes(draw, 8):
            members.append((name, draw(soiled if dirty and draw(st.booleans()) else clean)))
        if dirty and _sometimes(draw, 8):
            members.append((name, draw(soiled)))  # a repeated key: the last one counts
    if _sometimes(draw, 8):
        members.append(('"note"', draw(st.sampled_from(['"x"', '{"sku":"inner","qty":9}', "[[]]", "null"]))))
    return _object(draw(st.permutations(members)), draw(st.sampled_from(["", " "])))


HEAVY = '{"qty":99999999999999.9999,"price":99999999999999.9999}'
ITEM_LISTS = (
    *(
        "[]",
        "[ ]",
        "[{}]",
        "[{},{}]",
        '[{"sku":"p_1","qty":1,"price":1}]',
        _array(['{"sku":"p_1","qty":1,"price":1}'] * 3),
    ),
    *('[{"qty":0,"price":5},{"qty":5,"price":0}]', '[{"qty":-2,"price":3},{"qty":1,"price":6},{"qty":1,"price":-1}]'),
    *(_array([HEAVY] * 3), _array([HEAVY, '{"qty":0.0001,"price":0.0001}']), _array(['{"qty":1,"price":1}'] * 40)),
    *('[{"qty":2,"price":null},{"qty":1,"price":7}]', '[{"sku":"p_1"},{"sku":"p_1"}]', "null"),
)
BAD_ITEM_LISTS = (
    *(
        "[null]",
        "[null,{}]",
        '[1,"x",true,[],{"sku":"p_1","qty":1,"price":2}]',
        "{}",
        '{"sku":"p_1"}',
        '"[]"',
        "7",
        "true",
    ),
    *(
        '""',
        '" "',
        '"\\ud800"',
        '[{"qty":"many","price":{}}]',
        "[[{}]]",
        '[{"sku":"\\ud800","sku":"p_2"}]',
        '[{"\\u0073ku":"x"}]',
    ),
)
item_lists = st.one_of(
    st.sampled_from(ITEM_LISTS), st.lists(items(), max_size=4).map(_array), st.lists(items(), max_size=3).map(_array)
)
dirty_item_lists = st.one_of(
    st.sampled_from(BAD_ITEM_LISTS),
    st.lists(items(dirty=True), max_size=4).map(_array),
    st.lists(st.one_of(items(dirty=True), st.sampled_from(["null", "1", "[]", '"x"'])), max_size=4).map(_array),
)

CLEAN_METADATA = (
    *('{"source":"api","promo":null}', "{}", '{"a":[1,2.50,{"b":true}]}', "null", '{"text":"two  spaces, : {}"}'),
    *("{ }", '{ "a" : [ 1 , 2 ] , "b" :\t"c d" }', '{"n":1.10,"e":1E5,"z":-0,"big":123456789012345678901234567890}'),
)
ODD_METADATA = (
    *(
        '""',
        '"  "',
        '"\\u0009"',
        '"plain"',
        '" padded "',
        "0",
        "1.10",
        "NaN",
        '{"a":[Infinity],"b":"NaN"}',
        '["NaN"]',
        "true",
        "false",
        "[]",
        "[ 1 , 2 ]",
        '["a b", "c"]',
    ),
    *(
        '{"a":1,"a":2}',
        '{"\\u0061":"\\u00e9\\ud83d\\ude00\\/"}',
        '{"lone":"\\ud800"}',
        '{"nul":"\\u0000"}',
        '"\\udfff"',
    ),
    *(
        '{"order_id":"inner","created_at":"2026-11-19"}',
        '{"q":"\\"","b":"\\\\","bq":"\\\\\\" , "}',
        '{"é":"日本 😀"}',
        "1e999999999",
    ),
    *(
        _plain("x" * 65_533),
        _plain("x" * 65_534),
        _plain("é" * 32_766 + "x"),
        _plain("é" * 32_767),
        "[ " + "1 , " * 20_000 + "1]",
    ),
    *("[" * 511 + "]" * 511, '{"a":' * 510 + "[]" + "}" * 510, '{"":{"":""}}', '{"x":"},{\\"order_id\\":1}"}'),
)

# --- Records ------------------------------------------------------------------------------------------------------

UNKNOWN = (
    *(
        ('"note"', '"x"'),
        ('"Order_ID"', '"upper"'),
        ('"customer"', '{"order_id":"inner","items":[{"sku":1}]}'),
        ('""', "[]"),
    ),
    *(
        ('"order_id "', '"spaced"'),
        ('"date"', '"2020-01-01"'),
        ('"line_number"', "9"),
        ('"data"', "[]"),
        ('"\\ud800"', "1"),
    ),
)
CLEAN_FIELDS = {
    "user_id": clean_texts,
    "amount": clean_numbers,
    "currency": spelled(["USD", "EUR", " JPY "]),
    "items": item_lists,
    "metadata": st.sampled_from(CLEAN_METADATA),
}
DIRTY_FIELDS = {
    "order_id": st.one_of(dirty_texts, st.sampled_from(ODD_IDS)),
    "created_at": dirty_instants,
    "user_id": dirty_texts,
    "amount": dirty_numbers,
    "currency": dirty_texts,
    "updated_at": dirty_instants,
    "items": dirty_item_lists,
    "metadata": st.sampled_from(ODD_METADATA),
}


@st.composite
def _members(draw: DrawFn) -> dict[str, str]:
    """A record that is accepted without a fault."""
    record = {"order_id": draw(st.sampled_from(CLEAN_IDS)), "created_at": draw(clean_instants)}
    if _sometimes(draw, 3):
        record["updated_at"] = draw(st.one_of(clean_instants, st.just("null")))
    for name, values in CLEAN_FIELDS.items():
        if not _sometimes(draw, 6):
            record[name] = draw(values)
    return record


def _render(draw: DrawFn, members: list[Member]) -> str:
    """The members as text on one line, mostly in the usual order, with any white space."""
    if _sometimes(draw, 5):
        members = draw(st.permutations(members))
    space = draw(st.sampled_from(["", "", "", " ", " ", "\t", "  "]))
    return _object(members, space)


def _quoted(record: dict[str, str]) -> list[Member]:
    return [(_plain(key), value) for key, value in record.items()]


@st.composite
def clean_records(draw: DrawFn) -> str:
    """A record on one line that is accepted without a fault."""
    members = _quoted(draw(_members()))
    if _sometimes(draw, 10):
        members.append(draw(st.sampled_from(UNKNOWN[:4])))
    return _render(draw, members)


TOO_DEEP = '{"order_id":"deep","created_at":"2026-11-19","metadata":' + "[" * 512 + "]" * 512 + "}"
NOT_OBJECTS = ("null", "7", '"text"', "true", "[]", '[{"order_id":"7"}]', "-0.5e1", '"\\ud800"')
BARE_OBJECTS = ("{}", "{ }", '{"order_id":null}', '{"order_id":""}', '{"order_id":"7"}', '{"created_at":"2026-11-19"}')


@st.composite
def dirty_records(draw: DrawFn) -> str:
    """An odd record, valid JSON on one line. It may be discarded, have faults, or be accepted."""
    kind = draw(st.sampled_from(["fields"] * 6 + ["twice", "unknown", "escaped key", "no object", "bare"]))
    if kind == "no object":
        return draw(st.sampled_from(NOT_OBJECTS))
    if kind == "bare":
        return draw(st.sampled_from(BARE_OBJECTS))
    record = draw(_members())
    names = draw(st.lists(st.sampled_from(sorted(DIRTY_FIELDS)), min_size=1, max_size=5, unique=True))
    if kind == "fields":
        for name in names:
            record[name] = draw(DIRTY_FIELDS[name])
            if _sometimes(draw, 6):
                del record[name]
    members = _quoted(record)
    if kind == "twice":
        for name in names:
            members.insert(draw(st.integers(0, len(members))), (_plain(name), draw(DIRTY_FIELDS[name])))
    if kind == "unknown":
        members += draw(st.lists(st.sampled_from(UNKNOWN), min_size=1, max_size=2))
    if kind == "escaped key":
        members = [(_all_escaped(json.loads(key)), value) for key, value in members]
    return _render(draw, members)


@st.composite
def records(draw: DrawFn) -> str:
    """A record on one line; about one in five is odd."""
    return draw(dirty_records() if _sometimes(draw, 5) else clean_records())


@st.composite
def malformed_lines(draw: DrawFn) -> bytes:
    """A line that is not JSON, or the beginning of a record."""
    if draw(st.booleans()):
        line = draw(clean_records()).encode()
        return line[: draw(st.integers(1, len(line) - 1))]
    return draw(st.sampled_from(MALFORMED_LINES))


MALFORMED_LINES = (
    *(b"{", b"}", b"garbage", b"{'order_id':'7'}", b'{"order_id":"7",}', b'{"order_id":NaN}', b'{"order_id":Infinity}'),
    *(
        b'{"order_id":"7"} x',
        b'{"order_id":"7"}{"order_id":"8"}',
        b'{"order_id":"\xff","created_at":"2026-11-19"}',
        b"\xff",
    ),
    *(
        b'{"order_id":"a\tb"}',
        b'{"order_id":"a\x00b"}',
        b'{"order_id":01}',
        b'{"order_id":+1}',
        b'{"order_id":.5}',
        b"nul",
    ),
    *(
        b'// {"order_id":"7"}',
        b'\xef\xbb\xbf{"order_id":"7"}',
        b'{"order_id":"\\x41"}',
        b'{"order_id":"\\u12g4"}',
        b"\x0b",
    ),
    *(
        b'{"order_id":"\xed\xa0\x80"}',
        b'{order_id:"7"}',
        b'{"order_id" "7"}',
        b'{"order_id":"7" "a":1}',
        b'\xa0{"order_id":"7"}',
    ),
    *(
        b'{"order_id":\xd9\xa1}',
        b"7,",
        b'{"order_id":"7"},',
        b"[",
        b"]",
        b'"',
        b"-",
        b"TRUE",
        b'{"order_id":True}',
        b'{"a":1.}',
    ),
    *(TOO_DEEP.encode(), b'{"order_id":"7","metadata":' + b"[" * 3000 + b"]" * 3000 + b"}", b"[" * 3000),
)

# --- Drops --------------------------------------------------------------------------------------------------------

BOM = b"\xef\xbb\xbf"
_STRING_OR_MARK = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]')


def _respaced(text: str, space: str) -> str:
    """The same JSON with this white space around every punctuation mark outside strings. Large values are unchanged."""
    if len(text) > 20_000:
        return text
    return _STRING_OR_MARK.sub(lambda m: m[0] if m[0][0] == '"' else f"{space}{m[0]}{space}", text)


@st.composite
def _arrays(draw: DrawFn, elements: SearchStrategy[str]) -> str:
    """An array of records: compact, a record a line, pretty-printed, or with odd white space."""
    texts = draw(st.lists(elements, max_size=6))
    style = draw(st.sampled_from(["compact", "compact", "lines", "lines, comma first", "pretty", "odd"]))
    if style == "lines":
        return "[\n" + ",\n".join(texts) + "\n]\n"
    if style == "lines, comma first":
        return "[" + "\n,".join(texts) + "\n]"
    if style == "pretty":
        return _respaced(_array(texts), "\n  ")
    if style == "odd":
        return " \r\n\t" + _respaced(_array(texts), draw(st.sampled_from([" ", "\r\n", "\t", "\n\n"]))) + "\n \n"
    return _array(texts)


@st.composite
def _envelopes(draw: DrawFn, elements: SearchStrategy[str]) -> str:
    """An array under one of the known keys, among other members; sometimes with a decoy before it or the key twice."""
    key = draw(st.sampled_from(['"orders"', '"data"', '"results"', '"records"', '"\\u0064ata"']))
    array = draw(_arrays(elements))
    members = [(key, array)]
    if "{" not in array:  # an empty page: other members could make it unreadable
        return _object(members, draw(st.sampled_from(["", " ", "\n"])))
    if draw(st.booleans()):
        members.insert(
            0, draw(st.sampled_from([('"next"', "null"), ('"page"', '{"orders":[{"order_id":"x"}]}'), ('"n"', "3")]))
        )
    if _sometimes(draw, 4):
        members.insert(0, draw(st.sampled_from([('"orders"', "null"), (key, '[{"order_id":"first"}]'), (key, "{}")])))
    if _sometimes(draw, 4):
        others = [('"results"', "[]"), ('"records"', "[1]"), ('"count"', "1"), ('"data"', "{}")]
        others = others if key == '"orders"' else others[:3]
        members.append(draw(st.sampled_from([one for one in others if one[0] != key])))  # of equal keys the last counts
    return _object(members, draw(st.sampled_from(["", " ", "\n"])))


@st.composite
def _lines(draw: DrawFn, elements: SearchStrategy[str], *, dirty: bool) -> bytes:
    """One record per line. At least one is clean, so that the drop is readable unless its first line is damaged."""
    lines = [text.encode() for text in draw(st.lists(elements, max_size=6))]
    lines.insert(draw(st.integers(0, len(lines))), draw(clean_records()).encode())
    if dirty:
        for line in draw(st.lists(malformed_lines(), max_size=2)):
            lines.insert(draw(st.integers(0, len(lines))), line)
    if draw(st.booleans()):
        lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from([b"", b"  ", b"\t", b"\r"])))
    end = draw(st.sampled_from([b"\n", b"\n", b"\n", b"\r\n"]))
    return end.join(lines) + draw(st.sampled_from([end, end, b"", end * 2]))


PAGING = (
    ('"next"', "null"),
    ('"current_page"', "2"),
    ('"has_more"', "true"),
    ('"total"', "9"),
    ('"links"', '{"next":null}'),
)


@st.composite
def _held(draw: DrawFn, elements: SearchStrategy[str], *, dirty: bool) -> str:
    """On one line: a record, or a container of records."""
    kind = draw(st.sampled_from(["record"] * 4 + ["array", "page", "page", "order", "glued", "array of pages"]))
    if kind == "record":
        return draw(elements)
    texts = draw(st.lists(elements, max_size=3))
    if kind == "array":
        return _array(texts)
    if kind == "order":
        return _object([('"order"', draw(elements))])
    if kind == "glued":
        return draw(st.sampled_from(["", " ", "\ufeff", "\x1e"])).join([draw(elements), *texts])
    pages = [
        _object([(draw(st.sampled_from(['"data"', '"orders"'])), draw(st.sampled_from([_array(texts), "null", "[]", "{}"]))),
                 *draw(st.lists(st.sampled_from(PAGING), max_size=2, unique=True))])
    ]  # fmt: skip
    if dirty and _sometimes(draw, 6):
        pages[0] = pages[0].replace("{", '{"id":5,', 1)
    return pages[0] if kind == "page" else _array(pages)


@st.composite
def _appended(draw: DrawFn, elements: SearchStrategy[str], *, dirty: bool) -> bytes:
    """Consecutive documents, as tools append them: one per line, over several lines, without a separator, with marks or
    commas."""
    texts = draw(st.lists(_held(elements, dirty=dirty), min_size=1, max_size=5))
    if _sometimes(draw, 3):
        texts = [_respaced(text, "\n ") for text in texts]
    sound = ["\n", "\n", "\n", "\r\n", "", " ", "\n\x1e", "\n\ufeff", "\r"]
    between = draw(st.sampled_from([*sound, ",\n", ", "] if dirty else sound))
    text = draw(st.sampled_from(["", "", "\x1e"])) + between.join(texts) + draw(st.sampled_from(["", "\n", between]))
    data = text.encode(errors="replace")
    if dirty and _sometimes(draw, 3):
        at = draw(st.integers(0, len(data)))
        data = (
            data[:at]
            + draw(st.sampled_from([b"", b",", b'"', b"x", b"}", b"]", b"\n"]))
            + data[at + draw(st.integers(0, 3)) :]
        )
    return data


@st.composite
def readable(draw: DrawFn, elements: SearchStrategy[str], *, dirty: bool) -> bytes:
    form = draw(st.sampled_from(["array", "array", "lines", "lines", "lines", "envelope", "single", "appended"]))
    if form == "appended":
        data = draw(_appended(elements, dirty=dirty))
    elif form == "lines":
        data = draw(_lines(elements, dirty=dirty))
    elif form == "array":
        data = draw(_arrays(elements)).encode()
    elif form == "envelope":
        data = draw(_envelopes(elements)).encode()
    else:
        data = _respaced(draw(elements), draw(st.sampled_from(["", " ", "\n  "]))).encode()
    return BOM + data if _sometimes(draw, 8) else data


WHOLE_DROP_DIRT = (
    *(
        b'{"data":[],"page":{"orders":[{"order_id":"7","created_at":"2026-11-19"}]}}',
        b'{"orders":[],"results":[{"order_id":"7","created_at":"2026-11-19"}]}',
        b'{"orders":[{"order_id":"7","created_at":"2026-11-19"}],"data":[{"order_id":"8","created_at":"2026-11-19"}]}',
        b'{"results":[{"order_id":"7","created_at":"2026-11-19"}],"page":{},"results":[]}',
        b'{"records":[{"order_id":"7","created_at":"2026-11-19"}],"records":[1]}',
        b'{"data":[],"errors":[{"message":"no"}]}',
        b'{"data":[],"errors":[]}',
        b'{"data":[],"error":"rate limit"}',
        b'{"data":[ ],"records":[1]}',
        b'{"data":[],"included":[]}',
    ),
    *(
        b"",
        b" \n\t\r\n",
        BOM,
        BOM + b"\n",
        b"null",
        b"7",
        b'"text"',
        b"true",
        b"{}",
        b"\x0c",
        b"-",
        b"nul",
        b"\xff\xfe",
        b"\x00",
    ),
    *(
        b"<!DOCTYPE html>\n<html><body>502 Bad Gateway</body></html>\n",
        b"Service Unavailable",
        b"order_id,amount\n7,1\n",
    ),
    *(b'{"error":{"code":401,"message":"no"}}', b'{"message":"Not found","orders":null}', b'{"data":{"orders":[]}}'),
    *(b'{"orders":[{"order_id":"7"}],"orders":{}}', b'{"orders":"[]"}', b'{"Orders":[]}'),
    *(
        b"[1,]",
        b"[NaN]",
        b"[{'order_id':'7'}]",
        b"[,]",
        b"[1 2]",
        b'["\xff"]',
        b"[/**/]",
        b"[1][2]",
        b"[]x",
        b"]",
        b"}{",
    ),
    *(b"[" * 3000, b"[" * 3000 + b"]" * 3000, b'{"a":' * 3000, b"[" + TOO_DEEP.encode() + b"]", TOO_DEEP.encode()),
    *(
        b'{"order_id":"7","metadata":' + b"[" * 600 + b"]" * 600 + b"}",
        b"[[" + b"[" * 512 + b"]" * 512 + b"]]",
        b"[\n{}\n]\nx",
    ),
    *(
        b'[{"order_id":"7","created_at":"2026-11-19"',
        b'[{"order_id":"7","created_at":"2026-11-19"},',
        b'{"order_id":"\xc3',
    ),
    *(
        b'[\n{"order_id":"7","created_at":"2026-11-19"}\n{"order_id":"8","created_at":"2026-11-19"}\n]\n',
        b'{"orders":[1,2',
    ),
    *(
        b'[\n{"order_id":"7","created_at":"2026-11-19"}\n',
        b'[\n{"order_id":"7","created_at":"2026-11-19"},\n',
        b"\xff\xfe\n{}\n",
    ),
    *(
        b'[\n{"order_id":"7"},\n{"order_id":"8","created_at":"2026-11-19"}\n]\ntrailing',
        b'\n\n[{"order_id":"\xe6\x97',
        b"[1.",
        b"[-",
    ),
)


@st.composite
def unreadable_drops(draw: DrawFn) -> bytes:
    """A drop that is damaged as a whole. Most are quarantined; a few still have a readable line."""
    kind = draw(st.sampled_from(["known", "known", "cut", "garbage", "utf-16", "bad byte"]))
    if kind == "known":
        return draw(st.sampled_from(WHOLE_DROP_DIRT))
    data = draw(readable(clean_records(), dirty=False))
    if kind == "cut":
        return data[: draw(st.integers(0, len(data)))]
    if kind == "garbage":
        return data + draw(
            st.sampled_from([b"x", b"]", b"}", b",", b"[]", b"null", b"\x00", b"<html>", b"\xff", b"\n]\n"])
        )
    if kind == "utf-16":
        text = data.decode("utf-8-sig")
        return text.encode(draw(st.sampled_from(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])))
    at = draw(st.integers(0, len(data)))
    return data[:at] + draw(st.sampled_from([b"\xff", b"\x00", b"\xc3", b"\xed\xa0\x80"])) + data[at:]


def clean_drops() -> SearchStrategy[bytes]:
    """A readable drop of clean records, in any form."""
    return readable(clean_records(), dirty=False)


@st.composite
def drops(draw: DrawFn) -> bytes:
    """Any drop. Most are readable and mostly clean, some have only odd records, about one in ten is broken."""
    kind = draw(st.sampled_from(["mixed"] * 6 + ["clean"] * 2 + ["dirty"] * 2 + ["broken"]))
    if kind == "broken":
        return draw(unreadable_drops())
    if kind == "clean":
        return draw(clean_drops())
    return draw(readable(records() if kind == "mixed" else dirty_records(), dirty=True))


@st.composite
def batches(draw: DrawFn) -> list[list[bytes]]:
    """A few batches of a few drops. Sometimes a drop is repeated, byte for byte or with a blank added."""
    seen: list[bytes] = []
    result: list[list[bytes]] = []
    for _ in range(draw(st.integers(1, 4))):
        batch: list[bytes] = []
        for _ in range(draw(st.integers(1, 4))):
            if seen and _sometimes(draw, 6):
                batch.append(draw(st.sampled_from(seen)) + draw(st.sampled_from([b"", b"\n", b" "])))
            else:
                batch.append(draw(drops()))
            seen.append(batch[-1])
        result.append(batch)
    return result
