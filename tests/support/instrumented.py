"""A copy of the checkout whose C is compiled with a sanitizer. The product loads the library beside its sources, so it needs no
hook."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support import REPO

COPIED = ("daemon", "tests", "examples", "benchmarks", "docs", "hatch_build.py", "pyproject.toml", "config.toml")
# Not _FORTIFY_SOURCE: a sanitizer checks the plain functions better.
SANITIZED = ("-g", "-fno-omit-frame-pointer", "-U_FORTIFY_SOURCE")
# Python and Arrow ask malloc for each text, so that a byte too many is seen. Python itself leaks at its end.
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
    "PYTHONMALLOC": "malloc",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}


def checkout(folder: Path, compiler: str, flags: Sequence[str]) -> Path:
    """Makes the copy, or makes it anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in COPIED:
        if (REPO / name).is_dir():
            shutil.copytree(REPO / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "_native.so"))
        else:
            shutil.copy(REPO / name, folder / name)
    environment = os.environ | {"CC": compiler, "CFLAGS": " ".join([*SANITIZED, *flags])}
    subprocess.run([sys.executable, folder / "hatch_build.py"], env=environment, check=True)
    return folder


def environment(preloaded: Sequence[str], **more: str) -> dict[str, str]:
    """The variables of a process that runs in the copy."""
    kept = {name: value for name, value in os.environ.items() if name not in ("CC", "CFLAGS")}
    return kept | ENVIRONMENT | {"LD_PRELOAD": ":".join(preloaded)} | more
