"""Where the drops of each source arrive: values that name a folder and open it. Operations on names in it are in inbox_folder."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import UsageError
from ..core.mapping import DEFAULT_SOURCE
from .inbox_folder import InboxFolder


@dataclass(frozen=True, slots=True)
class SourceFolder:
    """Where the drops of one source arrive: the inbox itself, or a folder below it."""

    inbox: Path
    below: str = ""  # the names of folders, divided by `/`
    source: str = DEFAULT_SOURCE

    @property
    def path(self) -> Path:
        return self.inbox / self.below

    def open(self) -> InboxFolder:
        """The directory that is there now."""
        return InboxFolder(self.inbox, self.below)

    def make(self) -> None:
        """Creates the folder, and the inbox, where they are missing. Raises OSError where a link or a file is in the way."""
        self.inbox.mkdir(parents=True, exist_ok=True)
        if self.below:
            InboxFolder(self.inbox, self.below, make=True)

    def identity(self) -> tuple[int, int]:
        """Device and inode of the directory that is there now. The inbox need not be readable for that."""
        if self.below:
            return self.open().identity
        found = os.stat(self.path)
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self.path))
        return found.st_dev, found.st_ino


def places_of(inbox: Path, folders: Mapping[str, str]) -> list[SourceFolder]:
    """Where the drops of each source arrive. `folders`: by source, its folder below the inbox."""
    return [SourceFolder(inbox, below, source) for source, below in folders.items()]


def place_of(source: str, places: Iterable[SourceFolder]) -> SourceFolder:
    """The folder of a source. UsageError where it is not configured any more."""
    found = next((place for place in places if place.source == source), None)
    if found is None:
        raise UsageError(f"source {source} is not configured; add its section [sources.{source}]. Nothing was changed")
    return found


def source_of(path: Path, places: Iterable[SourceFolder]) -> str | None:
    """The source in whose folder this file is; None where it is in no source's folder."""
    folder = path.absolute().parent.resolve()
    return next((place.source for place in places if place.path.resolve() == folder), None)


def refuse_nested(folder: InboxFolder, output: Path) -> None:
    """OSError where the inbox is the output folder, or either is inside the other: published files would be taken as drops."""
    above = set(folder.parents())
    of_output = InboxFolder(output)
    ours = {of_output.identity, *of_output.folders()}  # a folder of the output may be mounted elsewhere
    if above & ours or folder.identity in set(of_output.parents()):
        raise OSError(
            errno.ENOTDIR, f"the inbox and the output {output} contain each other; nothing is taken", str(folder.path)
        )
