"""The same load with dlt: a resource that yields the records, its filesystem destination, Parquet.

dlt unnests the items into a separate table. It merges by key only into databases, so here it appends, which is its fastest mode.

    python dlt_pipeline.py 'inbox/*.ndjson' out
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import dlt

CHUNK = 10_000


def records(source: str) -> Iterator[list[dict]]:
    """The records in chunks of some thousands, as dlt advises."""
    for path in sorted(Path(source).parent.glob(Path(source).name)):
        with open(path, encoding="utf-8") as lines:
            chunk: list[dict] = []
            for line in lines:
                chunk.append(json.loads(line))
                if len(chunk) == CHUNK:
                    yield chunk
                    chunk = []
            yield chunk


def run(source: str, out: Path) -> None:
    """All of it."""
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    out.mkdir(parents=True, exist_ok=True)
    pipeline = dlt.pipeline(
        "orders", pipelines_dir=str(out / "state"), dataset_name="orders",
        destination=dlt.destinations.filesystem(bucket_url=str((out / "data").resolve())),
    )  # fmt: skip
    resource = dlt.resource(records(source), name="fact_order", columns={"created_at": {"data_type": "timestamp"}})
    pipeline.run(resource, loader_file_format="parquet", write_disposition="append")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: dlt_pipeline.py INPUT_GLOB OUTPUT_FOLDER")
    run(sys.argv[1], Path(sys.argv[2]))
