"""Runs the real command in its own folder: writes drops, calls it, and reads its results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.support import REPO, zygote


def order(number: int, day: int = 2, **more: object) -> dict[str, object]:
    return {
        "order_id": f"o_{number}",
        "amount": number,
        "created_at": f"2026-03-{day:02d}T10:00:00Z",
        "items": [{"sku": "p_1", "qty": 1, "price": number}],
    } | more


def as_drop(orders: list[dict[str, object]], indent: int | None = None) -> bytes:
    return json.dumps(orders, indent=indent).encode()


def drop(home: Path, name: str | bytes, content: bytes | list, age_seconds: float = 3600) -> Path:
    """Writes a file into the inbox, with the given age."""
    inbox = home / "inbox"
    inbox.mkdir(exist_ok=True)
    path = inbox / os.fsdecode(name)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    then = time.time() - age_seconds
    os.utime(path, (then, then))
    return path


def command(*more: str) -> list[str]:
    return [sys.executable, "-m", "daemon", "--once", *more]


def environment(**settings: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(REPO)} | {f"STRANDLINE_{k}": v for k, v in settings.items()}


def once(home: Path, *more: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return strandline(home, "--once", *more, **settings)


def receipts(home: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in (home / "output" / "receipts").rglob("*.json")]
    return {f"{r['drop']}:{r['name']}": r for r in found}


def strandline(home: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs any of the commands."""
    return zygote.run(words, home, environment(**settings))


def differences(home: Path) -> list[dict[str, str]]:
    """The differences that `verify` finds."""
    ended = strandline(home, "verify", "--json")
    found = json.loads(ended.stdout)["differences"]
    assert ended.returncode == (1 if found else 0), ended.stderr
    return found
