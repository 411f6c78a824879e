"""Loads, tables and mirrors against the published files: each date that a destination says it has must have the rows of its file.

Everything is fetched, so it takes as long as sending all of it again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..core.errors import Stopped, StrandlineError
from ..downstream.contract import WHOLE, InputChanged, stale
from ..downstream.follow import Following
from ..storage.store import iso_date
from .difference import Difference

CHECK = "destinations"


def check_destinations(following: Following, folder: Path, stopped: Callable[[], bool]) -> tuple[list[Difference], int]:
    """Every difference, and how many dates are not up to date. `folder`: for what is fetched."""
    found: list[Difference] = []
    behind = 0
    for one, tables in following.remotes(stopped):
        try:
            behind += len(stale(one.wanted(tables), one.has()))
            for (table, date), difference in sorted(one.differences(tables, folder).items()):
                found.append(_difference(one.name, table, date, difference))
        except Stopped:
            raise
        except InputChanged as error:
            found.append(
                Difference(CHECK, one.name, f"not compared: {error}; a batch was published meanwhile: verify again")
            )
        except (StrandlineError, OSError) as error:
            found.append(Difference(CHECK, one.name, f"not compared: {error}"))
    return found, behind


def _difference(name: str, table: str, date: int, difference: str) -> Difference:
    on = "" if date == WHOLE else f" {iso_date(date)}"
    remedy = f"send it again with `strandline refresh {name}{on}`"
    return Difference(CHECK, f"{name}: {table}{on}", f"{difference}; {remedy}")
