"""Whom a record names: whether it is an order of given users, one of given orders, or a text with such an id. Pure.

An accepted record names the order and the user that are published of it. One that was rejected names more: any text in it may be
the id of a user or an order, since nobody knows what the record is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from ..mapping import FieldMapping
from ..model import ParseContext, Reason
from . import reference
from .mapped import read_record, translator
from .values import WHITE_SPACE, Number, read_text, unwrapped

REDACTED = "redacted"  # in place of an id
_LONG_NUMBER = 6  # digits: a shorter number is more often a quantity than an id
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([\"\\/]))")


@dataclass(frozen=True)
class Ids:
    """The ids of users and of orders, as they are published. `prefixes`: those of sources, which write an id without its own."""

    users: frozenset[str] = frozenset()
    orders: frozenset[str] = frozenset()
    prefixes: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.users or self.orders)

    @cached_property
    def all(self) -> frozenset[str]:
        """The ids of both kinds."""
        return self.users | self.orders

    def of(self, mapping: FieldMapping) -> frozenset[str]:
        """The ids that are of a source, with the prefix of its ids and as it writes them. The same text without the prefix is
        somebody else's id in another source."""
        prefix = mapping.id_prefix
        ours = frozenset(one for one in self.all if one.startswith(prefix))
        return ours | {one.removeprefix(prefix) for one in ours} - {""}

    def are_named(self, record: bytes, context: ParseContext) -> bool:
        """Whether a record of orders, accepted or not, names one of them."""
        read, is_deletion = read_record(record, context)
        if isinstance(read, Reason):
            return self.are_in_rejected(record, context.mapping)
        user = ids_in(record, context.mapping)[1] if is_deletion else read.user_id
        return read.order_id in self.orders or user in self.users

    def are_in_rejected(self, record: bytes, mapping: FieldMapping) -> bool:
        """Whether a record that was rejected names one of them."""
        order_id, user_id = ids_in(record, mapping)
        if order_id in self.orders or user_id in self.users:
            return True
        try:
            found = reference.value_of(record.decode())
        except (reference.NotJson, UnicodeDecodeError):
            return any(words_of(self.of(mapping)).search(text) for text in _as_texts(record))
        ours = self.of(mapping)
        return any(text.strip(WHITE_SPACE) in ours for text in texts_in(found))

    def are_in_cells(self, cells: Sequence[str], mapping: FieldMapping) -> bool:
        """Whether a row of a CSV file that was rejected names one of them."""
        ours = self.of(mapping)
        return any(cell.strip(WHITE_SPACE) in ours for cell in cells)

    def are_words_of(self, data: bytes) -> bool:
        """Whether bytes that are of no known form have one of them as a whole word, whatever their encoding."""
        return any(self._words.search(text) for text in _as_texts(data))

    def without_words(self, text: str) -> str:
        """A text in which each whole word that is one of them is replaced."""
        return self._words.sub(REDACTED, text)

    @cached_property
    def _words(self) -> re.Pattern[str]:
        """Any of the ids, also as a source writes it, with no letter or digit beside it."""
        bare = {one.removeprefix(prefix) for prefix in self.prefixes for one in self.all if one.startswith(prefix)}
        return words_of(self.all | bare - {""})


NOBODY = Ids()


@lru_cache(maxsize=64)
def words_of(ids: frozenset[str]) -> re.Pattern[str]:
    """Any of these ids as a whole word."""
    longest_first = sorted(ids, key=lambda one: (-len(one), one))
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(map(re.escape, longest_first)) or '(?!)'})(?![^\W_])")


def ids_in(record: bytes, mapping: FieldMapping) -> tuple[str | None, str | None]:
    """The ids of the order and of the user that an object has at the paths of its source; None where it has none that can be
    read."""
    by = translator(mapping)
    members = by.members(record)
    if members is None:
        return None, None
    order_id, user_id = (_id(by.found(members, field)[1], mapping) for field in ("order_id", "user_id"))
    return order_id, user_id


def texts_in(value: Any) -> Iterator[str]:
    """The texts in a JSON value, at any depth: keys, texts, and numbers that are long enough for an id."""
    found = [value]
    while found:
        one = found.pop()
        if isinstance(one, dict):
            found += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            found += one
        elif isinstance(one, str) and (not isinstance(one, Number) or len(one) >= _LONG_NUMBER):
            yield one


def _id(value: object, mapping: FieldMapping) -> str | None:
    text = read_text(unwrapped(value))
    return mapping.id_prefix + text if isinstance(text, str) else None


def _as_texts(data: bytes) -> Iterator[str]:
    """The text of some bytes, as each encoding that they may have, and with the escapes of JSON as what they stand for."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        yield data.decode("utf-16", "replace")
    text = data.decode(errors="replace")
    yield text
    if "\\" in text:
        meant = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], text)
        yield meant.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # joins the halves of surrogate pairs
    if "\ufffd" in text:
        yield data.decode("cp1252", "replace")
