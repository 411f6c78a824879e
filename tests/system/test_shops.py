"""A shop's export, as its API gives it: four lines of configuration, the file, and the orders are there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support import REPO
from tests.support.command import strandline
from tests.support.harness import dates, rows, tree

SHOPS = REPO / "examples" / "shops"


def configured(folder: Path, preset: str) -> None:
    text = (
        f'[sources.default]\npreset = "{preset}"\n[orders]\nfuture_tolerance = "36500d"\n[watch]\nsettle_seconds = 0\n'
    )
    (folder / "config.toml").write_text(text)


def once(folder: Path) -> None:
    ended = strandline(folder, "--once")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("shop", sorted(path.stem for path in SHOPS.iterdir()))
def test_an_export_becomes_partitions_and_survives_the_loss_of_the_ledger(tmp_path: Path, shop: str) -> None:
    """Also under another preset than today's: each drop is read as it was read then, and the files are the same bytes."""
    configured(tmp_path, shop)
    (tmp_path / "inbox").mkdir()
    shutil.copy(SHOPS / f"{shop}.json", tmp_path / "inbox" / "export.json")
    once(tmp_path)
    output = tmp_path / "output"
    assert sum(len(rows(output, date)) for date in dates(output)) >= 2
    assert strandline(tmp_path, "verify").returncode == 0
    before = tree(output / "curated")
    shutil.rmtree(output / "state")
    configured(tmp_path, "magento" if shop == "square" else "square")
    assert strandline(tmp_path, "rebuild").returncode == 0
    assert tree(output / "curated") == before and strandline(tmp_path, "verify").returncode == 0


def test_the_same_file_under_a_mended_setting_is_read_again(tmp_path: Path) -> None:
    """It was quarantined under the wrong preset, and is put back."""
    configured(tmp_path, "square")
    (tmp_path / "inbox").mkdir()
    shutil.copy(SHOPS / "woocommerce.json", tmp_path / "inbox" / "export.json")
    assert strandline(tmp_path, "--once").returncode == 1
    configured(tmp_path, "woocommerce")
    assert strandline(tmp_path, "retry").returncode == 0
    once(tmp_path)
    output = tmp_path / "output"
    assert {row["order_id"] for date in dates(output) for row in rows(output, date)} == {"727", "728"}
    status = json.loads(strandline(tmp_path, "status", "--json").stdout)
    assert status["orders"]["deleted"] == 1


def test_events_are_quarantined_until_the_setting_that_the_reason_names_is_there(tmp_path: Path) -> None:
    """`plan` says the same as the quarantine, and `retry` puts the drop back."""
    configured(tmp_path, "stripe")
    (session, *_) = json.loads((SHOPS / "stripe.json").read_bytes())["data"]
    event = {"id": "evt_1", "object": "event", "created": session["created"], "data": {"object": session}}
    (tmp_path / "inbox").mkdir()
    for place in (tmp_path, tmp_path / "inbox"):
        (place / "event.json").write_text(json.dumps(event))
    setting = 'set record = "data.object" in [sources.default]'
    assert setting in strandline(tmp_path, "plan", "event.json").stdout
    assert strandline(tmp_path, "--once").returncode == 1
    (reason,) = (tmp_path / "output" / "quarantine").glob("*.reason.json")
    assert setting in json.loads(reason.read_text())["reason"] and not dates(tmp_path / "output")
    config = (tmp_path / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(config.replace("[orders]", 'record = "data.object"\n[orders]'))
    assert strandline(tmp_path, "retry").returncode == 0
    once(tmp_path)
    assert {row["order_id"] for date in dates(tmp_path / "output") for row in rows(tmp_path / "output", date)} == {
        session["id"]
    }


def test_plan_reads_under_the_source(tmp_path: Path) -> None:
    configured(tmp_path, "stripe")
    shutil.copy(SHOPS / "stripe.json", tmp_path / "export.json")
    ended = strandline(tmp_path, "plan", "export.json", "--json")
    assert ended.returncode == 0 and json.loads(ended.stdout)["records"]["new"] == 2, ended.stderr
