"""One round over the output in the current folder, as a process of its own that can be killed: for tests/faults/server.py.

What a worker does, it does in this process, so one fault library sees all of it.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from unittest import mock

import duckdb  # noqa: F401 - before the fork

from daemon.core.errors import StrandlineError
from daemon.downstream import follow, pandas_runs  # noqa: F401
from tests.support.following import Home, InlineWorker, never


def main(_: Sequence[str]) -> int:
    """Exit code 0: all is up to date; 1: something is not, and standard error says what; 3: no round was possible."""
    home = Home(Path.cwd())
    try:
        with mock.patch.object(follow, "Worker", InlineWorker):
            following = follow.Following(home.output, home.settings(), lambda: None)
        with closing(following):
            found = following.round(never, now=True)
    except (OSError, sqlite3.Error, StrandlineError) as error:
        print(f"no round: {error}", file=sys.stderr)
        return 3
    for one in found:
        if one.error:
            print(f"{one.name}: {one.error}", file=sys.stderr)
    return 1 if any(one.error for one in found) else 0
