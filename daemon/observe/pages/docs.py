"""The documentation at `/docs/`. Each page that the program brings has an address, and there are no others: no path of a request
ever becomes one of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...operate import docs
from ..http import Answer, Document
from .rendering import Renderer

_INDEX = "/docs/"
_THREAD = "docs"


class DocsPages:
    """The answers of all pages. Each is kept until a file that it is made of changes."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer, self._pages = renderer, docs.pages()
        self._addresses = {path: _INDEX + name for name, path in self._pages.items()}
        self._kept: dict[str, tuple[list[int], Document]] = {}

    @property
    def answers(self) -> dict[str, Answer]:
        """By path."""
        answers: dict[str, Answer] = {_INDEX.rstrip("/"): _moved}
        answers[_INDEX] = partial(self._made, _INDEX, tuple(self._addresses), self._index)
        for path, address in self._addresses.items():
            answers[address] = partial(self._made, address, (path,), partial(self._page, path))
        return answers

    @property
    def threads(self) -> dict[str, str]:
        """The thread of each path."""
        return dict.fromkeys(self.answers, _THREAD)

    def _made(
        self, address: str, files: Sequence[Path], make: Callable[[], Document], _: Mapping[str, Any]
    ) -> Document:
        changed = [path.stat().st_mtime_ns for path in files]
        if address not in self._kept or self._kept[address][0] != changed:
            self._kept[address] = changed, make()
        return self._kept[address][1]

    def _index(self) -> Document:
        from .markdown import summary  # its library is slow to import, and most daemons are never asked

        groups: dict[str, list[dict[str, str]]] = {}
        for name, path in self._pages.items():
            text = docs.text_of(path)
            entry = {"address": _INDEX + name, "title": docs.title_of(text), "summary": summary(text)}
            groups.setdefault(docs.folder_of(name, self._pages).capitalize(), []).append(entry)
        return self._renderer.page("docs_index", {"here": _INDEX, "groups": groups})

    def _page(self, path: Path) -> Document:
        from .markdown import render

        text = docs.text_of(path)
        content, sections = render(text, path, self._addresses)
        values = {"here": self._addresses[path], "title": docs.title_of(text), "content": content, "sections": sections}
        return self._renderer.page("docs", values)


def _moved(_: Mapping[str, Any]) -> Document:
    return Document(b"", status="308 Permanent Redirect", headers={"Location": _INDEX})
