"""Sizes and time spans mean exactly what their text says."""

from __future__ import annotations

import math

import pytest

from daemon.core.quantities import A_SIZE, a_duration, is_number, read_duration, read_size

SIZES = {
    "B": 1,
    "KB": 1_000,
    "MB": 1_000_000,
    "GB": 1_000_000_000,
    "TB": 1_000_000_000_000,
    "KiB": 1_024,
    "MiB": 1_048_576,
    "GiB": 1_073_741_824,
    "TiB": 1_099_511_627_776,
}
SPANS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
YEAR = 366


@pytest.mark.parametrize(("unit", "size"), SIZES.items())
def test_a_size_has_a_unit_of_decimal_or_binary_steps(unit: str, size: int) -> None:
    assert read_size(f"1{unit}") == size
    assert read_size(f" 12 {unit} ") == 12 * size
    assert unit in A_SIZE


@pytest.mark.parametrize(("unit", "seconds"), SPANS.items())
def test_a_time_span_has_a_unit(unit: str, seconds: float) -> None:
    assert read_duration(f"1{unit}", YEAR) == seconds
    assert read_duration(f"3.5 {unit}", YEAR) == 3.5 * seconds
    assert f" {unit}" in a_duration(YEAR).replace("(", " ")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(0, 0), ("0d", 0), (1, 1), (0.25, 0.25), (604_800, 604_800), (604_800.0, 604_800), ("7d", 604_800)],
)
def test_a_time_span_is_from_zero_to_the_most_that_is_allowed(value: float | str, seconds: float) -> None:
    assert read_duration(value, 7) == seconds


@pytest.mark.parametrize("value", [-0.001, -1, 604_801, "7.000001d", "8d", "-1d"])
def test_a_time_span_outside_of_these_is_none(value: float | str) -> None:
    assert read_duration(value, 7) is None


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (1, 1),
        (2**63 - 1, 2**63 - 1),
        ("9223372036854775807B", 2**63 - 1),
        (4096.0, 4096),
        ("1.5KiB", 1536),
        ("0.001KB", 1),
    ],
)
def test_a_size_is_whole_bytes_from_one_on(value: float | str, size: int) -> None:
    assert read_size(value) == size


@pytest.mark.parametrize("value", [0, -1, "0B", 0.5, "1.0001KB", 2**63, "9223372036854775808B", "8388608TiB"])
def test_a_size_outside_of_these_or_with_a_part_of_a_byte_is_none(value: float | str) -> None:
    assert read_size(value) is None


def test_a_size_is_exact_beyond_what_a_float_holds() -> None:
    assert read_size("9007199254740993B") == 2**53 + 1
    assert read_size("8.000000000000000001KiB") is None  # as a float, 8


@pytest.mark.parametrize(
    "value",
    [True, False, None, [1], math.nan, math.inf, -math.inf, "", "1", "MiB", "1 mib", "1e3B", "+1B", "1.B", "1d1"],
)
def test_what_is_neither_a_number_nor_a_text_with_a_unit_is_none(value: object) -> None:
    assert read_size(value) is None
    assert read_duration(value, YEAR) is None


def test_a_boolean_is_no_number() -> None:
    """Python counts with it; TOML does not."""
    assert [is_number(one) for one in (1, 1.5, 0, True, False, "1")] == [True, True, True, False, False, False]
