"""The history of an order: `strandline trace` in a process of its own, since it reads every raw copy. It has one worker, low
priority, a limit of time and of what it may say, and ends with this process; nothing that it does can hold up a batch.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import EnvironmentFault, Unavailable
from ...downstream.scratch import VARIABLE

_MAIN = Path(__file__).with_name("beside_main.py")
_NICENESS = 5
_MOST_BYTES = 16 << 20
_READ_BYTES = 1 << 16
_LONGEST_CAUSE = 500
_MAKE_ROOM = "To read the drops of an order, room on the disk is needed: make some, and load the page again."
_UNLIMITED = "`strandline trace` on the machine has no limit"


@dataclass(frozen=True, slots=True)
class Tracing:
    """`command`: that runs `trace --json --`, without the order. `environment`: of that process, as it is now. `seconds`: that it
    may take. `scratch`: a folder for its temporary files, which it cannot remove itself where it is killed."""

    command: Sequence[str]
    environment: Callable[[], Mapping[str, str]]
    seconds: float
    scratch: Callable[[], AbstractContextManager[Path]]

    def of(self, order_id: str) -> dict[str, Any]:
        """What `trace` says of an order. Unavailable where it takes too long, or fails; EnvironmentFault where there is no room
        for its temporary files."""
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(self.scratch())
            except OSError as error:
                raise EnvironmentFault(
                    "make the temporary folder", error.filename, error.strerror, _MAKE_ROOM
                ) from None
            return self._asked(order_id, {**self.environment(), VARIABLE: str(folder)})

    def _asked(self, order_id: str, environment: Mapping[str, str]) -> dict[str, Any]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_MAIN), str(os.getpid()), str(_NICENESS), *self.command, order_id],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            process_group=0,
        )  # fmt: skip
        try:
            said, complaint = self._all_of(process)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        try:
            return json.loads(said)
        except ValueError:
            lines = complaint.decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise Unavailable(f"`strandline trace` failed: {lines[-1][-_LONGEST_CAUSE:]}") from None

    def _all_of(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        """Its standard output and the end of its standard error."""
        assert process.stdout is not None and process.stderr is not None
        end = time.monotonic() + self.seconds
        said: dict[int, bytearray] = {one.fileno(): bytearray() for one in (process.stdout, process.stderr)}
        with selectors.DefaultSelector() as open_ones:
            for descriptor in said:
                open_ones.register(descriptor, selectors.EVENT_READ)
            while open_ones.get_map():
                for key, _ in open_ones.select(max(0.0, end - time.monotonic())):
                    part = os.read(key.fd, _READ_BYTES)
                    said[key.fd] += part
                    if not part:
                        open_ones.unregister(key.fd)
                if time.monotonic() > end:
                    raise Unavailable(f"to read every raw copy takes longer than {self.seconds:g} s; {_UNLIMITED}")
                if sum(map(len, said.values())) > _MOST_BYTES:
                    raise Unavailable(f"there is more to say than {_MOST_BYTES >> 20} MiB; {_UNLIMITED}")
        return bytes(said[process.stdout.fileno()]), bytes(said[process.stderr.fileno()])
