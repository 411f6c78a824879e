"""Errors, named by what the operator should do about them.

Data faults (`Unreadable`) put one drop into quarantine and never stop the daemon. Environment faults (`EnvironmentFault`) never
affect a drop: work waits until the cause is gone. Usage faults (`UsageError`) are for the caller to correct. Expected waiting
("not settled yet") is a value, not an exception.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_REASON = 500
_SHOWN_CHARACTERS = 80
_ERRNO = re.compile(r"\[Errno -?\d+\] ")
_EXCEPTION = re.compile(r"\b[A-Z][A-Za-z]*(?:Error|Exception|Timeout)(?:\((?:\d+, )?([^()]*)\)|: ?|(?=\W|$))")
_WORDLESS = (  # what errors mean that may come without a text
    (TimeoutError, "it took too long"), (ConnectionError, "the connection was closed"), (EOFError, "the connection was closed"),
    (MemoryError, "memory ran out"), (RecursionError, "it is nested too deeply"),
)  # fmt: skip
MOVE_AWAY = "move it away and run `strandline rebuild`"  # the remedy for a ledger that cannot be read
_OUT_OF_MEMORY = {  # what else is raised where memory, or the number of threads, is limited; the linker says the second
    RuntimeError: re.compile("^can't start new thread$"),
    ImportError: re.compile("failed to map segment|cannot map zero-fill pages|annot allocate memory"),
}
REBUILD_ANEW = (
    "Check the disk, and start again. If that does not help, restore state/ledger.sqlite from a backup that is as new as raw/, "
    f"or {MOVE_AWAY}, which makes it anew from raw copies and receipts"
)


class StrandlineError(Exception):
    """The base of all errors that this program raises on purpose. The text is one clear line for a person."""


class Unreadable(StrandlineError):
    """This drop cannot be read as a whole; the text says why. It goes to quarantine and may be retried.

    The reason is one printable line of at most MAX_REASON characters, whatever the file holds. It may end with the text around
    the damage, which may be personal data: the ledger, receipts and quarantine keep it, logs leave it out
    (core/parse/damage.without_text).
    """

    def __init__(self, why: str) -> None:
        super().__init__(_one_line(why))


def escaped(text: str) -> str:
    """A text of anyone for a terminal: what it would obey, and what hides or turns text, is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _one_line(text: str) -> str:
    shown = escaped(text[:MAX_REASON])
    return shown if len(shown) < MAX_REASON else shown[: MAX_REASON - 1] + "…"


class UsageError(StrandlineError):
    """The command line or the configuration is wrong; the text names what, and what is allowed. Exit code 2."""


def shown(value: object) -> str:
    """A value for an error: one printable line of limited length."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits has no repr
        return f"(a value of type {type(value).__name__})"
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def cause_of(error: BaseException) -> str:
    """What failed, in one line for a person: of an error of the system, what it says and of which file. No word of Python's, but
    where an error of ours has one on purpose: who writes a model in Python needs the name of its exception."""
    if isinstance(error, StrandlineError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {file_of(error)}" if error.filename else error.strerror
    return plain(str(error)) or next((text for kind, text in _WORDLESS if isinstance(error, kind)), "no cause is known")


def file_of(error: OSError) -> str:
    """The file of an error of the system; of a rename, both of its names: either may be at fault."""
    return f"{error.filename}" + (f" to {error.filename2}" if error.filename2 else "")


def plain(text: str) -> str:
    """What an error of a library says, without the number of a system error and the names of exceptions."""
    text = _ERRNO.sub("", text)
    while (found := _EXCEPTION.search(text)) is not None:
        inner = (found[1] or "").strip("'\"")
        text = text[: found.start()] + inner + text[found.end() :]
    return text


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, or the threads that are allowed, ran out."""
    return isinstance(error, MemoryError) or any(
        isinstance(error, kind) and text.search(str(error)) for kind, text in _OUT_OF_MEMORY.items()
    )


def raised_in(error: BaseException) -> str:
    """The function and the line that an unexpected error comes from, for a report."""
    import traceback

    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{where.name} ({where.filename.rpartition('/')[2]}, line {where.lineno})"


def meant(name: object, names: Iterable[str]) -> str:
    """The one of these names that is nearly the same as an unknown one, as a question; empty where none is."""
    from difflib import get_close_matches  # only a mistake needs it

    options = {one.lower(): one for one in names}
    alike = get_close_matches(str(name).lower(), options, n=1)
    return f"did you mean {options[alike[0]]}?" if alike else ""


def instead_of(name: object, names: Iterable[str], are: str = "allowed are") -> str:
    """What may be written in place of an unknown name, for an error: the one that is meant, if any, and all. `are`: the words
    before all of them."""
    options = list(names)
    question = meant(name, options)
    return (f"{question} {are[0].upper()}{are[1:]} " if question else f"{are} ") + (", ".join(options) or "none")


def must_be(allowed: str, value: object = None, choices: Iterable[str] = ()) -> str:
    """What a value must be, for an error: with the one of the `choices` that is meant, if any."""
    question = meant(value, choices) if isinstance(value, str) else ""
    return f"{question} It must be {allowed}" if question else f"it must be {allowed}"


class EnvironmentFault(StrandlineError):
    """The machine failed (disk full, no permission, lock held); no data is at fault. Exit code 3."""

    def __init__(self, attempted: str, path: object, cause: object, hint: str) -> None:
        super().__init__(f"could not {attempted} {path}: {cause}. {hint}")


class Unavailable(StrandlineError):
    """Another system (a database, object storage, a receiver) cannot be reached, or refuses to work now. No data is at fault; it
    is tried again."""


class OutputReplaced(EnvironmentFault):
    """The output folder, its lock or its ledger is not the one that this process opened. To go on would take drops into a folder
    that nobody reads, or change files of another process. It is not tried again: exit code 3."""

    def __init__(self, output: object, cause: object) -> None:
        super().__init__(
            "go on with", output, cause,
            "It was removed, moved or restored while strandline was running. Drops that it does not have are in the inbox. "
            "Put the right folder in its place, and start again.",
        )  # fmt: skip


class Stopped(StrandlineError):
    """The program was asked to stop in the middle of a batch. Nothing of the batch is visible; the next start finishes it."""


class Corruption(StrandlineError):
    """A stored file is not the one that the ledger names. The text has the file and the command that repairs it."""
