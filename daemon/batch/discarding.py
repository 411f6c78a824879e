"""`discard`: removes a drop from quarantine on request, and keeps a record of it in the ledger and in the drop's receipt.

A request is a file in state/, named after the number of the drop. The process that holds the output carries it out, in this
order: the reason in the ledger says who discarded the drop, when and why; then so does the receipt; then the file goes; then the
request. A crash in between is finished by the next run. A drop that `retry` has taken meanwhile is not discarded.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from ..core.entries import REASON
from ..core.model import DropOutcome
from ..storage import files, receipts
from ..storage.ages import RECEIPTS
from ..storage.ledger import Ledger
from ..storage.raw import quarantine_path

_FOLDER = "state/discard"
log = logging.getLogger("strandline")


def request(output: Path, drops: Iterable[int], why: str) -> None:
    """Requests that these drops are discarded. `why`: one line that says by whom and when."""
    files.make_folder(output / _FOLDER)
    files.give_to_owner_of(output, output / _FOLDER)
    for seq in drops:
        files.write(output / _FOLDER / str(seq), why.encode())
        files.give_to_owner_of(output, output / _FOLDER / str(seq))


def carry_out(output: Path, ledger: Ledger) -> None:
    """Carries out all requests. Only for the process that holds the lock."""
    try:
        names = sorted(name for name in os.listdir(output / _FOLDER) if name.isdecimal())
    except FileNotFoundError:
        return
    for name in names:
        asked = output / _FOLDER / name
        _discard(output, ledger, int(name), asked.read_bytes().decode(errors="replace"))
        files.unlink(asked)
        files.sync(asked.parent)


def _discard(output: Path, ledger: Ledger, seq: int, why: str) -> None:
    result = ledger.result(seq)
    if result is None or result.outcome is not DropOutcome.QUARANTINED:
        return
    path = output / quarantine_path(result.drop)
    if not path.exists():
        return
    if not (result.reason or "").startswith(why):
        ledger.give_reason(seq, f"{why}; it was quarantined because: {result.reason}")
    if seq > ledger.horizon(RECEIPTS):
        receipts.write(output, [found for found in [ledger.result(seq)] if found])
    files.unlink(path)
    files.unlink(path.with_name(path.name + REASON))
    files.sync(path.parent)
    log.info("drop discarded from quarantine", extra={"drop": seq, "file": result.drop.name})
