"""Reads tables with fastparquet or Spark, in an environment that has them. Knows no table.

`python -m tests.readers.elsewhere READER` takes a request on standard input and gives an answer on standard output, both JSON.

A request has `tables` (the files of each by its name) and `partitioned` (files below folders `date=…`); for Spark, also `damaged`
(one file) and a `recipe`. An answer has the `types` and `rows` of each table, or an `error`; `dates`, that column of the
partitioned files; the `damage` that was found; and what the recipe `printed`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

from tests.readers.values import plain, plain_rows

Answer = dict[str, Any]
JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # for a minute of small files


def by_fastparquet(request: dict[str, Any]) -> Answer:
    import fastparquet
    import pandas as pd

    def frame(files: Any) -> Any:
        return fastparquet.ParquetFile(files).to_pandas()

    def rows(found: Any) -> list[dict[str, Any]]:
        columns = {name: [None if one is None or one is pd.NA else one for one in found[name]] for name in found}
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def read(files: list[str]) -> Answer:
        frames = [frame(file) for file in files]
        types = {name: str(kind) for one in frames for name, kind in one.dtypes.items()}
        found = [dict.fromkeys(types) | row for one in frames for row in rows(one)]
        return {"types": types, "rows": plain_rows([{k: _python(v) for k, v in row.items()} for row in found])}

    tables = {name: _tried(lambda files=files: read(files)) for name, files in request["tables"].items()}
    dates = frame(request["partitioned"])["date"]
    return {"tables": tables, "dates": [str(dates.dtype), sorted({str(one.date()) for one in dates})]}


def _python(value: Any) -> Any:
    """A value of pandas or numpy as one of Python. NaN and NaT are NULL: fastparquet has nothing else for it."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    elif hasattr(value, "to_pydatetime"):
        value = value.to_pydatetime()
    return None if value != value else value  # noqa: PLR0124


def by_spark(request: dict[str, Any]) -> Answer:
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.extraJavaOptions": JAVA,
        "spark.sql.session.timeZone": "UTC",
        "spark.hadoop.parquet.page.verify-checksum.enabled": "true",
    }
    builder = SparkSession.builder.master("local[1]").appName("readers")
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    try:

        def read(files: list[str]) -> Answer:
            found = spark.read.option("mergeSchema", "true").parquet(*files)
            rows = [row.asDict(recursive=True) for row in found.collect()]
            return {"types": dict(found.dtypes), "rows": plain_rows(rows)}

        tables = {name: _tried(lambda files=files: read(files)) for name, files in request["tables"].items()}
        base = os.path.dirname(os.path.dirname(request["partitioned"][0]))
        dates = spark.read.option("basePath", base).parquet(*request["partitioned"]).select("date").distinct()
        found = [dates.dtypes[0][1], sorted(plain(row[0]) for row in dates.collect())]
        damage = _tried(lambda: spark.read.parquet(request["damaged"]).collect())
        with redirect_stdout(StringIO()) as printed:
            exec(request["recipe"], {"spark": spark})
        damage = damage["error"] if isinstance(damage, dict) else ""
        return {"tables": tables, "dates": found, "damage": damage, "printed": printed.getvalue()}
    finally:
        spark.stop()


def _tried(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:
        return {"error": str(error)}


if __name__ == "__main__":
    reader = {"fastparquet": by_fastparquet, "spark": by_spark}[sys.argv[1]]
    print(json.dumps(reader(json.load(sys.stdin))))
