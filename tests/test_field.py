"""Files as people's tools write them (tests/data/field): each folder is one run, of the command that people run."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support import zygote
from tests.support.command import environment
from tests.support.harness import dates, rows

DATA = Path(__file__).parent / "data" / "field"


@dataclass(frozen=True)
class Expected:
    """What a folder becomes. `kept`: the ids of orders, or of users and products. `quarantined`: by file, words of the reason.
    `discarded` and `faults`: over all its drops."""

    kept: Sequence[str]
    quarantined: dict[str, str]
    discarded: dict[str, int]
    faults: dict[str, int]

    @property
    def exit_code(self) -> int:
        return 1 if self.quarantined else 0


def expect(
    *kept: str, quarantined: dict[str, str] | None = None, discarded: dict[str, int] | None = None, **faults: int
) -> Expected:
    return Expected(kept, quarantined or {}, discarded or {}, faults)


def many(*numbers: int) -> list[str]:
    return [f"o_{number}" for number in numbers]


INSTANTS_READ = [*range(16), *range(21, 27), 32]
FOLDERS = {
    "arrays-appended": expect(*many(1, 2, 3)),
    "bom-inside": expect(*many(1, 2, 3, 4)),
    "comma-lines": expect(*many(0, 1, 2, 3)),
    "csv-blank-before-quote": expect("u_1", "u_2", "p_1"),
    "csv-excel": expect("00123", "u_1", discarded={"shortened_key": 1}),
    "csv-semicolon": expect("u_1", "p_1"),
    "csv-sep-line": expect("u_1", "p_1"),
    "csv-trailing-comma": expect("u_1", "u_2", "u_3", "u_4"),
    "damaged-envelope": expect(quarantined={"dam.json": "line 4, column 42"}),
    "deleted": expect(*many(1, 2), quarantined={"b.jsonl": "Keys of its records: order_id, deleted, updated_at"}),
    "envelope-with-own-id": expect(*many(1, 2)),
    "float-ids": expect("5001", "5002"),
    "glued-records": expect(*many(0, 1, 2, 3, 4)),
    "gz-members": expect(*many(1, 2, 3, 4)),
    "gz-misnamed": expect(*many(1, 2)),
    "instants": expect(*(f"o_t{number:02}" for number in INSTANTS_READ), discarded={"invalid_created_at": 10}),
    "mongo": expect("5f0000000000000000000001", *many(1, 2, 4)),
    "nan": expect(*many(1, 2, 4, 5), amount=1),
    "nan-in-envelope": expect(*many(1, 2, 4, 5), amount=1),
    "no-order": expect(
        quarantined={
            "columns.json": "order_id, created_at, amount", "index.json": "under its own key", "m.json": "preset = \"magento\"",
        }
    ),
    "null-envelope": expect(quarantined={"f.json": "there is no array"}),
    "numbers-as-instants": expect(
        *(f"o_e{number:02}" for number in (0, 1, 2, 3, 4, 5, 6, 9, 11)),
        discarded={"future_created_at": 3, "invalid_created_at": 4}
    ),
    "pages-as-lines": expect(*many(1, 2, 3, 4)),
    "pages-glued": expect(*many(1, 2, 3, 4)),
    "pretty-documents": expect(*many(0, 1, 2)),
    "record-separator": expect(*many(0, 1, 2)),
    "wrapped-records": expect(
        "o_1",
        quarantined={
            "airbyte.jsonl": "`_airbyte_data`", "debezium.jsonl": "`payload.after`", "elastic.jsonl": "`_source`",
            "g.json": "data.orders.edges", "page.json": "`attributes`", "singer.jsonl": "`record`",
        },
    ),
    "zip": expect("o_1", "u_1", quarantined={"export 2026-11.zip/export/read me.txt": "a file with this name"}),
}  # fmt: skip


def strandline(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return zygote.run(arguments, folder, environment(WATCH__SETTLE_SECONDS="0", ORDERS__FUTURE_TOLERANCE="36500d"))


@pytest.mark.parametrize("name", sorted(path.name for path in DATA.iterdir()))
def test_each_folder_becomes_what_is_documented(tmp_path: Path, name: str) -> None:
    """Every order is read, or its drop is in quarantine with a reason for people; `--once` says so, and `verify` is content."""
    shutil.copytree(DATA / name, tmp_path / "inbox")
    ended = strandline(tmp_path, "--once")
    status: dict[str, Any] = json.loads(strandline(tmp_path, "status", "--json").stdout)
    output = tmp_path / "output"
    found = {row["order_id"] for date in dates(output) for row in rows(output, date)}
    for table, key in (("user", "user_id"), ("product", "sku")):
        if (file := output / "curated" / f"dim_{table}.parquet").exists():
            found |= set(pq.ParquetFile(file).read()[key].to_pylist())
    counted = [status["orders"], *status["dimensions"].values()]
    discarded = {key: number for one in counted for key, number in one.get("discarded", {}).items()}
    faults = {key: number for one in counted for key, number in one.get("faults", {}).items()}
    reasons = {one["name"]: one["reason"] for one in status["quarantine"]["newest"]}
    wanted = FOLDERS[name]
    assert (ended.returncode, sorted(found)) == (wanted.exit_code, sorted(wanted.kept)), ended.stderr
    assert (discarded, faults) == (wanted.discarded, wanted.faults)
    assert reasons.keys() == wanted.quarantined.keys()
    for file, words in wanted.quarantined.items():
        assert words in reasons[file]
    assert not list((tmp_path / "inbox").iterdir()) and strandline(tmp_path, "verify").returncode == 0
