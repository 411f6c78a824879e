"""The committed inputs: tests/data/fuzz/HARNESS.zip, minimized, so that each adds code that is reached."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable
from pathlib import Path

from tests.support import REPO

FOLDER = REPO / "tests" / "data" / "fuzz"


def inputs(harness: str) -> dict[str, bytes]:
    """The inputs of a harness, by name."""
    with zipfile.ZipFile(FOLDER / f"{harness}.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(harness: str, found: Iterable[bytes]) -> None:
    """Replaces the inputs. The same inputs make the same file."""
    named = {hashlib.sha256(data).hexdigest()[:16]: data for data in found}
    with zipfile.ZipFile(FOLDER / f"{harness}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted(named.items()):
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED, 9)


def unpack(harness: str, folder: Path) -> None:
    """Writes each input as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in inputs(harness).items():
        (folder / name).write_bytes(data)
