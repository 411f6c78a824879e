"""Records of a source that spells its orders in another way, translated into the format of docs/INPUT.md. Pure, on texts.

A translated record holds the values of the mapped paths as they are written. So the parsers read it by the same rules as any
other.
What cannot be translated (a text that is not JSON, a value of another kind) stays as it is: the parsers say what is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from ..mapping import DIRECT, ITEM_FIELDS, ORDER_FIELDS, FieldMapping, Paths
from ..model import ParseContext
from . import reference
from .envelopes import members_of
from .values import INSTANT, WHITE_SPACE, is_blank_string, is_number, is_shortened, read_instant, read_text, unwrapped

_MINOR_DIGITS_OF = dict.fromkeys(  # of the currencies that do not have two: ISO 4217
    re.findall("...", "BIFCLPDJFGNFISKJPYKMFKRWPYGRWFUGXUYIVNDVUVXAFXOFXPF"), 0
) | dict.fromkeys(re.findall("...", "BHDIQDJODKWDLYDOMRTND"), 3)
_MINOR_DIGITS = 2  # of all other currencies, and of an unknown one
_INTEGER = re.compile(r"(-?)(0|[1-9][0-9]*)")
_CODE = re.compile(r"[A-Za-z]{3}")

_Path = tuple[str, ...]


class Translator:
    """A compiled mapping."""

    def __init__(self, mapping: FieldMapping) -> None:
        self._mapping = mapping
        self._record = _keys(mapping.record)
        self._paths = _compiled(mapping.fields, (*ORDER_FIELDS, *ITEM_FIELDS))
        self._skip = _keys(mapping.skip_items_with)
        self._deleted = _keys(mapping.deleted_path)
        self._read = {path[0] for field in ORDER_FIELDS for path in self._paths[field]}
        self._zone = None if mapping.time_zone == "UTC" else ZoneInfo(mapping.time_zone)

    def __call__(self, record: bytes) -> bytes:
        """The record in the format of docs/INPUT.md; as it is where it is no JSON object."""
        members = self._members(record)
        if members is None:
            return record
        return b"{}" if self._deletes(members) else self._translated(members).encode("utf-8", "surrogatepass")

    def members(self, record: bytes) -> dict[str, bytes]:
        """What the record has of an order, deletion or not; nothing where it is no JSON object."""
        members = self._members(record)
        translated = {} if members is None else reference.members(self._translated(members))
        return {key: text.encode("utf-8", "surrogatepass") for key, text in translated.items()}

    def is_deletion(self, record: bytes) -> bool:
        """Whether a record says that its order is gone."""
        members = self._members(record)
        return members is not None and self._deletes(members)

    def deletion(self, record: bytes, context: ParseContext) -> reference.Order | None:
        """The deletion that a record is, if it is one: it has an order_id that can be read, and says so. Its instant is that of
        its version; without one, the time of receipt."""
        members = self._members(record)
        if members is None or not self._deletes(members):
            return None
        translated = reference.members(self._translated(members))
        order_id, *instants = (_value(translated.get(name)) for name in ("order_id", "updated_at", "created_at"))
        order_id = read_text(order_id)
        if not isinstance(order_id, str) or is_shortened(order_id):
            return None
        read = (read_instant(one) for one in instants)
        instant = next(
            (one for one in read if isinstance(one, int) and one <= context.latest_instant), context.received_at
        )
        return reference.deletion(order_id, instant)

    def _deletes(self, members: dict[str, str]) -> bool:
        found = _at(members, self._deleted) if self._deleted else None
        return found is not None and _canonical(found) in self._mapping.deleted_values

    def _members(self, record: bytes) -> dict[str, str] | None:
        try:
            text = record.decode()
            reference.check_depth(text)
            members = reference.members(text)
            inner = _at(members, self._record) if self._record else None
            return reference.members(inner) if inner is not None and inner.startswith("{") else members
        except (reference.NotJson, reference.NotAnObject, UnicodeDecodeError):
            return None

    def _translated(self, members: dict[str, str]) -> str:
        found = {field: value for field in ORDER_FIELDS if (value := self._first(members, field)) is not None}
        if "currency" in found:
            found["currency"] = _upper(found["currency"])
        digits = _minor_digits(found.get("currency")) if self._mapping.minor_units else 0
        for field, convert in (
            ("order_id", self._prefixed), ("user_id", self._prefixed), ("created_at", self._zoned), ("updated_at", self._zoned),
        ):  # fmt: skip
            if field in found:
                found[field] = convert(found[field])
        if "amount" in found:
            found["amount"] = _shifted(found["amount"], digits)
        if found.get("items", "").startswith("["):
            items = [one for one in reference.elements(found["items"]) if not self._is_skipped(one)]
            found["items"] = "[" + ",".join(self._item(one, digits) for one in items) + "]"
        if "amount" not in found and "items" not in found:  # the keys that nothing reads are reported
            found |= {key: "null" for key in members if key not in self._read and key not in found}
        return _object(found)

    def _item(self, text: str, digits: int) -> str:
        if not text.startswith("{"):
            return text
        members = reference.members(text)
        found = {field: value for field in ITEM_FIELDS if (value := self._first(members, field)) is not None}
        if "price" in found:
            found["price"] = _shifted(found["price"], digits)
        return _object(found)

    def _is_skipped(self, item: str) -> bool:
        if not self._skip or not item.startswith("{"):
            return False
        found = _at(reference.members(item), self._skip)
        return found is not None and _is_there(found)

    def _first(self, members: dict[str, str], field: str) -> str | None:
        """The value of the first path that has one."""
        for path in self._paths[field]:
            found = _at(members, path)
            if found is not None and _is_there(found) and not (field == "user_id" and found in ("0", '"0"')):
                return found
        return None

    def _prefixed(self, value: str) -> str:
        prefix = self._mapping.id_prefix
        text = read_text(_value(value)) if prefix else None
        return json.dumps(prefix + text) if isinstance(text, str) else value

    def _zoned(self, value: str) -> str:
        """A local time as an instant in UTC. Of a time that occurs twice, the first; of one that is skipped, the later."""
        if self._zone is None or not value.startswith('"'):
            return value
        match = INSTANT.fullmatch(json.loads(value).strip(WHITE_SPACE))
        if match is None or match[8] or match[9]:
            return value
        year, month, day, hour, minute, second, fraction = match.groups()[:7]
        try:
            local = datetime(
                int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=self._zone
            )
            instant = local.astimezone(UTC)
        except (ValueError, OverflowError):
            return value
        return json.dumps(f"{instant:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + (f".{fraction}" if fraction else "") + "Z")


@lru_cache(maxsize=64)
def translator(mapping: FieldMapping) -> Translator:
    """The compiled mapping. KeyError where its time zone is unknown."""
    return Translator(mapping)


def direct(record: bytes, mapping: FieldMapping) -> bytes:
    """A record as the parsers read it."""
    return record if mapping == DIRECT else translator(mapping)(record)


def fields_of(record: bytes, mapping: FieldMapping) -> Mapping[str, bytes]:
    """The members of an object (as texts) under the names that the parsers read."""
    return members_of(record) if mapping == DIRECT else translator(mapping).members(record)


def is_order(record: bytes, mapping: FieldMapping) -> bool:
    """Whether an object is an order, valid or not, or the deletion of one."""
    fields = fields_of(record, mapping)
    if reference.is_order(fields):
        return True
    return mapping != DIRECT and translator(mapping).is_deletion(record) and "order_id" in fields


def _keys(path: str) -> _Path:
    return tuple(path.split(".")) if path else ()


def _compiled(paths: Paths, fields: Sequence[str]) -> dict[str, list[_Path]]:
    given = dict(paths)
    return {field: [_keys(path) for path in given.get(field, (field,))] for field in fields}


def _at(members: dict[str, str], path: _Path) -> str | None:
    """The text of the value at a path; None where there is none."""
    value = members.get(path[0])
    for key in path[1:]:
        if value is None:
            return None
        if value.startswith("{"):
            value = reference.members(value).get(key)
        elif value.startswith("[") and key.isascii() and key.isdigit():
            elements = reference.elements(value)
            value = elements[int(key)] if int(key) < len(elements) else None
        else:
            return None
    return value


def _is_there(value: str) -> bool:
    return value != "null" and not (value.startswith('"') and is_blank_string(value))


def _value(text: str | None) -> object:
    return None if text is None else unwrapped(reference.value_of(text))


def _canonical(value: str) -> str:
    """A scalar's JSON as deleted_values has it."""
    return json.dumps(json.loads(value), ensure_ascii=False) if value.startswith('"') else value


def _object(members: dict[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in members.items()) + "}"


def _upper(value: str) -> str:
    text = json.loads(value).strip(WHITE_SPACE) if value.startswith('"') else ""
    return json.dumps(text.upper()) if _CODE.fullmatch(text) else value


def _minor_digits(currency: str | None) -> int:
    code = json.loads(currency) if currency is not None and currency.startswith('"') else ""
    return _MINOR_DIGITS_OF.get(code, _MINOR_DIGITS)


def _shifted(value: str, digits: int) -> str:
    """A number divided by 10^digits, exactly."""
    text = json.loads(value).strip(WHITE_SPACE) if value.startswith('"') else value
    if not digits or not is_number(text):
        return value
    if match := _INTEGER.fullmatch(text):
        padded = match[2].rjust(digits + 1, "0")
        return f"{match[1]}{padded[:-digits]}.{padded[-digits:]}"
    number, _, exponent = text.lower().partition("e")
    return f"{number}e{int(exponent or 0) - digits}" if len(exponent) < 10 else value
