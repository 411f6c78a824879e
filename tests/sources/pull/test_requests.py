"""What a server asks for with Retry-After."""

from __future__ import annotations

import pytest

from daemon.sources.pull.requests import retry_after

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("2.0", 2.0),  # Shopify
        ("0.25", 0.25),
        ("3.", 3.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),  # it is over
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        (".5", None),
        ("1e3", None),
        ("nan", None),
        ("1.2.3", None),
        ("٣", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    """A decimal is no valid form, and servers send it; anything else that is not valid counts as no header."""
    assert retry_after(value, NOW) == seconds
