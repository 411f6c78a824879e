"""What a batch commits of each drop."""

from __future__ import annotations

import json
from pathlib import Path

from tests.strategies import RECEIVED_AT_US
from tests.support.command import as_drop, order
from tests.support.harness import apply_batch, open_engine


def test_only_applied_drops_keep_a_raw_copy(tmp_path: Path) -> None:
    """One with the bytes of an earlier one, in the batch or before, names it; one that cannot be read is kept in quarantine.
    Ledger, receipts and raw/ agree."""
    one, output = as_drop([order(1)]), tmp_path / "output"
    with open_engine(tmp_path) as engine:
        drops = [("a.json", one), ("b.json", one), ("broken.json", b"[{"), ("broken too.json", b"[{")]
        made = list(apply_batch(engine, tmp_path, drops, RECEIVED_AT_US).results)
        made += apply_batch(engine, tmp_path, [("c.json", one)], RECEIVED_AT_US).results
        known = list(engine.ledger.all_results())
    expected = [
        ("applied", True, None), ("duplicate", False, 1), ("quarantined", False, None), ("quarantined", False, None),
        ("duplicate", False, 1),
    ]  # fmt: skip
    assert [(str(each.outcome), each.keeps_raw, each.duplicate_of) for each in made] == expected
    assert [(str(each.outcome), each.drop.raw is not None, each.duplicate_of) for each in known] == expected
    (copy,) = [path.relative_to(output) for path in output.glob("raw/received=*/*")]
    receipts = [json.loads(path.read_text()) for path in sorted(output.glob("receipts/*/*.json"))]
    assert [each["raw"] for each in receipts] == [str(copy), None, None, None, None]
    assert len([path for path in output.glob("quarantine/*") if not path.name.endswith(".reason.json")]) == 2
