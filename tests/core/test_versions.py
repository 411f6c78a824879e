"""Winners against the order index."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.merge import keys
from daemon.core.model import INDEX_ENTRY
from daemon.core.versions import Outcome, decide
from tests.support.examples import examples

SLOW = examples(200)


# Keys that share their first half as they never do in practice, and some that do not.
KEYS = st.tuples(st.sampled_from([0, 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1), st.integers(0, 3))


DELETED = -100_000_000  # the date of a deletion
ENTRIES = st.dictionaries(
    KEYS,
    st.tuples(st.sampled_from([0, 1, 2, DELETED]), *[st.integers(0, 2)] * 3, st.sampled_from([0, 1, 2**120])),
    max_size=60,
)


def entries_of(content: dict[tuple[int, int], tuple]) -> np.ndarray:
    entries = np.zeros(len(content), INDEX_ENTRY)
    for entry, (key, (date, instant, drop, position, hashed)) in zip(entries, sorted(content.items()), strict=True):
        entry["hi"], entry["lo"], entry["date"], entry["instant"], entry["drop"], entry["position"] = (
            *key, date, instant, drop, position,
        )  # fmt: skip
        entry["content"] = hashed.to_bytes(16, "little")
    return entries


@SLOW
@given(ENTRIES, ENTRIES)
def test_winners_are_held_against_what_is_published(winners: dict, published: dict) -> None:
    """The table of core/versions.py, case by case."""
    ours, theirs = entries_of(winners), entries_of(published)
    found = np.zeros(len(ours), np.bool_)
    decision = decide(ours, [(*keys.matches(ours, theirs, found), theirs)])
    for i, (key, (date, *version, content)) in enumerate(sorted(winners.items())):
        there = published.get(key)
        later = there is not None and tuple(version) > there[1:4]
        if there is None:
            expected = Outcome.DELETED if date == DELETED else Outcome.NEW
        elif not later:
            expected = Outcome.SUPERSEDED
        elif date == DELETED:
            expected = Outcome.UNCHANGED if there[0] == DELETED else Outcome.DELETED
        elif there[0] == DELETED:
            expected = Outcome.NEW
        elif date != there[0]:
            expected = Outcome.MOVED
        else:
            expected = Outcome.UNCHANGED if content == there[4] else Outcome.CORRECTED
        assert decision.outcome[i] == expected
        assert decision.old_date[i] == (DELETED if there is None else there[0])
