"""`make demo-pull`, as it runs for somebody who has just cloned this: the script, and the API that it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.support import REPO
from tests.support.harness import dates, rows


def test_the_demo_reads_an_api_and_corrects_a_date(tmp_path: Path) -> None:
    """Three pages with one refusal between them, a change, and one page; the API has ended when the script ends."""
    ended = subprocess.run(
        [sys.executable, str(REPO / "examples" / "demo_pull.py"), str(tmp_path / "demo")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "3 pages, 10 records" in ended.stdout and "1 corrected, 1 unchanged" in ended.stdout
    assert ended.stderr.count(" 429 ") == 1 and "demo-token" not in ended.stdout + ended.stderr
    output = tmp_path / "demo" / "output"
    amounts = {day: sum(float(str(row["amount"])) for row in rows(output, day)) for day in dates(output)}
    assert amounts == {"2026-03-02": 30.0, "2026-03-03": 249.0, "2026-03-04": 340.0}
    assert all(str(amount) in ended.stdout for amount in (180.0, 249.0))
    url = next(line for line in ended.stdout.splitlines() if line.startswith("url = ")).split('"')[1]
    with pytest.raises(OSError, match="refused"):
        urlopen(url, timeout=5)


def test_the_api_needs_a_token_and_says_when_to_ask_again() -> None:
    command = [sys.executable, str(REPO / "examples" / "api" / "server.py"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:")
            with pytest.raises(HTTPError, match="401"):
                urlopen(f"{url}/orders", timeout=10)
            request = Request(f"{url}/orders", headers={"Authorization": "Bearer demo-token"})
            with pytest.raises(HTTPError, match="429") as refused:
                urlopen(request, timeout=10)
            assert refused.value.headers["Retry-After"] == "1"
            with urlopen(request, timeout=10) as answer:
                found = json.load(answer)
            assert [one["order_id"] for one in found["orders"]] == ["o_1", "o_2", "o_3", "o_4"] and found["next_cursor"]
        finally:
            process.terminate()


def test_make_runs_it() -> None:
    """With the interpreter of .venv, which make sets up before."""
    shown = subprocess.run(
        ["make", "--dry-run", "demo-pull"],
        cwd=REPO,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ".venv/bin/python examples/demo_pull.py" in shown.stdout
