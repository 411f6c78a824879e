"""What a name in the inbox means: a drop, a file that a tool is still writing, or neither. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

from ..storage.raw import kind_of

HIDDEN_PREFIX = ".strandline-"  # of every name that this program creates in the inbox
# What editors, browsers and transfer tools append to a name until the file is complete, in lower case.
_UNFINISHED_ENDINGS = (
    "~", ".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".download", ".inprogress", ".upload", ".swp",
    ".aria2", ".!sync", "._copying_", "_.gstmp",
)  # fmt: skip
# Formats of finished files. Any other ending after the name of a drop belongs to a tool that has not finished yet.
_FORMATS = frozenset((
    "json", "jsonl", "ndjson", "csv", "tsv", "txt", "xml", "html", "htm", "pdf", "xls", "xlsx", "ods", "parquet", "avro",
    "gz", "tgz", "zst", "zip", "bz2", "xz", "lz4", "br", "7z", "rar", "tar",
))  # fmt: skip


@lru_cache(maxsize=4096)
def is_unfinished(name: str) -> bool:
    """Whether a name shows that its writer has not finished: `x~`, `x.part` …, or the name of a drop with an ending of no known
    format (`orders.json.6eF5b5da`). A hidden name counts if it is the name of a drop after its dots."""
    lower = name.lower()
    if lower.startswith(HIDDEN_PREFIX):
        return False  # ours
    if lower.startswith("."):
        shown = lower.lstrip(".")
        ending = next((one for one in _UNFINISHED_ENDINGS if shown.endswith(one)), "")
        return kind_of(shown.removesuffix(ending)) is not None or _has_unknown_ending(shown)
    return lower.endswith(_UNFINISHED_ENDINGS) or _has_unknown_ending(lower)


def is_no_drop(name: str, ignored: Sequence[str] = ()) -> bool:
    """Whether a name is not a drop: hidden, unfinished, or matched by one of the `[watch] ignore` patterns."""
    return name.startswith(".") or is_unfinished(name) or is_ignored(name, ignored)


def is_ignored(name: str, ignored: Sequence[str]) -> bool:
    """Whether a name matches one of these patterns. Case does not matter."""
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in ignored)


def _has_unknown_ending(name: str) -> bool:
    parts = name.split(".")
    if len(parts) < 3 or parts[-1] in _FORMATS:
        return False
    return any(kind_of(".".join(parts[:end])) is not None for end in range(2, len(parts)))
