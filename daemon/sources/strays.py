"""Files that would be drops if a source named their folder: in other folders below the inbox. Counts them, and opens no file.

A folder is one that no [sources] section names, perhaps because its section was removed.
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterator, Sequence

from .inbox_folder import InboxFolder
from .names import is_ignored, is_no_drop
from .source_folder import SourceFolder

_MOST_ENTRIES = 2_000  # that are looked at: each scan of the inbox may count
_MOST_LEVELS = 8


def strays(places: Sequence[SourceFolder], ignored: Sequence[str] = ()) -> dict[str, int]:
    """The number of such files in each folder that has some, by its path below the inbox; among the first entries. Folders that
    cannot be read are left out. `ignored`: patterns of names that are no drops."""
    taken = {place.below for place in places}
    on_the_way = {"", *(parent for below in taken for parent in with_parents(below))}
    found: Counter[str] = Counter()
    folders = sorted(on_the_way)
    left = _MOST_ENTRIES
    while folders and left > 0:
        below = folders.pop(0)
        for name, is_folder in _entries(places[0], below):
            left -= 1
            path = f"{below}/{name}" if below else name
            if is_folder:
                if path not in on_the_way and path.count("/") < _MOST_LEVELS and not name.startswith("."):
                    folders.append(path)
            elif below not in taken and not is_no_drop(name, ignored):
                found[below] += 1
            if left <= 0:
                break
    return {below: found[below] for below in sorted(found) if not _is_ignored(below, ignored)}


def with_parents(below: str) -> Iterator[str]:
    """`eu/shop`: that, and `eu`."""
    parts = below.split("/") if below else []
    return ("/".join(parts[:end]) for end in range(1, len(parts) + 1))


def _is_ignored(below: str, ignored: Sequence[str]) -> bool:
    return any(is_ignored(name, ignored) for name in below.split("/"))


def _entries(place: SourceFolder, below: str) -> Iterator[tuple[str, bool]]:
    """The regular files and the folders in a folder below the inbox, and whether each is a folder. No link is followed."""
    try:
        for name, seen in InboxFolder(place.inbox, below).entries():
            if not isinstance(seen, OSError) and (stat.S_ISDIR(seen.st_mode) or stat.S_ISREG(seen.st_mode)):
                yield name, stat.S_ISDIR(seen.st_mode)
    except OSError:
        return
