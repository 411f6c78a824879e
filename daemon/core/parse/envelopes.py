"""The records of an object that is not an order: those of an envelope, or why there are none. Pure, on texts.

An envelope has its records in an array under one of ENVELOPE_KEYS, or at `records_path`. `null` or `{}` instead of the array is
an empty page, if the other keys are only about paging. An object may also hold one order, under ORDER_KEY.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping

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
    pageinfo object url self from to start skip success ok
    """.split()  # noqa: SIM905
)
_ERROR_KEYS = ("error", "errors", "message", "detail", "fault", "exception")
_NO_ERROR = (b"null", b"false", b"0", b'""', b"[]", b"{}")
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
    spans = bindings.parts(text)
    if spans is None:
        document = reference.whole(text.decode())
        return {key: raw.encode() for key, raw in reference.members(document).items()}
    found = [text[start:stop] for start, stop in zip(*map(Ints.tolist, spans), strict=True)]
    return {json.loads(key): raw for key, raw in zip(found[::2], found[1::2], strict=True)}


def elements_of(array: bytes) -> list[bytes]:
    """The elements of an array as texts."""
    spans = bindings.parts(array)
    if spans is None:
        return [one.encode() for one in reference.elements(reference.whole(array.decode()))]
    return [array[start:stop] for start, stop in zip(*map(Ints.tolist, spans), strict=True)]


def array_of(members: Members, records_path: str = "") -> bytes | None:
    """The array of the records of an envelope, as text; None where there is none, or several may be it."""
    values = [_at(members, records_path)] if records_path else [members.get(key, b"") for key in ENVELOPE_KEYS]
    arrays = [text for text in values if text.startswith(b"[")]
    if not arrays and any(map(_is_nothing, values)) and (records_path or is_paging(members)):
        return None if members.keys() & set(_ERROR_KEYS) else b"[]"
    if len(arrays) == 1 and (records_path or not _is_empty(arrays[0])):
        return arrays[0]
    filled = [text for text in arrays if _has_object(text)]
    if len(filled) > 1:
        return None
    if (
        not filled
        and all(map(_is_empty, arrays))
        and (_reports_error(members) or _has_objects(members, _SEARCHED_LEVELS))
    ):
        return None  # the page is empty, but there are objects elsewhere
    return next((text for text in [*filled, *arrays] if not _is_empty(text)), arrays[0] if arrays else None)


def is_paging(members: Members) -> bool:
    """Whether all other keys of an object are about paging. Any other key may hold an order."""
    plain = (key.lower().replace("_", "").replace("-", "") for key in members if key not in ENVELOPE_KEYS)
    return all(key in _PAGING for key in plain)


def without_array(members: Members, records_path: str) -> str:
    """Why an object that is neither an order nor an envelope cannot be read."""
    here = [] if records_path else [key for key in ENVELOPE_KEYS if members.get(key, b"").startswith(b"[")]
    filled = [key for key in here if _has_object(members[key])]
    if len(filled) > 1:
        return (
            f"the file has records under {' and '.join(filled)}, and it is unknown which are the orders; "
            f'set [input] records_path = "{filled[0]}", or the other'
        )
    if reported := [key for key in _ERROR_KEYS if key in members]:
        return (
            f"the file is an error message of an API, not orders (it has `{reported[0]}`; its keys: {named(members)}); "
            "request the data again"
        )
    if here:
        others = [path for path, text in _arrays(members, _SEARCHED_LEVELS) if _has_object(text)]
        return (
            f"the file is a page without records ({here[0]} is empty), but it has records at: "
            f"{', '.join(others[:_SHOWN_ARRAYS]) or named(members)}. If these are the orders, set [input] records_path to that"
        )
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


def _reports_error(members: Members) -> bool:
    """Whether an object reports an error. An empty value is none: some APIs always send the key."""
    return any(members.get(key, b"null") not in _NO_ERROR for key in ("error", "errors", "fault", "exception"))


def _is_nothing(text: bytes) -> bool:
    return text == b"null" or (text.startswith(b"{") and not members_of(text))


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
