"""The values of the reference parser: one JSON value in, one exact value (or FAULT) out.

These functions are the authority on every rule of docs/INPUT.md about a single field. The fast path (native/scan.c) reads the
usual spellings of the same fields, and leaves everything else to them.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from hashlib import blake2b
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Final
from zoneinfo import ZoneInfo

from ..model import DECIMAL_LIMIT, MAX_ID_BYTES, MAX_METADATA_BYTES, MICROSECONDS_PER_SECOND

WHITE_SPACE: Final = " \t\n\r\x0b\x0c"
_NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_ZONE = r" ?(?P<zone>[Zz]|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)(?:\[[A-Za-z0-9_+/-]+\])?"
_DATE = r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
_CLOCK = (
    r"(?P<hour>[0-9]{2})(?::(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]+))?)?)?"
    rf"(?:{_ZONE})?"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_INSTANTS = (
    re.compile(f"{_DATE}(?:[Tt ]{_CLOCK})?"),
    re.compile(_DATE.replace("-(?P", "(?P") + "[Tt]" + _CLOCK.replace("(?::(?P", "(?:(?P")),  # ISO 8601, basic format
    re.compile(  # RFC 2822
        rf"(?:(?P<weekday>{'|'.join(_WEEKDAYS)}), )?(?P<day>[0-9]{{1,2}}) (?P<month>{'|'.join(_MONTHS)}) (?P<year>[0-9]{{4}}) "
        r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}))? (?P<zone>GMT|UTC|UT|[+-][0-9]{4})"
    ),
)
_DATE_OF_JSON = re.compile(r"/Date\(([0-9]+)(?:[+-][0-9]{4})?\)/")  # the offset is that of who wrote it: the number is UTC
_SIGNIFICANT = re.compile(r'(?:[^ \t\n\r"]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")++', re.DOTALL)
_SPACE = re.compile(r"[ \t\n\r]")
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.0+)?")
_SHORTENED = re.compile(r"-?[0-9](?:[.,][0-9]+)?[Ee]\+[0-9]{2}")
_TYPES = frozenset({"$oid", "$date", "$numberInt", "$numberLong", "$numberDouble", "$numberDecimal"})
_UNIX_EPOCH = datetime(1970, 1, 1)
_UNIX_EPOCH_ORDINAL = _UNIX_EPOCH.toordinal()
_SECONDS_FROM = 10**8  # a smaller number is not an epoch: 20250820 is a date, 45889.64 a day of a spreadsheet
_MILLISECONDS_FROM = 10**11  # from here on a number is epoch milliseconds: as seconds it would be the year 5138
_FAR = 10**30  # any instant beyond the calendar: larger than every tolerance


class Number(str):
    """A JSON number as text. It never becomes a float."""

    __slots__ = ()


class Fault:
    """The type of FAULT: a value that is present and cannot be read."""


FAULT: Final = Fault()


def order_key(order_id: bytes) -> bytes:
    """The 128-bit key of an order in the index: BLAKE2b of its UTF-8 id. The same in every version and on every machine."""
    return blake2b(order_id, digest_size=16).digest()


def read_text(value: object) -> str | Fault | None:
    """An identifier: stripped text, or a whole number as its exact decimal text; None where null, absent or blank."""
    if value is None:
        return None
    if isinstance(value, Number):
        whole = _WHOLE.fullmatch(value)  # pandas writes 17 as 17.0 where other rows have no value
        return int_text(whole[1]) if whole and len(whole[1]) <= MAX_ID_BYTES else FAULT
    if not isinstance(value, str):
        return FAULT
    text = value.strip(WHITE_SPACE)
    if not text:
        return None
    try:
        return text if len(text.encode()) <= MAX_ID_BYTES else FAULT
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8
        return FAULT


def unwrapped(value: object) -> object:
    """A value without the type that MongoDB's extended JSON puts around it: `{"$date": "2026-11-20T10:00:00Z"}`."""
    while isinstance(value, dict) and len(value) == 1 and (kind := next(iter(value))) in _TYPES:
        value = value[kind]
        if kind.startswith("$number") and isinstance(value, str) and is_number(value):
            value = Number(value)
    return value


def is_number(text: str) -> bool:
    """Whether a text is a JSON number."""
    return _NUMBER.fullmatch(text) is not None


def int_text(number: str) -> str:
    """The canonical decimal text of a JSON integer: only `-0` is spelled in another way."""
    return "0" if number == "-0" else str(number)


def is_shortened(text: str) -> bool:
    """Whether a key has the form in which a spreadsheet shows a long number: 1.23457E+12. Its other digits are lost, and
    different keys have become the same."""
    return _SHORTENED.fullmatch(text) is not None


def has_constant(raw: str) -> bool:
    """Whether a text that is otherwise JSON has a NaN or an Infinity among its tokens."""
    return ("NaN" in raw or "Infinity" in raw) and re.search("NaN|Infinity", _STRING.sub("", raw)) is not None


def read_decimal(value: object) -> int | Fault | None:
    """A number in units of 1/10,000, rounded half away from zero; exact at every size and exponent."""
    if value is None:
        return None
    if not isinstance(value, str):
        return FAULT
    text = value if isinstance(value, Number) else value.strip(WHITE_SPACE)
    if not text:
        return None
    match = _NUMBER.fullmatch(text)
    if match is None:
        return FAULT
    unscaled = _scaled_digits(match, shift=4, half_up=True)
    return FAULT if unscaled is None or abs(unscaled) >= DECIMAL_LIMIT else unscaled


def zone_of(name: str) -> ZoneInfo | None:
    """The time zone of this name; None for UTC. KeyError where it is unknown."""
    return None if name == "UTC" else ZoneInfo(name)


def read_instant(value: object, zone: ZoneInfo | None = None) -> int | Fault | None:
    """An instant in microseconds since 1970 UTC. FAULT where it is not an instant, or before 1970. An instant beyond the calendar
    is a number larger than any date, and so counts as being in the future. `zone`: of a text that names none."""
    if value is None:
        return None
    if isinstance(value, Number):
        return _read_epoch(value)
    if not isinstance(value, str):
        return FAULT
    text = value.strip(WHITE_SPACE)
    if not text:
        return None
    if match := next((found for one in _INSTANTS if (found := one.fullmatch(text))), None):
        return _instant_of(match.groupdict(), zone)
    if match := _DATE_OF_JSON.fullmatch(text):
        return int(match[1]) * 1000 if len(match[1]) < 18 else _FAR
    return _read_epoch(Number(text)) if is_number(text) else FAULT


def read_metadata(raw: str | None) -> str | Fault | None:
    """Metadata as compact JSON text: as written, without the white space between tokens. `raw`: the text of the value."""
    if raw is None or raw == "null":
        return None
    if raw.startswith('"') and is_blank_string(raw):
        return None
    text = compact_json(raw)
    return FAULT if len(text.encode()) > MAX_METADATA_BYTES or has_constant(text) else text


def compact_json(raw: str) -> str:
    """JSON text without the white space between its tokens. For valid JSON only."""
    if _SPACE.search(raw) is None:
        return raw
    return "".join(_SIGNIFICANT.findall(raw))


def is_blank_string(raw: str) -> bool:
    """Whether a JSON string token, as written, holds nothing but white space."""
    return not scanstring(raw, 1)[0].strip(WHITE_SPACE)


def _scaled_digits(match: re.Match[str], *, shift: int, half_up: bool) -> int | None:
    """value × 10^shift as an integer; the rest is rounded half away from zero, or cut. None where it is out of every range."""
    sign, whole, fraction, exponent_text = match.groups()
    fraction = fraction or ""
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return 0
    exponent = _small_int(exponent_text) - len(fraction) + shift
    if len(digits) + exponent > 40:
        return None
    if len(digits) + exponent < 0:
        return 0
    if exponent >= 0:
        magnitude = int(digits) * 10**exponent
    else:
        kept, rest = digits[:exponent], digits[exponent:]
        magnitude = int(kept or "0") + (1 if half_up and rest[0] >= "5" else 0)
    return -magnitude if sign else magnitude


def _small_int(text: str | None) -> int:
    """An exponent, limited to a size at which arithmetic is cheap and the result is the same."""
    if not text:
        return 0
    digits = text.lstrip("+-").lstrip("0") or "0"
    magnitude = int(digits) if len(digits) <= 9 else 10**9
    return -magnitude if text.startswith("-") else magnitude


def _read_epoch(number: Number) -> int | Fault:
    match = _NUMBER.fullmatch(number)
    if match is None:
        return FAULT
    whole = _scaled_digits(match, shift=0, half_up=False)
    if match.group(1) or (whole is not None and whole < _SECONDS_FROM):
        return FAULT
    milliseconds = whole is None or whole >= _MILLISECONDS_FROM
    instant = _scaled_digits(match, shift=3 if milliseconds else 6, half_up=False)
    return _FAR if instant is None else instant


def _instant_of(parts: dict[str, str | None], zone: ZoneInfo | None) -> int | Fault:
    def number(name: str) -> int:
        return int(parts.get(name) or 0)

    month = parts["month"] or ""
    try:
        day = date(number("year"), _MONTHS.index(month) + 1 if month in _MONTHS else int(month), number("day"))
    except ValueError:
        return FAULT
    hour, minute, second, fraction = number("hour"), number("minute"), number("second"), parts.get("fraction") or ""
    if hour > 24 or minute > 59 or second > 60 or (hour == 24 and (minute or second or fraction.strip("0"))):
        return FAULT
    if parts.get("weekday") not in (None, _WEEKDAYS[day.weekday()]):
        return FAULT
    seconds = (day.toordinal() - _UNIX_EPOCH_ORDINAL) * 86_400 + hour * 3600 + minute * 60 + second
    offset = _offset(parts["zone"], seconds, zone)
    if offset is None:
        return FAULT
    micros = 0 if second == 60 else int((fraction + "000000")[:6])  # a leap second is the start of the next one
    instant = (seconds - offset) * MICROSECONDS_PER_SECOND + micros
    return instant if instant >= 0 else FAULT


def _offset(named: str | None, seconds: int, zone: ZoneInfo | None) -> int | None:
    """The offset of a local time from UTC, in seconds; None where the one that is named is not possible. Of a local time that
    occurs twice the first counts. One that a zone skips is as long after the gap as it seems."""
    if named is None:
        return 0 if zone is None else local_offset(seconds, zone)
    if named[0] not in "+-":
        return 0
    hours, minutes = int(named[1:3]), int(named[3:].lstrip(":") or 0)
    if hours > 23 or minutes > 59:
        return None
    return (hours * 3600 + minutes * 60) * (-1 if named[0] == "-" else 1)


def local_offset(seconds: int, zone: ZoneInfo) -> int:
    """The offset from UTC of a local time, which is given in seconds since 1970, as if it were UTC."""
    try:
        local = _UNIX_EPOCH + timedelta(seconds=seconds)
    except OverflowError:  # the midnight after the last day of the calendar
        return 0
    offset = zone.utcoffset(local.replace(tzinfo=zone))
    assert offset is not None
    return offset // timedelta(seconds=1)
