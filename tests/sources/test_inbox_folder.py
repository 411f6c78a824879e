"""The inbox is used through its folder: leases, and hidden files that get their name back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.sources.inbox_folder import InboxFolder
from daemon.storage.raw import kind_of
from tests.support import REPO
from tests.support.crash import drop


def test_a_writer_that_comes_while_it_is_looked_whether_one_is_there_ends_nobody(tmp_path: Path) -> None:
    """The kernel signals whoever holds a lease that is broken, by default with a signal that ends the process."""
    drop(tmp_path, "a.json", b"[]")
    writer = (
        "import sys\nwhile True:\n    for _ in range(999): open(sys.argv[1], 'ab').close()\n    print(flush=True)\n"
    )
    looking = (
        "import sys, time\nfrom pathlib import Path\nfrom daemon.sources.inbox import Inbox\n"
        "from daemon.sources.source_folder import SourceFolder\n"
        "from daemon.core.retry import Backoff\n"
        "inbox = Inbox(SourceFolder(Path(sys.argv[1])), 0.0, Backoff(1, 0.1, 0.1))\n"
        "for _ in range(20000): inbox.scan(time.time())\n"
    )
    path = tmp_path / "inbox" / "a.json"
    beside = subprocess.Popen([sys.executable, "-c", writer, path], stdout=subprocess.PIPE)
    try:
        assert beside.stdout is not None
        beside.stdout.readline()  # it writes
        ended = subprocess.run(
            [sys.executable, "-c", looking, path.parent],
            cwd=REPO,
            check=False,
            timeout=300,
        )
    finally:
        beside.send_signal(signal.SIGKILL)
        beside.wait()
    assert ended.returncode == 0


@pytest.mark.parametrize(
    "name",
    [
        "a.json",
        "users.csv.gz",
        "x" * 250 + ".json",
        "users" + "x" * 246 + ".csv",
        "a" * 130 + "." + "b" * 119 + ".json",
    ],
)
def test_a_hidden_file_gets_its_name_back_or_one_that_is_read_alike(tmp_path: Path, name: str) -> None:
    """Also where that is taken, and where an earlier try came half-way."""
    contents = []
    for number in range(4):
        hidden = tmp_path / f".strandline-{number}"
        hidden.write_text(str(number))
        contents.append(str(number))
        if number == 2:
            os.link(hidden, tmp_path / "elsewhere")
        InboxFolder(tmp_path).show(hidden.name, name)
    os.unlink(tmp_path / "elsewhere")
    found = sorted(tmp_path.iterdir())
    assert sorted(path.read_text() for path in found) == contents
    assert {kind_of(path.name) for path in found} == {kind_of(name)}
    assert (tmp_path / name).read_text() == "0"


def test_a_file_that_was_given_its_name_and_not_unlinked_is_finished(tmp_path: Path) -> None:
    """A crash between the two must not leave the drop there twice."""
    hidden = tmp_path / ".strandline-1-a.json"
    hidden.write_text("[]")
    os.link(hidden, tmp_path / "a.json")
    InboxFolder(tmp_path).show(hidden.name, "a.json")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
