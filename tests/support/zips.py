"""Zip archives, and broken ones."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile

ORDER = b'[{"order_id":"o_1","created_at":"2026-11-18","amount":5}]'
OTHER = b'{"order_id":"o_2","created_at":"2026-11-19"}\n'
Entry = tuple[str | zipfile.ZipInfo, bytes]


def zipped(*entries: Entry, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(sink, "w", method) as archive:
        warnings.simplefilter("ignore")  # that a name comes twice
        for name, content in entries:
            archive.writestr(name, content)
    return sink.getvalue()


def encrypted() -> bytes:
    data = bytearray(zipped(("a.json", ORDER)))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def with_wrong_sum() -> bytes:
    data = bytearray(zipped(("ok.json", OTHER), ("a.json", ORDER), method=zipfile.ZIP_STORED))
    data[data.index(b"o_1")] ^= 1
    return bytes(data)


def with_size(size: int) -> bytes:
    """An entry whose directory says another size than the stream has."""
    data = bytearray(zipped(("a.json", ORDER)))
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, size)
    return bytes(data)


def overlapping() -> bytes:
    """The same bytes, listed three times."""
    data = zipped(("a.json", ORDER))
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    directory = data[start:end] * 3
    return data[:start] + directory + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 3, 3, len(directory), start, 0)


def huge_directory() -> bytes:
    data = zipped(("a.json", ORDER))
    start = data.index(b"PK\x01\x02")
    return data[:start] + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 9, 9, 1 << 30, 0, 0)


def with_method(number: int) -> bytes:
    """An entry that says it is compressed by this method."""
    data = bytearray(zipped(("a.json", ORDER)))
    struct.pack_into("<H", data, 8, number)
    struct.pack_into("<H", data, data.index(b"PK\x01\x02") + 10, number)
    return bytes(data)
