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
from .core.entries import REASON
from .core.errors import UsageError
from .inbox import is_left_alone
from .raw import fitting, original, printable, put_back, quarantined


def retry(quarantine: Path, inbox: Path, names: Sequence[str]) -> list[str]:
    """Puts these back (all without names); returns their file names in quarantine. A name is that of the file in
    quarantine (with its folder, if you like), the one that the drop came with, or its number. UsageError names what there is
    no drop of."""
    found = {file: _name(quarantine / file) for file in quarantined(quarantine)}
    if unknown := [name for name in names if not _called(found, name)]:
        raise UsageError(
            f"nothing in quarantine is called {unknown[0]}, and no applied drop is; in quarantine there is: "
            f"{', '.join(found) or 'nothing'}"
        )
    wanted = list(dict.fromkeys(found if not names else [file for name in names for file in _called(found, name)]))
    if wanted:
        files.make_folder(inbox)
    for file in wanted:
        _back_through_the_door(quarantine / file, inbox, found[file])
    return wanted


def called(quarantine: Path, name: str) -> bool:
    """Whether a drop in quarantine is called so."""
    return bool(_called({file: _name(quarantine / file) for file in quarantined(quarantine)}, name))


def _name(path: Path) -> str:
    """The name that the drop came with: as its reason has it, else as its file has it after number and hash."""
    own = original(path.name.split("_", 2)[-1])
    try:
        name = original(str(json.loads((path.with_name(path.name + REASON)).read_bytes())["name"]))
    except (OSError, ValueError, KeyError, TypeError):
        return own
    name = fitting(name.replace("/", "_").replace("\0", "_"))
    return own if not name or is_left_alone(name) else name  # somebody changed it: no drop has such a name


def _called(found: dict[str, str], name: str) -> list[str]:
    asked = os.path.basename(name)
    files_called = [file for file, own in found.items() if asked in (file, own, printable(own))]
    if asked.isascii() and asked.isdigit():
        files_called += [file for file in found if _number(file) == asked.lstrip("0")]
    return files_called


def _number(file: str) -> str:
    return file.partition("_")[0].lstrip("0")


def _back_through_the_door(path: Path, inbox: Path, name: str) -> None:
    hidden = inbox / f".retry-{path.name}"
    files.link_or_copy(path, hidden)
    files.sync(hidden)
    os.utime(hidden)  # it arrives now, and is settled as any other
    put_back(hidden, name)
    files.sync(inbox)
    files.unlink(path.with_name(path.name + REASON))
    files.unlink(path)
    files.sync(path.parent)
