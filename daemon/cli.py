"""The command line: runs what it asks for, and turns errors into a line and an exit code. Its arguments, and what each command
does, are in commands.

Exit codes: 0 done; 1 done, but something was quarantined or left, a model is not up to date, an API could not be
read, or the run was stopped early; 2 usage or configuration; 3 the environment failed.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from io import TextIOWrapper

from . import serving
from .commands import administration, completion, copies, erasing, looking, mending, withdrawing
from .commands.parser import parser
from .commands.shared import ATTENTION, DONE, ENVIRONMENT, USAGE, commit, version
from .core import progress
from .core.errors import (
    Corruption,
    EnvironmentFault,
    UsageError,
    cause_of,
    escaped,
    file_of,
    is_out_of_memory,
    plain,
    raised_in,
)
from .operate.colours import of_level, wanted  # not where an error is told: then there may be no memory for it
from .stopping import release

_LITTLE_BYTES = 16 << 20

# These stop at a safe point; the others end at once.
_HANDLE_SIGNALS = (
    serving.serve,
    looking.plan,
    mending.rebuild,
    erasing.forget,
    looking.verify,
    looking.trace,
    looking.sql,
    mending.pull,
    administration.check,
    withdrawing.undo,
)
# These look at what is there, or mend it: an output that is missing or empty is a mistake, not the first run.
_NEED_OUTPUT = (
    looking.status,
    looking.usage,
    looking.verify,
    looking.trace,
    mending.rebuild,
    erasing.forget,
    mending.retry,
    looking.downstream,
    mending.refresh,
    looking.sql,
    looking.manifest,
    administration.pause,
    administration.resume,
    looking.history,
    mending.discard,
    copies.backup,
    withdrawing.undo,
)
# These read the configuration themselves, if at all: one writes it, another tells what is wrong with it.
_BEFORE_CONFIG = (administration.init, administration.check, completion.completion, looking.docs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit code. Expected errors are one clear line on standard error."""
    _print_anything()
    options = parser().parse_args(arguments)
    if options.run is not serving.serve and (options.once or options.since is not None):
        return _fail(USAGE, "--once and --since do not go with a command; remove them, or remove the command")
    if options.run not in _HANDLE_SIGNALS:
        release()
    exit_code = DONE
    try:
        exit_code = _run(options)
        print(end="", flush=True)  # report an error of standard output here, not at exit
        return exit_code
    except UsageError as error:
        return _fail(USAGE, str(error))
    except (EnvironmentFault, Corruption) as error:
        return _fail(ENVIRONMENT, str(error))
    except BrokenPipeError:  # the reader of our output closed it, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at exit
        return exit_code
    except OSError as error:
        where = f" on {file_of(error)}" if error.filename else ""
        return _fail(
            ENVIRONMENT,
            f"the system refused an operation{where}: {error.strerror or cause_of(error)}. "
            "Nothing is lost: remove the cause and start again",
        )
    except sqlite3.Error as error:
        from .storage import database

        cause, advice = database.shown(error), database.advice(error)
        return _fail(ENVIRONMENT, f"a file in state/ could not be read or written: {cause}. Nothing is lost. {advice}")
    except BrokenExecutor as error:
        return _fail(
            ENVIRONMENT,
            f"a worker process died ({cause_of(error)}), most likely because memory ran out. Nothing is lost: give it more "
            "memory or fewer [engine] workers, and start again",
        )
    except KeyboardInterrupt as error:
        if _little_memory_left():  # OpenBLAS interrupts the process where it gets no thread
            return _fail(ENVIRONMENT, _out_of_memory(error))
        return _fail(ATTENTION, "interrupted; archived drops are applied at the next start")
    except Exception as error:
        out_of_memory = is_out_of_memory(error) or _little_memory_left()
        return _fail(ENVIRONMENT, _out_of_memory(error) if out_of_memory else _unexpected(error))


def _print_anything() -> None:
    """A name of a file need not be text, nor fit the locale: what does not is shown escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _run(options: argparse.Namespace) -> int:
    if options.run in _BEFORE_CONFIG:
        return int(options.run(options))
    from .config import load

    config = load(options.config, os.environ)
    os.umask(config.paths.umask)  # of this process and those that it starts: what they make is the owner's
    if options.run in _NEED_OUTPUT:
        from .operate.presence import refuse_empty

        refuse_empty(config.paths.output)
    return int(options.run(config, options))


def _little_memory_left() -> bool:
    """Whether there is so little that this is why an error came that nobody foresaw: libraries raise any error then."""
    try:
        bytearray(_LITTLE_BYTES)
        return False
    except MemoryError:
        return True


def _out_of_memory(error: BaseException) -> str:
    cause = plain(str(error)) if is_out_of_memory(error) else ""  # anything else does not say why
    return (
        f"memory ran out{cause and f' ({cause})'}. Nothing is lost: give it more memory (and threads, if these are "
        "limited), fewer [engine] workers, or smaller batches ([batch] max_bytes), and start again"
    )


def _unexpected(error: Exception) -> str:
    """What to say of a mistake of the program, whose traceback goes into a file for the report."""
    file = _report(error)
    report = f"Please report this with {file}, which has the traceback" if file else "Please report this"
    return f"an unexpected error in {raised_in(error)}. Nothing is lost: archived drops are applied at the next start. {report}"


def _report(error: Exception) -> str:
    """Writes the traceback into a new file that this user alone may read; returns its path, or nothing where that fails."""
    try:
        import platform
        import traceback
        from tempfile import NamedTemporaryFile

        head = (
            f"strandline {version()} (commit {commit()}), Python {platform.python_version()}, {platform.platform()}\n"
        )
        with NamedTemporaryFile(
            "w", encoding="utf-8", errors="replace", prefix="strandline-error-", suffix=".txt", delete=False
        ) as file:
            file.write(head + "".join(traceback.format_exception(error)))
            return file.name
    except Exception:  # the first error is what must be told
        return ""


def _fail(code: int, message: str) -> int:
    progress.make_room()
    name = of_level("error", "strandline") if wanted(sys.stderr, os.environ) else "strandline"
    shown = "\n".join(map(escaped, message.split("\n")))  # it may have what somebody typed or dropped
    print(f"{name}: {shown}", file=sys.stderr)
    return code
