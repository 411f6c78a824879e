"""Publishes a committed batch: carries out its list of effects in order. Each of them may already be done.

A crash may come at any point, also during recovery. So each effect can be repeated: it checks what is already done. This module
only follows the list in the ledger; it decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import groupby
from pathlib import Path

from ..core.entries import REASON, Drop, Effect
from ..core.errors import Corruption
from ..storage import files, receipts
from ..storage.generation import changing


def publish(
    output: Path,
    effects: Sequence[Effect],
    *,
    recovering: bool = False,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Carries out effects durably. `recovering`: compare checksums first, since an earlier attempt may have stopped anywhere.
    `check`: called before each kind of effect; raises if the output folder is no longer the one that was opened."""
    check()
    with changing(output) if any(one.target.startswith("curated/") for one in effects) else nullcontext():
        _carry_out(output, effects, recovering, check)


def _carry_out(output: Path, effects: Sequence[Effect], recovering: bool, check: Callable[[], None]) -> None:
    for kind, group in groupby(effects, key=lambda effect: effect.kind):
        check()
        same_kind = list(group)
        if kind == "place":
            _place(output, same_kind, recovering)
        elif kind == "remove":
            _remove(output, same_kind)
        else:
            for effect in same_kind:
                _SINGLE[kind](output, effect)


def _place(output: Path, effects: Sequence[Effect], recovering: bool) -> None:
    # Plain strings where there is one for each effect: with pathlib, 2,406 dates took twice as long.
    folders = {_folder(effect.target): _folder(effect.source or "") for effect in effects}
    new = [folder for folder in folders if not (output / folder).is_dir()]
    for folder in new:
        _make_folder(output / folder, output / folders[folder] / folder.rpartition("/")[2])
    parents = {output / _folder(folder) for folder in new}
    files.sync_many({one for parent in parents for one in (parent, parent.parent)})
    for effect in effects:
        source, target = f"{output}/{effect.source}", f"{output}/{effect.target}"
        if recovering and _is_done(Path(source), Path(target), effect):
            continue
        files.move(source, target)
    files.sync_many([output / folder for folder in folders])


def _folder(path: str) -> str:
    """The folder of a path that is relative to the output folder."""
    return path.rpartition("/")[0]


def _make_folder(folder: Path, staged: Path) -> None:
    """Creates the folder of a new date, by moving the staged folder if there is one."""
    try:
        files.move(staged, folder)
    except FileNotFoundError:
        folder.parent.mkdir(exist_ok=True)  # without parents: an output folder that was removed is not recreated
        folder.mkdir(exist_ok=True)


def _is_done(source: Path, target: Path, effect: Effect) -> bool:
    if files.sha256_of(source) == effect.sha256:
        return False
    if files.sha256_of(target) == effect.sha256:
        return True
    raise Corruption(
        f"could not publish {target}: neither it nor {source} is the file that was committed. "
        "Rebuild it from raw with `strandline rebuild`"
    )


def _remove(output: Path, effects: Sequence[Effect]) -> None:
    folders = {(output / effect.target).parent for effect in effects}
    for effect in effects:
        files.unlink(output / effect.target)
    files.sync_many(folder for folder in folders if folder.is_dir())
    for folder in folders:
        if folder.name.startswith("date="):
            files.remove_folder_if_empty(folder)


def _quarantine(output: Path, effect: Effect) -> None:
    """Moves the raw copy, so that a drop is never in both places; then writes its reason beside it."""
    source, target = output / (effect.source or ""), output / effect.target
    files.make_folder(target.parent, within=output)
    if source.exists():
        files.move(source, target)
        files.unlink(source)  # after a power loss the file may have both names, and then the rename does nothing
        files.sync_many([target.parent, source.parent])
    if target.exists():  # otherwise `retry` moved it back into the inbox before this second attempt
        files.write(target.with_name(target.name + REASON), (effect.text or "").encode())


def _sweep(output: Path, effect: Effect) -> None:
    """Removes the files whose paths begin with `target`, but for the one that is called `text`."""
    path = output / effect.target
    for entry in list(path.parent.iterdir()) if path.parent.is_dir() else []:
        if entry.name.startswith(path.name) and entry.name != effect.text:
            files.unlink(entry)
    if path.parent.is_dir():
        files.sync(path.parent)


def _append(output: Path, effect: Effect) -> None:
    files.continue_at(output / effect.target, effect.position or 0, (effect.text or "").encode())


def _link(output: Path, effect: Effect) -> None:
    files.link_to(output / effect.target, effect.text or "")


_SINGLE = {"quarantine": _quarantine, "sweep": _sweep, "append": _append, "link": _link}


def reason_json(drop: Drop, reason: str) -> str:
    """The content of the file beside a quarantined drop."""
    received_at = receipts.instant_text(drop.context.received_at)
    content = {
        "drop": drop.seq, "name": drop.name, "source": drop.context.source, "reason": reason, "received_at": received_at,
    }  # fmt: skip
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"
