"""A file as a text gives what its bytes give, and fails where another program cut it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.storage import file_text
from daemon.storage.file_text import CUT, FileText
from tests.support.examples import examples


@examples(100)
@given(st.binary(max_size=40).map(lambda found: found.replace(b"\1", b"\n")), st.integers(0, 45), st.integers(1, 9))
def test_it_gives_what_its_bytes_give(content: bytes, start: int, block: int) -> None:
    before = file_text._BLOCK_BYTES
    file_text._BLOCK_BYTES = block
    path = Path(f"/proc/self/fd/{(descriptor := os.memfd_create('text'))}")
    try:
        os.write(descriptor, content)
        with FileText(path) as text:
            assert len(text) == len(content)
            assert text.find(b"\n", start) == content.find(b"\n", start) and text.rfind(b"\n") == content.rfind(b"\n")
            assert text[start:] == content[start:] and text[: start + 3] == content[: start + 3]
    finally:
        file_text._BLOCK_BYTES = before
        os.close(descriptor)


def test_a_file_that_is_cut_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "drop.json"
    path.write_bytes(b"[1,2]\n")
    with FileText(path) as text:
        os.truncate(path, 3)
        assert text[:3] == b"[1,"
        with pytest.raises(OSError, match=CUT) as raised:
            text.rfind(b"]")
    assert raised.value.filename == str(path)
