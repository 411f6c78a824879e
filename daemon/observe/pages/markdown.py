"""Markdown to HTML, for the pages of the documentation: headings have the ids that GitHub gives them, links lead to where files
are served, and HTML within Markdown is text.
"""

from __future__ import annotations

import base64
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

from ...operate.docs import slug

_PICTURES = {".png": "image/png", ".svg": "image/svg+xml"}
_SCHEME = re.compile(r"[a-z]+:")
_SENTENCE = re.compile(r"\S+ .*?\.(?=\s|$)")


def render(text: str, path: Path, addresses: Mapping[Path, str]) -> tuple[Markup, list[tuple[str, str]]]:
    """The HTML of a page, and the id and the text of each of its sections. `path`: of its file. `addresses`: where each file is
    served; a link to another one becomes text."""
    markdown = _markdown()
    tokens = markdown.parse(text)
    sections = _with_ids(tokens)
    for number, token in enumerate(one for one in tokens if one.type == "table_open"):
        token.meta["label"] = f"Table {number + 1}"
    for before, one, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if before.type == "th_open":
            _mark_column(before, one, after)
        _lead(one.children or (), path, addresses)
    return Markup(markdown.renderer.render(tokens, markdown.options, {})), sections


def summary(text: str) -> str:
    """The first sentence of a page that is no heading; "" where it has none."""
    tokens = _markdown().parse(text.partition("\n## ")[0])
    for opened, inline in pairwise(tokens):
        if opened.type == "paragraph_open" and not opened.hidden and opened.level == 0:
            said = _plain(inline)
            found = _SENTENCE.match(said)
            return found[0] if found else said.removesuffix(":") + " …"
    return ""


def _markdown() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    for kind, rule in (("fence", _code), ("table_open", _table), ("table_close", _table_end)):
        markdown.add_render_rule(kind, rule)
    return markdown


def _plain(inline: Token) -> str:
    """The text of a line, without marks."""
    return "".join(" " if one.type == "softbreak" else one.content for one in inline.children or ())


def _with_ids(tokens: Sequence[Token]) -> list[tuple[str, str]]:
    """Gives each heading its id; equal ones get numbers. Returns the id and the text of those of the second level."""
    seen: Counter[str] = Counter()
    sections = []
    for opened, inline in pairwise(tokens):
        if opened.type == "heading_open":
            name = slug(_plain(inline))
            found = f"{name}-{seen[name]}" if seen[name] else name
            seen[name] += 1
            opened.attrSet("id", found)
            if opened.tag == "h2":
                sections.append((found, _plain(inline)))
    return sections


def _mark_column(opened: Token, inline: Token, closed: Token) -> None:
    """The head of a column says that it is one; an empty cell is none."""
    if inline.content:
        opened.attrSet("scope", "col")
    else:
        opened.tag = closed.tag = "td"


def _lead(line: Sequence[Token], path: Path, addresses: Mapping[Path, str]) -> None:
    """Lets links lead to where their files are served, and puts pictures into the page: it may load nothing."""
    is_text = False
    for token in line:
        target = str(token.attrGet("src" if token.type == "image" else "href") or "")
        file, mark, anchor = target.partition("#")
        if token.type == "image":
            token.attrSet("src", _picture(path.parent / file))
        elif token.type == "link_close" and is_text:
            token.tag, is_text = "span", False
        elif _SCHEME.match(target):
            token.attrSet("rel", "noreferrer")
        elif token.type == "link_open" and file:
            address = addresses.get(Path(os.path.normpath(path.parent / file)))
            if address is None:
                token.tag, token.attrs, is_text = "span", {"class": "path"}, True
            else:
                token.attrSet("href", address + mark + anchor)


def _picture(path: Path) -> str:
    """The address that has a picture in itself."""
    return f"data:{_PICTURES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _code(_: Any, tokens: Sequence[Token], at: int, *__: Any) -> str:
    """A block of code, which can be scrolled, by keyboard too."""
    return f'<pre tabindex="0"><code>{escape(tokens[at].content)}</code></pre>\n'


def _table(_: Any, tokens: Sequence[Token], at: int, *__: Any) -> str:
    label = escape(tokens[at].meta["label"])
    return f'<div class="card scroll" role="region" aria-label="{label}" tabindex="0"><table>\n'


def _table_end(*_: Any) -> str:
    return "</table></div>\n"
