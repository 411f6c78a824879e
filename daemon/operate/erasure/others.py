"""What names somebody beside records: files in quarantine, names of drops, reasons, and small files in state/.

A file in quarantine could not be read, so it cannot be rewritten either: one that has an id as a whole word goes as a whole.
Texts that are kept of drops get `redacted` in place of an id.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from ...batch.reading import Limits
from ...core.entries import REASON, DropResult
from ...core.model import DIMENSIONS, DropOutcome
from ...core.parse.damage import NEAR, without_text
from ...core.parse.naming import REDACTED, Ids
from ...downstream.destinations.notices import reword
from ...downstream.records import Records
from ...downstream.settings import RECORDS
from ...storage import raw
from ...storage.raw import Stored

_READ_BYTES = 256 << 20  # of one file in quarantine, decompressed
_ERASED = "erased, with all that it held; it was quarantined because"
_SMALL_FILES = ("state/paused", "state/discard/*")
_OLD_LEDGERS = "state/ledger.version-*"


@dataclass(frozen=True, slots=True)
class Refused:
    """A file in quarantine. `naming` of its `lines` name somebody; `is_clear`: all of it could be searched."""

    path: str  # relative to the output folder
    seq: int
    lines: int
    naming: int
    is_clear: bool

    @property
    def prefix(self) -> str:
        """The beginning of its path and that of its reason, without its name."""
        return f"quarantine/{'_'.join(Path(self.path).name.split('_')[:2])}_"


def in_quarantine(output: Path, ids: Ids, limits: Limits) -> list[Refused]:
    """The files in quarantine that name one of these ids, or may do so."""
    found = []
    for name in raw.quarantined(output / "quarantine"):
        path = output / "quarantine" / name
        try:
            texts, is_clear = _contents(path, limits)
        except FileNotFoundError:  # it was retried meanwhile
            continue
        lines = [line for text in texts for line in text.splitlines()]
        beside = [*texts, name.encode(errors="replace"), _reason_of(path)]
        naming = sum(map(ids.are_words_of, lines)) or int(any(map(ids.are_words_of, beside)))
        if naming or not is_clear:
            found.append(Refused(f"quarantine/{name}", int(name.partition("_")[0]), len(lines), naming, is_clear))
    return found


def _contents(path: Path, limits: Limits) -> tuple[list[bytes], bool]:
    """What is in a file, decompressed as far as it can be; and whether that is all of it."""
    most = min(limits.max_drop_bytes, _READ_BYTES)
    with open(path, "rb") as file:
        content = file.read(most + 1)
    parts, is_clear = [content], len(content) <= most
    if zipfile.is_zipfile(BytesIO(content)):
        parts, is_clear = _unzipped(content, most)
    opened = []
    for part in parts:
        text, is_whole = _decompressed(part, most)
        opened.append(text)
        is_clear = is_clear and is_whole and _is_text(text)
    return opened, is_clear


def _reason_of(path: Path) -> bytes:
    """The content of the file beside one in quarantine; nothing where it has none."""
    reason = path.with_name(path.name + REASON)
    return reason.read_bytes() if reason.is_file() else b""


def _unzipped(content: bytes, most: int) -> tuple[list[bytes], bool]:
    parts, is_clear = [], True
    with zipfile.ZipFile(BytesIO(content)) as archive:
        for one in archive.infolist():
            parts.append(one.filename.encode(errors="replace"))
            try:
                with archive.open(one) as file:
                    parts.append(file.read(most))
                    is_clear = is_clear and not file.read(1)
            except (RuntimeError, zipfile.BadZipFile, NotImplementedError, EOFError, OSError, zlib.error):
                is_clear = False  # encrypted or damaged
    return parts, is_clear


def _decompressed(content: bytes, most: int) -> tuple[bytes, bool]:
    compression = raw.compression_of(content[:4])
    if compression is None:
        return content, True
    import gzip

    found = bytearray()
    zstd = raw.zstd_module()
    try:
        with gzip.open(BytesIO(content)) if compression == "gzip" else zstd.open(BytesIO(content)) as file:
            while len(found) <= most and (block := file.read(1 << 16)):
                found += block
    except (OSError, EOFError, zlib.error, zstd.ZstdError):
        return bytes(found), False
    return bytes(found), len(found) <= most


def _is_text(content: bytes) -> bool:
    """Whether words can be found in it."""
    return content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" not in content


def reworded(result: DropResult, ids: Ids, erased: Iterator[Refused] | list[Refused], output: Path) -> DropResult:
    """The result of a drop without these ids in its name and its reason. A reason also loses the text that it quotes, if the file
    goes now, or went before, since then nobody knows whose text it is."""
    drop, reason = result.drop, result.reason
    if reason is not None:
        own = raw.quarantine_path(drop)
        if any(own.startswith(one.prefix) for one in erased):
            reason = f"{_ERASED}: {without_text(reason)}" if not reason.startswith(_ERASED) else reason
        elif NEAR in reason and not (output / own).exists():
            reason = without_text(reason)
        reason = ids.without_words(reason)
    if (name := renamed(drop.name, ids)) != drop.name:
        path = raw.raw_path(drop.seq, name, drop.context, drop.sha256) if drop.raw else None
        drop = replace(drop, name=name, raw=path)
    undos = tuple(replace(one, reason=ids.without_words(one.reason)) for one in result.undos)
    return replace(result, drop=drop, reason=reason, undos=undos)


def renamed(name: str, ids: Ids) -> str:
    """The name of a drop without these ids. It is read in the same way."""
    found = ids.without_words(name)
    if found == name or raw.kind_of(found) == raw.kind_of(name):
        return found
    kind = raw.kind_of(name)
    begin = f"{DIMENSIONS[kind].drops}-{REDACTED}" if kind in DIMENSIONS else REDACTED
    suffixes = Path(raw.own_name(name)).suffixes
    return begin + "".join(suffixes[-2:] if suffixes[-1:] in ([".gz"], [".zst"]) else suffixes[-1:]).lower()


def small_files(output: Path, ids: Ids) -> dict[str, str]:
    """Files that hold what an operator wrote and that name one of these ids: by path, their text without it."""
    found = {}
    for pattern in _SMALL_FILES:
        for path in sorted(output.glob(pattern)):
            text = path.read_text(errors="replace")
            if (without := ids.without_words(text)) != text:
                found[str(path.relative_to(output))] = without
    return found


def reword_messages(output: Path, ids: Ids) -> None:
    """Removes these ids from the messages that receivers are still to be sent."""
    if (output / RECORDS).exists():
        with closing(Records(output / RECORDS)) as records:
            reword(records, ids.without_words)


def old_ledgers(output: Path) -> list[str]:
    """Ledgers that were set aside, which have what the ledger had."""
    return [str(path.relative_to(output)) for path in sorted(output.glob(_OLD_LEDGERS))]


def is_erased(result: DropResult) -> bool:
    """Whether a quarantined drop was erased."""
    return result.outcome is DropOutcome.QUARANTINED and (result.reason or "").startswith(_ERASED)


def unknown_copies(found: list[Stored]) -> str:
    """Why nothing is forgotten while raw/ has copies that the ledger does not know."""
    return (
        f"cannot forget: raw/ has {len(found):,} copies that the ledger does not know, and they are not searched (the "
        f"first: drop {found[0].seq}). Nothing was changed. Run `strandline rebuild` first, or move them away"
    )
