"""What fails again keeps its entry in quarantine; what is discarded leaves a record, whatever comes in between."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from daemon.batch import discarding
from daemon.core.errors import UsageError
from daemon.operate.quarantine import discard, retry
from daemon.sources.source_folder import SourceFolder
from daemon.storage import files
from daemon.storage.receipts import receipt_path
from tests.support.command import differences, drop, receipts, strandline
from tests.support.daemon_process import running, until
from tests.support.harness import apply_batch, open_engine

NOW = 1_780_000_000_000_000
WHY = "discarded by ada at 2026-03-02T10:00:00Z (junk)"
TRUNCATED = b"[1, null"


def again(home: Path, *names: str) -> None:
    """Puts drops back into the inbox, and forgets the files there: apply_batch writes them anew."""
    retry(home / "output" / "quarantine", [SourceFolder(home / "inbox")], names)
    for path in (home / "inbox").iterdir():
        path.unlink()


def quarantine(home: Path) -> list[str]:
    return sorted(os.listdir(home / "output" / "quarantine"))


def entries(*entered: tuple[int, bytes, str]) -> list[str]:
    """The files of drops (number, bytes, name) and their reasons."""
    return sorted(
        f"{number:08d}_{hashlib.sha256(content).hexdigest()[:12]}_{name}{end}"
        for number, content, name in entered
        for end in ("", ".reason.json")
    )


def test_a_retry_that_fails_for_the_same_reason_keeps_the_entry(tmp_path: Path) -> None:
    """Its number, name and reason file, however often; also where two with the same bytes are tried together. The ledger has
    each try, as what it was."""
    with open_engine(tmp_path) as engine:
        for number in range(3):
            if number:
                again(tmp_path)
            apply_batch(engine, tmp_path, [("a.json", TRUNCATED), ("b.json", TRUNCATED)], NOW + number)
            assert quarantine(tmp_path) == entries((1, TRUNCATED, "a.json"), (2, TRUNCATED, "b.json"))
        results = list(engine.ledger.all_results())
        assert [(one.drop.seq, str(one.outcome), one.duplicate_of) for one in results] == [
            (1, "quarantined", None), (2, "quarantined", None), (3, "quarantined", 1), (4, "quarantined", 2),
            (5, "quarantined", 1), (6, "quarantined", 2),
        ]  # fmt: skip
        reason = json.loads((tmp_path / "output" / "quarantine" / quarantine(tmp_path)[1]).read_text())
        assert (reason["drop"], reason["name"]) == (1, "a.json")
    assert differences(tmp_path) == []
    again(tmp_path, "5")  # the number of the last try, which the log has named
    assert quarantine(tmp_path) == entries((2, TRUNCATED, "b.json"))


def test_another_reason_or_an_entry_that_is_there_is_another_entry(tmp_path: Path) -> None:
    """The same bytes that arrive once more are two drops, each of which can be retried."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", TRUNCATED)], NOW)
        apply_batch(engine, tmp_path, [("again.json", TRUNCATED)], NOW + 1)
        assert quarantine(tmp_path) == entries((1, TRUNCATED, "a.json"), (2, TRUNCATED, "again.json"))
        again(tmp_path)
        apply_batch(engine, tmp_path, [("a.csv", TRUNCATED)], NOW + 2)  # read in another way: another reason
        assert quarantine(tmp_path) == entries((3, TRUNCATED, "a.csv"))
        assert engine.ledger.last_results(1)[0].duplicate_of is None


@pytest.mark.parametrize("step", ["give_reason", "write", "unlink", "sync", None])
def test_a_discard_is_recorded_before_the_file_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str | None
) -> None:
    """A crash at any step is finished by the next run. The receipt is that of the ledger at the end."""

    def dies(*_: object) -> None:
        raise RuntimeError("killed")

    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", TRUNCATED), ("b.json", b"null")], NOW)
        (file,) = discard(tmp_path / "output", ["a.json"], WHY)
        if step:
            with monkeypatch.context() as patch, pytest.raises(RuntimeError):
                owner = {"give_reason": engine.ledger, "write": discarding.receipts}.get(step, files)
                patch.setattr(owner, step, dies)
                discarding.carry_out(tmp_path / "output", engine.ledger)
            recorded = (engine.ledger.result(1) or pytest.fail()).reason or ""
            assert recorded.startswith(WHY) or file in quarantine(tmp_path)
        for _ in range(2):
            discarding.carry_out(tmp_path / "output", engine.ledger)
            assert quarantine(tmp_path) == entries((2, b"null", "b.json"))
            result = engine.ledger.result(1) or pytest.fail()
            assert (result.reason or "").count(WHY) == 1 and "it was quarantined because: the file is trunc" in str(
                result.reason
            )
            assert json.loads(receipt_path(tmp_path / "output", result).read_text())["reason"] == result.reason
        assert os.listdir(tmp_path / "output" / "state" / "discard") == []
    if step is None:
        assert differences(tmp_path) == []
        assert strandline(tmp_path, "rebuild").returncode == 0
        (kept,) = (one for name, one in receipts(tmp_path).items() if name == "1:a.json")
        assert kept["reason"].startswith(WHY)


def test_what_retry_has_taken_is_not_discarded(tmp_path: Path) -> None:
    """The file is in the inbox then, and comes back as it is."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", TRUNCATED)], NOW)
        discard(tmp_path / "output", ["1"], WHY)
        again(tmp_path)
        discarding.carry_out(tmp_path / "output", engine.ledger)
        assert not str((engine.ledger.result(1) or pytest.fail()).reason).startswith("discarded")
        apply_batch(engine, tmp_path, [("a.json", TRUNCATED)], NOW + 1)
        assert quarantine(tmp_path) == entries((1, TRUNCATED, "a.json"))


def test_a_discarded_drop_that_comes_again_is_a_new_one(tmp_path: Path) -> None:
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", TRUNCATED)], NOW)
        discard(tmp_path / "output", ["1"], WHY)
        discarding.carry_out(tmp_path / "output", engine.ledger)
        apply_batch(engine, tmp_path, [("a.json", TRUNCATED)], NOW + 1)
        assert quarantine(tmp_path) == entries((2, TRUNCATED, "a.json"))


def test_a_number_is_of_one_drop(tmp_path: Path) -> None:
    """Not also the name of another, nor a name that ends with it."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("2.json", TRUNCATED), ("bad.json", TRUNCATED + b" ")], NOW)
    folder = tmp_path / "output" / "quarantine"
    first = next(path for path in folder.iterdir() if path.name.endswith("_2.json"))
    first.rename(folder / first.name.replace("_2.json", "_2"))
    reason = folder / f"{first.name}.reason.json"
    reason.rename(folder / reason.name.replace("_2.json", "_2"))
    (folder / reason.name.replace("_2.json", "_2")).write_text(json.dumps({"name": "2"}))
    with pytest.raises(UsageError, match="number of one drop and the name of another"):
        discard(tmp_path / "output", ["2"], WHY)
    with pytest.raises(UsageError, match="no drop in quarantine"):
        discard(tmp_path / "output", ["x/y/1"], WHY)
    assert discard(tmp_path / "output", ["1"], WHY) == [first.name.replace("_2.json", "_2")]


def test_retry_makes_no_inbox(tmp_path: Path) -> None:
    """One that was moved away, or a mistyped setting: the drop would lie where nobody looks."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("bad.json", TRUNCATED)], NOW)
    ended = strandline(tmp_path, "retry", "1", PATHS__INBOX="inbux")
    assert ended.returncode == 2 and "[paths] inbox" in ended.stderr
    assert not (tmp_path / "inbux").exists() and len(quarantine(tmp_path)) == 2


def test_an_unknown_name_discards_nothing(tmp_path: Path) -> None:
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", TRUNCATED)], NOW)
    with pytest.raises(UsageError, match="cannot discard 7: no drop in quarantine has this name or number"):
        discard(tmp_path / "output", ["1", "7"], WHY)
    assert not (tmp_path / "output" / "state" / "discard").exists()


def test_the_command_beside_a_daemon_and_without_one(tmp_path: Path) -> None:
    """A running daemon does it at its next scan, without a drop; else the command does it itself."""
    drop(tmp_path, "a.json", TRUNCATED)
    drop(tmp_path, "b.json", b"null")
    with running(tmp_path, WATCH__RESCAN_SECONDS="0.2"):
        until(lambda: len(receipts(tmp_path)) == 2)
        number = next(one["drop"] for one in receipts(tmp_path).values() if one["name"] == "a.json")
        ended = strandline(tmp_path, "discard", str(number), "--reason", "junk\x1b of the shop")
        assert ended.returncode == 0 and "by the daemon" in ended.stdout
        until(lambda: not any("a.json" in name for name in quarantine(tmp_path)))
    ended = strandline(tmp_path, "discard", "b.json")
    assert ended.returncode == 0 and "is discarded;" in ended.stdout and ended.stderr == ""
    assert quarantine(tmp_path) == []
    ended = strandline(tmp_path, "history", "--json")
    reasons = {one["name"]: one["reason"] for one in json.loads(ended.stdout)}
    assert r"(junk\x1b of the shop); it was quarantined because: " in reasons["a.json"]
    assert reasons["b.json"].startswith("discarded by ") and "(" not in reasons["b.json"].split(";")[0]
