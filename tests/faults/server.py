"""Forks runs of the real command, or of another function that is named on the command line, from a process that has imported
everything. Requests and answers are lines of JSON."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.faults import COMMAND


def _imported(name: str) -> Callable[[Sequence[str]], int]:
    if name == COMMAND:
        from daemon.execution.process import prepare

        prepare()
        import tests.faults.mutants  # noqa: F401
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


def _run(request: dict[str, Any], stderr: int) -> int:
    os.setsid()  # a kill ends the whole process group
    os.chdir(request["home"])
    os.dup2(stderr, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if request["mutant"]:
        from tests.faults import mutants

        mutants.apply(request["mutant"])
    if request["control"]:
        ctypes.CDLL(None).faults_attach(os.fsencode(request["control"]))
    return MAIN(request["arguments"])


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    errors = os.memfd_create("stderr")
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = _run(request, errors)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            os.write(errors, traceback.format_exc().encode())
        finally:
            sys.stderr.flush()
            os._exit(code)
    until, ended = time.monotonic() + request["timeout"], 0
    while not ended and time.monotonic() < until:
        ended, waited = os.waitpid(child, os.WNOHANG)
        if not ended:
            time.sleep(0.002)
    if not ended:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.lseek(errors, 0, os.SEEK_SET)
    text = Path(f"/proc/self/fd/{errors}").read_bytes().decode(errors="replace")
    os.close(errors)
    return {"status": os.waitstatus_to_exitcode(waited) if ended else None, "stderr": text}


if __name__ == "__main__":
    MAIN = _imported(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)
