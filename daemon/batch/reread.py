"""`retry` of an applied drop: copies its raw copy into the inbox, where it is read again although its bytes are known.

A marker file in state/, named after the hash of the bytes, requests the reading. It exists before the copy is in the inbox and
until the result is published. So a crash loses nothing, and no lock is needed. The copy arrives as a new drop: it keeps its own
raw copy, and a rebuild reads both, each under its own parse context.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

from ..core.entries import Drop
from ..core.errors import Corruption, UsageError
from ..sources.source_folder import SourceFolder, place_of
from ..storage import files
from ..storage.ages import RAW
from ..storage.ledger import Ledger
from ..storage.raw import archive_of, fitting, original, own_name

_FOLDER = "state/again"


def applied(output: Path, names: Sequence[str]) -> dict[str, Drop]:
    """For each name, an applied drop: by its number, by the name that it arrived with (alone, with its source or with its zip
    archive), or by that of its raw copy. Of several, the newest. Raises UsageError where its raw copy has gone by age."""
    path = output / "state" / "ledger.sqlite"
    if not names or not path.exists():
        return {}
    with closing(Ledger(path, read_only=True)) as ledger:
        drops = {key: drop for drop in ledger.applied_drops() for key in _keys(drop)}
        gone = ledger.horizon(RAW)
    found = ((name, drops.get(_key(name)) or drops.get(("raw", os.path.basename(name)))) for name in names)
    applied = {name: drop for name, drop in found if drop is not None}
    for drop in applied.values():
        if drop.seq <= gone:
            raise UsageError(
                f"cannot read drop {drop.seq} ({drop.name}) again: its raw copy has gone by age ([raw] keep). Nothing was "
                "requested. Drop its file again, if its source still has it"
            )
    return applied


def members(output: Path, archive: str) -> list[int]:
    """The numbers of the applied drops that came from a zip archive of this name (alone, or with its source): of each file, the
    newest."""
    path = output / "state" / "ledger.sqlite"
    if not archive or not path.exists():
        return []
    with closing(Ledger(path, read_only=True)) as ledger:
        drops = list(ledger.applied_drops())
    return list(
        {(drop.context.source, drop.name): drop.seq for drop in drops if archive in _archives_of(drop)}.values()
    )


def _archives_of(drop: Drop) -> set[str]:
    """How people call the zip archive that a drop came from; nothing where it came from none."""
    archive = archive_of(drop.name)
    return {archive, original(archive), f"{drop.context.source}/{original(archive)}"} if archive else set()


def names_of(drop: Drop) -> set[str]:
    """How people call a drop: by the name that it arrived with, alone, with its source or with its zip archive."""
    names = {own_name(original(drop.name)), drop.name, original(drop.name)}
    return names | {f"{drop.context.source}/{name}" for name in names}


def _keys(drop: Drop) -> tuple[object, ...]:
    return drop.seq, *names_of(drop), ("raw", os.path.basename(drop.raw or ""))


def _key(name: str) -> object:
    return int(name) if name.isascii() and name.isdigit() and len(name) < 19 else name


def request(output: Path, places: Sequence[SourceFolder], drops: Sequence[Drop]) -> dict[int, Path]:
    """Copies these applied drops into the folders of their sources to be read again; returns each drop's folder. Raises
    Corruption if a raw copy is not what was archived, UsageError if a source is not configured any more."""
    found = {drop.seq: place_of(drop.context.source, places) for drop in drops}
    files.make_folder(output / _FOLDER)
    files.give_to_owner_of(output, output / _FOLDER)
    for drop in drops:
        found[drop.seq].make()
        folder = found[drop.seq].open()
        source = output / (drop.raw or "")
        if files.sha256_of(source) != drop.sha256:
            raise Corruption(f"{source} is not what was archived as drop {drop.seq}; restore it from a backup")
        files.write(output / _FOLDER / drop.sha256.hex(), b"")
        # No link: a program that writes to the file in the inbox would change the raw layer.
        folder.put(source, fitting(own_name(original(drop.name))), may_link=False)
    return {seq: place.path for seq, place in found.items()}


def requested(output: Path) -> Callable[[bytes], bool]:
    """Returns whether bytes with a given hash must be read again."""
    names = _names(output)
    return lambda sha256: sha256.hex() in names


def clear(output: Path, hashes: Iterable[bytes]) -> None:
    """Removes the requests for bytes that have been read."""
    names = _names(output)
    for sha256 in hashes:
        if sha256.hex() in names:
            files.unlink(output / _FOLDER / sha256.hex())


def _names(output: Path) -> set[str]:
    try:
        return set(os.listdir(output / _FOLDER))
    except FileNotFoundError:
        return set()
