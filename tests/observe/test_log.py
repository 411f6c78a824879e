"""The log: what is written for a person's terminal."""

from __future__ import annotations

import io
import json
import logging
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from daemon.observe import log
from tests.support.examples import examples

SLOW = examples(100)


@SLOW
@given(
    st.text(max_size=40), st.sampled_from(["drop quarantined", "drop could not be taken yet, it stays in the inbox"])
)
def test_nothing_in_a_console_log_line_moves_a_terminal(name: str, event: str) -> None:
    """No control character, and none that turns the direction: they are escaped, in names and reasons alike."""
    stream = io.StringIO()
    name += "\x1b[2J\x9b31m\x7f\u202e\u2066\u200f"
    log.set_up("info", "console", stream)
    log.log.warning(event, extra={"file": name, "reason": name, "faults": {name: 1}})
    line = stream.getvalue()
    assert line.endswith("\n") and not [
        c for c in line[:-1] if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs")
    ]
    assert "\\u001b" in line and "\\u009b" in line and "\\u202e" in line
    logging.getLogger("strandline").handlers.clear()


def test_long_work_without_a_terminal_is_a_line_now_and_then() -> None:
    """None in the first half minute, and one in each of the next."""
    stream, now = io.StringIO(), 0.0
    log.set_up("info", "json", stream)
    telling = log.Telling(lambda: now)
    for second in range(100):
        now = float(second)
        telling("replaying drops", second, 100)
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(one["event"], one["phase"], one["done"], one["total"]) for one in told] == [
        ("at work", "replaying drops", second, 100) for second in (30, 60, 90)
    ]
    logging.getLogger("strandline").handlers.clear()
