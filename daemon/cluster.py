"""A Dask cluster as an Executor: the same calls as on this machine, over an output folder that all machines share.

Dask runs a call again where its worker died, so the calls must be idempotent, and they are (tasks.py). What is added here: a
call that kills every worker it is given looks as it does locally (BrokenExecutor), a scheduler that cannot be reached is a
fault of the environment, and workers that cannot do the work (another version, another folder) are refused at the start.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, InvalidStateError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from .core.errors import EnvironmentFault, UsageError

_WAIT_SECONDS = 15
_RETRIES = 2  # of a call that fails by itself, say by a file that a network file system does not show yet


@contextmanager
def connected(address: str, staging: Path) -> Iterator[Cluster]:
    """The cluster with this scheduler. EnvironmentFault where it is not there, or its workers cannot do the work;
    UsageError where Dask is not installed."""
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise UsageError(
            f"[engine] scheduler is {address!r}, and Dask is not installed here: `pip install 'strandline[cluster]'`"
        ) from None
    try:
        client = Client(address, timeout=_WAIT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise EnvironmentFault(
            "reach the Dask scheduler at", address, error or "no answer",
            'Start it, or set [engine] scheduler to "" to work on this machine alone.',
        ) from None  # fmt: skip
    try:
        _look_at_workers(client, address, staging)
        yield Cluster(client)
    finally:
        client.close()


def _look_at_workers(client: Any, address: str, staging: Path) -> None:
    try:
        client.wait_for_workers(1, timeout=_WAIT_SECONDS)
    except TimeoutError:
        raise EnvironmentFault(
            "use the Dask cluster at", address, f"no worker joined within {_WAIT_SECONDS} s", "Start one."
        ) from None
    version = _version()
    token = staging / f"seen-{uuid4().hex}"
    token.touch()
    try:
        answers = client.run(_what_a_worker_has, token)
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


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("strandline")
    except metadata.PackageNotFoundError:
        return ""


class Cluster(Executor):
    """Calls that run on the workers of a Dask cluster."""

    def __init__(self, client: Any) -> None:
        self._client = client
        # Never pure: a call is made for what it writes, too, and must not be answered from what an equal one gave before.
        self._executor = client.get_executor(pure=False, retries=_RETRIES)

    @property
    def cores(self) -> int:
        """Threads of all workers."""
        return max(1, sum(self._client.ncores().values()))

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        call = self._executor.submit(function, *arguments, **options)

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

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._executor.shutdown(wait=wait and not cancel_futures)


def _as_local(error: BaseException) -> BaseException:
    """An error of the cluster as the one that work on this machine would raise."""
    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    if isinstance(error, KilledWorker):
        return BrokenExecutor("a call ended each worker that it was given")
    if isinstance(error, CancelledError | CommClosedError):
        return OSError(errno.ENOTCONN, "the Dask cluster lost the call")
    return error
