"""Hostile files that a file system, an API or a joker may put into an inbox, each with its expected result.

    python -m tests.hostile FOLDER      creates all of them in FOLDER (some 3 GB, most of it sparse)

The tests run all `CASES`, and compare the table in docs/INPUT.md with them.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

DAY_SECONDS = 86_400
SPARSE_BYTES = 2 << 30
STRING_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Case:
    """One file in an inbox. `outcome`: applied, quarantined, or left (in the inbox). `reason`: part of the reason in
    quarantine or in the log. `new`: the number of new orders. `discarded` and `faults`: numbers by reason and by field."""

    name: str
    make: Callable[[Path], None]  # creates it at a path
    outcome: str
    reason: str = ""
    new: int = 0
    discarded: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    file: str | bytes = ""  # its name in the inbox, if that is not `name`

    @property
    def file_name(self) -> str:
        return os.fsdecode(self.file) if self.file else self.name


def order(number: int | str, **more: object) -> dict[str, object]:
    return {"order_id": f"h_{number}", "created_at": "2026-03-02T10:00:00Z", "amount": 1} | more


def content(data: bytes) -> Callable[[Path], None]:
    return lambda path: _write(path, data)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def lines(*records: object) -> bytes:
    return b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in records)


def one(record: str) -> bytes:
    """An order with one odd field as JSON text that json.dumps cannot write."""
    return f'{{"order_id": "h_odd", "created_at": "2026-03-02", {record}}}'.encode()


def _socket(path: Path) -> None:
    here = Path.cwd()  # a socket's path has to be short
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero: never ends


def _outside(path: Path) -> None:
    target = path.parent.parent / "outside.json"
    target.write_text(json.dumps([order("outside")]))
    path.symlink_to(target)


def _sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(SPARSE_BYTES)


def _long_string(path: Path, before: bytes, after: bytes) -> None:
    block = b"a" * 1_000_000
    with open(path, "wb") as file:
        file.write(before)
        for _ in range(STRING_BYTES // len(block)):
            file.write(block)
        file.write(after)


def _bomb(path: Path) -> None:
    with gzip.open(path, "wb", 9) as file:
        for _ in range(512):
            file.write(b" " * (1 << 20))


def _bad_crc(path: Path) -> None:
    data = bytearray(gzip.compress(lines(order(1))))
    data[-8] ^= 0xFF
    path.write_bytes(bytes(data))


DEEP = 1_000_000
MANY_ITEMS = 100_000
MANY_DATES = 10_000


def _many_items() -> bytes:
    return json.dumps(
        order("items", items=[{"sku": f"p_{n}", "qty": 1, "price": 2} for n in range(MANY_ITEMS)])
    ).encode()


def _many_dates() -> bytes:
    return lines(*(order(f"date_{n}", created_at=(2000 + n) * DAY_SECONDS) for n in range(MANY_DATES)))


CASES = (
    # ---------------------------------------------------------------------------------------------- no regular files
    Case("fifo.json", os.mkfifo, "left", "FIFO"),
    Case("socket.json", _socket, "left", "socket"),
    Case("device.json", _device, "left", "device"),
    Case("link-to-a-file.json", _outside, "left", "symbolic link"),
    Case("link-to-a-folder.json", lambda path: path.symlink_to(path.parent.parent), "left", "symbolic link"),
    Case("dangling-link.json", lambda path: path.symlink_to("nowhere"), "left", "symbolic link"),
    Case("folder.json", Path.mkdir, "left", "folder"),
    # -------------------------------------------------------------------------------------------------------- names
    Case("newline", content(lines(order("newline"))), "applied", new=1, file="new\nline.json"),
    Case("quotes", content(lines(order("quotes"))), "applied", new=1, file="qu\"o'te\\.json"),
    Case("dots", content(lines(order("dots"))), "applied", new=1, file="a..%2e%2e..json"),
    Case("star", content(lines(order("star"))), "applied", new=1, file="*.json"),
    Case("brackets", content(lines(order("brackets"))), "applied", new=1, file="[x].json"),
    Case("longest-name", content(lines(order("long"))), "applied", new=1, file="n" * 250 + ".json"),
    Case("no-utf-8-name", content(lines(order("bytes"))), "applied", new=1, file=b"\xff\xfe\x80.json"),
    Case("escape-sequence", content(lines(order("escape"))), "applied", new=1, file="\x1b[31mred.json"),
    # --------------------------------------------------------------------------------------------------- compression
    Case("bomb.json.gz", _bomb, "quarantined", "max_expansion"),
    Case("truncated.json.gz", content(gzip.compress(lines(*map(order, range(500))))[:-20]), "quarantined", "truncated"),
    Case("bad-crc.json.gz", _bad_crc, "quarantined", "cannot be decompressed"),
    # --------------------------------------------------------------------------------------------------------- large
    Case("sparse.json", _sparse, "left", "holes"),
    Case("long-string.json", lambda p: _long_string(p, b'"', b'"'), "quarantined", "memory"),
    Case("long-id.json", lambda p: _long_string(p, b'[{"order_id": "', b'"}]'), "quarantined", "memory"),
    Case("deep-array.json", content(b"[" * DEEP + b"]" * DEEP), "quarantined", "deep"),
    Case("deep-objects.json", content(b'{"a":' * DEEP + b"1" + b"}" * DEEP), "quarantined", "deep"),
    Case("deep-unclosed.json", content(b"[" * DEEP), "quarantined", "deep"),
    Case("deep-line.ndjson", content(lines(order("flat"), b'{"order_id":1,"x":' + b"[" * DEEP + b"]" * DEEP + b"}")),
         "applied", new=1, discarded={"malformed_record": 1}),
    Case("many-items.json", content(_many_items()), "applied", new=1),
    Case("many-dates.ndjson", content(_many_dates()), "applied", new=MANY_DATES),
    # -------------------------------------------------------------------------------------------------------- values
    Case("null.json", content(b"null"), "quarantined", "one JSON value"),
    Case("huge-integer.json", content(one('"amount": ' + "9" * 100_000)), "applied", new=1, faults={"amount": 1}),
    Case("huge-id.ndjson", content(lines(b'{"order_id": 123456789012345678901234567890, "created_at": "2026-03-02"}',
                                         b'{"order_id": 123456789012345678901234567891, "created_at": "2026-03-02"}')),
         "applied", new=2),
    Case("nan.ndjson", content(lines(order("nan"), one('"amount": NaN'), one('"amount": -Infinity'))),
         "applied", new=2, faults={"amount": 2}),
    Case("surrogates.json", content(one(r'"currency": "\ud800", "user_id": "\udfff"')), "applied", new=1,
         faults={"currency": 1, "user_id": 1}),
    Case("utf-16.json", content(json.dumps([order("utf-16")]).encode("utf-16")), "quarantined", "UTF-16"),
    Case("empty.json", content(b""), "quarantined", "empty"),
    Case("zeros.json", content(bytes(1000)), "quarantined", "binary"),
)  # fmt: skip


# The names of the cases in docs/INPUT.md.
WHAT = {
    "fifo.json": "a FIFO",
    "socket.json": "a socket",
    "device.json": "a device",
    "link-to-a-file.json": "a symbolic link to a file outside",
    "link-to-a-folder.json": "a symbolic link to a folder",
    "dangling-link.json": "a dangling symbolic link",
    "folder.json": "a folder",
    "newline": "a name with a line break",
    "quotes": "a name with quotes and a backslash",
    "dots": "a name with `..` and percent signs",
    "star": "a name that is a pattern: `*.json`",
    "brackets": "a name that is a pattern: `[x].json`",
    "longest-name": "a name of 255 bytes",
    "no-utf-8-name": "a name that is not UTF-8",
    "escape-sequence": "a name with a terminal's escape sequence",
    "bomb.json.gz": "a gzip bomb of 512 MiB",
    "truncated.json.gz": "a truncated gzip file",
    "bad-crc.json.gz": "a gzip file with a bad check sum",
    "sparse.json": "a sparse file of 2 GiB of zeros",
    "long-string.json": "a string of 1 GB",
    "long-id.json": "an order whose id has 1 GB",
    "deep-array.json": "an array a million levels deep",
    "deep-objects.json": "an object a million levels deep",
    "deep-unclosed.json": "a million opening brackets",
    "deep-line.ndjson": "a line a million levels deep, among good ones",
    "many-items.json": "an order of 100,000 items",
    "many-dates.ndjson": "orders of 10,000 dates",
    "null.json": "`null`",
    "huge-integer.json": "an amount of 100,000 digits",
    "huge-id.ndjson": "integer ids beyond 2^64",
    "nan.ndjson": "lines with NaN and Infinity",
    "surrogates.json": "lone surrogates",
    "utf-16.json": "UTF-16",
    "empty.json": "an empty file",
    "zeros.json": "a file of zeros",
}


def documented(case: Case) -> str:
    """The row of the table in docs/INPUT.md."""
    if case.name == "folder.json":
        gets = f"left, exit code 0: {case.reason}"
    elif case.outcome == "left":
        gets = f"left, exit code 1: {case.reason}"
    elif case.outcome == "quarantined":
        gets = f"quarantine: {case.reason}"
    else:
        odd = [f"discard: {name}" for name in case.discarded] + [f"fault: {name}" for name in case.faults]
        gets = ", ".join(["applied", *odd])
    return f"| {WHAT[case.name]} | {gets} |"


def make(case: Case, folder: Path) -> Path:
    """Creates a case in a folder. Raises OSError if that is not permitted (a device)."""
    path = folder / case.file_name
    case.make(path)
    return path


def corpus(folder: Path) -> Iterator[Path]:
    """Creates all cases in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        yield make(case, folder)


if __name__ == "__main__":
    for made in corpus(Path(sys.argv[1])):
        print(made.name.encode(errors="backslashreplace").decode())
