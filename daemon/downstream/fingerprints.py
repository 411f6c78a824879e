"""What the result of each date depends on, as a fingerprint. Pure.

A fingerprint covers the definition of the downstream (its text, its options, the versions that may change a result) and the
SHA-256 of each file that the result is computed from. Two equal fingerprints mean the same result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

from .contract import WHOLE, Table, Tables, Wanted

_NONE = b"\0" * 32  # in place of the SHA-256 of a file that does not exist


def digest(*parts: bytes | str) -> bytes:
    """A hash of some parts, each with its length, so that no two lists of parts have the same."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        found.update(len(content).to_bytes(8, "little") + content)
    return found.digest()


def of_everything(base: bytes, reads: Collection[str], tables: Tables) -> Wanted:
    """The fingerprint of a result that is computed from all dates at once."""
    return {WHOLE: digest(base, *_described(reads, tables))}


def by_date(base: bytes, reads: Collection[str], tables: Tables, lookback: int) -> Wanted:
    """The fingerprints of results by date, each computed from that date and the `lookback` days before it. A date has one if any
    of these days is published."""
    undated = digest(base, *_described([name for name in reads if is_undated(tables[name])], tables))
    dated = [tables[name] for name in sorted(reads) if not is_undated(tables[name])]
    own = {date: digest(*(_sha256(table, date) for table in dated)) for date in dates_of(dated)}
    days = range(lookback + 1)
    if not lookback:
        return {date: digest(undated, found) for date, found in own.items()}
    missing = b""
    return {
        date: digest(undated, *(own.get(date - back, missing) for back in days))
        for date in sorted({day + ahead for day in own for ahead in days})
    }


def is_undated(table: Table) -> bool:
    """Whether a table is one file. An empty table counts as dated: it then has no influence on any date."""
    return WHOLE in table


def dates_of(tables: Iterable[Table]) -> set[int]:
    """All dates of some tables."""
    return {date for table in tables for date in table if date != WHOLE}


def _sha256(table: Table, date: int) -> bytes:
    file = table.get(date)
    return file.sha256 if file else _NONE


def _described(reads: Collection[str], tables: Tables) -> Iterable[bytes | str]:
    for name in sorted(reads):
        yield name
        for date, file in sorted(tables[name].items()):
            yield date.to_bytes(8, "little", signed=True)
            yield file.sha256
