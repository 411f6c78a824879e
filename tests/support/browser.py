"""A real headless Chromium, controlled over a pipe with the DevTools protocol. For tests."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip
# Chromium reads commands from descriptor 3 and answers on 4. First both ends are moved to free descriptors.
_LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3]]
for end, wanted in zip(ends, (3, 4)):
    os.dup2(end, wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""


def _chromium() -> str:
    """The path of the program. Without it, the test is skipped; in CI it fails."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        reason = "chromium is not installed: apt-get install chromium"
        if os.environ.get("REQUIRE_TEST_TOOLS"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def _axe() -> str:
    """The script of axe-core. Whoever evaluates it here is not held by the policy of a page."""
    import axe_core_python

    return (Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8") + ";0"


class Tab:
    """One page that is open."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive, self._rest, self._id, self._session = send, receive, b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends one command and returns its answer. Events that arrive meanwhile are kept in `events`."""
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._id:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            content = os.read(self._receive, 1 << 16)
            assert content, "the browser has ended"
            self._rest += content
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(self, address: str) -> None:
        """Opens an address and waits until the page is loaded."""
        self.events.clear()
        self.call("Page.navigate", url=address)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def show(self, width: int, height: int, *, dark: bool) -> None:
        """Gives the window a size, and the user a preference."""
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def press(self, key: str) -> None:
        """Presses a key and releases it: Tab, Enter, or a character."""
        named = {"Tab": (9, ""), "Enter": (13, "\r")}
        code, text = named.get(key, (0, key))
        common = {"key": key, "windowsVirtualKeyCode": code, "text": text}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def violations(self) -> list[str]:
        """What axe finds wrong with the page that is open, by every rule that it has: rule, element, and why."""
        self.ask(_axe())
        answer = self.call(
            "Runtime.evaluate", expression="axe.run(document)", awaitPromise=True, returnByValue=True
        )["result"]["value"]  # fmt: skip
        assert len(answer["passes"]) > 10, "axe looked at the page"
        return [
            f"{found['id']}: {node['target']}: {node['failureSummary']}"
            for found in answer["violations"]
            for node in found["nodes"]
        ]

    def screenshot(self, path: Path, width: int, height: int, *, dark: bool) -> None:
        """Saves a picture of the window."""
        self.show(width, height, dark=dark)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def tab() -> Iterator[Tab]:
    """Starts a browser with one tab."""
    program, profile = _chromium(), tempfile.mkdtemp(prefix="chromium-")
    to_read, we_send = os.pipe()
    we_read, to_send = os.pipe()
    command = [sys.executable, "-c", _LAUNCH, str(to_read), str(to_send), program, *_OPTIONS]
    command.append(f"--user-data-dir={profile}")
    process = subprocess.Popen(
        command, pass_fds=(to_read, to_send), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    os.close(to_read)
    os.close(to_send)
    try:
        yield Tab(we_send, we_read)
    finally:
        os.close(we_send)  # the browser exits when its pipe is closed
        os.close(we_read)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(profile, ignore_errors=True)
