"""Clients that harm a server, as a process of their own: python -m tests.support.bad_clients KIND PORT NUMBER. For tests.

Each opens its connection again as soon as the server closes it. A line is written to standard output when all of them have begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from tests.support import REPO

Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
# A scrape waits ten seconds by default. On a machine that is busy with other work, only an answer that never comes is a failure.
LIMIT_SECONDS = 5.0 if os.environ.get("TEST_LONG") else 60.0
_ESTABLISHED = b"\x01"  # the first byte of TCP_INFO
_STATUS = b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def _drips(content: bytes, writer: asyncio.StreamWriter) -> None:
    while True:
        for byte in content:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(2)


async def slow_line(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte of the request every two seconds."""
    await _drips(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 1000, writer)


async def slow_body(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The same with a body."""
    writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\n")
    await _drips(b"x", writer)


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A request whose body never ends, as fast as it is read."""
    writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"400\r\n" + b"x" * 0x400 + b"\r\n")
        await writer.drain()


async def huge_header(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Headers that never end, as fast as they are read."""
    writer.write(b"GET / HTTP/1.1\r\n")
    while True:
        writer.write(b"X: " + b"x" * 1000 + b"\r\n")
        await writer.drain()


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Nothing is sent."""
    await reader.read()


async def deaf(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Asks for the longest answer, many times in one go, and reads nothing."""
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(_STATUS * 50)
    await asyncio.sleep(3600)


async def status(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Asks for the longest answer, and reads it."""
    writer.write(_STATUS)
    await reader.read()


async def quick(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Connects, asks, and leaves at once."""
    writer.write(_STATUS)


KINDS: dict[str, Client] = {
    one.__name__: one for one in (slow_line, slow_body, endless, huge_header, silent, deaf, status, quick)
}


async def _attack(client: Client, port: int, number: int) -> None:
    begun: set[int] = set()
    all_begun = asyncio.Event()

    async def again_and_again(this: int) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                begun.add(this)
                if len(begun) == number:
                    all_begun.set()
                talk = asyncio.ensure_future(client(reader, writer))
                closed = asyncio.ensure_future(_until_closed(writer))
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await asyncio.wait((talk, closed), return_when=asyncio.FIRST_COMPLETED)
                    for one in (talk, closed):
                        one.cancel()
                    await asyncio.gather(talk, closed, return_exceptions=True)
                writer.transport.abort()
            await asyncio.sleep(0.01)

    clients = [asyncio.ensure_future(again_and_again(this)) for this in range(number)]
    await all_begun.wait()
    print("begun", flush=True)
    await asyncio.gather(*clients)


async def _until_closed(writer: asyncio.StreamWriter) -> None:
    """Until the other side has closed the connection, though nobody reads it."""
    connection: socket.socket = writer.get_extra_info("socket")
    while connection.fileno() != -1 and connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == _ESTABLISHED:
        await asyncio.sleep(0.1)


@contextmanager
def attack(client: Client, port: int, number: int) -> Iterator[None]:
    """So many clients at once, while the block runs."""
    command = [sys.executable, "-m", "tests.support.bad_clients", client.__name__, str(port), str(number)]
    process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"begun\n"
        assert process.poll() is None
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    asyncio.run(_attack(KINDS[sys.argv[1]], int(sys.argv[2]), int(sys.argv[3])))
