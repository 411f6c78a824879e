"""A process that writes to, or reads from, a Delta table or a mirror until it is killed or told to end.

python -m tests.downstream.lake_process write KIND URL FOLDER SEED
python -m tests.downstream.lake_process read LIBRARY URL
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.downstream.lakes import World, opened, target


def write(kind: str, url: str, folder: str, seed: str) -> None:
    """Delivers one random change after another."""
    world, chance = World(Path(folder)), random.Random(int(seed))
    store = opened(target(kind, url))
    print("ready", flush=True)
    while True:
        world.step(chance)
        world.bring(store)


def read(library: str, url: str) -> None:
    """Reads again and again until its input ends. Each line: what there was, as `orders` and the number of rows of each value."""
    print("ready", flush=True)
    for rows in _reads(library, url):
        print(repr(sorted(rows.items())), flush=True)


def _reads(library: str, url: str) -> Iterator[dict[int, int]]:
    while True:
        if library == "polars":
            import polars

            values = polars.read_delta(url)["orders"].to_list()
        else:
            from deltalake import DeltaTable

            values = DeltaTable(url).to_pyarrow_table(columns=["orders"])["orders"].to_pylist()
        yield {value: values.count(value) for value in set(values)}


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](*sys.argv[2:])
