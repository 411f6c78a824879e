"""The records of an object that is not an order: those of an envelope, or why there are none. Pure, on texts.

An envelope has its records in an array under one of ENVELOPE_KEYS, or at `records_path`. It is an empty page if the array is
empty, or `null` or `{}` stands in its place, and nothing else in it can hold an order or reports an error. An object may also
hold one order, under ORDER_KEY.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from ..model import Ints
from ..native import bindings
from . import reference
from .damage import named

ENVELOPE_KEYS = ("orders", "data", "results", "records")
ORDER_KEY = "order"
_PAGING = frozenset(
    """
    next nextpage nexturl nextlink nextcursor nexttoken nextpagetoken prev previous prevpage previouspage prevurl previousurl
    first firstpage last lastpage current currentpage total totalcount totalpages totalresults count page pages pagecount
    pagenumber pagesize perpage limit offset cursor size hasmore hasnext hasnextpage more link links meta paging pagination
    pageinfo object url self from to start skip
    success ok status statuscode code message msg detail error errors fault exception
    requestid traceid timestamp version apiversion took duration
    """.split()  # noqa: SIM905
)
_ERROR_KEYS = ("error", "errors", "fault", "exception")
_MESSAGE_KEYS = ("message", "msg", "detail")
_STATUS_KEYS = ("success", "ok", "status", "statuscode", "code")
_NO_ERROR = (b"null", b"false", b"0", b'""', b"[]", b"{}")
_FINE = frozenset("ok success succeeded successful completed complete done true yes".split())  # noqa: SIM905
_BEGINS_WITH_OBJECT = re.compile(rb"\[[ \t\n\r]*\{")
_EMPTY = re.compile(rb"\[[ \t\n\r]*\]")
_SEARCHED_LEVELS = 3
PRESET_KEYS = {  # keys that the records of a shop have, and those of no other
    "shopify": {"line_items", "total_price"},
    "woocommerce": {"line_items", "date_created_gmt"},
    "magento": {"increment_id", "grand_total"},
    "square": {"line_items", "total_money"},
    "stripe": {"amount_total", "payment_status"},
}
_SHOWN_ARRAYS = 3

Members = Mapping[str, bytes]


def members_of(text: bytes) -> dict[str, bytes]:
    """The members of an object as texts; of a repeated key the last counts. NotJson where the text is not an object."""
    return dict(pairs_of(text))


def pairs_of(text: bytes) -> list[tuple[str, bytes]]:
    """The keys of an object and their values as texts, in order. NotJson where the text is not an object."""
    spans = bindings.parts(text)
    if spans is None:
        document = reference.whole(text.decode())
        return [(key, raw.encode()) for key, raw in reference.pairs(document)]
    found = [text[start:stop] for start, stop in zip(*map(Ints.tolist, spans), strict=True)]
    return [(json.loads(key), raw) for key, raw in zip(found[::2], found[1::2], strict=True)]


def repeated(pairs: Iterable[tuple[str, bytes]]) -> str | None:
    """A key that an object has twice, with two values that may hold orders; of these, only the last would be read."""
    seen: dict[str, bytes] = {}
    for key, text in pairs:
        if text.startswith((b"[", b"{")) and seen.setdefault(key, text) != text:
            return key
    return None


def elements_of(array: bytes) -> list[bytes]:
    """The elements of an array as texts."""
    spans = bindings.parts(array)
    if spans is None:
        return [one.encode() for one in reference.elements(reference.whole(array.decode()))]
    return [array[start:stop] for start, stop in zip(*map(Ints.tolist, spans), strict=True)]


def array_of(members: Members, records_path: str = "") -> bytes | None:
    """The array of the records of an envelope, as text; None where there is none, or it may not be the only one."""
    if records_path:
        text = _at(members, records_path)
        if text.startswith(b"[") and not _is_empty(text):
            return text
        return b"[]" if _is_nothing(text) and not reports_error(members) else None
    arrays = {key: members[key] for key in ENVELOPE_KEYS if members.get(key, b"").startswith(b"[")}
    filled = [key for key, text in arrays.items() if not _is_empty(text) and _has_object(text)]
    if len(filled) > 1:
        return None
    chosen = filled or [key for key, text in arrays.items() if not _is_empty(text)]
    if chosen:
        beside = {key: text for key, text in members.items() if key != chosen[0]}
        return None if place_of_order(beside.items()) is not None else arrays[chosen[0]]
    has_place = any(_is_nothing(members.get(key, b"")) for key in ENVELOPE_KEYS)
    return b"[]" if has_place and _is_empty_page(members) else None


def _is_empty_page(members: Members) -> bool:
    """Whether an object without records is a page all the same: its other keys are about paging, and it reports no error. Under
    any other key there may be an order in a form that is not known."""
    paging = all(_plain(key) in _PAGING for key in members if key not in ENVELOPE_KEYS)
    held = (text for key, text in members.items() if key in ENVELOPE_KEYS)
    nothing = all(map(_is_nothing, held))
    return paging and nothing and not reports_error(members) and not _has_objects(members, _SEARCHED_LEVELS)


def _plain(key: str) -> str:
    return key.lower().replace("_", "").replace("-", "")


def without_array(members: Members, records_path: str) -> str:
    """Why an object that is neither an order nor an envelope cannot be read."""
    here = [] if records_path else [key for key in ENVELOPE_KEYS if members.get(key, b"").startswith(b"[")]
    filled = [key for key in here if _has_object(members[key])]
    if len(filled) > 1:
        return (
            f"the file has records under {' and '.join(filled)}, and it is unknown which are the orders; "
            f'set [input] records_path = "{filled[0]}", or the other'
        )
    data = {key: text for key, text in members.items() if _plain(key) not in _ERROR_KEYS}
    holding = [path for path, text in _arrays(data, _SEARCHED_LEVELS) if _has_object(text)]
    if filled and (place := place_of_order((key, text) for key, text in members.items() if key != filled[0])):
        return (
            f"the file has records under {filled[0]}, and an order at {place} too, which would be lost; write all orders as one "
            f'array, or set [input] records_path = "{filled[0]}" if the others are not wanted'
        )
    reported = [key for key in (*_ERROR_KEYS, *_MESSAGE_KEYS) if members.get(key, b"null") not in _NO_ERROR]
    if reports_error(members) and not holding and place_of_order(members.items()) is None:
        said = next(iter([*reported, *(key for key in members if _plain(key) in _STATUS_KEYS)]))
        return (
            f"the file is an error message of an API, not orders (it has `{said}`; its keys: {named(members)}); "
            "request the data again"
        )
    if here:
        begin = f"the file is a page without records ({here[0]} is empty), but it has"
        if holding or (place := place_of_order(members.items())) is None:
            others = ", ".join(holding[:_SHOWN_ARRAYS])
            return (
                f"{begin} records at: {others}. If these are the orders, set [input] records_path to that"
                if others
                else f"{begin} other keys, too, and may be an order in a form that is not known: {named(members)}"
            )
        return f"{begin} an order at {place}; write the orders as an array"
    where = f"at records_path = {records_path!r}" if records_path else f"under {', '.join(ENVELOPE_KEYS)}"
    begin = f"the file is one object without `order_id`, and there is no array {where}"
    arrays = list(_arrays(members, _SEARCHED_LEVELS))
    first_of_each = [reference.members(one) for _, text in arrays if (one := _first_object(text)) is not None]
    for keys in [members, *first_of_each]:
        if shop := preset_for(keys):
            return f"{begin}{shop}. Keys of its records: {named(keys)}"
    if (path := inner_order(members)) is not None:
        return f"{begin}. There is an order inside, at `{path}`: {record_setting(path)}. Keys: {named(members)}"
    if arrays:
        found = "; ".join(f"{path} ({_content(text)})" for path, text in arrays[:_SHOWN_ARRAYS])
        setting = f'set [input] records_path = "{arrays[0][0]}"'
        first = _first_object(arrays[0][1])
        if first is not None and (path := inner_order(members_of(first.encode()))) is not None:
            setting += f"; there is an order inside each record, at `{path}`: {record_setting(path)}, too"
        return f"{begin}. It has arrays at: {found}. If one holds the orders, {setting}"
    inner = next((members_of(text) for text in members.values() if text.startswith(b"{")), None)
    if inner is not None and reference.is_order(inner):
        return f"{begin}. Each order is under its own key ({named(inner)}); write them as an array"
    if inner is not None:
        return f"{begin}. Its keys: {named(members)}; the first object in it has the keys: {named(inner)}"
    return f"{begin}. Its keys: {named(members)}"


def record_setting(path: str) -> str:
    """The setting that reads orders inside records."""
    return f'set record = "{path}" in [sources.default]'


def preset_for(keys: Collection[str]) -> str:
    """The setting that reads records with these keys, as a sentence; "" where they are of no shop that is known."""
    shop = next((shop for shop, its in PRESET_KEYS.items() if its <= set(keys)), None)
    return f'. This is the form of {shop.capitalize()}: set preset = "{shop}" in [sources.default]' if shop else ""


def place_of_order(pairs: Iterable[tuple[str, bytes]], levels: int = _SEARCHED_LEVELS) -> str | None:
    """The path to an order, or to an array with one, below an object with these keys and values; None where there is none."""
    for key, text in pairs:
        if b"order_id" not in text and b"\\u" not in text:  # nearly always, and cheap
            continue
        shown = key if named([key]) == key else "…"  # the key may be personal data
        if text.startswith(b"[") and any(map(_is_order, elements_of(text))):
            return shown
        inside = pairs_of(text) if text.startswith(b"{") else []
        if reference.is_order(dict(inside)):
            return shown
        if levels > 1 and (path := place_of_order(inside, levels - 1)) is not None:
            return f"{shown}.{path}"
    return None


def _is_order(text: bytes) -> bool:
    return text.startswith(b"{") and reference.is_order(members_of(text))


def inner_order(members: Members, levels: int = _SEARCHED_LEVELS) -> str | None:
    """The path to an order inside this object, if there is one."""
    for key, text in members.items():
        if text.startswith(b"{") and named([key]) != "none":
            inside = members_of(text)
            if reference.is_order(inside):
                return key
            if levels > 1 and (path := inner_order(inside, levels - 1)) is not None:
                return f"{key}.{path}"
    return None


def _at(members: Members, path: str) -> bytes:
    *parents, last = path.split(".")
    for key in parents:
        value = members.get(key, b"")
        members = members_of(value) if value.startswith(b"{") else {}
    return members.get(last, b"")


def _is_empty(array: bytes) -> bool:
    return _EMPTY.fullmatch(array) is not None


def _has_object(array: bytes) -> bool:
    begins = _BEGINS_WITH_OBJECT.match(array) is not None  # true for nearly all, and cheap
    return begins or any(one.startswith("{") for one in reference.elements(array.decode()))


def _has_objects(members: Members, levels: int) -> bool:
    """Whether there is an array of objects somewhere in an object."""
    return any(
        (text.startswith(b"[") and _has_object(text))
        or (levels > 1 and text.startswith(b"{") and _has_objects(members_of(text), levels - 1))
        for text in members.values()
    )


def reports_error(members: Members) -> bool:
    """Whether an object reports an error: it says so, or says that something did not succeed. An empty value says nothing, since
    some APIs always send the key. A message alone is taken for one, unless it or a status says that all is well."""
    given = {_plain(key): text for key, text in members.items() if text not in (b"null", b'""', b"[]", b"{}")}
    if any(given.get(key, b"null") not in _NO_ERROR for key in _ERROR_KEYS):
        return True
    said = [_is_fine(given[key]) for key in _STATUS_KEYS if key in given]
    if said:
        return not all(said)
    return not all(_is_fine(given[key]) for key in _MESSAGE_KEYS if key in given)


def _is_fine(text: bytes) -> bool:
    """Whether the value of a status says that all is well: 0, 1, 2xx, true, or a word for it."""
    word = text.decode().strip('" ').lower()
    return word in _FINE or word in ("0", "1") or (len(word) == 3 and word.isdigit() and word[0] == "2")


def _is_nothing(text: bytes) -> bool:
    """Whether a value may stand for an array without elements."""
    return (
        text == b"null"
        or (text.startswith(b"[") and _is_empty(text))
        or (text.startswith(b"{") and not members_of(text))
    )


def _arrays(members: Members, levels: int) -> Iterator[tuple[str, bytes]]:
    """The arrays among the members of an object and of the objects in it: path and text."""
    for key, text in members.items():
        if named([key]) == "none":
            continue
        if text.startswith(b"["):
            yield key, text
        elif levels > 1 and text.startswith(b"{"):
            yield from ((f"{key}.{path}", found) for path, found in _arrays(members_of(text), levels - 1))


def _first_object(array: bytes) -> str | None:
    return next((one for one in reference.elements(array.decode()) if one.startswith("{")), None)


def _content(array: bytes) -> str:
    elements = reference.elements(array.decode())
    first = _first_object(array)
    keys = f", with the keys {named(reference.members(first))}" if first else ""
    return f"{len(elements):,} value{'' if len(elements) == 1 else 's'}{keys}"
