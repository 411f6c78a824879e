"""A connection to PostgreSQL through ADBC: it notices a server that is gone, and its errors say what to do.

The DSN may have a password anywhere, and libpq repeats parts of it when it cannot read or use it. So what libpq says about
connecting is never shown, only recognized. Of what the server says later, the first line is shown, without passwords.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import unquote

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa

from ...core.errors import StrandlineError, Unavailable
from ..contract import DownstreamFailed

# Before the user's own, which so take precedence. A server that is gone is noticed in about a minute.
_OURS = {
    "connect_timeout": "10", "keepalives": "1", "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3",
    "tcp_user_timeout": "60000", "application_name": "strandline",
}  # fmt: skip
_SCHEMES = ("postgresql://", "postgres://")
_PASSWORD_PARAMETERS = re.compile(r"[?&](?:password|sslpassword)=([^&]*)")
_PASSWORD_WORDS = re.compile(r"\b(?:password|sslpassword)\s*=\s*('(?:[^'\\]|\\.)*'?|(?:[^\s\\]|\\.)*)")


def conninfo(dsn: str) -> str:
    """The DSN with our settings, as a URI or as key=value, whichever it is."""
    if not dsn.startswith(_SCHEMES):
        return " ".join(f"{key}={value}" for key, value in _OURS.items()) + f" {dsn}"
    path = _after_user(dsn)
    base, _, query = dsn[path:].partition("?")
    parameters = "&".join([*(f"{key}={value}" for key, value in _OURS.items()), *([query] if query else [])])
    return f"{dsn[:path]}{base}?{parameters}"


def _after_user(uri: str) -> int:
    """Where the host begins. As libpq reads it, an @ before the first / ends the user and password, which may have a ?."""
    start = uri.index("://") + 3
    at = uri.find("@", start, uri.find("/", start) if "/" in uri[start:] else len(uri))
    return at + 1 if at >= 0 else start


def secrets_of(dsn: str) -> list[str]:
    """Everything in a DSN that may be a password, as written and as meant, the longest first."""
    found = [dsn, *_PASSWORD_PARAMETERS.findall(dsn)]
    if dsn.startswith(_SCHEMES):
        user = dsn[dsn.index("://") + 3 : _after_user(dsn)].removesuffix("@")
        found.append(user.partition(":")[2])
    else:
        found += [word.strip("'") for word in _PASSWORD_WORDS.findall(dsn)]
    found += [unquote(one) for one in found] + [re.sub(r"\\(.)", r"\1", one) for one in found]
    return sorted({one for one in found if one}, key=len, reverse=True)


# --------------------------------------------------------------------------------------------------------------- errors

_AGAIN, _NEVER = Unavailable, DownstreamFailed
_Meaning = tuple[type[StrandlineError], str]  # what to raise, and what to do
_REFUSED = (
    _AGAIN,
    "the server refuses the user or the password; correct what dsn takes it from, which is read again at each attempt",
)
_NO_DATABASE = _NEVER, "the server has no such database; create it, or correct dsn"
_FULL = _AGAIN, "the server has no free connection; end some, or raise its max_connections"

# By what libpq or the server says while connecting, which has no SQLSTATE. A server may say it in another language.
_CONNECTING: dict[str, _Meaning] = {
    "password authentication failed": _REFUSED,
    "no password (supplied|was provided)": (_NEVER, "the server asks for a password, and dsn has none"),
    "pg_hba.conf": (_NEVER, "the server lets this user in from elsewhere only; see its pg_hba.conf"),
    'database "[^"]*" does not exist': _NO_DATABASE,
    'role "[^"]*" (does not exist|is not permitted)': (
        _NEVER,
        "the server has no such user that may log in; correct dsn",
    ),
    "permission denied for database": (_NEVER, "the user may not connect to this database; GRANT CONNECT to it"),
    "Connection refused|No such file or directory": (_AGAIN, "no server is listening there; start it, or correct dsn"),
    "could not translate host name": (_AGAIN, "the name of the host is not known; correct it, or the name service"),
    "timeout expired|timed out|No route to host|Network is unreachable": (_AGAIN, "the server does not answer"),
    "too many clients|remaining connection slots|too many connections": _FULL,
    "starting up|shutting down|accepting connections|recovery": (_AGAIN, "the server is starting or stopping"),
    "session is read-only|hot standby mode": (_AGAIN, "no host of dsn accepts writes now; promote one"),
    "server closed the connection|Connection reset": (_AGAIN, "the server closed the connection"),
    "certificate|SSL": (_AGAIN, "server and client do not agree on encryption; see sslmode and the certificates"),
    r"info string|percent-encoded|URI|connection option|invalid (port|\w+ value)|'uri'|host addresses|port numbers": (
        _NEVER,
        'dsn cannot be read; write "postgresql://user@host:port/database", with % and two digits for special characters, or '
        '"host=… dbname=… user=…"',
    ),
}

# By the SQLSTATE, or how it begins.
_STATES: dict[str, _Meaning] = {
    "08P01": (_NEVER, "the server does not understand what was sent"),
    "08": (_AGAIN, "the connection was lost"),
    "22": (_NEVER, "the database cannot hold a value as it is"),
    "23502": (
        _NEVER,
        "a column must not be NULL and gets no value; drop its NOT NULL, or the table, which is then made anew",
    ),
    "23505": (
        _NEVER,
        "two rows have the same key: there are rows that strandline did not load, or keys that differ only in U+0000, which "
        "PostgreSQL cannot hold; remove those rows, or drop the table, which is then made anew",
    ),
    "23": (_NEVER, "a constraint of the table refuses the rows; drop the constraint"),
    "25006": (
        _AGAIN,
        "the server accepts no writes: it is a standby, or set to read-only; with several hosts in dsn, add "
        "target_session_attrs=read-write",
    ),
    "25P": (_AGAIN, "the server ended the transaction"),
    "28": _REFUSED,
    "3D000": _NO_DATABASE,
    "40001": (_AGAIN, "another transaction changed the same rows"),
    "40P01": (_AGAIN, "it waited for another transaction, and that one for it (a deadlock)"),
    "40": (_AGAIN, "the server rolled the transaction back"),
    "42501": (
        _NEVER,
        "the user may not do that; it needs CREATE on the schema (on the database where there is no schema yet), and the tables "
        "there must belong to it",
    ),
    "53100": (_AGAIN, "the disk of the server is full; free space there"),
    "53200": (_AGAIN, "the server has no memory left"),
    "53300": _FULL,
    "53": (_AGAIN, "the server has not enough resources"),
    "55P03": (
        _AGAIN,
        "another transaction has held a lock for longer than lock_timeout; find it in pg_stat_activity, or raise lock_timeout",
    ),
    "55006": (_AGAIN, "it is in use by another session"),
    "57014": (
        _AGAIN,
        "it took longer than statement_timeout, or somebody cancelled it; raise statement_timeout if need be",
    ),
    "57": (_AGAIN, "the server ended the connection: it is stopping, restarting, or an administrator did it"),
    "58": (_AGAIN, "the server had an error of its system; see its log"),
}
_OTHERWISE = (_NEVER, "the server refuses it")
_SERVER_LINE = re.compile(r"(?:^|[\s:])(?:\w+):  (.+)")  # ERROR:  …, in whatever language
_OF_CONNECTION = ("server closed the connection", "no connection to the server", "could not receive", "could not send", "SSL",
                  "Connection reset", "Broken pipe", "terminating connection", "timed out")  # fmt: skip


def connect_error(where: str, text: str) -> StrandlineError:
    """What to raise where libpq could not connect. With several hosts, each has its reason."""
    found = [(cls, advice) for pattern, (cls, advice) in _CONNECTING.items() if re.search(pattern, text)]
    if not found:
        return Unavailable(f"{where}: could not connect: the reason is one that may repeat dsn; try it with psql")
    cls = _AGAIN if any(cls is _AGAIN for cls, _ in found) else _NEVER
    return cls(f"{where}: could not connect: " + "; ".join(advice for one, advice in found if one is cls))


def statement_error(where: str, attempted: str, text: str, state: str | None, secrets: list[str]) -> StrandlineError:
    """What to raise where a statement failed. `state`: its SQLSTATE, if the server gave one."""
    line = _SERVER_LINE.search(text)
    if not state:
        is_lost = any(one in text for one in _OF_CONNECTION) or line is None
        cls, advice = _STATES["08"] if is_lost else _OTHERWISE
    else:
        cls, advice = next((_STATES[state[:n]] for n in range(len(state), 1, -1) if state[:n] in _STATES), _OTHERWISE)
    said = line[1].split(" SQLSTATE: ")[0].strip() if line else ""
    for secret in secrets:
        said = said.replace(secret, "***")
    told = ", ".join(filter(None, [said, state and f"SQLSTATE {state}"]))
    return cls(f"{where}: could not {attempted}: {advice}" + (f" ({told})" if told else ""))


# ----------------------------------------------------------------------------------------------------------- connection


class Connection:
    """One session. Every method but `close` raises Unavailable or DownstreamFailed."""

    def __init__(self, where: str, dsn: str) -> None:
        self._where, self._secrets = where, secrets_of(dsn)
        try:
            self._session = adbc.connect(conninfo(dsn), autocommit=True)  # BEGIN and COMMIT are statements
        except (adbc.Error, ValueError) as error:
            raise connect_error(where, str(error)) from None

    def close(self) -> None:
        with suppress(Exception):  # a broken connection may be unable to say good-bye
            self._session.close()

    def run(self, attempted: str, *statements: str) -> None:
        """Executes statements. `attempted`: for errors, as in "could not …"."""
        for statement in statements:
            self._rows(attempted, statement)

    def rows(self, attempted: str, query: str) -> list[tuple]:
        """The rows of a query."""
        columns = [column.to_pylist() for column in self._rows(attempted, query)]
        return list(zip(*columns, strict=True))

    def table(self, attempted: str, query: str) -> pa.Table:
        """The rows of a query, in Arrow's types."""
        return self._rows(attempted, query)

    def copy(
        self, attempted: str, schema: str, table: str, batches: Iterator[pa.RecordBatch], columns: pa.Schema
    ) -> None:
        """Appends rows by one binary COPY. What `batches` raises is raised as it is."""
        raised: list[BaseException] = []

        def guarded() -> Iterator[pa.RecordBatch]:
            try:
                yield from batches
            except BaseException as error:  # ADBC would make a text of it
                raised.append(error)
                raise

        reader = pa.RecordBatchReader.from_batches(columns, guarded())
        try:
            with self._translated(attempted), self._session.cursor() as cursor:
                cursor.adbc_ingest(table, reader, mode="append", db_schema_name=schema)
        except StrandlineError:
            if raised:
                raise raised[0] from None
            raise

    def _rows(self, attempted: str, statement: str) -> pa.Table:
        with self._translated(attempted), self._session.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetch_arrow_table()

    @contextmanager
    def _translated(self, attempted: str) -> Iterator[None]:
        try:
            yield
        except (adbc.Error, pa.ArrowException, OSError) as error:
            state = getattr(error, "sqlstate", None)
            raise statement_error(self._where, attempted, str(error), state, self._secrets) from None
