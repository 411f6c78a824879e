"""The main program of the process in which a command of a notification runs. It runs the command as its child, ends with the same
exit code, and ends it and all its children when the daemon is gone: a message that is sent again must not overtake itself.

python -I -S notify_command_main.py PARENT COMMAND [ARGUMENT …]
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
from contextlib import suppress

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # exit codes, as those of shells
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PARENT_IS_GONE = signal.SIGUSR1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    signal.signal(_PARENT_IS_GONE, lambda *_: os.killpg(0, signal.SIGKILL))
    with suppress(OSError, AttributeError):  # not Linux: a command outlives a daemon that is killed
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _PARENT_IS_GONE)
    # These are for the command, which this process waits for.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    if os.getppid() != parent:
        return
    child = os.fork()
    if child == 0:
        _become(command)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def _become(command: list[str]) -> None:
    """Executes the command in place of this process. It gets the usual signal handlers, which Python changes two of."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{error.strerror}\n".encode())
        os._exit(NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE)


if __name__ == "__main__":
    main()
