"""What a round came to. Values and errors only, which the log and the metrics know as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...core.errors import StrandlineError

SUCCEEDED, FAILED, PUT_OFF = "succeeded", "failed", "put_off"
OUTCOMES = (SUCCEEDED, FAILED, PUT_OFF)
EXPIRED = "expired"
REASONS = ("connection", "timeout", "incomplete", "rate_limit", "server_error", "not_json", EXPIRED)  # of retries


class PullFailed(StrandlineError):
    """A round could not go on. `status`: of the answer, if that was why."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class PutOff(PullFailed):
    """The server asks to be left alone for longer than a retry waits."""

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a round is."""

    source: str
    pages: int = 0
    records: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a round did. `pages`: that were kept; `cursor`: the greatest change time that is committed once they are."""

    source: str
    outcome: str = SUCCEEDED
    pages: int = 0
    records: int = 0
    bytes: int = 0
    seconds: float = 0.0
    error: str = ""
    wait_seconds: float = 0.0  # how long the server asks to be left alone
    retries: Mapping[str, int] = field(default_factory=dict)  # by reason
