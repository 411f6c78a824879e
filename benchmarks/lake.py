"""200 of 730 dates into a Delta table and into object storage, against the same by hand: deltalake's MERGE; one upload per file.

    python -m benchmarks.lake [--runs N] [--only table|mirror] [--work FOLDER]

All are whole processes over the same files. Each run changes an amount in every row of the 200 dates, back and forth. What runs
here is the class that the worker process opens: to find and link the files is not in it. The Delta tables are in a local folder,
where ours is synced and the MERGE is not. The objects are in moto's server, on loopback, whose answers are delayed by 20 ms, as
those of a store in the same region are: without, its one core decides, and our delivery, with twice as many requests (a manifest
for each date), takes twice as long. The rows of the tables are compared at the end.
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

from benchmarks.data import REPO, WORK, fresh_folder
from benchmarks.measure import Measured, adopt_orphans, measure
from benchmarks.models import DATES, STALE, days, history

PEERS = Path(__file__).parent / "peers"
EPOCH = date(1970, 1, 1)
DELAY_SECONDS = 0.02
OPTIONS = {"region": "us-east-1", "allow_http": "true", "access_key_id": "a", "secret_access_key": "b"}


def versions(work: Path, curated: Path) -> dict[str, Path]:
    """Folders with the files of the 200 dates: "a" as they are published, "b" with another amount in each row."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from daemon.core.parquet import encode

    found = {"a": work / "lake-a", "b": work / "lake-b"}
    stale = days()[:: DATES // STALE][:STALE]
    if not (found["b"] / "ready").exists():
        for name, folder in found.items():
            fresh_folder(folder)
            for day in stale:
                facts = pq.ParquetFile(curated / f"date={day}" / "fact_order.parquet").read()
                if name == "b":
                    number = facts.schema.get_field_index("amount")
                    field = facts.schema.field(number)
                    more = pc.add(facts["amount"], pa.scalar(1, field.type)).cast(field.type)
                    facts = facts.set_column(number, field, more)
                (folder / f"{day}.parquet").write_bytes(encode(facts))
            (folder / "ready").touch()
    return found


def deliver(kind: str, url: str, endpoint: str, paths: list[Path]) -> None:
    """One delivery: what the worker process does for it. A file's name, or that of its folder, ends with its date."""
    from daemon.core.columns import fact_schema
    from daemon.downstream.destinations.store import Change, Delivery, Target
    from daemon.downstream.destinations.work import destination_contents, destination_deliver

    options = dict(OPTIONS, endpoint=endpoint) if endpoint else {}
    target = Target(kind, "bench", {"url": url, "options": options, "vacuum": 30 * 86_400, "checkpoint": 10})
    changes = []
    for path in paths:
        day = path.stem if path.stem != "fact_order" else path.parent.name.removeprefix("date=")
        content = path.read_bytes()
        digest = hashlib.sha256(content).digest()
        changes.append(Change("fact_order", (date.fromisoformat(day) - EPOCH).days, path, digest, len(content)))
    before = destination_contents(target)
    destination_deliver(target, Delivery(before, changes, {"fact_order": fact_schema(())}, len(before)))


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
    from deltalake import DeltaTable

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


def table(work: Path, curated: Path, files: dict[str, list[Path]], runs: int) -> None:
    url, merged, log = work / "lake-table", work / "lake-merged", work / "lake.log"
    for folder in (url, merged):
        fresh_folder(folder)
    ours("table", str(url), sorted(curated.glob("date=*/fact_order.parquet")), log)
    peer("delta_merge.py", str(merged), "build", str(curated), log=log)
    sides = {
        "ours": lambda which: ours("table", str(url), files[which], log),
        "by hand": lambda which: peer("delta_merge.py", str(merged), "merge", *map(str, files[which]), log=log),
    }
    compared("table", runs, sides, " (MERGE; bar 0.8)")
    if rows(str(url / "fact_order")) != rows(str(merged)):
        raise SystemExit("the tables differ")


def mirror(work: Path, curated: Path, files: dict[str, list[Path]], runs: int) -> None:
    from tests.support import faulty, s3

    log = work / "lake.log"
    with s3.server() as url, faulty.between(url, delay_seconds=DELAY_SECONDS) as proxy:
        s3.bucket(url, "ours")
        s3.bucket(url, "hand")
        ours("mirror", "s3://ours", sorted(curated.glob("date=*/fact_order.parquet")), log, proxy.url)
        names = {which: "\n".join(f"{path.stem}.parquet\t{path}" for path in files[which]) for which in files}
        sides = {
            "ours": lambda which: ours("mirror", "s3://ours", files[which], log, proxy.url),
            "by hand": lambda which: peer(
                "one_upload_per_file.py", "s3://hand", proxy.url, log=log, lines=names[which]
            ),
        }
        compared("mirror", runs, sides, " (one upload per file)")


def main() -> None:
    if sys.argv[1:2] == ["deliver"]:
        kind, url, paths, endpoint = sys.argv[2:]
        deliver(kind, url, endpoint, [Path(path) for path in Path(paths).read_text().splitlines()])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--only", choices=("table", "mirror"))
    parser.add_argument("--work", type=Path, default=WORK)
    options = parser.parse_args()
    adopt_orphans()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    curated = history(work) / "output" / "curated"
    files = {name: sorted(folder.glob("*.parquet")) for name, folder in versions(work, curated).items()}
    for one in (table, mirror):
        if options.only in (None, one.__name__):
            one(work, curated, files, options.runs)


if __name__ == "__main__":
    subprocess.run(["sync"], check=False)
    main()
