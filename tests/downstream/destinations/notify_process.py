"""A process that runs one round over an output, and is killed at a point of it.

python -m tests.downstream.destinations.notify_process ROOT POINT
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemon.downstream.destinations.notices import Notices
from daemon.downstream.records import Records
from tests.support.following import Home

# A method, and whether the process is killed after it.
POINTS: dict[str, tuple[Any, str, bool]] = {
    "not recorded": (Notices, "begin", False),
    "recorded": (Notices, "begin", True),
    "answered": (Notices, "arrived", False),
    "told": (Records, "sent", False),  # between the two transactions after an answer
    "noted": (Notices, "arrived", True),
}


def main() -> None:
    root, point = sys.argv[1:]
    if point in POINTS:
        owner, name, after = POINTS[point]
        setattr(owner, name, _killing(getattr(owner, name), after=after))
    Home(Path(root)).round()


def _killing(method: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    def killed(*arguments: Any) -> None:
        if after:
            method(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    return killed


if __name__ == "__main__":
    main()
