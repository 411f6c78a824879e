"""The real process, `--once`: what it takes, what it leaves, what it says, and what a kill leaves behind."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.command import command, drop, environment, once, order, receipts
from tests.support.harness import dates, rows, tree


def test_a_drop_becomes_partitions_a_raw_copy_and_a_receipt(tmp_path: Path) -> None:
    """The whole promise of `--once` on one small drop."""
    content = json.dumps([order(1), order(2, 3)]).encode()
    drop(tmp_path, "a.json", content)
    ended = once(tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert dates(tmp_path / "output") == ["2026-03-02", "2026-03-03"]
    assert list((tmp_path / "inbox").iterdir()) == []
    link = tmp_path / "output" / "raw" / "orders_raw.json"
    assert link.is_symlink() and not link.readlink().is_absolute()
    assert link.read_bytes() == content
    receipt = receipts(tmp_path)["1:a.json"]
    assert receipt["outcome"] == "applied" and receipt["records"]["new"] == 2
    events = [json.loads(line)["event"] for line in ended.stderr.splitlines()]
    assert events[0] == "run started" and events[-1] == "run ended"


def test_nothing_is_rewritten_where_nothing_changed(tmp_path: Path) -> None:
    """The same orders in another spelling touch no file; the same bytes again are a duplicate, without a second raw copy."""
    drop(tmp_path, "a.json", [order(1), order(2, 3)])
    once(tmp_path)
    curated = tmp_path / "output" / "curated"
    before = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in curated.rglob("*.parquet")}
    drop(tmp_path, "b.json", b"[ " + json.dumps(order(1)).encode() + b" ]")
    drop(tmp_path, "c.json", [order(1), order(2, 3)])
    assert once(tmp_path).returncode == 0
    assert {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in curated.rglob("*.parquet")} == before
    found = receipts(tmp_path)
    assert found["2:b.json"]["records"]["unchanged"] == 1
    assert found["3:c.json"]["outcome"] == "duplicate" and found["3:c.json"]["duplicate_of"] == 1
    assert len(list((tmp_path / "output" / "raw").glob("received=*/*"))) == 2


def test_an_order_that_moves_leaves_its_old_date(tmp_path: Path) -> None:
    """A correction with another date moves the order; the date that it leaves empty loses its folder."""
    drop(tmp_path, "a.json", [order(1, 2)])
    once(tmp_path)
    drop(tmp_path, "b.json", [order(1, 5, updated_at="2026-03-06T00:00:00Z")])
    once(tmp_path)
    assert dates(tmp_path / "output") == ["2026-03-05"]
    log = [json.loads(line) for line in (tmp_path / "output" / "restatements.jsonl").read_text().splitlines()]
    assert [(r["date"], r["orders_before"], r["orders_after"]) for r in log] == [("2026-03-02", 1, 0)]


def test_broken_drops_are_quarantined_beside_good_ones(tmp_path: Path) -> None:
    """A drop that cannot be read costs no other drop anything; its bytes are kept, with the reason; exit code 1."""
    broken = {
        "truncated.json": b'[{"order_id": 1},',
        "page.json": b"<html>",
        "cut.json.gz": gzip.compress(b"[]" * 1000)[:-5],
        "notes.txt": b"hello",
        "bomb.json.gz": gzip.compress(b" " * 50_000_000),
        "utf16.json": "[]".encode("utf-16"),
    }
    for name, content in broken.items():
        drop(tmp_path, name, content)
    drop(tmp_path, "good.json.gz", gzip.compress(json.dumps([order(1)]).encode()))
    ended = once(tmp_path)
    assert ended.returncode == 1, ended.stderr
    assert dates(tmp_path / "output") == ["2026-03-02"]
    quarantine = tmp_path / "output" / "quarantine"
    for name, content in broken.items():
        (kept,) = quarantine.glob(f"*_{name}")
        assert kept.read_bytes() == content
        reason = json.loads(kept.with_name(kept.name + ".reason.json").read_text())
        assert reason["name"] == name and len(reason["reason"]) > 10
    assert [r["outcome"] for r in receipts(tmp_path).values()].count("quarantined") == len(broken)


def test_discards_are_kept_whole(tmp_path: Path) -> None:
    """Every discarded record lies in discarded/, as it was written, with its position and the reason."""
    lines = [b'{"order_id":"a","created_at":"2026-03-02"}', b'{"order_id":null,"big":1.10}', b"[1]", b'{"order_id":"b"']
    drop(tmp_path, "a.ndjson", b"\n".join(lines) + b"\n")
    assert once(tmp_path).returncode == 0
    (kept,) = (tmp_path / "output" / "discarded").rglob("*.jsonl")
    found = kept.read_text().splitlines()
    assert '"record":{"order_id":null,"big":1.10}' in found[0]
    assert [(d["position"], d["reason"]) for d in map(json.loads, found)] == [
        (2, "missing_order_id"),
        (3, "not_an_object"),
        (4, "malformed_record"),
    ]
    assert json.loads(found[2])["record"] == '{"order_id":"b"'


def test_strange_things_in_the_inbox_are_left_and_named(tmp_path: Path) -> None:
    """Links, folders, FIFOs and unfinished names are never opened; names of any bytes are taken; a good drop is applied."""
    outside = tmp_path / "outside.json"
    outside.write_text("[]")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "link.json").symlink_to(outside)
    (inbox / "dangling.json").symlink_to(tmp_path / "nowhere")
    (inbox / "folder.json").mkdir()
    os.mkfifo(inbox / "fifo.json")
    drop(tmp_path, ".hidden.json", b"[]")
    drop(tmp_path, "upload.json.part", b"[]")
    odd_names = [b"a\nb'\".json", b"[x]*.json", b"%41.json", b"\xff\xfe.json", b"n" * 250 + b".json"]
    for number, name in enumerate(odd_names):
        drop(tmp_path, name, [order(number)])
    ended = once(tmp_path)
    assert ended.returncode == 1, ended.stderr  # links and the FIFO were meant to be drops
    assert {row["order_id"] for row in rows(tmp_path / "output", "2026-03-02")} == {
        f"o_{n}" for n in range(len(odd_names))
    }
    left = sorted(path.name for path in inbox.iterdir())
    assert left == sorted(
        ["link.json", "dangling.json", "folder.json", "fifo.json", ".hidden.json", "upload.json.part"]
    )
    assert [ended.stderr.count(why) for why in ("a symbolic link", "a folder", "a FIFO")] == [2, 1, 1]
    assert len(receipts(tmp_path)) == len(odd_names)


def test_what_is_not_settled_is_waited_for(tmp_path: Path) -> None:
    """A drop that a writer still holds open is not taken; `--once` waits within its bounds, leaves it, and exits 1."""
    drop(tmp_path, "good.json", [order(1)])
    path = drop(tmp_path, "open.json", [order(2)], age_seconds=0)
    settings = {"WATCH__SETTLE_SECONDS": "0.2", "RETRY__ATTEMPTS": "1", "RETRY__INITIAL_DELAY_SECONDS": "0.1"}
    with open(path, "ab"):
        ended = once(tmp_path, **settings)
    assert ended.returncode == 1, ended.stderr
    assert [p.name for p in (tmp_path / "inbox").iterdir()] == ["open.json"]
    assert once(tmp_path, **settings).returncode == 0
    assert len(rows(tmp_path / "output", "2026-03-02")) == 2


def test_an_unfinished_drop_is_looked_at_again_before_it_is_given_up(tmp_path: Path) -> None:
    """A young drop that is not whole gets its tries, logged; then it is taken as it is: truncated."""
    drop(tmp_path, "cut.json", b'[{"order_id": 1}', age_seconds=-60)  # however slowly we start, it is young
    ended = once(
        tmp_path,
        WATCH__SETTLE_SECONDS="0.1",
        RETRY__ATTEMPTS="3",
        RETRY__INITIAL_DELAY_SECONDS="0.2",
        RETRY__MAX_DELAY_SECONDS="0.3",
    )
    assert ended.returncode == 1
    assert ended.stderr.count("drop is unfinished; waiting") == 3
    assert ended.stderr.count("drop is still unfinished; taken as it is") == 1
    assert next(iter(receipts(tmp_path).values()))["outcome"] == "quarantined"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "missing.toml"], "missing.toml"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_usage_errors_are_one_clear_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    """Exit code 2, no traceback, and the name of what is wrong."""
    ended = once(tmp_path, *arguments)
    assert ended.returncode == 2
    assert said in ended.stderr and "Traceback" not in ended.stderr


def test_a_second_instance_says_who_is_there(tmp_path: Path) -> None:
    """Exit code 3 at once, with host, pid and since when."""
    (tmp_path / "output" / "state").mkdir(parents=True)
    from daemon.storage.lock import Lock

    lock = Lock(tmp_path / "output")
    try:
        ended = once(tmp_path)
    finally:
        lock.close()
    assert ended.returncode == 3
    assert f"pid {os.getpid()}" in ended.stderr and "since 20" in ended.stderr


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    """`--help` answers without numpy, pyarrow, pandas or duckdb."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "daemon", "--help"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0
    assert not any(name in ended.stderr for name in ("numpy", "pyarrow", "pandas", "duckdb", "msgspec"))


def test_killed_anywhere_it_finishes_at_the_next_start(tmp_path: Path) -> None:
    """SIGKILL at random moments, again and again: in the end every drop has been applied once, to the bytes of an
    undisturbed run, and nothing is left in the inbox or in staging."""
    chance = random.Random(20261122)
    contents = [
        [
            order(chance.randrange(60), chance.randrange(1, 9), updated_at=f"2026-03-20T00:00:{n:02d}Z")
            for _ in range(40)
        ]
        for n in range(24)
    ]
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    for home in (calm, rough):
        home.mkdir()
        for number, content in enumerate(contents):
            drop(home, f"{number:02d}.json", content, age_seconds=3600 - number)
    assert once(calm, BATCH__MAX_DROPS="3").returncode == 0
    for _ in range(12):
        process = subprocess.Popen(
            command(), cwd=rough, env=environment(BATCH__MAX_DROPS="3"), stderr=subprocess.DEVNULL
        )
        time.sleep(chance.uniform(0.3, 1.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert once(rough, BATCH__MAX_DROPS="3").returncode == 0
    assert tree(rough / "output" / "curated") == tree(calm / "output" / "curated")
    assert list((rough / "inbox").iterdir()) == []
    assert list((rough / "output" / ".staging").iterdir()) == []
    outcomes = [r["outcome"] for r in receipts(rough).values()]
    assert outcomes.count("applied") == len(contents)


@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
def test_a_signal_during_a_catch_up_ends_it_and_the_next_finishes(tmp_path: Path, group: bool) -> None:
    """To the process, or to its workers too (Ctrl-C): exit code 1, and the next run gives what an undisturbed one gives."""
    lines = [json.dumps(order(number, 1 + number % 28)).encode() for number in range(200_000)]
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for home in (undisturbed, disturbed):
        home.mkdir()
        drop(home, "a.ndjson", b"\n".join(lines))
    assert once(undisturbed).returncode == 0
    codes = set()
    for step in range(8):
        process = subprocess.Popen(
            command(),
            cwd=disturbed,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        time.sleep(step * 0.12)
        (os.killpg if group else os.kill)(process.pid, signal.SIGINT if group else signal.SIGTERM)
        said = process.communicate(timeout=60)[0].decode()
        assert "Traceback" not in said
        codes.add(process.returncode)
    assert codes <= {0, 1} and 1 in codes
    assert once(disturbed).returncode == 0
    assert tree(disturbed / "output" / "curated") == tree(undisturbed / "output" / "curated")


def test_what_nobody_foresaw_is_one_clear_line(tmp_path: Path) -> None:
    """Exit code 3, where it happened, and no traceback: that is in a file which this user alone may read."""
    program = (
        "import sys, daemon.service as s\ndef broken(*_): raise ZeroDivisionError('secret')\ns.Service.once = broken\n"
    )
    program += "from daemon.cli import main\nsys.exit(main(['--once']))\n"
    (tmp_path / "reports").mkdir()
    for folder in ("reports", "none"):
        env = environment() | {"TMPDIR": str(tmp_path / folder)}
        ended = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 3 and "Traceback" not in ended.stderr and "secret" not in ended.stderr
        assert "an unexpected error in broken (<string>, line 2). Nothing is lost" in ended.stderr
        assert "ZeroDivision" not in ended.stderr and "Please report this" in ended.stderr
    (report,) = (tmp_path / "reports").iterdir()
    assert report.stat().st_mode & 0o777 == 0o600 and report.name.startswith("strandline-error-")
    assert report.read_text().startswith("strandline ") and "ZeroDivisionError: secret" in report.read_text()


def test_a_drop_that_is_too_large_is_left_and_named(tmp_path: Path) -> None:
    """Exit 1, counted as left, and the log says what allows how much; the others are applied."""
    drop(tmp_path, "big.json", [order(1)] * 1000)
    drop(tmp_path, "good.json", [order(2)])
    ended = once(tmp_path, INPUT__MAX_DROP_BYTES="1KiB", RETRY__ATTEMPTS="1", RETRY__INITIAL_DELAY_SECONDS="0.1")
    assert ended.returncode == 1
    assert [path.name for path in (tmp_path / "inbox").iterdir()] == ["big.json"]
    assert [receipt["name"] for receipt in receipts(tmp_path).values()] == ["good.json"]
    assert "max_drop_bytes" in ended.stderr and '"left": ["big.json"]' in ended.stderr
    command = [sys.executable, "-m", "daemon", "plan", "inbox/big.json"]
    planned = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment(INPUT__MAX_DROP_BYTES="1KiB"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert planned.returncode == 2 and "would stay in the inbox" in planned.stderr
