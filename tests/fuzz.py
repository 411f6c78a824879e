"""Coverage-guided fuzzing of the parser: no input may crash or block it, and the fast path must agree with the reference parser.

    pip install atheris
    python -m tests.fuzz --inputs 1000000 --processes 2

The first inputs come from the Hypothesis strategies, so that mutation starts from nearly valid drops. A failing input is kept as
crash-* (or timeout-*) in the folder that is printed. Read it alone with `python -m tests.fuzz --input FILE`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path

import atheris
from hypothesis import HealthCheck, Phase, given, settings

with atheris.instrument_imports(include=["daemon.core"]):
    from daemon.core.errors import Unreadable
    from daemon.core.mapping import DIRECT, FieldMapping
    from daemon.core.model import DIMENSIONS, ParseContext
    from daemon.core.parse import csv
    from daemon.core.parse.parse import Piece, parse

from tests import mapped_drops
from tests.strategies import RECEIVED_AT_US, drops, readable
from tests.support.as_model import assert_as_model

CONTEXT = ParseContext(RECEIVED_AT_US, 86_400_000_000)
MAPPED = FieldMapping(  # each input is read under this one, too
    fields=(
        ("amount", ("total", "total_money.amount")), ("created_at", ("created", "created_at")), ("items", ("line_items",)),
        ("order_id", ("id", "order_id")), ("price", ("price", "money.amount")), ("sku", ("product.id", "sku")),
        ("user_id", ("customer.id", "email", "customer.email")),
    ),
    time_zone="Europe/Berlin", minor_units=True, id_prefix="é-", skip_items_with="parent_item_id", deleted_path="status",
    deleted_values=('"gone"', "true"),
    columns=(
        ("gift", "boolean", ("gift",)), ("placed", "instant", ("meta.at", "placed")), ("state", "text", ("status", "metadata.x")),
        ("tip", "decimal", ("tip",)),
    ),
)  # fmt: skip
HANG_SECONDS = 20
SLICE = 100_000
MODEL_EVERY = 200  # inputs; the model is slow
WORDS = (
    '"order_id":', '"created_at":', '"updated_at":', '"amount":', '"items":', '"metadata":', '"sku":', '"qty":', '"price":',
    '"orders":[', '"2026-03-02T18:04:11Z"', "},{", "}\n{", "\\u0000", "\\ud800", "1e400", "-0", "null", "true", "[]", "{}",
    "user_id,email", "sku,name,price", "\ufeff", '"id":', '"created":', '"total":', '"total_money":{"amount":',
    '"customer":{"id":', '"email":', '"line_items":[{', '"product":{"id":', '"parent_item_id":', '"status":"gone"',
    '"currency":"JPY"', "2026-03-29 02:30",
)  # fmt: skip

_seen = count()


def check(data: bytes) -> None:
    """Reads one input in every way. Raises AssertionError if two ways disagree. The first byte chooses the kind of drop."""
    number = next(_seen)
    if data[:1] in (b"u", b"s"):  # the header of users or products
        for dimension in DIMENSIONS.values():
            try:
                csv.read(dimension, 1, data, CONTEXT)
            except Unreadable:
                continue
        return
    for mapping in (DIRECT, MAPPED):
        check_alike(data, mapping)
    if number % MODEL_EVERY == 0:
        assert_as_model(data, reference_only=False)


def check_alike(data: bytes, mapping: FieldMapping) -> None:
    """Both parsers read the same."""
    context = replace(CONTEXT, mapping=mapping)
    fast, reference = (parse([Piece(1, data, context)], reference_only=only) for only in (False, True))
    assert fast.unreadable == reference.unreadable
    assert fast.discards == reference.discards
    assert fast.tallies == reference.tallies
    ours = [sorted(one.orders.to_pylist(), key=lambda row: int(row["position"])) for one in (fast, reference)]
    assert ours[0] == ours[1]


def seeds(folder: Path, many: int) -> None:
    """Writes the first inputs."""
    numbers = count()

    @settings(
        max_examples=many,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(drops() | readable(mapped_drops.records(MAPPED), dirty=False))
    def collect(data: bytes) -> None:
        (folder / f"seed-{next(numbers)}").write_bytes(data)

    collect()
    (folder / "users").write_bytes(b"user_id,email,created_at,country\nu_1,a@example.com,2026-03-02,NA\n")
    (folder / "products").write_bytes(b'sku,name,category,price\np_1,"a ""b""\nc",x,1.50\n')


def fuzz(corpus: Path, inputs: int, seed: int) -> None:
    """Runs the fuzzer in this process, which then exits."""
    words = corpus.parent / "words"
    words.write_text("".join('"' + "".join(f"\\x{byte:02X}" for byte in word.encode()) + '"\n' for word in WORDS))
    options = {"runs": inputs, "seed": seed, "timeout": HANG_SECONDS, "max_len": 2048, "dict": words, "rss_limit_mb": 4096,
            "artifact_prefix": f"{corpus.parent}/", "print_final_stats": 1}  # fmt: skip
    atheris.Setup([sys.argv[0], str(corpus), *(f"-{name}={value}" for name, value in options.items())], check)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.input:
        check(options.input.read_bytes())
        return 0
    if options.corpus:
        fuzz(options.corpus, options.inputs, options.seed)
    folder = Path(tempfile.mkdtemp(prefix="strandline-fuzz-"))
    began = time.monotonic()
    with ThreadPoolExecutor(options.processes) as pool:
        share = options.inputs // options.processes
        done = list(pool.map(lambda number: in_slices(folder / str(number), share, number), range(options.processes)))
    bad = sum(not good for _, good in done)
    print(f"{sum(inputs for inputs, _ in done):,} inputs, {bad} failed, {time.monotonic() - began:.0f} s; {folder}")
    return 1 if bad else 0


def in_slices(folder: Path, inputs: int, number: int) -> tuple[int, bool]:
    """Fuzzes in a series of processes over one corpus. Returns the number of inputs, and whether all succeeded. A series, because
    instrumented code leaks some 20 KB of memory per input (the same code without instrumentation leaks none)."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    seeds(corpus, 400)
    done = 0
    while done < inputs:
        some = min(SLICE, inputs - done)
        command = [
            sys.executable,
            "-m",
            "tests.fuzz",
            "--corpus",
            str(corpus),
            "--seed",
            str(1000 * number + done // SLICE + 1),
        ]
        with open(folder / "log", "ab") as log:
            ended = subprocess.run([*command, "--inputs", str(some)], stderr=log, stdout=log, check=False)
        if ended.returncode:
            return done, False
        done += some
    return done, True


if __name__ == "__main__":
    sys.exit(main())
