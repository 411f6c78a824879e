"""Whether somebody paused an output: a file in state/, so it survives restarts and any process can see, make and remove it.

The file is the pause. What it holds is only shown, so one that cannot be read pauses, too.
"""

from __future__ import annotations

import json
import os
import pwd
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from . import files
from .receipts import local_text

_FILE = "state/paused"


@dataclass(frozen=True, slots=True)
class Pause:
    """`since`: an ISO instant in UTC; `by`: the user who paused; `reason`: what they gave as one. Empty where it is not known."""

    since: str = ""
    by: str = ""
    reason: str = ""

    def __str__(self) -> str:
        since, by, reason = (
            f" since {_local(self.since)}" if self.since else "",
            f" by {self.by}" if self.by else "",
            f" ({self.reason})" if self.reason else "",
        )
        return f"paused{since}{by}{reason}"

    @property
    def timestamp(self) -> float:
        """When it began, in seconds since 1970; 1 where that is not known, since 0 is no pause in metrics."""
        try:
            return datetime.fromisoformat(self.since).timestamp()
        except ValueError:
            return 1.0


def paused(output: Path) -> Pause | None:
    """The pause of an output; None where there is none."""
    try:
        content = json.loads((output / _FILE).read_bytes())
        return Pause(*(_line(content.get(name, "")) for name in ("since", "by", "reason")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, AttributeError):
        return Pause()


def pause(output: Path, now: float, reason: str) -> Pause:
    """Pauses it, durably. `now`: in seconds since 1970. One that is paused stays paused since then, for its first reason."""
    if (before := paused(output)) is not None:
        return before
    made = Pause(datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"), _user(), _line(reason))
    files.write(output / _FILE, json.dumps(asdict(made)).encode())
    files.give_to_owner_of(output, output / _FILE)
    return made


def resume(output: Path) -> Pause | None:
    """Ends a pause, and returns it; None where there was none."""
    before = paused(output)
    if before is not None:
        with suppress(FileNotFoundError):
            (output / _FILE).unlink()
        files.sync(output / "state")
    return before


def _local(text: str) -> str:
    """An instant for people; as it stands where it is none."""
    try:
        return local_text(text)
    except ValueError:
        return text


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _line(value: object) -> str:
    """A value as one printable line."""
    return "".join(c if c.isprintable() else " " for c in str(value)).strip()[:200]
