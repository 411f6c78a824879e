"""`make docs`: the documentation as a site, in build/site, of the pages as they are in the repository.

The pages and what they link to are gathered under build/site-source with the same relative paths, so one link works in the
repository and on the site. Then Zensical builds it in strict mode: a page or a heading that does not exist is an error. What it
does not look at (links to files that are no pages, and whether each page can be reached) is checked here.

Zensical, because MkDocs 1 is not maintained any more. It runs no code of ours, so generated pages are committed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
SOURCE, SITE = REPO / "build" / "site-source", REPO / "build" / "site"
_TOP = ("README", "ARCHITECTURE", "CHANGELOG", "CODE_OF_CONDUCT", "CONTRIBUTING", "SECURITY")
_LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def pages() -> list[Path]:
    """Every page, those outside docs/ first."""
    return [*(REPO / f"{name}.md" for name in _TOP), *sorted((REPO / "docs").rglob("*.md"))]


def links(page: Path) -> Iterator[Path]:
    """The files of the repository that a page links to. A link that begins with a scheme leads elsewhere."""
    for target in _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8"))):
        if not re.match(r"[a-z]+:", target):
            yield (page.parent / target).resolve()


def problems() -> list[str]:
    """What is wrong with links and with the list of pages in zensical.toml."""
    found = []
    for page in pages():
        for target in links(page):
            if not target.is_relative_to(REPO) or not target.is_file():
                found.append(f"{page.relative_to(REPO)} links to {target}, which is no file of the repository")
    listed = set(_listed(tomllib.loads((REPO / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]))
    records = REPO / "docs" / "decisions"  # their README lists them
    for page in pages():
        name = str(page.relative_to(REPO))
        if page.parent == records and page.name != "README.md":
            continue
        if name not in listed:
            found.append(f"{name} is not in the list `nav` of zensical.toml")
    return found


def _listed(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for one in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _listed(one)


def gather() -> None:
    """Copies the pages, and the files that they link to."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    wanted = set(pages()) | set((REPO / "docs").rglob("*.svg")) | set((REPO / "docs").rglob("*.png"))
    for page in pages():
        wanted.update(links(page))
    for path in sorted(wanted):
        target = SOURCE / path.relative_to(REPO)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def main() -> int:
    """Builds the site; the exit code."""
    if found := problems():
        print("\n".join(found), file=sys.stderr)
        return 1
    gather()
    shutil.rmtree(SITE, ignore_errors=True)
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
    return subprocess.run(command, cwd=REPO, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
