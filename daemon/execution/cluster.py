"""A Dask cluster as an Executor: the same calls as on this machine, over an output folder that all machines share.

Dask runs a call again when its worker dies; the calls are idempotent (tasks.py). This module adds: a call that kills each worker
it is given raises BrokenExecutor, as on this machine; a scheduler that cannot be reached is a fault of the environment, and is
connected to again once it is back; a worker with another version or another folder is refused, at the start or, if it joins
later, at its first call.
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

from ..core.errors import EnvironmentFault, UsageError, cause_of

_WAIT_SECONDS = 15
_RECONNECT_SECONDS = 3  # short, since a running daemon tries again, and may be asked to stop
_RETRIES = 2  # of a failed call: a network file system may not show a new file yet
_OTHER_VERSION = errno.ENODEV  # retried: somebody may install the right version


@contextmanager
def connected(address: str, staging: Path, umask: int) -> Iterator[Cluster]:
    """The cluster of this scheduler; its workers make files under this umask. EnvironmentFault where it cannot be reached or its
    workers cannot do the work; UsageError where Dask is not installed."""
    cluster = Cluster(address, staging, umask)
    try:
        yield cluster
    finally:
        cluster.close()


def _client(address: str, staging: Path, wait_seconds: float, loop: Any) -> Any:
    """A connection to this scheduler. Its workers are checked."""
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
        _check_workers(client, address, staging, wait_seconds)
    except BaseException:
        client.close()
        raise
    return client


def _check_workers(client: Any, address: str, staging: Path, wait_seconds: float) -> None:
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
        answers = client.run(_version_and_view, token)
    except Exception as error:
        raise EnvironmentFault(
            "check the Dask workers of",
            address,
            cause_of(error),
            "Install strandline on all of them.",
        ) from None
    finally:
        token.unlink(missing_ok=True)
    for worker, (its_version, sees_output) in answers.items():
        if its_version != version:
            raise EnvironmentFault(
                "use the Dask worker", worker, f"it has version {its_version or 'none'} of strandline, and this is {version}",
                "Install the same version on all.",
            )  # fmt: skip
        if not sees_output:
            raise EnvironmentFault(
                "use the Dask worker", worker, f"it does not see {staging}",
                "The output folder must be shared, under the same path, by all workers.",
            )  # fmt: skip


def _version_and_view(token: Path) -> tuple[str, bool]:
    """Runs on a worker: its version, and whether it sees a file of the output folder."""
    return _version(), token.exists()


@lru_cache(maxsize=1)
def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("strandline")
    except metadata.PackageNotFoundError:
        return ""


def _on_a_worker(version: str, umask: int, function: Any, arguments: Any, options: Any) -> Any:
    """Runs a call on a worker that may have joined just now, unchecked. Another version might write other bytes. With another
    folder, a call fails to find its input before it writes anything."""
    if _version() != version:
        raise OSError(_OTHER_VERSION, f"the Dask worker on {socket.gethostname()} (pid {os.getpid()}) has version "
                      f"{_version() or 'none'} of strandline, and this is {version}; install the same on all")  # fmt: skip
    os.umask(umask)  # whoever started the worker
    try:
        return function(*arguments, **options)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            error.errno, f"{error.strerror} on {socket.gethostname()}, a Dask worker, which must see the output folder under "
            "the same path", error.filename
        ) from error  # fmt: skip


class Cluster(Executor):
    """Runs calls on the workers of a Dask cluster. While the scheduler cannot be reached, a call raises OSError (ENOTCONN)."""

    def __init__(self, address: str, staging: Path, umask: int) -> None:
        self._address, self._staging, self._umask = address, staging, umask
        self._lock = Lock()  # calls come from many threads; one of them reconnects
        self._connect(_WAIT_SECONDS, None)

    def _connect(self, wait_seconds: float, loop: Any) -> None:
        self._client = _client(self._address, self._staging, wait_seconds, loop)
        # Not pure: a call writes files, so an earlier result of an equal call is no substitute.
        self._executor = self._client.get_executor(pure=False, retries=_RETRIES)

    @property
    def cores(self) -> int:
        """The number of threads of all workers."""
        return max(1, sum(self._client.ncores().values()))

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        client, executor = self._connected()
        try:
            call = executor.submit(_on_a_worker, _version(), self._umask, function, arguments, options)
        except Exception as error:
            if client.status == "running":
                raise
            raise self._unreachable(error) from error  # the client was closed just now

        def pass_on(done: Future[Any]) -> None:
            error = CancelledError() if done.cancelled() else done.exception()
            with suppress(InvalidStateError):  # cancelled by the caller
                if error is None:
                    answer.set_result(done.result())
                else:
                    answer.set_exception(_as_local(error))

        call.add_done_callback(pass_on)
        answer.add_done_callback(lambda one: one.cancelled() and call.cancel())
        return answer

    def _connected(self) -> tuple[Any, Any]:
        """The client and its executor, connected. Dask tries to reconnect for _WAIT_SECONDS and then closes its client
        permanently. So a new client is made, on the event loop of the first, since each loop leaves a thread behind."""
        with self._lock:
            if self._client.status in ("connecting", "closing"):
                raise self._unreachable("the connection is lost")
            if self._client.status != "running":
                try:
                    self._connect(_RECONNECT_SECONDS, self._client.loop)
                except (EnvironmentFault, OSError) as error:
                    raise self._unreachable(error) from error
            return self._client, self._executor

    def _unreachable(self, cause: object) -> OSError:
        return OSError(errno.ENOTCONN, f"cannot use the Dask cluster at {self._address}: {cause}")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._executor.shutdown(wait=wait and not cancel_futures)

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()


def _as_local(error: BaseException) -> BaseException:
    """An error of the cluster as the error that the same failure has on this machine."""
    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    if isinstance(error, KilledWorker):
        return BrokenExecutor("the call killed each worker that it was given")
    if isinstance(error, CancelledError | CommClosedError):
        return OSError(errno.ENOTCONN, "the Dask cluster lost the call")
    if isinstance(error, ImportError):
        return OSError(
            _OTHER_VERSION, f"a Dask worker has no strandline, or an incomplete one ({error}); install it there"
        )
    return error
