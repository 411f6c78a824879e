"""Brings one downstream up to date, records how that went, and says when to try again what failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from ..batch.retries import is_transient
from ..core.errors import OutputReplaced, Stopped, StrandlineError, cause_of, raised_in
from ..core.retry import Backoff
from ..storage.store import iso_date
from .contract import Aside, Downstream, InputChanged, Tables, stale
from .records import Records

_LONGEST_DELAY_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Followed:
    """What a round did for one downstream. `error` is empty if everything of it is up to date."""

    kind: str
    name: str
    dates: int  # that were brought up to date
    files: int  # that were written or removed
    rows: int
    stale: int  # dates that are left
    seconds: float
    error: str = ""
    failures: int = 0  # since it last succeeded; 0 where it only waits for another one
    is_transient: bool = False  # the environment failed, and not the downstream
    found: int | None = None  # rows of a check
    severity: str = ""  # of a check
    is_removed: bool = False  # its file is gone, and its results are removed
    bytes: int = 0  # that were sent to a destination
    altered: int = 0  # texts that a destination cannot hold as they are
    waiting: int = 0  # of the dates that are left, those that need one that is set aside


Progress = Callable[[Followed], None]


def untold(one: Followed) -> None:
    """Where nobody asks how far a round is."""


class Attempts:
    """The attempts of one process. `found_damaged`: a file that is not the one that the ledger names is damaged, and not one of a
    batch that is being published."""

    def __init__(self, records: Records, backoff: Backoff) -> None:
        self._records, self._backoff = records, backoff
        # When to try again what failed, and how often it had been refreshed by then.
        self._due: dict[tuple[str, str], tuple[float, int]] = {}
        self.found_damaged = False
        self.aside = Aside()  # what is set aside

    @property
    def delay_seconds(self) -> float | None:
        """How long until something that failed is due; None where nothing failed."""
        return max(0.0, min(at for at, _ in self._due.values()) - time.monotonic()) if self._due else None

    def is_due(self, one: Downstream) -> bool:
        """Whether it did not fail, or long enough ago, or was refreshed since."""
        at, refreshed = self._due.get((one.kind, one.name), (0.0, 0))
        return at <= time.monotonic() or refreshed != self._records.distrusted(one.kind, one.name)

    def forget(self, kind: str, name: str) -> None:
        """Lets it be tried again now."""
        self._due.pop((kind, name), None)

    def forget_all(self) -> None:
        self._due.clear()

    def brought(self, one: Downstream, tables: Tables, stopped: Callable[[], bool], progress: Progress) -> Followed:
        """Brings it up to date. Raises Stopped, OutputReplaced, and InputChanged unless `found_damaged`."""
        began = time.monotonic()
        dates = count = rows = sent = altered = 0
        error = self.recorded_error(one)  # it fails until it succeeds
        so_far = Followed(one.kind, one.name, 0, 0, 0, 0, 0.0, error)
        left = 0

        def failure(cause: str, *, transient: bool) -> Followed:
            failures = self.failed(one.kind, one.name, cause)
            seconds = time.monotonic() - began
            return Followed(
                one.kind,
                one.name,
                dates,
                count,
                rows,
                left,
                seconds,
                cause,
                failures,
                transient,
                bytes=sent,
                altered=altered,
            )

        try:
            wanted = one.wanted(tables)
            left = len(stale(wanted, one.had()))
            behind = stale(wanted, one.has())
            left = len(behind)
            waiting = {date: held for date in behind if self.aside and (held := one.held_by(date, tables, self.aside))}
            behind = {date: fingerprint for date, fingerprint in behind.items() if date not in waiting}
            if left:
                progress(replace(so_far, stale=left))
            for piece in one.pieces(behind, tables) if behind else ():
                if stopped():
                    raise Stopped("stopped between two pieces")
                brought = one.bring(piece, tables, stopped)
                dates, count, rows = dates + len(piece), count + brought.files, rows + brought.rows
                sent, altered = sent + brought.bytes, altered + brought.altered
                left -= len(piece)
                progress(replace(so_far, stale=left))
        except (Stopped, OutputReplaced):
            raise
        except InputChanged as error:
            if not self.found_damaged:
                raise
            hint = "it is damaged: run `strandline rebuild`, or `strandline refresh` for a model"
            return failure(f"{error}; {hint}", transient=False)
        except Exception as error:
            expected = isinstance(error, StrandlineError) or is_transient(error)
            cause = cause_of(error)
            if not expected:
                cause = f"an unexpected error in {raised_in(error)}: {cause}. Please report this"
            return failure(cause, transient=is_transient(error))
        seconds = time.monotonic() - began
        self._due.pop((one.kind, one.name), None)
        now = time.time_ns() // 1000
        if dates or (so_far.error and not waiting):
            self._records.succeeded(one.kind, one.name, now, seconds)
        why = _waits_for(waiting.values()) if waiting else ""
        if waiting and (why != so_far.error or dates):
            self._records.failed(one.kind, one.name, now, why)
        return Followed(
            one.kind, one.name, dates, count, rows, left, seconds if dates else 0.0, why, bytes=sent, altered=altered,
            waiting=len(waiting),
        )  # fmt: skip

    def waiting(self, one: Downstream, tables: Tables, why: str) -> Followed:
        """One that is not tried in this round."""
        left = len(stale(one.wanted(tables), one.had()))
        return Followed(one.kind, one.name, 0, 0, 0, left, 0.0, why)

    def failed(self, kind: str, name: str, cause: str) -> int:
        """Records a failure; returns how many there were since the last success."""
        failures = self._records.failed(kind, name, time.time_ns() // 1000, cause)
        backoff = Backoff(self._backoff.attempts, self._backoff.initial_delay_seconds, _LONGEST_DELAY_SECONDS)
        at = time.monotonic() + backoff.delay_seconds(failures)
        self._due[kind, name] = at, self._records.distrusted(kind, name)
        return failures

    def recorded_error(self, one: Downstream) -> str:
        """Why it failed the last time; empty where it did not."""
        state = self._records.state(one.kind, one.name)
        return (state and state.error) or ""


def _waits_for(held: Collection[Aside]) -> str:
    tables = sorted({name for one in held for name in one.tables})
    damaged = [*tables, *map(iso_date, sorted({date for one in held for date in one.dates}))]
    return (
        f"it waits for {', '.join(damaged)}, whose published files are damaged and cannot be made anew; `strandline status` says "
        "what to restore"
    )
