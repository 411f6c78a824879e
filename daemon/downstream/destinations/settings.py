"""The sections [load.NAME], [table.NAME], [mirror.NAME] and [notify.NAME] of config.toml in, frozen values out.

A text may have secrets, ${VARIABLE} or ${file:PATH}: they are read when it is used, and are nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ...core.errors import UsageError, instead_of, must_be, shown
from ...core.quantities import Duration, a_duration, read_duration
from ...sources.pull import template
from ..contract import TABLES

LOAD, TABLE, MIRROR, NOTIFY = "load", "table", "mirror", "notify"
POSTGRES, REDSHIFT = "postgres", "redshift"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss", "adl", "azure", "file")
# May hold a secret: an error does not show the value
_PRIVATE = {
    "dsn",
    "url",
    "options",
    "headers",
    "secret",
    "command",
}
Read = Callable[[Any], Any]  # a TOML value in, the setting out; None where it is not allowed


def _setting(read: Read, allowed: str, default: Any = MISSING, choices: Sequence[str] = ()) -> Any:
    metadata = {"read": read, "allowed": allowed, "choices": choices}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


def _text(allowed: str, pattern: str = r"[^\x00-\x1f]+", default: Any = MISSING) -> Any:
    """A text; the default is allowed, too."""

    def read(value: Any) -> str | None:
        return value if isinstance(value, str) and (value == default or re.fullmatch(pattern, value)) else None

    return _setting(read, allowed, default)


def _texts(allowed: str) -> Any:
    def read(value: Any) -> tuple[str, ...] | None:
        is_list = isinstance(value, list) and all(isinstance(one, str) and one and "\0" not in one for one in value)
        return tuple(value) if is_list else None

    return _setting(read, allowed, ())


def _table_of_texts(allowed: str) -> Any:
    def read(value: Any) -> dict[str, str] | None:
        is_table = isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
        return dict(value) if is_table else None

    return _setting(read, allowed, {})


def _span(default: float, most_days: int, least: float = 0) -> Any:
    """A time span of at least so many seconds."""

    def read(value: Any) -> Duration | None:
        span = read_duration(value, most_days)
        return span if span is not None and span >= least else None

    allowed = a_duration(most_days) + (f"; not below {least:g} s" if least else "")
    return _setting(read, allowed, Duration(default))


def _whole(default: int, low: int, high: int) -> Any:
    def read(value: Any) -> int | None:
        return value if type(value) is int and low <= value <= high else None

    return _setting(read, f"a whole number from {low} to {high}", default)


def _one_of(*choices: str) -> Any:
    allowed = "one of " + ", ".join(f'"{choice}"' for choice in choices)
    return _setting(lambda value: value if value in choices else None, allowed, choices[0], choices)


def _url() -> Any:
    def read(value: Any) -> str | None:
        if not isinstance(value, str) or not value.strip():
            return None
        try:
            scheme = urlsplit(value).scheme
        except ValueError:  # a bracket that is open
            return None
        return value if "://" not in value or scheme in _SCHEMES else None

    return _setting(read, 'a URL such as "s3://bucket/folder", "gs://…", "az://…", or the path of a folder')


def _tables() -> Any:
    return _texts('a list of tables and models, such as ["fact_order", "daily_revenue"]; [] for all')


@dataclass(frozen=True, kw_only=True)
class Destination:
    """What all have."""

    kind: str = field(init=False)
    name: str
    folder: Path = Path()  # of the configuration file: what ${file:PATH} and paths are relative to

    def values(self) -> dict[str, Any]:
        """The settings of its section."""
        return {one.name: getattr(self, one.name) for one in fields(self) if "read" in one.metadata}

    def texts(self) -> Iterator[str]:
        """All texts, which may have secrets."""
        for value in self.values().values():
            if isinstance(value, str):
                yield value
            elif isinstance(value, tuple | Mapping):
                yield from value.values() if isinstance(value, Mapping) else value

    @property
    def where(self) -> str:
        """How errors name it."""
        return f"[{self.kind}.{self.name}]"

    @property
    def place(self) -> str:
        """Where it is, for people: as it is written, without what a user or a query in a URL may hold."""
        written = str(self.values().get("url") or "")
        scheme, separator, rest = written.partition("://")
        return f"{scheme}{separator}{rest.partition('?')[0].rpartition('@')[2]}"


@dataclass(frozen=True, kw_only=True)
class Load(Destination):
    """A database."""

    kind: str = field(default=LOAD, init=False)
    dsn: str = _text('a URI such as "postgresql://user@host/database", or "${VARIABLE}"')
    schema: str = _text("a name of small letters, digits and _, 63 at most", r"[a-z_][a-z0-9_]{0,62}", "strandline")
    tables: tuple[str, ...] = _tables()
    dialect: str = _one_of(POSTGRES, REDSHIFT)
    mirror: str = _text("the NAME of a [mirror.NAME]", _NAME.pattern, "")  # Redshift copies from there
    iam_role: str = _text('the ARN of a role, or "default"', r"[!-~]+", "default")  # of Redshift
    lock_timeout: Duration = _span(30, 1)
    statement_timeout: Duration = _span(3600, 7)
    time_limit: Duration = _span(6 * 3600, 30, least=1)

    @property
    def place(self) -> str:
        return f"{self.dialect}, schema {self.schema}"


@dataclass(frozen=True, kw_only=True)
class Stored(Destination):
    """Files in a bucket, or in a folder of this machine."""

    url: str = _url()
    tables: tuple[str, ...] = _tables()
    options: Mapping[str, str] = _table_of_texts('a table of texts, such as { endpoint = "http://…" }')
    time_limit: Duration = _span(6 * 3600, 30, least=1)

    @property
    def local_folder(self) -> Path | None:
        """The folder, where it is one of this machine. Not known where a part of `url` is a secret."""
        if template.secrets(self.url):
            return None
        if "://" not in self.url:
            return self.folder / self.url
        return Path(unquote(urlsplit(self.url).path)) if self.url.startswith("file://") else None


@dataclass(frozen=True, kw_only=True)
class Table(Stored):
    """Delta Lake."""

    kind: str = field(default=TABLE, init=False)
    vacuum: Duration = _span(30 * 86400, 3650)  # files that no version of this age needs are removed; 0: never
    checkpoint: int = _whole(10, 1, 1_000_000)  # every so many commits


@dataclass(frozen=True, kw_only=True)
class Mirror(Stored):
    """Object storage."""

    kind: str = field(default=MIRROR, init=False)


@dataclass(frozen=True, kw_only=True)
class Notify(Destination):
    """A webhook or a command."""

    kind: str = field(default=NOTIFY, init=False)
    url: str = _text('a URL such as "https://host/path"', r"(https?://|\$\{)[!-~]+", "")
    command: tuple[str, ...] = _texts('a program and its arguments, such as ["/usr/local/bin/tell", "orders"]')
    headers: Mapping[str, str] = _table_of_texts('a table of texts, such as { Authorization = "Bearer ${TOKEN}" }')
    secret: str = _text('"${VARIABLE}" or "${file:PATH}"', r"\$\{[^}]+\}", "")
    ca_file: str = _text("the path of a file with certificates", default="")
    timeout: Duration = _span(10, 1)  # of one try
    attempts: int = _whole(3, 1, 100)  # of one round

    @property
    def place(self) -> str:
        return super().place if self.url else self.command[0]


# In the order of a round.
KINDS: dict[str, type[Destination]] = {MIRROR: Mirror, LOAD: Load, TABLE: Table, NOTIFY: Notify}
Destinations = tuple[Destination, ...]  # those of a kind together, in the order of KINDS


def destinations_of(content: Mapping[str, Any], path: Path) -> Destinations:
    """The destinations of a file. `content`: its sections load, table, mirror and notify. UsageError says what is not allowed."""
    found: dict[str, Destination] = {}
    for kind, cls in KINDS.items():
        sections = content.get(kind, {})
        if not isinstance(sections, dict) or not all(isinstance(one, dict) for one in sections.values()):
            raise UsageError(f"[{kind}] in {path} is not allowed; [{kind}.NAME] is a section")
        for name, settings in sections.items():
            where = f"[{kind}.{name}] in {path}"
            if not _NAME.fullmatch(name):
                raise UsageError(
                    f"{where}: the name must be a small letter, then small letters, digits and _ (63 at most)"
                )
            if name in (*TABLES, "drops", "discards", "restatements"):
                raise UsageError(f"{where}: {name} is the name of a table of strandline; choose another one")
            if name in found:
                raise UsageError(f"{where}: there is {found[name].where}, too; a name can be given once")
            one = _read(cls, name, settings, where, path.parent.resolve())
            if twin := next((other for other in found.values() if _same_place(one, other)), None):
                raise UsageError(f"{where}: {twin.where} is at the same place; one would undo what the other sends")
            found[name] = one
    for one in found.values():
        _refuse_unfit(one, found, f"{one.where} in {path}")
    return tuple(found.values())


def _read(cls: type[Destination], name: str, settings: Mapping[str, Any], where: str, folder: Path) -> Destination:
    known = {one.name: one for one in fields(cls) if "read" in one.metadata}
    values: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in known:
            raise UsageError(f"unknown setting {shown(key)} in {where}; {instead_of(key, known)}")
        values[key] = known[key].metadata["read"](value)
        if values[key] is None:
            told = "" if key in _PRIVATE else f" = {shown(value)}"
            wanted = must_be(known[key].metadata["allowed"], value, known[key].metadata["choices"])
            raise UsageError(f"{where} {key}{told} is not allowed; {wanted}")
    for key, one in known.items():
        if one.default is MISSING and one.default_factory is MISSING and key not in values:
            raise UsageError(f"{where} {key} is missing; it must be {one.metadata['allowed']}")
    return cls(name=name, folder=folder, **values)


def _same_place(one: Destination, other: Destination) -> bool:
    """Whether two that hold rows are at one place, as far as their settings say."""
    if isinstance(one, Load) and isinstance(other, Load):
        return (one.dsn, one.schema) == (other.dsn, other.schema)
    if isinstance(one, Stored) and isinstance(other, Stored):
        return (one.url.rstrip("/"), one.options) == (other.url.rstrip("/"), other.options)
    return False


def _refuse_unfit(one: Destination, others: Mapping[str, Destination], where: str) -> None:
    """UsageError where settings do not go together, or a text looks like a secret and is none."""
    for text in one.texts():
        if (unknown := template.unknown(text)) and unknown.startswith("$"):
            raise UsageError(f"{where}: unknown placeholder {unknown}; allowed are ${{VARIABLE}} and ${{file:PATH}}")
    if isinstance(one, Notify) and bool(one.url) == bool(one.command):
        raise UsageError(f"{where}: write one of url and command")
    if isinstance(one, Notify) and one.command and (one.headers or one.ca_file or one.secret):
        raise UsageError(f"{where}: headers, ca_file and secret go with url, not with command")
    if isinstance(one, Notify) and not one.timeout:
        raise UsageError(f"{where}: timeout = 0 leaves no time for an answer; write a longer one")
    if isinstance(one, Load) and one.dialect == REDSHIFT and not isinstance(others.get(one.mirror), Mirror):
        raise UsageError(f"{where}: Redshift copies from a mirror; write mirror = the NAME of a [mirror.NAME]")
    if isinstance(one, Load) and one.dialect != REDSHIFT and one.mirror:
        raise UsageError(f'{where}: mirror goes with dialect = "redshift"')
