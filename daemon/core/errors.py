"""Errors, named by what the operator should do about them.

Data faults (`Unreadable`) put one drop into quarantine and never stop the daemon. Environment faults
(`EnvironmentFault`) never touch a drop: the work waits until their cause is gone. Usage faults (`UsageError`) are the
caller's to mend. Expected waiting ("not settled yet") is a value, not an exception.
"""

from __future__ import annotations


class StrandlineError(Exception):
    """Base of all errors that this program raises on purpose; its text is one clear line for a person."""


class Unreadable(StrandlineError):
    """This drop cannot be read as a whole; the text says why. It goes to quarantine and may be retried."""


class UsageError(StrandlineError):
    """The command line or the configuration is wrong; the text names what, and what is allowed. Exit code 2."""


class EnvironmentFault(StrandlineError):
    """The machine failed (disk full, no permission, lock held); nothing of the data is to blame. Exit code 3."""

    def __init__(self, attempted: str, path: object, cause: object, hint: str) -> None:
        super().__init__(f"could not {attempted} {path}: {cause}. {hint}")


class Corruption(StrandlineError):
    """A stored file is not what the ledger says it is; the text names the file and the command that mends it."""
