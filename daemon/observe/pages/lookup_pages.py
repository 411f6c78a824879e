"""The pages that answer a question: a day, drops, a receipt, an order; each at its path for people, and below /api for programs.

Their answers differ from question to question, so nobody shares one. What bounds them instead: all are made in one thread (those
about orders in another), one after the other; a question that has waited too long is refused at once; the ledger is read for some
seconds at most, as a snapshot, so no batch waits; and each answer has a limited number of rows.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...core.errors import StrandlineError
from ..http import Answer, Document, asked
from .query import Query, Refused, read
from .rendering import Renderer, as_json

WAIT_SECONDS = 10.0
LEDGER_SECONDS = 5.0  # in which the ledger is read for one answer
_THREAD, _LATER = "look-ups", {"Retry-After": "10"}
_UNAVAILABLE = "503 Service Unavailable"


class NotFound(StrandlineError):
    """There is no such thing; the text says what."""


class NotYet(StrandlineError):
    """The answer is being made; the text says what to do."""


@dataclass(frozen=True, slots=True)
class LookUp:
    """One question. `path`: of the page; its JSON is at /api and that. `template`: of the page. `parameters`: that it takes.
    `look`: the answer as JSON values; it may raise Refused, NotFound, NotYet. `beside`: values for the page alone. `thread`: the
    name of the one that makes the answer."""

    path: str
    template: str
    parameters: Sequence[str]
    look: Callable[[Query], dict[str, Any]]
    beside: Callable[[], Mapping[str, Any]] = dict
    thread: str = _THREAD


class LookUpPages:
    """The answers to some questions."""

    def __init__(self, renderer: Renderer, look_ups: Sequence[LookUp]) -> None:
        self._renderer, self._look_ups = renderer, look_ups

    @property
    def answers(self) -> dict[str, Answer]:
        """By path."""
        pages: dict[str, Answer] = {one.path: partial(self._answer, one, self._page) for one in self._look_ups}
        return pages | {f"/api{one.path}": partial(self._answer, one, _api) for one in self._look_ups}

    @property
    def threads(self) -> dict[str, str]:
        """The thread of each path."""
        return {path: one.thread for one in self._look_ups for path in (one.path, f"/api{one.path}")}

    def _answer(self, one: LookUp, shown: Callable[[LookUp, _Said], Document], environ: Mapping[str, Any]) -> Document:
        return shown(one, _said(one, environ))

    def _page(self, one: LookUp, said: _Said) -> Document:
        given = said.query.given
        every = dict.fromkeys(one.parameters, "") | dict(given)
        values = {"here": one.path, "given": given, "query": every, "error": said.error, "found": said.found}
        return self._renderer.page(one.template, values | dict(one.beside()), said.status, **said.headers)


@dataclass(frozen=True, slots=True)
class _Said:
    """What is said to one question. `found` is None where there is an error."""

    query: Query
    found: dict[str, Any] | None = None
    error: str = ""
    status: str = "200 OK"

    @property
    def headers(self) -> dict[str, str]:
        return _LATER if self.status == _UNAVAILABLE else {}


def _said(one: LookUp, environ: Mapping[str, Any]) -> _Said:
    query = Query({})
    if time.monotonic() - asked(environ) > WAIT_SECONDS:
        return _Said(query, None, "too many ask at the same time; ask again", _UNAVAILABLE)
    try:
        query = read(environ, one.parameters)
        return _Said(query, one.look(query))
    except Refused as error:
        return _Said(query, None, str(error), "400 Bad Request")
    except NotFound as error:
        return _Said(query, None, str(error), "404 Not Found")
    except NotYet as error:
        return _Said(query, None, str(error), _UNAVAILABLE)
    except (OSError, StrandlineError, sqlite3.Error) as error:
        return _Said(query, None, _why(error), _UNAVAILABLE)


def _api(one: LookUp, said: _Said) -> Document:
    return as_json({"error": said.error} if said.found is None else said.found, said.status, **said.headers)


def _why(error: Exception) -> str:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
        return f"it took longer than {LEDGER_SECONDS:g} s; ask for fewer days or drops"
    return f"not available now: {error}"
