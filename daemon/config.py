"""config.toml and the environment in, one frozen, validated Config out. The only room that knows the names of settings.

Relative paths in the file are relative to the file; in environment variables, to the working directory. An unknown key or
variable is an error that names it and what is allowed.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from .core.errors import UsageError
from .core.retry import Backoff

PREFIX = "STRANDLINE_"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)")
_SIZE_UNITS = {
    "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}  # fmt: skip
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_DURATION_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Bytes(int):
    """A size in bytes; written as a number, or as text with a unit ("256MiB")."""


class Duration(float):
    """A time span in seconds; written as a number, or as text with a unit ("1d")."""


def _setting(default: Any, check: Callable[[Any], bool] = lambda _: True, allowed: str = "") -> Any:
    return field(default=default, metadata={"check": check, "allowed": allowed})


def _one_of(default: str, *choices: str) -> Any:
    return _setting(default, lambda value: value in choices, "one of " + ", ".join(map(repr, choices)))


def _positive(default: Any) -> Any:
    return _setting(default, lambda value: value > 0, "more than 0")


def _not_negative(default: Any) -> Any:
    return _setting(default, lambda value: value >= 0, "0 or more")


@dataclass(frozen=True)
class Paths:
    inbox: Path = _setting(Path("inbox"))
    output: Path = _setting(Path("output"))


@dataclass(frozen=True)
class Watch:
    mode: str = _one_of("auto", "auto", "native", "polling")
    settle_seconds: float = _not_negative(1.0)
    rescan_seconds: float = _positive(10.0)


@dataclass(frozen=True)
class Batch:
    max_drops: int = _positive(1000)
    max_bytes: Bytes = _positive(Bytes(256 << 20))
    linger_seconds: float = _not_negative(0.05)


@dataclass(frozen=True)
class Input:
    records_path: str = _setting("")
    max_drop_bytes: Bytes = _positive(Bytes(8 << 30))
    max_expansion: int = _positive(200)


@dataclass(frozen=True)
class Orders:
    future_tolerance: Duration = _not_negative(Duration(86_400))


@dataclass(frozen=True)
class Retry:
    attempts: int = _positive(5)
    initial_delay_seconds: float = _positive(0.5)
    max_delay_seconds: float = _positive(30.0)

    @property
    def backoff(self) -> Backoff:
        return Backoff(self.attempts, self.initial_delay_seconds, self.max_delay_seconds)


@dataclass(frozen=True)
class Http:
    enabled: bool = _setting(True)
    host: str = _setting("127.0.0.1")
    port: int = _setting(10464, lambda value: 0 <= value <= 65_535, "0 to 65535")


@dataclass(frozen=True)
class Metrics:
    textfile: str = _setting("")


@dataclass(frozen=True)
class Log:
    level: str = _one_of("info", "debug", "info", "warning", "error")
    format: str = _one_of("auto", "auto", "console", "json")


@dataclass(frozen=True)
class Engine:
    memory_limit: Bytes = _positive(Bytes(1 << 30))
    workers: int = _not_negative(0)
    scheduler: str = _setting("")

    @property
    def worker_count(self) -> int:
        """How many processes to use: as set, or as many as there are cores that this process may use."""
        if self.workers:
            return self.workers
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Config:
    """Every setting, section by section, as in config.toml."""

    paths: Paths = Paths()
    watch: Watch = Watch()
    batch: Batch = Batch()
    input: Input = Input()
    orders: Orders = Orders()
    retry: Retry = Retry()
    http: Http = Http()
    metrics: Metrics = Metrics()
    log: Log = Log()
    engine: Engine = Engine()


def load(path: Path | None, environment: Mapping[str, str]) -> Config:
    """The configuration. `path` None: ./config.toml, or the defaults if there is none. UsageError says what is wrong."""
    named = path is not None
    path = path or Path("config.toml")
    values: dict[str, dict[str, Any]] = {}
    if named or path.exists():
        values = _read_file(path)
    for variable, text in environment.items():
        if variable.startswith(PREFIX):
            section, key = _split_variable(variable)
            values.setdefault(section, {})[key] = _read_variable(section, key, text)
    return _build(values, path)


def _read_file(path: Path) -> dict[str, dict[str, Any]]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"cannot read the configuration {path}: {error.strerror}; name another with --config"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the configuration {path} is not TOML: {error}") from None
    folder = path.resolve().parent
    for key in ("inbox", "output"):
        paths = values.get("paths")
        if isinstance(paths, dict) and isinstance(paths.get(key), str):
            paths[key] = str(folder / paths[key])
    return values


def _split_variable(variable: str) -> tuple[str, str]:
    section, separator, key = variable.removeprefix(PREFIX).lower().partition("__")
    sections = {f.name: f.type for f in fields(Config)}
    if not separator or section not in sections:
        raise UsageError(
            f"unknown environment variable {variable}; it is {PREFIX}<SECTION>__<KEY>, with a section of "
            f"{', '.join(sections).upper()}"
        )
    return section, key


def _read_variable(section: str, key: str, text: str) -> Any:
    """A variable's value: TOML where the setting is no text, or else the text itself. Paths: from the working folder."""
    kind = _kinds(section).get(key)
    if kind is Path:
        return str(Path(text).resolve()) if text else text
    if kind is str:
        return _unquoted(text)
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        try:
            return str(tomllib.loads(f"value = {text}")["value"])
        except tomllib.TOMLDecodeError:
            return text
    return text


def _kinds(section: str) -> dict[str, Any]:
    return get_type_hints(get_type_hints(Config)[section])


def _build(values: Mapping[str, Any], path: Path) -> Config:
    kinds = get_type_hints(Config)
    sections = {}
    for name, content in values.items():
        if name not in kinds:
            raise UsageError(f"unknown section [{name}] in {path}; allowed are {', '.join(kinds)}")
        if not isinstance(content, dict):
            raise UsageError(f"[{name}] in {path} is a section, not a value")
        sections[name] = _build_section(name, kinds[name], content)
    config = Config(**sections)
    _check_paths(config.paths)
    return config


def _build_section(name: str, kind: Any, content: Mapping[str, Any]) -> Any:
    known = {f.name: f for f in fields(kind)}
    types = get_type_hints(kind)
    given = {}
    for key, value in content.items():
        if key not in known:
            raise UsageError(f"unknown setting {key!r} in [{name}]; allowed are {', '.join(known)}")
        given[key] = _convert(f"[{name}] {key}", types[key], value)
        if not known[key].metadata["check"](given[key]):
            raise UsageError(f"[{name}] {key} = {value!r} is not allowed; it must be {known[key].metadata['allowed']}")
    return kind(**given)


def _convert(name: str, kind: Any, value: Any) -> Any:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    if kind is Bytes:
        return Bytes(_with_unit(name, value, _SIZE, _SIZE_UNITS, 'a number of bytes or text such as "256MiB"'))
    if kind is Duration:
        return Duration(_with_unit(name, value, _DURATION, _DURATION_UNITS, 'a number of seconds or text such as "1d"'))
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind in (int, bool, str) and type(value) is kind:
        return value
    what = {Path: "a path", float: "a number", int: "a whole number", bool: "true or false", str: "text"}[kind]
    raise UsageError(f"{name} = {value!r} is not allowed; it must be {what}")


def _with_unit(name: str, value: Any, pattern: re.Pattern[str], units: Mapping[str, float], what: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    match = pattern.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise UsageError(f"{name} = {value!r} is not allowed; it must be {what} (units: {', '.join(units)})")
    return float(match[1]) * units[match[2]]


def _check_paths(paths: Paths) -> None:
    inbox, output = paths.inbox.resolve(), paths.output.resolve()
    if inbox == output or inbox in output.parents or output in inbox.parents:
        raise UsageError(f"[paths] inbox {inbox} and output {output} must not lie in each other")
