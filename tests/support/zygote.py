"""Runs commands in processes that are forked from one that has imported everything: most of the time of a command was imports.

Each command is still a process of its own, with its folder, environment, umask, streams and exit code, and ends as Python does.
What depends on how an interpreter starts (its variables, closed streams, another user, signals during imports) must start one.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.support import REPO

# Variables that are read once, at the start of an interpreter.
_OF_THE_INTERPRETER = ("LD_", "PYTHON", "MALLOC", "OPENBLAS", "ARROW", "GLIBC", "OMP")
_START = "import sys; from tests.support.zygote import serve; sys.exit(serve(int(sys.argv[1])))"


def run(
    words: Sequence[str], cwd: Path, env: Mapping[str, str], timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """What `python -m daemon WORDS` gives, as subprocess.run has it. Raises TimeoutExpired."""
    if _of_the_interpreter(env) != _of_the_interpreter(_variables()):
        command = [sys.executable, "-m", "daemon", *words]
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False)
    umask = os.umask(0)
    os.umask(umask)
    request = {"words": list(words), "cwd": str(cwd), "env": dict(env), "umask": umask}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors, _zygote().connected() as connection:
        connection.settimeout(timeout)
        socket.send_fds(connection, [b"r"], [output.fileno(), errors.fileno()])
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile() as answers:
            pid = int(answers.readline())
            try:
                status = int(answers.readline())
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(words), timeout) from None
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(
            list(words), os.waitstatus_to_exitcode(status), output.read().decode(), errors.read().decode()
        )


def _of_the_interpreter(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_OF_THE_INTERPRETER)}


def _variables() -> dict[str, str]:
    return dict(_zygote().variables)


class _Zygote:
    """The process, and the socket on which it takes commands. It ends when this process does, whose end of a pipe it watches."""

    def __init__(self) -> None:
        self.variables = os.environ | {"PYTHONPATH": str(REPO)}
        self._address = f"\0strandline-tests-{os.getpid()}"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._address)
            listener.listen(16)
            command = [sys.executable, "-c", _START, str(listener.fileno())]
            self.process = subprocess.Popen(
                command, cwd=REPO, env=self.variables, stdin=subprocess.PIPE, pass_fds=[listener.fileno()]
            )

    def connected(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._address)
        return connection


@cache
def _zygote_of(_pid: int) -> _Zygote:
    return _Zygote()


def _zygote() -> _Zygote:
    return _zygote_of(os.getpid())


# ---------------------------------------------------------------------------------------------- in the zygote's process


def serve(listening: int) -> int:
    """Takes commands until its parent ends. In a forked process, returns the exit code of the command."""
    _import_everything()
    gc.freeze()  # so that collections of the commands' processes leave the pages alone that are shared
    waker, wake = socket.socketpair()
    for one in (waker, wake):
        one.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, socket.socket] = {}
    with socket.socket(fileno=listening) as listener, selectors.DefaultSelector() as selector:
        for one in (sys.stdin.fileno(), listener, waker):
            selector.register(one, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if sys.stdin.fileno() in ready:
                return 0
            if waker in ready:
                waker.recv(4096)
                _reap(running)
            if listener in ready:
                connection, _ = listener.accept()
                made = _forked(connection)
                if made is None:  # the command's process
                    command = _command(connection, [listener, waker, wake, *running.values()])
                    break
                running[made] = connection
    return command()


def _import_everything() -> None:
    from daemon import cli, reloading, service, wiring  # noqa: F401
    from daemon.execution import preloaded  # noqa: F401 (first: it prepares the process)
    from daemon.operate import backup, check, history, plan, rebuild, status, trace, verify  # noqa: F401


def _reap(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with running.pop(pid) as connection:
            connection.sendall(b"%d\n" % status)


def _forked(connection: socket.socket) -> int | None:
    """The process of a command; None in that process."""
    pid = os.fork()
    if not pid:
        return None
    connection.sendall(b"%d\n" % pid)
    return pid


def _command(connection: socket.socket, others: Sequence[socket.socket]) -> Callable[[], int]:
    """Makes this process that of a command."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(connection, 1, 2)
    with connection, connection.makefile() as lines:
        request = json.loads(lines.readline())
    for one in others:
        one.close()
    for number, stream in enumerate([os.open(os.devnull, os.O_RDONLY), *streams]):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    os.umask(request["umask"])
    os.chdir(request["cwd"])

    def run() -> int:
        from daemon.cli import main
        from daemon.stopping import hold

        hold()
        sys.argv = ["strandline", *request["words"]]
        return main(request["words"])

    return run
