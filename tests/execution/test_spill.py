"""Tables on their way from one process to another."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from daemon.execution import spill
from daemon.storage.file_text import CUT


@pytest.mark.parametrize("left", [0, 1, 700])
def test_a_file_that_another_program_cut_is_an_error_of_the_machine(tmp_path: Path, left: int) -> None:
    """It is tried again; and nothing of it is taken for a table."""
    path, table = tmp_path / "read-1.arrow", pa.table({"n": list(range(1000))})
    spill.write(path, table)
    assert spill.read(path).equals(table)
    os.truncate(path, left)
    with pytest.raises(OSError, match=CUT) as raised:
        spill.take(path)
    assert raised.value.filename == str(path)
