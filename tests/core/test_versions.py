"""Winners against the order index."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.merge import keys
from daemon.core.model import INDEX_ENTRY
from daemon.core.parse.values import order_key
from daemon.core.versions import Outcome, absent, decide, equal, keys_of, reinstate
from tests.support.examples import examples

SLOW = examples(200)


# Keys that share their first half as they never do in practice, and some that do not.
KEYS = st.tuples(st.sampled_from([0, 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1), st.integers(0, 3))


DELETED = -100_000_000  # the date of a deletion
NUMBERS = st.sampled_from([0, 1, 2, 2**31, 2**32 - 1])  # of drops, and positions in them
ENTRIES = st.dictionaries(
    KEYS,
    st.tuples(st.sampled_from([0, 1, 2, DELETED]), st.integers(0, 2), *[NUMBERS] * 2, st.sampled_from([0, 1, 2**120])),
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


@SLOW
@given(ENTRIES, st.data())
def test_what_a_withdrawn_drop_leaves(withdrawn: dict, data: st.DataObject) -> None:
    """The latest version that is left comes in place of each entry, later or not. Without one, the order is not known."""
    left = {key: data.draw(ENTRIES.filter(bool)) for key in withdrawn if data.draw(st.booleans())}
    left = {key: next(iter(entries.values())) for key, entries in left.items()}
    given_entries = entries_of(left)
    found = reinstate(entries_of(withdrawn), given_entries)
    unknown = absent(entries_of(withdrawn))
    for i, (key, entry) in enumerate(sorted(withdrawn.items())):
        there = left.get(key)
        assert found.source[i] == (-1 if there is None else sorted(left).index(key))
        assert found.entries[i] == (unknown[i] if there is None else given_entries[found.source[i]])
        if there is None or there[0] == DELETED:
            expected = Outcome.UNCHANGED if entry[0] == DELETED else Outcome.DELETED
        elif entry[0] == DELETED:
            expected = Outcome.NEW
        elif there[0] != entry[0]:
            expected = Outcome.MOVED
        else:
            expected = Outcome.UNCHANGED if there[4] == entry[4] else Outcome.CORRECTED
        assert (found.decision.outcome[i], found.decision.old_date[i]) == (expected, entry[0])
    assert set(unknown["drop"].tolist()) <= {0} and set(unknown["date"].tolist()) <= {DELETED}


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=4), max_size=3), st.integers(0, 3))
def test_keys_of_order_ids(chunks: list[list[str]], start: int) -> None:
    """One for each id, whatever the chunks, also of a slice."""
    ids = pa.chunked_array(chunks, pa.large_string()).slice(start)
    assert keys_of(ids) == [order_key(one.encode()) for one in ids.to_pylist()]


def test_entries_are_equal_in_every_field() -> None:
    for place, name in enumerate(INDEX_ENTRY.names or ()):
        one, other = np.zeros(12, INDEX_ENTRY), np.zeros(12, INDEX_ENTRY)
        other[name][place] = b"1" if name == "content" else 1
        assert equal(one, other).tolist() == [row != place for row in range(12)]
