"""`retry`: moves quarantined drops back into the inbox, under the names that they arrived with.

Works beside a running daemon and needs neither its lock nor the ledger: the file is durable in the inbox before it is removed
from quarantine. A crash in between leaves it in both places, and it can be retried again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from ..core.entries import REASON
from ..core.errors import UsageError
from ..sources.inbox_folder import InboxFolder
from ..sources.names import is_no_drop
from ..storage import files
from ..storage.raw import fitting, original, own_name, printable, quarantined


def retry(quarantine: Path, inbox: Path, names: Sequence[str]) -> list[str]:
    """Moves the named drops back (all, without names), and returns their file names in quarantine. A name is that of the file in
    quarantine (with or without its folder), the name that the drop arrived with, or its number. Raises UsageError for a name
    without a drop."""
    found = {file: _name(quarantine / file) for file in quarantined(quarantine)}
    if unknown := [name for name in names if not _called(found, name)]:
        raise UsageError(
            f"cannot retry {unknown[0]}: no drop in quarantine and no applied drop has this name or number; quarantine holds "
            f"{', '.join(found) or 'nothing'}"
        )
    wanted = list(dict.fromkeys(found if not names else [file for name in names for file in _called(found, name)]))
    if wanted:
        files.make_folder(inbox)
        folder = InboxFolder(inbox)
        for file in wanted:
            _put_back(quarantine / file, folder, found[file])
    return wanted


def called(quarantine: Path, name: str) -> bool:
    """Whether a drop in quarantine has this name or number."""
    return bool(_called({file: _name(quarantine / file) for file in quarantined(quarantine)}, name))


def _name(path: Path) -> str:
    """The name that the drop arrived with: from its reason file, otherwise the part of its file name after number and hash."""
    own = own_name(original(path.name.split("_", 2)[-1]))
    try:
        name = original(str(json.loads((path.with_name(path.name + REASON)).read_bytes())["name"]))
    except (OSError, ValueError, KeyError, TypeError):
        return own
    name = fitting(own_name(name).replace("\0", "_"))
    return own if not name or is_no_drop(name) else name  # the reason file was changed: no drop has such a name


def _called(found: dict[str, str], name: str) -> list[str]:
    asked = os.path.basename(name)
    files_called = [file for file, own in found.items() if asked in (file, own, printable(own))]
    if asked.isascii() and asked.isdigit():
        files_called += [file for file in found if _number(file) == asked.lstrip("0")]
    return files_called


def _number(file: str) -> str:
    return file.partition("_")[0].lstrip("0")


def _put_back(path: Path, inbox: InboxFolder, name: str) -> None:
    """Removes the copy in quarantine last, so that it still exists if an earlier step fails."""
    inbox.put(path, name, may_link=True)
    files.unlink(path.with_name(path.name + REASON))
    files.unlink(path)
    files.sync(path.parent)
