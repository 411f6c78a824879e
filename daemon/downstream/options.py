"""The options of a model or a check: comments at the head of its file.

Other comments are prose. What looks like an option and is none is an error: an option that is silently ignored gives wrong rows.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import UsageError, instead_of

SEVERITIES = ("warning", "error")
MOST_LOOKBACK = 3_660
MARKS = {".sql": "--", ".py": "#"}  # of comments
_NAMES = ("lookback", "whole", "severity")
_OPTION = re.compile(r"([a-z_]+)(?:\s*=\s*(.*))?")
_ALIKE = re.compile(rf"({'|'.join(_NAMES)})\s*(?:[=:].*)?", re.IGNORECASE)
_COMMENT = re.compile(r"\s*(--[^\n]*|/\*.*?\*/)", re.DOTALL)
_CLOSE = 0.8  # how much a word is like an option: lookbock, and not amount


def options(path: Path, text: str, allowed: Sequence[str]) -> dict[str, Any]:
    """The options of a file. Raises UsageError with the line of what is wrong."""
    found: dict[str, Any] = {}
    mark, last = MARKS[path.suffix], 0
    for number, comment in _head_of_python(text) if path.suffix == ".py" else _head_of_sql(text):
        last, where = number, f"{path}, line {number}"
        match = _OPTION.fullmatch(comment.removeprefix(mark).strip()) if comment.startswith(mark) else None
        if match is not None and match[1] in allowed:
            if match[1] in found:
                raise UsageError(f"{where}: the option {match[1]} is given twice; remove one of them")
            found[match[1]] = _value(match[1], match[2], where)
            continue
        alike = _ALIKE.fullmatch(comment.strip(f" \t{mark}*/"))
        name = alike[1].lower() if alike else match[1] if match and match[2] is not None else ""
        if name in allowed:
            example = name if name == "whole" else f"{name} = …"
            raise UsageError(
                f"{where}: this looks like the option {name}; write `{mark} {example}` on a line of its own"
            )
        from difflib import get_close_matches  # few comments get here

        if alike or get_close_matches(name, _NAMES, cutoff=_CLOSE):
            raise UsageError(f"{where}: unknown option {name}; {instead_of(name, allowed)}")
    _refuse_after_head(path, text, last, allowed)
    if found.get("whole") and found.get("lookback"):
        raise UsageError(f"{path}: whole computes all dates at once, so it goes without lookback; remove one of them")
    return found


def _head_of_sql(text: str) -> Iterator[tuple[int, str]]:
    """The lines of the comments before the statement, with their numbers."""
    at = 0
    while found := _COMMENT.match(text, at):
        number = text[: found.start(1)].count("\n") + 1
        yield from enumerate((line.strip() for line in found[1].split("\n")), number)
        at = found.end()


def _head_of_python(text: str) -> Iterator[tuple[int, str]]:
    """The comments before the code, also those around the docstring of the module."""
    first, last = _docstring(text)
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if stripped.startswith("#") and not first <= number <= last:
            yield number, stripped
        elif stripped and not first <= number <= last:
            return


def _docstring(text: str) -> tuple[int, int]:
    """The lines of the docstring of a module; (0, 0) where it has none. A wrong syntax is found later."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return 0, 0
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        return body[0].lineno, body[0].end_lineno or 0
    return 0, 0


def _refuse_after_head(path: Path, text: str, last: int, allowed: Sequence[str]) -> None:
    mark = MARKS[path.suffix]
    trailing = re.compile(rf"{mark}\s*({'|'.join(allowed)})\s*=\s*[\w'\"]+\s*", re.IGNORECASE)
    for number, line in enumerate(text.split("\n"), 1):
        if number <= last or mark not in line:
            continue
        comment = line.strip()
        alone = _ALIKE.fullmatch(comment.lstrip(f" \t{mark}")) if comment.startswith(mark) else None
        found = alone or trailing.fullmatch(line[line.index(mark) :])
        if found and found[1].lower() in allowed:
            name = found[1].lower()
            raise UsageError(
                f"{path}, line {number}: the option {name} belongs to the head of the file, before the first statement"
            )


def _value(name: str, text: str | None, where: str) -> Any:
    try:
        value = True if text is None else tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    if name == "whole" and isinstance(value, bool):
        return value
    if name == "lookback" and type(value) is int and 0 <= value <= MOST_LOOKBACK:
        return value
    if name == "severity" and value in SEVERITIES:
        return value
    allowed = {
        "whole": "whole or whole = false",
        "lookback": f"a whole number of days from 0 to {MOST_LOOKBACK}",
        "severity": " or ".join(f'"{one}"' for one in SEVERITIES),
    }
    raise UsageError(f"{where}: {name} = {text or ''} is not allowed; it must be {allowed[name]}")
