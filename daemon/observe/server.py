"""The server under the HTTP endpoint: Waitress, with bounds that clients cannot pass.

One thread talks with all clients, so a slow one costs no thread. Each path is answered in a thread of its own, or in one with few
others, so nobody else waits for it. A connection is closed after one answer, after a deadline, or where there are too many: then
one that has waited long, so that a client that sends its request at once is always answered.
"""

from __future__ import annotations

import logging
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask
from waitress.wasyncore import dispatcher, loop

from ..core.errors import EnvironmentFault
from .http import ASKED, HEADERS

Application = Callable[[Mapping[str, Any], Callable[..., Any]], Iterable[bytes]]  # as WSGI has it
CLIENT_SECONDS = 10.0  # in which a client sends its request; and again, in which it takes the answer
CONNECTIONS = 200
LARGEST_REQUEST_BYTES = 16 << 10
_ACCEPTED = 16  # connections, between two looks at those that are open
_CLOSING_SECONDS = 1.0
_PAUSE_SECONDS = 0.02
_SENT_BYTES = 256 << 10  # at once: what cannot be sent is read again


class _Task(WSGITask):  # type: ignore[misc]
    def get_environment(self) -> dict[str, Any]:
        return {**super().get_environment(), ASKED: self.channel.asked}


class _ErrorTask(ErrorTask):  # type: ignore[misc]
    """Waitress's own answer, to a request that cannot be read, with the headers of ours."""

    def execute(self) -> None:
        self.response_headers.extend(HEADERS.items())
        super().execute()


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection. `thread`: the name of the one that it waits for, None while we wait for the client; `began`: since when;
    `asked`: when its request was complete."""

    task_class = _Task
    error_task_class = _ErrorTask
    thread: str | None = None

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self.began = self.asked = time.monotonic()
        super().__init__(*arguments, **more)
        self.sendbuf_len = _SENT_BYTES

    def readable(self) -> bool:
        """Called before each wait for clients. A connection that was closed just then must not be waited for: the next one may
        get its descriptor, and then its events, too."""
        return self.socket is not None and bool(super().readable())

    def writable(self) -> bool:
        return self.socket is not None and bool(super().writable())

    def service(self) -> None:
        """Answers the first request, and closes the connection: who sends many and reads no answer holds no thread."""
        self.requests[0].headers["CONNECTION"] = "close"
        super().service()
        self.began, self.thread = time.monotonic(), None


class _Threads:
    """The threads that paths are answered in, and one for all other paths. `names`: by path."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._by_name = {name: ThreadedTaskDispatcher() for name in {*names.values(), ""}}
        for one in self._by_name.values():
            one.set_thread_count(1)

    def add_task(self, channel: _Channel) -> None:
        path = getattr(channel.requests[0], "path", "")  # a request that cannot be read has none
        channel.thread = self._names.get(path, "")
        channel.asked = channel.began = time.monotonic()
        self._by_name[channel.thread].add_task(channel)

    def shutdown(self, seconds: float) -> bool:
        """Ends them after what they are answering; whether all ended in this time."""
        end = time.monotonic() + seconds
        for one in self._by_name.values():
            one.set_thread_count(0)
        for one in self._by_name.values():
            one.shutdown(cancel_pending=True, timeout=max(0.0, end - time.monotonic()))
        return not any(one.threads for one in self._by_name.values())


class _Server(TcpWSGIServer):  # type: ignore[misc]
    """One address that is listened on. All that it does is done in the thread that talks with clients."""

    channel_class = _Channel
    most_connections = CONNECTIONS
    lacks_files = False

    def handle_accept(self) -> None:
        for accepted in range(_ACCEPTED):
            before = len(self.active_channels)
            super().handle_accept()
            if len(self.active_channels) == before:
                self.lacks_files = not accepted  # there was one, and it could not be accepted
                break

    def readable(self) -> bool:
        """Called before each wait for clients. Closes what is too much: of the connections that wait for the same thread, or that
        we wait for, whichever are the most, the oldest. So many requests for one path harm nobody who asks for another."""
        if self.lacks_files:  # it is told of the connection again at once
            time.sleep(_PAUSE_SECONDS)
        most = len(self.active_channels) - 1 if self.lacks_files else self.most_connections
        self.lacks_files = False
        while len(open_ones := list(self.active_channels.values())) > max(0, most):
            ((thread, _),) = Counter(one.thread for one in open_ones).most_common(1)
            min((one for one in open_ones if one.thread == thread), key=lambda one: one.began).handle_close()
        return bool(super().readable())

    def maintenance(self, now: float) -> None:
        """Called once a second."""
        since = time.monotonic() - CLIENT_SECONDS
        for one in list(self.active_channels.values()):
            if one.thread is None and one.began < since:
                one.handle_close()

    @property
    def address(self) -> str:
        host, port = self.effective_host, self.effective_port
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def serving(answer: Application, names: Mapping[str, str], host: str, port: int) -> Iterator[str]:
    """Serves until the block ends; yields the addresses, for a name may have several. `names`: by path, the thread that answers
    it; all others share one. EnvironmentFault where an address is in use."""
    logging.getLogger("waitress").setLevel(logging.ERROR)  # clients that disconnect are not worth a line
    sockets: dict[int, dispatcher] = {}
    threads = _Threads(names)
    try:
        servers = _listening(answer, threads, sockets, host, port)
    except BaseException:
        threads.shutdown(_CLOSING_SECONDS)
        raise
    talking = threading.Thread(target=loop, args=(1.0, True, sockets), name="http", daemon=True)
    talking.start()
    try:
        yield ", ".join(server.address for server in servers)
    finally:
        trigger = servers[0].trigger  # what it is given runs in the thread that talks
        for server in servers:
            trigger.pull_trigger(lambda server=server: dispatcher.close(server))
        all_ended = threads.shutdown(_CLOSING_SECONDS)
        trigger.pull_trigger(lambda: _close(sockets))
        talking.join(_CLOSING_SECONDS)
        # A thread that still answers would write to a descriptor of another file.
        if all_ended and not talking.is_alive():
            for server in servers:
                server.trigger.close()


def _listening(
    answer: Application, threads: _Threads, sockets: dict[int, dispatcher], host: str, port: int
) -> list[_Server]:
    """A server for each address of the host."""
    try:
        settings = Adjustments(
            host=host, port=port, cleanup_interval=1, connection_limit=1 << 20, outbuf_overflow=1 << 30,
            max_request_header_size=LARGEST_REQUEST_BYTES, max_request_body_size=LARGEST_REQUEST_BYTES,
            ident="strandline", clear_untrusted_proxy_headers=True,
        )  # fmt: skip
        found = [
            _Server(answer, sockets, dispatcher=threads, adj=settings, sockinfo=address) for address in settings.listen
        ]
    except (OSError, ValueError) as error:  # ValueError: no such host
        for one in list(sockets.values()):
            one.close()
        cause = getattr(error, "strerror", None) or error
        raise EnvironmentFault(
            "serve HTTP on",
            f"{host}:{port}",
            cause,
            "Set [http] host and port to a free address, or enabled = false.",
        ) from error
    most = min(CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)  # the batch needs files, too
    for one in found:
        one.most_connections = max(4, most // len(found))
    return found


def _close(sockets: dict[int, dispatcher]) -> None:
    """Closes every connection, and ends the loop."""
    for one in list(sockets.values()):
        if isinstance(one, _Channel):
            one.handle_close()
    sockets.clear()
