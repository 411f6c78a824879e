"""JSON values as texts: the members of an object and the elements of an array, as they are written. Pure.

Nothing inside them is decoded, so the members of an envelope of 1 GB cost one pass in C.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from ..model import Ints
from ..native import bindings
from . import reference


def members_of(text: bytes) -> dict[str, bytes]:
    """The members of an object as texts; of a repeated key the last counts. NotJson where the text is not an object."""
    return dict(pairs_of(text))


def pairs_of(text: bytes) -> list[tuple[str, bytes]]:
    """The keys of an object and their values as texts, in order. NotJson where the text is not an object."""
    spans = bindings.parts(text)
    if spans is None:
        document = reference.whole(text.decode())
        return [(key, raw.encode()) for key, raw in reference.pairs(document)]
    found = [text[start:stop] for start, stop in zip(*map(Ints.tolist, spans), strict=True)]
    return [(_decoded(key), raw) for key, raw in zip(found[::2], found[1::2], strict=True)]


def _decoded(key: bytes) -> str:
    """A valid JSON string; `json` only where it has an escape, since most have none and drops may be many and small."""
    return json.loads(key) if b"\\" in key else key[1:-1].decode()


def elements_of(array: bytes) -> list[bytes]:
    """The elements of an array as texts."""
    spans = bindings.parts(array)
    if spans is None:
        return [one.encode() for one in reference.elements(reference.whole(array.decode()))]
    return [array[start:stop] for start, stop in zip(*map(Ints.tolist, spans), strict=True)]


def repeated(pairs: Iterable[tuple[str, bytes]]) -> str | None:
    """A key that an object has twice, with two values of which one may hold orders; only the last would be read."""
    seen: dict[str, bytes] = {}
    for key, text in pairs:
        before = seen.setdefault(key, text)
        if before != text and any(one.startswith((b"[", b"{")) for one in (before, text)):
            return key
    return None
