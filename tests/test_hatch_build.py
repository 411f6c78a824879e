"""How the C is compiled: with every compiler that is there, hardened, and with the options of whoever builds it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hatch_build
from tests.support import REPO
from tests.support.binaries import HARDENING, unhardened

COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
SOURCES = sorted((REPO / "daemon" / "core" / "native").glob("*.c"))


def built(into: Path) -> Path:
    library = into / "library.so"
    command = hatch_build.compiling(SOURCES, library, ['-DSOURCE_HASH="none"', "-Wall", "-Wextra", "-Werror"])
    subprocess.run(command, check=True)
    return library


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_library_is_hardened_and_compiles_without_a_warning(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By each compiler of this machine; test_installed shows the same of the wheel, which zig compiles."""
    monkeypatch.setenv("CC", compiler)
    assert unhardened(built(tmp_path)) == []


def test_the_options_of_the_builder_come_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a build for a sanitizer, or without hardening, is this one with $CFLAGS; and what shows hardening can fail."""
    monkeypatch.setenv("CFLAGS", "-U_FORTIFY_SOURCE -fno-stack-protector -Wl,-z,norelro,-z,lazy,-z,execstack")
    assert unhardened(built(tmp_path)) == list(HARDENING)


def test_no_sanitizer_is_silenced_but_the_one_that_zig_turns_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """zig traps what is undefined unless told otherwise; a build that asks for it gets it, from every compiler."""
    for name in ("CC", "CFLAGS", hatch_build.PLATFORM):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CFLAGS", "-fsanitize=address,undefined")
    for compiler in (*COMPILERS, ""):
        if compiler:
            monkeypatch.setenv("CC", compiler)
        else:
            monkeypatch.setenv(hatch_build.PLATFORM, "manylinux_2_17_x86_64")
        command = hatch_build.compiling(SOURCES, Path("library.so"), [])
        sanitizing = [word for word in command if "-fsanitize=" in word or "-fno-sanitize" in word]
        silenced = [] if compiler else ["-fno-sanitize=undefined"]
        assert sanitizing == [*silenced, "-fsanitize=address,undefined"]


def test_a_wheel_for_a_platform_is_compiled_by_zig_for_its_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever compiler the machine has: that one would link against the glibc of the machine."""
    monkeypatch.setenv("CC", "gcc")
    monkeypatch.setenv(hatch_build.PLATFORM, "manylinux_2_28_aarch64")
    assert hatch_build.own_compiler() is None
    assert hatch_build.zig()[:4] == [sys.executable, "-m", "ziglang", "cc"]
    assert hatch_build.zig()[-1] == "aarch64-linux-gnu.2.28"
    monkeypatch.setenv(hatch_build.PLATFORM, "win_amd64")
    with pytest.raises(SystemExit, match="manylinux_2_17_x86_64"):
        hatch_build.zig()
