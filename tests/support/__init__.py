"""Helpers that tests share: real servers and processes, and an engine in its own folder."""

from __future__ import annotations

import os
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def elsewhere(folder: Path) -> Path | None:
    """A place on another file system than a folder."""
    places = [place for place in (Path("/dev/shm"), Path("/var/tmp")) if place.is_dir()]
    return next((place for place in places if os.stat(place).st_dev != os.stat(folder).st_dev), None)
