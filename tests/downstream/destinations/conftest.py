"""For the tests of this folder: a PostgreSQL server with an empty database for each test, and a receiver of notifications."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import psycopg
import pytest

from daemon.downstream.destinations import notify_tries
from tests.downstream.destinations.receivers import Receiver, receiving
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


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


@pytest.fixture
def quick_tries() -> Iterator[None]:
    """Delays between two tries of a notification are short."""
    with mock.patch.object(notify_tries, "_BACKOFF", notify_tries.Backoff(1, 0.01, 0.02)):
        yield
