"""The reference parser on documents that end too early, beside those that are wrong."""

from __future__ import annotations

import pytest

from daemon.core.parse.parse import Piece, parse
from tests.support.as_model import CONTEXT, assert_as_model

WHOLE = rb'[{"order_id": "a\u00e9\\", "created_at": "2026-03-02", "amount": -1.5e+1, "metadata": [true, null, -0.2, {"x": NaN}]}]'


def reason_of(data: bytes) -> str:
    return parse([Piece(1, data, CONTEXT)], reference_only=True).unreadable[1]


def test_a_document_that_is_cut_anywhere_is_truncated() -> None:
    """Inside a token and between two: it is told from one that is wrong there."""
    for length in range(1, len(WHOLE)):
        data = WHOLE[:length]
        assert "is truncated" in reason_of(data), data
        assert_as_model(data, reference_only=True)


@pytest.mark.parametrize(
    "end",
    [
        rb'"\u12zz"',
        rb'"\u12"',
        rb'"\x',
        rb'"\u00g',
        "tru,",
        "nul]",
        "-]",
        "1.]",
        "1e]",
        "Infinitx",
        "NaM",
        "+1",
        "01",
        "'a'",
    ],
)
def test_a_document_that_is_wrong_is_damaged(end: str | bytes) -> None:
    """However much of it is missing behind that."""
    value = end if isinstance(end, bytes) else end.encode()
    for data in (b'[{"order_id": ' + value, b'[{"order_id": ' + value + b', "created_at": "2026-03-02"}]'):
        assert "truncated" not in reason_of(data), data
        assert_as_model(data, reference_only=True)


@pytest.mark.parametrize(("levels", "is_kept"), [(510, True), (511, True), (512, False), (600, False)])
def test_a_record_may_be_nested_so_deep(levels: int, is_kept: bool) -> None:
    """Its own braces are the first level. Brackets side by side, and those in texts, do not count, however many."""
    beside = b"[" + b"{}," * 600 + b'"' + b"[" * 600 + b'"]'
    inside = b"[" * levels + b"]" * levels
    for metadata in (inside, b"[" + inside[1:-1] + b",[]]", beside):
        deep = b'{"order_id": "a", "created_at": "2026-03-02", "metadata": ' + metadata + b"}"
        data = b'{"order_id": "b", "created_at": 1795075200}\n' + deep
        found = parse([Piece(1, data, CONTEXT)], reference_only=True)
        assert found.orders.num_rows == (2 if is_kept or metadata is beside else 1)
        assert_as_model(data, reference_only=True)
