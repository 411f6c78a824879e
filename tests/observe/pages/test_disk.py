"""The disk is measured beside requests: none waits for it, and it takes a tenth of the time at most."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest

from daemon.observe.pages.disk import DiskPage
from daemon.observe.pages.lookup_pages import NotYet
from daemon.observe.pages.query import Query
from tests.support.daemon_process import until


def asked(page: DiskPage) -> dict[str, Any]:
    return page.look_ups[0].look(Query({}))


def test_a_small_output_is_measured_within_the_request_and_not_again_at_once() -> None:
    """With when it was measured; in a thread of low priority."""
    measured: list[int] = []

    def measure() -> dict[str, Any]:
        measured.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return {"bytes": 7}

    page = DiskPage(measure)
    first = asked(page)
    assert first["bytes"] == 7 and first["measured_at"].endswith("Z")
    assert [asked(page) for _ in range(5)] == [first] * 5
    assert measured == [19] and os.getpriority(os.PRIO_PROCESS, 0) < 19


def test_a_large_output_is_measured_beside_requests() -> None:
    """The first ones are told to come again; later ones get what was known while it is measured again."""
    go_on = threading.Event()
    numbers = iter(range(10))

    def measure() -> dict[str, Any]:
        go_on.wait(60)
        return {"bytes": next(numbers)}

    page = DiskPage(measure, fresh_seconds=0.0)
    with pytest.raises(NotYet, match="load the page again"):
        asked(page)
    go_on.set()
    first = until(lambda: _known(page))
    go_on.clear()
    until(lambda: page._running is not None or asked(page) is None)
    began = time.monotonic()
    assert asked(page)["bytes"] >= first["bytes"] and time.monotonic() - began < 30
    go_on.set()
    until(lambda: asked(page)["bytes"] > first["bytes"])


def _known(page: DiskPage) -> dict[str, Any] | None:
    try:
        return asked(page)
    except NotYet:
        return None


def test_a_failure_is_told_and_tried_again() -> None:
    """As of a disk that could not be read for a while."""
    results: list[OSError | dict[str, Any]] = [{"bytes": 1}, OSError("disk I/O error")]

    def measure() -> dict[str, Any]:
        found = results.pop()
        if isinstance(found, OSError):
            raise found
        return found

    page = DiskPage(measure, fresh_seconds=0.0)
    with pytest.raises(NotYet, match="could not be listed: disk I/O error"):
        asked(page)
    assert until(lambda: _known(page))["bytes"] == 1
