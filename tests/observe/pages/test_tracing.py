"""The process that reads the history of an order: bounded in time and in what it says, and gone with whoever asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest

from daemon.core.errors import Unavailable
from daemon.downstream.scratch import FOLDER, remove_abandoned, scratch
from daemon.observe.pages import tracing as module
from daemon.observe.pages.tracing import Tracing
from tests.support import REPO
from tests.support.daemon_process import until


def tracing(program: str, seconds: float = 60.0, **variables: str) -> Tracing:
    return Tracing(
        [sys.executable, "-c", program], lambda: os.environ | variables, seconds, lambda: nullcontext(Path())
    )


def test_it_passes_the_order_and_returns_what_is_said() -> None:
    """As one argument, whatever is in it, with the environment and a low priority."""
    program = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['MORE'], os.nice(0)]))"
    for order_id in ("o_7", "-x", "--help", "a b'\"$(id)\n;", "ü\u202e", "x" * 256):
        arguments, more, niceness = tracing(program, MORE="1").of(order_id)  # type: ignore[misc]
        assert arguments == [order_id] and more == "1" and niceness == min(os.nice(0) + 5, 19)


def test_a_failure_is_the_last_line_of_its_complaint() -> None:
    """Cut to a size that a page can have."""
    with pytest.raises(Unavailable, match=r"`strandline trace` failed: error: the output is gone$"):
        tracing("import sys; print('warning', file=sys.stderr); sys.exit('error: the output is gone')").of("o_7")
    with pytest.raises(Unavailable, match="it said nothing"):
        tracing("").of("o_7")
    with pytest.raises(Unavailable) as caught:
        tracing("import sys; sys.exit('x' * 100_000)").of("o_7")
    assert len(str(caught.value)) < 1_000


def test_one_that_takes_too_long_is_ended_with_all_its_children(tmp_path: Path) -> None:
    """Also one that has closed its output and goes on, or whose child holds it open."""
    program = f"""
import os, time
if os.fork() == 0:
    open({str(tmp_path / "child")!r}, 'w').write(str(os.getpid()))
while True: time.sleep(1)
"""
    began = time.monotonic()
    with pytest.raises(Unavailable, match="takes longer than 1 s"):
        tracing(program, 1.0).of("o_7")
    assert time.monotonic() - began < 30
    child = int((tmp_path / "child").read_text())
    until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split(")")[1])


def test_one_that_says_too_much_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """On either stream."""
    monkeypatch.setattr(module, "_MOST_BYTES", 1 << 20)
    for stream in ("stdout", "stderr"):
        with pytest.raises(Unavailable, match="there is more to say than 1 MiB"):
            tracing(f"import sys\nwhile True: sys.{stream}.write('x' * 65536)").of("o_7")


def test_it_ends_when_whoever_asked_is_killed(tmp_path: Path) -> None:
    """Nothing is left of a daemon that got SIGKILL."""
    note = tmp_path / "pid"
    child = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    asker = f"""
import os, sys
from functools import partial
from pathlib import Path
from daemon.downstream.scratch import scratch
from daemon.observe.pages.tracing import Tracing
Tracing([sys.executable, "-c", {child!r}], lambda: os.environ, 600, partial(scratch, Path({str(tmp_path)!r}))).of("o_7")
"""
    process = subprocess.Popen([sys.executable, "-c", asker], cwd=REPO)
    try:
        pid = int(until(lambda: note.exists() and note.read_text()))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    until(lambda: not Path(f"/proc/{pid}").exists())
    assert len(list((tmp_path / FOLDER).iterdir())) == 1
    remove_abandoned(tmp_path)
    assert list((tmp_path / FOLDER).iterdir()) == []


@pytest.mark.parametrize("seconds", [60.0, 1.0])
def test_its_temporary_folder_is_removed_by_whoever_asked(tmp_path: Path, seconds: float) -> None:
    """Also where it takes too long and is killed."""
    program = """
import json, time
from daemon.commands.shared import scratch_folder
with scratch_folder("trace") as folder:
    (folder / "file").write_text("")
    print(json.dumps({"folder": str(folder)}), flush=True)
    time.sleep(%s)
"""
    asked = Tracing(
        [sys.executable, "-c", program % (0 if seconds > 1 else 600)],
        lambda: os.environ | {"PYTHONPATH": str(REPO)}, seconds, partial(scratch, tmp_path),
    )  # fmt: skip
    if seconds > 1:
        assert (tmp_path / FOLDER) in Path(asked.of("o_7")["folder"]).parents
    else:
        with pytest.raises(Unavailable, match="takes longer than 1 s"):
            asked.of("o_7")
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_what_is_no_json_is_a_failure() -> None:
    """Half of it, too."""
    with pytest.raises(Unavailable, match="failed"):
        tracing("print('{\"order_id\": ')").of("o_7")
    assert tracing(f"print({json.dumps(json.dumps({'a': 1}))})").of("o_7") == {"a": 1}
