"""The settings of [sources.NAME.pull] in, a Pull out. What docs/PULL.md says about each is checked here, before anything is asked
of a server."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ...core.errors import UsageError, instead_of, shown
from ...core.quantities import A_SIZE, a_duration, read_duration, read_size
from . import template
from .instants import FORMATS, Zone, read_change_time

METHODS = ("GET", "POST")
PAGED, OFFSET, SINCE, LINK, PATH, ONE = "page", "offset", "since", "link", "path", "none"
HIGH_WATER_MARK = "hwm"  # a cursor that is no path
_MOST_DAYS = 366
_MOST_PAGES = 1_000_000
_SECRET_NAMES = ("auth", "cookie", "token", "secret", "pass", "key", "sig")


@dataclass(frozen=True, slots=True)
class Next:
    """How the next page is found. `path`: of a URL or a token in a page; `more`: of a value that says whether there is one."""

    kind: str = ONE
    path: str = ""
    param: str = ""  # the parameter that the token becomes; "": the token is {cursor}, or a URL
    more: str = ""


@dataclass(frozen=True, slots=True)
class Pull:
    """Where the pages of one API are, and how they follow each other. Texts are templates: see template."""

    url: str
    method: str = "GET"
    params: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""  # JSON, whose texts are templates
    basic_auth: str = ""  # "USER:PASSWORD"
    every: float = 300.0  # seconds
    next: Next = Next()
    total: str = ""  # the path of the number of all records
    cursor: str = ""  # HIGH_WATER_MARK, or the path of the time when a record changed
    since_format: str = "iso"
    start: int = 0  # microseconds since 1970 UTC
    lookback: float = 3600.0  # seconds
    max_pages: int = 10_000
    max_page_bytes: int = 64 << 20
    timeout: float = 30.0  # seconds
    ca_file: str = ""
    folder: Path = Path()  # of the configuration file: what ${file:PATH} is relative to

    def templates(self) -> Iterator[str]:
        """All texts with placeholders."""
        yield self.url
        yield self.basic_auth
        for name, text in (*self.params, *self.headers):
            yield name
            yield text
        yield self.body

    def uses(self, placeholder: str) -> bool:
        """Whether a request has this placeholder."""
        return any(placeholder in template.names(text) for text in self.templates())

    def literal_secrets(self) -> list[str]:
        """The settings that have a secret as it is, where everybody who may read the file can see it."""
        found = [f"headers.{name}" for name, text in self.headers if _is_secret(name) and _is_literal(text)]
        found += [f"params.{name}" for name, text in self.params if _is_secret(name) and _is_literal(text)]
        found += [
            f"url ({name})"
            for name, text in parse_qsl(urlsplit(self.url).query)
            if _is_secret(name) and _is_literal(text)
        ]
        found += [
            f"body.{path}"
            for path, text in _texts(json.loads(self.body or "null"))
            if _is_secret(path) and _is_literal(text)
        ]
        return found + (["basic_auth"] if self.basic_auth and not template.secrets(self.basic_auth) else [])


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The texts in a JSON value, with their paths."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(one, f"{path}.{key}".lstrip("."))


def _is_secret(name: str) -> bool:
    return any(part in name.lower() for part in _SECRET_NAMES)


def _is_literal(text: str) -> bool:
    """Whether a text says something by itself: no placeholder stands in it."""
    return bool(text) and not template.secrets(text) and not template.names(text)


def pull_of(settings: Any, preset: Mapping[str, Any], where: str, time_zone: str, folder: Path) -> Pull:
    """The pull of a source. `preset`: the settings of its preset, which these override; `where` names the section in errors;
    `time_zone`: of the source; `folder`: what `ca_file` is relative to. UsageError says what is not allowed, and what is."""
    if not isinstance(settings, dict):
        raise UsageError(f"{where} = {shown(settings)} is not allowed; [sources.NAME.pull] is a section")
    for name in settings:
        if name not in SETTINGS:
            raise UsageError(
                f"unknown setting {shown(name)} in {where.removesuffix(':')}; {instead_of(name, SETTINGS)}"
            )
    values = merged(preset, settings)
    if "url" not in values:
        raise UsageError(f'{where} url is missing; write url = "https://…"')
    zone = Zone(time_zone)
    read = {name: SETTINGS[name](value, f"{where} {name}") for name, value in values.items() if name != "start"}
    if "start" in values:
        read["start"] = _start(values["start"], f"{where} start", zone)
    if read.get("ca_file"):
        read["ca_file"] = str(folder / read["ca_file"])
    pull = Pull(**read, folder=folder)
    _refuse_unfit(pull, where, time_zone)
    return pull


def merged(preset: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings over those of a preset, table by table; a text, number or list replaces what the preset has."""
    found = dict(preset)
    for name, value in settings.items():
        before = found.get(name, {})
        both = isinstance(before, dict) and isinstance(value, dict) and name != "next"
        found[name] = merged(before, value) if both else value
    return found


def _refuse_unfit(pull: Pull, where: str, time_zone: str) -> None:
    """UsageError where settings do not go together."""
    for text in pull.templates():
        if (unknown := template.unknown(text)) and (text != pull.body or unknown.startswith("$")):
            allowed = ", ".join(f"{{{name}}}" for name in template.NAMES)
            raise UsageError(
                f"{where}: unknown placeholder {unknown}; allowed are {allowed}, ${{VARIABLE}} and ${{file:PATH}}"
            )
    kind = pull.next.kind
    for needed, kinds in (("page", (PAGED,)), ("offset", (OFFSET,)), ("since", (SINCE,))):
        if kind in kinds and not pull.uses(needed):
            raise UsageError(
                f'{where} next = "{kind}" needs the placeholder {{{needed}}} in params, such as {needed} = "{{{needed}}}"'
            )
    if kind == SINCE and not (pull.uses("page") or pull.uses("offset")):
        raise UsageError(
            f'{where} next = "since" needs {{page}} or {{offset}} in params, too: a page full of records that changed at one '
            "instant is followed by its next page"
        )
    if kind == SINCE and "%" in pull.since_format and "%z" not in pull.since_format and time_zone != "UTC":
        raise UsageError(
            f'{where} next = "since" needs a since_format that names the zone, such as "iso" or "%Y-%m-%dT%H:%M:%S%z": with '
            f"time_zone = {shown(time_zone)}, a local time may occur twice"
        )
    if kind == SINCE and pull.cursor in ("", HIGH_WATER_MARK):
        raise UsageError(f'{where} next = "since" needs cursor = the path of the time when a record changed')
    if pull.cursor and not pull.uses("since"):
        raise UsageError(
            f'{where} cursor has no effect without the placeholder {{since}} in params, such as updated_since = "{{since}}"'
        )
    if kind != PATH and pull.uses("cursor"):
        raise UsageError(f'{where} {{cursor}} needs next = {{path = "…"}}, the path of the token in a page')
    if pull.body and pull.method != "POST":
        raise UsageError(f'{where} body needs method = "POST"')


# ---------------------------------------------------------------------------------------------------------- one setting


def _refuse(value: Any, where: str, allowed: str) -> UsageError:
    """An error that shows the value; where it may hold a secret, only what is allowed."""
    is_secret = any(part in where.lower() for part in (*_SECRET_NAMES, "basic_auth"))
    what = where if is_secret else f"{where} = {json.dumps(value, default=str)[:80]}"
    return UsageError(f"{what} is not allowed; it must be {allowed}")


def _url(value: Any, where: str) -> str:
    allowed = "a URL that begins with https:// or http://"
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        raise _refuse(str(value).partition("?")[0] if isinstance(value, str) else value, where, allowed)
    try:
        parts = urlsplit(value)
        has_user, host, _ = "@" in parts.netloc, parts.hostname, parts.port
    except ValueError:
        raise _refuse(value, where, allowed) from None
    if has_user:
        raise UsageError(f'{where} has a user or a password in it; write basic_auth = "${{USER}}:${{PASSWORD}}"')
    if parts.scheme not in ("https", "http") or not host:
        raise _refuse(value, where, allowed)
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _refuse(value, where, "a text")
    return value


def _scalar(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise _refuse(value, where, "a text or a number")
    return str(value)


def _pairs(value: Any, where: str) -> tuple[tuple[str, str], ...]:
    """A table of texts; a list is the same name several times."""
    if not isinstance(value, dict):
        raise _refuse(value, where, 'a table of texts, such as {limit = "100"}')
    return tuple(
        (name, _scalar(one, f"{where}.{name}"))
        for name, many in value.items()
        for one in (many if isinstance(many, list) else [many])
    )


def _header_pairs(value: Any, where: str) -> tuple[tuple[str, str], ...]:
    pairs = _pairs(value, where)
    for name, text in pairs:
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"{where} {shown(name)} is not the name of a header")
        if not text.isprintable():
            raise _refuse(text, f"{where}.{name}", "printable text on one line")
    return pairs


def _json(value: Any, where: str) -> str:
    if not isinstance(value, dict | list):
        raise _refuse(value, where, "a table, which is sent as JSON")
    return json.dumps(value, default=str, ensure_ascii=False)


def _path(value: Any, where: str) -> str:
    if not isinstance(value, str) or not all(value.split(".")) or not value.isprintable():
        raise _refuse(value, where, 'keys divided by dots, such as "orders.updated_at"')
    return value


def _next(value: Any, where: str) -> Next:
    simple = (LINK, PAGED, OFFSET, SINCE, ONE)
    if isinstance(value, str) and value in simple:
        return Next(value)
    if not isinstance(value, dict) or "path" not in value or not value.keys() <= {"path", "param", "more"}:
        words = ", ".join(f'"{one}"' for one in simple)
        raise _refuse(
            value, where, f'one of {words}, or a table such as {{path = "meta.next_cursor", param = "cursor"}}'
        )
    param = _text(value.get("param", ""), f"{where}.param")
    more = _path(value["more"], f"{where}.more") if value.get("more") else ""
    return Next(PATH, _path(value["path"], f"{where}.path"), param, more)


def _method(value: Any, where: str) -> str:
    if value not in METHODS:
        raise _refuse(value, where, " or ".join(f'"{one}"' for one in METHODS))
    return str(value)


def _since_format(value: Any, where: str) -> str:
    if not isinstance(value, str) or (value not in FORMATS and "%" not in value) or not value.isprintable():
        words = ", ".join(f'"{one}"' for one in FORMATS)
        raise _refuse(value, where, f'one of {words}, or a pattern of strftime such as "%Y-%m-%d %H:%M:%S"')
    if "%s" in value or "%" in datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).strftime(value):
        raise _refuse(value, where, 'a pattern whose parts strftime knows, such as "%Y-%m-%d %H:%M:%S"')
    return value


def _start(value: Any, where: str, zone: Zone) -> int:
    text = value.isoformat() if isinstance(value, datetime.date) else value  # a datetime is a date
    instant = read_change_time(text, zone) if isinstance(text, str) else None
    if instant is None:
        raise _refuse(value, where, 'an instant from 1970 on, such as "2026-01-01" or "2026-01-01T00:00:00Z"')
    return instant


def _span(lowest: float) -> Callable[[Any, str], float]:
    def read(value: Any, where: str) -> float:
        span = read_duration(value, _MOST_DAYS)
        if span is None or span < lowest:
            raise _refuse(value, where, f"{a_duration(_MOST_DAYS)}{f', at least {lowest:g} s' if lowest else ''}")
        return float(span)

    return read


def _size(value: Any, where: str) -> int:
    size = read_size(value)
    if size is None:
        raise _refuse(value, where, A_SIZE)
    return int(size)


def _pages(value: Any, where: str) -> int:
    if type(value) is not int or not 1 <= value <= _MOST_PAGES:
        raise _refuse(value, where, f"a whole number from 1 to {_MOST_PAGES}")
    return value


def _cursor(value: Any, where: str) -> str:
    return "" if value == "" else _path(value, where)


SETTINGS: dict[str, Callable[[Any, str], Any]] = {
    "url": _url,
    "method": _method,
    "params": _pairs,
    "headers": _header_pairs,
    "body": _json,
    "basic_auth": _text,
    "every": _span(0.1),
    "next": _next,
    "total": _cursor,
    "cursor": _cursor,
    "since_format": _since_format,
    "lookback": _span(0.0),
    "start": lambda value, where: value,
    "max_pages": _pages,
    "max_page_bytes": _size,
    "timeout": _span(0.01),
    "ca_file": _text,
}
