"""`backup`: a copy of the output as it is at one moment, beside a running daemon and without a lock. `restore`: the way back.

A backup is laid out as an output folder. Its files are hard links where both are on one file system, since no published file is
ever written in place; what is (SQLite files, quarantine, the log of restatements) is copied. `backup.json` is written last, when
all else is durable, so a backup without it is not whole. A restore places the ledger last: an output without it is refused by
every command.

The moment is that of a ledger without a batch to be published. Files that a later batch replaces or removes are linked first; the
ledger is the same before and after, or what changed meanwhile is linked again. All others only ever come anew under new names.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..batch.commit import RESTATEMENTS
from ..core.entries import REASON, DropResult
from ..core.errors import EnvironmentFault, UsageError
from ..core.progress import Progress
from ..downstream import results
from ..downstream.inputs import CANNOT_LINK, published
from ..downstream.records import Records
from ..downstream.records import copy as copy_records
from ..downstream.scratch import remove_abandoned, scratch
from ..downstream.settings import RECORDS
from ..storage import ages, files, raw, receipts
from ..storage.ledger import Ledger
from ..storage.lock import Lock
from ..storage.raw import quarantined
from .presence import RESTORING
from .rebuild import newest_orders

MARKER = "backup.json"
FORMAT = 1
LEDGER = "state/ledger.sqlite"
_BUSY_SECONDS, _PAUSE_SECONDS = 60.0, 0.02
_BESIDE = ("-wal", "-shm")  # SQLite's, of whoever looked into the backup
_Identity = tuple[int, int]


@dataclass
class Copied:
    """What was copied, and files that are missing or not what the ledger names (`damaged`)."""

    files: int = 0
    linked: int = 0
    size: int = 0  # in bytes
    damaged: list[str] = field(default_factory=list)
    missing: list[tuple[str, int, str]] = field(default_factory=list)  # copies of drops: kind, drop and path

    def add(self, source: Path, target: Path, *, may_link: bool, sha256: bytes | None = None) -> bool:
        """Copies one file; returns whether it can be read, and is what it should be."""
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            is_link = may_link and _linked(source, target)
            if not is_link:
                shutil.copyfile(source, target)
                found = source.stat()
                os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
        except FileNotFoundError:
            return False
        except OSError as error:
            if not files.is_of_one_file(error, source):
                raise
            return False
        self.count(target)
        self.linked += is_link
        return sha256 is None or files.has_sha256(target, sha256)

    def count(self, path: Path) -> None:
        """Counts a file that was written."""
        self.files += 1
        self.size += path.stat().st_size


def backup(output: Path, target: Path, now: str, progress: Progress) -> dict[str, Any]:
    """Copies the output to a folder that is empty or does not exist; returns the content of backup.json, and what is damaged.
    `now`: as text. UsageError where there is nothing to copy or the folder will not do; EnvironmentFault where there is no moment
    to copy."""
    if not (output / LEDGER).exists():
        raise UsageError(f"there is nothing to back up: {output} has no ledger; see [paths] output")
    _refuse_place(target, output, "name a new folder")
    copied = Copied()
    remove_abandoned(output)
    with scratch(output) as held:
        moment = _freeze(output, held / "files", held / "ledger.sqlite")
        files.make_folder(target / "state")
        with closing(Ledger(held / "ledger.sqlite")) as ledger:
            for number, (path, sha256) in enumerate(moment.items(), 1):
                progress("copying tables", number, len(moment))
                if not copied.add(held / "files" / path, target / path, may_link=True, sha256=sha256):
                    copied.damaged.append(path)
            _copy_drops(output, target, ledger, copied, progress)
            _copy_log(held / "files", target, ledger, copied)
            _copy_results(output, target, copied, progress)
            _catch_up_with_ages(output, ledger)
            if (link := newest_orders(target, ledger)) is not None:
                files.link_to(target / raw.LINK, raw.link_text(link.raw or ""))
            copied.damaged += [path for kind, seq, path in copied.missing if seq > ledger.horizon(kind)]
            if ages.only(ledger.horizons(), ages.RAW).through:
                files.make_folder(target / "raw")
                ages.mark(target, ages.only(ledger.horizons(), ages.RAW))
                copied.count(target / ages.MARKER)
            _refuse_read_again(output, target, ledger)
            hwm = ledger.hwm
            ledger.copy_to(target / LEDGER)
            copied.count(target / LEDGER)
            about = {
                "format": FORMAT,
                "made_at": now,
                "output": str(output),
                "batch": ledger.next_batch - 1,
                "drops": ledger.drop_count(),
                "partitions": len(ledger.partitions()),
                "high_water_mark": None if hwm is None else receipts.instant_text(hwm),
                "files": copied.files,
                "bytes": copied.size,
            }
    files.sync_file_system(target)
    files.write(target / MARKER, json.dumps(about, indent=2).encode() + b"\n")
    return about | {"linked": copied.linked, "damaged": sorted(copied.damaged)}


# ----------------------------------------------------------------------------------------------------------- one moment


def _freeze(output: Path, folder: Path, copy: Path) -> dict[str, bytes]:
    """Links what a later batch replaces or moves (curated files, and raw copies of drops that are not applied yet), and copies
    the ledger, both of one moment. Returns these paths, with their SHA-256."""
    linked: dict[str, _Identity] = {}
    end = time.monotonic() + _BUSY_SECONDS
    while time.monotonic() < end:
        with closing(_ledger(output)) as ledger:
            if ledger.unpublished_batch() is None:
                wanted = _curated(ledger)
                wanted |= {drop.raw: drop.sha256 for drop in ledger.uncommitted() if drop.raw}
                _link_all(output, folder, [*wanted, *([RESTATEMENTS] if ledger.restatements_bytes else [])], linked)
                if _is_still(output, ledger):
                    ledger.copy_to(copy)
                    return wanted
        time.sleep(_PAUSE_SECONDS)
    raise EnvironmentFault(
        "back up", output, f"for {_BUSY_SECONDS:g} s there was no moment without a batch that is being published",
        "Where no daemon runs, finish the batch with `strandline --once`; otherwise try again when fewer drops arrive.",
    )  # fmt: skip


def _ledger(output: Path) -> Ledger:
    return Ledger(output / LEDGER, read_only=True)


def _curated(ledger: Ledger) -> dict[str, bytes]:
    """The published files with their SHA-256."""
    return {file.path: file.sha256 for table in published(ledger).values() for file in table.values()}


def _is_still(output: Path, ledger: Ledger) -> bool:
    """Whether nothing was committed since."""
    with closing(_ledger(output)) as now:
        is_same = now.next_batch == ledger.next_batch and now.unpublished_batch() is None
        is_same = is_same and now.restatements_bytes == ledger.restatements_bytes  # it falls when the log is shortened
        return is_same and _curated(now) == _curated(ledger)


def _link_all(output: Path, folder: Path, wanted: Iterable[str], linked: dict[str, _Identity]) -> None:
    """Links each of these paths, unless the link that is there is of the file that is there now."""
    for path in wanted:
        source, target = output / path, folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if (now := files.identity(source)) is None or now == linked.get(path):
                continue  # one that is missing is told when it is copied
            target.unlink(missing_ok=True)
            if _linked(source, target):
                now = files.identity(target)
            else:
                shutil.copyfile(source, target)
        except FileNotFoundError:  # replaced just now: the next look finds another ledger
            continue
        except OSError as error:  # the same as one that is missing
            if not files.is_of_one_file(error, source):
                raise
            target.unlink(missing_ok=True)
            continue
        if now is not None:
            linked[path] = now


def _linked(source: Path, target: Path) -> bool:
    """Makes a hard link; False where the file systems do not allow one."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in CANNOT_LINK:
            raise
        return False
    return True


def _refuse_read_again(output: Path, target: Path, copy: Ledger) -> None:
    """An old drop that is read again, under an earlier --since, or that is withdrawn gets other discards under the same name; one
    that is redacted, another raw copy."""
    waiting = {drop.seq for drop in copy.uncommitted()}
    with closing(_ledger(output)) as now:
        if now.redactions() != copy.redactions():
            raise EnvironmentFault(
                "back up", output, "records were erased from raw copies meanwhile", f"Remove {target}, and start again."
            )
        for batch in range(copy.next_batch, now.next_batch):
            for result in now.results(batch):
                if result.drop.seq <= copy.last_drop and result.drop.seq not in waiting:
                    raise EnvironmentFault(
                        "back up", output, f"drop {result.drop.seq} was read again or withdrawn meanwhile",
                        f"Remove {target}, and start again.",
                    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- the rest


def _copy_drops(output: Path, target: Path, ledger: Ledger, copied: Copied, progress: Progress) -> None:
    """Raw copies, discards and receipts of all committed drops, and what is in quarantine of them; but not what has gone by
    age."""
    total = ledger.drop_count()
    gone = {kind: ledger.horizon(kind) for kind in ages.OF_DROPS}
    for number, result in enumerate(ledger.all_results(), 1):
        drop = result.drop
        if (
            drop.raw
            and drop.seq > gone[ages.RAW]
            and not copied.add(output / drop.raw, target / drop.raw, may_link=True, sha256=drop.sha256)
        ):
            copied.missing.append((ages.RAW, drop.seq, drop.raw))
        path = receipts.discards_path(drop)
        if (
            result.counts.discarded.total()
            and drop.seq > gone[ages.DISCARDS]
            and not copied.add(output / path, target / path, may_link=True)
        ):
            copied.missing.append((ages.DISCARDS, drop.seq, path))
        if drop.seq > gone[ages.RECEIPTS]:
            _write_receipt(target, result, copied)
        progress("copying drops", number, total)
    newest, waiting = ledger.last_drop, {drop.seq for drop in ledger.uncommitted()}
    for name in quarantined(output / "quarantine"):
        number = int(name.partition("_")[0])
        if number <= newest and number not in waiting:  # otherwise a later batch moved it there
            for one in (name, name + REASON):  # one that `retry` has just taken is in the inbox
                copied.add(output / "quarantine" / one, target / "quarantine" / one, may_link=False)


def _catch_up_with_ages(output: Path, copy: Ledger) -> None:
    """Lets the copied ledger say what has gone by age while its files were copied; of drops that it has as applied or more."""
    with closing(_ledger(output)) as now:
        horizons = now.horizons()
    last = min([copy.last_drop, *(drop.seq - 1 for drop in copy.uncommitted())])
    for kind in ages.OF_DROPS:
        horizon = ages.only(horizons, kind)
        if min(horizon.through, last) > copy.horizon(kind):
            copy.go_by_age(kind, min(horizon.through, last), horizon.at)


def _write_receipt(target: Path, result: DropResult, copied: Copied) -> None:
    path = receipts.receipt_path(target, result)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(receipts.receipt(result))
    copied.count(path)


def _copy_log(frozen: Path, target: Path, ledger: Ledger, copied: Copied) -> None:
    """The log of restatements, as long as it was. It is appended to, and replaced when its first lines go by age: the link keeps
    the one that the copied ledger means."""
    if size := ledger.restatements_bytes:
        try:
            with open(frozen / RESTATEMENTS, "rb") as log:
                content = log.read(size)
        except FileNotFoundError:
            content = b""
        (target / RESTATEMENTS).write_bytes(content)
        copied.count(target / RESTATEMENTS)
        if len(content) < size:
            copied.damaged.append(RESTATEMENTS)


def _copy_results(output: Path, target: Path, copied: Copied, progress: Progress) -> None:
    """The results of models and checks. They follow batches at their own pace: a file that is not, or no longer, what the copied
    records name is made again after a restore."""
    if not (output / RECORDS).exists():
        return
    copy_records(output / RECORDS, target / RECORDS)
    with closing(Records(target / RECORDS)) as records:
        for state in records.states():
            again, there = [], records.files(state.kind, state.name)
            for number, (date, one) in enumerate(there.items(), 1):
                progress(f"copying {state.kind} {state.name}", number, len(there))
                path = results.path_of(state.kind, state.name, date)
                if not copied.add(output / path, target / path, may_link=True, sha256=one.sha256):
                    again.append(date)
            if again:
                records.distrust(state.kind, state.name, None if state.definition.get("whole") else again)
    copied.count(target / RECORDS)


# -------------------------------------------------------------------------------------------------------------- restore


def restore(source: Path, output: Path, progress: Progress) -> dict[str, Any]:
    """Copies a backup into an output folder that is empty or does not exist; returns the content of backup.json. UsageError where
    it is not a whole backup, or the folder will not do."""
    about = _about(source)
    _refuse_place(output, source, "set [paths] output to a new folder")
    found = sorted(_files_of(source))
    size = sum((source / path).stat().st_size for path in found)
    if (len(found), size) != (about["files"], about["bytes"]):
        raise UsageError(
            f"{source} is not the whole backup: {len(found):,} files with {size:,} bytes, and {MARKER} says "
            f"{about['files']:,} with {about['bytes']:,}. Copy it again from where it was made; nothing was changed"
        )
    copied, ledger = Copied(), output / "state" / ".restored.tmp"
    with closing(Lock(output)):
        files.write(output / RESTORING, b"")
        # Receipts first: with any of them and no ledger, a daemon refuses the folder, too.
        for number, path in enumerate(sorted(found, key=lambda one: not one.startswith("receipts/")), 1):
            target = ledger if path == LEDGER else output / path
            # A link would have the owner and the rights that the backup has.
            copied.add(source / path, target, may_link=False)
            progress("restoring", number, len(found))
        if (source / raw.LINK).is_symlink():
            files.link_to(output / raw.LINK, str((source / raw.LINK).readlink()))
        files.sync_file_system(output)
        files.move(ledger, output / LEDGER)
        files.sync(output / "state")
        files.unlink(output / RESTORING)
        files.sync(output / "state")
    return about | {"linked": copied.linked}


def copied_text(found: Mapping[str, Any]) -> str:
    """What was copied, for a person."""
    return (
        f"{found['drops']:,} drops and {found['partitions']:,} partitions, as of batch {found['batch']:,}: "
        f"{found['files']:,} files ({found['linked']:,} as hard links), {found['bytes']:,} bytes, in {found['seconds']:.1f} s"
    )


def _files_of(source: Path) -> Iterator[str]:
    """The files of a backup, relative to it."""
    for folder, _, names in os.walk(source):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), source)
            if path != MARKER and not path.endswith(_BESIDE) and path != raw.LINK:
                yield path


def _about(source: Path) -> dict[str, Any]:
    try:
        about = json.loads((source / MARKER).read_bytes())
        known = {name: about[name] for name in ("format", "files", "bytes", "batch", "drops", "partitions")}
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            f"{source} is not a whole backup: it has no {MARKER}, which `strandline backup` writes last. Name a folder that "
            "it has made; one that was interrupted cannot be restored"
        ) from None
    if known["format"] != FORMAT:
        raise UsageError(f"{source} is a backup of format {known['format']}, and this program reads {FORMAT}")
    return dict(about)


def _refuse_place(target: Path, other: Path, instead: str) -> None:
    """UsageError where a folder has anything in it, or is the other one, inside it or around it."""
    ours, theirs = Path(os.path.realpath(target)), Path(os.path.realpath(other))
    if ours == theirs or ours in theirs.parents or theirs in ours.parents:
        raise UsageError(f"{target} and {other} must not contain each other; nothing was changed")
    try:
        there = sorted(os.listdir(target))
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise UsageError(f"{target} is not a folder; nothing was changed") from None
    if there:
        raise UsageError(
            f"{target} is not empty: it has {there[-1]}. Nothing is written over: move it away, or {instead}"
        )
