"""Errors, named by what the operator should do about them.

Data faults (`Unreadable`) put one drop into quarantine and never stop the daemon. Environment faults
(`EnvironmentFault`) never touch a drop: the work waits until their cause is gone. Usage faults (`UsageError`) are the
caller's to mend. Expected waiting ("not settled yet") is a value, not an exception.
"""

from __future__ import annotations

MAX_REASON = 500
MOVE_AWAY = "move it away and run `strandline rebuild`"  # what mends a ledger that cannot be read


class StrandlineError(Exception):
    """Base of all errors that this program raises on purpose; its text is one clear line for a person."""


class Unreadable(StrandlineError):
    """This drop cannot be read as a whole; the text says why. It goes to quarantine and may be retried.

    However odd the file, the reason is one printable line of at most MAX_REASON characters. It may end with the text around a
    damage, which may be somebody's data: it is kept in the ledger, in receipts and in quarantine, and logs leave it out
    (core/parse/damage.without_text).
    """

    def __init__(self, why: str) -> None:
        super().__init__(_one_line(why))


def _one_line(text: str) -> str:
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:MAX_REASON])
    return shown if len(shown) < MAX_REASON else shown[: MAX_REASON - 1] + "…"


class UsageError(StrandlineError):
    """The command line or the configuration is wrong; the text names what, and what is allowed. Exit code 2."""


class EnvironmentFault(StrandlineError):
    """The machine failed (disk full, no permission, lock held); nothing of the data is to blame. Exit code 3."""

    def __init__(self, attempted: str, path: object, cause: object, hint: str) -> None:
        super().__init__(f"could not {attempted} {path}: {cause}. {hint}")


class OutputReplaced(EnvironmentFault):
    """The output folder, its lock or its ledger is not the one that this process opened. Going on would take drops into a folder
    that nobody looks at, or change files that belong to another process. It is not tried again: exit code 3."""

    def __init__(self, output: object, cause: object) -> None:
        super().__init__(
            "go on with", output, cause,
            "It was removed, moved or restored while strandline was running. Drops that it does not have are in the inbox. "
            "Put the folder that you want in its place, and start again.",
        )  # fmt: skip


class Stopped(StrandlineError):
    """Somebody asked the program to end while a batch was under way. What the batch had begun is taken up again at the
    next start; nothing of it is visible."""


class Corruption(StrandlineError):
    """A stored file is not what the ledger says it is; the text names the file and the command that mends it."""
