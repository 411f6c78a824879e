"""Checksums of the ledger: whatever is changed behind its back is found, and what the ledger changes itself is not."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from daemon.core.entries import Drop
from daemon.core.errors import Corruption, EnvironmentFault
from daemon.core.model import ParseContext
from daemon.storage import checksums, database
from daemon.storage.ledger import Ledger
from tests.support.ledgers import changing

PARTITION = "INSERT OR REPLACE INTO partitions VALUES ({}, 1, 2, '3', x'01', x'02', 4, 'w', 1, 0, '[]', 0)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with a drop, two partitions and a high-water mark."""
    path = tmp_path / "ledger.sqlite"
    with closing(Ledger(path)) as ledger:
        ledger.enter([Drop(1, "a.json", "raw/a", b"\1" * 32, 5, ParseContext(7, 8, "", None))])
    with closing(changing(path)) as sql:
        for day in (20_000, 20_001, 20_001):
            sql.execute(PARTITION.format(day))
        sql.execute("INSERT OR REPLACE INTO meta VALUES ('hwm', 5)")
        sql.execute("UPDATE meta SET value = 6")
        sql.commit()
    return path


def behind(path: Path, *statements: str) -> None:
    """Changes a ledger as damage does: no checksum follows."""
    with closing(sqlite3.connect(path)) as sql:
        triggers = sql.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            sql.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            assert sql.execute(statement).rowcount > 0
        for _, text in triggers:
            sql.execute(text)
        sql.commit()


def test_a_ledger_that_changed_by_itself_opens_and_reads(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        assert ledger.hwm == 6
        assert list(ledger.partitions()) == [20_000, 20_001]
        assert list(ledger.partitions([20_001, 30_000])) == [20_001]
        assert [drop.seq for drop in ledger.uncommitted()] == [1]
        assert ledger.broken() == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE meta SET value = 7", "DELETE FROM meta", "INSERT INTO meta VALUES ('skipped_to', 3)",
        "INSERT INTO order_runs VALUES (1, 2)", "UPDATE sums SET value = value + 1 WHERE name = 'keys'",
        "DELETE FROM sums WHERE name = 'meta' AND value <> 0", "UPDATE mappings SET mapping = 'x'",
    ],
)  # fmt: skip
def test_a_small_table_that_is_not_what_was_written_opens_nowhere(path: Path, statement: str) -> None:
    behind(path, statement)
    for read_only in (False, True):
        with pytest.raises(EnvironmentFault, match=r"is damaged.*run `strandline rebuild`"):
            Ledger(path, read_only=read_only)


def test_a_changed_schema_opens_nowhere(path: Path) -> None:
    """A trigger that is damaged would keep wrong checksums."""
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("PRAGMA writable_schema = ON")
        sql.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'rows + 1', 'rows + 2') WHERE name = 'keys_sum_insert'"
        )
        sql.commit()
    with pytest.raises(EnvironmentFault, match="its schema is not what was written"):
        Ledger(path)


@pytest.mark.parametrize(
    ("statement", "read"),
    [
        ("UPDATE drops SET since = 4", lambda ledger: ledger.uncommitted()),
        ("UPDATE drops SET sha256 = x'02'", lambda ledger: ledger.drop(1)),
        ("UPDATE drops SET checksum = 4", lambda ledger: ledger.of_content(b"\1" * 32)),
        ("UPDATE partitions SET fact_sha256 = x'03' WHERE date = 20000", lambda ledger: ledger.partitions([20_000])),
        ("UPDATE partitions SET date = 20002 WHERE date = 20000", lambda ledger: ledger.partitions([20_000])),
        ("DELETE FROM partitions WHERE date = 20000", lambda ledger: ledger.partitions([20_000])),
        ('UPDATE partitions SET columns = \'[["x", "text"]]\' WHERE date = 20000', lambda ledger: ledger.columns()),
    ],
)
def test_a_row_that_is_not_what_was_written_is_never_believed(
    path: Path, statement: str, read: Callable[[Ledger], object]
) -> None:
    """Also a date whose row is lost: it would count as new, and its orders would be overwritten."""
    behind(path, statement)
    with closing(Ledger(path)) as ledger, pytest.raises(Corruption, match="a checksum is wrong"):
        read(ledger)


@pytest.mark.parametrize(
    "statement", ["DELETE FROM drops WHERE seq = 2", "DELETE FROM drops", "UPDATE drops SET batch = 1 WHERE seq = 1"]
)
def test_drops_that_are_lost_or_more_than_were_committed_are_found(path: Path, statement: str) -> None:
    with closing(changing(path)) as sql:
        sql.execute("INSERT INTO totals VALUES ('default', 'drops.applied', 1)")
        sql.execute(
            "INSERT INTO drops SELECT 2, name, raw, sha256, bytes, received_at, tolerance, records_path, source, mapping, "
            "since, 1, 'applied', reason, duplicate_of, counts, newest, checksum FROM drops"
        )
        sql.commit()
    with closing(Ledger(path)) as ledger:
        ledger.refuse_lost_drops()
    behind(path, statement)
    with closing(Ledger(path)) as ledger, pytest.raises(Corruption, match="the number of rows of the table drops is"):
        ledger.refuse_lost_drops()


@pytest.mark.parametrize("lost", ["drops", "drops_by_sha256", "drops_by_batch"])
def test_a_page_of_drops_that_lost_its_rows_is_found(path: Path, lost: str) -> None:
    """Of the table, or of an index, in which duplicates are looked up. The page says that it is empty."""
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (number,) = sql.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (lost,)).fetchone()
        (size,) = sql.execute("PRAGMA page_size").fetchone()
    content = bytearray(path.read_bytes())
    assert content[(number - 1) * size + 3 : (number - 1) * size + 5] == b"\0\1"  # one row
    content[(number - 1) * size + 3 : (number - 1) * size + 5] = b"\0\0"
    path.write_bytes(content)
    with closing(Ledger(path)) as ledger, pytest.raises(Corruption, match="the number of rows of the table drops is"):
        ledger.refuse_lost_drops()


def test_damaged_drops_are_not_copied_into_a_new_ledger(path: Path, tmp_path: Path) -> None:
    behind(path, "UPDATE drops SET since = 4")
    with closing(Ledger(tmp_path / "new.sqlite")) as ledger, pytest.raises(Corruption, match="drop 1"):
        ledger.copy_history(path)


def test_a_checksum_does_not_depend_on_what_a_python_can_print() -> None:
    """A new letter of Unicode is printable in a later Python only."""
    assert checksums.checksum("\U0001fae9", b"\xff", None, 3) == 3_727_544_242


@pytest.mark.parametrize(
    ("code", "damage", "said"),
    [
        (sqlite3.SQLITE_BUSY, False, "Another program"), (sqlite3.SQLITE_LOCKED, False, "Another program"),
        (sqlite3.SQLITE_FULL, False, "free some space"), (sqlite3.SQLITE_READONLY, False, "write state/"),
        (sqlite3.SQLITE_CANTOPEN, False, "read and write"), (sqlite3.SQLITE_IOERR, False, "Check the disk"),
        (sqlite3.SQLITE_CORRUPT, True, "rebuild"), (sqlite3.SQLITE_NOTADB, True, "rebuild"),
        (sqlite3.SQLITE_ERROR, True, "rebuild"), (sqlite3.SQLITE_CONSTRAINT, True, "rebuild"),
    ],
)  # fmt: skip
def test_every_error_of_sqlite_says_what_to_do(code: int, damage: bool, said: str) -> None:
    for extended in (code, code | 2 << 8):
        error = sqlite3.DatabaseError("it failed")
        error.sqlite_errorcode = extended
        assert database.is_damage(error) is damage
        assert said in database.advice(error)


def test_a_view_never_leaves_out_the_wal(path: Path) -> None:
    """What is committed may be in the WAL alone: where that cannot be read, an older state is no answer."""
    path.with_name("ledger.sqlite-wal").mkdir()
    with pytest.raises(sqlite3.OperationalError):
        database.view(path)
