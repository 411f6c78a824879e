"""Texts with placeholders: what a request says of its page, and secrets, which come from the environment or a file.

{since} {page} {offset} {cursor}    of the page that is asked for; without a value, whatever has the placeholder is left out
${VARIABLE} ${file:PATH}            a secret: read for each round, and hidden in every text that anybody may see
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from ...core.errors import UsageError

NAMES = ("since", "page", "offset", "cursor")
HIDDEN = "***"
_LEAST_LENGTH = 4  # of a value whose other spellings are looked for: a shorter one is in most texts
_PLACEHOLDER = re.compile(r"\$\{(file:[^}]+|[A-Za-z_][A-Za-z0-9_]*)\}|\{(since|page|offset|cursor)\}")
_LIKE_ONE = re.compile(r"\$?\{[A-Za-z_]*\}")


def names(text: str) -> set[str]:
    """The placeholders of NAMES in a text."""
    return {name for _, name in _PLACEHOLDER.findall(text) if name}


def secrets(text: str) -> set[str]:
    """The variables and `file:PATH` in a text."""
    return {name for name, _ in _PLACEHOLDER.findall(text) if name}


def unknown(text: str) -> str | None:
    """The first part of a text that looks like a placeholder and is none."""
    rest = _PLACEHOLDER.sub("", text)
    found = _LIKE_ONE.search(rest) or re.search(r"\$\{.{0,20}", rest)
    return found[0] if found else None


class Secrets:
    """The values of ${…}. Remembers each that it gave, so that it can hide them."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._environment, self._folder = environment, folder
        self._values: dict[str, str] = {}
        self._hidden: set[str] = set()

    def read(self, texts: Iterable[str], where: str) -> None:
        """Reads all that these texts name. UsageError where one is missing or empty; the text has no value."""
        self._values = {name: self._value(name, where) for text in texts for name in secrets(text)}
        for value in self._values.values():
            self.hide(value)

    def hide(self, value: str) -> None:
        """Hides a value in every form in which it may be shown."""
        if value.strip():
            encoded = base64.b64encode(value.encode()).decode()
            escaped = json.dumps(value)[1:-1]
            self._hidden |= {
                value,
                quote(value),
                quote(value, safe=""),
                quote_plus(value),
                escaped,
                repr(value)[1:-1],
                encoded,
            }

    def hidden_in(self, text: str) -> str:
        """A text without secrets; nothing of it where one is left in another spelling."""
        for value in sorted(self._hidden, key=len, reverse=True):
            text = text.replace(value, HIDDEN)
        return f"(a text with a secret: {HIDDEN})" if self.reveals(text) else text

    def reveals(self, *texts: str) -> bool:
        """Whether a text has a secret in any spelling that JSON, HTML, URLs and PHP give it."""
        spellings = {_compact(spelled) for text in texts for spelled in _spellings(text)}
        values = {_compact(value) for value in self._hidden}
        return any(value in text for value in values if len(value) >= _LEAST_LENGTH for text in spellings)

    def filled(self, text: str, values: Mapping[str, str]) -> str | None:
        """A text with values in place of its placeholders; None where one of NAMES has no value. In one pass: what a value
        holds is no placeholder."""
        if any(values.get(name, "") == "" for name in names(text)):
            return None
        return self._replaced(text, values)

    def filled_json(self, value: Any, values: Mapping[str, str]) -> Any:
        """The same for each text of a JSON value; a member whose text has no value is left out."""
        if isinstance(value, str):
            return self.filled(value, values)
        if isinstance(value, list):
            return [one for one in (self.filled_json(one, values) for one in value) if one is not None]
        if isinstance(value, dict):
            filled = {name: self.filled_json(one, values) for name, one in value.items()}
            return {name: one for name, one in filled.items() if one is not None or value[name] is None}
        return value

    def _replaced(self, text: str, values: Mapping[str, str]) -> str:
        def value_of(found: re.Match[str]) -> str:
            return self._values[found[1]] if found[1] else values[found[2]]

        return _PLACEHOLDER.sub(value_of, text)

    def _value(self, name: str, where: str) -> str:
        if name.startswith("file:"):
            path = self._folder / name.removeprefix("file:")
            try:
                value = path.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise UsageError(f"{where}: cannot read {path} of ${{{name}}}: {why}") from None
            if not value:
                raise UsageError(f"{where}: {path} of ${{{name}}} is empty; write the secret into it")
            return _one_line(value, name, where)
        value = self._environment.get(name, "")
        if not value:
            raise UsageError(
                f"{where}: the environment variable {name} is missing or empty; set it to the secret, or write ${{file:PATH}}"
            )
        return _one_line(value, name, where)


def _compact(text: str) -> str:
    """A text without what is not seen: white space, NULs between letters of UTF-16, soft hyphens."""
    return "".join(one for one in text if one.isprintable() and not one.isspace() and one != "\ufffd")


def _spellings(text: str) -> Iterator[str]:
    """A text, and what it says without the escapes of JSON, HTML and URLs, each alone and after the others."""
    yield text
    unescaped = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)
    for plain in (text, unescaped.replace("\\/", "/").replace('\\"', '"').replace("\\\\", "\\")):
        yield plain
        yield from (html.unescape(plain), unquote(plain), unquote_plus(plain))
        yield unquote(html.unescape(plain))


def _one_line(value: str, name: str, where: str) -> str:
    if not value.isprintable():
        raise UsageError(f"{where}: the value of ${{{name}}} has a line break or another unprintable character")
    return value
