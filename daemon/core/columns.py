"""The fast lane's alphabet: many JSON values in, one exact column out, and a mask of the values it does not vouch for.

A column comes as the Python values that msgspec made of it (metadata: as its own text). Each reader takes the common
spellings of its kind, in a fixed number of passes over arrays, and marks every other value as odd; what is odd goes to the
strict lane (`scalars.py`). So a reader may be as narrow as it likes, but what it accepts it must read exactly as the
strict lane does. In particular a number has passed through a double here, and is taken only where that cannot matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType

import numpy as np
import pyarrow as pa
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from .model import MAX_ID_BYTES, MAX_METADATA_BYTES, MICROSECONDS_PER_DAY, SCALE

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

QUOTE, BACKSLASH, SPACE, MINUS, PLUS, DOT, COLON, ZERO = b'"\\ -+.:0'
_PADDING = 16  # bytes before and after a text, so that words around its ends can be read
_WHOLE_DIGITS = 14  # DECIMAL(18,4) holds 14 digits before the point
_SAFE_DOUBLE = 1e10  # up to here a double tells four decimals from five: its error × 10,000 stays below 0.024
_SAFE_DISTANCE = 0.04
_MILLISECONDS_FROM = 10**11
_POWERS_OF_TEN = 10 ** np.arange(5, dtype=np.int64)
_DAYS_BEFORE_MONTH = np.array([0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334], dtype=np.int64)
_DAYS_IN_MONTH = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Column:
    """Values with their nulls, and where the values are not to be believed."""

    values: pa.Array
    odd: Bools

    @property
    def null(self) -> Bools:
        """Where there is no value."""
        nulls: Bools = self.values.is_null().to_numpy(zero_copy_only=False)
        return nulls


class Texts:
    """Many texts in one buffer: text i is buffer[starts[i]:stops[i]]. None is an empty text here."""

    def __init__(self, texts: Sequence[str | None]) -> None:
        self.array = pa.array(texts, pa.large_string())
        _, offsets, data = self.array.buffers()
        bounds = np.frombuffer(offsets, np.int64)[: len(texts) + 1] + _PADDING
        padding = bytes(_PADDING)
        content = data.to_pybytes() if data is not None else b""
        self.buffer: Bytes = np.frombuffer(b"".join([padding, content, padding]), np.uint8)
        # The eight bytes from each place on, as one number whose lowest byte comes first.
        self.words = as_strided(self.buffer[:8].view("<u8"), (len(self.buffer) - 7,), (1,), writeable=False)
        self.starts: Ints = bounds[:-1]
        self.stops: Ints = bounds[1:]
        self.lengths = self.stops - self.starts

    def __len__(self) -> int:
        return len(self.starts)


def read_texts(values: Sequence[object], kinds: set[type] | None = None) -> Column:
    """Identifiers (large_string): strings without outer white space, and integers. `kinds`: the types of the values, if
    they are known."""
    kinds = set(map(type, values)) if kinds is None else kinds
    other = np.zeros(len(values), np.bool_)
    if not kinds <= {str, NoneType}:
        other = np.fromiter((type(value) not in (str, int, NoneType) for value in values), np.bool_, len(values))
        values = [v if type(v) is str else str(v) if type(v) is int else None for v in values]
    texts = Texts(values)  # type: ignore[arg-type]
    first, last = texts.buffer[texts.starts], texts.buffer[texts.stops - 1]
    odd = (texts.lengths == 0) | (texts.lengths > MAX_ID_BYTES) | _is_white(first) | _is_white(last)
    if texts.array.null_count:
        odd &= texts.array.is_valid().to_numpy(zero_copy_only=False)
    return Column(texts.array, odd | other)


def _is_white(byte: Bytes) -> Bools:
    """Space, and the controls from tab to carriage return."""
    return (byte == SPACE) | (byte - np.uint8(9) <= 4)  # wraps around below tab


def read_decimals(values: Sequence[object], kinds: set[type] | None = None) -> Column:
    """Numbers in units of 1/10,000 (int64): numbers of up to four decimals, bare or as text. `kinds` as above."""
    kinds = set(map(type, values)) if kinds is None else kinds
    null = np.zeros(len(values), np.bool_)
    if NoneType in kinds and None in values:
        null = np.fromiter((value is None for value in values), np.bool_, len(values))
    bare: Sequence[object] = values
    if not kinds <= {float, int} and (null.any() or not kinds <= {float, int, NoneType}):
        bare = [value if type(value) in (float, int) else np.nan for value in values]
    try:
        numbers = np.array(bare, np.float64)
    except OverflowError:  # an integer larger than any double
        numbers = np.array([v if type(v) is float or abs(v) < 10**15 else np.nan for v in bare], np.float64)  # type: ignore
    with np.errstate(invalid="ignore"):
        scaled = numbers * SCALE
        plain = (np.abs(numbers) <= _SAFE_DOUBLE) & (np.abs(scaled - np.rint(scaled)) <= _SAFE_DISTANCE)
    exact = np.where(plain, np.rint(scaled), 0).astype(np.int64)
    if str in kinds:
        spelled, numeric = _plain_decimals(Texts([value if type(value) is str else None for value in values]))
        exact, plain = np.where(numeric, spelled, exact), plain | numeric
    return Column(_integers(exact, plain), ~plain & ~null)


def _plain_decimals(texts: Texts) -> tuple[Ints, Bools]:
    """`-?digits(.d{1,4})?` with up to 14 whole digits and no needless leading zero, times 10,000; where it is that."""
    buffer, starts, stops = texts.buffer, texts.starts, texts.stops
    negative = (buffer[starts] == MINUS) & (texts.lengths > 0)
    starts = starts + negative
    decimals = np.zeros(len(texts), np.int64)
    for count in (1, 2, 3, 4):
        decimals[(buffer[stops - count - 1] == DOT) & (decimals == 0) & (stops - count - 1 > starts)] = count
    whole_stops = stops - decimals - (decimals > 0)
    length = whole_stops - starts
    plain = (length >= 1) & (length <= _WHOLE_DIGITS) & ((buffer[starts] != ZERO) | (length == 1))
    whole, digits = _digits(texts, whole_stops, np.clip(length, 0, 8))
    plain &= digits
    if (long := np.flatnonzero(plain & (length > 8))).size:
        upper, digits = _digits(texts, whole_stops[long] - 8, length[long] - 8)
        whole[long] += upper * 10**8
        plain[long] &= digits
    fraction, digits = _digits(texts, stops, decimals)
    value = whole * SCALE + fraction * _POWERS_OF_TEN[4 - decimals]
    return np.where(negative, -value, value), plain & digits


def _digits(texts: Texts, stops: Ints, count: Ints) -> tuple[Ints, Bools]:
    """The value of the `count` (0 to 8) digits that end at each place, and whether they all are digits.

    Eight bytes are one number here, the first byte its lowest: pairs of digits, then fours, then all eight are summed
    within it (as in D. Lemire's "Number parsing at a gigabyte per second", 2021).
    """
    counted = ~np.uint64(0) << (8 * (8 - np.maximum(count, 1))).astype(np.uint64)
    digits = (texts.words[stops - 8] ^ np.uint64(0x3030303030303030)) & np.where(count > 0, counted, np.uint64(0))
    valid = ((digits + np.uint64(0x7676767676767676)) | digits) & np.uint64(0x8080808080808080) == 0
    pairs = digits * np.uint64(10) + (digits >> np.uint64(8))
    low = np.uint64(0x000000FF000000FF)
    fours = (pairs & low) * np.uint64(0x000F424000000064) + ((pairs >> np.uint64(16)) & low) * np.uint64(
        0x0000271000000001
    )
    return (fours >> np.uint64(32)).astype(np.int64), valid


def read_metadata(raws: Sequence[bytes]) -> Column:
    """Metadata (large_string): each value's own text without the white space between its tokens. b"": absent."""
    blob = b"".join(raws)
    lengths = np.fromiter(map(len, raws), np.int64, len(raws))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    data = np.frombuffer(blob + b"\0", np.uint8)
    first = data[offsets[:-1]]
    null = (lengths == 0) | (first == ord("n"))  # no JSON value but null begins with n
    odd = ~null & ((first == QUOTE) | (lengths > MAX_METADATA_BYTES))
    keep = np.ones(len(blob), np.bool_) if (null | odd).any() else None
    if keep is not None:
        keep[:] = np.repeat(~null & ~odd, lengths)
    data = data[:-1]
    if (space := data <= SPACE).any():  # a control character outside strings is white space, and inside there is none
        significant = ~space | (np.cumsum(_string_quotes(data), dtype=np.uint8) & 1 == 1)
        keep = significant if keep is None else keep & significant
    if keep is not None:
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep)])[offsets]
        data = data[keep]
    validity = _validity(~null & ~odd)
    buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(data)]
    return Column(pa.Array.from_buffers(pa.large_string(), len(raws), buffers), odd)


def _string_quotes(data: Bytes) -> Bools:
    """Which bytes of JSON are quotes that open or close a string; the running sum of them is odd inside strings."""
    quotes: Bools = data == QUOTE
    escapes = np.flatnonzero(data == BACKSLASH)
    if len(escapes):  # in a run of backslashes every second one is itself escaped
        begins = np.concatenate([np.ones(1, np.bool_), np.diff(escapes) > 1])
        run_start = np.maximum.accumulate(np.where(begins, escapes, 0))
        quotes[escapes[(escapes - run_start) % 2 == 0] + 1] = False
    return quotes


def read_instants(values: Sequence[object], kinds: set[type] | None = None) -> Column:
    """Instants in microseconds since 1970 (int64): ISO 8601 text with seconds, and whole epoch numbers. `kinds` as above."""
    kinds = set(map(type, values)) if kinds is None else kinds
    null = np.zeros(len(values), np.bool_)
    if NoneType in kinds and None in values:
        null = np.fromiter((value is None for value in values), np.bool_, len(values))
    spelled: Sequence[object] = values
    if not kinds <= {str, NoneType}:
        spelled = [value if type(value) is str else None for value in values]
    instants, plain = _iso_instants(Texts(spelled))  # type: ignore[arg-type]
    if int in kinds:
        whole = [v if type(v) is int and 0 <= v < 10**15 else -1 for v in values]
        numbers = np.array(whole, np.int64)
        milliseconds = numbers >= _MILLISECONDS_FROM
        epoch = np.where(milliseconds, numbers * 1000, numbers * ~milliseconds * 1_000_000)
        instants, plain = np.where(numbers >= 0, epoch, instants), plain | (numbers >= 0)
    plain &= instants >= 0
    return Column(_integers(instants, plain), ~plain & ~null)


def _iso_instants(raw: Texts) -> tuple[Ints, Bools]:
    """`YYYY-MM-DD[T ]HH:MM:SS[.f{3}|.f{6}][Z|±HH:MM]`, in microseconds; where it is that."""
    start, stop = raw.starts, raw.stops
    plain = (raw.lengths >= 19) & (raw.lengths <= 32)
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


def _iso_tail(raw: Texts, start: Ints, stop: Ints) -> tuple[Ints, Bools]:
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
