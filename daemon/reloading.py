"""Reads the configuration again, and says what changed. The loop asks between two batches, and is built anew where anything did.

A configuration that is wrong changes nothing. One that is right takes effect as a whole, without the sections that name what a
process opens once: a change there is told, and takes effect at the next start.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from .batch.engine import Engine
from .config import DEFAULT_FILE, SECTIONS, SETTINGS, Config, check_places, load
from .core.errors import StrandlineError, UsageError, shown
from .downstream.destinations.settings import KINDS
from .observe.log import log
from .observe.metrics import Metrics
from .stopping import Stop
from .wiring import places, pulled_sources, refuse_retyped

AT_A_START = ("paths", "http", "engine")  # sections: the lock and the ledger, the port, the workers
_NOT_SHOWN = "(not shown)"  # texts of pulls, destinations and logins may be secrets


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that is not what it was. `old`, `new`: as a log shows them; None where it is not there."""

    setting: str
    old: Any
    new: Any
    at_a_start: bool


class Reloading:
    """The configuration in force. `path`: of its file, None for ./config.toml or the defaults."""

    def __init__(self, path: Path | None, config: Config, engine: Engine, stop: Stop, metrics: Metrics) -> None:
        self._path, self.config, self._engine, self._stop, self._metrics = path, config, engine, stop, metrics
        self._had_file = DEFAULT_FILE.exists()

    def is_due(self) -> bool:
        """Whether another configuration is in force by now. Reads it where that was asked for, and logs the result."""
        if not self._stop.reload_asked:
            return False
        self._stop.reload_asked = False
        try:
            given = self._read()
        except (StrandlineError, OSError, sqlite3.Error) as error:
            self._metrics.reloaded(is_valid=False)
            log.error("the configuration is wrong; the one before stays in force", extra={"cause": str(error)})
            return False
        self._metrics.reloaded(is_valid=True)
        found = changes(self.config, given)
        for one in found:
            what = extra_of(one)
            if one.at_a_start:
                log.warning("setting changed; it takes effect at the next start", extra=what)
            else:
                log.info("setting changed", extra=what)
        log.info("configuration read again", extra={"changed": sum(not one.at_a_start for one in found),
                                                    "at_the_next_start": sum(one.at_a_start for one in found)})  # fmt: skip
        self.config = in_force(self.config, given)
        return any(not one.at_a_start for one in found)

    def _read(self) -> Config:
        """The configuration that is there now, as the start checks it. What it names is made only when all of it is right."""
        if self._path is None and self._had_file and not DEFAULT_FILE.exists():
            raise UsageError(f"{DEFAULT_FILE.absolute()} is gone; put it back")
        given = load(self._path, os.environ)
        ours = in_force(self.config, given)
        check_places(ours, self._path or DEFAULT_FILE)
        refuse_retyped(ours, self._engine.ledger)
        pulled_sources(ours, os.environ)
        for place in places(ours):
            place.make()
        return given


def in_force(before: Config, given: Config) -> Config:
    """A configuration with what only a start can change left as it was."""
    return replace(given, **{section: getattr(before, section) for section in AT_A_START})


def extra_of(one: Change) -> dict[str, Any]:
    """A change as fields of a log line."""
    return {"setting": one.setting, "old": one.old, "new": one.new}


def changes(before: Config, after: Config) -> list[Change]:
    """What differs, by setting, in the order of the configuration. A section of a name that comes or goes is one change."""
    old, new = dict(_flat(before)), dict(_flat(after))
    found = []
    for setting in dict.fromkeys([*old, *new]):
        section = f"{setting.partition(']')[0]}]"
        came_or_went = section != setting and (section in old) != (section in new)
        if old.get(setting) != new.get(setting) and not came_or_went:
            is_hidden = section.startswith(_SECRETS_IN) or section.endswith(".pull]") or setting in _SECRET
            shown_old, shown_new = (_shown(one.get(setting), is_hidden=is_hidden) for one in (old, new))
            found.append(Change(setting, shown_old, shown_new, section in _AT_A_START))
    return found


_AT_A_START = tuple(f"[{section}]" for section in AT_A_START)
_SECRET = tuple(f"[{section}] {key}" for (section, key), one in SETTINGS.items() if one.metadata.get("is_secret"))
_SECRETS_IN = tuple(f"[{kind}." for kind in KINDS)
_THERE = "there"


def _flat(config: Config) -> Iterator[tuple[str, Any]]:
    """Each setting with its value, and the header of each section that has a name of its own."""
    for section in SECTIONS:
        yield from _values(f"[{section}]", getattr(config, section))
    yield from ((f"[columns] {name}", kind) for name, kind in config.columns)
    for name, source in config.sources.items():
        yield f"[sources.{name}]", _THERE
        yield f"[sources.{name}] folder", source.folder
        yield f"[sources.{name}] records", source.records_path
        yield from _values(f"[sources.{name}]", source.mapping)
        if source.pull is not None:
            yield f"[sources.{name}.pull]", _THERE
            yield from _values(f"[sources.{name}.pull]", source.pull)
    for one in config.destinations:
        yield one.where, _THERE
        yield from ((f"{one.where} {name}", value) for name, value in one.values().items())


def _values(section: str, value: Any) -> Iterator[tuple[str, Any]]:
    for one in fields(value):
        yield f"{section} {one.name}", getattr(value, one.name)


def _shown(value: Any, *, is_hidden: bool) -> Any:
    if value is None or isinstance(value, bool | int | float) or value == _THERE:
        return value
    if is_hidden:
        return _NOT_SHOWN
    if isinstance(value, Mapping):
        value = dict(value)
    return str(value) if isinstance(value, Path | str) else shown(value)
