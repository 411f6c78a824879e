"""What `check` finds before a run does: folders and rights, free space, leases. Looks only: its one file has no name.

What needs the configuration or a server is asked in daemon/administration.py; here is what a finding is, and the machine.
"""

from __future__ import annotations

import os
import socket
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..sources.source_folder import SourceFolder
from ..sources.writers import Writer, writer_of
from ..storage.lock import holder_of
from ..storage.pause import paused

OK, WARNING, ERROR = "ok", "warning", "error"
_LOW_BYTES, _LOW_INODES = 2_000_000_000, 10_000  # as the alert StrandlineDiskFilling has it
_LOOKED_AT = 1_000  # files of a folder
_CAP_LEASE = 28  # a bit: capabilities(7)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `what`: in words; of a warning or an error, with what to do."""

    level: str  # OK, WARNING or ERROR
    check: str
    what: str


def exit_code(found: Sequence[Finding]) -> int:
    """0: all is well; 1: there are warnings; 2: there are errors."""
    levels = {one.level for one in found}
    return 2 if ERROR in levels else 1 if WARNING in levels else 0


def table(found: Sequence[Finding]) -> str:
    """The findings for a terminal: one a line, and the sums."""
    width = max(len(one.check) for one in found)
    levels = Counter(one.level for one in found)
    sums = [
        f"{levels[level]} {level}{'' if levels[level] == 1 else 's'}" for level in (ERROR, WARNING) if levels[level]
    ]
    lines = [f"{one.level:7}  {one.check:{width}}  {one.what}" for one in found]
    if levels[ERROR]:
        step = "mend these, then check again"
    elif levels[WARNING]:
        step = "`strandline` runs with them"
    else:
        sums, step = ["everything is well"], "`strandline` watches the inbox, `strandline --once` applies what is there"
    return "\n".join([*lines, "", f"{', '.join(sums)}; {step}"])


def as_dict(found: Sequence[Finding]) -> dict[str, Any]:
    """The findings for programs."""
    levels = Counter(one.level for one in found)
    return {"errors": levels[ERROR], "warnings": levels[WARNING], "findings": [asdict(one) for one in found]}


# -------------------------------------------------------------------------------------------------------------- folders


def folders(places: Sequence[SourceFolder], output: Path) -> Iterator[Finding]:
    """The inbox with the folders of the sources, and the output: there, and with the rights that a run needs."""
    for place in places:
        setting = "[paths] inbox" if not place.below else f"[sources.{place.source}] folder"
        yield from _folder(setting, place.path)
        if place.path.is_dir():
            yield from _unreadable(place.path)
    yield from _folder("[paths] output", output)
    if output.is_dir():
        yield from _parts(output)


def readable(setting: str, folder: Path) -> Iterator[Finding]:
    """A folder that is only read, and may be missing."""
    if folder.exists() and not (folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        yield Finding(ERROR, "paths", f"{setting} = {folder} is no folder that this user may read; {_as_whom()}")


def _folder(setting: str, folder: Path) -> Iterator[Finding]:
    if folder.is_dir():
        if missing := _missing_rights(folder):
            yield Finding(ERROR, "paths", f"{setting} = {folder}: this user may not {missing} there; {_as_whom()}")
        else:
            yield Finding(OK, "paths", f"{setting} = {folder}")
        return
    if os.path.lexists(folder):
        yield Finding(ERROR, "paths", f"{setting} = {folder} is no folder; move it away, or correct the setting")
        return
    above = next(one for one in folder.absolute().parents if one.exists())
    if _missing_rights(above):
        what = f"does not exist, and this user may not make it in {above}; {_as_whom()}"
        yield Finding(ERROR, "paths", f"{setting} = {folder} {what}")
        return
    yield Finding(
        WARNING, "paths", f"{setting} = {folder} does not exist; if it is not mistyped, the next start makes it"
    )


def _missing_rights(folder: Path) -> str:
    rights = (("list it", os.R_OK), ("make and rename files", os.W_OK), ("open files", os.X_OK))
    return ", ".join(text for text, right in rights if not os.access(folder, right))


def _as_whom() -> str:
    return f"change its owner or its mode (this runs as user {os.geteuid()}, group {os.getegid()})"


def _unreadable(folder: Path) -> Iterator[Finding]:
    """Files that could not be taken. Some of many are looked at."""
    with suppress(PermissionError), os.scandir(folder) as entries:  # a folder that cannot be listed is told already
        some = list(islice((one for one in entries if not one.name.startswith(".")), _LOOKED_AT))
        closed = [one.name for one in some if one.is_file(follow_symlinks=False) and not os.access(one.path, os.R_OK)]
        if closed:
            what = f"{len(closed)} files in {folder} cannot be read by this user, such as {sorted(closed)[0]!r}"
            yield Finding(WARNING, "paths", f"{what}; they stay there until they can")


def _parts(output: Path) -> Iterator[Finding]:
    """What a run left in the output: all of it on one file system, and this user's to change."""
    with suppress(PermissionError), os.scandir(output) as entries:
        device = output.stat().st_dev
        for one in sorted(entries, key=lambda entry: entry.name):
            if not one.is_dir():
                continue
            if os.stat(one.path).st_dev != device:
                what = "is on another file system than the output; files are renamed between its folders, so it must be one"
                yield Finding(ERROR, "paths", f"{one.path} {what}")
            if missing := _missing_rights(Path(one.path)):
                yield Finding(ERROR, "paths", f"{one.path}: this user may not {missing} there; {_as_whom()}")
    ledger = output / "state" / "ledger.sqlite"
    if ledger.exists() and not os.access(ledger, os.R_OK | os.W_OK):
        yield Finding(ERROR, "paths", f"{ledger}: this user may not write to it; {_as_whom()}")


# -------------------------------------------------------------------------------------------------------------- machine


def disk(output: Path) -> Iterator[Finding]:
    """The free space where the output is, or will be."""
    there = next(one for one in (output.absolute(), *output.absolute().parents) if one.exists())
    found = os.statvfs(there)
    free, inodes = found.f_bavail * found.f_frsize, found.f_favail
    if free < _LOW_BYTES:
        yield Finding(
            WARNING, "disk", f"{free / 1e9:.1f} GB are free at {there}; when it is full, nothing is taken: make room"
        )
    elif found.f_files and inodes < _LOW_INODES:
        yield Finding(
            WARNING, "disk", f"only {inodes:,} more files fit at {there}; when none does, nothing is taken: make room"
        )
    else:
        yield Finding(OK, "disk", f"{free / 1e9:.1f} GB are free at {there}")


def leases(inbox: Path, foreign_settle_seconds: float) -> Iterator[Finding]:
    """Whether the system tells that a drop is still open for writing."""
    wait = f"such drops wait [watch] foreign_settle_seconds = {foreign_settle_seconds:g} (`strandline docs WATCHING`)"
    try:
        known = _has_leases(inbox)
    except OSError as error:
        yield Finding(
            WARNING, "leases", f"it cannot be tried in {inbox} whether a program has a file open: {error.strerror}"
        )
        return
    if not known:
        yield Finding(
            WARNING, "leases", f"the file system of {inbox} does not tell who has a file open for writing; {wait}"
        )
    elif _has_capability():
        yield Finding(OK, "leases", "it is known of all files whether a program has them open for writing")
    else:
        level = WARNING if _is_open_to_others(inbox) else OK
        what = "it is not known of other users' files whether a program has them open for writing: CAP_LEASE is missing"
        yield Finding(level, "leases", f"{what}; {wait}")


def _has_leases(inbox: Path) -> bool:
    """Asked with a file that has no name: nobody sees it, and it is gone when it is closed."""
    writing = os.open(inbox, os.O_TMPFILE | os.O_RDWR, 0o600)
    try:
        reading = os.open(f"/proc/self/fd/{writing}", os.O_RDONLY)
    finally:
        os.close(writing)
    try:
        return writer_of(reading) is Writer.NONE
    finally:
        os.close(reading)


def _has_capability() -> bool:
    with suppress(OSError, StopIteration), open("/proc/self/status", encoding="ascii") as status:
        effective = next(line for line in status if line.startswith("CapEff:")).split()[1]
        return bool(int(effective, 16) >> _CAP_LEASE & 1)
    return False


def _is_open_to_others(inbox: Path) -> bool:
    """Whether other users may put files there."""
    found = inbox.stat()
    return found.st_uid != os.geteuid() or bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def instance(output: Path, address: tuple[str, int] | None) -> Iterator[Finding]:
    """Whether one runs, or could listen; whether it is paused. `address`: host and port of [http]."""
    holder = holder_of(output / "state" / "lock")
    if holder is not None:
        yield Finding(OK, "instance", f"a strandline runs here: {', '.join(f'{k} {v}' for k, v in holder.items())}")
    elif address is not None:
        yield _address(*address)
    if (pause := paused(output)) is not None:
        yield Finding(WARNING, "instance", f"strandline is {pause}; drops are taken after `strandline resume`")


def _address(host: str, port: int) -> Finding:
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        what = f"[http] cannot listen on {host}:{port}: {error.strerror}; set host and port to a free address, or enabled = false"
        return Finding(ERROR, "instance", what)
    return Finding(OK, "instance", f"[http] can listen on {host}:{port}")
