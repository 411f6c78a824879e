"""The records of an object that is not an order: those of an envelope, or why there are none. Pure, on texts.

An envelope has its records in an array under one of ENVELOPE_KEYS, or at `records_path`. It is an empty page if the array is
empty, or `null` or `{}` stands in its place, and nothing else in it can hold an order or reports an error. An object may also
hold one order, under ORDER_KEY.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ..mapping import DIRECT, FieldMapping
from . import reference
from .damage import named
from .hidden import ENVELOPE_KEYS, lost_beside
from .pages import (  # fmt: skip
    ERROR_KEYS,
    MESSAGE_KEYS,
    STATUS_KEYS,
    Members,
    has_object,
    is_empty,
    is_empty_page,
    is_nothing,
    plain,
    reports_error,
)
from .texts import members_of, pairs_of, repeated

ORDER_KEY = "order"
SHOPS = {  # their names, by preset
    "shopify": "Shopify",
    "woocommerce": "WooCommerce",
    "magento": "Magento",
    "square": "Square",
    "stripe": "Stripe",
}
_SEARCHED_LEVELS = 3
PRESET_KEYS = {  # keys that the records of a shop have, and those of no other
    "shopify": {"line_items", "total_price"},
    "woocommerce": {"line_items", "date_created_gmt"},
    "magento": {"increment_id", "grand_total"},
    "square": {"line_items", "total_money"},
    "stripe": {"amount_total", "payment_status"},
}
_OF_SEVERAL = {"line_items"}  # a key of several shops
_SHOWN_ARRAYS = 3


def array_of(members: Members, records_path: str, mapping: FieldMapping) -> bytes | None:
    """The array of the records of an envelope, as text; None where there is none, or it may not be all of them."""
    if records_path:
        text = _at(members, records_path)
        array = b"[]" if is_nothing(text) and not reports_error(members) else text
        is_all = array.startswith(b"[") and lost_beside(_beside(members, records_path), array, mapping) is None
        return array if is_all else None
    arrays = {key: members[key] for key in ENVELOPE_KEYS if members.get(key, b"").startswith(b"[")}
    filled = [key for key, text in arrays.items() if not is_empty(text) and has_object(text)]
    if len(filled) > 1:
        return None
    chosen = filled or [key for key, text in arrays.items() if not is_empty(text)]
    if chosen:
        array = arrays[chosen[0]]
        return array if lost_beside(_beside(members, chosen[0]), array, mapping) is None else None
    return b"[]" if is_empty_page(members, mapping) else None


def _beside(members: Members, path: str) -> Iterator[tuple[str, bytes]]:
    """All that is in an object but what is at this path: keys and values."""
    *parents, last = path.split(".")
    for key in parents:
        yield from ((other, text) for other, text in members.items() if other != key)
        value = members.get(key, b"")
        members = members_of(value) if value.startswith(b"{") else {}
    yield from ((other, text) for other, text in members.items() if other != last)


def without_array(members: Members, records_path: str, mapping: FieldMapping) -> str:
    """Why an object that is neither an order nor an envelope cannot be read."""
    places = [records_path] if records_path else ENVELOPE_KEYS
    arrays_here = {key: text for key in places if (text := _at(members, key)).startswith(b"[")}
    filled = [key for key, text in arrays_here.items() if has_object(text)]
    if len(filled) > 1:
        return (
            f"the file has records under {' and '.join(filled)}, and it is unknown which are the orders; "
            f'set [input] records_path = "{filled[0]}", or the other'
        )
    data = {key: text for key, text in members.items() if plain(key) not in ERROR_KEYS}
    holding = [path for path, text in _arrays(data, _SEARCHED_LEVELS) if has_object(text)]
    if filled:
        place = lost_beside(_beside(members, filled[0]), _at(members, filled[0]), mapping)
        if place is None:
            return (
                f"the file has records under {filled[0]}, and one of them also at {ORDER_KEY}: it is unknown which counts; "
                "leave one of them out"
            )
        return (
            f"the file has records under {filled[0]}, and at {place} an order that is not among them and would be "
            "lost; write all orders as one array, or leave out those that are not wanted"
        )
    place = lost_beside(members.items(), b"", mapping)
    if reports_error(members) and not holding and place is None:
        said = [key for key in members if plain(key) in (*ERROR_KEYS, *MESSAGE_KEYS, *STATUS_KEYS)]
        return (
            f"the file is an error message of an API, not orders (it has `{said[0]}`; its keys: {named(members)}); "
            "request the data again"
        )
    if arrays_here:
        begin = f"the file is a page without records ({next(iter(arrays_here))} is empty), but it has"
        if place is not None and not holding:
            return f"{begin} an order at {place}; write the orders as an array"
        if holding:
            found = ", ".join(holding[:_SHOWN_ARRAYS])
            return f"{begin} records at: {found}. If these are the orders, set [input] records_path to that"
        return f"{begin} other keys, too, and may be an order in a form that is not known: {named(members)}"
    return _without_any(members, records_path)


def _without_any(members: Members, records_path: str) -> str:
    where = f"at records_path = {records_path!r}" if records_path else f"under {', '.join(ENVELOPE_KEYS)}"
    begin = f"the file is one object without `order_id`, and there is no array {where}"
    arrays = list(_arrays(members, _SEARCHED_LEVELS))
    firsts = [(path, one) for path, text in arrays if (one := _first_object(text)) is not None]
    places, first_of_each = [path for path, _ in firsts], [reference.members(one) for _, one in firsts]
    for place, keys in [("", members), *zip(places, first_of_each, strict=True)]:
        if shop := preset_for(keys):
            setting = (
                f'. They are at {place}: set [input] records_path = "{place}"'
                if place and place not in ENVELOPE_KEYS
                else ""
            )
            return f"{begin}{shop}{setting}. Keys of its records: {named(keys)}"
    objects = [(key, members_of(text)) for key, text in members.items() if text.startswith(b"{")]
    if (keys_of_orders := _by_key(("", members), *objects)) is not None:
        return f"{begin}. Each order is under its own key ({keys_of_orders}); write them as an array"
    if (path := inner_order(members)) is not None:
        return f"{begin}. There is an order inside, at `{path}`: {record_setting(path)}. Keys: {named(members)}"
    if arrays:
        found = "; ".join(f"{path} ({_content(text)})" for path, text in arrays[:_SHOWN_ARRAYS])
        setting = f'set [input] records_path = "{arrays[0][0]}"'
        first = _first_object(arrays[0][1])
        if first is not None and (path := inner_order(members_of(first.encode()))) is not None:
            setting += f"; there is an order inside each record, at `{path}`: {record_setting(path)}, too"
        return f"{begin}. It has arrays at: {found}. If one holds the orders, {setting}"
    if objects:
        return f"{begin}. Its keys: {named(members)}; the first object in it has the keys: {named(objects[0][1])}"
    return f"{begin}. Its keys: {named(members)}"


def _by_key(*objects: tuple[str, Members]) -> str | None:
    """The keys of the first object that has several orders as its members, or one under a key that is no name."""
    for _, members in objects:
        orders = [
            key for key, text in members.items() if text.startswith(b"{") and reference.is_order(members_of(text))
        ]
        if len(orders) > 1 or (orders and named(orders) == "none"):
            return named(orders)
    return None


def record_setting(path: str) -> str:
    """The setting that reads orders inside records."""
    return f'set record = "{path}" in [sources.default]'


def preset_for(keys: Collection[str], mapping: FieldMapping = DIRECT) -> str:
    """The setting that reads records with these keys, as a sentence; "" where they are of no shop that is known, or of one whose
    form this mapping reads."""
    shop = next(
        (shop for shop, its in PRESET_KEYS.items() if its <= set(keys) and not reads_preset(mapping, shop)), None
    )
    return f'. This is the form of {SHOPS[shop]}: set preset = "{shop}" in [sources.default]' if shop else ""


def reads_preset(mapping: FieldMapping, preset: str) -> bool:
    """Whether a mapping reads the form of a shop already."""
    return not mapping.is_direct and bool(PRESET_KEYS[preset] & mapping.read_keys() - _OF_SEVERAL)


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
        pairs = pairs_of(value) if value.startswith(b"{") else []
        members = {} if repeated(pairs) else dict(pairs)
    return members.get(last, b"")


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
