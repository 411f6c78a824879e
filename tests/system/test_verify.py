"""`verify` with the real process: it finds whatever is not as it must be, says nothing else, and what it finds can be mended."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from daemon.core.entries import Drop
from daemon.core.model import INDEX_ENTRY, ParseContext
from daemon.operate.verify import verify
from daemon.storage.ledger import Ledger
from tests.strategies import RECEIVED_AT_US
from tests.support.command import differences, drop, environment, once, order, strandline
from tests.support.daemon_process import place, running, until
from tests.support.harness import DAY, apply_batch, dates, open_engine, tree
from tests.support.ledgers import changing


def make_output(home: Path) -> None:
    """Several batches: corrections, a move, a duplicate, discards, faults, a quarantined drop, dimensions, compressed drops."""
    home.mkdir(exist_ok=True)
    drop(home, "a.json", [order(number, 1 + number % 5) for number in range(60)])
    drop(home, "users.csv", b"user_id,email\nu_1,a@example.com\n,nobody@example.com\n")
    assert once(home).returncode == 0
    drop(home, "again.json", [order(number, 1 + number % 5) for number in range(60)])
    moved = [order(number, 9, updated_at="2026-03-10T00:00:00Z") for number in range(5)]
    drop(home, "b.ndjson", b"\n".join(json.dumps(o).encode() for o in [*moved, {"order_id": 1}, order(70, amount="x")]))
    drop(home, "broken.json", b"<html>")
    assert once(home).returncode == 1


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("verify") / "home"
    make_output(home)
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    copied = tmp_path / "home"
    shutil.copytree(made, copied, symlinks=True)
    return copied


def test_nothing_is_found_and_nothing_is_changed_where_all_is_well(home: Path) -> None:
    """One line with the numbers, exit code 0; not a byte of the output is another."""
    before = tree(home / "output")
    ended = strandline(home, "verify")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout == "5 drops and 6 partitions verified: all of it is there and right\n"
    ours = {path: digest for path, digest in tree(home / "output").items() if not path.startswith("state/")}
    assert ours == {path: digest for path, digest in before.items() if not path.startswith("state/")}


def test_an_output_of_a_run_without_drops_is_fine(tmp_path: Path) -> None:
    """Nothing was ever applied."""
    assert once(tmp_path).returncode == 0
    ended = strandline(tmp_path, "verify")
    assert ended.returncode == 0 and ended.stdout.startswith("0 drops and 0 partitions verified")


@pytest.mark.parametrize("seed", range(12))
def test_any_single_flipped_bit_in_raw_and_curated_is_found(home: Path, seed: int) -> None:
    """Any bit of any file; the difference names the file, and what is curated is mended by the command that it names."""
    chosen = random.Random(seed)
    layer = ("raw", "curated")[seed % 2]
    paths = [path for path in sorted((home / "output" / layer).rglob("*")) if path.is_file() and not path.is_symlink()]
    path = chosen.choice(paths)
    data = bytearray(path.read_bytes())
    data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
    path.write_bytes(data)
    found = differences(home)
    assert (layer, str(path.relative_to(home / "output"))) in [(one["check"], one["what"]) for one in found]
    if layer == "curated":
        (only,) = found
        command = only["found"].split("`")[1].split()
        assert command[:2] == ["strandline", "rebuild"] and strandline(home, *command[1:]).returncode == 0
        assert differences(home) == []


def test_no_flipped_bit_in_the_index_is_believed(home: Path) -> None:
    """An entry that is not found makes an order new, and publishes it twice. A batch that meets a damaged block stops and says
    how to mend it; `verify` finds it, `rebuild` mends it, and the drop that waited is applied."""
    chosen = random.Random(7)
    with closing(sqlite3.connect(home / "output" / "state" / "ledger.sqlite")) as sql:
        for run, first, blob in sql.execute("SELECT run, first, entries FROM order_blocks").fetchall():
            damaged = bytearray(blob)
            for bit in chosen.sample(range(8 * len(blob)), 12):
                damaged[bit // 8] ^= 1 << bit % 8
            sql.execute("UPDATE order_blocks SET entries = ? WHERE run = ? AND first = ?", (damaged, run, first))
        sql.commit()
    before = tree(home / "output" / "curated")
    drop(home, "correction.json", [order(number, 9, updated_at="2026-03-11T00:00:00Z") for number in range(60)])
    ended = once(home)
    assert ended.returncode == 3 and "order index" in ended.stderr and "`strandline rebuild`" in ended.stderr
    assert tree(home / "output" / "curated") == before
    assert ("index", "all") in [(one["check"], one["what"]) for one in differences(home)]
    assert strandline(home, "rebuild").returncode == 0
    assert once(home).returncode == 0 and differences(home) == []
    assert dates(home / "output") == ["2026-03-02", "2026-03-09"]  # on the first is an order that was not corrected


def _lose_a_partition(home: Path) -> None:
    shutil.rmtree(home / "output" / "curated" / "date=2026-03-02")


def _add_a_file(home: Path) -> None:
    folder = home / "output" / "curated" / "date=2031-01-01"
    shutil.copytree(home / "output" / "curated" / "date=2026-03-02", folder)


def _lose_a_discard(home: Path) -> None:
    (path,) = (home / "output" / "discarded").rglob("00000004.jsonl")
    path.write_text("")


def _alter_a_discard(home: Path) -> None:
    (path,) = (home / "output" / "discarded").rglob("00000004.jsonl")
    path.write_text(path.read_text().replace('"order_id":1', '"order_id":7'))


def _lose_the_link(home: Path) -> None:
    (home / "output" / "raw" / "orders_raw.json").unlink()


def _turn_the_link(home: Path) -> None:
    link = home / "output" / "raw" / "orders_raw.json"
    (first,) = link.parent.glob("received=*/00000001_*")
    link.unlink()
    link.symlink_to(first.relative_to(link.parent))


def _shorten_the_log(home: Path) -> None:
    (home / "output" / "restatements.jsonl").write_bytes(b"")


def _lose_a_receipt(home: Path) -> None:
    next(iter((home / "output" / "receipts").rglob("*a.json.json"))).unlink()


def _change_a_receipt(home: Path) -> None:
    (path,) = (home / "output" / "receipts").rglob("*b.ndjson.json")
    path.write_text(path.read_text().replace('"new": 1', '"new": 2'))


def _in_ledger(home: Path, statement: str) -> None:
    with closing(changing(home / "output" / "state" / "ledger.sqlite")) as sql:
        changed = sql.execute(statement).rowcount
        sql.commit()
    assert changed > 0


def _lose_a_record(home: Path) -> None:
    _in_ledger(home, "UPDATE drops SET counts = json_set(counts, '$.new', 59) WHERE seq = 1")


def _change_a_sum(home: Path) -> None:
    _in_ledger(home, "UPDATE totals SET value = value + 1 WHERE name = 'orders.new'")


def _change_the_hwm(home: Path) -> None:
    _in_ledger(home, "UPDATE meta SET value = value + 1 WHERE key = 'hwm'")


def _in_index(home: Path, change: Callable[[np.ndarray], None]) -> None:
    with closing(sqlite3.connect(home / "output" / "state" / "ledger.sqlite")) as sql:
        for run, first, last, blob in sql.execute("SELECT run, first, last, entries FROM order_blocks").fetchall():
            entries = np.frombuffer(blob, INDEX_ENTRY).copy()
            change(entries)
            content = entries.tobytes()
            sql.execute(
                "UPDATE order_blocks SET entries = ?, checksum = ? WHERE run = ? AND first = ?",
                (content, crc32(content, crc32(struct.pack("<qqq", run, first, last))), run, first),
            )
        sql.commit()


def _move_an_order_in_the_index(home: Path) -> None:
    def move(entries: np.ndarray) -> None:
        entries["date"][0] = entries["date"][1:][entries["date"][1:] != entries["date"][0]][0]

    _in_index(home, move)


def _change_a_content(home: Path) -> None:
    def change(entries: np.ndarray) -> None:
        entries["content"][0] = b"x" * 16

    _in_index(home, change)


def _name_an_earlier_record(home: Path) -> None:
    """Of the same drop."""

    def name(entries: np.ndarray) -> None:
        entries["position"][entries["position"] == 5] = 4

    _in_index(home, name)


def _put_an_order_into_two_partitions(home: Path) -> None:
    """Also the ledger believes it: only raw knows better."""
    import hashlib

    two, three = (home / "output" / "curated" / f"date=2026-03-0{day}" for day in (2, 3))
    for name, column in (("fact_order.parquet", "fact_sha256"), ("order_items.parquet", "items_sha256")):
        shutil.copy(two / name, three / name)
        digest = hashlib.sha256((three / name).read_bytes()).hexdigest()
        _in_ledger(home, f"UPDATE partitions SET {column} = x'{digest}' WHERE date = 20515")


@pytest.mark.parametrize(
    ("damage", "checks"),
    [
        (_lose_a_partition, {"curated"}), (_add_a_file, {"curated"}), (_lose_a_discard, {"discards"}),
        (_lose_a_receipt, {"receipts"}), (_change_a_receipt, {"receipts"}), (_lose_a_record, {"conservation", "receipts"}),
        (_change_a_sum, {"conservation"}), (_change_the_hwm, {"rebuild"}), (_move_an_order_in_the_index, {"index", "rebuild"}),
        (_put_an_order_into_two_partitions, {"index", "rebuild"}), (_change_a_content, {"rebuild"}),
        (_name_an_earlier_record, {"rebuild"}),
        (_alter_a_discard, {"discards"}), (_lose_the_link, {"raw"}), (_turn_the_link, {"raw"}),
        (_shorten_the_log, {"restatements"}),
    ],
)  # fmt: skip
def test_each_kind_of_damage_is_found_and_a_rebuild_mends_it(
    home: Path, damage: Callable[[Path], None], checks: set[str]
) -> None:
    """Found by the checks that it concerns, and by no other; afterwards all is as it was."""
    clean = tree(home / "output" / "curated") | tree(home / "output" / "discarded")
    damage(home)
    found = differences(home)
    assert {one["check"] for one in found} == checks
    if checks <= {"discards", "raw", "receipts", "restatements"}:
        assert all("`strandline rebuild`" in one["found"] for one in found)
    if "conservation" in checks:
        return  # what is lost of the history itself is not made up
    rebuilt = strandline(home, "rebuild")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert tree(home / "output" / "curated") | tree(home / "output" / "discarded") == clean
    assert differences(home) == []


def test_a_raw_copy_that_was_never_applied_is_found_and_a_rebuild_applies_it(home: Path) -> None:
    """The oldest drop of all, of which neither the ledger nor a receipt is left, and whose orders a rebuild would not give."""
    clean = tree(home / "output" / "curated")
    (receipt,) = (home / "output" / "receipts").rglob("*_a.json.json")
    receipt.write_bytes(b"")
    shutil.rmtree(home / "output" / "state")
    assert strandline(home, "rebuild").returncode == 0  # takes it in at once
    assert differences(home) == [] and tree(home / "output" / "curated") == clean
    _in_ledger(home, "UPDATE drops SET seq = 99 WHERE name = 'users.csv'")  # so that the copy of drop 2 is a stranger
    (found,) = [one for one in differences(home) if one["check"] == "raw"]
    assert found["what"].endswith("_users.csv") and "`strandline rebuild` adopts it" in found["found"]


@pytest.mark.parametrize(
    ("name", "mended"),
    [
        ("raw/received=2026-01-01/00000003_aaaaaaaaaaaa_x.json", "move it out of raw/"),
        ("raw/received=2026-01-01/00000001_aaaaaaaaaaaa_x.json", "move it out of raw/"),
        ("receipts/received=2026-01-01/00000077_x.json.json", "move it out of receipts/"),
        ("discarded/received=2026-01-01/00000077.jsonl", "move it out of discarded/"),
        ("discarded/received=2026-01-01/00000001.jsonl", "move it out of discarded/"),
    ],
)
def test_what_belongs_to_no_drop_is_found(home: Path, name: str, mended: str) -> None:
    """Once, under its path, with what to do; and it is as if it had never been there once that is done."""
    path = home / "output" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"{}\n")
    (found,) = differences(home)
    assert found["what"] == name and mended in found["found"]
    path.unlink()
    assert differences(home) == []


def test_a_damaged_quarantined_copy_is_found_and_a_missing_one_is_none(home: Path) -> None:
    """`retry` would put the damage back into the inbox. Whoever has put the drop back, or thrown it away, is not asked."""
    (copy,) = (home / "output" / "quarantine").glob("*_broken.json")
    copy.write_bytes(b"junk")
    (found,) = differences(home)
    assert (found["check"], found["what"]) == ("quarantine", f"quarantine/{copy.name}") and "backup" in found["found"]
    copy.unlink()
    assert differences(home) == []


def test_an_index_that_names_an_earlier_version_is_found(tmp_path: Path) -> None:
    """Also where that says the same: of two versions the later one is published."""
    with open_engine(tmp_path) as engine:
        for number in (1, 2):
            data = json.dumps([order(1)], indent=number).encode()
            apply_batch(engine, tmp_path, [(f"{number}.json", data)], RECEIVED_AT_US)
        (entry,) = engine.ledger.index.of_dates(list(engine.ledger.partitions()))
        assert entry["drop"] == 2
    assert differences(tmp_path) == []

    def name_the_first(entries: np.ndarray) -> None:
        entries["drop"] = 1

    _in_index(tmp_path, name_the_first)
    found = differences(tmp_path)
    assert [(one["check"], one["found"]) for one in found] == [
        ("rebuild", "the index names other versions than a rebuild")
    ]


def test_a_lost_ledger_is_an_error_that_says_what_to_do(home: Path) -> None:
    """Without it nothing can be compared."""
    shutil.rmtree(home / "output" / "state")
    ended = strandline(home, "verify")
    assert ended.returncode == 3 and "strandline rebuild" in ended.stderr
    assert strandline(home, "rebuild").returncode in (0, 1)
    assert differences(home) == []


def on_its_way(root: Path) -> Drop:
    """A raw copy that has its name, and that the ledger will know in a moment."""
    data = json.dumps([order(2)]).encode()
    sha256 = hashlib.sha256(data).digest()
    path = f"raw/received=2026-11-20/00000002_{sha256.hex()[:12]}_b.json"
    (root / "output" / path).parent.mkdir(exist_ok=True)
    (root / "output" / path).write_bytes(data)
    return Drop(2, "b.json", path, sha256, len(data), ParseContext(RECEIVED_AT_US, DAY))


@pytest.mark.parametrize("after", [1, 2, 5, 12, None])
def test_a_raw_copy_that_is_on_its_way_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int | None
) -> None:
    """A daemon has renamed it and has not entered it yet: whichever look it is that finds it entered, nothing was wrong. If
    none does, it is one that a crash left there."""
    monkeypatch.setattr("daemon.operate.verify_files._RECHECK_SECONDS", 0.0)
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", json.dumps([order(1)]).encode())], RECEIVED_AT_US)
        engine.ledger.copy_to(tmp_path / "copy.sqlite")
        drop, looks = on_its_way(tmp_path), 0

        def fresh() -> Ledger:
            nonlocal looks
            looks += 1
            if looks == after:
                engine.ledger.enter([drop])
            return Ledger(engine.ledger.path, read_only=True)

        with closing(Ledger(tmp_path / "copy.sqlite")) as copy:
            found = list(verify(replace(engine, ledger=copy), fresh, tmp_path / "scratch", RECEIVED_AT_US))
    assert [one.what for one in found] == ([] if after else [drop.raw])


def test_beside_a_running_daemon_that_publishes_all_the_time_nothing_is_found(tmp_path: Path) -> None:
    """Every batch rewrites every partition while it is looked at."""
    with running(tmp_path) as daemon:
        number = 0

        def deliver() -> None:
            nonlocal number
            for _ in range(40):
                orders = [order(number * 10 + n, 1 + n) for n in range(10)]
                place(daemon.inbox / f"{number}.json", json.dumps(orders).encode())
                number += 1

        deliver()
        until(lambda: daemon.receipt("0.json"), "the first drop")
        for _ in range(3):
            process = subprocess.Popen(
                [sys.executable, "-m", "daemon", "verify", "--json"], cwd=tmp_path, env=environment(),
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            while process.poll() is None:
                deliver()
            said, errors = process.communicate()
            assert process.returncode == 0, said + errors


def test_a_drop_that_the_ledger_lost_stops_the_next_start_and_is_mended_by_what_it_says(home: Path) -> None:
    """With its row, all places where SQLite would look for it are gone. `status` says so, too."""
    before, state = tree(home / "output" / "curated"), home / "output" / "state"
    with closing(changing(state / "ledger.sqlite")) as sql:
        sql.execute("DELETE FROM drops WHERE seq = 1")
        sql.commit()
    for words in (("--once",), ("status",), ("rebuild",)):
        ended = strandline(home, *words)
        assert ended.returncode == 3 and "the number of rows of the table drops is not what was written" in ended.stderr
        assert "move it away" in ended.stderr
    for path in state.glob("ledger.sqlite*"):
        path.rename(home / path.name)
    assert strandline(home, "rebuild").returncode == 0
    assert differences(home) == [] and tree(home / "output" / "curated") == before
