"""The documentation that comes with the program: its pages by name, and their sections, as Markdown.

The name of a page is its path below docs/ without the ending: RUNBOOK, sources/shopify; that of a README is its folder. A section
is named by the anchor of its heading, as in links. The changelog, which pages link to, is a page, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..core.errors import UsageError, instead_of, meant, shown

_CHANGELOG, _README = "CHANGELOG.md", "README.md"
_COMMENT = re.compile(r"^<!--.*?-->\n+", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"(#{1,6}) (.+)")
_LIST = "`strandline docs` lists all"
_BEFORE_NAME = re.compile(r"\A(?:.*\bdocs/|(?:\.{0,2}/)+)")  # of a page in a link: from another page, or of an alert
_AFTER_NAME = re.compile(r"(?:/README)?\.(?:md|html)\Z|/\Z", re.IGNORECASE)


def root() -> Path:
    """The folder that docs/ and the changelog are in: the package where it is installed, else the checkout."""
    package = Path(__file__).resolve().parents[1]
    return package if (package / "docs").is_dir() else package.parent


def pages() -> dict[str, Path]:
    """The files of all pages by name, in the order of an index: those of folders come last, each with its README first."""
    top = root()
    files = [*(top / "docs").rglob("*.md"), *top.glob(_CHANGELOG)]
    named = {_name(path.relative_to(top)): path for path in files}
    return dict(sorted(named.items(), key=lambda one: (folder_of(one[0], named), one[0])))


def folder_of(name: str, names: Iterable[str]) -> str:
    """The folder that a page is in, of all these; "" for none. A README is in the folder that it is named after."""
    first = name.partition("/")[0]
    return first if any(one.startswith(f"{first}/") for one in names) else ""


def text_of(path: Path) -> str:
    """The Markdown of a page, without comments for those who write it."""
    return _COMMENT.sub("", path.read_text(encoding="utf-8"))


def title_of(text: str) -> str:
    """The heading of a page, without marks."""
    return next((heading.replace("`", "") for _, heading, _ in _headings(text)), "")


def slug(heading: str) -> str:
    """The anchor of a heading, by GitHub's rule. `heading`: its text; marks of Markdown make no difference."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def asked(name: str) -> str:
    """What `strandline docs NAME` or `NAME#SECTION` prints. In any case; the last part of a name is enough where only one page
    has it, and what leads to a page elsewhere names it: a link of a page, or of an alert. UsageError where there is no such page
    or section."""
    wanted, _, anchor = name.partition("#")
    known = pages()
    page = _meant_page(_AFTER_NAME.sub("", _BEFORE_NAME.sub("", wanted)).lower(), known)
    if page is None:
        question = meant(wanted, [*known, *map(_last, known)])
        raise UsageError(f"the documentation has no page {shown(wanted)}; {f'{question} ' if question else ''}{_LIST}")
    text = text_of(known[page])
    return _section(text, page, slug(anchor)) if anchor else text


def table() -> str:
    """The names and titles of all pages, a line each, and what to do next."""
    titles = {name: title_of(text_of(path)) for name, path in pages().items()}
    width = max(map(len, titles), default=0)
    lines = [f"{name:{width}}  {title}" for name, title in titles.items()]
    after = "`strandline docs NAME` prints one, `strandline docs NAME#SECTION` a section; the daemon has them at /docs/"
    return "\n".join([*lines, "", after])


def _name(path: Path) -> str:
    """The name of the page in a file. `path`: below root()."""
    below = path.relative_to("docs") if path.parts[0] == "docs" else path
    return str(below.parent if below.name == _README else below.with_suffix(""))


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _meant_page(wanted: str, known: dict[str, Path]) -> str | None:
    whole = [name for name in known if name.lower() == wanted]
    parts = [name for name in known if _last(name).lower() == wanted]
    return next(iter(whole or (parts if len(parts) == 1 else [])), None)


def _section(text: str, page: str, anchor: str) -> str:
    """From a heading to the next one that is not below it."""
    found = [(level, slug(heading), start) for level, heading, start in _headings(text)]
    for at, (level, name, start) in enumerate(found):
        if name == anchor:
            end = next((later for below, _, later in found[at + 1 :] if below <= level), len(text))
            return text[start:end].rstrip() + "\n"
    names = [name for level, name, _ in found if level > 1]
    raise UsageError(f"{page} has no section {shown(anchor)}; {instead_of(anchor, names, 'there are')}")


def _headings(text: str) -> Iterator[tuple[int, str, int]]:
    """The level, the text and the position of each heading. Lines in blocks of code are none."""
    position, is_code = 0, False
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif not is_code and (found := _HEADING.fullmatch(line.rstrip())):
            yield len(found[1]), found[2], position
        position += len(line)
