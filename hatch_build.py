"""Compiles the C sources (daemon/core/native/*.[ch]) into one library when the package is installed, in place and in the wheel.

The compiler is $CC, else that of the machine, else the one in the package `ziglang`. Options in $CFLAGS come last, so they can
override any other. The library is plain C, loaded with ctypes: one build works with every Python version.

$STRANDLINE_WHEEL_PLATFORM names the platform of a wheel, such as manylinux_2_17_x86_64. The compiler is `ziglang` then, which
links against the glibc that this names, so that the wheel works on every system with that glibc or a later one.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

SOURCES, LIBRARY = "daemon/core/native/*.[ch]", "daemon/core/native/_native.so"
# In an editable installation the checkout is importable as `daemon`; this makes it importable under the name of the wheel, too.
ALIAS = """\
\"\"\"The package of a checkout, under its installed name.\"\"\"

__path__ = [{folder!r}]
"""
# What `strandline --version` names: of a checkout, daemon/commands/shared.py asks the same.
DESCRIBE = ("git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
OPTIONS = ("-std=c11", "-O3", "-shared", "-fPIC")
# A write past the end of a buffer ends the process, where the compiler knows the size of the buffer; a smashed stack does; and
# addresses of functions, which an attacker would overwrite, are read-only. Some systems define _FORTIFY_SOURCE themselves.
HARDENED = (
    "-U_FORTIFY_SOURCE",
    "-D_FORTIFY_SOURCE=3",
    "-fstack-protector-strong",
    "-Wl,-z,relro",
    "-Wl,-z,now",
    "-Wl,-z,noexecstack",
)
PLATFORM = "STRANDLINE_WHEEL_PLATFORM"


def own_compiler() -> list[str] | None:
    """The compiler of this machine; None also where a wheel for another glibc is wanted."""
    if os.environ.get(PLATFORM):
        return None
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    return [found] if found else None


def zig() -> list[str]:
    """The compiler in `ziglang`. By default it compiles for the processor of this machine, and traps what is undefined."""
    command = [sys.executable, "-m", "ziglang", "cc", "-mcpu=baseline", "-fno-sanitize=undefined"]
    if platform := os.environ.get(PLATFORM):
        named = re.fullmatch(r"manylinux_(\d+)_(\d+)_(\w+)", platform)
        if named is None:
            raise SystemExit(f"{PLATFORM} is {platform!r}; name one like manylinux_2_17_x86_64")
        command += ["-target", f"{named[3]}-linux-gnu.{named[1]}.{named[2]}"]
    return command


def compiling(source: Iterable[Path], library: Path, options: Iterable[str]) -> list[str]:
    """The command that makes a library. Options of the caller come last."""
    own = shlex.split(os.environ.get("CFLAGS", ""))
    return [*(own_compiler() or zig()), *OPTIONS, *HARDENED, *options, "-o", str(library), *map(str, source), *own]


def source_hash(sources: Iterable[Path]) -> str:
    """The SHA-256 of all sources together. The library contains it."""
    return hashlib.sha256(b"".join(source.read_bytes() for source in sorted(sources))).hexdigest()


def compile_library(root: Path) -> None:
    """Makes the library and renames it into place: a running process keeps the one that it has loaded."""
    sources, library = sorted(root.glob(SOURCES)), root / LIBRARY
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        define = f'-DSOURCE_HASH="{source_hash(sources)}"'
        command = compiling([one for one in sources if one.suffix == ".c"], made, [define])
        environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": f"{folder}/zig", "ZIG_LOCAL_CACHE_DIR": f"{folder}/zig"}
        ended = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        if ended.returncode:
            raise SystemExit(
                f"could not compile {SOURCES} with `{shlex.join(command)}`: {ended.stderr.strip()}\n"
                "Name a C compiler in the environment variable CC, or install one (or `pip install ziglang`)."
            )
        os.replace(made, library)


def commit(root: Path) -> str:
    """The commit of the sources: $SOURCE_COMMIT, where a build has no repository, or what git says; "" where neither knows."""
    if given := os.environ.get("SOURCE_COMMIT", "").strip():
        return given
    if not (root / ".git").exists() or not shutil.which("git"):  # git would look in the folders above
        return ""
    return subprocess.run(DESCRIBE, cwd=root, check=False, capture_output=True, text=True).stdout.strip()


class CustomBuildHook(BuildHookInterface):
    """The build hook of hatchling."""

    def dependencies(self) -> list[str]:
        """What an isolated build needs besides hatchling."""
        return [] if own_compiler() else ["ziglang>=0.13"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is built, an editable one too."""
        compile_library(Path(self.root))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{os.environ.get(PLATFORM) or next(iter(platform_tags()))}"
        build_data["artifacts"].append(LIBRARY)
        if version == "editable":
            self._add_alias(build_data)
        elif known := commit(Path(self.root)):
            self._add("commit.txt", known, "strandline/commit.txt", build_data["force_include"])

    def _add_alias(self, build_data: dict[str, Any]) -> None:
        text = ALIAS.format(folder=str(Path(self.root) / "daemon"))
        self._add("alias.py", text, "strandline/__init__.py", build_data["force_include_editable"])

    def _add(self, name: str, text: str, as_path: str, files: dict[str, str]) -> None:
        """Writes a file beside what is built, and adds it to the wheel."""
        path = Path(self.directory) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        files[str(path)] = as_path


if __name__ == "__main__":
    compile_library(Path(__file__).parent)
