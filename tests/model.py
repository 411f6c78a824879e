"""The reference model: a second implementation of docs/INPUT.md (the input contract, the versions, the allocation).

It owns the slow and obvious answer to "what should happen to these drops?", and keeps everything in memory. It shares no code
with the daemon, only the contract, so that the two can disagree. It opens no file, reads no clock, and does not try to be
fast: a simple loop is preferred to an index. It gets drops after decompression. Dimensions, files and crashes are out of
scope.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

DAY_US = 86_400_000_000
ENVELOPE_KEYS = ("orders", "data", "results", "records")
NO_ERROR = ("null", "false", "0", '""', "[]", "{}")
PAGING = set(
    """
    next nextpage nexturl nextlink nextcursor nexttoken nextpagetoken prev previous prevpage previouspage prevurl previousurl
    first firstpage last lastpage current currentpage total totalcount totalpages totalresults count page pages pagecount
    pagenumber pagesize perpage limit offset cursor size hasmore hasnext hasnextpage more link links meta paging pagination
    pageinfo object url self from to start skip success ok status statuscode code message msg detail error errors fault exception
    requestid traceid timestamp version apiversion took duration
    """.split()  # noqa: SIM905
)
FINE = "0|1|2[0-9][0-9]( .*)?|ok|success|successful|successfully|succeeded|complete|completed|done|true|yes"
BAD_WORDS = """
    error fail denied unauthori forbidden invalid expired limit exceed timeout time.out unavailable not.allowed not.permitted
    bad.request too.many quota throttl cannot couldn't could.not unable refused missing wrong
    """.split()  # noqa: SIM905
BAD = "false|no|-[0-9]+|[45][0-9][0-9]( .*)?|.*(" + "|".join(BAD_WORDS) + ").*"
MARKS = "\x1e\ufeff"
NO_ORDER = {"missing_order_id", "invalid_order_id", "missing_created_at", "malformed_record", "not_an_object"}
MAX_DEPTH = 512
MAX_TEXT_BYTES = 256
MAX_METADATA_BYTES = 65_535
JSON_SPACE = " \t\n\r"
TEXT_SPACE = " \t\n\r\x0b\x0c"
EPOCH = datetime(1970, 1, 1)
LAST_US = (datetime(9999, 12, 31) - EPOCH + timedelta(days=1)) // timedelta(microseconds=1) - 1
ONE_TICK = Decimal("0.0001")
WIDE = Context(prec=100)  # far more digits than any value that is still in range


ORDER_FIELDS = ("order_id", "created_at", "updated_at", "user_id", "amount", "currency", "metadata", "items")
NO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split()  # noqa: SIM905
THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND".split()  # noqa: SIM905


@dataclass(frozen=True)
class Mapping:
    """How a source spells its orders (docs/sources/README.md). Of `fields`, each is a name and its paths."""

    record: str = ""
    fields: tuple[tuple[str, tuple[str, ...]], ...] = ()
    time_zone: str = "UTC"
    minor_units: bool = False
    id_prefix: str = ""
    skip_items_with: str = ""
    columns: tuple[tuple[str, str, tuple[str, ...]], ...] = ()  # extra ones: name, type, paths

    @property
    def is_direct(self) -> bool:
        """Whether the fields of records have the format of docs/INPUT.md."""
        return replace(self, columns=()) == Mapping()


DIRECT = Mapping()


@dataclass(frozen=True)
class Item:
    """One item of an order as the API sent it."""

    sku: str | None
    qty: Decimal | None
    price: Decimal | None


@dataclass(frozen=True)
class Order:
    """One accepted record. Two orders are equal when their rows in the fact are."""

    order_id: str
    user_id: str | None
    amount: Decimal | None
    currency: str | None
    created_at: int
    updated_at: int | None
    metadata: str | None
    items: tuple[Item, ...]
    extra: tuple[tuple[str, Any], ...] = ()  # the extra columns that have a value, by name


@dataclass(frozen=True)
class Discard:
    """One record that was rejected."""

    position: int
    reason: str


@dataclass(frozen=True)
class Record:
    """One record of a drop. A line that is not JSON is a record, too."""

    position: int
    text: str
    is_json: bool
    valid: bool = True  # its bytes are UTF-8


class Unreadable(Exception):
    """The whole drop is quarantined; the text is the reason."""


class _Rejected(Exception):
    """The current record is a discard; the text is the reason."""


class _Fault(Exception):
    """The current field cannot be read."""


# --- JSON, token by token: the original text of every value is needed ---------------------------------------------

_CHARS = r'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+'
_INT = r"-?(?:0|[1-9][0-9]*+)"
_MANTISSA = rf"{_INT}(?:\.[0-9]++)?+"
_NUMBER = re.compile(rf"({_MANTISSA})(?:[eE]([+-]?)([0-9]++))?+")
_SPACE = r"[ \t\n\r]*+"
_CONSTANTS = ("NaN", "Infinity", "-Infinity")  # not JSON, but accepted: the field has a fault
_TOKEN = re.compile(rf'{_SPACE}(?P<token>[\[\]{{}}:,]|true|false|null|NaN|-?Infinity|"{_CHARS}"|{_NUMBER.pattern})')
_CUT_TOKEN = re.compile(
    rf'{_SPACE}(?P<token>"{_CHARS}(?:\\(?:u[0-9a-fA-F]{{0,3}})?)?|-|{_INT}\.|{_MANTISSA}[eE][+-]?'
    r"|t|tr|tru|f|fa|fal|fals|n|nu|nul|N|Na|-?(?:I|In|Inf|Infi|Infin|Infini|Infinit))\Z"
)
COMPLETE, UNFINISHED, WRONG = "complete", "unfinished", "wrong"


def scan(text: str) -> str:
    """Is this one JSON value (complete), the beginning of one (unfinished), or neither (wrong)?

    Uses a stack instead of recursion, so that deep nesting cannot crash it.
    """
    text = text.strip(JSON_SPACE)
    opened: list[str] = []
    wanted, at = "value", 0
    while at < len(text):
        token = _CUT_TOKEN.match(text, at) or _TOKEN.match(text, at)
        if token is None or not (wanted := _wanted_after(token["token"][0], wanted, opened)):
            return WRONG
        if token.re is _CUT_TOKEN:
            return UNFINISHED
        at = token.end()
    return COMPLETE if wanted == "nothing" else UNFINISHED


def value_end(text: str, at: int) -> int | None:
    """The end of the value that begins at `at`; None if there is no complete value."""
    opened: list[str] = []
    wanted = "value"
    while wanted != "nothing":
        token = _TOKEN.match(text, at)
        if token is None or not (wanted := _wanted_after(token["token"][0], wanted, opened)):
            return None
        at = token.end()
    return at


def _wanted_after(first: str, wanted: str, opened: list[str]) -> str:
    """What must follow a token that begins with `first`; "" if the token is not allowed here."""
    if first in ",:":
        after_comma = "key" if opened[-1:] == ["{"] else "value"
        return {",comma": after_comma, ":colon": "value"}.get(first + wanted, "")
    if wanted in ("key", "key or }") and first == '"':
        return "colon"
    if first in "]}":
        may_close = ("comma", f"key or {first}", f"value or {first}")
        if wanted not in may_close or not opened or opened.pop() + first not in ("[]", "{}"):
            return ""
    elif wanted not in ("value", "value or ]"):
        return ""
    elif first in "[{":
        opened.append(first)
        return "value or ]" if first == "[" else "key or }"
    return "comma" if opened else "nothing"


def tokens(text: str) -> list[tuple[str, int, int]]:
    """The tokens of a complete JSON value with their spans. Only white space is between them."""
    return [(match["token"], match.start("token"), match.end()) for match in _TOKEN.finditer(text)]


def parts(text: str) -> list[str]:
    """The raw texts inside a container, cut at its own commas and colons: its elements, or alternating keys and values."""
    cuts = []
    depth = 0
    for token, start, end in tokens(text):
        depth -= token in "]}"
        if (depth == 1 and token in ",:") or (depth == 0 and token in "[]{}"):
            cuts.append((start, end))
        depth += token in "[{"
    between = [text[end:start].strip(JSON_SPACE) for (_, end), (start, _) in pairwise(cuts)]
    return [] if between == [""] else between


def members(text: str) -> dict[str, str]:
    """The members of an object as key -> raw value text; of equal keys the last counts."""
    cut = parts(text)
    return dict(zip((json.loads(key) for key in cut[::2]), cut[1::2], strict=True))


def compact(text: str) -> str:
    """The value as written, minus the white space outside strings."""
    return "".join(token for token, _, _ in tokens(text))


def depth_of(text: str) -> int:
    """The maximal number of open brackets, including those of the value itself."""
    return max(accumulate((token in "[{") - (token in "]}") for token, _, _ in tokens(text)))


# --- From a drop to its records -----------------------------------------------------------------------------------


def split(data: bytes, records_path: str = "", mapping: Mapping = DIRECT) -> list[Record]:
    """Divides a drop into records. Only the content decides its form: a document, otherwise lines, otherwise unreadable."""
    # A byte order mark, or an ASCII character with a NUL before or after it; UTF-32 begins like UTF-16.
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or (len(data) > 1 and b"\0" in data[:2]):
        raise Unreadable("not UTF-8: this looks like UTF-16 or UTF-32")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip(JSON_SPACE.encode()):
        raise Unreadable("empty")
    verdict = _scan_bytes(data)
    if verdict == COMPLETE:
        found = _document_records(data.decode().strip(JSON_SPACE), records_path, mapping)
    elif _is_lines(data):
        found = _line_records(data)
    elif verdict == UNFINISHED:
        raise Unreadable("truncated: the JSON document ends too early")
    else:
        found = [Record(0, text, True) for text in _several_documents(data)]
    return _opened(found, records_path, mapping)


def _is_lines(data: bytes) -> bool:
    """Whether the first line that begins as an object or an array, marks aside, is one whole object."""
    for line in data.split(b"\n"):
        text = line.decode(errors="replace").strip(JSON_SPACE + MARKS)
        if text[:1] in ("{", "["):
            return text[0] == "{" and _is_json(line.strip(b" \t\r\x1e\xef\xbb\xbf"))
    return False


def _is_json(line: bytes) -> bool:
    """Whether a line is JSON. A line that is nested too deep is not."""
    return _scan_bytes(line) == COMPLETE and depth_of(line.decode().strip(JSON_SPACE)) <= MAX_DEPTH


def _several_documents(data: bytes) -> list[str]:
    """Consecutive objects and arrays, with only white space and marks between them. Before or after a record, a comma is
    allowed."""
    try:
        texts, rest, commas = _sequence(data.decode())
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8") from None
    if rest or not texts or any(depth_of(text) > MAX_DEPTH for text in texts):
        raise Unreadable("a damaged document, or no JSON at all")
    if commas and any(text[0] == "[" or _array_in(text, "", DIRECT) is not None for text in texts):
        raise Unreadable("a comma behind a document")
    return texts


def _sequence(text: str) -> tuple[list[str], str, bool]:
    """The objects and arrays that a text begins with, the rest, and whether a comma ended any of them."""
    texts, commas = [], False
    at = 0
    may_be_comma = True
    while True:
        while text[at : at + 1] and (text[at] in JSON_SPACE + MARKS or (may_be_comma and text[at] == ",")):
            if text[at] == ",":
                commas, may_be_comma = commas or bool(texts), False
            at += 1
        end = value_end(text, at) if text[at : at + 1] in ("[", "{") else None
        if end is None:
            return texts, text[at:], commas
        texts.append(text[at:end])
        at, may_be_comma = end, True


def _opened(records: list[Record], records_path: str, mapping: Mapping) -> list[Record]:
    """Replaces records that contain other records by those. If one is a page of orders, every other record must be an order or
    contain records."""
    found: list[tuple[str, bool]] = []
    pages = strays = 0
    for record in records:
        text, is_order = record.text, record.is_json and _is_order(record.text, mapping)
        held = None if is_order else _inside(text, record.valid, records_path, mapping)
        if held is None:
            found.append((text, record.is_json))
            strays += not is_order
        else:
            pages += held[1]
            found += [(one, _scan_bytes(one.encode()) == COMPLETE) for one in held[0]]
    if pages and (strays or not all(is_json for _, is_json in found)):
        raise Unreadable("a page among pages is damaged or none")
    return [Record(position, text, is_json) for position, (text, is_json) in enumerate(found, 1)]


def _hides_orders(text: str, is_json: bool, mapping: Mapping) -> bool:
    """Whether a record that was rejected may contain several orders, or one below its first level: as JSON, or as JSON in a
    text. Of one that is damaged, whether it begins as an array of arrays or objects, has its first id in one, or several ids."""
    if is_json:
        inner = _value_at(text, mapping.record) if mapping.record else ""
        own = inner if inner.startswith("{") else text
        values = parts(own)[1::2] if own.startswith("{") else [own]
        if any(True for value in values for _ in _orders_within(value, mapping)):
            return True
        return '\\"' in text and _has_several_ids(text.replace('\\"', '"'), mapping)
    if "\x1f\ufffd\x08" in text or "(\ufffd/\ufffd" in text or "\0" in text.strip("\0"):
        return True  # gzip, Zstandard, UTF-16
    if re.match(r"[ \t\r\x1e\ufeff,]*\[\s*(?:[\[{]|$)", text):
        return True
    first = _key_in(text, "order_id", mapping)
    before = text[: first[0].start()] if first else text
    if re.search(r"""["'](?:orders|data|results|records)["']\s*:\s*\[""", before):
        return True
    if first and mapping.is_direct and before.count("[") > before.count("]"):
        return True
    return _has_several_ids(text, mapping)


def _has_several_ids(text: str, mapping: Mapping) -> bool:
    """Whether a text that cannot be parsed has several orders: ids; under a mapping, amounts and items."""
    ids = {match[1] for match in _key_in(text, "order_id", mapping)}
    if mapping.is_direct:
        return len(ids) > 1
    amounts, items = len(_key_in(text, "amount", mapping)), len(_key_in(text, "items", mapping))
    if amounts or items or {"amount", "items"} & dict(mapping.fields).keys():
        return amounts > 1 and items > 1
    return len(ids) > 1 and len(_key_in(text, "created_at", mapping)) > 1


def _key_in(text: str, field: str, mapping: Mapping) -> list[re.Match[str]]:
    """Where a text has the key of a field with its closing quote, and what follows the colon."""
    names = {path.split(".")[-1] for path in dict(mapping.fields).get(field, (field,))} - {""}
    name = "|".join(map(re.escape, sorted(names))) or "(?!)"
    value = r"""(\\*"[^"]*|[^ \t\r\n,}\]]*)"""
    return list(re.finditer(rf"""(?<![A-Za-z0-9_])(?:{name})\\*["'][ \t\r\n]*:[ \t\r\n]*{value}""", text))


def _is_spread(records: Sequence[tuple[int, str, bool]]) -> bool:
    """Whether records that are no orders (position, text, is it JSON) are one document over several lines: one is nothing but
    brackets, or a damaged one is the beginning of an object, and the next line is no order either."""
    around = JSON_SPACE + MARKS
    for position, text, is_json in records:
        begin = text.strip(around)
        if not is_json and not begin.strip(around + "[]{},;"):
            return True
        before = [one for at, one, fine in records if at == position - 1 and not fine]
        if before and _is_beginning(before[0].strip(around + ",")):
            return True
    return False


def _is_beginning(text: str) -> bool:
    text = text.lstrip(JSON_SPACE + MARKS + ",")
    return text.startswith("{") and scan(text) == UNFINISHED


def _is_order(text: str, mapping: Mapping) -> bool:
    """Whether it is an object with a valid id and a created_at, valid or not."""
    if not text.startswith("{"):
        return False
    raw = _fields(text, mapping)
    try:
        return _order_id(_untyped(raw.get("order_id", "null")), mapping.id_prefix) is not None and not _is_nothing(
            _untyped(raw.get("created_at", "null"))
        )
    except _Fault:
        return False


def _inside(text: str, valid: bool, path: str, mapping: Mapping, levels: int = 3) -> tuple[list[str], bool] | None:
    """The records inside a record that is not an order, and whether they are a page with an order. None if there are none."""
    if (
        not valid
        or not levels
        or max(accumulate((c in "[{") - (c in "]}") for c in _marks_of(text)), default=0) > MAX_DEPTH
    ):
        return None
    if not text.strip(JSON_SPACE + MARKS + ","):
        return [], False
    texts, rest, _ = _sequence(text)
    is_page = False
    if rest and not (texts and all(one[0] == "{" for one in texts)):
        texts = []
    elif rest:
        texts = [*texts, rest.strip(JSON_SPACE + MARKS)]
    if not texts or texts == [text]:
        inner = _page(text, path, mapping)
        if inner is None:
            return None
        # One order that is wrapped is no page
        is_page = not (len(inner) == 1 and text.startswith("{") and _is_order(members(text).get("order", ""), mapping))
        texts = inner
    found: list[str] = []
    holds_orders = False
    for one in texts:
        whole = _scan_bytes(one.encode()) == COMPLETE
        if whole and _is_order(one, mapping):
            holds_orders |= is_page
            found.append(one)
        elif (deeper := _inside(one, True, path, mapping, levels - 1)) is not None:
            holds_orders |= deeper[1]
            found += deeper[0]
        else:
            found.append(one)
    return found, holds_orders


def _marks_of(text: str) -> Iterator[str]:
    """The brackets of a text, outside strings as far as these can be recognized."""
    for match in re.finditer(r'[\[\]{}]|"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', text, re.DOTALL):
        if len(match[0]) == 1:
            yield match[0]


def _page(text: str, path: str, mapping: Mapping) -> list[str] | None:
    """The elements of an array, or of an envelope without id and date. An empty envelope may only have paging fields beside."""
    if _scan_bytes(text.encode()) != COMPLETE:
        return None
    if text.startswith("["):
        return parts(text)
    raw = members(text) if text.startswith("{") else {}
    if not raw or _fields(text, mapping).keys() & {"order_id", "created_at"}:
        return None
    if _says_twice(text):
        return None
    array, order = _array_or_order(text, path, mapping)
    return [order] if order else None if array is None else parts(array)


def _array_or_order(text: str, path: str, mapping: Mapping) -> tuple[str | None, str]:
    """The array of an envelope, or the order under `order` ("": none). Neither if there are other orders, too."""
    raw = members(text)
    array = _array_in(text, path, mapping)
    if path or not _is_order(raw.get("order", ""), mapping):
        return array, ""
    rest = {key: value for key, value in raw.items() if key != "order"}
    beside = _array_in(json_object(rest), "", mapping)
    is_all = beside in (None, "[]") and not _lost([*rest.values()], f"[{raw['order']}]", mapping)
    return None, raw["order"] if is_all else ""


def json_object(raw: dict[str, str]) -> str:
    """An object with these members."""
    return "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in raw.items()) + "}"


def _says_twice(text: str) -> bool:
    """Whether an object has a key twice, with different objects or arrays."""
    cut = parts(text)
    pairs = [(json.loads(key), value) for key, value in zip(cut[::2], cut[1::2], strict=True)]
    return any(
        one == other and value != more and (value[0] in "[{" or more[0] in "[{")
        for one, value in pairs
        for other, more in pairs
    )


def _scan_bytes(data: bytes) -> str:
    """Like `scan`, for bytes. An invalid byte is wrong, but a character that is cut off at the very end is unfinished."""
    data = data.strip(JSON_SPACE.encode())
    try:
        return scan(data.decode())
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        cut_off = error.reason == "unexpected end of data" and error.end == len(data)
        # Inside a string any character may follow, outside none: U+FFFD represents the one that was cut off.
        return UNFINISHED if cut_off and scan(before + "\ufffd") == UNFINISHED else WRONG


def _document_records(text: str, records_path: str, mapping: Mapping) -> list[Record]:
    if text.startswith("["):
        elements = parts(text)
    elif not text.startswith("{"):
        raise Unreadable("one JSON value that is neither object nor array")
    elif _is_order(text, mapping):
        elements = [text]
    elif _says_twice(text):
        raise Unreadable("a key is there twice")
    elif (held := _array_or_order(text, records_path, mapping))[0] is not None:
        elements = parts(held[0])
    elif "order_id" in _fields(text, mapping):
        elements = [text]
    elif held[1]:
        elements = [held[1]]
    else:
        raise Unreadable("a JSON document that is neither orders nor an envelope (an API's error, perhaps)")
    if any(depth_of(element) > MAX_DEPTH for element in elements):
        raise Unreadable(f"nested deeper than {MAX_DEPTH} levels")
    return [Record(position, element, True) for position, element in enumerate(elements, 1)]


def _array_in(text: str, records_path: str, mapping: Mapping) -> str | None:
    """The array of an envelope, if no order that it does not have is elsewhere. It may be empty, if nothing reports an error, or
    could be an order. null or {} is an empty array if only paging fields are beside it."""
    raw = members(text)
    if records_path:
        place = _at(text, records_path)
        if _is_vacant(place):
            place = "" if _reports_error(raw) else "[]"
        return place if place.startswith("[") and not _lost(_beside(text, records_path), place, mapping) else None
    arrays = [(key, raw[key]) for key in ENVELOPE_KEYS if raw.get(key, "").startswith("[") and parts(raw[key])]
    filled = [(key, place) for key, place in arrays if any(one[0] == "{" for one in parts(place))]
    if len(filled) > 1:
        return None
    for chosen, place in [*filled, *arrays]:
        return None if _lost(_beside(text, chosen), place, mapping) else place
    held = [value for key, value in raw.items() if key in ENVELOPE_KEYS]
    others = {key: value for key, value in raw.items() if key not in ENVELOPE_KEYS}
    is_page = bool(held) and all(map(_is_vacant, held)) and not _reports_error(raw)
    if not any(value[0] == "[" for value in held):
        is_page = is_page and all(_plain(key) in PAGING for key in others)
    suspect = _lost([*others.values()], "[]", mapping) or _has_records(others, 3) or _may_be_order(others, 3)
    return "[]" if is_page and not suspect else None


def _plain(key: str) -> str:
    return re.sub("[-_]", "", key.lower())


def _beside(text: str, path: str) -> list[str]:
    """The values of an object that do not lead to this path."""
    found = []
    for key in path.split("."):
        raw = members(text) if text.startswith("{") else {}
        found += [value for other, value in raw.items() if other != key]
        text = raw.get(key, "")
    return found


def _lost(beside: Sequence[str], array: str, mapping: Mapping) -> bool:
    """Whether there is an order in some values that an array does not have."""
    found = {one for value in beside for one in _orders_within(value, mapping)}
    return bool(found) and not found <= set(_orders_within(array, mapping))


def _orders_within(text: str, mapping: Mapping) -> Iterator[str]:
    """The ids of the orders in a value, itself included, at any depth. Under a mapping, an order has an amount or items, too."""
    todo = [text]
    while todo:
        one = todo.pop()
        if one.startswith("["):
            todo += parts(one)
        elif one.startswith("{"):
            raw = members(one)
            fields = raw if mapping.is_direct else _found(one, ORDER_FIELDS, mapping)
            order_id = _identity(fields, Mapping() if mapping.is_direct else replace(mapping, id_prefix=""))
            if order_id is not None and (mapping.is_direct or fields.keys() & {"amount", "items"}):
                yield order_id
            else:
                todo += raw.values()


def _identity(fields: dict[str, str], mapping: Mapping) -> str | None:
    """The id of what is an order, valid or not."""
    try:
        order_id = _order_id(_untyped(fields.get("order_id", "null")), mapping.id_prefix)
    except _Fault:
        return None
    return None if _is_nothing(_untyped(fields.get("created_at", "null"))) else order_id


def _may_be_order(raw: dict[str, str], levels: int) -> bool:
    """Whether an object, or one in it, has an id and a date, or an order_id."""
    own = {_plain(key): value for key, value in raw.items() if _plain(key) not in PAGING}
    given = {key: value for key, value in own.items() if value not in NO_ERROR}
    has_id = any(re.fullmatch("_?id|uuid|key|number|order.*", key, re.DOTALL) for key in given)
    dates = r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{4}"
    dated = any(
        "date" in key or "created" in key or "time" in key or re.search(dates, value[:64])
        for key, value in given.items()
    )
    inner = levels > 1 and any(_may_be_order(members(value), levels - 1) for value in own.values() if value[0] == "{")
    return (has_id and dated) or "orderid" in own or inner


def _is_vacant(value: str) -> bool:
    return value == "null" or (value[:1] in ("[", "{") and not parts(value))


def _reports_error(raw: dict[str, str]) -> bool:
    """Whether there is an error, or a bad status; or one that is unknown, without a message that is fine; or a bad message."""
    is_empty = {key: value in ("null", '""') or (value[0] in "[{" and not parts(value)) for key, value in raw.items()}
    said = {_plain(key): value for key, value in raw.items() if not is_empty[key]}
    if any(said.get(key, "null") not in NO_ERROR for key in ("error", "errors", "fault", "exception")):
        return True
    statuses = [said[key] for key in ("success", "ok", "status", "statuscode", "code") if key in said]
    messages = [said[key] for key in ("message", "msg", "detail", "errormessage", "errordescription") if key in said]

    def are(values: list[str], kind: str) -> bool:
        return any(re.fullmatch(kind, value.strip('" ').lower(), re.DOTALL) for value in values)

    if are(statuses, BAD) or are(statuses + messages, FINE):
        return are(statuses, BAD)
    if statuses or not any(raw.get(key, "").startswith("[") for key in ENVELOPE_KEYS):
        return bool(statuses + messages)
    return are(messages, BAD)


def _has_records(raw: dict[str, str], levels: int) -> bool:
    """Whether an object contains, somewhere, an array with an object in it, other than of links."""
    for key, value in raw.items():
        if value[0] == "[" and _plain(key) not in PAGING and any(one[0] == "{" for one in parts(value)):
            return True
        if value[0] == "{" and levels > 1 and _has_records(members(value), levels - 1):
            return True
    return False


def _at(text: str, records_path: str) -> str:
    found = text
    for number, key in enumerate(records_path.split(".")):
        is_clear = found.startswith("{") and (not number or not _says_twice(found))
        found = members(found).get(key, "") if is_clear else ""
    return found


def _line_records(data: bytes) -> list[Record]:
    records: list[Record] = []
    for line in data.split(b"\n"):
        text = line.decode(errors="replace").strip(JSON_SPACE)
        if text:
            records.append(Record(len(records) + 1, text, _is_json(line), _is_utf8(line)))
    return records


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


# --- From a record to an order ------------------------------------------------------------------------------------


def _fields(text: str, mapping: Mapping) -> dict[str, str]:
    """The members of an object under the names of docs/INPUT.md. Under a mapping, of each field the first value that is there."""
    raw = members(text)
    if mapping.is_direct:
        return raw
    inner = _value_at(text, mapping.record) if mapping.record else ""
    return _found(inner if inner.startswith("{") else text, ORDER_FIELDS, mapping)


def _found(text: str, names: Sequence[str], mapping: Mapping) -> dict[str, str]:
    found = {}
    for name in names:
        for path in dict(mapping.fields).get(name, (name,)):
            value = _value_at(text, path)
            is_guest = name == "user_id" and value in ("0", '"0"')
            if value and not _is_nothing(value) and not is_guest and name not in found:
                found[name] = value
    return found


def _value_at(text: str, path: str) -> str:
    """The value at a path of keys and of indexes of arrays; "" where there is none."""
    for key in path.split("."):
        if text.startswith("{"):
            text = members(text).get(key, "")
        elif text.startswith("[") and re.fullmatch("[0-9]+", key) and int(key) < len(parts(text)):
            text = parts(text)[int(key)]
        else:
            return ""
    return text


def read_drop(
    data: bytes, *, received_at_us: int, tolerance_us: int = DAY_US, records_path: str = "", mapping: Mapping = DIRECT
) -> tuple[list[tuple[int, Order]], list[Discard], Counter[str]]:
    """Parses a drop: the orders with their positions, the discards, and the faults of the kept records."""
    parsed = list(_parsed(data, received_at_us, tolerance_us, records_path, mapping))
    orders = [(position, result) for position, result, _ in parsed if isinstance(result, Order)]
    discards = [Discard(position, result) for position, result, _ in parsed if isinstance(result, str)]
    return orders, discards, sum((faults for _, _, faults in parsed), Counter())


def _parsed(
    data: bytes, received_at_us: int, tolerance_us: int, records_path: str, mapping: Mapping = DIRECT
) -> Iterator[tuple[int, Order | str, Counter[str]]]:
    """Each record as (position, order or reason of the discard, field faults). A discard has no faults. Raises Unreadable if no
    record is an order, or more orders than discards would be lost."""
    records = split(data, records_path, mapping)
    parsed = list(_parsed_records(records, received_at_us, tolerance_us, mapping))
    if parsed and all(result in {*NO_ORDER, "invalid_created_at"} for _, result, _ in parsed):
        raise Unreadable("none of its records is an order")
    others = [record for record, (_, result, _) in zip(records, parsed, strict=True) if result in NO_ORDER]
    rejected = [record for record, (_, result, _) in zip(records, parsed, strict=True) if isinstance(result, str)]
    if any(_hides_orders(record.text, record.is_json, mapping) for record in rejected):
        raise Unreadable("a record that is no order may contain several")
    last = records[-1] if records and not data.endswith(b"\n") else None
    if last in others and not last.is_json and _is_beginning(last.text):
        raise Unreadable("truncated: the last line is not complete")
    if _is_spread([(record.position, record.text, record.is_json) for record in others]):
        raise Unreadable("a document is written over several lines")
    if _is_without_worth(
        [(record.text, result, faults) for record, (_, result, faults) in zip(records, parsed, strict=True)], mapping
    ):
        raise Unreadable("no order has an amount")
    yield from parsed


def _is_without_worth(records: Sequence[tuple[str, Order | str, Counter[str]]], mapping: Mapping) -> bool:
    """Whether no order has an amount, although the mapping names fields. Then none has the price of an item either; or nothing,
    not even null, is where the mapping says that the amount is, in the first 20."""
    paths = dict(mapping.fields)
    reads_price = paths.get("items", ("items",)) and paths.get("price", ("price",))
    if not paths or not (paths.get("amount", ("amount",)) or reads_price):
        return False
    orders = [(text, order, faults) for text, order, faults in records if isinstance(order, Order)]
    if not orders or any(order.amount is not None or faults["amount"] for _, order, faults in orders):
        return False
    item_faults = any(faults["items"] or faults["item"] or faults["price"] for _, _, faults in orders)
    if not item_faults and not any(item.price is not None for _, order, _ in orders for item in order.items):
        return True
    named = paths.get("amount", ())
    return bool(named) and not any(_leads_to(text, path, mapping) for text, _, _ in orders[:20] for path in named)


def _leads_to(text: str, path: str, mapping: Mapping) -> bool:
    """Whether there is anything at a path of an order, or it cannot be known: a value on the way is empty, or no container."""
    inner = _value_at(text, mapping.record) if mapping.record else ""
    value = inner if inner.startswith("{") else text
    for key in path.split("."):
        if value[0] == "{":
            if key not in members(value):
                return False
            value = members(value)[key]
        elif value[0] == "[" and parts(value):
            if not re.fullmatch("[0-9]+", key) or int(key) >= len(parts(value)):
                return False
            value = parts(value)[int(key)]
        else:
            return True
    return True


def _parsed_records(
    records: Sequence[Record], received_at_us: int, tolerance_us: int, mapping: Mapping
) -> Iterator[tuple[int, Order | str, Counter[str]]]:
    for record in records:
        faults: Counter[str] = Counter()
        try:
            order = _read_record(record, received_at_us + tolerance_us, faults, mapping)
        except _Rejected as rejected:
            yield record.position, str(rejected), Counter()
        else:
            yield record.position, order, faults


def _read_record(record: Record, latest_us: int, faults: Counter[str], mapping: Mapping) -> Order:
    """Reads order_id first, then created_at. No other field can make the record a discard."""
    if not record.is_json:
        raise _Rejected("malformed_record")
    if not record.text.startswith("{"):
        raise _Rejected("not_an_object")
    raw = _fields(record.text, mapping)
    zone, prefix = mapping.time_zone, mapping.id_prefix
    order_id = _required("order_id", lambda value: _order_id(value, prefix), raw)
    created_at = _required("created_at", lambda value: _instant(value, zone), raw)
    if created_at > min(latest_us, LAST_US):
        raise _Rejected("future_created_at")
    currency = _optional("currency", _text, raw, faults)
    if (
        not mapping.is_direct
        and raw.get("currency", "").startswith('"')
        and re.fullmatch("[A-Za-z]{3}", currency or "")
    ):
        currency = str(currency).upper()
    decimals = (0 if currency in NO_DECIMALS else 3 if currency in THREE_DECIMALS else 2) if mapping.minor_units else 0
    return Order(
        order_id=order_id,
        user_id=_optional("user_id", lambda value: _text(value, prefix), raw, faults),
        amount=_optional("amount", lambda value: _decimal(value, decimals), raw, faults),
        currency=currency,
        created_at=created_at,
        updated_at=_optional("updated_at", lambda value: _instant_until(value, latest_us, zone), raw, faults),
        metadata=_optional("metadata", _metadata, raw, faults),
        items=_items(raw, faults, decimals, mapping),
        extra=tuple(_extra(record.text, faults, mapping)),
    )


def _extra(text: str, faults: Counter[str], mapping: Mapping) -> Iterator[tuple[str, Any]]:
    """The extra columns that have a value. Neither a prefix nor minor units apply to them."""
    inner = _value_at(text, mapping.record) if mapping.record else ""
    order = inner if inner.startswith("{") else text
    reads = {"text": _text, "decimal": _decimal, "boolean": _boolean}
    reads["instant"] = lambda value: _instant_until(value, LAST_US, mapping.time_zone)
    for name, kind, paths in mapping.columns:
        there = [value for path in paths if (value := _value_at(order, path)) and not _is_nothing(value)]
        value = _optional(name, reads[kind], {name: there[0]} if there else {}, faults)
        if value is not None:
            yield name, value


def _boolean(value: str) -> bool | None:
    if _is_nothing(value):
        return None
    word = json.loads(value).strip(TEXT_SPACE).lower() if value.startswith('"') else value
    if word not in ("true", "false"):
        raise _Fault
    return bool(word == "true")


def _required(name: str, read: Any, raw: dict[str, str]) -> Any:
    try:
        value = read(_untyped(raw.get(name, "null")))
    except _Fault:
        raise _Rejected(f"invalid_{name}") from None
    if value is None:
        raise _Rejected(f"missing_{name}")
    return value


def _optional(name: str, read: Any, raw: dict[str, str], faults: Counter[str]) -> Any:
    """A field that cannot be read is NULL and counted."""
    try:
        return read(raw.get(name, "null") if name == "metadata" else _untyped(raw.get(name, "null")))
    except _Fault:
        faults[name] += 1
        return None


TYPES = {"$oid", "$date", "$numberInt", "$numberLong", "$numberDouble", "$numberDecimal"}


def _untyped(value: str) -> str:
    """The value without the type wrappers of MongoDB's extended JSON."""
    while value.startswith("{") and len(raw := members(value)) == 1 and (kind := next(iter(raw))) in TYPES:
        value = raw[kind]
        if kind.startswith("$number") and value.startswith('"') and _NUMBER.fullmatch(str(json.loads(value))):
            value = str(json.loads(value))
    return value


def _order_id(value: str, prefix: str = "") -> str | None:
    """An id. One in a spreadsheet's scientific notation is a fault."""
    text = _text(value)
    if text is not None and re.fullmatch(r"-?[0-9]([.,][0-9]+)?[eE]\+[0-9][0-9]", text):
        raise _Fault
    return _text(value, prefix)


def _is_nothing(value: str) -> bool:
    """Whether a value is null or blank text. An absent field is read as null."""
    return value == "null" or (value.startswith('"') and not json.loads(value).strip(TEXT_SPACE))


def _text(value: str, prefix: str = "") -> str | None:
    if _is_nothing(value):
        return None
    if value.startswith('"'):
        text = str(json.loads(value)).strip(TEXT_SPACE)
    elif whole := re.fullmatch(rf"({_INT})(\.0+)?", value):
        text = "0" if whole[1] == "-0" else whole[1]
        if whole[2] and abs(int(text)) >= 2**53:  # a float has lost its last digits
            raise _Fault
    else:
        raise _Fault
    try:
        size = len(text.encode() + prefix.encode())
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8
        raise _Fault from None
    if size > MAX_TEXT_BYTES:
        raise _Fault
    return prefix + text


def _exact(value: str) -> Decimal:
    """The exact value of a JSON number token.

    An exponent of more than nine digits becomes 999,999,999: Decimal refuses larger ones, and no drop is long enough for digits
    that bring such a number back into range.
    """
    match = _NUMBER.fullmatch(value)
    if match is None:
        raise _Fault
    mantissa, sign, exponent = match.groups()
    digits = (exponent or "0").lstrip("0") or "0"
    return Decimal(f"{mantissa}e{sign or ''}{digits if len(digits) <= 9 else '9' * 9}")


def _decimal(value: str, decimals: int = 0) -> Decimal | None:
    """DECIMAL(18,4), rounded half away from zero. `decimals`: of the currency, if the number is in its smallest unit."""
    if _is_nothing(value):
        return None
    exact = _exact(str(json.loads(value)).strip(TEXT_SPACE) if value.startswith('"') else value)
    if exact and exact.adjusted() > 20:
        raise _Fault  # rounding such a number would need too much memory
    if decimals:
        exact = exact.scaleb(-decimals, Context(prec=len(exact.as_tuple().digits)))
    rounded = exact.quantize(ONE_TICK, ROUND_HALF_UP, WIDE)
    if abs(rounded) >= 10**14:
        raise _Fault
    return rounded or Decimal("0.0000")  # never -0


def _instant(value: str, zone: str = "UTC") -> int | None:
    """Microseconds since 1970 in UTC. A value before 1970 or without a valid instant is a fault; one far in the future is not.
    `zone`: of texts that name none."""
    if _is_nothing(value):
        return None
    if value.startswith('"'):
        instant = _instant_of_text(str(json.loads(value)).strip(TEXT_SPACE), zone)
    else:
        instant = _instant_of_number(_exact(value))
    if instant < 0:
        raise _Fault
    return instant


def _instant_of_text(text: str, source_zone: str = "UTC") -> int:
    if re.fullmatch("[0-9]{10}|[0-9]{13}", text):  # epoch seconds or milliseconds in quotes
        return int(text) * (10**6 if len(text) == 10 else 1000)
    if asp := re.fullmatch(r"/Date\((-?[0-9]{1,15})([+-][0-9]{4})?\)/", text):
        return _instant_of_number(Decimal(asp[1]))
    day, rest = _day_of(text)
    clock, zone = re.fullmatch(r"([0-9:.,]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    if zone and not clock:
        raise _Fault
    offset = _offset_of(zone)
    match = re.fullmatch(r"([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?)?", clock or "00")
    if match is None:
        raise _Fault
    hour, minute, second = (int(part or 0) for part in match.groups()[:3])
    micros = int((match[4] or "")[:6].ljust(6, "0"))
    is_end_of_day = (hour, minute, second) == (24, 0, 0) and not (match[4] or "").strip("0")
    if not is_end_of_day and (hour > 23 or minute > 59 or second > 60):
        raise _Fault
    try:
        days = (datetime(*day) - EPOCH).days
        if is_end_of_day or (hour, minute, second) == (23, 59, 60):
            datetime(*day) + timedelta(days=1)  # the calendar goes on
    except (ValueError, OverflowError):  # no such day
        raise _Fault from None
    seconds = (days * 1440 + hour * 60 + minute - offset) * 60 + second
    if not zone and source_zone != "UTC":
        seconds = _seconds_of_local(seconds, ZoneInfo(source_zone))
    return seconds * 1_000_000 + micros


def _seconds_of_local(local: int, zone: ZoneInfo) -> int:
    """Seconds since 1970 of a local time: the first of two; of a time that is skipped, the later one, by the offset before."""

    def shown(instant: int) -> int:
        there = (EPOCH + timedelta(seconds=instant)).replace(tzinfo=UTC).astimezone(zone)
        return (there.replace(tzinfo=None) - EPOCH) // timedelta(seconds=1)

    if not 0 <= local < 10**11:
        return local
    around = [local - 86_400, local + 86_400]
    candidates = sorted(local - (shown(one) - one) for one in around)
    right = [one for one in candidates if shown(one) == local]
    return right[0] if right else local - (shown(around[0]) - around[0])


def _day_of(text: str) -> tuple[tuple[int, int, int], str]:
    """The day that an instant begins with, and the time and zone that follow, with colons."""
    if match := re.fullmatch(r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[Tt ]([0-9].*))?", text, re.DOTALL):
        return (int(match[1]), int(match[2]), int(match[3])), match[4] or ""
    if match := re.fullmatch(
        r"([0-9]{4})([0-9]{2})([0-9]{2})[Tt]([0-9]{2})([0-9]{2})([0-9]{2})((?:[.,][0-9]+)?)([^ \[]*)", text
    ):
        return (int(match[1]), int(match[2]), int(match[3])), f"{match[4]}:{match[5]}:{match[6]}{match[7]}{match[8]}"
    names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    week = "(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), )?"
    mail = week + r"([0-9]{1,2}) ([A-Z][a-z][a-z]) ([0-9]{4}) ([0-9]{2}:[0-9]{2}(?::[0-9]{2})?) ([^ \[]+)"
    if (match := re.fullmatch(mail, text)) and match[2] in names:
        return (int(match[3]), names.index(match[2]) + 1, int(match[1])), f"{match[4]} {match[5]}"
    raise _Fault


def _offset_of(zone: str) -> int:
    """Minutes east of UTC."""
    zone = zone.removeprefix(" ")
    if match := re.fullmatch(r"(.+)\[[A-Za-z0-9_+/-]+\]", zone, re.DOTALL):
        zone = match[1]
    if zone in ("", "Z", "z", "UTC", "GMT"):
        return 0
    match = re.fullmatch(r"([+-])([01][0-9]|2[0-3])(?::?([0-5][0-9]))?", zone)
    if match is None:
        raise _Fault
    minutes = int(match[2]) * 60 + int(match[3] or 0)
    return -minutes if match[1] == "-" else minutes


def _instant_of_number(number: Decimal) -> int:
    """Epoch seconds below 1e11, milliseconds from there on. A number below 1e8 is not an instant."""
    if number < 10**8:
        return -1
    if number and number.adjusted() > 20:
        return LAST_US + 1
    per_unit, last_digit = (10**6, "1e-6") if number < 10**11 else (10**3, "1e-3")
    return int(Fraction(number.quantize(Decimal(last_digit), ROUND_DOWN, WIDE)) * per_unit)


def _instant_until(value: str, latest_us: int, zone: str = "UTC") -> int | None:
    instant = _instant(value, zone)
    if instant is not None and instant > min(latest_us, LAST_US):
        raise _Fault
    return instant


def _metadata(value: str) -> str | None:
    if _is_nothing(value):
        return None
    text = compact(value)
    if len(text.encode()) > MAX_METADATA_BYTES or any(token in _CONSTANTS for token, _, _ in tokens(value)):
        raise _Fault
    return text


def _items(raw: dict[str, str], faults: Counter[str], decimals: int, mapping: Mapping) -> tuple[Item, ...]:
    value = _untyped(raw.get("items", "null"))
    if _is_nothing(value):
        return ()
    if not value.startswith("["):
        faults["items"] += 1
        return ()
    return tuple(
        _item(element, faults, decimals, mapping) for element in parts(value) if not _is_left_out(element, mapping)
    )


def _is_left_out(element: str, mapping: Mapping) -> bool:
    if not mapping.skip_items_with or not element.startswith("{"):
        return False
    mark = _value_at(element, mapping.skip_items_with)
    return mark != "" and not _is_nothing(mark) and mark != "0" and not (mark[0] == '"' and json.loads(mark) == "0")


def _item(value: str, faults: Counter[str], decimals: int, mapping: Mapping) -> Item:
    if not value.startswith("{"):
        faults["item"] += 1
        return Item(None, None, None)
    raw = members(value) if mapping.is_direct else _found(value, ("sku", "qty", "price"), mapping)
    return Item(
        sku=_optional("sku", _text, raw, faults),
        qty=_optional("qty", _decimal, raw, faults),
        price=_optional("price", lambda price: _decimal(price, decimals), raw, faults),
    )


# --- Allocation ---------------------------------------------------------------------------------------------------


def allocate(amount: Decimal | None, items: Sequence[Item]) -> list[Decimal | None]:
    """The amount of each fact row of an order. An order without items is one row with the whole amount."""
    if amount is None or not items:
        return [amount] * max(1, len(items))
    weights = [_weight(item) for item in items]
    if not any(weights):
        weights = [Fraction(1)] * len(items)
    # Cumulative shares after k lines, rounded. Each line gets the difference, so that the lines add up to the amount.
    steps = [_ticks(Fraction(amount) * sum(weights[:k]) / sum(weights)) for k in range(len(items) + 1)]
    return [Decimal(after - before).scaleb(-4, WIDE) for before, after in pairwise(steps)]


def _weight(item: Item) -> Fraction:
    return Fraction(0) if item.qty is None or item.price is None else abs(Fraction(item.qty) * Fraction(item.price))


def _ticks(value: Fraction) -> int:
    """Ten-thousandths, rounded half away from zero."""
    away = int(abs(value) * 10_000 + Fraction(1, 2))
    return -away if value < 0 else away


# --- Versions and batches -----------------------------------------------------------------------------------------


class Version(NamedTuple):
    """The sort key of the records of one order; the largest wins."""

    instant_us: int
    seq: int
    position: int


class Restatement(NamedTuple):
    """A change to a date that was published before, including its return after it lost its last order. As with SQL's SUM, a total
    without any amount is None."""

    date: str
    orders_before: int
    orders_after: int
    amount_before: Decimal | None
    amount_after: Decimal | None


@dataclass(frozen=True)
class Drop:
    """One file that arrived. Its name does not affect the outcome."""

    name: str
    data: bytes
    received_at_us: int


@dataclass
class DropOutcome:
    """What became of one drop, in counts."""

    seq: int
    outcome: str
    reason: str | None = None
    extracted: int = 0
    discarded: Counter[str] = field(default_factory=Counter)
    before_since: int = 0
    superseded: int = 0
    unchanged: int = 0
    new: int = 0
    corrected: int = 0
    late: int = 0
    field_faults: Counter[str] = field(default_factory=Counter)

    def check(self) -> None:
        """Conservation: every record extracted ends as exactly one thing."""
        kept = self.superseded + self.unchanged + self.new + self.corrected
        assert self.extracted == self.discarded.total() + self.before_since + kept, self
        assert self.late <= kept, self
        assert self.outcome == "applied" or not (self.extracted or self.field_faults), self
        assert (self.reason is not None) == (self.outcome == "quarantined"), self


@dataclass(frozen=True)
class _Settings:
    """The settings that a drop was read under, and whether some of its orders were discarded as future."""

    tolerance_us: int
    records_path: str
    since_us: int | None
    received_at_us: int
    mapping: Mapping = DIRECT
    refused_future: bool = False

    def says_no_more_than(self, earlier: _Settings) -> bool:
        """Whether reading the same bytes under these settings gives nothing beyond the `earlier` reading."""
        if (self.tolerance_us, self.records_path) != (earlier.tolerance_us, earlier.records_path):
            return False
        if self.mapping != earlier.mapping:
            return False
        if earlier.refused_future and self.received_at_us > earlier.received_at_us:
            return False
        return earlier.since_us is None or (self.since_us is not None and self.since_us >= earlier.since_us)


class _Candidate(NamedTuple):
    version: Version
    order: Order
    outcome: DropOutcome


class Model:
    """A complete Strandline in memory: what is published, the high-water mark, and the restatements."""

    def __init__(self, *, tolerance_us: int = DAY_US, records_path: str = "") -> None:
        self.hwm_us: int | None = None
        self.restatements: list[Restatement] = []
        self._ever: set[str] = set()  # all dates that have been published
        self.affected: list[str] = []  # the dates whose rows the last batch changed
        self._tolerance_us = tolerance_us
        self._records_path = records_path
        self._seq = 0
        self._mapping = DIRECT
        self._history: list[tuple[int, Drop, _Settings]] = []  # the applied drops, with their numbers
        self._withdrawn: list[tuple[int, Drop, _Settings]] = []
        self._columns: set[str] = set()  # of all drops since the start, or the last rebuild
        self._columns_of: dict[str, set[str]] = {}  # of the file of each date
        self._published: dict[str, tuple[Version, Order]] = {}

    def apply(
        self,
        batch: Sequence[Drop],
        since_us: int | None = None,
        *,
        tolerance_us: int | None = None,
        records_path: str | None = None,
        again: Sequence[bytes] = (),
        mapping: Mapping = DIRECT,
    ) -> list[DropOutcome]:
        """Applies one batch: reads every drop, lets the latest version of each order win, and counts the outcomes. `again`:
        contents to read again although they were applied before."""
        self._mapping = mapping
        self._columns |= {name for name, *_ in mapping.columns} if batch else set()
        self._tolerance_us = self._tolerance_us if tolerance_us is None else tolerance_us
        self._records_path = self._records_path if records_path is None else records_path
        self._again = {hashlib.sha256(data).hexdigest() for data in again}
        self._of_batch: set[str] = set()
        candidates: list[_Candidate] = []
        outcomes = [self._read(drop, since_us, candidates) for drop in batch]
        before = self._orders_by_date()
        self._count_late(candidates)
        for candidate in _winners(candidates):
            self._publish(candidate)
        self._restate(before)
        self._columns_of |= {date: set(self._columns) for date in self.affected}
        instants = [candidate.order.created_at for candidate in candidates]
        self.hwm_us = max(instants if self.hwm_us is None else [*instants, self.hwm_us], default=None)
        for outcome in outcomes:
            outcome.check()
        return outcomes

    def _read(self, drop: Drop, since_us: int | None, candidates: list[_Candidate]) -> DropOutcome:
        self._seq += 1
        digest = hashlib.sha256(drop.data).hexdigest()
        settings = _Settings(self._tolerance_us, self._records_path, since_us, drop.received_at_us, self._mapping)
        applied = [one for _, other, one in self._history if other.data == drop.data]
        known = [] if digest in self._again else applied
        if digest in self._of_batch or any(settings.says_no_more_than(earlier) for earlier in known):
            return DropOutcome(self._seq, "duplicate")
        outcome = DropOutcome(self._seq, "applied")
        try:
            parsed = list(
                _parsed(drop.data, drop.received_at_us, self._tolerance_us, self._records_path, self._mapping)
            )
        except Unreadable as unreadable:
            return DropOutcome(self._seq, "quarantined", str(unreadable))
        self._of_batch.add(digest)
        refused = any(result == "future_created_at" for _, result, _ in parsed)
        self._history.append((self._seq, drop, replace(settings, refused_future=refused)))
        outcome.extracted = len(parsed)
        for position, result, faults in parsed:
            if isinstance(result, str):
                outcome.discarded[result] += 1
            elif since_us is not None and result.created_at < since_us:
                outcome.before_since += 1
            else:
                outcome.field_faults += faults
                candidates.append(_Candidate(_version(result, outcome.seq, position), result, outcome))
        return outcome

    def rebuild(self, columns: tuple[tuple[str, str, tuple[str, ...]], ...]) -> None:
        """Reads all applied drops again, each as it was read, but with these extra columns. All files get them."""
        for number, (seq, drop, one) in enumerate(self._history):
            mapping = replace(one.mapping, columns=columns)
            self._history[number] = (seq, drop, replace(one, mapping=mapping))
        self._publish_history()
        self._columns = {name for name, *_ in columns} if self._seq else set()
        self._columns_of = {date: set(self._columns) for date in self.dates()}

    def undo(self, seq: int) -> None:
        """Takes an applied drop back, as if it had never come."""
        self._withdrawn += [one for one in self._history if one[0] == seq]
        self._history = [one for one in self._history if one[0] != seq]
        self._change_history()

    def revert(self, seq: int) -> None:
        """Applies a drop that was taken back again, as if it had stayed."""
        back = [one for one in self._withdrawn if one[0] == seq]
        self._history = sorted([*self._history, *back], key=lambda one: one[0])
        self._withdrawn = [one for one in self._withdrawn if one[0] != seq]
        self._change_history()

    def applied(self) -> list[int]:
        """The numbers of the applied drops."""
        return [seq for seq, _, _ in self._history]

    def withdrawn(self) -> list[int]:
        """The numbers of the drops that were taken back."""
        return [seq for seq, _, _ in self._withdrawn]

    def _change_history(self) -> None:
        before = self._orders_by_date()
        self.hwm_us = self._publish_history()
        self._restate(before)
        self._columns_of |= {date: set(self._columns) for date in self.affected}

    def _publish_history(self) -> int | None:
        """Publishes what all applied drops together come to; returns the high-water mark."""
        self._published = {}
        hwm = None
        for seq, drop, one in self._history:
            for position, order, _ in _parsed(
                drop.data, drop.received_at_us, one.tolerance_us, one.records_path, one.mapping
            ):
                if isinstance(order, str) or (one.since_us is not None and order.created_at < one.since_us):
                    continue
                known = self._published.get(order.order_id)
                version = _version(order, seq, position)
                if known is None or known[0] < version:
                    self._published[order.order_id] = (version, order)
                hwm = order.created_at if hwm is None else max(hwm, order.created_at)
        return hwm

    def _count_late(self, candidates: list[_Candidate]) -> None:
        for candidate in candidates:
            if self.hwm_us is not None and candidate.order.created_at < self.hwm_us:
                candidate.outcome.late += 1

    def _publish(self, winner: _Candidate) -> None:
        """Compares the winner of its batch with what is published."""
        version, order, outcome = winner
        published = self._published.get(order.order_id)
        if published and version < published[0]:
            outcome.superseded += 1
            return
        if published is None:
            outcome.new += 1
        elif published[1] == order:
            outcome.unchanged += 1
        else:
            outcome.corrected += 1
        self._published[order.order_id] = (version, order)

    def _restate(self, before: dict[str, list[Order]]) -> None:
        after = self._orders_by_date()
        self.affected = [d for d in sorted({*before, *after}) if before.get(d) != after.get(d)]
        for date in self.affected:
            if date in self._ever:
                old, new = before.get(date, []), after.get(date, [])
                self.restatements.append(Restatement(date, len(old), len(new), _total(old), _total(new)))
        self._ever |= {*after}

    def _orders_by_date(self) -> dict[str, list[Order]]:
        """The published orders by date, each list in the order of its rows."""
        by_date: dict[str, list[Order]] = {}
        for _, order in self._published.values():
            by_date.setdefault(_date(order), []).append(order)
        return {date: sorted(by_date[date], key=_row_order) for date in by_date}

    def dates(self) -> list[str]:
        """The dates that have rows."""
        return sorted(self._orders_by_date())

    def fact_rows(self, date: str) -> list[dict[str, Any]]:
        """The rows of fact_order for one date, sorted as they are published, with the extra columns of its file."""
        empty = dict.fromkeys(self.columns(date))
        return [
            row | empty | dict(order.extra)
            for order in self._orders_by_date().get(date, [])
            for row in _fact_rows(order)
        ]

    def columns(self, date: str) -> list[str]:
        """The extra columns that the file of a date has."""
        return sorted(self._columns_of.get(date, ()))

    def item_rows(self, date: str) -> list[dict[str, Any]]:
        """The rows of order_items for one date: the lines of the fact, except those of orders without items."""
        names = ("order_id", "line_number", "sku", "qty", "price", "date")
        return [{name: row[name] for name in names} for row in self.fact_rows(date) if row["line_number"]]

    def latest(self) -> dict[str, Version]:
        """The winning version of each order."""
        return {order_id: version for order_id, (version, _) in self._published.items()}

    def index(self) -> dict[str, tuple[str, Version]]:
        """The date and the winning version of each order."""
        return {order_id: (_date(order), version) for order_id, (version, order) in self._published.items()}


def _version(order: Order, seq: int, position: int) -> Version:
    return Version(order.created_at if order.updated_at is None else order.updated_at, seq, position)


def _winners(candidates: list[_Candidate]) -> list[_Candidate]:
    """The latest version of each order in a batch. Counts the others as superseded."""
    latest: dict[str, _Candidate] = {}
    for candidate in sorted(candidates, key=lambda c: c.version):
        beaten = latest.get(candidate.order.order_id)
        if beaten:
            beaten.outcome.superseded += 1
        latest[candidate.order.order_id] = candidate
    return list(latest.values())


def _date(order: Order) -> str:
    return (EPOCH + timedelta(microseconds=order.created_at)).date().isoformat()


def _row_order(order: Order) -> tuple[int, bytes]:
    return order.created_at, order.order_id.encode()


def _total(orders: list[Order]) -> Decimal | None:
    amounts = [order.amount for order in orders if order.amount is not None]
    return sum(amounts, Decimal("0.0000")) if amounts else None


def _fact_rows(order: Order) -> list[dict[str, Any]]:
    lines = list(enumerate(order.items, 1)) or [(0, Item(None, None, None))]
    head = {"order_id": order.order_id, "user_id": order.user_id}
    when = {"created_at": order.created_at, "date": _date(order)}
    tail = {"currency": order.currency, "updated_at": order.updated_at, "metadata": order.metadata}
    return [
        {**head, "sku": item.sku, "amount": share, "qty": item.qty, "price": item.price}
        | {**when, "line_number": line_number, **tail}
        for (line_number, item), share in zip(lines, allocate(order.amount, order.items), strict=True)
    ]
