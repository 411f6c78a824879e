"""Makes a committed batch visible: carries out its list of effects, in order, each of which may have been done already.

A crash may come at any point and twice in a row, so every step first looks at what is there. What is here is driven by
the ledger's list alone; nothing is decided.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from ..core.entries import REASON, Effect
from ..core.errors import Corruption
from ..storage import files


def publish(
    output: Path,
    effects: Sequence[Effect],
    *,
    recovering: bool = False,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Carries out effects, durable. `recovering`: look at checksums, since an earlier try may have come anywhere. `check`:
    called before each kind of effect; raises where the folder is not ours to change any more."""
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
    folders = {(output / effect.target).parent: (output / (effect.source or "")).parent for effect in effects}
    new = [folder for folder in folders if not folder.is_dir()]
    for folder in new:
        _make(folder, folders[folder] / folder.name)
    files.sync_many({parent for folder in new for parent in (folder.parent, folder.parent.parent)})
    for effect in effects:
        source, target = output / (effect.source or ""), output / effect.target
        if recovering and _is_done(source, target, effect):
            continue
        files.move(source, target)
    files.sync_many(folders)


def _make(folder: Path, prepared: Path) -> None:
    """A folder for a new date; if it was prepared, that only has to move."""
    try:
        files.move(prepared, folder)
    except FileNotFoundError:
        folder.parent.mkdir(exist_ok=True)  # not the output folder: one that was removed is not begun anew
        folder.mkdir(exist_ok=True)


def _is_done(source: Path, target: Path, effect: Effect) -> bool:
    if files.sha256_of(source) == effect.sha256:
        return False
    if files.sha256_of(target) == effect.sha256:
        return True
    raise Corruption(
        f"could not publish {target}: neither it nor {source} is the file that was committed. "
        "Make it anew from raw with `strandline rebuild`"
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
    """The raw copy moves, so that a drop is never in both places; then its reason is written beside it."""
    source, target = output / (effect.source or ""), output / effect.target
    files.make_folder(target.parent)
    if source.exists():
        files.move(source, target)
        files.unlink(source)  # does nothing, unless a power loss left the file both names: then a rename does nothing
        files.sync_many([target.parent, source.parent])
    if (
        target.exists()
    ):  # else it was put back through the door before this was tried again, and its reason is gone for good
        files.write(target.with_name(target.name + REASON), (effect.text or "").encode())


def _append(output: Path, effect: Effect) -> None:
    files.continue_at(output / effect.target, effect.position or 0, (effect.text or "").encode())


def _link(output: Path, effect: Effect) -> None:
    files.link_to(output / effect.target, effect.text or "")


_SINGLE = {"quarantine": _quarantine, "append": _append, "link": _link}


def reason_json(seq: int, name: str, reason: str, received_at: str) -> str:
    """What lies beside a quarantined drop."""
    content = {"drop": seq, "name": name, "reason": reason, "received_at": received_at}
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"
