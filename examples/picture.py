"""`make picture`: the picture of the page in README.md, of the drops of `make demo`, by a real daemon and a real browser."""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # runs from a checkout, installed or not

from examples import demo  # noqa: E402 (after the path)
from tests.support.browser import tab  # noqa: E402
from tests.support.command import strandline  # noqa: E402
from tests.support.daemon_process import started, until  # noqa: E402

FOLDER = HERE.parent / "build" / "picture"
PICTURE = HERE.parent / "docs" / "page.png"
WIDTH, HEIGHT = 1100, 760
# The folder and the name of this machine are nobody's business.
_OF_NO_MACHINE = """
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode())
    texts.currentNode.data = texts.currentNode.data.replaceAll("%s", "/srv/shop").replaceAll("%s", "orders-1");
"""


def main() -> None:
    """Takes the picture."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "inbox").mkdir(parents=True)
    for name in ("models", "checks"):
        shutil.copytree(HERE.parent / name, FOLDER / name)
    for names in demo.ARRIVALS:
        demo.deliver(names, FOLDER)
        strandline(FOLDER, "--once")
    daemon = started(FOLDER)
    try:
        until(daemon.ready, "ready")
        with tab() as page:
            page.open(f"http://127.0.0.1:{daemon.port}/")
            page.ask(_OF_NO_MACHINE % (str(FOLDER), socket.gethostname()))
            page.screenshot(PICTURE, WIDTH, HEIGHT, dark=False)
    finally:
        daemon.process.terminate()
        daemon.process.wait(30)
    print(f"{PICTURE.relative_to(HERE.parent)}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
