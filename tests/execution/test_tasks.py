"""Read tasks where the machine fails: no drop is blamed for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.core.model import ParseContext
from daemon.core.parse.documents import Form
from daemon.execution import tasks
from daemon.execution.tasks import Span


def _span(folder: Path, size: int) -> Span:
    path = folder / "drop"
    path.write_bytes(b" " * size)
    return Span(1, path, 0, size, ParseContext(0, 0, "", None), Form.WHOLE)


def _out_of_memory(*_: object, **__: object) -> None:
    raise MemoryError


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_a_small_drop_is_not_why_memory_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(tasks, "parse", _out_of_memory)
    with pytest.raises(MemoryError):
        tasks.read([_span(tmp_path, size)], tmp_path)


def test_a_large_one_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "parse", _out_of_memory)
    answer = tasks.read([_span(tmp_path, (1 << 20) + 1)], tmp_path)
    assert answer is not None and "more memory than a worker has" in answer.parts[0].unreadable[1]
