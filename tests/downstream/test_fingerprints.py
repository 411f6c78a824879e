"""Fingerprints: two are equal if and only if what the result is computed from is equal."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from daemon.downstream.contract import WHOLE, File, in_order, stale
from daemon.downstream.fingerprints import by_date, digest, of_everything
from tests.support.examples import examples

SOME = examples(150)
SHAS = st.sampled_from([b"a" * 32, b"b" * 32, b"c" * 32])
DAYS = st.integers(-3, 12)
DATED = st.dictionaries(DAYS, SHAS, max_size=6)
UNDATED = st.dictionaries(st.just(WHOLE), SHAS, min_size=1)
LOOKBACK = st.integers(0, 4)
READS = ("dim_user", "fact_order", "order_items")
CONTENTS = st.fixed_dictionaries({"dim_user": UNDATED, "fact_order": DATED, "order_items": DATED})
Contents = Mapping[str, Mapping[int, bytes]]


def tables(contents: Contents, path: str = "p") -> dict[str, dict[int, File]]:
    return {
        name: {date: File(f"{path}/{date}", sha256, len(path)) for date, sha256 in table.items()}
        for name, table in contents.items()
    }


def seen(contents: Contents, date: int, lookback: int) -> object:
    """All that the result of a date may depend on."""
    return contents["dim_user"], [
        (name, back, contents[name].get(date - back))
        for name in ("fact_order", "order_items") for back in range(lookback + 1)
    ]  # fmt: skip


@SOME
@given(CONTENTS, LOOKBACK)
def test_a_date_is_wanted_if_a_day_that_it_reads_is_published(contents: Contents, lookback: int) -> None:
    """That date, or one of the days before it that `lookback` reaches."""
    published = {day for name in READS for day in contents[name] if day != WHOLE}
    wanted = by_date(b"base", READS, tables(contents), lookback)
    assert wanted.keys() == {day + ahead for day in published for ahead in range(lookback + 1)}
    assert list(wanted) == sorted(wanted) or not lookback


@SOME
@given(CONTENTS, CONTENTS, LOOKBACK)
def test_fingerprints_by_date_are_equal_iff_the_inputs_are(one: Contents, other: Contents, lookback: int) -> None:
    """Of each date in both: the file of the dimension, and those of the days that the date reads."""
    first, second = (by_date(b"base", READS, tables(contents), lookback) for contents in (one, other))
    for date in first.keys() & second.keys():
        assert (first[date] == second[date]) == (seen(one, date, lookback) == seen(other, date, lookback)), date


@SOME
@given(CONTENTS, LOOKBACK, DAYS, SHAS)
def test_a_changed_day_makes_only_the_days_stale_that_read_it(
    contents: Contents, lookback: int, day: int, sha256: bytes
) -> None:
    """From that day to `lookback` days after it."""
    after = {**contents, "fact_order": {**contents["fact_order"], day: sha256}}
    found = stale(*(by_date(b"base", READS, tables(one), lookback) for one in (after, contents)))
    changed = contents["fact_order"].get(day) != sha256
    assert found.keys() == ({day + ahead for ahead in range(lookback + 1)} if changed else set())


@SOME
@given(CONTENTS, CONTENTS)
def test_a_whole_result_depends_on_every_file(one: Contents, other: Contents) -> None:
    """Equal if and only if all dates of all tables are equal."""
    first, second = (of_everything(b"base", READS, tables(contents)) for contents in (one, other))
    assert first.keys() == second.keys() == {WHOLE}
    assert (first == second) == (one == other)


@SOME
@given(CONTENTS, LOOKBACK)
def test_only_content_counts(contents: Contents, lookback: int) -> None:
    """Neither the path of a file nor its size."""
    for one in (
        lambda found: by_date(b"base", READS, found, lookback),
        lambda found: of_everything(b"base", READS, found),
    ):
        assert one(tables(contents)) == one(tables(contents, "elsewhere"))


@SOME
@given(CONTENTS, LOOKBACK)
def test_another_definition_has_no_fingerprint_in_common(contents: Contents, lookback: int) -> None:
    """So a changed text makes all stale."""
    first, second = (by_date(base, READS, tables(contents), lookback) for base in (b"one", b"two"))
    assert first.keys() == second.keys() and not set(first.values()) & set(second.values())
    assert of_everything(b"one", READS, tables(contents)) != of_everything(b"two", READS, tables(contents))


@SOME
@given(CONTENTS, LOOKBACK)
def test_a_first_dimension_makes_all_stale(contents: Contents, lookback: int) -> None:
    """A table that had no file before."""
    before = {**contents, "dim_user": {}}
    first, second = (by_date(b"base", READS, tables(one), lookback) for one in (before, contents))
    assert stale(second, first).keys() == first.keys() == second.keys()


@SOME
@given(st.lists(st.binary(max_size=3), max_size=4), st.lists(st.binary(max_size=3), max_size=4))
def test_lists_of_parts_are_told_apart(one: list[bytes], other: list[bytes]) -> None:
    """Also where they are the same bytes, divided otherwise."""
    assert (digest(*one) == digest(*other)) == (one == other)


@SOME
@given(st.dictionaries(DAYS, SHAS), st.dictionaries(DAYS, SHAS))
def test_what_differs_is_stale_oldest_first(wanted: dict[int, bytes], has: dict[int, bytes]) -> None:
    """A date that is not wanted any more has None."""
    found = stale(wanted, has)
    assert list(found) == sorted(date for date in {*wanted, *has} if wanted.get(date) != has.get(date))
    assert all(found[date] == wanted.get(date) for date in found)


@SOME
@given(st.lists(st.sampled_from("abcdef"), unique=True).flatmap(lambda names: st.fixed_dictionaries(
    {name: st.frozensets(st.sampled_from([*names[:number], "fact_order"]), max_size=3) for number, name in enumerate(names)}
)))  # fmt: skip
def test_each_comes_after_what_it_reads(reads: dict[str, frozenset[str]]) -> None:
    """Where nothing reads itself round a circle; each exactly once."""
    order = in_order(reads)
    assert sorted(order) == sorted(reads)
    assert all(order.index(other) < order.index(name) for name in order for other in reads[name] if other in reads)
