"""Bare orders: nothing says what they are worth, but their records may. They are kept and reported, or the drop is refused
(refusals.py). Pure.

Where the mapping of a source names fields, an order is bare that has neither an amount nor the price of an item. In the format of
docs/INPUT.md both are optional: there, an order is bare that has neither `amount` nor `items`, but keys that nothing reads.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ..drift import read_keys_of
from ..mapping import DIRECT, FieldMapping, keys_of
from ..model import Bools, Field, Sample, Tally
from ..native.bindings import Scanned
from . import reference
from .damage import named_list
from .mapped import order_id_in, translator
from .shapes import has
from .unread import unread_item_keys

_SEARCHED_LEVELS = 3
_KEPT_KEYS = 50  # of a sample


def has_amount(order: reference.Order) -> bool:
    """Whether it has an amount; one that cannot be read is a fault, and reported as that."""
    return order.amount is not None or order.faults[Field.AMOUNT] > 0


def has_price(order: reference.Order) -> bool:
    """Whether one of its items has a price, or cannot be read."""
    faults = sum(order.faults[name] for name in (Field.ITEMS, Field.ITEM, Field.PRICE))
    return faults > 0 or any(item.price is not None for item in order.items)


def is_bare(order: reference.Order, mapping: FieldMapping) -> bool:
    """Whether an order is bare."""
    if mapping.fields:
        return mapping.reads_money and not has_amount(order) and not has_price(order)
    return bool(order.other_keys)


@dataclass(frozen=True, slots=True)
class Worth:
    """What is known of the orders in a block, as masks by record. Those of the reference parser are added to the last two."""

    bare: Bools  # of the orders that are taken
    orders: Bools  # this and the next are as in a Tally
    with_amount: Bools
    with_price: Bools
    without_amount: Bools
    named: Bools  # bare, whatever the date


def nothing_known(count: int) -> Worth:
    """Of records that the fast path did not read."""
    return Worth(*(np.zeros(count, np.bool_) for _ in fields(Worth)))


def worth_of(read: Scanned, mapping: FieldMapping, accepted: Bools, is_taken: Bools) -> Worth:
    """Of what the fast path read. `is_taken`: accepted, and of a date that is wanted."""
    count = len(accepted)
    if not mapping.fields:
        return replace(nothing_known(count), bare=is_taken & read.bare, named=accepted & read.bare)
    if not mapping.reads_money:
        return nothing_known(count)
    with_amount = accepted & read.numbers["amount"].valid
    without = accepted & ~with_amount
    with_price = without & _have_price(read) if without.any() else np.zeros(count, np.bool_)
    is_bare = without & ~with_price
    return Worth(is_bare & is_taken, accepted, with_amount, with_price, without, is_bare)


def _have_price(read: Scanned) -> Bools:
    """Whether one of the items has a price."""
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(read.numbers["price"].valid)])
    return np.asarray(before[read.items[1:]] > before[read.items[:-1]])


def note(tally: Tally, worth: Worth, index: int, order: reference.Order, mapping: FieldMapping) -> bool:
    """Notes what an order is worth that the reference parser read, with this index in its block. Whether it is bare."""
    found = worth.named[index] = is_bare(order, mapping)
    if mapping.reads_money:
        amount = has_amount(order)
        tally.orders += 1
        tally.with_amount += amount
        tally.with_price += not amount and has_price(order)
        worth.without_amount[index] = not amount
    return bool(found)


def unread_in(record: bytes, mapping: FieldMapping) -> list[str]:
    """The keys of a bare order that nothing reads."""
    members = translator(mapping).members(record) or {}
    of_items = unread_item_keys(members, mapping) if mapping.fields else []
    return [key for key in members if key not in read_keys_of(mapping)] + of_items


def sample(record: bytes, position: int, mapping: FieldMapping) -> Sample:
    """What a reason may say of an order without an amount."""
    members = translator(mapping).members(record) or {}
    path = _order_in(members, mapping)
    is_inner = bool(mapping.record) and members != translator(DIRECT).members(record)
    has_key = any(has(members, keys_of(one)) is not False for one in mapping.amount_paths)
    keys = tuple(named_list(members, _KEPT_KEYS))
    return Sample(position, keys, has_key, f"{mapping.record}.{path}" if path and is_inner else path)


def _order_in(members: dict[str, Any], mapping: FieldMapping, levels: int = _SEARCHED_LEVELS) -> str:
    """The path of an order inside an object; "" where there is none."""
    for key, value in members.items():
        if not isinstance(value, dict) or not named_list([key]):
            continue
        if order_id_in(value, mapping) is not None:
            return key
        if levels > 1 and (path := _order_in(value, mapping, levels - 1)):
            return f"{key}.{path}"
    return ""
