"""`python -m daemon` is the command `strandline`. Signals wait from here on, until the command has said what they mean."""

import sys

from .stopping import hold

if __name__ == "__main__":
    hold()

    from .cli import main

    sys.exit(main())
