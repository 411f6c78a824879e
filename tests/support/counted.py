"""A build of the C that counts its work and its allocations, and lets one of them fail. It takes the place of the usual one.

The compiler inserts a call before each basic block, and the linker one around `realloc`, so the sources have no hook for it. What
is counted is exact and the same on each run; a function of libc (memcpy, memchr) counts as one step.
"""

from __future__ import annotations

import ctypes
import gc
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import hatch_build
from daemon.core.merge import keys
from daemon.core.native import bindings
from tests.support import REPO

NATIVE = REPO / "daemon" / "core" / "native"
COUNTING = REPO / "tests" / "core" / "native" / "counted.c"


class Counted:
    """The library."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._plain = ctypes.CDLL(str(path))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bindings, "LIBRARY", path)
            self._library = bindings._load()

    def _variable(self, name: str) -> Any:
        return ctypes.c_int64.in_dll(self._plain, f"counted_{name}")

    @property
    def steps(self) -> int:
        """Basic blocks that were executed in use."""
        return self._variable("steps").value

    @property
    def allocations(self) -> int:
        """Allocations in use."""
        return self._variable("allocations").value

    @property
    def live(self) -> int:
        """Blocks of memory that were allocated in use and not freed."""
        return self._variable("live").value

    @contextmanager
    def in_use(self, *, failing: int = 0, lasting: bool = False) -> Iterator[None]:
        """Bindings call this library. The allocation with the number `failing` fails; `lasting`: all after it do, too."""
        counts = {"steps": 0, "allocations": 0, "live": 0, "failing": failing, "lasting": lasting}
        for name, value in counts.items():
            self._variable(name).value = value
        bindings._tables_of.cache_clear()  # tables point to functions of the library
        gc.disable()  # a collection may free what other tests allocated, and that would count, too
        try:
            with pytest.MonkeyPatch.context() as patch:
                for module in (bindings, keys):
                    patch.setattr(module, "library", self._library)
                for owner, release in ((bindings._ScanMemory, "release"), (bindings._SpanMemory, "release_spans")):
                    patch.setattr(owner.__del__, "__defaults__", (getattr(self._library, f"strandline_{release}"),))
                yield
        finally:
            gc.enable()
            bindings._tables_of.cache_clear()
            self._variable("failing").value = 0


def build(folder: Path) -> Counted:
    """Compiles it with this machine's compiler."""
    compiler = hatch_build.own_compiler()
    if compiler is None or shutil.which(compiler[0]) is None:
        pytest.skip("there is no C compiler")
    counting, library = folder / "counted.o", folder / "counted.so"
    subprocess.run([*compiler, "-O2", "-fPIC", "-c", str(COUNTING), "-o", str(counting)], check=True)
    options = [
        '-DSOURCE_HASH="counted"',
        "-fsanitize-coverage=trace-pc",
        "-Wl,--wrap=realloc,--wrap=free",
        str(counting),
    ]
    subprocess.run(hatch_build.compiling(sorted(NATIVE.glob("*.c")), library, options), check=True)
    return Counted(library)
