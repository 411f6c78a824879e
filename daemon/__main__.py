"""The command `strandline`, also as `python -m daemon`."""

from .stopping import hold, leave


def run() -> None:
    """Runs this process's command line, and ends the process. Signals wait from here on, until the command has said what they
    mean."""
    hold()

    from .cli import main

    leave(main())


if __name__ == "__main__":
    run()
