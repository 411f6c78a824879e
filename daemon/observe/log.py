"""The log: lines for people on a console, else one JSON object per line.

A log never holds the content of a record, which may be personal data. File names are escaped, so that one drop is one line.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import IO

from ..batch.ageing import Aged
from ..batch.outcome import BatchOutcome
from ..batch.retries import Retry
from ..core.drift import Drift
from ..core.entries import DropResult
from ..core.mapping import DEFAULT_SOURCE
from ..core.model import DropOutcome
from ..core.parse.damage import without_text
from ..core.progress import make_room
from ..downstream.attempts import Followed
from ..operate.colours import of_level, wanted
from ..sources.pull.outcome import FAILED, Pulled
from ..storage.set_aside import SetAside
from .observer import Observer

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SHOWN_KEYS = 20
_BETWEEN_LINES_SECONDS = 30.0
log = logging.getLogger("strandline")


class _Handler(logging.StreamHandler[IO[str]]):
    """Knows for how long it has been writing: a pipe that nobody reads blocks whoever writes to it, once it is full."""

    since: float | None = None  # monotonic; of the write that is under way

    def emit(self, record: logging.LogRecord) -> None:
        self.since = time.monotonic()
        try:
            make_room()
            super().emit(record)
        finally:
            self.since = None


class Telling:
    """Progress where there is no terminal: at most a line in the log every half a minute. `clock`: in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._told = clock, clock()

    def __call__(self, phase: str, done: int, total: int) -> None:
        now = self._clock()
        if now - self._told >= _BETWEEN_LINES_SECONDS:
            self._told = now
            log.info("at work", extra={"phase": phase, "done": done, "total": total})


def blocked_seconds() -> float:
    """For how long a line of the log could not be written; 0 where none is being written. May be called from any thread."""
    began = [since for one in log.handlers if isinstance(one, _Handler) and (since := one.since) is not None]
    return max((time.monotonic() - since for since in began), default=0.0)


def set_up(level: str, form: str, stream: IO[str] | None = None) -> None:
    """Sends the log to `stream` (default: standard error). `form`: console, json, or auto."""
    stream = stream or sys.stderr
    handler = _Handler(stream)
    console = form == "console" or (form == "auto" and stream.isatty())
    handler.setFormatter(_Console(coloured=wanted(stream, os.environ)) if console else _Json())
    log.handlers[:] = [handler]
    log.setLevel(level.upper())
    log.propagate = False


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        content = {"at": at, "level": record.levelname.lower(), "event": record.getMessage()} | _fields(record)
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=True, default=str)


class _Console(logging.Formatter):
    def __init__(self, *, coloured: bool) -> None:
        super().__init__()
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone().timetz().isoformat("seconds")
        fields = "  ".join(f"{key}={_short(value)}" for key, value in _fields(record).items())
        level = f"{record.levelname.lower():7}"
        line = record.getMessage() + (f"  {fields}" if fields else "")
        trace = self.formatException(record.exc_info).splitlines() if record.exc_info else []
        shown = f"{at} {of_level(level) if self._coloured else level} {_visible(line)}"
        return "\n".join([shown, *map(_visible, trace)])


def _short(value: object) -> str:
    if isinstance(value, dict):
        return _visible(",".join(f"{key}:{number}" for key, number in value.items())) or "-"
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text.isprintable() or " " in text else text


def _visible(text: str) -> str:
    """A text without control characters and without changes of direction for a terminal: these are escaped."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


class Reporter(Observer):
    """Writes the events of the service to the log."""

    def __init__(self) -> None:
        self._failing = False
        self._set_aside: set[str] = set()
        self._errors: dict[tuple[str, str], str] = {}  # of models and checks

    def applied(self, outcome: BatchOutcome, latencies: Sequence[float]) -> None:
        for result in outcome.results:
            _tell_of(result)
        for drift in outcome.drift:
            _tell_drift(drift)
        for date in outcome.repaired:
            log.error("published file was damaged, and was rebuilt from raw", extra={"published": date})
        log.info("batch applied", extra=_summary(outcome) | {"seconds": round(sum(outcome.seconds.values()), 3)})

    def waiting(self, name: str, attempt: int, delay_seconds: float, why: str) -> None:
        log.warning("drop is unfinished; waiting", extra={"operation": "read_drop", "attempt": attempt,
                    "delay_seconds": delay_seconds, "file": name, "cause": why})  # fmt: skip

    def gave_up(self, name: str) -> None:
        log.warning("drop is still unfinished; taken as it is", extra={"operation": "read_drop", "file": name})

    def refused(self, name: str, cause: str) -> None:
        log.warning("drop could not be taken; it stays in the inbox", extra={"file": name, "cause": cause})

    def unusable(self, name: str, why: str) -> None:
        log.warning("not a drop; left in the inbox", extra={"file": name, "cause": why})

    def overdue(self, name: str) -> None:
        log.warning(
            "a file in the inbox has had the name of an unfinished one for an hour; rename it if it is complete",
            extra={"file": name},
        )

    def failed(self, retry: Retry) -> None:
        log.log(
            logging.ERROR if retry.exhausted else logging.WARNING,
            "operation still fails; given up" if retry.given_up
            else "paused: operation still fails; nothing is lost, and work goes on once the cause is gone" if retry.exhausted
            else "operation failed; trying again",
            extra={"operation": retry.operation, "attempt": retry.attempt, "delay_seconds": retry.delay_seconds,
                   "cause": retry.cause},
        )  # fmt: skip
        self._failing = True

    def recovered(self) -> None:
        if self._failing:
            log.info("the cause is gone; work goes on")
        self._failing = False

    def followed(self, results: Sequence[Followed], now: float) -> None:
        for one in results:
            about: dict[str, object] = {one.kind: one.name}
            if one.is_removed:
                log.info(
                    "its file is gone, and its results are removed" if one.kind in ("model", "check")
                    else "it is configured no more; what is there stays",
                    extra=about | {"files": one.files},
                )  # fmt: skip
            elif one.error and self._errors.get((one.kind, one.name)) != one.error:
                log.error("not up to date", extra=about | {"stale": one.stale, "cause": one.error})
            elif one.dates and not one.error:
                log.info("brought up to date", extra=about | {"dates": one.dates, "files": one.files, "rows": one.rows,
                                                              "seconds": round(one.seconds, 3)})  # fmt: skip
            if one.altered:
                log.warning(
                    "texts were sent without U+0000, which the destination cannot hold",
                    extra=about | {"texts": one.altered},
                )
            if one.found and one.dates:
                level = logging.ERROR if one.severity == "error" else logging.WARNING
                log.log(level, "a check found rows", extra=about | {"rows": one.found})
        self._errors = {(one.kind, one.name): one.error for one in results if one.error}

    def pulled(self, one: Pulled, now: float) -> None:
        about: dict[str, object] = {
            "source": one.source,
            "pages": one.pages,
            "records": one.records,
            "seconds": round(one.seconds, 3),
        }
        if one.retries:
            about["retries"] = dict(one.retries)
        if one.error:
            log.error("pull failed" if one.outcome == FAILED else "pull put off", extra=about | {"cause": one.error})
        elif one.pages:
            log.info("pulled", extra=about | {"bytes": one.bytes})

    def aged(self, one: Aged) -> None:
        about: dict[str, object] = {"kind": one.kind, "through": one.through, "files": one.files, "bytes": one.bytes}
        if one.files or one.bytes:
            log.info("old copies removed", extra=about)
        if one.left:
            log.warning(
                "old copies could not be removed; tried again later",
                extra=about | {"left": one.left, "cause": one.cause},
            )

    def missing(self, published: int) -> None:
        if published:
            log.error("published files are missing; they are made anew from raw", extra={"published": published})
        else:
            log.info("the published files are there again")

    def set_aside(self, found: Sequence[SetAside]) -> None:
        for one in found:
            if one.name not in self._set_aside:
                log.error("damaged, and cannot be made anew: set aside; everything else goes on",
                          extra={"published": one.name, "cause": one.reason})  # fmt: skip
        for name in sorted(self._set_aside - {one.name for one in found}):
            log.info("no longer set aside", extra={"published": name})
        self._set_aside = {one.name for one in found}

    def found_by_rescan(self, drops: int) -> None:
        log.info("rescan found drops that no event named", extra={"drops": drops})

    def noted(self, note: str) -> None:
        log.warning(note)


def _tell_of(result: DropResult) -> None:
    """What a person should know of one drop. The text around a damage is the content of a record, and not logged."""
    drop: dict[str, object] = {"drop": result.drop.seq, "file": result.drop.name}
    if (source := result.drop.context.source) != DEFAULT_SOURCE:
        drop["source"] = source
    counts = result.gained
    if result.outcome is DropOutcome.QUARANTINED:
        if result.duplicate_of is not None:  # a retry of it
            drop["quarantined_as"] = result.duplicate_of
        log.warning("drop quarantined", extra=drop | {"reason": without_text(result.reason or "")})
    for reason, count in sorted(counts.discarded.items()):
        log.warning("records discarded", extra=drop | {"reason": reason, "records": count})
    if counts.faults.total():
        log.warning(
            "fields could not be read; they are NULL", extra=drop | {"faults": dict(sorted(counts.faults.items()))}
        )
    if counts.bare:
        message = "orders have neither an amount nor a price; nothing reads these keys"
        log.warning(message, extra=drop | {"orders": counts.bare, "keys": ", ".join(counts.bare_keys)})


def _tell_drift(drift: Drift) -> None:
    """Keys that came or vanished. Those of the first drop of a source are no change."""
    about: dict[str, object] = {"drop": drift.drop}
    if drift.source != DEFAULT_SOURCE:
        about["source"] = drift.source
    if drift.unread:
        level = logging.INFO if drift.is_first else logging.WARNING
        message = (
            "records have keys that nothing reads" if drift.is_first else "records have new keys that nothing reads"
        )
        log.log(level, message, extra=about | {"keys": _listed(drift.unread)})
    if drift.missing:
        log.warning(
            "keys that were read are missing in all first records", extra=about | {"keys": _listed(drift.missing)}
        )


def _listed(keys: Sequence[str]) -> str:
    rest = len(keys) - _SHOWN_KEYS
    return ", ".join(keys[:_SHOWN_KEYS]) + (f" and {rest:,} more" if rest > 0 else "")


def _summary(outcome: BatchOutcome) -> dict[str, object]:
    results = outcome.results
    counts = [result.gained for result in results]
    discarded = sum((one.discarded for one in counts), Counter[str]())
    faults = sum((one.faults for one in counts), Counter[str]())
    return {
        "batch": outcome.batch,
        "drops": len(results),
        "extracted": sum(c.extracted for c in counts),
        "new": sum(c.new for c in counts),
        "corrected": sum(c.corrected for c in counts),
        "deleted": sum(c.deleted for c in counts),
        "unchanged": sum(c.unchanged for c in counts),
        "superseded": sum(c.superseded for c in counts),
        "discarded": dict(discarded),
        "faults": dict(faults),
        "partitions_written": len(outcome.written),
        "restated": len(outcome.restated),
    }
