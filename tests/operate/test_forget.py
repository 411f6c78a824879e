"""`forget`: nothing of a person is left in any byte of the output, and all else is as if they had never come."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from daemon.core.mapping import FieldMapping
from daemon.storage.lock import Lock
from daemon.storage.raw import zstd_module
from tests.faults import KILLED, KILLS, Control, Server, library
from tests.strategies import RECEIVED_AT_US
from tests.support import harness
from tests.support.command import as_drop, drop, order, strandline
from tests.support.examples import LONG
from tests.support.harness import apply_batch, open_engine
from tests.support.zips import zipped

if library() is None and not os.environ.get("REQUIRE_TEST_TOOLS"):
    pytest.skip("needs a C compiler (cc or gcc) on Linux", allow_module_level=True)

CONFIG = """\
[watch]
settle_seconds = 0
[sources.default]
id_prefix = ""
[columns]
note = "text"
"""
PEOPLE = "SELECT date, user_id, email FROM fact_order JOIN dim_user USING (user_id)"
FORGET = ("forget", "--user", "u_ada")
KILLED_AT = 100 if LONG else 12  # points
ERASED = ("u_ada", "Ada Lovelace", "ada@example.com", "o_901", "o_902", "o_903", "o_904", "Analytical Lane")


def of_ada(number: int, day: int = 2, **more: object) -> dict[str, object]:
    return (
        order(number, day, user_id="u_ada", metadata={"to": "Ada Lovelace, Analytical Lane 1"}, note="ada@example.com")
        | more
    )


def of_bob(number: int, day: int = 2, **more: object) -> dict[str, object]:
    return order(number, day, user_id="u_bob", metadata={"to": "Bob"}) | more


def lines(*records: object) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in records)


USERS = b"user_id,email,created_at,country\nu_ada,ada@example.com,2026-01-01,GB\nu_bob,bob@example.com,2026-01-01,DE\n"


def drops(*, with_ada: bool = True) -> Iterator[tuple[str, bytes]]:
    """The history: with Ada's records, or as it would be had she never been a customer."""

    def kept(*records: dict[str, object]) -> list[dict[str, object]]:
        return [one for one in records if with_ada or not any(word in json.dumps(one) for word in ERASED)]

    yield "users.csv", USERS if with_ada else USERS.replace(b"u_ada,ada@example.com,2026-01-01,GB\n", b"")
    yield "a.json", json.dumps(kept(of_bob(1), of_ada(901), of_bob(2, 3)), indent=1).encode()
    yield (
        "b.jsonl.gz",
        gzip.compress(lines(*kept(of_ada(902, 4), of_bob(3, 4), {"user": "u_ada", "x": 1}, of_bob(4, 5)))),
    )
    yield (
        "c.json.zst",
        zstd_module().compress(json.dumps(kept(of_ada(903, 6), of_ada(903, 7, updated_at="2026-03-08"))).encode()),
    )
    inner = [
        ("d.json", json.dumps(kept(of_bob(5), of_ada(904, 3))).encode()),
        ("e.jsonl", lines(*kept(of_bob(6), {"no": 1}))),
    ]
    yield "pages.zip", zipped(*inner)
    # Her order that was Bob's before, and Bob's that was hers: both latest versions count.
    yield "f.json", json.dumps(kept(of_bob(7, 2), of_bob(1, amount=9, updated_at="2026-03-09"))).encode()
    if with_ada:
        yield "x-u_ada.json", json.dumps([of_bob(8, 8)]).encode()
        yield "broken.json", b'[{"order_id": "o_77", "user_id": "u_ada", "name": "Ada Lovelace"'
    else:
        yield "x-redacted.json", json.dumps([of_bob(8, 8)]).encode()
    yield "also-broken.json", b'[{"order_id": "o_78", "user_id": "u_bob"'


def home_of(server: Server, folder: Path) -> Path:
    folder.mkdir()
    (folder / "mirrored").mkdir()
    (folder / "config.toml").write_text(f'{CONFIG}[mirror.lake]\nurl = "{folder / "mirrored"}"\n')
    (folder / "models").mkdir()
    (folder / "models" / "people.sql").write_text(PEOPLE)
    # Fails: it quotes one
    (folder / "models" / "notes.sql").write_text("SELECT date, note::INTEGER AS note FROM fact_order")
    for number, (name, content) in enumerate(drops()):
        drop(folder, name, content, 3600 - number)
    assert server.run(folder, None).status == 1  # a file is quarantined
    return folder


def published_without(folder: Path) -> dict[str, object]:
    """What is published where Ada was never a customer."""
    mapping = FieldMapping(columns=(("note", "text", ("note",)),))
    with open_engine(folder) as engine:
        for one in drops(with_ada=False):
            apply_batch(engine, folder, [one], time.time_ns() // 1000, mapping=mapping)
    return published(folder)


def everything(output: Path) -> Iterator[tuple[str, bytes]]:
    """Each file with its bytes, also decompressed; each name of a file; each value of Parquet."""
    for path in sorted(output.rglob("*")):
        name = str(path.relative_to(output))
        yield name, name.encode()
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        yield name, content
        if content.startswith(b"\x1f\x8b"):
            yield name, gzip.decompress(content)
        elif content.startswith(b"\x28\xb5\x2f\xfd"):
            yield name, zstd_module().decompress(content)
        elif content.startswith(b"PAR1"):
            yield name, json.dumps(pq.ParquetFile(path).read().to_pylist(), default=str).encode()


def left_of(output: Path, words: tuple[str, ...] = ERASED) -> set[tuple[str, str]]:
    return {(name, word) for name, content in everything(output) for word in words if word.encode() in content}


def tree(output: Path) -> dict[str, str]:
    """Every file but those that SQLite makes beside a ledger that is read."""
    return {name: one for name, one in harness.tree(output).items() if not name.endswith(("-wal", "-shm"))}


def published(home: Path) -> dict[str, object]:
    """Rows of all that is published, by file."""
    curated = home / "output" / "curated"
    return {
        str(path.relative_to(curated)): pq.ParquetFile(path).read().to_pylist()
        for path in sorted(curated.rglob("*.parquet"))
    }


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as one:
        yield one


def test_nothing_of_a_person_is_left_and_all_else_is_as_if_they_had_never_come(server: Server, tmp_path: Path) -> None:
    """Every byte of the output, decompressed: ids, names, addresses; with a model, and files that SQLite has beside its own."""
    home = home_of(server, tmp_path / "home")
    assert {word for _, word in left_of(home / "output")} == set(ERASED)
    assert left_of(home / "mirrored") != set()
    assert ("state/downstream.sqlite", "ada@example.com") in left_of(home / "output")
    before = tree(home / "output")
    dry = strandline(home, "forget", "--user", "u_ada", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    for said in ("would erase 7 records in 5 drops, 4 published orders on 4 dates, 1 file in quarantine",
                 "broken.json", "x-redacted.json", "1 of its 1 line names them", "of which 1 was discarded"):  # fmt: skip
        assert said in dry.stdout, dry.stdout
    assert tree(home / "output") == before
    ended = server.run(home, None, FORGET)
    assert ended.status == 0, ended.stderr
    assert left_of(home / "output") == left_of(home / "mirrored") == set()
    assert not any(word in ended.stderr for word in ERASED)
    assert server.run(home, None, ("verify",)).status == 0
    assert published(home) == published_without(tmp_path / "without")
    models = [
        row
        for path in (home / "output" / "models" / "people").rglob("*.parquet")
        for row in pq.ParquetFile(path).read().to_pylist()
    ]
    assert len(models) == 8 and {row["user_id"] for row in models} == {"u_bob"}
    with closing(sqlite3.connect(home / "output" / "state" / "ledger.sqlite")) as sql:
        rows = sql.execute("SELECT seq, length(old_sha256), length(new_sha256), records FROM redactions").fetchall()
    assert sorted(records for *_, records in rows) == [1, 1, 1, 2, 2] and {row[1:3] for row in rows} == {(32, 32)}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A home with each kind of effect, and no models."""
    with open_engine(tmp_path / "small") as engine:
        first = [
            ("users.csv", USERS),
            ("a.json", as_drop([of_ada(901), of_bob(1)])),
            ("u_ada.json", as_drop([of_bob(2, 3)])),
        ]
        apply_batch(engine, tmp_path / "small", first, RECEIVED_AT_US)
        second = [
            ("b.jsonl", lines({"user": "u_ada"}, of_bob(3))),
            ("c.json", b"[u_ada"),
            ("d.jsonl.gz", gzip.compress(lines(of_ada(902, 5)))),
        ]
        apply_batch(engine, tmp_path / "small", second, RECEIVED_AT_US)
    return tmp_path / "small"


def of_output(home: Path) -> dict[str, str]:
    """What is there, but for state/, which has instants."""
    return {name: one for name, one in tree(home / "output").items() if not name.startswith("state/")}


def test_a_killed_process_changes_nothing_or_the_next_start_finishes(
    server: Server, small: Path, tmp_path: Path
) -> None:
    """SIGKILL at durable operations of the command, and again at one of the start that finishes it."""
    with closing(Lock(small / "output")):
        assert server.run(small, None, FORGET).status == 3, "it is refused beside a daemon"
    whole = Path(shutil.copytree(small, tmp_path / "whole", symlinks=True))
    counted = Control(tmp_path / "control", whole)
    ended = server.run(whole, counted, FORGET)
    assert ended.status == 0, ended.stderr
    operations = counted.count
    expected, before = of_output(whole), of_output(small)
    assert left_of(whole / "output") == set()
    for command in ("verify", "rebuild"):
        assert server.run(whole, None, (command,)).status == 0
    assert of_output(whole) == expected and left_of(whole / "output") == set()
    done = []
    for number in range(KILLED_AT):
        home = Path(shutil.copytree(small, tmp_path / "run", symlinks=True))
        control = Control(tmp_path / "control", home)
        control.act(KILLS[number % len(KILLS)], 3 + operations * number // KILLED_AT)
        assert server.run(home, control, FORGET).status == KILLED
        again = Control(tmp_path / "control", home)
        again.act(KILLS[0], 5 + 3 * number)
        server.run(home, again)
        ended = server.run(home, None)
        assert ended.status == 0, ended.stderr
        found = of_output(home)
        assert found in (before, expected), control.what
        assert found == before or left_of(home / "output") == set()
        done.append(found == expected)
        shutil.rmtree(home)
    assert not done[0] and done[-1]


def test_blocks_on_the_command_line_and_a_ledger_that_is_lost_afterwards(server: Server, small: Path) -> None:
    """Receipts name the rewritten copies, so a rebuild from them gives the same."""
    assert server.run(small, None, FORGET).status == 0
    expected = of_output(small)
    for arguments, status in (
        ((*FORGET, "--block"), 0), ((*FORGET, "--unblock"), 0), ((*FORGET, "--unblock"), 1),
        (("forget",), 2), ((*FORGET, "--unblock", "--block"), 2), (("forget", "--order", " "), 2),
    ):  # fmt: skip
        assert server.run(small, None, arguments).status == status, arguments
    with closing(sqlite3.connect(small / "output" / "state" / "ledger.sqlite")) as sql:
        ((kind, hashed, first, last),) = sql.execute("SELECT kind, length(hash), first, last FROM blocked").fetchall()
    assert (kind, hashed, first, last) == ("user", 32, 7, 6)
    shutil.rmtree(small / "output" / "state")
    assert server.run(small, None, ("rebuild",)).status == 0
    assert of_output(small) == expected and left_of(small / "output") == set()
