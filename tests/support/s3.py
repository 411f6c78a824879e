"""Starts a real S3-speaking server for tests: moto's, in a process of its own, on loopback."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

KEY, SECRET = "AKIDTESTTESTTESTTEST", "s3cr3t-that-must-not-be-seen"
_PROGRAM = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()  # until the test ends, or dies
"""


@contextmanager
def server() -> Iterator[str]:
    """A running server; yields its URL. Without moto, the test is skipped; in CI it fails."""
    if importlib.util.find_spec("moto") is None:
        reason = "moto is not installed: pip install 'moto[server]'"
        if os.environ.get("REQUIRE_TEST_TOOLS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        assert port, "moto's server did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def bucket(url: str, name: str) -> str:
    """Makes a bucket on a server; returns its URL."""
    urllib.request.urlopen(urllib.request.Request(f"{url}/{name}", method="PUT"), timeout=30).close()
    return f"s3://{name}"


def options(url: str) -> dict[str, str]:
    """What obstore and deltalake need to use a server."""
    return {
        "endpoint": url, "region": "us-east-1", "allow_http": "true", "access_key_id": KEY, "secret_access_key": SECRET,
    }  # fmt: skip
