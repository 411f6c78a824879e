"""A Dask cluster as an Executor: the same calls as on this machine, over an output folder that all machines share.

Dask runs a call again where its worker died, so the calls must be idempotent, and they are (tasks.py). What is added here: a
call that kills every worker it is given looks as it does locally (BrokenExecutor); a scheduler that cannot be reached is a
fault of the environment, at the start and later, and is connected with again once it is back; and a worker that cannot do
the work (another version, another folder) is refused: those that are there at once, those that join later at their first call.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, InvalidStateError
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

from ..core.errors import EnvironmentFault, UsageError

_WAIT_SECONDS = 15
_WAIT_AGAIN_SECONDS = 3  # while a daemon runs, which tries again anyway, and may be asked to stop
_RETRIES = 2  # of a call that fails by itself, say by a file that a network file system does not show yet
_OTHER_VERSION = errno.ENODEV  # may pass: somebody installs the right one


@contextmanager
def connected(address: str, staging: Path) -> Iterator[Cluster]:
    """The cluster with this scheduler. EnvironmentFault where it is not there, or its workers cannot do the work;
    UsageError where Dask is not installed."""
    cluster = Cluster(address, staging)
    try:
        yield cluster
    finally:
        cluster.close()


def _client(address: str, staging: Path, wait_seconds: float, loop: Any) -> Any:
    """A connection to this scheduler, whose workers can do the work."""
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise UsageError(
            f"[engine] scheduler is {address!r}, and Dask is not installed here: `pip install 'strandline[cluster]'`"
        ) from None
    try:
        client = Client(address, timeout=wait_seconds, set_as_default=False, loop=loop)
    except (OSError, ValueError) as error:
        raise EnvironmentFault(
            "reach the Dask scheduler at", address, error or "no answer",
            'Start it, or set [engine] scheduler to "" to work on this machine alone.',
        ) from None  # fmt: skip
    try:
        _look_at_workers(client, address, staging, wait_seconds)
    except BaseException:
        client.close()
        raise
    return client


def _look_at_workers(client: Any, address: str, staging: Path, wait_seconds: float) -> None:
    try:
        client.wait_for_workers(1, timeout=wait_seconds)
    except TimeoutError:
        raise EnvironmentFault(
            "use the Dask cluster at", address, f"no worker joined within {wait_seconds} s", "Start one."
        ) from None
    version = _version()
    token = staging / f"seen-{uuid4().hex}"
    token.touch()
    try:
        answers = client.run(_what_a_worker_has, token)
    except Exception as error:
        raise EnvironmentFault(
            "look at the Dask workers of",
            address,
            str(error) or type(error).__name__,
            "Install strandline on all of them.",
        ) from None
    finally:
        token.unlink(missing_ok=True)
    for worker, (its_version, sees_output) in answers.items():
        if its_version != version:
            raise EnvironmentFault(
                "use the Dask worker", worker, f"it has version {its_version or 'none'} of strandline, and this is {version}",
                "Install the same on all.",
            )  # fmt: skip
        if not sees_output:
            raise EnvironmentFault(
                "use the Dask worker", worker, f"it does not see {staging}",
                "The output folder must be shared, under the same path, by all workers.",
            )  # fmt: skip


def _what_a_worker_has(token: Path) -> tuple[str, bool]:
    return _version(), token.exists()


@lru_cache(maxsize=1)
def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("strandline")
    except metadata.PackageNotFoundError:
        return ""


def _on_a_worker(version: str, function: Any, arguments: Any, options: Any) -> Any:
    """A call, on a worker that nobody may have looked at: it may have joined a moment ago. Another version might make other
    bytes. Where the folder is not the same, a call misses what it is to read, before it writes anything."""
    if _version() != version:
        raise OSError(_OTHER_VERSION, f"the Dask worker on {socket.gethostname()} (pid {os.getpid()}) has version "
                      f"{_version() or 'none'} of strandline, and this is {version}; install the same on all")  # fmt: skip
    try:
        return function(*arguments, **options)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            error.errno, f"{error.strerror} on {socket.gethostname()}, a Dask worker, which must see the output folder under "
            "the same path", error.filename
        ) from error  # fmt: skip


class Cluster(Executor):
    """Calls that run on the workers of a Dask cluster. Where its scheduler is away, a call is OSError (ENOTCONN)."""

    def __init__(self, address: str, staging: Path) -> None:
        self._address, self._staging = address, staging
        self._lock = Lock()  # calls come from many threads, and one of them connects again
        self._connect(_WAIT_SECONDS, None)

    def _connect(self, wait_seconds: float, loop: Any) -> None:
        self._client = _client(self._address, self._staging, wait_seconds, loop)
        # Never pure: a call is made for what it writes, too, and must not be answered from what an equal one gave before.
        self._executor = self._client.get_executor(pure=False, retries=_RETRIES)

    @property
    def cores(self) -> int:
        """Threads of all workers."""
        return max(1, sum(self._client.ncores().values()))

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        client, executor = self._present()
        try:
            call = executor.submit(_on_a_worker, _version(), function, arguments, options)
        except Exception as error:
            if client.status == "running":
                raise
            raise self._away(error) from error  # it was closed just now

        def pass_on(done: Future[Any]) -> None:
            error = CancelledError() if done.cancelled() else done.exception()
            with suppress(InvalidStateError):  # nobody waits for it any more
                if error is None:
                    answer.set_result(done.result())
                else:
                    answer.set_exception(_as_local(error))

        call.add_done_callback(pass_on)
        answer.add_done_callback(lambda one: one.cancelled() and call.cancel())
        return answer

    def _present(self) -> tuple[Any, Any]:
        """The client and its executor, connected. Dask itself tries for _WAIT_SECONDS to come back, and closes its client then,
        for good; so a new one is made, on the thread of the first (each would leave one behind)."""
        with self._lock:
            if self._client.status in ("connecting", "closing"):
                raise self._away("the connection is lost")
            if self._client.status != "running":
                try:
                    self._connect(_WAIT_AGAIN_SECONDS, self._client.loop)
                except (EnvironmentFault, OSError) as error:
                    raise self._away(error) from error
            return self._client, self._executor

    def _away(self, cause: object) -> OSError:
        return OSError(errno.ENOTCONN, f"the Dask cluster at {self._address} cannot be used now: {cause}")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._executor.shutdown(wait=wait and not cancel_futures)

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()


def _as_local(error: BaseException) -> BaseException:
    """An error of the cluster as the one that work on this machine would raise."""
    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    if isinstance(error, KilledWorker):
        return BrokenExecutor("a call ended each worker that it was given")
    if isinstance(error, CancelledError | CommClosedError):
        return OSError(errno.ENOTCONN, "the Dask cluster lost the call")
    if isinstance(error, ImportError):
        return OSError(
            _OTHER_VERSION, f"a Dask worker has no strandline, or an incomplete one ({error}); install it there"
        )
    return error
