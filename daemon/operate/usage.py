"""`usage`: what an output takes on the disk, by part; how old it is, how long it is kept, and what the next pass of ageing frees.

Lists every file once, beside a running daemon and without a lock. A file that goes meanwhile is not counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..batch.ageing import old_lines
from ..batch.commit import RESTATEMENTS
from ..batch.keeping import FOREVER
from ..core.model import DIMENSIONS, INDEX_ENTRY
from ..core.progress import Progress, silent
from ..storage import ages
from ..storage.ledger import Ledger
from ..storage.raw import date_of
from ..storage.store import FACT_FILE, ITEMS_FILE

_FOLDERS = {
    "raw": "raw", "receipts": "receipts", "discarded": "discards", "quarantine": "quarantine", "models": "models",
    "checks": "checks", ".staging": "staging",
}  # fmt: skip
_CURATED = {FACT_FILE: "fact_order", ITEMS_FILE: "order_items"} | {
    one.file: "dimensions" for one in DIMENSIONS.values()
}
PARTS = (
    "raw", "receipts", "discards", "restatements", "quarantine", "fact_order", "order_items", "dimensions", "models", "checks",
    "ledger", "staging", "other",
)  # fmt: skip
_DATED = ("received=", "date=")
_BLOCK_BYTES = 512  # of st_blocks, whatever the file system


@dataclass(slots=True)
class Part:
    """What is there of one part. `oldest`: a date, "" where it is not known. `keep`: "" where it does not go by age.
    `freed_files`, `freed_bytes`: what the next pass of ageing would remove."""

    name: str
    files: int = 0
    bytes: int = 0
    disk_bytes: int = 0
    oldest: str = ""
    keep: str = ""
    gone_through: int = 0
    freed_files: int = 0
    freed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger and the configuration say before the files are listed. `goes`: up to which drop the next pass of ageing
    removes the copies of each kind; `old_bytes`: how much of the log of restatements."""

    keep: Mapping[str, str]
    gone_through: Mapping[str, int]
    goes: Mapping[str, int]
    old_bytes: int
    order_index_bytes: int


def known(output: Path, ledger: Ledger | None, keep: Mapping[str, str], keep_us: Mapping[str, int], now: int) -> Known:
    """`ledger` is None before the first run. `keep`: the setting of each kind; `keep_us`: the same in microseconds, without those
    that are kept forever. `now`: in microseconds."""
    if ledger is None:
        return Known(keep, {}, {}, 0, 0)
    old = 0
    if ages.RESTATEMENTS in keep_us and (output / RESTATEMENTS).exists():
        before = now - keep_us[ages.RESTATEMENTS]
        old = max((end for end, _ in old_lines(ledger, output / RESTATEMENTS, before)), default=0)
    gone_through = {kind: ledger.horizon(kind) for kind in keep}
    return Known(keep, gone_through, _reaches(ledger, keep_us, now), old, len(ledger.index) * INDEX_ENTRY.itemsize)


def gather(output: Path, known: Known, progress: Progress = silent) -> dict[str, Any]:
    """The usage as JSON. Lists every file."""
    parts = {name: Part(name) for name in PARTS}
    for kind, text in known.keep.items():
        parts[kind].keep = text
        parts[kind].gone_through = known.gone_through.get(kind, 0)
    for count, (folder, entry) in enumerate(_files(output), 1):
        progress("counting files", count, 0)
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        part = parts[_part_of(folder, entry.name)]
        part.files += 1
        part.bytes += found.st_size
        part.disk_bytes += found.st_blocks * _BLOCK_BYTES
        date = _date_of(folder) or (date_of(found.st_mtime_ns // 1000) if part.name == "quarantine" else "")
        part.oldest = min(part.oldest or date, date) if date else part.oldest
        number = entry.name[: len(entry.name) - len(entry.name.lstrip("0123456789"))]
        if number and int(number) <= known.goes.get(part.name, 0):
            part.freed_files += 1
            part.freed_bytes += found.st_size
    parts["restatements"].freed_bytes = known.old_bytes
    system = os.statvfs(output)
    return {
        "output": str(output),
        "parts": [asdict(parts[name]) for name in PARTS],
        "files": sum(one.files for one in parts.values()),
        "bytes": sum(one.bytes for one in parts.values()),
        "disk_bytes": sum(one.disk_bytes for one in parts.values()),
        "order_index_bytes": known.order_index_bytes,
        "free_disk_bytes": system.f_bavail * system.f_frsize,
    }


def _reaches(ledger: Ledger, keep_us: Mapping[str, int], now: int) -> dict[str, int]:
    """Up to which drop the next pass of ageing removes copies of each kind."""
    reaches = {
        kind: ledger.reach(kind, now - keep_us[kind]) if kind in keep_us else ledger.horizon(kind)
        for kind in ages.OF_DROPS
    }
    return reaches | {ages.RECEIPTS: min(reaches[ages.RECEIPTS], reaches[ages.RAW])}


def _files(output: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file below the output, with its folder relative to that. Symbolic links are not followed."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(output / folder))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(f"{folder}/{entry.name}".lstrip("/"))
            else:
                yield folder, entry


def _part_of(folder: str, name: str) -> str:
    top = folder.partition("/")[0]
    if top == "curated":
        return _CURATED.get(name, "other")
    if folder == "state" and name.startswith("ledger.sqlite"):
        return "ledger"
    if not folder and name == RESTATEMENTS:
        return "restatements"
    return _FOLDERS.get(top, "other")


def _date_of(folder: str) -> str:
    """The date that a folder is named after."""
    name = folder.rpartition("/")[2]
    return next((name.removeprefix(one) for one in _DATED if name.startswith(one)), "")


# -------------------------------------------------------------------------------------------------------------- as text


def table(found: Mapping[str, Any]) -> str:
    """The usage for a terminal."""
    head = ("part", "files", "bytes", "on disk", "oldest", "keep", "next ageing frees")
    rows = [head, *map(_row, found["parts"])]
    rows.append(("all", *(f"{found[name]:,}" for name in ("files", "bytes", "disk_bytes")), "", "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [f"Output  {found['output']}", ""]
    for row in rows:
        cells = [
            cell.rjust(width) if 0 < column < 4 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines += ["", f"Of the ledger, the order index has {found['order_index_bytes']:,} bytes",
              f"Free disk  {found['free_disk_bytes']:,} bytes"]  # fmt: skip
    for one in found["parts"]:
        if one["gone_through"]:
            what = "batch" if one["name"] == ages.RESTATEMENTS else "drop"
            lines.append(f"Gone by age: {one['name']} up to {what} {one['gone_through']:,}")
    freed = sum(one["freed_bytes"] for one in found["parts"])
    unlimited = [one["name"] for one in found["parts"] if one["keep"] == FOREVER]
    lines += [
        "",
        f"All of it takes {found['disk_bytes']:,} bytes on the disk; {freed:,} bytes go with the next pass of ageing"
        + (f". To keep less of {', '.join(unlimited)}, set keep: `strandline docs AGES`" if unlimited else ""),
    ]
    return "\n".join(lines)


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    freed = f"{one['freed_bytes']:,} bytes" + (f" in {one['freed_files']:,} files" if one["freed_files"] else "")
    numbers = (f"{one[name]:,}" for name in ("files", "bytes", "disk_bytes"))
    return one["name"], *numbers, one["oldest"], one["keep"], freed if one["freed_bytes"] else ""
