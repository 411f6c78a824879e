"""Many inputs in little time: mutations of the committed ones, on the usual build, without a guide. libFuzzer reads far fewer in
a second, and sees more in each.

A seed draws the same inputs again. An input that fails is kept in build/fuzz/found/HARNESS.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from hashlib import sha256

from tests.fuzz import corpus
from tests.fuzz.harnesses import HARNESSES, WHOLE_EVERY
from tests.support import REPO

ROUND = 2_000  # inputs of one call
LONGEST = 4_096  # bytes
# Of a hundred inputs. Those of `csv` and `rows` mostly draw an example for a property, which takes long.
SHARES = {"documents": 45, "records": 45, "csv": 5, "rows": 5}


def run(inputs: int, processes: int, words: Sequence[bytes]) -> bool:
    """Reads about `inputs` of them. False where one failed."""
    started, good = time.monotonic(), True
    with ProcessPoolExecutor(processes) as pool:
        for name, share in SHARES.items():
            rounds = range(-(-inputs * share // (100 * ROUND)))
            failed = sum(pool.map(partial(one_round, name, tuple(words)), rounds))
            print(f"{name}: {len(rounds) * ROUND:,} inputs, {failed} failed", flush=True)
            good = good and not failed
    print(f"in {time.monotonic() - started:.0f} s")
    return good


def one_round(name: str, words: Sequence[bytes], seed: int) -> int:
    """Reads some inputs; returns how many failed."""
    draw, known, failed = random.Random(f"{name} {seed}"), list(corpus.inputs(name).values()), 0
    for number in range(ROUND):
        data = mutated(draw, known, words)
        try:
            HARNESSES[name](data, number % WHOLE_EVERY == 0)
        except Exception as error:  # whatever it is, it is found
            kept = REPO / "build" / "fuzz" / "found" / name / f"mutated-{sha256(data).hexdigest()[:16]}"
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(data)
            print(f"{name}, seed {seed}: {kept}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
            failed += 1
    return failed


def mutated(draw: random.Random, known: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """A known input after some changes, each of a kind that is drawn."""
    data = bytearray(draw.choice(known))
    for _ in range(draw.choice((1, 1, 2, 3, 5, 8))):
        start = draw.randint(0, len(data))
        stop = min(len(data), start + draw.choice((1, 2, 8, 64)))
        other = draw.choice(known)
        put = draw.choice(
            (
                b"", bytes(data[start:stop]) * 2, draw.randbytes(stop - start), draw.choice(words), other[start:stop],
                other[start:], bytes(byte ^ (1 << draw.randrange(8)) for byte in data[start:stop]),
                str(draw.choice((0, 1, 2**31, 2**53 + 1, 2**63, 2**64, 10**18, -1))).encode(),
            )
        )  # fmt: skip
        data[start:stop] = put
    return bytes(data[:LONGEST])
