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

from ..model import DECIMAL_LIMIT, MAX_ID_BYTES, MAX_METADATA_BYTES, MICROSECONDS_PER_SECOND

WHITE_SPACE: Final = " \t\n\r\x0b\x0c"
_NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_CLOCK = r"([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?)?"
_ZONE = r"(?:([Zz]|UTC|GMT)|([+-])([0-9]{2})(?::?([0-9]{2}))?)"
# The groups of each: year, month, day, hour, minute, second, fraction, UTC, sign and hours and minutes of the offset.
INSTANT = re.compile(
    rf"([0-9]{{4}})-([0-9]{{2}})-([0-9]{{2}})(?:[Tt ]{_CLOCK}(?: ?{_ZONE}(?:\[[A-Za-z0-9_+/-]+\])?)?)?"
)
_BASIC = re.compile(
    rf"([0-9]{{4}})([0-9]{{2}})([0-9]{{2}})[Tt]([0-9]{{2}})([0-9]{{2}})([0-9]{{2}})(?:[.,]([0-9]+))?(?:{_ZONE})?"
)
_MAIL = re.compile(  # RFC 2822: the day comes first
    rf"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), )?([0-9]{{1,2}}) ([A-Z][a-z]{{2}}) ([0-9]{{4}}) "
    rf"([0-9]{{2}}):([0-9]{{2}})(?::([0-9]{{2}}))?() {_ZONE}"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH = re.compile(r"/Date\((-?[0-9]{1,15})(?:[+-][0-9]{4})?\)/|([0-9]{10}|[0-9]{13})")  # ASP.NET's; digits in quotes
_SIGNIFICANT = re.compile(r'(?:[^ \t\n\r"]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")++', re.DOTALL)
_SPACE = re.compile(r"[ \t\n\r]")
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_INEXACT = 1 << 53  # from here on, a float does not have every whole number
_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.0+)?")
_SHORTENED = re.compile(r"-?[0-9](?:[.,][0-9]+)?[Ee]\+[0-9]{2}")
_TYPES = frozenset({"$oid", "$date", "$numberInt", "$numberLong", "$numberDouble", "$numberDecimal"})
_UNIX_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
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
        if whole is None or len(whole[1]) > MAX_ID_BYTES:
            return FAULT
        is_inexact = whole[1] != value and abs(int(whole[1])) >= _INEXACT  # a float: its last digits may be lost
        return FAULT if is_inexact else int_text(whole[1])
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


def read_boolean(value: object) -> bool | Fault | None:
    """true or false, also as text in upper or lower case."""
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, str) or isinstance(value, Number):
        return FAULT
    text = value.strip(WHITE_SPACE).lower()
    return {"": None, "true": True, "false": False}.get(text, FAULT)


def read_instant(value: object) -> int | Fault | None:
    """An instant in microseconds since 1970 UTC. FAULT where it is not an instant, or before 1970. An instant beyond the calendar
    is a number larger than any date, and so counts as being in the future."""
    if value is None:
        return None
    if isinstance(value, Number):
        return _read_epoch(value)
    if not isinstance(value, str):
        return FAULT
    text = value.strip(WHITE_SPACE)
    if not text:
        return None
    if epoch := _EPOCH.fullmatch(text):
        return _read_epoch(Number(epoch[1] or epoch[2]))
    parts = parts_of(text)
    return FAULT if parts is None else _instant_of(*parts)


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


def parts_of(text: str) -> tuple[datetime, str, int | None] | None:
    """The local time of an instant's text, its fraction of a second as digits, and its offset from UTC in seconds (None: it names
    no zone). None where the text is no instant. Second 60 is the start of the next minute, 24:00:00 that of the next day."""
    if match := INSTANT.fullmatch(text) or _BASIC.fullmatch(text):
        year, month, day, hour, minute, second, fraction, utc, sign, zone_hour, zone_minute = match.groups()
    elif match := _MAIL.fullmatch(text):
        day, name, year, hour, minute, second, fraction, utc, sign, zone_hour, zone_minute = match.groups()
        month = _MONTHS.index(name) + 1 if name in _MONTHS else 0
    else:
        return None
    hours, minutes, seconds = int(hour or 0), int(minute or 0), int(second or 0)
    ends_day = hours == 24 and not minutes and not seconds and not (fraction or "").strip("0")
    if (hours > 23 and not ends_day) or minutes > 59 or seconds > 60:
        return None
    if int(zone_hour or 0) > 23 or int(zone_minute or 0) > 59:
        return None
    try:
        local = datetime(int(year), int(month), int(day)) + timedelta(hours=hours, minutes=minutes, seconds=seconds)
    except (ValueError, OverflowError):
        return None
    offset = int(zone_hour or 0) * 3600 + int(zone_minute or 0) * 60
    return local, fraction or "", None if not utc and not sign else -offset if sign == "-" else offset


def _instant_of(local: datetime, fraction: str, offset: int | None) -> int | Fault:
    days = local.toordinal() - _UNIX_EPOCH_ORDINAL
    seconds = days * 86_400 + local.hour * 3600 + local.minute * 60 + local.second - (offset or 0)
    instant = seconds * MICROSECONDS_PER_SECOND + int((fraction + "000000")[:6])
    return instant if instant >= 0 else FAULT
