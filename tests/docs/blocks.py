"""The commands in the documentation: blocks of ```sh``` and ```console``` with what they show, and commands within sentences."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docs.build import pages
from tests.support import REPO

PAGES = [*pages(), REPO / "examples" / "README.md", REPO / "benchmarks" / "README.md"]
_BLOCK = re.compile(r"^( *)```([^\n]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(strandline [^`]+)`")


@dataclass(frozen=True)
class Block:
    """`line`: of its first line in the page, from 1."""

    page: str
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """`text`: what a shell runs. `shown`: the lines of output in the page, None where it shows none. `exit_code`: 0, or what the
    comment behind the command says ("exit code 1")."""

    page: str
    line: int
    text: str
    shown: tuple[str, ...] | None
    exit_code: int = 0

    @property
    def words(self) -> list[str]:
        """Without variables before it and comments behind it."""
        first = re.split(r"\s(?:<<|[>|]\s)", self.text.partition("\n")[0])[0]
        words = shlex.split(first, comments=True)
        while words and re.match(r"[A-Za-z_]\w*=", words[0]):
            words = words[1:]
        return words

    def __str__(self) -> str:
        return f"{self.page}, line {self.line}: {self.text}"


def blocks(page: Path) -> Iterator[Block]:
    """Every block of code of a page."""
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start()) + 2
        yield Block(str(page.relative_to(REPO)), line, found[2], found[3])


def commands(page: Path) -> list[Command]:
    """The commands of all sh and console blocks, in their order."""
    found = []
    for block in blocks(page):
        if block.language == "sh":
            found += _script(block)
        elif block.language == "console":
            found += _session(block)
    return found


def inline(page: Path) -> Iterator[str]:
    """Commands of strandline within sentences and tables."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    for found in _INLINE.findall(text):
        yield found.replace("\\|", "|")


def _script(block: Block) -> Iterator[Command]:
    lines = list(enumerate(block.text.splitlines(), block.line))
    while lines:
        number, line = lines.pop(0)
        if not line.strip() or line.startswith("#"):
            continue
        text = line
        if document := re.search(r"<<'(\w+)'", line):  # up to the word that ends it
            while True:
                text += "\n" + lines[0][1]
                if lines.pop(0)[1] == document[1]:
                    break
        yield Command(block.page, number, text, None, _exit_code(line))


def _session(block: Block) -> Iterator[Command]:
    lines = block.text.splitlines()
    starts = [at for at, line in enumerate(lines) if line.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        text, shown = lines[start][2:], tuple(lines[start + 1 : end])
        yield Command(block.page, block.line + start, text, shown, _exit_code(text))


def _exit_code(line: str) -> int:
    said = re.search(r"#.*\bexit code (\d)", line)
    return int(said[1]) if said else 0
