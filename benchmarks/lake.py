"""200 of 730 dates into a Delta table and into object storage, against the same by hand: deltalake's MERGE; one upload per file.

    python -m benchmarks.lake [--runs N] [--work FOLDER]

All are whole processes over the same files. Each run changes an amount in every row of the 200 dates, back and forth. What runs
here is the class that the worker process opens: to find and link the files is not in it. The Delta tables are in a local folder,
where ours is synced and the MERGE is not; the objects are in moto's server, on loopback. The rows are compared at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from benchmarks.data import REPO, WORK, fresh_folder
from benchmarks.measure import Measured, adopt_orphans, measure
from benchmarks.models import DATES, STALE, days, history
from daemon.core.parquet import encode
from tests.support import s3

PEERS = Path(__file__).parent / "peers"
EPOCH = date(1970, 1, 1)


def versions(work: Path, curated: Path) -> dict[str, Path]:
    """Folders with the files of the 200 dates: "a" as they are published, "b" with another amount in each row."""
    found = {"a": work / "lake-a", "b": work / "lake-b"}
    stale = days()[:: DATES // STALE][:STALE]
    if not (found["b"] / "ready").exists():
        for name, folder in found.items():
            fresh_folder(folder)
            for day in stale:
                table = pq.ParquetFile(curated / f"date={day}" / "fact_order.parquet").read()
                if name == "b":
                    amount = pc.add(table["amount"], pa.scalar(1, table["amount"].type)).cast(table["amount"].type)
                    table = table.set_column(
                        table.schema.get_field_index("amount"), table.schema.field("amount"), amount
                    )
                (folder / f"{day}.parquet").write_bytes(encode(table))
            (folder / "ready").touch()
    return found


def deliver(kind: str, url: str, endpoint: str, paths: list[Path]) -> None:
    """One delivery: what the worker process does for it. A file's name, or that of its folder, ends with its date."""
    from daemon.core.columns import fact_schema
    from daemon.downstream.destinations.delta import Delta
    from daemon.downstream.destinations.objects import Objects
    from daemon.downstream.destinations.store import Change, Delivery, Target

    values = {"url": url, "options": s3.options(endpoint) if endpoint else {}, "vacuum": 30 * 86_400, "checkpoint": 10}
    store = (Delta if kind == "table" else Objects)(Target(kind, "bench", values))
    changes = []
    for path in paths:
        day = path.stem if path.stem != "fact_order" else path.parent.name.removeprefix("date=")
        content = path.read_bytes()
        digest = hashlib.sha256(content).digest()
        changes.append(Change("fact_order", (date.fromisoformat(day) - EPOCH).days, path, digest, len(content)))
    before = store.contents()
    store.deliver(Delivery(before, changes, {"fact_order": fact_schema(())}, len(before)))


def timed(command: list[str], folder: Path, log: Path) -> Measured:
    """The time of a command while a server runs, which `measure` would take for a part of it."""
    os.sync()
    began = time.perf_counter()
    with log.open("wb") as sink:
        subprocess.run(command, cwd=folder, stdout=sink, stderr=sink, check=True)
    return Measured(time.perf_counter() - began, 0.0, 0.0)


def ours(kind: str, url: str, paths: list[Path], log: Path, endpoint: str = "") -> Measured:
    log.with_suffix(".paths").write_text("\n".join(map(str, paths)))
    command = [sys.executable, "-m", "benchmarks.lake", "deliver", kind, url, str(log.with_suffix(".paths")), endpoint]
    return (timed if endpoint else measure)(command, REPO, log)


def peer(script: str, *words: str, log: Path, lines: str = "") -> Measured:
    log.with_suffix(".in").write_text(lines)
    quoted = " ".join(f"'{word}'" for word in (sys.executable, str(PEERS / script), *words))
    return (timed if lines else measure)(["sh", "-c", f"exec {quoted} < '{log.with_suffix('.in')}'"], REPO, log)


def rows(url: str) -> list[tuple]:
    found = DeltaTable(url).to_pyarrow_table(columns=["date", "amount", "qty"])
    sums = found.group_by("date").aggregate([("amount", "sum"), ("qty", "sum"), ([], "count_all")]).sort_by("date")
    return list(zip(*sums.to_pydict().values(), strict=True))


def compared(name: str, runs: int, sides: dict, bar: str) -> None:
    """Runs both sides alternately, in both orders."""
    ratios = []
    for number in range(runs):
        taken: dict[str, Measured] = {}
        for side in list(sides)[:: -1 if number % 2 else 1]:
            taken[side] = sides[side]("ba"[number % 2])
        ratios.append(taken["ours"].wall_seconds / taken["by hand"].wall_seconds)
        shown = (
            f"{side} {one.wall_seconds:.2f} s" + (f", {one.peak_megabytes:,.0f} MB" if one.peak_megabytes else "")
            for side, one in sorted(taken.items())
        )
        print("  " + "; ".join(shown), flush=True)
    print(f"{name}: {STALE} of {DATES} dates: median {statistics.median(ratios):.2f} × by hand{bar}", flush=True)


def main() -> None:
    if sys.argv[1:2] == ["deliver"]:
        kind, url, paths, endpoint = sys.argv[2:]
        return deliver(kind, url, endpoint, [Path(path) for path in Path(paths).read_text().splitlines()])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--work", type=Path, default=WORK)
    options = parser.parse_args()
    adopt_orphans()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    curated = history(work) / "output" / "curated"
    files = {name: sorted(folder.glob("*.parquet")) for name, folder in versions(work, curated).items()}
    everything = sorted(curated.glob("date=*/fact_order.parquet"))

    table, merged, log = work / "lake-table", work / "lake-merged", work / "lake.log"
    for folder in (table, merged):
        fresh_folder(folder)
    ours("table", str(table), everything, log)
    peer("delta_merge.py", str(merged), "build", str(curated), log=log)
    sides = {
        "ours": lambda which: ours("table", str(table), files[which], log),
        "by hand": lambda which: peer("delta_merge.py", str(merged), "merge", *map(str, files[which]), log=log),
    }
    compared("table", options.runs, sides, " (MERGE; bar 0.8)")
    if rows(str(table / "fact_order")) != rows(str(merged)):
        raise SystemExit("the tables differ")

    with s3.server() as endpoint:
        s3.bucket(endpoint, "ours")
        s3.bucket(endpoint, "hand")
        ours("mirror", "s3://ours", everything, log, endpoint)
        names = {which: "\n".join(f"{path.stem}.parquet\t{path}" for path in files[which]) for which in files}
        sides = {
            "ours": lambda which: ours("mirror", "s3://ours", files[which], log, endpoint),
            "by hand": lambda which: peer("one_upload_per_file.py", "s3://hand", endpoint, log=log, lines=names[which]),
        }
        compared("mirror", options.runs, sides, " (one upload per file)")
    return None


if __name__ == "__main__":
    subprocess.run(["sync"], check=False)
    main()
