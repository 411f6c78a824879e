"""One fuzzer process: libFuzzer (of atheris) over one harness. It runs in a copy of the checkout whose C is instrumented.

python -m tests.fuzz.target HARNESS [arguments of libFuzzer]
"""

from __future__ import annotations

import sys
from itertools import count

import atheris

with atheris.instrument_imports(include=["daemon.core.parse"]):
    from daemon.core.parse import csv, parse  # noqa: F401  # the Python whose coverage guides, too

from tests.fuzz.harnesses import HARNESSES, WHOLE_EVERY

harness, numbers = HARNESSES[sys.argv[2]], count()


def check(data: bytes) -> None:
    """One input."""
    harness(data, next(numbers) % WHOLE_EVERY == 0)


# argv[0] is what libFuzzer runs again where it merges.
atheris.Setup([sys.argv[1], *sys.argv[3:]], check)
atheris.Fuzz()
