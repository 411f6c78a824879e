"""The command `strandline`, also as `python -m strandline`, and in a checkout as `python -m daemon`."""

import os
import sys

from .stopping import hold

# Made beforehand: where it is needed, there may be no memory for it.
_OUT_OF_MEMORY = b"strandline: memory ran out. Nothing is lost: give it more memory, and start again\n"


def run() -> None:
    """Runs the command line of this process, then exits. Signals stay pending until the command handles them."""
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what may follow; see commands/completion.py
        from argcomplete import autocomplete

        from .commands.parser import parser

        autocomplete(parser(), always_complete_options="long")  # ends the process
    hold()
    _open_streams()

    from .cli import main
    from .commands.shared import ENVIRONMENT

    try:
        exit_code = main()
    except (MemoryError, SystemError):
        # `main` reports every error. With too little memory the report fails as well, or the interpreter loses the error.
        os.write(2, _OUT_OF_MEMORY)
        exit_code = ENVIRONMENT
    sys.exit(exit_code)


def _open_streams() -> None:
    """Opens closed standard streams (some supervisors close them) on /dev/null. Otherwise another file gets their descriptor,
    and a library may write a message into it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 (open until the process exits)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    run()
