"""The documentation at `/docs/`. Each page that the program brings has an address, and there are no others: no path of a request
ever becomes one of a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ...operate import docs
from ..http import Answer, Document
from .rendering import Renderer

INDEX = "/docs/"
_THREAD = "docs"


class DocsPages:
    """The answers of all pages. What a file becomes is kept until the file changes."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer, self._pages = renderer, docs.pages()
        self._addresses = {path: INDEX + name for name, path in self._pages.items()}
        self._made: dict[Path, tuple[int, Document]] = {}

    @property
    def answers(self) -> dict[str, Answer]:
        """By path."""
        pages: dict[str, Answer] = {INDEX + name: partial(self._page, path) for name, path in self._pages.items()}
        return {INDEX: self._index, INDEX.rstrip("/"): _moved, **pages}

    @property
    def threads(self) -> dict[str, str]:
        """The thread of each path."""
        return dict.fromkeys(self.answers, _THREAD)

    def _index(self, _: Mapping[str, Any]) -> Document:
        from .markdown import summary

        groups: dict[str, list[dict[str, str]]] = {}
        for name, path in self._pages.items():
            text = docs.text_of(path)
            entry = {"address": INDEX + name, "title": docs.title_of(text), "summary": summary(text)}
            groups.setdefault(docs.folder_of(name, self._pages).capitalize(), []).append(entry)
        return self._renderer.page("docs_index", {"here": INDEX, "groups": groups})

    def _page(self, path: Path, _: Mapping[str, Any]) -> Document:
        changed = path.stat().st_mtime_ns
        if path not in self._made or self._made[path][0] != changed:
            self._made[path] = changed, self._rendered(path)
        return self._made[path][1]

    def _rendered(self, path: Path) -> Document:
        from .markdown import render  # its library is slow to import, and most daemons are never asked

        text = docs.text_of(path)
        content, sections = render(text, path, self._addresses)
        values = {"here": self._addresses[path], "title": docs.title_of(text), "content": content, "sections": sections}
        return self._renderer.page("docs", values)


def _moved(_: Mapping[str, Any]) -> Document:
    return Document(b"", status="308 Permanent Redirect", headers={"Location": INDEX})
