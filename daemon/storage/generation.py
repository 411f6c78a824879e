"""The generation of the published files: a number in a small file, odd while files are being replaced, and even otherwise.

A reader that finds the same even number before and after it read saw one state. A crash leaves an odd number until the batch is
published, so nobody takes half of it for a state. The number is not made durable, since a sync costs each batch:
after a power loss in the middle of a batch, it may be even until the next start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ..core.errors import Unavailable
from . import files

FILE = "state/generation"
_PAUSE_SECONDS = 0.02
T = TypeVar("T")
_changing: set[Path] = set()  # outputs of this process


def generation(output: Path) -> int:
    """The generation now; 0 before anything was published."""
    try:
        return int((output / FILE).read_bytes())
    except (FileNotFoundError, ValueError):  # empty after a power loss
        return 0


def one_state(output: Path, read: Callable[[], T], wait_seconds: float = 60.0) -> T:
    """What `read` returns, called again until no published file was replaced meanwhile. Its errors count only if none was: a file
    that is replaced between two looks at it seems damaged. Unavailable where that takes longer than `wait_seconds`."""
    end = time.monotonic() + wait_seconds
    while True:
        before = generation(output)
        if before % 2 == 0:
            try:
                result = read()
            except Exception:
                if generation(output) == before:
                    raise
            else:
                if generation(output) == before:
                    return result
        if time.monotonic() > end:
            raise Unavailable(
                f"could not read one state of {output}: for {wait_seconds:g} s, a batch was published in the middle of each try, "
                "or is still being published. Where no daemon runs, finish it with `strandline --once`; otherwise read less at "
                "once, or what has whole states: `strandline sql`, or a [table] destination"
            )
        time.sleep(_PAUSE_SECONDS)


@contextmanager
def changing(output: Path) -> Iterator[None]:
    """While published files are being replaced, also within another such block. Only for the process that holds the lock. The
    scratch folder of a replay has no state/, and no readers."""
    if output in _changing or not (output / FILE).parent.is_dir():
        yield
        return
    odd = generation(output) | 1
    _set(output, odd)
    _changing.add(output)
    try:
        yield
    finally:
        _changing.discard(output)
    _set(output, odd + 1)  # not after an error: files were replaced in part


def _set(output: Path, number: int) -> None:
    files.write_unsynced(output / FILE, b"%d\n" % number)
