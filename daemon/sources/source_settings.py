"""The [sources] sections of config.toml in, the sources out. The keys of a mapping are read by mapping_settings."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import UsageError, instead_of, shown
from ..core.mapping import DEFAULT_SOURCE, DIRECT, Columns, FieldMapping
from .mapping_settings import mapping_of, preset_of
from .pull.settings import Pull, pull_of

_SOURCE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_FOLDER_BYTES = 255


@dataclass(frozen=True)
class Source:
    """Where the drops of a source arrive, and how their records are spelled."""

    folder: str = ""  # below the inbox; "": the inbox itself
    records_path: str = ""
    mapping: FieldMapping = DIRECT
    pull: Pull | None = None


def default_sources() -> dict[str, Source]:
    """The inbox itself, in the format of docs/INPUT.md."""
    return {DEFAULT_SOURCE: Source()}


def refuse_without_api(sources: Mapping[str, Source], name: str) -> None:
    """UsageError where no source has this name, or where it has no API."""
    if name not in sources:
        raise UsageError(f"there is no source {name}; {instead_of(name, sources, 'configured are')}")
    if sources[name].pull is None:
        raise UsageError(f"source {name} has no API; add the section [sources.{name}.pull], see `strandline docs PULL`")


def sources_of(content: Any, path: Path, columns: Columns = ()) -> dict[str, Source]:
    """The sources of a file, `default` among them. Each has a folder of its own, also where upper and lower case are the same,
    and all extra `columns`."""
    if not isinstance(content, dict):
        raise UsageError(f"sources = {shown(content)} in {path} is not allowed; [sources.NAME] is a section")
    found = {DEFAULT_SOURCE: Source("", *mapping_of({}, f"[sources.{DEFAULT_SOURCE}] in {path}:", columns))}
    for name, settings in content.items():
        where = f"[sources.{name}] in {path}"
        if not _SOURCE_NAME.fullmatch(name):
            raise UsageError(
                f"unknown section {shown(f'sources.{name}')} in {path}; the name of a source is 1 to 64 letters (A-Z), digits, "
                "- and _"
            )
        if not isinstance(settings, dict):
            raise UsageError(f"sources.{name} = {shown(settings)} in {path} is not allowed; {where} is a section")
        folder = _source_folder(name, settings, where)
        for other, source in found.items():
            if other != name and name.casefold() == other.casefold():
                raise UsageError(
                    f"{where} is not allowed; there is [sources.{other}], and case does not tell sources apart"
                )
            if other != name and folder.casefold() == source.folder.casefold():
                raise UsageError(f"{where}: folder = {shown(folder)} is not allowed; it is that of [sources.{other}]")
        others = {key: value for key, value in settings.items() if key not in ("folder", "pull")}
        records, mapping = mapping_of(others, f"{where}:", columns)
        found[name] = Source(folder, records, mapping, _pull(name, settings, path, mapping.time_zone))
    return found


def _pull(name: str, settings: Mapping[str, Any], path: Path, time_zone: str) -> Pull | None:
    """The API of a source. What its preset has of one takes effect with a section [sources.NAME.pull]."""
    if "pull" not in settings:
        return None
    preset = preset_of(settings["preset"]).get("pull", {}) if "preset" in settings else {}
    return pull_of(settings["pull"], preset, f"[sources.{name}.pull] in {path}:", time_zone, path.parent.resolve())


def _source_folder(name: str, settings: Mapping[str, Any], where: str) -> str:
    if name == DEFAULT_SOURCE:
        if "folder" in settings:
            raise UsageError(f"{where}: folder is not allowed; the folder of this source is the inbox")
        return ""
    folder = settings.get("folder", name)
    if not isinstance(folder, str) or not all(map(_is_folder_name, folder.split("/"))):
        raise UsageError(
            f'{where}: folder = {shown(folder)} is not allowed; it must be a path below the inbox, such as "eu/shop", without '
            "hidden names"
        )
    return folder


def _is_folder_name(name: str) -> bool:
    """Whether it is the name of one folder: neither empty nor hidden (nor `.` or `..`), and printable."""
    return name[:1] not in ("", ".") and name.isprintable() and len(os.fsencode(name)) <= _MAX_FOLDER_BYTES
