"""Receipts: what became of each drop, one small JSON file each. They are written from the ledger, and can be written again.

receipts/received=YYYY-MM-DD/<seq>_<name>.json
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from ..core.entries import Drop, DropResult
from ..core.mapping import DIRECT
from ..core.model import on_the_calendar
from . import files
from .raw import date_of, shortened

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Counts that say something about records, but not what became of them.
_BESIDE_RECORDS = ("late", "faults", "unknown", "bare", "bare_keys")


def write(output: Path, results: Sequence[DropResult]) -> None:
    """Writes the receipts of one batch, durably."""
    paths = [receipt_path(output, result) for result in results]
    folders = {path.parent for path in paths}
    for folder in folders:
        files.make_folder(folder, within=output)
    for path, result in zip(paths, results, strict=True):
        files.write_unsynced(path, receipt(result))
    files.sync_many(paths)
    files.sync_many(folders)


def restore(output: Path, results: Iterable[DropResult]) -> int:
    """Writes the receipts that are missing or differ, durably; returns their number."""
    restored = 0
    for result in results:
        path = receipt_path(output, result)
        if not path.exists() or path.read_bytes() != receipt(result):
            write(output, [result])
            restored += 1
    return restored


def receipt_path(output: Path, result: DropResult) -> Path:
    return output / receipt_name(result.drop)


def receipt_name(drop: Drop) -> str:
    """The path of the receipt of a drop, relative to the output folder."""
    return f"receipts/received={date_of(drop.context.received_at)}/{drop.seq:08d}_{shortened(drop.name)}.json"


def discards_path(drop: Drop) -> str:
    """The path of the discarded records of a drop, relative to the output folder."""
    return f"discarded/received={date_of(drop.context.received_at)}/{drop.seq:08d}.jsonl"


def receipt(result: DropResult) -> bytes:
    """The receipt of a drop as JSON. The same ledger gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(as_dict(result)), indent=2) + b"\n"


def as_dict(result: DropResult) -> dict[str, Any]:
    """The receipt of a drop as values."""
    drop, counts = result.drop, result.counts.as_dict()
    return {
        "drop": drop.seq,
        "name": drop.name,
        "source": drop.context.source,
        "outcome": result.outcome,
        "reason": result.reason,
        "duplicate_of": result.duplicate_of,
        "received_at": instant_text(drop.context.received_at),
        "parsed_with": {
            "future_tolerance_microseconds": drop.context.tolerance,
            "records_path": drop.context.records_path,
            "mapping": None if drop.context.mapping == DIRECT else asdict(drop.context.mapping),
            "since": None if drop.context.since is None else instant_text(drop.context.since),
        },
        "sha256": drop.sha256.hex(),
        "bytes": drop.size_bytes,
        "raw": drop.raw if result.keeps_raw else None,
        "records": {key: value for key, value in counts.items() if key not in _BESIDE_RECORDS},
        "late": counts["late"],
        "field_faults": counts["faults"],
        "unknown_keys": counts["unknown"],
        "without_amount_and_price": {"orders": counts["bare"], "other_keys": counts["bare_keys"]},
        "undos": [
            {"at": instant_text(one.at), "by": one.who, "reason": one.reason, "is_revert": one.is_revert}
            for one in result.undos
        ],
    }


def instant_text(instant: int) -> str:
    """An instant in microseconds as ISO 8601 in UTC. Any number works: a write after a commit must not fail."""
    return (_EPOCH + timedelta(microseconds=on_the_calendar(instant))).isoformat().replace("+00:00", "Z")


def local_text(text: str | None, missing: str = "") -> str:
    """An instant for people: ISO 8601 in the local time zone (TZ, or that of the system) with its offset, to the second. `text`:
    ISO 8601 with an offset; None gives `missing`."""
    if text is None:
        return missing
    instant = datetime.fromisoformat(text)
    try:
        return instant.astimezone().isoformat(" ", "seconds")
    except (OverflowError, ValueError, OSError):  # at the ends of the calendar
        return instant.isoformat(" ", "seconds")
