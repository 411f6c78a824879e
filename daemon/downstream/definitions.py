"""The files in the folders of models and checks, as definitions: their names, their options, and what they read.

A Python model is read with `ast` and not run. Only DuckDB's own parser knows what SQL reads, so a worker inspects it
(inspection). Everything wrong is a UsageError that names the file and the line.
"""

from __future__ import annotations

import ast
import os
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..core.errors import UsageError, instead_of
from .contract import TABLES
from .fingerprints import digest
from .options import MARKS, SEVERITIES, options

MODEL, CHECK = "model", "check"
UNDATED = ("dim_user", "dim_product")
RESERVED = {*TABLES, "drops", "discards", "restatements"}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_OPTIONS = {MODEL: ("lookback", "whole"), CHECK: ("severity",)}
_FORMAT = "1"  # of fingerprints; increase it where equal texts and inputs may give another result


@dataclass(frozen=True, slots=True)
class Definition:
    """One model or check. `reads` is empty until it is known."""

    kind: str
    name: str
    path: Path
    text: str
    lookback: int = 0  # days before a date that its result depends on
    whole: bool = False  # the result of all dates is computed at once
    severity: str = SEVERITIES[0]
    reads: tuple[str, ...] = ()
    is_ordered: bool = False  # the SELECT has an order of its own
    lines: dict[str, int] = field(default_factory=dict, compare=False)  # where it first names each table

    @property
    def is_python(self) -> bool:
        return self.path.suffix == ".py"

    @property
    def base(self) -> bytes:
        """The part of its fingerprints that does not depend on any input."""
        library = "pandas" if self.is_python else "duckdb"
        options = f"{self.lookback} {self.whole}"
        return digest(_FORMAT, self.kind, self.text, options, f"{library} {version_of(library)}", " ".join(self.reads))

    @property
    def recorded(self) -> dict[str, Any]:
        """What is kept of it, for commands that do not read the folders."""
        return {
            "file": self.path.name, "reads": list(self.reads), "lookback": self.lookback, "whole": self.whole,
            "severity": self.severity, "base": self.base.hex(),
        }  # fmt: skip


@lru_cache
def version_of(library: str) -> str:
    """The installed version of a library, which is not imported for it."""
    from importlib import metadata  # slow, and needed only where there are models

    return metadata.version(library)


def read_folder(folder: Path, kind: str) -> Iterator[tuple[Path, Definition | UsageError]]:
    """The files of a folder, by name, each with its definition or with what is wrong. A folder that does not exist has none."""
    found: dict[str, Path] = {}
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix in MARKS and not path.name.startswith("."))
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"cannot read the folder of {kind}s {folder}: {error.strerror}") from None
    for path in paths:
        readable = path.with_name(os.fsencode(path.name).decode(errors="replace"))
        if readable != path:  # records and metrics hold UTF-8 only
            yield readable, UsageError(f"{readable}: the name is not UTF-8; give the file another one")
        elif path.suffix == ".py" and kind == CHECK:
            yield path, UsageError(f"{path}: a check is SQL; write it as {path.stem}.sql")
        elif path.stem in found:
            yield path, UsageError(f"{path}: there is {found[path.stem].name} too; a name can be given once")
        else:
            found[path.stem] = path
            try:
                yield path, read(path, kind)
            except UsageError as error:
                yield path, error


def missing_folder(kind: str, models: Path, checks: Path) -> str:
    """An error where the folder of models or of checks is not there; empty where it is."""
    folder = checks if kind == CHECK else models
    if folder.is_dir():
        return ""
    return f"the folder [paths] {kind}s {folder} is missing; create an empty one to remove the results"


def has_files(folder: Path) -> bool:
    """Whether there is any file to read in a folder."""
    return any(path.suffix in MARKS for path in folder.iterdir()) if folder.is_dir() else False


def read(path: Path, kind: str) -> Definition:
    """One file. Raises UsageError."""
    if not _NAME.fullmatch(path.stem):
        raise UsageError(f"{path}: the name must be a small letter, then small letters, digits and _ (63 at most)")
    if path.stem in RESERVED:
        raise UsageError(f"{path}: {path.stem} is the name of a table of strandline; choose another one")
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would wait forever
            raise UsageError(f"{path} is not a regular file; remove it, or write the {kind} in its place")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{path} is not UTF-8 text") from None
    definition = Definition(kind, path.stem, path, text, **options(path, text, _OPTIONS[kind]))
    if kind == CHECK:
        definition = replace(definition, whole=True)
    return _with_arguments(definition) if definition.is_python else definition


def _with_arguments(definition: Definition) -> Definition:
    """A Python model with what it reads: the names of its arguments."""
    path = definition.path
    try:
        tree = ast.parse(definition.text)
        compile(definition.text, path, "exec", dont_inherit=True)  # finds more, such as a `return` outside a function
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        why = getattr(error, "msg", None) or str(error) or "it is nested too deeply"
        raise UsageError(f"{path}, line {line}: {why}") from None
    function = next((one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "model"), None)
    if function is None:
        raise UsageError(
            f"{path}: there is no function `model`; write def model(fact_order: pd.DataFrame) -> pd.DataFrame"
        )
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    if function.args.vararg or function.args.kwarg or not arguments:
        raise UsageError(
            f"{path}, line {function.lineno}: the arguments of `model` are the names of the tables that it reads"
        )
    return replace(
        definition,
        reads=tuple(sorted(one.arg for one in arguments)),
        lines={one.arg: one.lineno for one in arguments},
    )


def check_tables(definition: Definition, known: Collection[str]) -> None:
    """UsageError where a definition reads a table that does not exist."""
    for name in definition.reads:
        if name not in known:
            where = f"{definition.path}, line {definition.lines.get(name, 1)}"
            raise UsageError(f"{where}: there is no table {name}; {instead_of(name, sorted(known), 'there are')}")


def check_dated(definition: Definition) -> None:
    """UsageError where nothing that a model reads has dates, so that no date could ever become stale."""
    if definition.kind == MODEL and not definition.whole and not set(definition.reads) - set(UNDATED):
        raise UsageError(
            f"{definition.path}: it reads no table that has dates; add the comment `whole` at its head, which computes all dates "
            "at once"
        )


def circle_error(definitions: Sequence[Definition]) -> UsageError:
    """The error of models that read each other; the first comes again at the end."""
    steps = [
        f"{one.path} (line {one.lines.get(other.name, 1)}) reads {other.name}" for one, other in pairwise(definitions)
    ]
    return UsageError(f"models read each other: {', '.join(steps)}")
