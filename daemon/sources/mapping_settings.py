"""The settings of a source and [columns] in, where its records are and the mapping of their fields out. Presets are files of the
same form."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any
from zoneinfo import available_timezones

from ..core.errors import UsageError, instead_of, must_be, shown
from ..core.mapping import COLUMN_TYPES, ENCODINGS, ITEM_FIELDS, ORDER_FIELDS, Columns, FieldMapping, Paths
from ..core.model import DIMENSIONS, FACT, Field

_KEY = r"[^.\x00-\x1f\ud800-\udfff]+"
_PATH = re.compile(rf"(?:{_KEY}(?:\.{_KEY})*)?")
_A_PATH = 'keys divided by dots, such as "customer.id", or ""'
_NEEDED = ("order_id", "created_at")  # without these no record is an order
_PRESETS = files(__package__) / "presets"
_MAX_PREFIX = 64
_COLUMN = re.compile("[a-z][a-z0-9_]{0,62}")  # an identifier of every SQL dialect
_TAKEN = frozenset({*FACT.names, *ORDER_FIELDS, *ITEM_FIELDS, Field.ITEM})  # names of columns, and of faults


def presets() -> list[str]:
    """The names of the presets."""
    return sorted(one.name.removesuffix(".toml") for one in _PRESETS.iterdir() if one.name.endswith(".toml"))


def columns_of(content: Any, file: object) -> Columns:
    """The extra columns that [columns] of a file defines, by name."""
    if not isinstance(content, dict):
        raise UsageError(f"columns = {shown(content)} in {file} is not allowed; [columns] is a section")
    for name, kind in content.items():
        if not _COLUMN.fullmatch(name):
            raise UsageError(
                f"[columns] {shown(name)} in {file} is not allowed; the name of a column is 1 to 63 letters (a-z), digits "
                "and _, and begins with a letter"
            )
        if name in _TAKEN:
            raise UsageError(
                f"[columns] {name} in {file} is not allowed; it must be another name than those that orders have already: "
                f"{', '.join(sorted(_TAKEN))}"
            )
        if kind not in COLUMN_TYPES:
            allowed = ", ".join(f'"{one}"' for one in COLUMN_TYPES)
            raise UsageError(f"[columns] {name} = {shown(kind)} in {file} is not allowed; it must be one of {allowed}")
    return tuple(sorted(content.items()))


def mapping_of(settings: Mapping[str, Any], where: str, columns: Columns = ()) -> tuple[str, FieldMapping]:
    """The path of the records, and the mapping. `where` names the section in errors. `columns`: those of [columns]. UsageError
    says which setting is not allowed, and what is."""
    given = {key: value for key, value in settings.items() if key not in ("preset", "columns")}
    values = _mapping_of_preset(settings["preset"], where) if "preset" in settings else {}
    for key, value in given.items():
        if key not in SETTINGS:
            names = ("folder", "preset", *SETTINGS, "columns", "pull")
            raise UsageError(f"unknown setting {key!r} in {where.removesuffix(':')}; {instead_of(key, names)}")
        merges = key == "fields" and isinstance(value, dict)
        values[key] = {**values.get(key, {}), **value} if merges else value
    read = {key: SETTINGS[key](value, f"{where} {key}") for key, value in values.items()}
    records = read.pop("records", "")
    if "deleted" in read:
        read["deleted_path"], read["deleted_values"] = read.pop("deleted")
    found = _paths_of_columns(settings.get("columns", {}), f"{where} columns", columns)
    return records, FieldMapping(
        **read, columns=tuple((name, kind, found.get(name, (name,))) for name, kind in columns)
    )


def _paths_of_columns(value: Any, where: str, columns: Columns) -> dict[str, tuple[str, ...]]:
    """Where a source has the columns that it names."""
    names = [name for name, _ in columns]
    if not isinstance(value, dict):
        raise _refuse(value, where, "a table of columns: column = path, or a list of paths, the preferred one first")
    for name in value:
        if name not in names:
            allowed = f"allowed are those of [columns]: {', '.join(names)}" if names else "[columns] defines none"
            raise UsageError(f"unknown column {name!r} in {where}; {allowed}")
    return {name: _paths(paths, f"{where}.{name}") for name, paths in value.items()}


def preset_of(name: str) -> dict[str, Any]:
    """The content of a preset."""
    return tomllib.loads(preset_text(name))


def preset_text(name: str) -> str:
    """The file of a preset."""
    return (_PRESETS / f"{name}.toml").read_text(encoding="utf-8")


def _mapping_of_preset(name: Any, where: str) -> dict[str, Any]:
    if name not in presets():
        wanted = must_be(f"one of {', '.join(presets())}", name, presets())
        raise UsageError(f"{where} preset = {shown(name)} is not allowed; {wanted}")
    return {key: value for key, value in preset_of(name).items() if key != "pull"}


def _refuse(value: Any, where: str, allowed: str) -> UsageError:
    return UsageError(f"{where} = {json.dumps(value, default=str)[:80]} is not allowed; it must be {allowed}")


def _path(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _PATH.fullmatch(value):
        raise _refuse(value, where, _A_PATH)
    return value


def _paths(value: Any, where: str) -> tuple[str, ...]:
    many = value if isinstance(value, list) else [value]
    return tuple(path for path in (_path(one, where) for one in many) if path)


def _fields(allowed: tuple[str, ...]) -> Callable[[Any, str], Paths]:
    def read(value: Any, where: str) -> Paths:
        if not isinstance(value, dict):
            raise _refuse(value, where, f"a table of fields: {', '.join(allowed)}")
        for name in value:
            if name not in allowed:
                raise UsageError(f"unknown field {name!r} in {where.removesuffix(':')}; {instead_of(name, allowed)}")
        read = {name: _paths(paths, f"{where}.{name}") for name, paths in value.items()}
        for name, paths in read.items():
            if not paths and name in _NEEDED:
                raise _refuse(
                    value[name],
                    f"{where}.{name}",
                    "the path of the field, or several; without one, no record is an order",
                )
        return tuple(sorted(read.items()))

    return read


def _time_zone(value: Any, where: str) -> str:
    if not isinstance(value, str) or (value != "UTC" and value not in available_timezones()):
        raise _refuse(value, where, 'the name of a time zone, such as "Europe/Berlin"')
    return value


def _switch(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _refuse(value, where, "true or false")
    return value


def _prefix(value: Any, where: str) -> str:
    if (
        not isinstance(value, str)
        or len(value.encode("utf-8", "replace")) > _MAX_PREFIX
        or not value.isprintable()
        or value.lstrip() != value
    ):
        raise _refuse(value, where, f"a printable text of at most {_MAX_PREFIX} bytes that does not begin with a blank")
    return value


def _deleted(value: Any, where: str) -> tuple[str, tuple[str, ...]]:
    allowed = 'a table with a path and its values, such as {path = "status", values = ["trash"]}'
    if not isinstance(value, dict) or value.keys() != {"path", "values"} or not isinstance(value["values"], list):
        raise _refuse(value, where, allowed)
    if (
        not value["path"]
        or not value["values"]
        or not all(isinstance(one, str | bool | int) for one in value["values"])
    ):
        raise _refuse(value, where, allowed)
    return _path(value["path"], f"{where}.path"), tuple(json.dumps(one) for one in value["values"])


def _columns(dimension: str) -> Callable[[Any, str], Paths]:
    """The names of the columns of a CSV file, for each field."""
    allowed, key = DIMENSIONS[dimension].schema.names, DIMENSIONS[dimension].key

    def read(value: Any, where: str) -> Paths:
        if not isinstance(value, dict):
            raise _refuse(value, where, f"a table of fields: {', '.join(allowed)}")
        for name in value:
            if name not in allowed:
                raise UsageError(f"unknown field {name!r} in {where.removesuffix(':')}; {instead_of(name, allowed)}")
        columns = {name: _column_names(names, f"{where}.{name}") for name, names in value.items()}
        if not columns.get(key, "its own name"):
            raise UsageError(f"{where}.{key} is empty; it must name the column of the key")
        return tuple(sorted(columns.items()))

    return read


def _column_names(value: Any, where: str) -> tuple[str, ...]:
    many = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in many):
        raise _refuse(value, where, "the name of a column, or a list of names, the preferred one first")
    return tuple(one for one in many if one.strip())


def _encoding(value: Any, where: str) -> str:
    if value not in ENCODINGS:
        raise _refuse(value, where, " or ".join(json.dumps(one) for one in ENCODINGS))
    return str(value)


SETTINGS: dict[str, Callable[[Any, str], Any]] = {
    "records": _path,
    "record": _path,
    "fields": _fields((*ORDER_FIELDS, *ITEM_FIELDS)),
    "time_zone": _time_zone,
    "minor_units": _switch,
    "id_prefix": _prefix,
    "skip_items_with": _path,
    "deleted": _deleted,
    "users": _columns("user"),
    "products": _columns("product"),
    "encoding": _encoding,
}
