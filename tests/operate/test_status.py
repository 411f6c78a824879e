"""What `status` and the page say of folders that change under their eyes, or hold odd things."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from daemon.core.entries import Drop
from daemon.core.model import ParseContext
from daemon.operate import downstreams, status
from daemon.sources.source_folder import SourceFolder
from tests.support.command import drop
from tests.support.harness import open_engine

FAR = 999_999_999_999  # seconds after 1970: the year 33658


@pytest.fixture
def timeless(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that knows such years (ext4 does not)."""
    with ExitStack() as stack:
        folders = [tmp_path]
        if os.access("/dev/shm", os.W_OK):
            folders.append(Path(stack.enter_context(TemporaryDirectory(dir="/dev/shm"))))
        for folder in folders:
            os.utime(folder, (FAR, FAR))
            if folder.stat().st_mtime == FAR:
                yield folder
                return
        pytest.skip("no file system here knows such years")


def test_an_mtime_in_any_year_is_shown(timeless: Path) -> None:
    """Beyond what calendars have, the last instant of the last year stands for all of them."""
    path = timeless / "inbox" / "a.json"
    path.parent.mkdir()
    path.write_text("[]")
    os.utime(path, (FAR, FAR))
    found = status.gather(None, [SourceFolder(path.parent)], timeless, 0)
    assert found["inbox"]["oldest"] == "9999-12-31T23:59:59.999999Z"
    assert "9999-12-31" in status.table(found)
    os.utime(path, (-FAR, -FAR))
    assert status.gather(None, [SourceFolder(path.parent)], timeless, 0)["inbox"]["oldest"] == "1970-01-01T00:00:00Z"


def test_a_drop_that_is_taken_while_it_is_looked_at_costs_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder named it, and it is gone: the others are counted."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for name in ("a.json", "b.json"):
        (inbox / name).write_text("[]")

    def taken(name: str, ignored: tuple[str, ...] = ()) -> bool:
        for other in {"a.json", "b.json"} - {name}:  # the folder is listed, and the second one not looked at yet
            (inbox / other).unlink(missing_ok=True)
        return False

    monkeypatch.setattr(status, "is_no_drop", taken)
    found = status.gather(None, [SourceFolder(inbox)], tmp_path, 0)["inbox"]
    assert "error" not in found and found["bytes"] == 2 * found["pending"] == 2


def test_an_inbox_that_is_missing_is_named(tmp_path: Path) -> None:
    """In JSON and for people."""
    found = status.gather(None, [SourceFolder(tmp_path / "elsewhere")], tmp_path, 0)
    expected = f"No such file or directory: {tmp_path / 'elsewhere'}"
    assert found["inbox"]["error"] == expected and f"Inbox             {expected}" in status.table(found)


def test_what_follows_and_needs_attention_says_why_and_where(tmp_path: Path) -> None:
    """An error, what waits for it however many steps away, and the file with the rows that a check found; nothing else."""
    (tmp_path / "models").mkdir()
    (tmp_path / "checks").mkdir()
    (tmp_path / "models" / "Broken.sql").write_text("SELECT 1")
    (tmp_path / "checks" / "new.sql").write_text("SELECT 1")
    found = {one["name"]: one for one in downstreams.gather(None, tmp_path, tmp_path / "models", tmp_path / "checks")}
    broken, new = found["Broken"], found["new"]
    assert new["results"] == "checks/new/new.parquet" and broken["results"] == "models/Broken/date=*/Broken.parquet"
    ran = new | {"stale": 0, "last_success": "2026-03-02T00:00:00Z"}
    rows = ran | {"name": "wrong", "results": "checks/wrong/wrong.parquet", "rows": 1}
    first = ran | {"kind": "model", "name": "first", "reads": ["Broken"], "rows": 9}
    second = first | {"name": "second", "reads": ["first", "fact_order"]}
    follows = downstreams._with_waiting([rows, ran, new, broken, second, first])
    text = status.table(status.gather(None, [SourceFolder(tmp_path)], tmp_path, 0, (), follows))
    shown = [line.split(maxsplit=2) for line in text.partition("need attention\n")[2].partition("\n\n")[0].splitlines()]
    assert shown == [
        [
            "check",
            "wrong",
            f"1 row found: see {tmp_path}/checks/wrong/wrong.parquet, or run: strandline sql 'FROM wrong'",
        ],
        ["check", "new", "not run yet"],
        ["model", "Broken", broken["error"]],
        ["model", "second", "waits for first"],
        ["model", "first", "waits for Broken"],
    ]


def test_what_waits_for_long_beside_a_daemon_needs_attention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that a fault stops is running, and nothing else says that it does not go on. What it has just taken is none."""
    with open_engine(tmp_path) as engine:
        monkeypatch.setattr(status, "holder_of", lambda path: {"pid": 1})
        places, second = [SourceFolder(tmp_path / "inbox")], 1_000_000
        drop(tmp_path, "a.json", b"[]", age_seconds=0)
        arrived = (tmp_path / "inbox" / "a.json").stat().st_mtime_ns // 1000

        def last_line(after: int) -> str:
            return status.last_line(status.gather(engine.ledger, places, engine.output, arrived + after * second))

        assert "Nothing needs attention" in last_line(60)
        assert "1 drop in the inbox for long" in last_line(1000) and "/-/ready" in last_line(1000)
        (tmp_path / "inbox" / "a.json").unlink()
        context = ParseContext(arrived, 0)
        stored = engine.raw.stored_as(1, "b.json", context, hashlib.sha256(b"[]").digest(), 2)
        (engine.output / stored.path).parent.mkdir(parents=True)
        (engine.output / stored.path).write_bytes(b"[]")
        engine.ledger.enter([Drop(1, "b.json", stored.path, stored.sha256, 2, context)])
        assert "Nothing needs attention" in last_line(5)
        assert "1 drop archived and not applied" in last_line(100)
        (engine.output / stored.path).unlink()
        assert "1 drop archived and not applied" in last_line(5)
        monkeypatch.setattr(status, "holder_of", lambda path: None)
        assert "1 drop archived and not applied" in last_line(5)


def test_one_very_long_name_moves_no_other_row() -> None:
    """A table that is wider than any terminal for one name could not be read."""
    _, title, short, long = status._section(
        "Last drops", [("1", "a.json", "applied"), ("2", "x" * 230 + ".json", "applied")]
    )
    assert title == "Last drops" and len(short) < 70 and short.endswith("  applied")
    assert long == f"  2  {'x' * 230}.json  applied"


@pytest.mark.parametrize(
    ("faults", "said"), [({"qty": 1}, "1 new, 1 field fault"), ({"qty": 1, "price": 2}, "1 new, 3 field faults")]
)
def test_one_field_fault_is_one(faults: dict[str, int], said: str) -> None:
    receipt = {
        "drop": 1, "name": "a.json", "source": "default", "outcome": "applied", "reason": None, "field_faults": faults,
        "records": {"extracted": 1, "new": 1, "discarded": {}}, "without_amount_and_price": {"orders": 0, "other_keys": []},
    }  # fmt: skip
    assert status.drop_row(receipt) == ("1", "a.json", "applied", said)
