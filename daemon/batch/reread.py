"""`retry` of a drop that was applied: its raw copy goes into the inbox once more, and is read anew although its bytes are known.

That it is to be read anew is remembered beside the ledger, by the hash of its bytes, before the copy is in the inbox, and until
what it says is published. So a crash in between costs nothing, and no lock is needed. What is read anew is a drop of its own,
which arrives now: it keeps a raw copy of its own, and a rebuild reads both, each under the settings of its time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

from ..core.entries import Drop
from ..core.errors import Corruption
from ..sources.inbox_folder import InboxFolder
from ..storage import files
from ..storage.ledger import Ledger
from ..storage.raw import fitting, original

_FOLDER = "state/again"


def applied(output: Path, names: Sequence[str]) -> dict[str, Drop]:
    """By name, the applied drop of this number, or the newest that came under this name or has a raw copy of it."""
    path = output / "state" / "ledger.sqlite"
    if not names or not path.exists():
        return {}
    with closing(Ledger(path, read_only=True)) as ledger:
        called = {called: drop for drop in ledger.applied_drops() for called in _called(drop)}
    found = ((name, _asked(os.path.basename(name))) for name in names)
    return {name: called[asked] for name, asked in found if asked in called}


def _called(drop: Drop) -> tuple[object, ...]:
    return drop.seq, original(drop.name), os.path.basename(drop.raw or "")


def _asked(name: str) -> object:
    return int(name) if name.isascii() and name.isdigit() and len(name) < 19 else name


def put_again(output: Path, inbox: Path, drops: Sequence[Drop]) -> None:
    """Puts copies of these applied drops back into the inbox, to be read anew. Corruption where a raw copy is not what it was."""
    files.make_folder(output / _FOLDER)
    files.make_folder(inbox)
    folder = InboxFolder(inbox)
    for drop in drops:
        source = output / (drop.raw or "")
        if files.sha256_of(source) != drop.sha256:
            raise Corruption(f"{source} is not what was archived as drop {drop.seq}; restore it from a backup")
        files.write(output / _FOLDER / drop.sha256.hex(), b"")
        # No link: whoever writes to the file in the inbox would write into the raw layer.
        folder.put(source, fitting(original(drop.name)), may_link=False)


def asked_for(output: Path) -> Callable[[bytes], bool]:
    """Whether a drop with bytes of this hash is to be read anew."""
    names = _names(output)
    return lambda sha256: sha256.hex() in names


def done(output: Path, hashes: Iterable[bytes]) -> None:
    """Forgets those that were read."""
    names = _names(output)
    for sha256 in hashes:
        if sha256.hex() in names:
            files.unlink(output / _FOLDER / sha256.hex())


def _names(output: Path) -> set[str]:
    try:
        return set(os.listdir(output / _FOLDER))
    except FileNotFoundError:
        return set()
