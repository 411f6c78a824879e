"""A result as CSV, as JSON, or as a file. Values are exact: no decimal passes through a float.

DuckDB writes most values as text, many at a time; what JSON nests, msgspec writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ...core.errors import UsageError
from ...downstream.sandbox import quoted_name
from .session import Result

_QUOTED = r"""[",\n\r]"""
_INSTANT = "TIMESTAMP WITH TIME ZONE"
# Types that JSON has, or that nest values. Everything else is written as a text, decimals and large integers as numbers.
_AS_IT_IS = {"BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "FLOAT",
             "DOUBLE", "VARCHAR"}  # fmt: skip
_NUMBERS = ("DECIMAL", "HUGEINT", "UHUGEINT", "BIGNUM")
_ENCODER = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


def text_of(name: str, kind: str) -> str:
    """An expression for a value as text; NULL stays NULL. Instants are ISO 8601 in UTC."""
    column = quoted_name(name)
    text = f"CAST({column} AS VARCHAR)"
    if kind == _INSTANT:
        return f"CASE WHEN isfinite({column}) THEN replace({text}[:-4], ' ', 'T') || 'Z' ELSE {text} END"
    if kind.startswith("TIMESTAMP") and "(" not in kind and "[" not in kind:
        return f"replace({text}, ' ', 'T')"
    return f"lower(hex({column}))" if kind == "BLOB" else text


def write_csv(result: Result, out: IO[str]) -> None:
    """RFC 4180 with a line of names. NULL is nothing, and an empty text is \"\"."""
    only = len(result.columns) == 1  # an empty line would be no row
    fields = ", ".join(_csv_field(text_of(name, kind), "'\"\"'" if only else "''") for name, kind in result.columns)
    out.write(",".join(_csv_name(name) for name, _ in result.columns) + "\n")
    for batch in result.rows([f"array_to_string([{fields}], ',') AS line"]):
        out.write("\n".join(batch.column(0).to_pylist()) + "\n" if len(batch) else "")


def _csv_field(text: str, null: str) -> str:
    return (
        f"""CASE WHEN {text} IS NULL THEN {null} WHEN {text} = '' OR regexp_matches({text}, '{_QUOTED}') """
        f"""THEN '"' || replace({text}, '"', '""') || '"' ELSE {text} END"""
    )


def _csv_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if any(one in name for one in '",\n\r') or not name else name


def write_json(result: Result, out: IO[str]) -> None:
    """An array of objects, one on a line."""
    names = [name for name, _ in result.columns]
    expressions = [f"{_json_value(name, kind)} AS {quoted_name(name)}" for name, kind in result.columns]
    numbers = [kind.startswith(_NUMBERS) and "[" not in kind for _, kind in result.columns]
    separator = "[\n"
    for batch in result.rows(expressions):
        try:
            columns = [_values(column, is_number) for column, is_number in zip(batch.columns, numbers, strict=True)]
        except (OverflowError, ValueError) as error:
            raise UsageError(f"a value cannot be written as JSON ({error}); cast it to VARCHAR") from None
        for row in zip(*columns, strict=True):
            out.write(separator + _ENCODER.encode(dict(zip(names, row, strict=True))).decode())
            separator = ",\n"
    out.write("[]\n" if separator == "[\n" else "\n]\n")


def _json_value(name: str, kind: str) -> str:
    is_nested = kind.endswith("]") or kind.startswith(("STRUCT(", "MAP("))
    return quoted_name(name) if kind in _AS_IT_IS or is_nested else text_of(name, kind)


def _values(column: pa.Array, is_number: bool) -> list[Any]:
    values = column.to_pylist(maps_as_pydicts="strict")
    return [None if one is None else msgspec.Raw(one.encode()) for one in values] if is_number else values


_WRITERS: dict[str, Callable[[Result, IO[str]], None]] = {".csv": write_csv, ".json": write_json}
ENDINGS = (".parquet", *_WRITERS)


def refuse_target(target: Path, output: Path) -> None:
    """UsageError where a result cannot be written to this file."""
    if target.suffix not in ENDINGS:
        raise UsageError(f"--output {target}: the name must end with {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    resolved = Path(os.path.realpath(target))
    if output in resolved.parents:
        raise UsageError(
            f"--output {target} is in the output folder {output}, which only strandline itself changes; choose another"
        )
    if not resolved.parent.is_dir():
        raise UsageError(f"--output {target}: the folder {resolved.parent} does not exist; create it first")
    if resolved.is_dir():
        raise UsageError(f"--output {target} is a folder; name a file in it")


def write_file(result: Result, target: Path) -> None:
    """Writes a file beside the target, then renames it: the target is never a part of a result."""
    resolved = Path(os.path.realpath(target))
    temporary = resolved.with_name(f".{resolved.name}.{os.getpid()}.tmp")
    try:
        if target.suffix == ".parquet":
            _write_parquet(result, temporary)
        else:
            with open(temporary, "w", encoding="utf-8", newline="") as out:
                _WRITERS[target.suffix](result, out)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, resolved)
    finally:
        temporary.unlink(missing_ok=True)


def _write_parquet(result: Result, path: Path) -> None:
    batches: Iterator[pa.RecordBatch] = result.rows([quoted_name(name) for name, _ in result.columns])
    schema = result.schema
    try:
        with pq.ParquetWriter(path, schema, compression="snappy", store_schema=False, write_page_checksum=True) as file:
            for batch in batches:
                file.write_batch(batch)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UsageError(f"a column has a type that Parquet does not have ({error}); cast it to another one") from None
