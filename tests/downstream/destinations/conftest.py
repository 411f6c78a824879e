"""A PostgreSQL server for the tests of this folder, and a fresh database in it for each test."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.postgres import server


@pytest.fixture(scope="package")
def conninfo() -> Iterator[str]:
    with server() as conninfo:
        yield conninfo


@pytest.fixture
def database(conninfo: str) -> Iterator[str]:
    """A fresh database."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS shop WITH (FORCE)")
        connection.execute("CREATE DATABASE shop STRATEGY file_copy")
    yield conninfo.replace("dbname=postgres", "dbname=shop")
