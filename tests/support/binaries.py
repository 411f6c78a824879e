"""What the headers and symbols of a compiled library say about how it was built."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

# By name: whether `readelf` shows it. Of the functions that the C uses, compilers fortify memcpy where keys are prepared: part of
# an array of a known size is written there. Other calls write to memory whose size no compiler knows, or only read.
HARDENING: dict[str, Callable[[str], bool]] = {
    "relocations are read-only": lambda text: "GNU_RELRO" in text,
    "all symbols are bound at load time": lambda text: "BIND_NOW" in text or "Flags: NOW" in text,
    "the stack is not executable": lambda text: _flags(text, "GNU_STACK") == "RW",
    "a smashed stack ends the process": lambda text: "__stack_chk_fail" in text,
    "a write past a buffer of known size ends the process": lambda text: "__memcpy_chk" in text,
}


def unhardened(library: Path) -> list[str]:
    """The names of HARDENING that a library lacks."""
    text = _read(library)
    return [name for name, holds in HARDENING.items() if not holds(text)]


def imported(library: Path) -> set[str]:
    """The functions that a library takes from others."""
    rows = [line.split() for line in _read(library).splitlines()]
    return {row[7].partition("@")[0] for row in rows if len(row) > 7 and row[6] == "UND"}


def _read(library: Path) -> str:
    command = ["readelf", "--wide", "--segments", "--dynamic", "--symbols", str(library)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _flags(text: str, segment: str) -> str:
    (row,) = (line.split() for line in text.splitlines() if line.split()[:1] == [segment])
    return "".join(part for part in row[6:-1] if not part.startswith("0x"))
