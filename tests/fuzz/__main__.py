"""Fuzzes each harness with libFuzzer, guided by the coverage of the C and of the parser's Python, under ASan and UBSan.

    make fuzz                                          an hour for each harness: FUZZ_SECONDS=3600
    python -m tests.fuzz --input FILE --harness NAME   reads one input again, on the usual build
    python -m tests.fuzz --seconds 600 --minimize      also packs what was found into tests/data/fuzz
    python -m tests.fuzz --mutated 1000000             other inputs instead, many and unguided, on the usual build

An input that fails is kept in build/fuzz/found/HARNESS, with the log of its process. It needs clang.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz import corpus, mutated
from tests.fuzz.harnesses import HARNESSES
from tests.support import REPO
from tests.support.instrumented import checkout, environment

FOLDER = REPO / "build" / "fuzz"
# -Xclang: the compiler instruments, and the linker adds no runtime, which atheris brings.
FLAGS = ("-O2", "-Xclang", "-fsanitize=address", "-fsanitize=fuzzer-no-link,undefined", "-fsanitize-trap=undefined")
SLICE_SECONDS = 300  # of one process: instrumented Python leaks some 20 KB for each input
# The timeout is of the clock: on a busy machine, a process may stand still for half a minute.
OPTIONS = ("-max_len=1024", "-timeout=300", "-rss_limit_mb=6000", "-print_final_stats=1", "-reduce_inputs=1")
WORDS = (
    '"order_id":', '"created_at":', '"updated_at":', '"amount":', '"items":', '"metadata":', '"sku":', '"qty":', '"price":',
    '"orders":[', '"2026-03-02T18:04:11Z"', "},{", "}\n{", "\\u0000", "\\ud800", "1e400", "-0", "null", "true", "[]", "{}",
    "user_id,email", "sku,name,price", "\ufeff", '"id":', '"created":', '"total":', '"total_money":{"amount":',
    '"customer":{"id":', '"email":', '"line_items":[{', '"product":{"id":', '"parent_item_id":', '"status":"gone"',
    '"currency":"JPY"', "2026-03-29 02:30",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--harness", choices=HARNESSES)
    parser.add_argument("--minimize", action="store_true")
    parser.add_argument("--input", type=Path)
    parser.add_argument("--mutated", type=int)
    options = parser.parse_args()
    if options.input:
        HARNESSES[options.harness](options.input.read_bytes())
        return 0
    if options.mutated:
        return 0 if mutated.run(options.mutated, options.processes, [word.encode() for word in WORDS]) else 1
    prepare()
    names = [options.harness] if options.harness else list(HARNESSES)
    with ThreadPoolExecutor(options.processes) as pool:
        good = list(pool.map(lambda name: fuzzed(name, options.seconds), names))
    if options.minimize:
        for name in names:
            minimize(name)
    return 0 if all(good) else 1


def prepare() -> None:
    """Makes the instrumented copy, and installs atheris beside it."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    checkout(FOLDER / "tree", "clang", FLAGS)
    words = ("".join(f"\\x{byte:02X}" for byte in word.encode()) for word in WORDS)
    (FOLDER / "words").write_text("".join(f'"{word}"\n' for word in words))
    lock = REPO / "tests" / "fuzz.lock"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--requirement", str(lock)]
    subprocess.run([*install, "--no-deps", "--target", str(FOLDER / "packages")], check=True)


def fuzzed(name: str, seconds: int) -> bool:
    """Fuzzes one harness, in a series of processes over one corpus. False where an input failed."""
    folder = FOLDER / "found" / name
    corpus.unpack(name, folder / "corpus")
    ends, inputs = time.monotonic() + seconds, 0
    while (left := round(ends - time.monotonic())) > 0:
        log = folder / f"log-{left}"
        options = (
            f"-max_total_time={min(left, SLICE_SECONDS)}",
            f"-dict={FOLDER / 'words'}",
            f"-artifact_prefix={folder}/",
        )
        code = run(name, log, *OPTIONS, *options, str(folder / "corpus"))
        done = re.search(r"stat::number_of_executed_units: (\d+)", log.read_text(errors="replace"))
        inputs += int(done[1]) if done else 0
        if code:
            print(f"{name}: an input failed, see {folder}: {tail(log)}", file=sys.stderr)
            return False
    print(f"{name}: {inputs:,} inputs in {seconds} s, {len(list((folder / 'corpus').iterdir())):,} kept, 0 failed")
    return True


def run(name: str, log: Path, *arguments: str) -> int:
    """One process of libFuzzer. It runs this command again where it merges."""
    again = FOLDER / f"run-{name}"
    words = [sys.executable, "-m", "tests.fuzz.target", str(again), name]
    again.write_text('#!/bin/sh\nexec {} "$@"\n'.format(" ".join(f"'{word}'" for word in words)))
    again.chmod(0o755)
    libfuzzer = str(FOLDER / "packages" / "asan_with_fuzzer.so")
    variables = environment([libfuzzer], PYTHONPATH=str(FOLDER / "packages"), PYTHONMALLOC="default")
    with open(log, "wb") as stream:
        command = [again, *arguments]
        return subprocess.run(
            command, cwd=FOLDER / "tree", env=variables, stdout=stream, stderr=stream, check=False
        ).returncode


def minimize(name: str) -> None:
    """Packs the fewest inputs that reach what all reach."""
    folder = FOLDER / "found" / name
    (folder / "fewest").mkdir(exist_ok=True)
    code = run(name, folder / "log-merge", "-merge=1", *OPTIONS, str(folder / "fewest"), str(folder / "corpus"))
    assert code == 0, tail(folder / "log-merge")
    corpus.pack(name, (path.read_bytes() for path in (folder / "fewest").iterdir()))


def tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-40:])


if __name__ == "__main__":
    sys.exit(main())
