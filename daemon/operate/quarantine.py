"""`retry`: moves quarantined drops back into the inbox, under the names that they arrived with.

Works beside a running daemon and needs no lock: the file is durable in the inbox before it is removed
from quarantine. A crash in between leaves it in both places, and it can be retried again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ..core.entries import REASON
from ..core.errors import UsageError
from ..core.mapping import DEFAULT_SOURCE
from ..sources.inbox_folder import InboxFolder
from ..sources.names import is_no_drop
from ..sources.source_folder import SourceFolder, place_of
from ..storage import files
from ..storage.ledger import Ledger
from ..storage.raw import archive_of, fitting, original, own_name, printable, quarantined


def retry(quarantine: Path, places: Sequence[SourceFolder], names: Sequence[str]) -> dict[str, Path]:
    """Moves the named drops (all, without names) back into the folders of their sources. Returns these, by file name in
    quarantine. A name is that of the file in quarantine (with or without its folder), the name that the drop arrived with
    (alone, with its source or with its zip archive), that of a zip archive for all drops from it, or its number. Raises
    UsageError for a name without a drop, and
    for a source that is not configured any more."""
    found = {file: _name(quarantine / file) for file in quarantined(quarantine)}
    asked = {name: _called(quarantine, found, name) for name in names}
    if unknown := [name for name in names if not asked[name]]:
        raise UsageError(
            f"cannot retry {unknown[0]}: no drop in quarantine and no applied drop has this name or number; quarantine holds "
            f"{', '.join(found) or 'nothing'}"
        )
    wanted = list(dict.fromkeys(found if not names else [file for name in names for file in asked[name]]))
    targets = {file: place_of(_source(quarantine / file), places) for file in wanted}
    for file, place in targets.items():
        place.make()
        _put_back(quarantine / file, place.open(), found[file])
    return {file: place.path for file, place in targets.items()}


def called(quarantine: Path, name: str) -> bool:
    """Whether a drop in quarantine has this name or number."""
    return bool(_called(quarantine, {file: _name(quarantine / file) for file in quarantined(quarantine)}, name))


def _name(path: Path) -> str:
    """The name that the drop arrived with: from its reason file, otherwise the part of its file name after number and hash."""
    own = own_name(original(path.name.split("_", 2)[-1]))
    try:
        name = original(str((_reason(path) or {})["name"]))
    except (KeyError, ValueError):  # ValueError: a character that no file name has
        return own
    name = fitting(own_name(name).replace("\0", "_"))
    return own if not name or is_no_drop(name) else name  # the reason file was changed: no drop has such a name


def _source(path: Path) -> str:
    """The source of a drop: from its reason file, otherwise from the ledger. Where neither says it, it is `default`."""
    reason = _reason(path)
    if reason is not None:
        return str(reason.get("source", DEFAULT_SOURCE))  # version 0.1 had one source
    ledger_path = path.parent.parent / "state" / "ledger.sqlite"
    if not ledger_path.exists():
        return DEFAULT_SOURCE
    number, short, _ = path.name.split("_", 2)
    with closing(Ledger(ledger_path, read_only=True)) as ledger:
        drop = ledger.drop(int(number))
    return drop.context.source if drop is not None and drop.sha256.hex().startswith(short) else DEFAULT_SOURCE


def _reason(path: Path) -> dict[str, Any] | None:
    """The content of the reason file beside a drop; None where it cannot be read."""
    try:
        found = json.loads(path.with_name(path.name + REASON).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _called(quarantine: Path, found: dict[str, str], name: str) -> list[str]:
    asked = os.path.basename(name)
    files_called = (
        [asked] if asked in found else [file for file, own in found.items() if name in _names(quarantine / file, own)]
    )
    if asked.isascii() and asked.isdigit():
        files_called += [file for file in found if _number(file) == asked.lstrip("0")]
    return files_called


def _names(path: Path, own: str) -> set[str]:
    """How people call a drop: by its own name, with its zip archive, and with its source."""
    whole = str((_reason(path) or {}).get("name", own))
    archive = archive_of(whole)
    names = {own, printable(own), whole} | ({archive, original(archive)} if archive else set())
    return names | {f"{_source(path)}/{name}" for name in names}


def _number(file: str) -> str:
    return file.partition("_")[0].lstrip("0")


def _put_back(path: Path, inbox: InboxFolder, name: str) -> None:
    """Removes the copy in quarantine last, so that it still exists if an earlier step fails."""
    inbox.put(path, name, may_link=True)
    files.unlink(path.with_name(path.name + REASON))
    files.unlink(path)
    files.sync(path.parent)
