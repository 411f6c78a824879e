"""A PostgreSQL server for the tests of this folder, and an empty database in it for each test."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.postgres import server

_SCHEMAS, _ROLES = ("strandline", "other"), ("guest", "loader")  # that tests make


@pytest.fixture(scope="package")
def conninfo() -> Iterator[str]:
    with server() as conninfo:
        yield conninfo


@pytest.fixture
def database(conninfo: str) -> Iterator[str]:
    """A database without anything in it. It is emptied, since making one takes much longer."""
    shop = conninfo.replace("dbname=postgres", "dbname=shop")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = 'shop'").fetchone() is None:
            connection.execute("CREATE DATABASE shop")
        connection.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'shop'")
        connection.execute("ALTER DATABASE shop RESET ALL")
        roles = connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(_ROLES)]).fetchall()
    with psycopg.connect(shop, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {', '.join(_SCHEMAS)} CASCADE")
        for (role,) in roles:
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")
    yield shop
