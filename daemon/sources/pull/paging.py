"""Which page comes next. Pure: pages in, what to ask for out.

Whatever the API does, this ends, and an end is either the end of what there is, or an error. `since` is the one way that skips
nothing while records change: each page is asked for by the change time that the last one ended with.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

from .instants import Zone, spelled, values_at
from .outcome import PullFailed
from .requests import origin_of
from .settings import LINK, ONE, PATH, SINCE, Pull

_LINKS = re.compile(r",\s*(?=<)")
_LINK = re.compile(r"\s*<([^<>]*)>(.*)", re.DOTALL)
_REL = re.compile(r"(?:^|[;\s])rel\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s;,\"']+))", re.IGNORECASE)
_OTHER = re.compile(r"(?:^|[;\s])(?!rel\b)[\w*-]+\s*=\s*\"(?:[^\"\\]|\\.)*\"", re.IGNORECASE)
_MOST_REPEATS = 3
_MISSING = object()
_EARLIER_SECONDS = (0.001, 1, 60, 3600, 86_400)  # the first that the format can tell


@dataclass(frozen=True, slots=True)
class Ask:
    """What a page is asked for by. `url`: as the page before named it, in place of all else."""

    since: int
    page: int = 1
    offset: int = 0
    cursor: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """What is known of a page. `times`: when each of its records changed, None where that is unknown; empty without a cursor.
    `digest`: of its records."""

    document: Any
    url: str
    link: str
    records: Sequence[bytes]
    times: Sequence[int | None]
    digest: bytes = field(repr=False)
    is_foreign: bool = False  # on another host than `url`, which got no secrets


class Walk:
    """The pages of one round."""

    def __init__(self, pull: Pull, zone: Zone) -> None:
        self._pull, self._zone = pull, zone
        self._asked: set[str] = set()  # URLs and tokens
        self._before: bytes | None = None  # the digest of the page before
        self._digests: set[bytes] = set()  # of all pages
        self._expected: int | None = None  # the number of all records
        self._is_asked_again = False  # the page that may be the end
        self._records = self._largest = self._repeats = 0
        # Of next = "since":
        self._forth: list[Ask] = []  # the pages of the instant that is asked for
        self._back: list[Ask] = []  # of these, the ones that are to be read again
        self._following: Ask | None = None  # after these
        self._went_on_at: int | None = None  # the instant that a page ended with
        self._in_doubt = ""  # that instant, where the next page had nothing of it
        self._is_short = False  # the first of them is shorter than another page, so there is no second one

    def after(self, ask: Ask, page: Page) -> Ask | None:
        """What to ask for after this page; None at the end. PullFailed where the API comes to none, or to one too early."""
        kind = self._pull.next.kind
        self._largest = max(self._largest, len(page.records))
        self._records += len(page.records)
        self._note_total(page)
        if kind == SINCE:
            found = self._by_since(ask, page)
        else:
            self._refuse_repeated(page)
            found = self._next(kind, ask, page)
        if found is None and self._expected is not None and self._records < self._expected:
            raise PullFailed(
                f"the pages end after {self._records:,} records, and `total` says that there are {self._expected:,}; if "
                'it counts something else, write total = ""'
            )
        self._before = page.digest
        return found

    def _next(self, kind: str, ask: Ask, page: Page) -> Ask | None:
        if page.records:
            self._is_asked_again = False
        if kind == ONE:
            if page.link and next_link(page.link):
                raise PullFailed('the answer names a next page in its header Link; write next = "link"')
            return None
        if kind in (LINK, PATH):
            found = self._by_url(ask, page, next_link(page.link)) if kind == LINK else self._by_path(ask, page)
            return found or self._end(ask, page)
        if not page.records or self._is_last():
            return self._end(ask, page)
        return Ask(ask.since, ask.page + 1, ask.offset + len(page.records))

    def _refuse_repeated(self, page: Page) -> None:
        """A page with the records of one before would count as others: what they stand for was not read."""
        if page.records and page.digest in self._digests:
            raise PullFailed(
                "a page has the same records as one before it, so it is unknown whether that was the last one; set `total` to "
                "the path of the number of records, or check the placeholder in params"
            )
        self._digests.add(page.digest)

    def _end(self, ask: Ask, page: Page) -> Ask | None:
        """The end. An empty page after others is asked for once more: if it is empty by mistake, it is not the end."""
        if not page.records and page.is_foreign:
            raise PullFailed(
                "the page is on another host, was asked for without headers and basic_auth, and is empty; write that host as url"
            )
        if page.records or ask.page == 1 or self._is_asked_again:
            return None
        self._is_asked_again = True
        return ask

    def _note_total(self, page: Page) -> None:
        """The number of all records, the least that a page says: records may come while pages are read."""
        total = _number(next(values_at(page.document, _keys(self._pull.total)), None)) if self._pull.total else None
        if total is None:
            return
        if total < len(page.records):
            raise PullFailed(
                f"`total` says {total:,} records, and the page alone has {len(page.records):,}; it counts something else"
            )
        self._expected = total if self._expected is None else min(total, self._expected)

    def _is_last(self) -> bool:
        """Whether as many records came as there are, where a page says that."""
        return self._expected is not None and self._records >= self._expected

    def _by_path(self, ask: Ask, page: Page) -> Ask | None:
        how = self._pull.next
        if how.more and not self._has_more(page):
            return None
        value = next(values_at(page.document, _keys(how.path)), None)
        if value is None or value is False or value in ("", "0"):
            if how.more:
                raise PullFailed(f"the page says that there are more ({how.more}), and has nothing at {how.path}")
            return None
        if not isinstance(value, str):  # Number is a text
            raise PullFailed(f"what the page has at {how.path} is no URL and no token")
        if how.param or self._pull.uses("cursor"):
            if not page.records and str(value) in self._asked:
                return None  # an API that always gives a token gives the last one again
            self._note(str(value))
            return Ask(ask.since, ask.page + 1, ask.offset + len(page.records), cursor=str(value))
        return self._by_url(ask, page, str(value))

    def _has_more(self, page: Page) -> bool:
        """What the page has at `more`. That it has nothing there does not say that nothing follows."""
        found = [
            one
            for one in values_at(page.document, _keys(self._pull.next.more), missing=_MISSING)
            if one is not _MISSING
        ]
        if len(found) != 1 or (found[0] is not None and not isinstance(found[0], bool | str)):
            raise PullFailed(f"the page has neither true nor false at more = {self._pull.next.more!r}")
        return _is_true(found[0])

    def _by_url(self, ask: Ask, page: Page, url: str | None) -> Ask | None:
        if not url:
            return None
        try:
            whole = urljoin(page.url, url)
            scheme, host, _ = origin_of(whole)
        except ValueError:
            raise PullFailed("the URL of the next page is none that can be read") from None
        if scheme not in ("http", "https") or not host:
            raise PullFailed("the URL of the next page is no http(s) URL")
        if not page.records and whole in self._asked:
            return None
        self._note(whole)
        return Ask(ask.since, ask.page + 1, ask.offset + len(page.records), url=whole)

    def _note(self, place: str) -> None:
        if place in self._asked:
            raise PullFailed("the next page is one that this round has read already, so its pages never end")
        self._asked.add(place)

    # ------------------------------------------------------------------------------------------------------ by change time

    def _by_since(self, ask: Ask, page: Page) -> Ask | None:
        """Goes on from the greatest change time, inclusive. A page whose records all changed at the instant that was asked for is
        followed by its next page."""
        times = self._checked(page)
        if self._back:
            return self._next_back(ask)
        here = self._spelled(ask.since)
        if (earlier := self._checked_earlier(ask, [self._spelled(time) for time in times], here)) is not None:
            return earlier
        greatest = times[-1] if times else None
        if greatest is not None and self._spelled(greatest) == here:
            self._forth.append(ask)
            return self._next_of_instant(ask, page)
        if greatest is not None and greatest < ask.since:
            raise PullFailed(
                "all records of the page changed before the instant that was asked for; does {since} have an effect?"
            )
        return self._end_of_instant(greatest)

    def _checked_earlier(self, ask: Ask, times: list[str], here: str) -> Ask | None:
        """Where nothing of the instant came that the page before ended with: either all of it changed meanwhile, or the API
        leaves out the instant that is asked for, and whatever else changed then. What it has a moment earlier tells which."""
        if self._in_doubt:
            in_doubt, self._in_doubt = self._in_doubt, ""
            if in_doubt in times:
                raise PullFailed(
                    "the API leaves out what changed at the very instant that is asked for; "
                    'next = "since" needs one that includes it'
                )
            return None
        if ask.page > 1 or ask.since != self._went_on_at or here in times:
            return None
        steps = (ask.since - int(seconds * 1_000_000) for seconds in _EARLIER_SECONDS)
        self._in_doubt = here
        return next((Ask(max(step, 0)) for step in steps if self._spelled(max(step, 0)) != here), None)

    def _checked(self, page: Page) -> list[int]:
        times = [one for one in page.times if one is not None]
        if len(times) < len(page.records):
            raise PullFailed(f"a record has no time of its change at cursor = {self._pull.cursor!r}")
        if times != sorted(times):
            raise PullFailed(
                'the page is not sorted by the time of change, which next = "since" needs; ask the API to sort it'
            )
        return times

    def _next_of_instant(self, ask: Ask, page: Page) -> Ask | None:
        is_same = page.digest == self._before and ask.page > 1
        is_short = len(page.records) < self._largest
        if is_same and is_short:  # the API gives its last page again
            return self._end_of_instant(None)
        self._is_short = is_short and ask.page == 1
        # One or two repeats: records that came meanwhile moved the others to the next page.
        self._repeats = self._repeats + 1 if is_same else 0
        if self._repeats == _MOST_REPEATS:
            raise PullFailed(
                f"{_MOST_REPEATS + 1} pages are the same, although the next one was asked for, and all of their records changed "
                "at one instant; does {page} or {offset} have an effect?"
            )
        return Ask(ask.since, ask.page + 1, ask.offset + len(page.records))

    def _end_of_instant(self, greatest: int | None) -> Ask | None:
        """Goes on, after the pages of one instant. When a record of them changes meanwhile, those after it move to the page
        before, which was read already. So these pages are read again from the last to the first: what moves then is not missed.
        (What comes to the instant meanwhile changed after the round began, and the next round reads it.)"""
        following = None if greatest is None else Ask(greatest)
        self._went_on_at = greatest
        if len(self._forth) > 1 or (self._forth and not self._is_short):
            self._back, self._following = self._forth, following
            return self._back[-1]
        self._forth = []
        return following

    def _next_back(self, ask: Ask) -> Ask | None:
        self._back = [one for one in self._back if one.page < ask.page]
        if self._back:
            return self._back[-1]
        self._forth = []
        return self._following

    def _spelled(self, instant: int) -> str:
        return spelled(instant, self._pull.since_format, self._zone)


def next_link(header: str) -> str | None:
    """The URL of rel=next in a Link header (RFC 8288), also of one that is not spelled quite as that says; None without one.
    PullFailed where it cannot be read: to take that as the end would lose what follows."""
    plain = _OTHER.sub(";", header).strip(" \t,")  # a title may hold anything
    for text in _LINKS.split(plain) if plain else []:
        link = _LINK.fullmatch(text)
        if link is None:
            raise PullFailed("the header Link cannot be read, so it is unknown whether there is a next page")
        rel = _REL.search(link[2])
        if rel and "next" in (rel[1] or rel[2] or rel[3] or "").lower().split():
            return link[1]
    return None


def _keys(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19 else None


def _is_true(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.lower() not in ("", "0", "false", "null"))
