"""Which names in the inbox are drops, which are those of files that a tool still writes, and which are nobody's."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.config import Watch
from daemon.sources.names import is_ignored, is_no_drop, is_unfinished
from daemon.sources.unfinished import why_unfinished
from daemon.storage.raw import kind_of

READABLE = [
    "orders.json", "a.b.jsonl", "x.ndjson", "orders.json.gz", "o.JSON.ZST", "users.csv", "Users-2.CSV.gz", "products.csv",
]  # fmt: skip
ENDINGS = [
    "~", ".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".download", ".inprogress", ".upload", ".swp",
    ".aria2", ".!sync", "._COPYING_", "_.gstmp", ".lock", ".writing", ".6eF5b5da", ".1a2b3c4d.partial", ".bak", ".s-12.Ab",
]  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", READABLE)
def test_a_readable_name_with_an_unfinished_or_unknown_ending_is_left_alone(name: str, ending: str) -> None:
    """Whatever its case."""
    for variant in (name + ending, name + ending.upper(), name + ending.lower(), f".{name}{ending}"):
        assert is_unfinished(variant) and is_no_drop(variant)


@pytest.mark.parametrize("name", READABLE)
def test_readable_names_and_names_of_other_formats_are_drops(name: str) -> None:
    """What can be read is taken; what has the ending of a known format is taken, too, and quarantined with a reason."""
    assert not is_no_drop(name) and kind_of(name) is not None
    for ending in (".txt", ".zip", ".bz2", ".csv", ".XLSX"):
        assert not is_no_drop(name + ending)


@pytest.mark.parametrize("name", ["orders.xml", "readme.txt", "notes", "export.2026.xlsx", "a.b.c"])
def test_a_name_that_begins_with_nothing_readable_is_a_drop(name: str) -> None:
    """So that nothing stays in the inbox unexplained."""
    assert not is_no_drop(name)


@pytest.mark.parametrize("name", ["Unconfirmed 123.crdownload", "x.TMP", "part.Part"])
def test_an_unfinished_ending_counts_after_any_name(name: str) -> None:
    """A browser's own name says nothing of the one to come."""
    assert is_unfinished(name)


@pytest.mark.parametrize("name", [".gitkeep", ".DS_Store", ".nfs0001", ".strandline-1-0123456789abcdef-orders.json"])
def test_a_hidden_name_of_no_drop_is_left_alone_and_not_counted(name: str) -> None:
    """Nobody is waiting for it."""
    assert is_no_drop(name) and not is_unfinished(name)


@pytest.mark.parametrize("name", ["Thumbs.db", "thumbs.DB", "desktop.ini", ".DS_Store", "~$users.xlsx", "_SUCCESS"])
def test_what_desktops_and_batch_jobs_leave_is_ignored_by_default(name: str) -> None:
    """It is no drop and nobody's unfinished file."""
    assert is_ignored(name, Watch().ignore) and not is_ignored("users.csv", Watch().ignore)


STEMS = st.sampled_from(["a", "users", "products", ".hidden", "~", "_SUCCESS"]) | st.text(
    min_size=1, max_size=6
).filter(lambda text: "\0" not in text and "/" not in text)
READABLE = [".json", ".ndjson.gz", ".JSON", ".jsonl.zst"]
UNFINISHED = [".part", ".tmp", ".crdownload", ".swp", "~"]


@given(STEMS, st.sampled_from(READABLE))
def test_a_name_that_can_be_read_is_a_drop_and_not_unfinished(stem: str, ending: str) -> None:
    """Whatever it is made of, unless it is hidden."""
    name = stem + ending
    assert kind_of(name) is not None
    assert is_no_drop(name) == name.startswith(".")
    assert name.startswith(".") or not is_unfinished(name)


@given(STEMS, st.sampled_from(READABLE), st.sampled_from(UNFINISHED))
def test_a_name_that_is_unfinished_is_no_drop(stem: str, readable: str, unfinished: str) -> None:
    """Whatever stands before what a tool appends while it writes."""
    name = stem + readable + unfinished
    assert is_unfinished(name) and is_no_drop(name)


# ------------------------------------------------------------------------------------------------------------ content


def _zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def _why(path: Path, content: bytes) -> str | None:
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return why_unfinished(descriptor)
    finally:
        os.close(descriptor)


LINES = b"".join(b'{"order_id":%d}\n' % number for number in range(20_000))


@pytest.mark.parametrize("pack", [gzip.compress, _zstd], ids=["gzip", "zstd"])
def test_a_compressed_stream_is_unfinished_wherever_it_is_cut(tmp_path: Path, pack: object) -> None:
    """Whole, in several members, or with junk after it, it is not: whoever reads it judges that."""
    assert callable(pack)
    whole = pack(LINES)
    for content in (whole, whole + whole, whole + b"\0" * 512):
        assert _why(tmp_path / "a", content) is None
    for cut in (5, 12, len(whole) // 2, len(whole) - 1):
        assert "cut short" in (_why(tmp_path / "a", whole[:cut]) or "")
        assert "cut short" in (_why(tmp_path / "a", whole + whole[:cut]) or "")
    damaged = _why(tmp_path / "a", whole[:20] + b"damage" * 500)
    assert (damaged is None) == (pack is gzip.compress)  # of a zstd frame it is not known how long it must be


@pytest.mark.parametrize(
    ("content", "unfinished"),
    [
        (b"", True), (b"[", True), (b"[1]", False), (b"\xef\xbb\xbf[1] \r\n", False), (b'{"a":1}\n{"a"', True),
        (b"PK\3\4abc", True), (b"PK\3\4abcPK\5\6" + bytes(18), False), (b"order_id,x\n", False), (b"<html>", False),
        (b"\x1f\x8b", True), (b"\x1f", False),
    ],
)  # fmt: skip
def test_a_text_or_archive_that_does_not_end_as_it_began_is_unfinished(
    tmp_path: Path, content: bytes, unfinished: bool
) -> None:
    """An empty file is as unfinished as can be."""
    assert (_why(tmp_path / "a", content) is not None) == unfinished
