"""The way into quarantine and back, for every name that a drop may have; and what others may have done there meanwhile."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from daemon.batch.publish import publish
from daemon.core.entries import Effect
from daemon.core.errors import UsageError
from daemon.observe.metrics import Metrics
from daemon.operate import status
from daemon.operate.quarantine import retry
from daemon.sources.source_folder import SourceFolder
from tests.support.harness import apply_batch, open_engine

NOW = 1_780_000_000_000_000
NAMES = [
    "a.json", "x.reason.json", "x.reason.json.reason.json", ".reason.json"[1:], "a%b.json", "a%25b.json", "%2e%2F.json",
    "a\nb.json", os.fsdecode(b"n\xff\xfe.json"), "é" * 120 + ".json", "x" * 250 + ".json", "backup.tar", "x.reason%2Ejson",
]  # fmt: skip


def quarantined(root: Path, name: str) -> None:
    with open_engine(root) as engine:
        apply_batch(engine, root, [(name, b"null")], NOW)


def counted(root: Path) -> list[float]:
    """How many drops lie in quarantine, by each that says so."""
    output = root / "output"
    found = status.gather(None, [SourceFolder(root / "inbox")], output, NOW)
    status.table(found).encode()
    said = Metrics(output, "").registry.get_sample_value("strandline_quarantined_drops")
    return [found["quarantine"]["drops"], len(found["quarantine"]["newest"]), said or 0.0]


@pytest.mark.parametrize("name", NAMES)
def test_a_drop_comes_back_under_the_name_that_it_came_with(tmp_path: Path, name: str) -> None:
    """However often: no byte of a name is changed by the way there and back, and each time it is one drop with one reason."""
    quarantined(tmp_path, name)
    for words in ([], [name]):
        assert counted(tmp_path) == [1, 1, 1]
        retry(tmp_path / "output" / "quarantine", [SourceFolder(tmp_path / "inbox")], words)
        assert os.listdir(tmp_path / "inbox") == [name]
        assert os.listdir(tmp_path / "output" / "quarantine") == [] and counted(tmp_path) == [0, 0, 0]
        content = (tmp_path / "inbox" / name).read_bytes()
        (tmp_path / "inbox" / name).unlink()
        assert content == b"null"
        quarantined(tmp_path, name)


@pytest.mark.parametrize("name", NAMES)
def test_without_its_reason_a_drop_comes_back_under_the_name_of_its_file(tmp_path: Path, name: str) -> None:
    """Whole, unless the name is too long for what stands before it."""
    quarantined(tmp_path, name)
    for path in (tmp_path / "output" / "quarantine").glob("*.reason.json"):
        path.unlink()
    assert counted(tmp_path) == [1, 1, 1]
    retry(tmp_path / "output" / "quarantine", [SourceFolder(tmp_path / "inbox")], [])
    (found,) = os.listdir(tmp_path / "inbox")
    assert found == name or (len(os.fsencode(name)) > 180 and "…" in found)


def test_a_drop_is_named_by_its_number_its_file_or_its_path(tmp_path: Path) -> None:
    """As a shell completes it; and what no number is names nothing, whatever Unicode thinks of it."""
    for words in (["1"], ["000001"], ["a.json"], ["FILE"], ["output/quarantine/FILE"]):
        home = tmp_path / words[0].replace("/", "-")
        home.mkdir()
        quarantined(home, "a.json")
        folder = home / "output" / "quarantine"
        (file,) = [name for name in os.listdir(folder) if not name.endswith(".reason.json")]
        assert retry(folder, [SourceFolder(home / "inbox")], [word.replace("FILE", file) for word in words]).keys() == {
            file
        }
    home = tmp_path / "b"
    home.mkdir()
    quarantined(home, "b.json")
    for word in ("²", "9" * 9999, "١", "", "0"):
        with pytest.raises(UsageError, match="no drop in quarantine and no applied drop has this name"):
            retry(home / "output" / "quarantine", [SourceFolder(home / "inbox")], [word])


def test_the_inbox_is_made_where_it_is_missing(tmp_path: Path) -> None:
    """As every other command does."""
    quarantined(tmp_path, "a.json")
    shutil.rmtree(tmp_path / "inbox")
    retry(tmp_path / "output" / "quarantine", [SourceFolder(tmp_path / "inbox")], [])
    assert os.listdir(tmp_path / "inbox") == ["a.json"]


def test_an_effect_that_is_carried_out_again_leaves_no_reason_alone(tmp_path: Path) -> None:
    """A crash before the list was cleared, and a retry before the next start: there is no drop any more to give a reason for."""
    raw = "raw/received=2026-05-28/00000001_0123456789ab_a.json"
    (tmp_path / raw).parent.mkdir(parents=True)
    (tmp_path / raw).write_bytes(b"null")
    effect = Effect("quarantine", "quarantine/00000001_0123456789ab_a.json", raw, text='{"name": "a.json"}')
    publish(tmp_path, [effect])
    publish(tmp_path, [effect], recovering=True)
    assert len(os.listdir(tmp_path / "quarantine")) == 2
    (tmp_path / "inbox").mkdir()
    retry(tmp_path / "quarantine", [SourceFolder(tmp_path / "inbox")], [])
    publish(tmp_path, [effect], recovering=True)
    assert os.listdir(tmp_path / "quarantine") == []


def test_what_else_lies_there_is_no_drop(tmp_path: Path) -> None:
    """A note, what an editor left, a reason whose drop was deleted: neither counted nor put back."""
    quarantined(tmp_path, "a.json")
    folder = tmp_path / "output" / "quarantine"
    for name in ("notes.txt", "a.json~", "1__", ".DS_Store", "00000009_0123456789ab_gone.json.reason.json"):
        (folder / name).write_text("{}")
    assert counted(tmp_path) == [1, 1, 1]
    retry(folder, [SourceFolder(tmp_path / "inbox")], [])
    assert os.listdir(tmp_path / "inbox") == ["a.json"] and counted(tmp_path) == [0, 0, 0]


@pytest.mark.parametrize("content", ["null", "[1]", '{"reason": 5, "name": [1]}', '{"reason": "\\ud800"}', "{", ""])
def test_a_reason_that_somebody_wrote_breaks_nothing(tmp_path: Path, content: str) -> None:
    """It is shown as far as it can be, and the drop can be put back."""
    quarantined(tmp_path, "a.json")
    (reason,) = (tmp_path / "output" / "quarantine").glob("*.reason.json")
    reason.write_text(content)
    assert counted(tmp_path) == [1, 1, 1]
    retry(tmp_path / "output" / "quarantine", [SourceFolder(tmp_path / "inbox")], ["1"])
    assert len(os.listdir(tmp_path / "inbox")) == 1


@pytest.mark.parametrize("name", ["..", ".", "", "../../x.json", "a\0b.json", ".hidden.json", "x.tmp", "\ud800"])
def test_a_name_that_somebody_wrote_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    """A drop comes back into the inbox, and where the next look finds it."""
    quarantined(tmp_path, "a.json")
    (reason,) = (tmp_path / "output" / "quarantine").glob("*.reason.json")
    reason.write_text(json.dumps({"name": name, "reason": "x"}))
    retry(tmp_path / "output" / "quarantine", [SourceFolder(tmp_path / "inbox")], [])
    (found,) = os.listdir(tmp_path / "inbox")
    assert not found.startswith(".") and not found.endswith(".tmp")
