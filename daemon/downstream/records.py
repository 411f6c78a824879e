"""state/downstream.sqlite: what each downstream was made from, the files of models and checks, and how its runs went.

It is beside the ledger, not in it: the ledger belongs to the batch that may be running. Everything in it can be made again, so a
file of another version, or one that is damaged, is removed, and everything counts as stale. It has checksums as the ledger has,
compared when it is opened: a row that is lost would let a date without a file count as up to date. Thread-safe; `refresh` may
write to it beside a running daemon.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.errors import EnvironmentFault
from ..storage import checksums, database, files
from .contract import WHOLE

VERSION = 4
ALL_DATES = WHOLE - 1  # in the table `forgotten`: of a destination that has not said yet which it has
_SCHEMA = """
CREATE TABLE downstreams (
    kind TEXT NOT NULL, name TEXT NOT NULL,
    definition TEXT NOT NULL,       -- JSON of what a reader needs to know of it: see Definition.recorded
    succeeded_at INTEGER, seconds REAL,                         -- of the last run that succeeded
    failures INTEGER NOT NULL DEFAULT 0, error TEXT, failed_at INTEGER,  -- since then
    distrusted INTEGER NOT NULL DEFAULT 0,                      -- how often; a run that began before does not count
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE has (
    kind TEXT NOT NULL, name TEXT NOT NULL, date INTEGER NOT NULL, fingerprint BLOB NOT NULL,
    PRIMARY KEY (kind, name, date)
) WITHOUT ROWID;
CREATE TABLE files (
    kind TEXT NOT NULL, name TEXT NOT NULL, date INTEGER NOT NULL, sha256 BLOB NOT NULL, rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL, PRIMARY KEY (kind, name, date)
) WITHOUT ROWID;
CREATE TABLE forgotten (            -- dates that a destination has and that are to be sent again
    kind TEXT NOT NULL, name TEXT NOT NULL, date INTEGER NOT NULL, PRIMARY KEY (kind, name, date)
) WITHOUT ROWID;
CREATE TABLE told (                 -- what receivers of notifications know: see destinations/notices.py
    name TEXT NOT NULL, date INTEGER NOT NULL, fingerprint BLOB NOT NULL, sums TEXT NOT NULL, PRIMARY KEY (name, date)
) WITHOUT ROWID;
CREATE TABLE notices (              -- `number`: of the last message; `arrived`: the last batch told; the rest: what is under way
    name TEXT PRIMARY KEY, number INTEGER NOT NULL, arrived INTEGER NOT NULL, id TEXT, body BLOB, batch INTEGER, after TEXT
) WITHOUT ROWID;
CREATE TABLE inspections (key BLOB PRIMARY KEY, found TEXT NOT NULL) WITHOUT ROWID;
"""  # inspections: of all SQL together, the last one
log = logging.getLogger("strandline")
_STATE = "kind, name, definition, succeeded_at, seconds, failures, error, failed_at"


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file of a result. An empty `sha256`: unknown, since somebody asked for a new one."""

    sha256: bytes
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class State:
    """How the runs of a downstream went. Instants in microseconds."""

    kind: str
    name: str
    definition: Mapping[str, Any]
    succeeded_at: int | None
    seconds: float | None
    failures: int
    error: str | None
    failed_at: int | None


class Records:
    """One open file. `read_only`: for any process, and only where the file exists."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._lock = threading.RLock()
        self.is_new = not path.exists()  # nothing is known of the results that there may be
        if read_only:
            self._sql = _viewed(path)
            return
        try:
            self._sql = _opened(path)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # a damaged name may be in the text of an error
            if not database.is_damage(error):
                raise
            log.warning(
                "state/downstream.sqlite cannot be used and is made anew, and so are the results of models and checks",
                extra={"cause": database.shown(error)},
            )
            for suffix in ("", "-wal", "-shm"):
                files.unlink(path.with_name(path.name + suffix))
            self.is_new = True
            self._sql = _opened(path)

    def close(self) -> None:
        self._sql.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One durable, all-or-nothing change."""
        with self._lock, database.transaction(self._sql):
            yield

    # -------------------------------------------------------------------------------------------------------- results

    def has(self, kind: str, name: str) -> dict[int, bytes]:
        """The recorded fingerprints by date."""
        return dict(self.rows("SELECT date, fingerprint FROM has WHERE kind = ? AND name = ?", kind, name))

    def files(self, kind: str, name: str) -> dict[int, ResultFile]:
        """The files of the results by date. A date without rows has none."""
        rows = self.rows("SELECT date, sha256, rows, bytes FROM files WHERE kind = ? AND name = ?", kind, name)
        return {date: ResultFile(sha256, number, size) for date, sha256, number, size in rows}

    def intend(self, kind: str, name: str, dates: Collection[int], changing: Collection[int]) -> None:
        """Before files change: forgets the fingerprints of `dates`, and what is in the files of `changing`. After a crash it is
        then known which files there may be, and that none of them can be trusted."""
        with self.transaction():
            self._forget(kind, name, dates)
            self._sql.executemany(
                "INSERT INTO files VALUES (?, ?, ?, x'', 0, 0) ON CONFLICT DO UPDATE SET sha256 = x''",
                ((kind, name, date) for date in changing),
            )

    def distrust(self, kind: str, name: str, dates: Collection[int] | None = None) -> None:
        """Forgets the fingerprints, and that the files are what was written, so that each is written again, also by a run that is
        under way."""
        with self.transaction():
            self._forget(kind, name, dates)
            self._sql.execute(
                "UPDATE downstreams SET distrusted = distrusted + 1 WHERE kind = ? AND name = ?", (kind, name)
            )
            query = "UPDATE files SET sha256 = x'' WHERE kind = ? AND name = ?"
            if dates is None:
                self._sql.execute(query, (kind, name))
            else:
                self._sql.executemany(f"{query} AND date = ?", ((kind, name, date) for date in dates))

    def distrusted(self, kind: str, name: str) -> int:
        """How often `distrust` was called for it."""
        rows = self.rows("SELECT distrusted FROM downstreams WHERE kind = ? AND name = ?", kind, name)
        return int(rows[0][0]) if rows else 0

    def remember(
        self,
        kind: str,
        name: str,
        fingerprints: Mapping[int, bytes],
        placed: Mapping[int, ResultFile],
        removed: Collection[int],
        distrusted: int | None = None,
    ) -> None:
        """Records results together with their fingerprints. Their files are durable. `distrusted`: as it was when the run began;
        if it is another number now, these results are to be made again."""
        with self.transaction():
            if distrusted not in (None, self.distrusted(kind, name)):
                fingerprints = {}
                placed = {date: replace(one, sha256=b"") for date, one in placed.items()}
            self._sql.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)",
                ((kind, name, date, one.sha256, one.rows, one.bytes) for date, one in placed.items()),
            )
            self._sql.executemany(
                "DELETE FROM files WHERE kind = ? AND name = ? AND date = ?", ((kind, name, date) for date in removed)
            )
            self._sql.executemany(
                "INSERT OR REPLACE INTO has VALUES (?, ?, ?, ?)",
                ((kind, name, date, fingerprint) for date, fingerprint in fingerprints.items()),
            )

    # --------------------------------------------------------------------------------------------------- destinations

    def set_has(self, kind: str, name: str, has: Mapping[int, bytes]) -> None:
        """Records what a destination said that it has, for whoever cannot ask it."""
        if self.has(kind, name) == has:
            return
        with self.transaction():
            self._forget(kind, name, None)
            self._sql.executemany("INSERT INTO has VALUES (?, ?, ?, ?)", ((kind, name, *one) for one in has.items()))

    def sent(self, kind: str, name: str, piece: Mapping[int, bytes | None], distrusted: int) -> None:
        """Records what a destination has of these dates now. `distrusted`: as for `remember`."""
        with self.transaction():
            self._forget(kind, name, piece)
            if distrusted != self.distrusted(kind, name):
                return
            rows = ((kind, name, date, fingerprint) for date, fingerprint in piece.items() if fingerprint is not None)
            self._sql.executemany("INSERT INTO has VALUES (?, ?, ?, ?)", rows)
            self._sql.executemany(
                "DELETE FROM forgotten WHERE kind = ? AND name = ? AND date = ?", ((kind, name, date) for date in piece)
            )

    def forget_sent(self, kind: str, name: str, dates: Collection[int] | None) -> None:
        """Marks what a destination has of these dates, or all, to be sent again."""
        self.distrust(kind, name, dates)
        rows = [(kind, name, date) for date in (dates if dates is not None else (ALL_DATES,))]
        with self.transaction():
            self._sql.executemany("INSERT OR REPLACE INTO forgotten VALUES (?, ?, ?)", rows)

    def forgotten(self, kind: str, name: str, has: Collection[int]) -> set[int]:
        """Which of the dates that a destination has are to be sent again."""
        query = "SELECT date FROM forgotten WHERE kind = ? AND name = ?"
        if (kind, name, ALL_DATES) in self.rows("SELECT * FROM forgotten WHERE kind = ? AND name = ?", kind, name):
            with self.transaction():
                rows = ((kind, name, date) for date in has)
                self._sql.executemany("INSERT OR REPLACE INTO forgotten VALUES (?, ?, ?)", rows)
                self._sql.execute(
                    "DELETE FROM forgotten WHERE kind = ? AND name = ? AND date = ?", (kind, name, ALL_DATES)
                )
        return {date for (date,) in self.rows(query, kind, name)}.intersection(has)

    def run(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Runs a statement for each row of values, in a transaction that is open."""
        self._sql.executemany(statement, rows)

    def _forget(self, kind: str, name: str, dates: Collection[int] | None) -> None:
        query = "DELETE FROM has WHERE kind = ? AND name = ?"
        if dates is None:
            self._sql.execute(query, (kind, name))
        else:
            self._sql.executemany(f"{query} AND date = ?", ((kind, name, date) for date in dates))

    # ----------------------------------------------------------------------------------------------------------- runs

    def states(self) -> list[State]:
        """All known downstreams, by kind and name."""
        return [_state(row) for row in self.rows(f"SELECT {_STATE} FROM downstreams ORDER BY kind, name")]

    def state(self, kind: str, name: str) -> State | None:
        """One of them."""
        rows = self.rows(f"SELECT {_STATE} FROM downstreams WHERE kind = ? AND name = ?", kind, name)
        return _state(rows[0]) if rows else None

    def define(self, kind: str, name: str, definition: Mapping[str, Any]) -> None:
        """Records what a downstream is. One that changed has no failures yet."""
        text = json.dumps(definition, sort_keys=True)
        with self.transaction():
            self._sql.execute(
                "INSERT INTO downstreams (kind, name, definition) VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
                "SET definition = excluded.definition, failures = 0, error = NULL, failed_at = NULL "
                "WHERE definition <> excluded.definition",
                (kind, name, text),
            )

    def succeeded(self, kind: str, name: str, now: int, seconds: float) -> None:
        """Records a run that brought everything up to date."""
        with self.transaction():
            self._sql.execute(
                "UPDATE downstreams SET succeeded_at = ?, seconds = ?, failures = 0, error = NULL, failed_at = NULL "
                "WHERE kind = ? AND name = ?",
                (now, seconds, kind, name),
            )

    def failed(self, kind: str, name: str, now: int, error: str) -> int:
        """Records a run that failed; returns how many have failed since the last success."""
        with self.transaction():
            self._sql.execute(
                "UPDATE downstreams SET failures = failures + 1, error = ?, failed_at = ? WHERE kind = ? AND name = ?",
                (error, now, kind, name),
            )
            rows = self.rows("SELECT failures FROM downstreams WHERE kind = ? AND name = ?", kind, name)
            return int(rows[0][0]) if rows else 1

    def inspection(self, key: bytes) -> str | None:
        """What was found about SQL, if it is the last that was kept."""
        rows = self.rows("SELECT found FROM inspections WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def last_inspection(self) -> str | None:
        """What was found about SQL the last time."""
        rows = self.rows("SELECT found FROM inspections")
        return str(rows[0][0]) if rows else None

    def keep_inspection(self, key: bytes, found: str) -> None:
        """Keeps what was found about SQL, in place of the last one."""
        with self.transaction():
            self._sql.execute("DELETE FROM inspections")
            self._sql.execute("INSERT INTO inspections VALUES (?, ?)", (key, found))

    def drop(self, kind: str, name: str) -> None:
        """Forgets everything of a downstream."""
        with self.transaction():
            for table in ("has", "files", "forgotten", "downstreams"):
                self._sql.execute(f"DELETE FROM {table} WHERE kind = ? AND name = ?", (kind, name))
            for table in ("told", "notices") if kind == "notify" else ():
                self._sql.execute(f"DELETE FROM {table} WHERE name = ?", (name,))

    def rows(self, query: str, *values: object) -> Sequence[tuple]:
        """The rows of a query."""
        with self._lock:
            return self._sql.execute(query, values).fetchall()


def _state(row: tuple) -> State:
    kind, name, definition, *rest = row
    return State(kind, name, json.loads(definition), *rest)


@contextmanager
def telling_damage(path: Path) -> Iterator[None]:
    """For whoever only reads: an error about the content of the file names it, and that nothing is lost with it."""
    try:
        yield
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if not database.is_damage(error):
            raise
        hint = (
            "It only records what models and checks were made from: the next run, such as strandline --once, makes it anew, and "
            "their results. The ledger is another file."
        )
        raise EnvironmentFault("read", path, database.shown(error), hint) from error


def _viewed(path: Path) -> sqlite3.Connection:
    sql = database.view(path)
    try:
        _refuse_unusable(sql, (VERSION,))
    except BaseException:
        sql.close()
        raise
    return sql


class _Damaged(sqlite3.DatabaseError):
    sqlite_errorcode = sqlite3.SQLITE_CORRUPT  # as of an error of SQLite itself


def _refuse_unusable(sql: sqlite3.Connection, versions: Collection[int]) -> int:
    """Returns the version of the schema. Raises an error of damage where it is another one, or a checksum is wrong."""
    version = int(sql.execute("PRAGMA user_version").fetchone()[0])
    if version not in versions:
        raise _Damaged(f"its schema version is {version}")
    if version and (what := checksums.damage_in(sql)):
        raise _Damaged(f"{what} is not what was written (a checksum is wrong)")
    return version


def copy(source: Path, target: Path) -> None:
    """Copies the records, as they are at a moment, to a new file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with telling_damage(source), closing(_viewed(source)) as sql, closing(sqlite3.connect(target)) as other:
        sql.backup(other)


def _opened(path: Path) -> sqlite3.Connection:
    """A connection that may write. As with the ledger, a commit that returned survives a power cut."""
    sql = sqlite3.connect(path, isolation_level=None, timeout=10.0, check_same_thread=False)
    try:
        sql.execute("PRAGMA journal_mode = WAL")
        sql.execute("PRAGMA synchronous = FULL")
        sql.execute("PRAGMA secure_delete = ON")  # an error may quote a value of somebody who is erased
        checksums.prepare(sql)
        if (found := sql.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise _Damaged(found)
        if _refuse_unusable(sql, (0, VERSION)) == 0:
            sql.execute("BEGIN IMMEDIATE")
            for statement in (_SCHEMA + checksums.SCHEMA).split(";\n"):
                sql.execute(statement)
            checksums.create(sql)
            sql.execute(f"PRAGMA user_version = {VERSION}")
            sql.execute("COMMIT")
    except BaseException:
        sql.close()
        raise
    return sql
