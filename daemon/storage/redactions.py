"""What was erased, in the ledger: which raw copies were redacted, and who is blocked. Nothing in it names a person.

A redaction has the SHA-256 of the copy before and after, and how many records were removed. A block has a salted hash of an id:
see core/parse/blocking.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..core.parse.blocking import ORDER, SALT_BYTES, USER, Block, hash_of
from ..core.parse.naming import Ids

SCHEMA = """
CREATE TABLE redactions (           -- of raw copies: the bytes that arrived are gone
    seq INTEGER NOT NULL, at INTEGER NOT NULL, old_sha256 BLOB NOT NULL, new_sha256 BLOB NOT NULL, records INTEGER NOT NULL
);
CREATE TABLE blocked (              -- ids that are refused in the drops from `first` to `last`; NULL: in all later ones
    kind TEXT NOT NULL, salt BLOB NOT NULL, hash BLOB NOT NULL, first INTEGER NOT NULL, last INTEGER
);
"""
TABLES = ("redactions", "blocked")


@dataclass(frozen=True, slots=True)
class Redacted:
    """One redaction. `at`: when, in microseconds; `records`: how many were removed."""

    seq: int
    at: int
    old_sha256: bytes
    new_sha256: bytes
    records: int


def enter(sql: sqlite3.Connection, found: Iterable[Redacted]) -> None:
    """Enters redactions. The pages of a round that is not committed yet follow. Within a transaction of the caller."""
    found = list(found)
    sql.executemany(
        "UPDATE OR IGNORE pages SET sha256 = ? WHERE sha256 = ?", ((one.new_sha256, one.old_sha256) for one in found)
    )
    sql.executemany(
        "INSERT INTO redactions VALUES (?, ?, ?, ?, ?)",
        ((one.seq, one.at, one.old_sha256, one.new_sha256, one.records) for one in found),
    )


def all_of(sql: sqlite3.Connection) -> list[Redacted]:
    """All redactions, the newest last."""
    return [Redacted(*row) for row in sql.execute("SELECT * FROM redactions ORDER BY rowid")]


def blocks(sql: sqlite3.Connection) -> list[Block]:
    """All blocks, also those that were lifted."""
    return [Block(*row) for row in sql.execute("SELECT kind, salt, hash, first, last FROM blocked")]


def block(sql: sqlite3.Connection, ids: Ids, first: int) -> None:
    """Blocks ids in the drops from `first` on, if they are not blocked yet. All blocks have the same salt, so that an id of a
    record is hashed once. Within a transaction of the caller."""
    known = blocks(sql)
    salt = known[0].salt if known else secrets.token_bytes(SALT_BYTES)
    for kind, one in _kinds(ids):
        if not any(each.is_of(kind, one) and each.last is None for each in known):
            sql.execute("INSERT INTO blocked VALUES (?, ?, ?, ?, NULL)", (kind, salt, hash_of(salt, one), first))


def lift(sql: sqlite3.Connection, ids: Ids, last: int) -> list[str]:
    """Lifts the blocks of ids after the drop `last`; returns the ids that were not blocked. Within a transaction of the
    caller."""
    unknown = []
    for kind, one in _kinds(ids):
        found = [each for each in blocks(sql) if each.is_of(kind, one) and each.last is None]
        unknown += [] if found else [one]
        sql.executemany(
            "UPDATE blocked SET last = ? WHERE kind = ? AND hash = ? AND last IS NULL",
            ((last, kind, each.hash) for each in found),
        )
    return unknown


def _kinds(ids: Ids) -> Sequence[tuple[str, str]]:
    return [*((USER, one) for one in sorted(ids.users)), *((ORDER, one) for one in sorted(ids.orders))]
