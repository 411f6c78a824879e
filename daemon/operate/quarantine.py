"""`retry`: moves quarantined drops back into the inbox, under the names that they arrived with. `discard`: requests that they are
removed.

`retry` works beside a running daemon and needs no lock: the file is durable in the inbox before it is removed
from quarantine. A crash in between leaves it in both places, and it can be retried again.
"""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ..batch import discarding
from ..batch.reread import names_of
from ..core.entries import REASON, Drop
from ..core.errors import MAX_REASON, UsageError, escaped, meant
from ..core.mapping import DEFAULT_SOURCE
from ..sources.inbox_folder import InboxFolder
from ..sources.names import is_no_drop
from ..sources.source_folder import SourceFolder, place_of
from ..storage import files
from ..storage.ledger import Ledger
from ..storage.raw import archive_of, fitting, original, own_name, printable, quarantined
from ..storage.receipts import instant_text


def retry(quarantine: Path, places: Sequence[SourceFolder], names: Sequence[str]) -> dict[str, Path]:
    """Moves the named drops (all, without names) back into the folders of their sources. Returns these, by file name in
    quarantine. A name is that of the file in quarantine (with or without its folder), the name that the drop arrived with
    (alone, with its source or with its zip archive), that of a zip archive for all drops from it, or its number. Raises
    UsageError for a name without a drop, and
    for a source that is not configured any more."""
    found = _found(quarantine)
    wanted = _asked(quarantine, found, names, "cannot retry {}: no drop in quarantine and no applied drop") or [*found]
    targets = {file: place_of(_source(quarantine / file), places) for file in wanted}
    for file, place in targets.items():
        place.make()
        _put_back(quarantine / file, place.open(), found[file])
    return {file: place.path for file, place in targets.items()}


def refuse_withdrawn(output: Path, names: Sequence[str]) -> None:
    """Raises UsageError for a name that no drop in quarantine has, and a withdrawn drop does."""
    path = output / "state" / "ledger.sqlite"
    names = [name for name in names if not called(output / "quarantine", name)]
    if not names or not path.exists():
        return
    with closing(Ledger(path, read_only=True)) as ledger:
        for one in ledger.withdrawn():
            for name in names:
                if name in {str(one.drop.seq), *names_of(one.drop)}:
                    raise UsageError(
                        f"cannot retry {name}: drop {one.drop.seq} ({one.drop.name}) was {one.reason}. Nothing was changed; "
                        f"`strandline undo --revert {one.drop.seq}` applies it again"
                    )


def discard(output: Path, names: Sequence[str], why: str) -> list[str]:
    """Requests that the named drops are removed from quarantine; returns their file names there. `why`: see batch.discarding.
    Names are those of `retry`. Raises UsageError for a name without a drop; nothing is requested then."""
    quarantine = output / "quarantine"
    wanted = _asked(quarantine, _found(quarantine), names, "cannot discard {}: no drop in quarantine")
    discarding.request(output, [int(_number(file)) for file in wanted], why)
    return wanted


def discarded_by(now: int, why: str) -> str:
    """One line that says who discards, when (`now`, in microseconds) and why."""
    shown = one_line(why)
    return f"discarded by {user()} at {instant_text(now)}" + (f" ({shown})" if shown else "")


def user() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return f"user {os.getuid()}"


def one_line(why: str) -> str:
    """A reason that somebody gave, on one line and of a limited length."""
    return escaped(why.strip()[:MAX_REASON])


def names_in(quarantine: Path) -> list[str]:
    """The names that the drops in quarantine arrived with, the oldest first."""
    return list(_found(quarantine).values())


def called(quarantine: Path, name: str) -> bool:
    """Whether a drop in quarantine has this name or number."""
    return bool(_called(quarantine, _found(quarantine), name))


def _found(quarantine: Path) -> dict[str, str]:
    """The drops in quarantine, by file name: the names that they arrived with."""
    return {file: _name(quarantine / file) for file in quarantined(quarantine)}


def _asked(quarantine: Path, found: dict[str, str], names: Sequence[str], refusal: str) -> list[str]:
    """The file names of the named drops. UsageError, with `refusal`, for a name without one."""
    asked = {name: _called(quarantine, found, name) for name in names}
    if unknown := [name for name in names if not asked[name]]:
        question = meant(unknown[0], found.values())
        holds = f"{question} Q" if question else "q"
        raise UsageError(
            f"{refusal.format(unknown[0])} has this name or number; {holds}uarantine holds {', '.join(found) or 'nothing'}"
        )
    return list(dict.fromkeys(file for name in names for file in asked[name]))


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
    number, short, _ = path.name.split("_", 2)
    drop = _drop(path.parent, int(number))
    return drop.context.source if drop is not None and drop.sha256.hex().startswith(short) else DEFAULT_SOURCE


def _drop(quarantine: Path, number: int) -> Drop | None:
    """A drop by its number; None where the ledger does not have it."""
    path = quarantine.parent / "state" / "ledger.sqlite"
    if not path.exists():
        return None
    with closing(Ledger(path, read_only=True)) as ledger:
        return ledger.drop(number)


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
    if name.isascii() and name.isdigit() and len(name) < 19:
        again = _drop(quarantine, int(name))  # a retry that failed again has the entry of the first drop
        numbers = {int(name), (again.duplicate_of if again else None) or int(name)}
        numbered = [file for file in found if int(_number(file)) in numbers]
        if others := [file for file in files_called if file not in numbered] if numbered else []:
            raise UsageError(
                f"{name} is the number of one drop and the name of another: {', '.join([*numbered, *others])}; nothing was "
                "changed. Give the file name in quarantine"
            )
        return numbered or files_called
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
