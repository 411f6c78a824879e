"""Every kind of destination that holds rows, for the contract: how it is configured, and what is there, read by other means than
those that wrote it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
from deltalake import DeltaTable

from tests.support.following import Home

Rows = dict[str, list[tuple[Any, ...]]]  # by date


@dataclass(frozen=True)
class Place:
    """`configure`: the section of it. `rows`: of a table, with these columns, by date. `damage`: changes what is there behind its
    back. `backup`: keeps what is there, and returns what restores it. `away`: while it lasts, it cannot be reached."""

    kind: str
    configure: Callable[[Home], str]
    rows: Callable[[Home, str, tuple[str, ...]], Rows]
    damage: Callable[[Home, str, str], None]
    backup: Callable[[Home], Callable[[], None]]
    away: Callable[[Home], Any]

    @property
    def name(self) -> str:
        """Of the destination in tests."""
        return f"the_{self.kind}"


def _folder(home: Home) -> Path:
    return home.root / "place"


@contextmanager
def _folder_away(home: Home) -> Iterator[None]:
    """A file is where the folder was."""
    there = _folder(home).exists()
    if there:
        _folder(home).rename(home.root / "away")
    _folder(home).write_text("in the way")
    yield
    _folder(home).unlink()
    if there:
        (home.root / "away").rename(_folder(home))


def _folder_backup(home: Home) -> Callable[[], None]:
    shutil.copytree(_folder(home), home.root / "backup")

    def restore() -> None:
        shutil.rmtree(_folder(home))
        shutil.copytree(home.root / "backup", _folder(home))

    return restore


def _by_date(rows: Iterable[tuple[Any, ...]]) -> Rows:
    """Rows whose first column is the date, sorted."""
    found: Rows = {}
    for date, *values in rows:
        found.setdefault(str(date), []).append(tuple(values))
    return {date: sorted(those, key=repr) for date, those in found.items()}


def _mirrored(home: Home, table: str, columns: tuple[str, ...]) -> Rows:
    below = "curated" if table in ("fact_order", "order_items") else f"models/{table}"
    paths = sorted(_folder(home).glob(f"{below}/date=*/{table}.parquet"))
    return {
        path.parent.name[5:]: sorted(
            (tuple(row[name] for name in columns) for row in pq.ParquetFile(path).read().to_pylist()), key=repr
        )
        for path in paths
    }


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _damage_mirror(home: Home, table: str, date: str) -> None:
    _flip(_folder(home) / "curated" / f"date={date}" / f"{table}.parquet")


def _delta(home: Home, table: str, columns: tuple[str, ...]) -> Rows:
    path = _folder(home) / table
    if not DeltaTable.is_deltatable(str(path)):
        return {}
    rows = DeltaTable(str(path)).to_pyarrow_dataset().to_table(columns=["date", *columns]).to_pylist()
    return _by_date(tuple(row.values()) for row in rows)


def _damage_delta(home: Home, table: str, date: str) -> None:
    """Other rows in the file that the log names."""
    (uri,) = DeltaTable(str(_folder(home) / table)).file_uris(file_pruning_predicate=[("date", "=", date)])
    path = Path(uri.removeprefix("file://"))
    rows = pq.ParquetFile(path).read()
    pq.write_table(rows.slice(0, 0), path)


def postgres(dsn: str) -> Place:
    """A load into a server that runs, as a user who may create schemas."""

    def schema(home: Home) -> str:
        return "s_" + "".join(
            character for character in home.root.name.lower() if character.isalnum() or character == "_"
        )

    @contextmanager
    def away(home: Home) -> Iterator[None]:
        text = (home.root / "destinations.toml").read_text()
        home.destinations(text.replace(dsn, "host=127.0.0.1 port=1 user=tester dbname=postgres"))
        yield
        home.destinations(text)

    def rows(home: Home, table: str, columns: tuple[str, ...]) -> Rows:
        with psycopg.connect(dsn) as connection:
            there = connection.execute("SELECT to_regclass(%s)", [f"{schema(home)}.{table}"]).fetchone()
            if there == (None,):
                return {}
            names = ", ".join(["date", *columns])
            return _by_date(connection.execute(f"SELECT {names} FROM {schema(home)}.{table}").fetchall())

    def damage(home: Home, table: str, date: str) -> None:
        with psycopg.connect(dsn) as connection:
            connection.execute(f"DELETE FROM {schema(home)}.{table} WHERE date = %s", [date])

    def backup(home: Home) -> Callable[[], None]:
        with psycopg.connect(dsn) as connection:
            names = connection.execute(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = %s", [schema(home)]
            ).fetchall()
            kept = {name: connection.execute(f"SELECT * FROM {schema(home)}.{name}").fetchall() for (name,) in names}

        def restore() -> None:
            with psycopg.connect(dsn) as connection:
                for name, those in kept.items():
                    connection.execute(f"DELETE FROM {schema(home)}.{name}")
                    for row in those:
                        marks = ", ".join(["%s"] * len(row))
                        connection.execute(f"INSERT INTO {schema(home)}.{name} VALUES ({marks})", row)

        return restore

    def configure(home: Home) -> str:
        return f'[load.the_load]\ndsn = "{dsn}"\nschema = "{schema(home)}"\n'

    return Place("load", configure, rows, damage, backup, away)


MIRROR = Place(
    "mirror",
    lambda home: '[mirror.the_mirror]\nurl = "place"\n',
    _mirrored,
    _damage_mirror,
    _folder_backup,
    _folder_away,
)
TABLE = Place(
    "table", lambda home: '[table.the_table]\nurl = "place"\n', _delta, _damage_delta, _folder_backup, _folder_away
)
