"""Becomes a command that runs beside the batches: with low priority, and killed when the process that asked for it is gone.

python -I -S beside_main.py PARENT NICENESS COMMAND [ARGUMENT …]
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    parent, niceness, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    os.nice(niceness)
    with suppress(OSError, AttributeError):  # not Linux: it goes on until it is done
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # execv keeps it
    if os.getppid() == parent:
        os.execv(command[0], command)


if __name__ == "__main__":
    main()
