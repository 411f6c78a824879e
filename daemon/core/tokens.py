"""The fast lane's tokenizer: where each contract field of many records lies in their bytes, found by array arithmetic.

Input: one buffer of whole JSON objects, one a line, whose grammar has been checked. Output: for each field, the span of its
value's own text in each record (or item). No value is read here. As in simdjson, quotes are paired first, so that brackets
and commas inside strings do not count; a running sum of the brackets gives the depth of each token; a member's value
reaches from its colon to the next comma or bracket of its own depth.

    {"order_id":7,"items":[{"sku":"a"},{"sku":"b"}]}
    1            1       1,2 3         2 3         1 0      depth after each token

A record is marked odd where spans alone do not tell: escaped keys, `items` given twice or not a list of objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

QUOTE, BACKSLASH, NEWLINE, SPACE, COMMA, COLON = b'"\\\n ,:'
_PADDING = b" " * 16  # a key is compared backwards from its closing quote, 12 bytes at most
_MARKS = bytes(byte in b'{}[],:"' for byte in range(256))
FIELDS = ("order_id", "created_at", "updated_at", "user_id", "amount", "currency", "metadata")
ITEM_FIELDS = ("sku", "qty", "price")


@dataclass(frozen=True, slots=True)
class Spans:
    """Where the value of one field lies: text i is buffer[starts[i]:stops[i]]. Absent: an empty span at a newline."""

    starts: Ints
    stops: Ints


@dataclass(frozen=True, slots=True)
class Tokenized:
    """The fields of n records, and of all their items one after the other: record i has `item_counts[i]` of them."""

    text: Text
    fields: Mapping[str, Spans]
    item_fields: Mapping[str, Spans]
    item_counts: Ints
    odd: Bools


class Text:
    """A buffer of JSON objects, with room before and after."""

    def __init__(self, blob: bytes) -> None:
        self.blob = b"".join([_PADDING, blob, b"\n"])
        self.buffer: Bytes = np.frombuffer(self.blob, np.uint8)
        # The eight bytes from each place on, as one number whose lowest byte comes first.
        self.words = as_strided(self.buffer[:8].view("<u8"), (len(self.buffer) - 7,), (1,), writeable=False)
        self.absent = len(self.buffer) - 1  # the position of a newline: an empty span there stands for no value
        self.escapes: Ints = np.flatnonzero(self.buffer == BACKSLASH) if b"\\" in blob else np.zeros(0, np.int64)
        self.escaped: Ints = _escaped(self.escapes)

    def holds_escape(self, spans: Spans) -> Bools:
        """Which spans have a backslash."""
        if not len(self.escapes):
            return np.zeros(len(spans.starts), np.bool_)
        return np.searchsorted(self.escapes, spans.starts) != np.searchsorted(self.escapes, spans.stops)

    def gather(self, spans: Spans) -> Ints:
        """The positions of all bytes of the spans, one span after the other."""
        lengths = spans.stops - spans.starts
        ends = np.cumsum(lengths)
        return np.arange(ends[-1] if len(ends) else 0) + np.repeat(spans.starts - (ends - lengths), lengths)

    def quotes(self, positions: Ints) -> Bools:
        """Which of these (ascending) positions have a quote that opens or closes a string."""
        quotes = self.buffer[positions] == QUOTE
        if len(self.escaped):
            place = np.minimum(np.searchsorted(self.escaped, positions), len(self.escaped) - 1)
            quotes &= self.escaped[place] != positions
        return quotes


def _escaped(escapes: Ints) -> Ints:
    """Positions that a backslash takes the meaning from. In a run of backslashes every second one is itself escaped."""
    if not len(escapes):
        return escapes
    begins = np.concatenate([np.ones(1, np.bool_), np.diff(escapes) > 1])
    run_start = np.maximum.accumulate(np.where(begins, escapes, 0))
    return escapes[(escapes - run_start) % 2 == 0] + 1


@dataclass(frozen=True, slots=True)
class _Keys:
    """Member keys: where each ends (its closing quote), and its last eight bytes as one little-endian number."""

    ends: Ints
    tails: NDArray[np.uint64]


def tokenize(blob: bytes) -> Tokenized:
    """Finds the contract fields in a buffer of valid JSON objects, one a line."""
    return _Tokens(Text(blob)).tokenized()


class _Tokens:
    """The structural tokens of a text: arrays with one element for each of `{ } [ ] , :` outside strings."""

    def __init__(self, text: Text) -> None:
        buffer = text.buffer
        marked = np.flatnonzero(np.frombuffer(text.blob.translate(_MARKS), np.bool_))
        quotes = text.quotes(marked)
        # The running sum may wrap around: its lowest bit, inside or outside a string, stays right.
        outside = (np.cumsum(quotes, dtype=np.uint8) & 1 == 0) & ~quotes
        self.text = text
        self.quotes: Ints = marked[quotes]
        self.at: Ints = marked[outside]
        kinds = buffer[self.at]
        bracket = kinds | np.uint8(0x20)  # `[` and `{` become one, as do `]` and `}`
        self.opens: Bools = bracket == ord("{")
        self.closes: Bools = bracket == ord("}")
        self.object_opens: Bools = kinds == ord("{")
        self.list_opens: Bools = kinds == ord("[")
        self.colon: Bools = kinds == COLON
        self.comma: Bools = kinds == COMMA
        steps = self.opens.view(np.int8) - self.closes.view(np.int8)
        self.depth: NDArray[np.int16] = np.cumsum(steps, dtype=np.int16)
        ends = self.closes & (self.depth == 0)
        self.record: NDArray[np.int32] = np.cumsum(ends, dtype=np.int32) - ends  # the record that a token belongs to
        self.records = int(np.count_nonzero(ends))

    def tokenized(self) -> Tokenized:
        colons, stops = self._members(1, np.ones(len(self.at), np.bool_))
        keys = self._keys(colons)
        values = self._values(colons, stops)
        owners = self.record[colons]
        fields = {name: self._spans(name, keys, owners, values, self.records) for name in FIELDS}
        is_items = self._is_key("items", keys)
        odd = self._odd_keys()
        inside, counts = self._items(colons[is_items], stops[is_items], odd)
        item_fields = self._item_fields(inside, int(counts.sum()))
        return Tokenized(self.text, fields, item_fields, counts, odd)

    def _members(self, depth: int, among: Bools) -> tuple[Ints, Ints]:
        """The colons of the members at a depth, and the token that ends each value: indexes of tokens."""
        ours = among & (((self.depth == depth) & (self.colon | self.comma)) | (self.closes & (self.depth == depth - 1)))
        sequence = np.flatnonzero(ours)
        place = np.flatnonzero(self.colon[sequence])
        return sequence[place], sequence[place + 1]

    def _keys(self, colons: Ints) -> _Keys:
        ends = _trimmed(self.text.buffer, self.at[colons] - 1, -1)
        return _Keys(ends, self.text.words[ends - 7])

    def _values(self, colons: Ints, stops: Ints) -> Spans:
        buffer = self.text.buffer
        return Spans(_trimmed(buffer, self.at[colons] + 1, 1), _trimmed(buffer, self.at[stops] - 1, -1) + 1)

    def _is_key(self, name: str, keys: _Keys) -> Bools:
        """Which keys are `name`: their last eight bytes at once, and for longer names the bytes before those."""
        quoted = f'"{name}"'.encode()
        tail = int.from_bytes(quoted[-8:].rjust(8, b"\0"), "little")
        found = keys.tails >> np.uint64(8 * max(8 - len(quoted), 0)) == np.uint64(tail >> 8 * max(8 - len(quoted), 0))
        for back in range(8, len(quoted)):
            candidates = np.flatnonzero(found)
            found[candidates] = self.text.buffer[keys.ends[candidates] - back] == quoted[-1 - back]
        return found

    def _spans(self, name: str, keys: _Keys, owners: Ints, values: Spans, count: int) -> Spans:
        """The values of one key by owner; of a key given twice the last counts, as the last assignment does."""
        chosen = np.flatnonzero(self._is_key(name, keys))
        spans = Spans(np.full(count, self.text.absent), np.full(count, self.text.absent))
        spans.starts[owners[chosen]] = values.starts[chosen]
        spans.stops[owners[chosen]] = values.stops[chosen]
        return spans

    def _odd_keys(self) -> Bools:
        """Records with a backslash in a key: its spelling does not tell which key it is."""
        odd = np.zeros(self.records, np.bool_)
        if len(self.text.escapes):
            closing = self.quotes[np.searchsorted(self.quotes, self.text.escapes) // 2 * 2 + 1]
            follows = np.searchsorted(self.at, closing)
            odd[self.record[follows[self.colon[follows]]]] = True
        return odd

    def _items(self, colons: Ints, stops: Ints, odd: Bools) -> tuple[Bools, Ints]:
        """Which tokens lie in the lists under `items`, and how many items each record has. Marks as odd the records
        whose `items` is given twice, is no list, or holds anything but objects."""
        owners = self.record[colons]
        opening = colons + 1
        value = _trimmed(self.text.buffer, self.at[colons] + 1, 1)
        is_list = self.list_opens[opening] & (self.at[opening] == value)
        absent = self.text.buffer[value] == ord("n")
        odd[owners[~is_list & ~absent]] = True
        odd[np.flatnonzero(np.bincount(owners, minlength=self.records) > 1)] = True
        is_list &= ~odd[owners]
        edges = np.zeros(len(self.at) + 1, np.int8)
        edges[opening[is_list]] += 1
        edges[stops[is_list]] -= 1
        inside = np.cumsum(edges[:-1], dtype=np.int8) == 1
        counts = self._by_record(inside & self.object_opens & (self.depth == 3))
        commas = self._by_record(inside & self.comma & (self.depth == 2))
        first = _trimmed(self.text.buffer, self.at[opening[is_list]] + 1, 1)  # the end of the list, if it is empty
        filled = np.zeros(self.records, np.int64)
        filled[owners[is_list]] = self.text.buffer[first] != ord("]")
        strange = counts != commas + filled
        odd |= strange
        if strange.any():
            inside &= ~strange[self.record]
            counts[strange] = 0
        return inside, counts

    def _by_record(self, tokens: Bools) -> Ints:
        return np.bincount(self.record[tokens], minlength=self.records)

    def _item_fields(self, inside: Bools, count: int) -> dict[str, Spans]:
        colons, stops = self._members(3, inside)
        keys = self._keys(colons)
        values = self._values(colons, stops)
        item = np.cumsum(inside & self.object_opens & (self.depth == 3)) - 1
        return {name: self._spans(name, keys, item[colons], values, count) for name in ITEM_FIELDS}


def _trimmed(buffer: Bytes, positions: Ints, step: int) -> Ints:
    """Moves each position over white space. (A control character outside strings is nothing else.)"""
    while (space := buffer[positions] <= SPACE).any():
        positions = positions + space * step
    return positions
