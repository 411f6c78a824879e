"""The command `strandline`, also as `python -m strandline`, and in a checkout as `python -m daemon`."""

import os
import sys

from .stopping import hold


def run() -> None:
    """Runs this process's command line, and ends the process. Signals wait from here on, until the command has said what they
    mean."""
    hold()
    _open_streams()

    from .cli import main

    sys.exit(main())


def _open_streams() -> None:
    """Where standard streams are closed (some supervisors do that), what is said goes nowhere. Their numbers must not become free
    for other files, into which a library might write a message then."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 (for as long as the process is)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    run()
