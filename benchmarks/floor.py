"""The floor: the least that this input costs with the same building blocks, measured in the same run.

    read + hash + copy   the raw copy with SHA-256 and fsync
    parse                every record with the fast path, on all cores
    encode               both tables as Parquet from finished columns, on all cores
    write + fsync        those files

Without decisions, index, merge, ledger and sorting by order. The steps are timed one after the other and added up; the daemon may
be faster where it overlaps them.

    python -m benchmarks.floor INPUT_FILE WORK_FOLDER
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from daemon.execution.process import prepare

prepare()

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402

from daemon.core.merge.facts import files_of, gathered, lines_of  # noqa: E402
from daemon.core.merge.partition import order_by_time  # noqa: E402
from daemon.core.model import ParseContext, dates_of  # noqa: E402
from daemon.core.parse.documents import cut  # noqa: E402
from daemon.core.parse.parse import Piece, parse  # noqa: E402
from daemon.storage import files  # noqa: E402

PIECE_BYTES = 8 << 20


def main() -> None:
    """Prints each step and the sum, in seconds."""
    source, work = Path(sys.argv[1]), Path(sys.argv[2])
    work.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0))
    total = 0.0

    def step(name: str, work_on: Callable[[], object]) -> object:
        nonlocal total
        started = time.perf_counter()
        answer = work_on()
        taken = time.perf_counter() - started
        total += taken
        print(f"{name} {taken:.3f}", flush=True)
        return answer

    copy = work / "copy"

    def archive() -> None:
        with files.opened(source) as descriptor:
            files.copy_unsynced(descriptor, copy)
        files.sync(copy)

    step("archive", archive)
    context = ParseContext(int(time.time() * 1e6), 86_400_000_000)
    with ThreadPoolExecutor(cores) as pool:

        def read() -> list[pa.Table]:
            content = copy.read_bytes()
            pieces = [Piece(1, content[a:b], context, form) for a, b, form in cut(content, PIECE_BYTES)]
            return list(pool.map(lambda piece: parse([piece]).orders, pieces))

        tables = step("parse", read)
        orders = pa.concat_tables(tables)  # type: ignore[arg-type]
        rows = order_by_time(orders, np.arange(orders.num_rows))
        dates = dates_of(orders["created_at"].to_numpy()[rows])
        edges = np.append(np.flatnonzero(np.diff(dates, prepend=-1)), len(rows))
        spans = [rows[a:b] for a, b in pairwise(edges)]
        encoding = writing = 0.0
        several = max(1, len(spans) // 25)
        for first in range(0, len(spans), several):  # some dates at a time, to bound memory
            facts = [lines_of(*gathered(orders, span)).table() for span in spans[first : first + several]]
            started = time.perf_counter()
            made = list(pool.map(files_of, facts))
            encoding += time.perf_counter() - started
            started = time.perf_counter()
            for number, (one, other) in enumerate(made, first):
                (work / f"{number}.fact").write_bytes(one)
                (work / f"{number}.items").write_bytes(other)
            writing += time.perf_counter() - started
        started = time.perf_counter()
        files.sync_many(path for path in work.iterdir())
        writing += time.perf_counter() - started
    print(f"encode {encoding:.3f}\nwrite {writing:.3f}\ntotal {total + encoding + writing:.3f}")


if __name__ == "__main__":
    main()
