"""Forks runs of the real command, or of another function that is named on the command line, from a process that has imported
everything. Requests and answers are lines of JSON.

A command imports most modules when it needs them. Here they are imported before the fork: imports would take two thirds of a run,
and they are no durable operations.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import pkgutil
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.faults import COMMAND

_LATER = (  # what the standard library imports when it is used
    "concurrent.futures.process", "_strptime", "gzip", "zipfile", "encodings.cp437", "encodings.utf_8_sig",
)  # fmt: skip
_NEVER = ("__main__", "._native", ".frames", ".pandas_runs", ".worker_main")  # no command imports these: pandas is slow


def _imported(name: str) -> Callable[[Sequence[str]], int]:
    if name == COMMAND:
        from daemon.execution.process import prepare

        prepare()
        _import_all()
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


def _import_all() -> None:
    import daemon
    import tests.faults.mutants  # noqa: F401

    for found in pkgutil.walk_packages(daemon.__path__, "daemon."):
        if not found.name.endswith(_NEVER):
            import_module(found.name)
    for name in _LATER:
        import_module(name)


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
    descriptor = os.pidfd_open(child)
    done = bool(select.select([descriptor], [], [], request["timeout"])[0])
    os.close(descriptor)
    if not done:
        os.killpg(child, signal.SIGKILL)
    _, waited = os.waitpid(child, 0)
    os.lseek(errors, 0, os.SEEK_SET)
    text = Path(f"/proc/self/fd/{errors}").read_bytes().decode(errors="replace")
    os.close(errors)
    return {"status": os.waitstatus_to_exitcode(waited) if done else None, "stderr": text}


if __name__ == "__main__":
    MAIN = _imported(sys.argv[1])
    gc.collect()
    gc.freeze()  # a collection in a child would copy the pages of everything that is imported
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)
