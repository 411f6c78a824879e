"""[columns], by the real command: from the configuration to the file, and a change of a type."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.command import order, strandline
from tests.support.harness import rows

CONFIG = """
[columns]
status = "{status}"
gift = "boolean"
[sources.default.columns]
status = ["state.now", "status"]
[sources.shop]
[sources.shop.columns]
gift = "is_gift"
"""


def test_a_column_from_the_configuration_to_the_file(tmp_path: Path) -> None:
    """Each source has it where it says; `trace` shows it; faults are counted under its name. Another type is refused at the start
    and by `plan`, with what to do; a rebuild takes it."""
    (tmp_path / "inbox" / "shop").mkdir(parents=True)
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(status="text"))
    one = order(1) | {"state": {"now": 7}, "gift": "true", "is_gift": 1}
    (tmp_path / "inbox" / "a.json").write_text(json.dumps(one))
    (tmp_path / "inbox" / "shop" / "b.json").write_text(json.dumps(order(2) | one | {"order_id": "o_2"}))
    ended = strandline(tmp_path, "--once")
    assert ended.returncode == 0, ended.stderr
    (date,) = (path.name.removeprefix("date=") for path in (tmp_path / "output" / "curated").glob("date=*"))
    found = {row["order_id"]: (row["gift"], row["status"]) for row in rows(tmp_path / "output", date)}
    assert found == {order(1)["order_id"]: (True, "7"), "o_2": (None, None)}
    status = json.loads(strandline(tmp_path, "status", "--json").stdout)
    assert '"gift": 1' in json.dumps(status)
    content = json.loads(strandline(tmp_path, "trace", order(1)["order_id"], "--json").stdout)["versions"][0]["content"]
    assert (content["gift"], content["status"]) == (True, "7")
    config.write_text(CONFIG.format(status="decimal"))
    for command in (["--once"], ["plan", str(tmp_path / "config.toml")]):
        ended = strandline(tmp_path, *command)
        assert ended.returncode == 2 and '[columns] status = "decimal" is not allowed; it is "text"' in ended.stderr, (
            ended
        )
        assert "`strandline rebuild`" in ended.stderr and "run started" not in ended.stderr
    assert strandline(tmp_path, "rebuild").returncode == 0
    assert {row["status"] for row in rows(tmp_path / "output", date)} == {7, None}
    ended = strandline(tmp_path, "verify")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert strandline(tmp_path, "--once").returncode == 0
