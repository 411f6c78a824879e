"""Names and numbers in raw/."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from daemon.storage import raw
from daemon.storage.raw import kind_of, printable, shortened
from tests.support.command import order
from tests.support.crash import drop, run

NAMES = ["a.json", "a b'\"\\.json", "a\nb.json", "..json", "[x]*.json", "%41.json", "x" * 250 + ".json"]


def test_names_in_raw_are_printable_bounded_and_tell_how_to_read() -> None:
    """Whatever bytes a name has; and no two escapes collide."""
    for name in [
        *NAMES,
        os.fsdecode(b"\xff\xfe.json"),
        "users" + "é" * 120 + ".csv",
        "orders" + "x" * 240 + ".json.gz",
    ]:
        found = shortened(printable(name))
        assert found.isprintable() and len(found.encode()) <= 180 and "/" not in found
        assert kind_of(found) == kind_of(name)
    assert printable("%41.json") != printable("A.json") != printable(os.fsdecode(b"\xff.json"))


def test_a_strange_number_in_raw_is_never_given_again(tmp_path: Path) -> None:
    """Something in raw/ that is no drop of ours bears a number: the next drop gets one above it, and the file stays."""
    drop(tmp_path, "a.json", json.dumps([order(1)]).encode())
    run(tmp_path)
    (folder,) = (tmp_path / "output" / "raw").glob("received=*")
    stranger = folder / "00000041_0123456789ab_notes.json"
    stranger.write_bytes(b"not what its name says")
    drop(tmp_path, "b.json", json.dumps([order(2)]).encode())
    run(tmp_path)
    assert stranger.read_bytes() == b"not what its name says"
    assert [path.name.split("_")[0] for path in folder.glob("*_b.json")] == ["00000042"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("users.csv", "user"), ("Users_2026.CSV", "user"), ("users.csv.gz", "user"), ("products-eu.csv.zst", "product"),
        ("users.json", "orders"), ("my_users.csv", None), ("users.csv.bz2", None), ("products", None), ("a.json.zst.gz", None),
    ],
)  # fmt: skip
def test_the_name_says_what_a_drop_holds(name: str, kind: str | None) -> None:
    """users*.csv and products*.csv in any case, compressed or not; orders by their suffix; nothing else."""
    assert raw.kind_of(name) == kind
