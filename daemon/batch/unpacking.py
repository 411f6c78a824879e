"""Zip archives in the inbox: each file of one becomes a drop of its own, with a number, a raw copy and a ledger entry, in the
order of the archive. The archive itself is no drop, unless it cannot be unpacked; then it is quarantined whole.

    unpacked   replaces the copy of an archive by copies of its files, before anything is archived
    recover    at a start: the files of an archive are archived all or none. If a crash came while they were moved into raw/, the
               archive is still hidden in the inbox; what is missing is taken from it. So no file is lost, and none is taken twice

The drops are identified by number and SHA-256, so an archive that somebody wrote to in the meantime is not mistaken for the one
that was taken: it gets its name back, and its new files become drops. docs/decisions/0009 has the reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..core.entries import Drop
from ..core.errors import Stopped, Unreadable
from ..core.model import ParseContext
from ..sources.inbox_folder import HiddenFile, InboxFolder
from ..sources.zip_archive import unpack
from ..storage import files
from ..storage.raw import Stored, is_archive, name_in_archive, own_name, raw_path
from .engine import Engine
from .taking import Content, Copy, NotTaken, opened


def unpacked(engine: Engine, copy: Copy) -> Copy:
    """The copy of an archive with the copies of its files, which are not durable yet; unchanged if it cannot be unpacked, since
    reading it gives the reason. The first file has the number that the archive had."""
    place = engine.raw.temporary(copy.stored.seq)
    archive = place.with_suffix(".zip")
    files.move(place, archive)
    try:
        members = extract(engine, archive, copy.name, copy.stored.seq, copy.context)
    except BaseException as error:
        files.move(archive, place)
        if isinstance(error, Unreadable):
            return copy
        raise
    files.unlink(archive)
    return replace(copy, members=tuple(members))


def extract(engine: Engine, archive: Path, name: str, first: int, context: ParseContext) -> list[Stored]:
    """Copies the files of an archive to the temporary places of drops, numbered from `first`. Unreadable where it cannot be
    unpacked whole; nothing of it is left then."""
    members: list[Stored] = []
    try:
        with files.opened_for_reading(archive) as file:
            for path, blocks in unpack(file, engine.reader.limits.archive):
                if engine.stopped():
                    raise Stopped("stopped while a zip archive was being unpacked")
                seq = first + len(members)
                place = engine.raw.temporary(seq)
                sha256 = files.write_parts_unsynced(place, map(memoryview, blocks))
                size = place.stat().st_size
                members.append(engine.raw.stored_as(seq, name_in_archive(name, path), context, sha256, size))
    except BaseException:
        for seq in range(first, first + len(members) + 1):
            files.unlink(engine.raw.temporary(seq))
        raise
    return members


def recover(engine: Engine, folder: InboxFolder, context: ParseContext) -> dict[str, Content]:
    """Completes the drops of hidden archives that a crash left incomplete. Returns, by hidden name, the content of each archive
    whose files are all in the ledger."""
    found = {}
    for hidden in folder.hidden():
        if (
            is_archive(hidden.name)
            and hidden.seq <= engine.ledger.last_seq
            and (content := _recovered(engine, folder, hidden, context))
        ):
            found[hidden.hidden_name] = content
    return found


def _recovered(engine: Engine, folder: InboxFolder, hidden: HiddenFile, context: ParseContext) -> Content | None:
    """The content of an archive whose files are all in the ledger now; None if none of them is, or others have their numbers."""
    archive = engine.raw.temporary(hidden.seq).with_suffix(".zip")
    members: list[Stored] = []
    try:
        with opened(folder, hidden.hidden_name) as descriptor:
            sha256, size = files.copy_unsynced(descriptor, archive)
        members = extract(engine, archive, hidden.name, hidden.seq, context)
        return (size, sha256) if _completed(engine, members) else None
    except (Unreadable, NotTaken):
        return None
    finally:
        for path in (archive, *(engine.raw.temporary(one.seq) for one in members)):
            files.unlink(path)


def _completed(engine: Engine, members: Sequence[Stored]) -> bool:
    """Whether the ledger has all these files as drops, after those were entered that a crash left out. False if it has none of
    them, or if another drop has the number of one."""
    known = [engine.ledger.drop(one.seq) for one in members]
    entered = [drop for drop in known if drop is not None]
    if not entered or not all(drop is None or _is(drop, one) for drop, one in zip(known, members, strict=True)):
        return False
    context = entered[0].context
    missing = [
        Drop(
            one.seq,
            one.name,
            raw_path(one.seq, one.name, context, one.sha256),
            one.sha256,
            one.size_bytes,
            context,
        )
        for one, drop in zip(members, known, strict=True)
        if drop is None
    ]
    if missing:
        engine.guard.check()
        files.sync_many([engine.raw.temporary(drop.seq) for drop in missing])
        engine.raw.place(
            [Stored(drop.seq, drop.name, drop.raw or "", drop.sha256, drop.size_bytes) for drop in missing]
        )
        engine.ledger.enter(missing)
    return True


def _is(drop: Drop, member: Stored) -> bool:
    return own_name(drop.name) != drop.name and drop.sha256 == member.sha256
