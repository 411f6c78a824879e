"""config.toml and the environment in, one frozen, validated Config out. The only module that knows the names of settings.

Each setting has its allowed values in words (`allowed`), for errors and for docs/CONFIGURATION.md. A relative path in the file is
relative to the folder of the file (of the link, if it is one); in an environment variable, to the working directory. An unknown
key or variable and a wrong value are a UsageError that names what is allowed, even where something else overrides the value.
"""

from __future__ import annotations

import errno
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from .batch.keeping import Keep, refuse_short_receipts
from .core.errors import EnvironmentFault, UsageError, instead_of, must_be, shown
from .core.mapping import Columns
from .core.quantities import A_SIZE, DAY_SECONDS, Bytes, Duration, a_duration, is_number, read_duration, read_size
from .core.retry import Backoff
from .downstream.destinations.settings import KINDS, Destinations, Stored, destinations_of
from .observe.http_settings import Http
from .sources.mapping_settings import columns_of
from .sources.source_settings import Source, default_sources, sources_of

PREFIX = "STRANDLINE_"
DEFAULT_FILE = Path("config.toml")
_NO_FILE_OF_OURS = (errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP)
# Converts a TOML value; None where it is not allowed.
Read = Callable[[Any], Any]


def _setting(default: Any, read: Read, allowed: str, **more: Any) -> Any:
    return field(default=default, metadata={"read": read, "allowed": allowed} | more)


def _path(default: Path) -> Any:
    return _setting(default, lambda value: Path(value) if _is_path(value) and value else None, "a path", is_path=True)


def _path_or_none(default: str) -> Any:
    return _setting(default, lambda value: value if _is_path(value) else None, 'a path, or "" for none', is_path=True)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _switch(default: bool) -> Any:
    return _setting(default, lambda value: value if isinstance(value, bool) else None, "true or false")


def _one_of(default: str, *choices: str) -> Any:
    allowed = "one of " + ", ".join(f'"{choice}"' for choice in choices)
    read = lambda value: value if isinstance(value, str) and value in choices else None  # noqa: E731
    return _setting(default, read, allowed, choices=choices)


def _text(default: str, pattern: str, allowed: str) -> Any:
    return _setting(
        default, lambda value: value if isinstance(value, str) and re.fullmatch(pattern, value) else None, allowed
    )


def _patterns(*default: str) -> Any:
    def read(value: Any) -> tuple[str, ...] | None:
        is_list = isinstance(value, list | tuple) and all(isinstance(one, str) and one for one in value)
        return tuple(value) if is_list else None

    return _setting(default, read, 'a list of patterns of names, such as ["Thumbs.db", "~$*"]')


def _whole(default: int, low: int, high: int) -> Any:
    def read(value: Any) -> int | None:
        return value if type(value) is int and low <= value <= high else None

    return _setting(default, read, f"a whole number from {low} to {high}")


def _seconds(default: float, low: float, high: float) -> Any:
    def read(value: Any) -> float | None:
        return float(value) if is_number(value) and low <= value <= high else None

    return _setting(default, read, f"a number of seconds from {low} to {high}")


def _size(default: int) -> Any:
    return _setting(Bytes(default), read_size, A_SIZE)


def _duration(default: float, most_days: int) -> Any:
    return _setting(Duration(default), lambda value: read_duration(value, most_days), a_duration(most_days))


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Paths:
    inbox: Path = _path(Path("inbox"))
    output: Path = _path(Path("output"))
    models: Path = _path(Path("models"))
    checks: Path = _path(Path("checks"))
    mode: str = _one_of("private", "private", "group")

    @property
    def umask(self) -> int:
        """The umask of every process that makes files: folders are 0700 and files 0600, or 0750 and 0640."""
        return 0o027 if self.mode == "group" else 0o077


@dataclass(frozen=True)
class Watch:
    mode: str = _one_of("auto", "auto", "native", "polling")
    settle_seconds: float = _seconds(1.0, 0, DAY_SECONDS)
    rescan_seconds: float = _seconds(10.0, 0.01, DAY_SECONDS)
    foreign_settle_seconds: float = _seconds(60.0, 0, DAY_SECONDS)
    ignore: tuple[str, ...] = _patterns("Thumbs.db", "desktop.ini", ".DS_Store", "~$*", "_SUCCESS")


@dataclass(frozen=True)
class Batch:
    max_drops: int = _whole(1000, 1, 1_000_000)
    max_bytes: Bytes = _size(512 << 20)
    linger_seconds: float = _seconds(0.05, 0, 3600)


@dataclass(frozen=True)
class Input:
    records_path: str = _text(
        "", r"(?:[^.\x00-\x1f\ud800-\udfff]+(?:\.[^.\x00-\x1f\ud800-\udfff]+)*)?", 'keys divided by dots, or ""'
    )
    max_drop_bytes: Bytes = _size(8 << 30)
    max_expansion: int = _whole(200, 1, 1_000_000)


@dataclass(frozen=True)
class Models:
    memory_limit: Bytes = _size(1 << 30)
    threads: int = _whole(0, 0, 1024)
    time_limit: Duration = _duration(600, 7)

    @property
    def thread_count(self) -> int:
        """As set, or the number of cores that this process may use."""
        return self.threads or cores()


@dataclass(frozen=True)
class Orders:
    future_tolerance: Duration = _duration(DAY_SECONDS, 36_500)


@dataclass(frozen=True)
class Retry:
    attempts: int = _whole(5, 1, 1000)
    initial_delay_seconds: float = _seconds(0.5, 0.001, DAY_SECONDS)
    max_delay_seconds: float = _seconds(30.0, 0.001, DAY_SECONDS)

    @property
    def backoff(self) -> Backoff:
        return Backoff(self.attempts, self.initial_delay_seconds, self.max_delay_seconds)


@dataclass(frozen=True)
class Metrics:
    textfile: str = _path_or_none("")


@dataclass(frozen=True)
class Log:
    level: str = _one_of("info", "debug", "info", "warning", "error")
    format: str = _one_of("auto", "auto", "console", "json")


@dataclass(frozen=True)
class Engine:
    memory_limit: Bytes = _size(1 << 30)
    workers: int = _whole(0, 0, 1024)
    scheduler: str = _text("", r"(?:[a-z]+://[!-~]+)?", 'an address such as "tcp://host:8786", or ""')

    @property
    def worker_count(self) -> int:
        """The number of processes: as set, or the number of cores that this process may use."""
        return self.workers or cores()


@dataclass(frozen=True)
class Config:
    """Every setting, section by section, as in config.toml."""

    paths: Paths = Paths()
    watch: Watch = Watch()
    batch: Batch = Batch()
    input: Input = Input()
    orders: Orders = Orders()
    raw: Keep = Keep()
    receipts: Keep = Keep()
    discards: Keep = Keep()
    restatements: Keep = Keep()
    quarantine: Keep = Keep()
    retry: Retry = Retry()
    http: Http = Http()
    metrics: Metrics = Metrics()
    log: Log = Log()
    engine: Engine = Engine()
    models: Models = Models()
    columns: Columns = ()  # extra columns of fact_order
    sources: Mapping[str, Source] = field(default_factory=default_sources)  # by name; `default` always
    destinations: Destinations = ()

    @property
    def folders(self) -> dict[str, str]:
        """The folder of each source, below the inbox."""
        return {name: source.folder for name, source in self.sources.items()}


SECTIONS: dict[str, Any] = {
    one.name: type(one.default) for one in fields(Config) if one.name not in ("columns", "sources", "destinations")
}
SETTINGS: dict[tuple[str, str], Field[Any]] = {
    (name, setting.name): setting for name, kind in SECTIONS.items() for setting in fields(kind)
}


def variable_of(section: str, key: str) -> str:
    """The environment variable that overrides a setting."""
    return f"{PREFIX}{section}__{key}".upper()


@dataclass(frozen=True, slots=True)
class _Given:
    """One given value: of which setting, and how an error names it."""

    section: str
    key: str
    value: Any
    name: str
    where: str = ""


def load(path: Path | None, environment: Mapping[str, str]) -> Config:
    """The configuration. `path` None: ./config.toml, or the defaults if it does not exist. UsageError where anything is wrong."""
    file = path or DEFAULT_FILE
    content = _content(file, required=path is not None)
    columns = columns_of(content.pop("columns", {}), file)
    sources = sources_of(content.pop("sources", {}), file, columns)
    destinations = destinations_of({kind: content.pop(kind) for kind in KINDS if kind in content}, file)
    given = [*_from_file(content, file), *_from_environment(environment)]
    values: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for one in given:
        values[one.section][one.key] = _read(one)
    beside = {key: file.parent.resolve() / key for key in ("models", "checks")} if path else {}
    values["paths"] = beside | values["paths"]
    sections = {name: SECTIONS[name](**content) for name, content in values.items()}
    config = Config(**sections, columns=columns, sources=sources, destinations=destinations)
    refuse_short_receipts(config.raw, config.receipts)
    check_places(config, file)
    return config


def check_places(config: Config, file: Path) -> None:
    """UsageError where folders of the configuration in `file` would mix what is in them."""
    _check_paths(config.paths)
    _check_destinations(config, file)


# ------------------------------------------------------------------------------------------------------------- the file


def _content(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        if not required:
            return {}
        raise UsageError(
            f"cannot read the configuration {path}: the file does not exist; name another one with --config"
        ) from None
    except OSError as error:
        if error.errno in _NO_FILE_OF_OURS:
            raise UsageError(
                f"cannot read the configuration {path}: {error.strerror}; name another one with --config"
            ) from None
        raise EnvironmentFault(  # the machine's: the same file may be read later
            "read the configuration", path, error.strerror, "Try again when the cause is gone."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"the configuration {path} is not TOML: {error}; correct that line: texts need quotes, and a key is there once"
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the configuration {path} is not UTF-8 from byte {error.start + 1:,} on; save it as UTF-8"
        ) from None
    except RecursionError:
        raise UsageError(f"the configuration {path} is nested too deeply; no setting needs that") from None
    except ValueError:
        raise UsageError(f"the configuration {path} has a number of too many digits; shorten it") from None


def _from_file(content: Mapping[str, Any], path: Path) -> Iterator[_Given]:
    for section, settings in content.items():
        if section not in SECTIONS:
            names = [*SECTIONS, "sources", "columns", *KINDS]
            raise UsageError(f"unknown section {shown(section)} in {path}; {instead_of(section, names)}")
        if not isinstance(settings, dict):
            raise UsageError(f"{section} = {shown(settings)} in {path} is not allowed; [{section}] is a section")
        for key, value in settings.items():
            if (section, key) not in SETTINGS:
                raise UsageError(
                    f"unknown setting {shown(key)} in [{section}] in {path}; {_allowed_keys(section, key)}"
                )
            absolute = _absolute(section, key, value, path.parent.resolve())
            yield _Given(section, key, absolute, f"[{section}] {key}", f" in {path}")


def _allowed_keys(section: str, key: str) -> str:
    return instead_of(key, (setting.name for setting in fields(SECTIONS[section])))


def _absolute(section: str, key: str, value: Any, folder: Path) -> Any:
    """A value; a relative path is joined to the folder that it is relative to."""
    is_path = SETTINGS[section, key].metadata.get("is_path", False)
    return str(folder / value) if is_path and isinstance(value, str) and value else value


# ------------------------------------------------------------------------------------------------------ the environment


def _from_environment(environment: Mapping[str, str]) -> Iterator[_Given]:
    for variable, text in environment.items():
        if variable.startswith(PREFIX):
            section, key = _split_variable(variable)
            yield _Given(section, key, _absolute(section, key, _value(section, key, text), Path.cwd()), variable)


def _split_variable(variable: str) -> tuple[str, str]:
    section, separator, key = variable.removeprefix(PREFIX).lower().partition("__")
    if not separator or section not in SECTIONS:
        sections = instead_of(section, map(str.upper, SECTIONS), "the sections are")
        raise UsageError(f"unknown environment variable {variable}: it must be {PREFIX}<SECTION>__<KEY>; {sections}")
    if (section, key) not in SETTINGS:
        raise UsageError(
            f"unknown environment variable {variable}: [{section}] has no {key}; {_allowed_keys(section, key)}"
        )
    return section, key


def _value(section: str, key: str, text: str) -> Any:
    """The value of a variable: TOML, or else the text itself. For a setting that is a text, only quotes make it TOML."""
    is_text = get_type_hints(SECTIONS[section])[key] in (str, Path)
    quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'"
    if is_text and not quoted:
        return text
    try:
        content = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return content["value"] if len(content) == 1 else text  # a line break in the text can begin another key


# --------------------------------------------------------------------------------------------------------------- checks


def _read(given: _Given) -> Any:
    setting = SETTINGS[given.section, given.key]
    value = setting.metadata["read"](given.value)
    if value is None:
        told = "" if setting.metadata.get("is_secret") else f" = {shown(given.value)}"
        wanted = must_be(setting.metadata["allowed"], given.value, setting.metadata.get("choices", ()))
        raise UsageError(f"{given.name}{told}{given.where} is not allowed; {wanted}")
    return value


def _check_paths(paths: Paths) -> None:
    inbox, output = (Path(os.path.realpath(path)) for path in (paths.inbox, paths.output))
    if inbox == output or inbox in output.parents or output in inbox.parents:
        raise UsageError(f"[paths] inbox {inbox} and output {output} must not contain each other")


def _check_destinations(config: Config, file: Path) -> None:
    """A local destination must not be where drops arrive or results are: it would be taken for one of them."""
    folders = ((one.name, getattr(config.paths, one.name)) for one in fields(Paths))
    ours = {name: Path(os.path.realpath(path)) for name, path in folders if isinstance(path, Path)}
    for one in config.destinations:
        if not isinstance(one, Stored) or (local := one.local_folder) is None:
            continue
        folder = Path(os.path.realpath(local))
        for name, path in ours.items():
            if folder == path or folder in path.parents or path in folder.parents:
                raise UsageError(
                    f"{one.where} url in {file} is {folder}; it must neither contain [paths] {name}, {path}, nor be below it"
                )
