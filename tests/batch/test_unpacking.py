"""Zip archives: each file of one is a drop of its own, whatever the moment of a crash; what cannot be unpacked is kept whole."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.batch import reread
from daemon.batch.reading import Limits
from daemon.core.errors import UsageError
from daemon.operate import quarantine
from daemon.sources.source_folder import SourceFolder
from daemon.storage import raw
from tests.strategies import RECEIVED_AT_US, drops
from tests.support.crash import crash_at, drop, run
from tests.support.examples import examples
from tests.support.harness import apply_batch, open_engine, tree
from tests.support.zips import encrypted, huge_directory, overlapping, with_size, with_wrong_sum, zipped

NOW = RECEIVED_AT_US
ORDER = b'[{"order_id":"o_1","created_at":"2026-11-18","amount":5}]'
OTHER = b'{"order_id":"o_2","created_at":"2026-11-19"}\n'
USERS = b"user_id,email\nu_1,a@example.com\n"


def results(root: Path, *batch: tuple[str, bytes], limits: Limits | None = None) -> list[tuple[int, str, str, str]]:
    """(number, name, outcome, reason) of each drop of one batch."""
    with open_engine(root) as engine:
        limited = replace(engine, reader=replace(engine.reader, limits=limits or engine.reader.limits))
        outcome = apply_batch(limited, root, batch, NOW)
        assert not list(engine.store.staging.rglob("*.*"))
    return [(one.drop.seq, one.drop.name, str(one.outcome), one.reason or "") for one in outcome.results]


def test_each_file_is_a_drop_in_the_order_of_the_archive(tmp_path: Path) -> None:
    """With a number, raw copy and receipt of its own; the archive itself is not kept. Drops after it have later numbers."""
    archive = zipped(
        ("b.json", ORDER), ("2026/users.csv", USERS), ("2026/", b""), ("notes.txt", b"x"), ("a.json.gz", gzip.compress(OTHER)),
        ("__MACOSX/._b.json", b"x"), (".DS_Store", b"x"), ("x/.git/y.json", b"x"), ("Thumbs.db", b"x"), ("again.json", ORDER),
    )  # fmt: skip
    limits = Limits(1 << 30, 200, ("Thumbs.db",))
    found = results(
        tmp_path, ("first.json", b"[]"), ("orders.ZIP", archive), ("last.json", OTHER + OTHER), limits=limits
    )
    assert [one[:3] for one in found] == [
        (1, "first.json", "applied"), (2, "orders.ZIP/b.json", "applied"), (3, "orders.ZIP/2026/users.csv", "applied"),
        (4, "orders.ZIP/notes.txt", "quarantined"), (5, "orders.ZIP/a.json.gz", "applied"),
        (6, "orders.ZIP/again.json", "duplicate"), (7, "last.json", "applied"),
    ]  # fmt: skip
    assert "a file with this name is not read" in found[3][3]
    output, inbox = tmp_path / "output", tmp_path / "inbox"
    stored = {path.name.split("_", 2)[2]: path.read_bytes() for path in output.glob("raw/*/*")}
    assert stored.keys() == {
        "first.json", "last.json", "orders.ZIP%2Fb.json", "orders.ZIP%2F2026%2Fusers.csv", "orders.ZIP%2Fa.json.gz",
    }  # fmt: skip
    assert stored["orders.ZIP%2F2026%2Fusers.csv"] == USERS and not list(inbox.iterdir())
    (receipt,) = output.glob("receipts/*/00000003_orders.ZIP%2F2026%2Fusers.csv.json")
    assert json.loads(receipt.read_bytes())["name"] == "orders.ZIP/2026/users.csv"
    assert (output / "raw" / "orders_raw.json").resolve().name.endswith("last.json")


def test_a_file_of_an_archive_is_retried_under_its_own_name(tmp_path: Path) -> None:
    """Under which it is read as it was; and found by its number, its own name or the whole one."""
    results(tmp_path, ("a.zip", zipped(("x/users.csv", b"email\nx\n"), ("y.json", b"[{]"))))
    inbox = tmp_path / "inbox"
    for asked, name in (("a.zip/x/users.csv", "users.csv"), ("2", "y.json")):
        assert len(quarantine.retry(tmp_path / "output" / "quarantine", [SourceFolder(inbox)], [asked])) == 1
        assert name in {path.name for path in inbox.iterdir()}


SMALL = Limits(50_000, 5)
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "encrypted": (encrypted, "is encrypted; unpack it"),
    "nested": (lambda: zipped(("a.json", ORDER), ("b/more.ZIP", zipped(("c.json", ORDER)))), "another one inside (b/more.ZIP)"),
    "bzip2": (lambda: zipped(("a.json", ORDER), method=zipfile.ZIP_BZIP2), "compressed with bzip2"),
    "lzma": (lambda: zipped(("a.json", ORDER), method=zipfile.ZIP_LZMA), "compressed with lzma"),
    "wrong check sum": (with_wrong_sum, "damaged (Bad CRC-32"),
    "longer than it says": (lambda: with_size(10), "damaged"),
    "shorter than it says": (lambda: with_size(1_000), "damaged"),
    "overlapping": (overlapping, "overlap"),
    "huge directory": (huge_directory, "damaged"),
    "absolute": (lambda: zipped(("/etc/a.json", ORDER)), "a place outside itself (/etc/a.json)"),
    "above": (lambda: zipped(("x/../../a.json", ORDER)), "a place outside itself"),
    "above, in the way of Windows": (lambda: zipped(("..\\a.json", ORDER)), "a place outside itself"),
    "of a drive": (lambda: zipped(("C:\\a.json", ORDER)), "a place outside itself (C:/a.json)"),
    "empty": (zipped, "none of the 0 entries"),
    "nothing to read": (lambda: zipped(("x/", b""), (".x", b"1")), "none of the 2 entries"),
    "too many": (lambda: zipped(*((f"{number}.json", b"") for number in range(10_001))), "10,001 entries"),
    "spreadsheet": (lambda: zipped(("[Content_Types].xml", b""), ("xl/workbook.xml", b"")), "Office document"),
    "no zip": (lambda: ORDER, "no zip archive"),
    "cut": (lambda: zipped(("a.json", ORDER), ("b.json", OTHER))[:-30], "damaged"),
    "a large file": (lambda: zipped(("a.json", bytes(range(256)) * 200)), "max_drop_bytes allows 50,000"),
    "a bomb": (lambda: zipped(("a.json", b" " * 30_000)), "a.json in the zip archive expands to 30,000 bytes"),
    "many small bombs": (lambda: zipped(*((f"{n}.json", b" " * 9_000) for n in range(4))), "max_expansion allows 20,480"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_unpacked_is_quarantined_whole(tmp_path: Path, kind: str) -> None:
    """With a reason, and byte for byte; nothing of it is applied, and the drops beside it are."""
    make, why = REFUSED[kind]
    content = make()
    limits = Limits(1 << 30, 200) if kind == "too many" else SMALL
    (before, refused, after) = results(
        tmp_path, ("1.json", b"[]"), ("2.zip", content), ("3.json", OTHER), limits=limits
    )
    assert (before[2], after) == ("applied", (3, "3.json", "applied", ""))
    assert refused[:3] == (2, "2.zip", "quarantined") and why in refused[3]
    (kept,) = [name for name in tree(tmp_path / "output" / "quarantine") if not name.endswith(".reason.json")]
    assert (tmp_path / "output" / "quarantine" / kept).read_bytes() == content


@examples(40)
@given(data=st.data())
def test_damage_anywhere_in_an_archive_harms_nothing_else(data: st.DataObject, tmp_path_factory: Any) -> None:
    """Whatever bytes are changed: its files are applied as they were, or it is quarantined whole."""
    content = bytearray(zipped(("a.json", ORDER), ("b.json", OTHER)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    found = results(tmp_path_factory.mktemp("zip"), ("x.zip", bytes(content)), ("z.json", OTHER + OTHER))
    assert found[-1][1:3] == ("z.json", "applied")
    if found[0][1] == "x.zip":
        assert found[0][2] == "quarantined" and "zip archive" in found[0][3]


def test_long_names_still_say_how_to_read() -> None:
    """Of the archive and of its files; and what the raw layer has is told apart from any other name."""
    long = raw.name_in_archive("z" * 251 + ".zip", "f" * 400 + "/users" + "é" * 300 + ".csv")
    assert raw.kind_of(long) == "user" and len(long.encode()) < 800
    stored = raw.shortened(long)
    assert len(stored.encode()) <= 180 and "/" not in stored and raw.kind_of(stored.replace("%2F", "/")) == "user"
    assert raw.shortened(raw.printable("a%2Fusers.csv")) == "a%252Fusers.csv"
    assert raw.kind_of("a.zip/users.csv") == "user" and not raw.is_archive("a.zip/b.zip") and raw.is_archive("b.Zip")


MEMBER = st.sampled_from(["a.json", "b.ndjson", "x/c.json", "d.json", "e.txt", "users.csv"])


@examples(40)
@given(st.lists(st.tuples(MEMBER, drops() | st.sampled_from([USERS, ORDER, OTHER, b""])), min_size=1, max_size=4))
def test_an_archive_is_what_its_files_are_as_drops(tmp_path_factory: Any, members: list[tuple[str, bytes]]) -> None:
    """The same outcomes, published bytes and quarantine as of the same files dropped one by one."""
    one, other = tmp_path_factory.mktemp("zip"), tmp_path_factory.mktemp("files")
    found = results(one, ("x.zip", zipped(*members)))
    with open_engine(other) as engine:
        named = [
            (f"{'users' if 'csv' in name else 'f'}{number}{Path(name).suffix}", data)
            for number, (name, data) in enumerate(members)
        ]
        expected = apply_batch(engine, other, named, NOW).results
    assert [one[2] for one in found] == [str(result.outcome) for result in expected]
    assert [one[0] for one in found] == list(range(1, len(members) + 1))
    assert tree(one / "output" / "curated") == tree(other / "output" / "curated")
    with open_engine(one) as engine:
        assert [engine.ledger.drop(seq).sha256 for seq in range(1, len(members) + 1)] == [
            r.drop.sha256 for r in expected
        ]


ARCHIVE = zipped(("a.json", ORDER), ("b.json", b"[{]"), ("users.csv", USERS), ("c.ndjson", OTHER), ("d.json", ORDER))


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_operation_loses_and_doubles_nothing(tmp_path: Path, after: bool) -> None:
    """Of an archive whose files are applied, quarantined and duplicates, between two other drops."""
    last, ended = 0, False
    while not ended:
        last += 1
        root = tmp_path / str(last)
        for number, (name, content) in enumerate([("1.json", b"[]"), ("2.zip", ARCHIVE), ("3.json", OTHER + OTHER)]):
            drop(root, name, content, 3600 - number)
        ended = not crash_at(root, last, after=after)
        run(root)
        with open_engine(root) as engine:
            found = [(one.name, one.sha256) for seq in range(1, 20) if (one := engine.ledger.drop(seq))]
            assert engine.ledger.uncommitted() == []
        names = [
            "1.json",
            *(f"2.zip/{name}" for name in ("a.json", "b.json", "users.csv", "c.ndjson", "d.json")),
            "3.json",
        ]
        assert [name for name, _ in found] == names, last
        assert not list((root / "inbox").iterdir())
        assert len(list((root / "output" / "quarantine").iterdir())) == 2
        assert len(list(root.glob("output/raw/*/*"))) == 5
    assert last > 40


def test_an_archive_that_was_written_to_after_it_was_taken_comes_back(tmp_path: Path) -> None:
    """A crash came before it was removed; then somebody added a file: that becomes a drop, and the others are duplicates."""
    drop(tmp_path, "2.zip", zipped(("a.json", ORDER), ("c.ndjson", OTHER)))
    point = 1
    # The last operation before the removal: found by trying
    while not list((tmp_path / "output").glob("receipts/*/*")):
        root = tmp_path / f"try-{point}"
        drop(root, "2.zip", zipped(("a.json", ORDER), ("c.ndjson", OTHER)))
        crash_at(root, point, after=True)
        hidden = list((root / "inbox").glob(".strandline-*"))
        with open_engine(root) as engine:
            entered = engine.ledger.last_seq
        if hidden and entered == 2:
            hidden[0].write_bytes(zipped(("a.json", ORDER), ("new.json", OTHER + OTHER)))
            run(root)
            with open_engine(root) as engine:
                kept = [one for seq in range(1, 9) if (one := engine.ledger.drop(seq))]
            assert [one.name for one in kept] == ["2.zip/a.json", "2.zip/c.ndjson", "2.zip/a.json", "2.zip/new.json"]
            assert kept[2].duplicate_of == 1
            return
        point += 1


def test_of_files_of_one_name_the_one_that_is_meant_is_retried(tmp_path: Path) -> None:
    """In quarantine by its archive and path; applied ones, too; a name alone means all of that name."""
    results(tmp_path, ("a.zip", zipped(("x/b.json", b"[{]"), ("y/b.json", b"[[]"), ("z/b.json", ORDER))))
    folder, places = tmp_path / "output" / "quarantine", [SourceFolder(tmp_path / "inbox")]
    assert [drop.seq for drop in reread.applied(tmp_path / "output", ["a.zip/z/b.json"]).values()] == [3]
    assert [file.split("_")[0] for file in quarantine.retry(folder, places, ["a.zip/y/b.json"])] == ["00000002"]
    with pytest.raises(UsageError, match="no drop in quarantine"):
        quarantine.retry(folder, places, ["c.zip/x/b.json"])
    assert [file.split("_")[0] for file in quarantine.retry(folder, places, ["b.json"])] == ["00000001"]
