"""`make run`: the daemon over `inbox/` of this checkout, and where to drop files and where to look."""

from __future__ import annotations

import os
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))  # runs from a checkout, installed or not


def main() -> None:
    from daemon.config import load

    os.chdir(REPO)
    config = load(None, os.environ)
    address = f"http://{config.http.host}:{config.http.port}"
    inbox, output = config.paths.inbox.resolve(), config.paths.output.resolve()
    print(
        f"""
  Drop files into   {inbox}
                    such as:  cp examples/*.json examples/*.csv {inbox}/
  Look into         {output}/curated      the result, by date
                    {output}/receipts     what became of each drop
                    {output}/quarantine   what could not be read, and why
  Or ask            {address}/metrics   and   strandline status
  Stop it with      Ctrl-C
""",
        flush=True,
    )
    os.execv(sys.executable, [sys.executable, "-m", "daemon"])  # so that signals reach the daemon itself


if __name__ == "__main__":
    main()
