"""The first discards of a receipt: each with why, and the line of what is broken where the raw copy is there."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from daemon.operate.discarded import with_first_discards
from tests.strategies import RECEIVED_AT_US
from tests.support.command import order
from tests.support.harness import apply_batch, open_engine

LINES = "\n".join([json.dumps(order(1)), "", '{"order_id":', json.dumps(order(2) | {"created_at": "soon"})]).encode()


@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz"])
def test_a_broken_line_is_named_while_its_raw_copy_is_there(tmp_path: Path, name: str) -> None:
    """A line of the file, with empty ones; without the copy, or where nobody asks for the line, the column of the record."""
    data = gzip.compress(LINES) if name.endswith(".gz") else LINES
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [(name, data)], RECEIVED_AT_US)
        result = engine.ledger.result(1)
    assert result is not None and result.drop.raw

    def said(*, placed: bool) -> list[str]:
        return [one["why"] for one in with_first_discards(result, tmp_path / "output", placed=placed)["first_discards"]]

    soon = 'created_at is "soon", which cannot be read as an instant'
    assert said(placed=True) == ["a value is missing (line 3, column 13)", soon]
    assert said(placed=False) == ["a value is missing (column 13 of the record)", soon]
    copy = tmp_path / "output" / result.drop.raw
    copy.write_bytes(copy.read_bytes()[: 20 if name.endswith(".gz") else 5])  # damaged
    assert said(placed=True) == said(placed=False)
    copy.unlink()
    assert said(placed=True) == said(placed=False)
