"""`retry`: quarantined drops go back through the door, into the inbox, under the names that they came with.

Works beside a running daemon, and needs neither its lock nor its ledger: the file is durable in the inbox before it leaves
the quarantine, so a crash in between leaves it in both, and the one in quarantine can be retried again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from . import files
from .core.errors import UsageError
from .inbox import is_left_alone
from .raw import put_back, shortened

_REASON = ".reason.json"


def retry(quarantine: Path, inbox: Path, names: Sequence[str]) -> list[str]:
    """Puts these back (all without names); returns their file names in quarantine. A name is that of the file in
    quarantine, the one that the drop came with, or its number. UsageError names what there is no drop of."""
    found = _quarantined(quarantine)
    wanted = list(found) if not names else [file for name in names for file in _called(found, name)]
    for file in dict.fromkeys(wanted):
        _back_through_the_door(quarantine / file, inbox, found[file])
    return list(dict.fromkeys(wanted))


def _quarantined(quarantine: Path) -> dict[str, str]:
    """The files in quarantine, by number, each with the name that it came with."""
    if not quarantine.is_dir():
        return {}
    found = {}
    for file in sorted(os.listdir(quarantine)):
        if not file.endswith(_REASON) and not is_left_alone(file):
            found[file] = _name(quarantine / file)
    return found


def _name(path: Path) -> str:
    """The drop's own name: as its reason has it, else as its file name has it after number and hash."""
    try:
        name = str(json.loads((path.with_name(path.name + _REASON)).read_bytes())["name"])
    except (OSError, ValueError, KeyError, TypeError):
        name = path.name.split("_", 2)[-1]
    return shortened(name.replace("/", "_"))


def _called(found: dict[str, str], name: str) -> list[str]:
    files_called = [
        file
        for file, own in found.items()
        if name in (file, own) or (name.isdigit() and file.startswith(f"{int(name):08d}_"))
    ]
    if not files_called:
        raise UsageError(f"nothing in quarantine is called {name}; there is: {', '.join(found) or 'nothing'}")
    return files_called


def _back_through_the_door(path: Path, inbox: Path, name: str) -> None:
    hidden = inbox / f".retry-{path.name}"
    files.link_or_copy(path, hidden)
    files.sync(hidden)
    os.utime(hidden)  # it arrives now, and is settled as any other
    put_back(hidden, name)
    files.sync(inbox)
    files.unlink(path.with_name(path.name + _REASON))
    files.unlink(path)
    files.sync(path.parent)
