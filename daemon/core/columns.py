"""The fast lane's alphabet: many JSON values in, one exact column out, and a mask of the values it does not vouch for.

A column comes as spans of a text (`tokens.py`). Each reader takes the common spellings of its kind, in a fixed number of
passes over arrays, and marks every other value as odd; what is odd goes to the strict lane (`scalars.py`). So a reader may
be as narrow as it likes, but what it accepts it must read exactly as the strict lane does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .model import MAX_ID_BYTES, MAX_METADATA_BYTES, MICROSECONDS_PER_DAY, SCALE
from .tokens import COLON, NEWLINE, QUOTE, SPACE, Bools, Bytes, Ints, Spans, Text

MINUS, PLUS, DOT, ZERO = b"-+.0"
_WHOLE_DIGITS = 14  # DECIMAL(18,4) holds 14 digits before the point
_POWERS_OF_TEN = 10 ** np.arange(5, dtype=np.int64)
_DAYS_BEFORE_MONTH = np.array([0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334], dtype=np.int64)
_DAYS_IN_MONTH = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Column:
    """Values with their nulls, and where the values are not to be believed."""

    values: pa.Array
    odd: Bools


class RawColumn:
    """The raw texts of one column: value i is buffer[starts[i]:stops[i]]; an absent value is an empty span at a newline."""

    def __init__(self, text: Text, spans: Spans) -> None:
        self.text, self.spans = text, spans
        self.buffer, self.starts, self.stops = text.buffer, spans.starts, spans.stops
        self.lengths = self.stops - self.starts
        self.first: Bytes = self.buffer[self.starts]
        # Absent, or the literal null (no other JSON value begins with n).
        self.null: Bools = (self.first == NEWLINE) | (self.first == ord("n"))
        self.quoted: Bools = self.first == QUOTE

    def __len__(self) -> int:
        return len(self.starts)


def read_texts(text: Text, spans: Spans) -> Column:
    """Identifiers (large_string): plain strings without escapes and outer white space, and short integers."""
    raw = RawColumn(text, spans)
    inner = raw.lengths - 2
    plain = (
        raw.quoted
        & (inner >= 1)
        & (inner <= MAX_ID_BYTES)
        & (raw.buffer[raw.starts + raw.quoted] != SPACE)
        & (raw.buffer[raw.stops - 2] != SPACE)
        & ~text.holds_escape(spans)
    )
    integer = _short_integers(raw, candidates=~plain & ~raw.null)
    quotes = plain.astype(np.int64)
    return Column(_strings(raw, raw.starts + quotes, raw.stops - quotes, plain | integer), ~(plain | integer | raw.null))


def _short_integers(raw: RawColumn, candidates: Bools) -> Bools:
    """Unsigned integers of up to 18 digits, whose text is their value."""
    found = candidates & (raw.first >= ZERO) & (raw.first <= ZERO + 9) & (raw.lengths <= 18)
    rows = np.flatnonzero(found)
    if len(rows):
        spans = Spans(raw.starts[rows], raw.stops[rows])
        digits = raw.buffer[raw.text.gather(spans)] - np.uint8(ZERO) <= 9  # wraps around below the digits
        found[rows] = np.logical_and.reduceat(digits, np.cumsum(raw.lengths[rows]) - raw.lengths[rows])
    return found


def read_metadata(text: Text, spans: Spans) -> Column:
    """Metadata (large_string): the value's own text without the white space between its tokens."""
    raw = RawColumn(text, spans)
    odd = raw.quoted | (raw.lengths > MAX_METADATA_BYTES)
    return Column(_strings(raw, raw.starts, raw.stops, ~raw.null & ~odd, compact=True), odd)


def _strings(raw: RawColumn, starts: Ints, stops: Ints, taken: Bools, *, compact: bool = False) -> pa.Array:
    """The taken spans as large_string, the others null. `compact`: without the white space outside of JSON strings."""
    if not taken.all():
        starts, stops = np.where(taken, starts, 0), np.where(taken, stops, 0)
    places = raw.text.gather(Spans(starts, stops))
    data = raw.buffer[places]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(stops - starts)])
    if compact and (data <= SPACE).any():
        inside = np.cumsum(raw.text.quotes(places), dtype=np.uint8) & 1 == 1  # each value has its quotes in pairs
        keep = inside | (data > SPACE)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep)])[offsets]
        data = data[keep]
    return pa.Array.from_buffers(
        pa.large_string(), len(raw), [_validity(taken), pa.py_buffer(offsets), pa.py_buffer(data)]
    )


def read_decimals(text: Text, spans: Spans) -> Column:
    """Numbers in units of 1/10,000 (int64): plain numbers, bare or in quotes, with up to four decimals."""
    raw = RawColumn(text, spans)
    values, plain = _plain_decimals(raw, raw.starts + raw.quoted, raw.stops - raw.quoted)
    plain &= ~raw.null
    return Column(_integers(values, plain), ~plain & ~raw.null)


def _plain_decimals(raw: RawColumn, starts: Ints, stops: Ints) -> tuple[Ints, Bools]:
    """`-?digits(.d{1,4})?` with up to 14 whole digits and no needless leading zero, times 10,000; where it is that."""
    buffer = raw.buffer
    negative = buffer[starts] == MINUS
    starts = starts + negative
    decimals = np.zeros(len(raw), np.int64)
    for count in (1, 2, 3, 4):
        decimals[(buffer[stops - count - 1] == DOT) & (decimals == 0)] = count
    whole_stops = stops - decimals - (decimals > 0)
    length = whole_stops - starts
    plain = (length >= 1) & (length <= _WHOLE_DIGITS) & ((buffer[starts] != ZERO) | (length == 1))
    whole, digits = _digits(raw.text, whole_stops, np.clip(length, 0, 8))
    plain &= digits
    if (long := np.flatnonzero(plain & (length > 8))).size:
        upper, digits = _digits(raw.text, whole_stops[long] - 8, length[long] - 8)
        whole[long] += upper * 10**8
        plain[long] &= digits
    value = whole * SCALE
    if decimals.any():
        fraction, digits = _digits(raw.text, stops, decimals)
        value += fraction * _POWERS_OF_TEN[4 - decimals]
        plain &= digits
    return np.where(negative, -value, value), plain


def _digits(text: Text, stops: Ints, count: Ints) -> tuple[Ints, Bools]:
    """The value of the `count` (0 to 8) digits that end at each place, and whether they all are digits.

    Eight bytes are one number here, the first byte its lowest: pairs of digits, then fours, then all eight are summed
    within it (as in D. Lemire's "Number parsing at a gigabyte per second", 2021).
    """
    counted = ~np.uint64(0) << (8 * (8 - np.maximum(count, 1))).astype(np.uint64)
    digits = (text.words[stops - 8] ^ np.uint64(0x3030303030303030)) & np.where(count > 0, counted, np.uint64(0))
    valid = ((digits + np.uint64(0x7676767676767676)) | digits) & np.uint64(0x8080808080808080) == 0
    pairs = digits * np.uint64(10) + (digits >> np.uint64(8))
    low = np.uint64(0x000000FF000000FF)
    fours = (pairs & low) * np.uint64(0x000F424000000064) + ((pairs >> np.uint64(16)) & low) * np.uint64(0x0000271000000001)
    return (fours >> np.uint64(32)).astype(np.int64), valid


def read_instants(text: Text, spans: Spans) -> Column:
    """Instants in microseconds since 1970 (int64): ISO 8601 text with seconds, and plain epoch numbers."""
    raw = RawColumn(text, spans)
    instants, plain = _iso_instants(raw)
    if not (plain | raw.null).all():
        numbers, bare = _plain_decimals(raw, raw.starts, raw.stops)
        bare &= ~raw.quoted & ~raw.null & (numbers >= 0)
        milliseconds = numbers >= 10**11 * SCALE
        epoch = np.where(milliseconds, numbers // (SCALE // 1000), numbers * 100 * ~milliseconds)
        instants, plain = np.where(bare, epoch, instants), plain | bare
    plain &= (instants >= 0) & ~raw.null
    return Column(_integers(instants, plain), ~plain & ~raw.null)


def _iso_instants(raw: RawColumn) -> tuple[Ints, Bools]:
    """`YYYY-MM-DD[T ]HH:MM:SS[.f{3}|.f{6}][Z|±HH:MM]` in quotes, in microseconds; where it is that."""
    start, stop = raw.starts + 1, raw.stops - 1
    plain = raw.quoted & (raw.lengths >= 21) & (raw.lengths <= 34)
    safe = np.where(plain, start, 0)  # 19 bytes may be read from here

    def at(offset: int) -> Bytes:
        return raw.buffer[np.minimum(safe + offset, len(raw.buffer) - 1)]

    def number(*offsets: int) -> Ints:
        nonlocal plain
        total = np.zeros(len(raw), np.int64)
        for offset in offsets:
            digit = at(offset) - np.uint8(ZERO)  # wraps around: what is no digit becomes larger than 9
            plain &= digit <= 9
            total = total * 10 + digit
        return total

    year, month, day = number(0, 1, 2, 3), number(5, 6), number(8, 9)
    hour, minute, second = number(11, 12), number(14, 15), number(17, 18)
    for offset, byte in ((4, MINUS), (7, MINUS), (13, COLON), (16, COLON)):
        plain &= at(offset) == byte
    plain &= (at(10) == ord("T")) | (at(10) == SPACE)
    plain &= (hour < 24) & (minute < 60) & (second < 60) & (month >= 1) & (month <= 12) & (year >= 1)
    month = np.clip(month, 0, 12)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    plain &= (day >= 1) & (day <= _DAYS_IN_MONTH[month] + (leap & (month == 2)))
    years = year - 1
    days = years * 365 + years // 4 - years // 100 + years // 400 + _DAYS_BEFORE_MONTH[month] + day - 719_163
    days += leap & (month > 2)
    instants = (days * 86_400 + hour * 3600 + minute * 60 + second) * 1_000_000
    tail, known = _iso_tail(raw, np.where(plain, start + 19, 0), np.where(plain, stop, 0))
    return instants + tail, plain & known


def _iso_tail(raw: RawColumn, start: Ints, stop: Ints) -> tuple[Ints, Bools]:
    """What follows the seconds, in microseconds to add: fraction (three or six digits), then Z or an offset or nothing."""
    lengths = stop - start
    micros = np.zeros(len(raw), np.int64)
    known = lengths >= 0

    def at(base: Ints, offset: int) -> Bytes:
        return raw.buffer[np.clip(base + offset, 0, len(raw.buffer) - 1)]

    def digits(mask: Bools, base: Ints, *offsets: int) -> Ints:
        nonlocal known
        total = np.zeros(len(raw), np.int64)
        for offset in offsets:
            digit = at(base, offset) - np.uint8(ZERO)
            known &= ~mask | (digit <= 9)
            total = total * 10 + digit
        return np.where(mask, total, 0)

    zulu = (lengths >= 1) & (at(stop, -1) == ord("Z"))
    offset_sign = at(stop, -6)
    zoned = ~zulu & (lengths >= 6) & ((offset_sign == PLUS) | (offset_sign == MINUS)) & (at(stop, -3) == COLON)
    fraction_bytes = lengths - zulu - 6 * zoned
    pointed = at(start, 0) == DOT
    milli, micro = pointed & (fraction_bytes == 4), pointed & (fraction_bytes == 7)
    known &= (fraction_bytes == 0) | milli | micro
    if (milli | micro).any():
        micros += digits(milli | micro, start, 1, 2, 3) * 1000 + digits(micro, start, 4, 5, 6)
    if zoned.any():
        hours, minutes = digits(zoned, stop, -5, -4), digits(zoned, stop, -2, -1)
        known &= ~zoned | ((hours <= 23) & (minutes <= 59))
        seconds = hours * 3600 + minutes * 60
        micros += np.where(offset_sign == MINUS, seconds, -seconds) * zoned * 1_000_000
    return micros, known


def _integers(values: Ints, valid: Bools) -> pa.Array:
    values = np.ascontiguousarray(values, dtype=np.int64)
    return pa.Array.from_buffers(pa.int64(), len(values), [_validity(valid), pa.py_buffer(values)])


def _validity(valid: Bools) -> pa.Buffer | None:
    if valid.all():
        return None
    return pa.py_buffer(np.packbits(valid, bitorder="little"))


def dates_of(instants: Ints) -> NDArray[np.int32]:
    """The UTC calendar date of each instant, in days since 1970."""
    return (instants // MICROSECONDS_PER_DAY).astype(np.int32)
