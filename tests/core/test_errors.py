"""What errors say to do."""

from __future__ import annotations

from daemon.core.errors import instead_of


def test_an_unknown_name_gets_the_nearest_one_and_all() -> None:
    """Case does not matter; a name that is like none gets no guess, and neither does one that is no text."""
    names = ("max_drops", "max_bytes")
    assert instead_of("max_drop", iter(names)) == "did you mean max_drops? Allowed are max_drops, max_bytes"
    assert instead_of("Max_Bytes", names) == "did you mean max_bytes? Allowed are max_drops, max_bytes"
    assert instead_of("colour", names) == "allowed are max_drops, max_bytes"
    assert instead_of(3, names) == "allowed are max_drops, max_bytes"
