"""The models and checks there are now: read from their folders, inspected, and put into order.

What a worker found about SQL is kept as long as nothing that it depends on changes, so a run without news needs no worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from ..core.errors import EnvironmentFault, UsageError
from . import inspection
from .contract import TABLES, Circle, DownstreamFailed, in_order
from .definitions import (
    CHECK,
    MODEL,
    Definition,
    check_dated,
    check_tables,
    circle_error,
    read_folder,
    version_of,
)
from .inspection import Inspected, Statement
from .records import Records
from .scratch import scratch
from .worker import Worker

_KEPT = 2  # catalogs: with and without the columns of Python models that a batch has made stale


@dataclass(frozen=True)
class Catalog:
    """Definitions, each after those that it reads. `errors`: what is wrong, by kind and name of the file (its stem)."""

    definitions: Sequence[Definition] = ()
    errors: Mapping[tuple[str, str], UsageError] = field(default_factory=dict)
    schemas: Mapping[str, pa.Schema] = field(default_factory=dict)  # of SQL models

    def refuse_errors(self) -> None:
        """Raises the first error."""
        for error in self.errors.values():
            raise error


class Reader:
    """Reads the folders. SQL is inspected by a worker. `taken`: names that no model or check may have, and by what."""

    def __init__(
        self, models: Path, checks: Path, output: Path, worker: Worker, records: Records, taken: Mapping[str, str]
    ) -> None:
        self._folders, self._output, self._worker = {MODEL: models, CHECK: checks}, output, worker
        self._records, self._taken = records, taken
        self._files: tuple[list[Definition], dict[tuple[str, str], UsageError]] = [], {}
        self._known: list[tuple[object, Catalog]] = []

    def read(self) -> Sequence[Definition]:
        """Reads the folders. What SQL reads is not known yet."""
        definitions: list[Definition] = []
        errors: dict[tuple[str, str], UsageError] = {}
        for kind, folder in self._folders.items():
            for path, found in read_folder(folder, kind):
                if isinstance(found, UsageError):
                    errors[kind, path.stem] = found
                    definitions = [one for one in definitions if (one.kind, one.name) != (kind, path.stem)]
                elif found.name in self._taken:
                    errors[kind, path.stem] = UsageError(
                        f"{path}: there is {self._taken[found.name]}, too; choose another name"
                    )
                elif any(one.name == found.name for one in definitions):
                    errors[kind, path.stem] = UsageError(
                        f"{path}: there is a model {found.name} too; choose another name"
                    )
                else:
                    definitions.append(found)
        self._files = definitions, errors
        return definitions

    def inspected(self, schemas: Mapping[str, pa.Schema], stopped: Callable[[], bool]) -> Catalog:
        """What was read, inspected. `schemas`: the columns of the published tables, and of Python models whose columns are known.
        Raises Stopped."""
        definitions, errors = self._files
        key = list(definitions), {where: str(error) for where, error in errors.items()}, dict(schemas)
        for known, catalog in self._known:
            if known == key:
                return catalog
        found = self._inspected(definitions, dict(errors), schemas, stopped)
        self._known = [(key, found), *self._known][:_KEPT]
        return found

    def _inspected(
        self,
        definitions: Sequence[Definition],
        errors: dict[tuple[str, str], UsageError],
        schemas: Mapping[str, pa.Schema],
        stopped: Callable[[], bool],
    ) -> Catalog:
        found, sql_schemas = self._with_reads(definitions, schemas, errors, stopped)
        models = {one.name for one in found if one.kind == MODEL}
        broken = {name for kind, name in errors if kind == MODEL}
        for one in list(found):
            try:
                check_tables(one, {*TABLES, *models, *broken})
                check_dated(one)
            except UsageError as error:
                errors[one.kind, one.name] = error
                found.remove(one)
        by_name = {one.name: one for one in found}
        while True:
            try:
                order = in_order({name: one.reads for name, one in by_name.items()})
                break
            except Circle as circle:
                trouble = circle_error([by_name[name] for name in circle.names])
                for name in set(circle.names):
                    errors[by_name[name].kind, name] = trouble
                    del by_name[name]
        return Catalog([by_name[name] for name in order], dict(sorted(errors.items())), sql_schemas)

    def _with_reads(
        self,
        definitions: Sequence[Definition],
        schemas: Mapping[str, pa.Schema],
        errors: dict[tuple[str, str], UsageError],
        stopped: Callable[[], bool],
    ) -> tuple[list[Definition], dict[str, pa.Schema]]:
        """The definitions with what SQL reads, and the columns of SQL models."""
        statements = [
            Statement(one.name, str(one.path), one.text, one.kind == MODEL) for one in definitions if not one.is_python
        ]
        if not statements:
            return list(definitions), {}
        python = [one.name for one in definitions if one.is_python and one.name not in schemas]
        unknown = [*python, *(name for kind, name in errors if kind == MODEL)]
        known = {name: schema for name, schema in schemas.items() if name not in {one.name for one in statements}}
        inspected = self._inspect(statements, known, unknown, stopped)
        found = []
        for one in definitions:
            result = inspected.get(one.name)
            if result is None:
                found.append(one)
            elif result.error:
                errors[one.kind, one.name] = UsageError(result.error)
            else:
                lines = dict(result.lines)
                found.append(replace(one, reads=result.reads, is_ordered=result.is_ordered, lines=lines))
        return found, {name: one.schema for name, one in inspected.items() if one.schema is not None}

    def _inspect(
        self,
        statements: Sequence[Statement],
        schemas: Mapping[str, pa.Schema],
        unknown: Sequence[str],
        stopped: Callable[[], bool],
    ) -> Mapping[str, Inspected]:
        key = inspection.key_of(statements, schemas, unknown, version_of("duckdb"))
        if (kept := self._records.inspection(key)) is not None:
            return inspection.from_json(kept)
        found = self._inspect_what_can_be(statements, schemas, unknown, stopped)
        self._records.keep_inspection(key, inspection.to_json(found))
        return found

    def _inspect_what_can_be(
        self,
        statements: Sequence[Statement],
        schemas: Mapping[str, pa.Schema],
        unknown: Sequence[str],
        stopped: Callable[[], bool],
    ) -> dict[str, Inspected]:
        """Inspects all statements at once. Where that takes too much time or memory, it is the fault of some: they are found by
        inspecting each alone, and the others do without them."""

        def inspect(some: Sequence[Statement], unknown: Sequence[str]) -> dict[str, Inspected]:
            what = some[0].path if len(some) == 1 else f"the SQL in {self._folders[MODEL]} and {self._folders[CHECK]}"
            with scratch(self._output) as folder:
                found: dict[str, Inspected] = self._worker.call(
                    what, "inspect", some, schemas, unknown, self._worker.limits, folder, stopped=stopped
                )
            return found

        try:
            return inspect(statements, unknown)
        except DownstreamFailed as failure:
            refused = {}
            for one in statements:
                try:
                    inspect([one], [*unknown, *(other.name for other in statements if other is not one)])
                except DownstreamFailed as error:
                    refused[one.name] = Inspected(error=str(error))
            if not refused:
                hint = "Nothing is lost: start again."
                raise EnvironmentFault("inspect", self._folders[MODEL], failure, hint) from failure
            rest = [one for one in statements if one.name not in refused]
            return refused | (inspect(rest, [*unknown, *refused]) if rest else {})
