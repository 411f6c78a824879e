"""One round: the pages of one API, from where the last round left off, into the folder of their source. Read this module first.

    1 begin   from the cursor that is committed, less the lookback; the first time, from `start`        (begin_of)
    2 ask     for a page, with retries                                                                  (requests.py)
    3 keep    it as a file in the folder of the source, exactly as it was received and durable          (InboxFolder.write)
    4 go on   with the page that follows, until there is none                                           (paging.py)
    5 end     tell the ledger the contents of the pages and the greatest change time in them            (Ledger.end_pull)

A page in the folder is a drop like any other. The cursor advances when the ledger commits the last drop of the round, in the same
transaction. So a crash or a failure anywhere repeats pages and loses none: what was not committed is asked for again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from urllib.parse import quote, urlencode

from ...core.errors import OutputReplaced, Stopped, Unreadable, UsageError, cause_of, raised_in
from ...core.mapping import FieldMapping
from ...core.parse.documents import split
from ...core.retry import Backoff
from ...storage.ledger import Ledger
from ...storage.pulls import PullState, Round
from ...storage.raw import quarantined
from ..source_folder import SourceFolder
from .instants import Zone, read_change_time, spelled, values_at
from .outcome import EXPIRED, FAILED, PUT_OFF, SUCCEEDED, Progress, Pulled, PullFailed, PutOff
from .paging import Ask, Page, Walk
from .requests import Answer, Client, Request
from .settings import HIGH_WATER_MARK, PATH, SINCE, Pull
from .template import Secrets

_LONGEST_PUT_OFF = 86_400_000_000 + 60_000_000  # microseconds; one that is longer is of a clock that was ahead
_EXPIRED = (400, 410)  # what APIs answer to a token or a URL that they gave too long ago


@dataclass(frozen=True)
class PulledSource:
    """A source with an API, and what a round of it needs."""

    name: str
    pull: Pull
    mapping: FieldMapping
    records_path: str
    place: SourceFolder
    backoff: Backoff
    environment: Mapping[str, str] = field(repr=False)

    def is_page(self, name: str) -> bool:
        """Whether a file in the folder has the name of a page."""
        return re.fullmatch(rf"{re.escape(self.name)}-\d{{6,}}-\d{{5,}}(-\d+)?\.json", name) is not None

    @property
    def where(self) -> str:
        """How errors name its settings."""
        return f"[sources.{self.name}.pull]"

    def secrets(self) -> Secrets:
        """Its secrets, as they are now. UsageError where one is missing."""
        found = Secrets(self.environment, self.pull.folder)
        found.read(self.pull.templates(), self.where)
        return found


Tell = Callable[[Progress], None]


def untold(_: Progress) -> None:
    """Where nobody asks how far a round is."""


def pull_round(
    source: PulledSource,
    ledger: Path,
    stop: Event,
    *,
    check: Callable[[], None],
    since: int | None = None,
    tell: Tell = untold,
) -> Pulled:
    """One round. `ledger`: its path; `check`: raises if the output folder is no longer the one that was opened; `since`: begins
    there in place of the cursor. What fails is in the result, without secrets. Raises Stopped, OutputReplaced, or an error of the
    ledger."""
    began = time.time()
    running = _Running(source, ledger, stop, check, tell)
    outcome, error, wait = SUCCEEDED, "", 0.0
    try:
        running.read(since, int(began * 1_000_000))
    except (Stopped, OutputReplaced):
        raise
    except PutOff as found:
        outcome, error, wait = PUT_OFF, str(found), found.seconds
    except (PullFailed, UsageError) as found:
        outcome, error = FAILED, str(found)
    except OSError as found:
        outcome, error = FAILED, f"could not keep a page in {source.place.path}: {cause_of(found)}"
    except Exception as found:
        outcome = FAILED
        error = f"an unexpected error in {raised_in(found)}: {cause_of(found)}. Please report this"
    error = running.hidden_in(error)
    running.end(int(began * 1_000_000), error, int((time.time() + wait) * 1_000_000) if wait else None)
    done = running.done
    return Pulled(
        source.name,
        outcome,
        done.pages,
        done.records,
        done.bytes,
        time.time() - began,
        error,
        wait,
        dict(running.retries),
    )


def begin_of(pull: Pull, state: PullState, now: int) -> int:
    """Where a round begins, in microseconds since 1970: at the cursor less the lookback, and not before `start`. A cursor of a
    clock that was ahead counts as now."""
    if not pull.cursor or state.cursor is None:
        return pull.start
    return max(pull.start, min(state.cursor, now) - int(pull.lookback * 1_000_000))


def first_page(source: PulledSource, state: PullState, since: int | None, stop: Event) -> tuple[Answer, str]:
    """The first page of a round, as it was received, and what follows it, for a person; nothing is kept. Raises PullFailed,
    UsageError or Stopped."""
    secrets = source.secrets()
    asking = _Asking(source, secrets)
    client = _client(source, secrets)
    try:
        ask = Ask(begin_of(source.pull, state, time.time_ns() // 1000) if since is None else since)
        answer = client.page(asking.request(ask), source.backoff, stop, lambda reason: None)
        return answer, secrets.hidden_in(_following(source, ask, answer, asking.zone))
    except PullFailed as error:
        told = secrets.hidden_in(str(error))
    finally:
        client.close()
    raise PullFailed(told)


def page_of(source: PulledSource, answer: Answer, zone: Zone) -> Page:
    """What is known of a page. PullFailed where it has no records that can be found."""
    records: list[bytes] = []
    try:
        if answer.document not in ({}, None):
            found = split(answer.body, records_path=source.records_path, mapping=source.mapping)
            records = [found[index] for index in range(len(found))]
    except Unreadable as error:
        raise PullFailed(
            f"the page has no records that can be found: {error}. If it is right, write records = the path of the orders in it"
        ) from None
    times: list[int | None] = []
    if source.pull.cursor not in ("", HIGH_WATER_MARK) and records:
        values = values_at(answer.document, tuple(source.pull.cursor.split(".")))
        times = [read_change_time(value, zone) for value in values]
        if not any(time is not None for time in times):
            raise PullFailed(
                f"no record of the page has an instant at cursor = {source.pull.cursor!r}; it is the path of the time of "
                'change, from the top of the page, such as "orders.updated_at"'
            )
        if len(times) != len(records) and source.pull.next.kind == SINCE:
            raise PullFailed(
                f"cursor = {source.pull.cursor!r} leads to {len(times):,} values of {len(records):,} records"
            )
    digest = hashlib.sha256(b"\n".join(records)).digest()
    return Page(answer.document, answer.url, answer.link, records, times, digest, answer.is_foreign)


def _following(source: PulledSource, ask: Ask, answer: Answer, zone: Zone) -> str:
    """What follows a first page, for a person."""
    pull = source.pull
    page = page_of(source, answer, zone)
    found = Walk(pull, zone).after(ask, page)
    times = [time for time in page.times if time is not None]
    lines = [
        f"{len(page.records):,} records" + (f", changed up to {spelled(max(times), 'iso', zone)}" if times else "")
    ]
    if found is None:
        following = "none" + (f" (nothing at {pull.next.path})" if pull.next.kind == PATH else "")
    elif found.url:
        following = found.url.partition("?")[0]
    elif found.cursor:
        following = f"{found.cursor} as {pull.next.param or 'cursor'}"
    else:
        following = f"number {found.page}" if found.page > 1 else f"from {spelled(found.since, 'iso', zone)}"
    lines.append(f"next page: {following}")
    return "\n".join(lines)


class _Asking:
    """Makes requests out of the templates of a source."""

    def __init__(self, source: PulledSource, secrets: Secrets) -> None:
        self._pull, self._secrets = source.pull, secrets
        self.zone = Zone(source.mapping.time_zone)
        if source.pull.basic_auth:
            filled = self._filled(source.pull.basic_auth, {})
            secrets.hide(filled)
            secrets.hide(filled.partition(":")[2])

    def request(self, ask: Ask) -> Request:
        pull = self._pull
        values = {
            "since": spelled(ask.since, pull.since_format, self.zone), "page": str(ask.page), "offset": str(ask.offset),
            "cursor": ask.cursor,
        }  # fmt: skip
        private = {name: text for name, one in pull.headers if (text := self._secrets.filled(one, values))}
        if pull.basic_auth:
            private["Authorization"] = "Basic " + base64.b64encode(self._filled(pull.basic_auth, {}).encode()).decode()
        body = None
        if pull.body:
            body = json.dumps(self._secrets.filled_json(json.loads(pull.body), values), ensure_ascii=False).encode()
        return Request(pull.method, ask.url or self._url(ask, values), private, body)

    def _url(self, ask: Ask, values: Mapping[str, str]) -> str:
        pull = self._pull
        url = self._secrets.filled(pull.url, {name: quote(value, safe="") for name, value in values.items()})
        if url is None:
            raise PullFailed("the URL has a placeholder without a value")
        filled = [(name, self._secrets.filled(text, values)) for name, text in pull.params]
        pairs = [(name, text) for name, text in filled if text]
        if pull.next.param and ask.cursor:
            pairs = [(name, text) for name, text in pairs if name != pull.next.param] + [(pull.next.param, ask.cursor)]
        if not pairs:
            return url
        return f"{url}{'&' if '?' in url else '?'}{urlencode(pairs)}"

    def _filled(self, text: str, values: Mapping[str, str]) -> str:
        return self._secrets.filled(text, values) or ""


def _client(source: PulledSource, secrets: Secrets) -> Client:
    pull = source.pull
    origin = secrets.filled(pull.url, dict.fromkeys(("since", "page", "offset", "cursor"), "0")) or pull.url
    return Client(origin, pull.timeout, pull.max_page_bytes, pull.ca_file, secrets)


class _Running:
    """A round that is under way."""

    def __init__(self, source: PulledSource, ledger: Path, stop: Event, check: Callable[[], None], tell: Tell) -> None:
        self._source, self._path, self._stop, self._check, self._tell = source, ledger, stop, check, tell
        self.done = Progress(source.name)
        self.retries: Counter[str] = Counter()
        self._contents: list[bytes] = []  # SHA-256 of each page
        self._state = PullState()
        self._secrets: Secrets | None = None
        self._server_time = 0  # of the first answer, in microseconds; 0: it has none
        self._quarantined: dict[str, str] = {}  # by the beginning of its SHA-256
        self._held: list[str] = []  # pages that are in quarantine
        self._covered: int | None = None  # every record that changed before was read; None: unknown
        self._is_complete = False
        self._begins_at_cursor = True

    def read(self, since: int | None, now: int) -> None:
        """Reads the pages. `now`: in microseconds."""
        self._state = Ledger.pull_state_of(self._path, self._source.name)
        if (until := self._state.put_off_until) is not None and now < until <= now + _LONGEST_PUT_OFF:
            raise PutOff(self._state.error, (until - now) / 1_000_000)
        self._quarantined = {
            name.split("_")[1]: name
            for name in quarantined(self._path.parents[1] / "quarantine")
            if self._source.is_page(name.split("_", 2)[2])
        }
        usual = begin_of(self._source.pull, self._state, now)
        begin = usual if since is None else since
        self._begins_at_cursor = begin <= usual
        self._secrets = secrets = self._source.secrets()
        client = _client(self._source, secrets)
        try:
            self._read(begin, client, _Asking(self._source, secrets))
        finally:
            client.close()

    def hidden_in(self, text: str) -> str:
        """A text without secrets."""
        return self._secrets.hidden_in(text) if self._secrets else text

    def end(self, began: int, error: str, put_off_until: int | None) -> None:
        """Tells the ledger of it."""
        self._check()
        pull = self._source.pull
        round_ = None
        takes_hwm = pull.cursor == HIGH_WATER_MARK and bool(self._contents)  # an empty round says nothing about it
        if self._begins_at_cursor and pull.cursor and (self._covered is not None or (self._is_complete and takes_hwm)):
            latest = min(began, self._server_time) if self._server_time else began
            round_ = Round(self._contents, self._covered, latest, takes_hwm)
        Ledger.end_pull(self._path, self._source.name, began, error, round_, put_off_until)

    def _read(self, begin: int, client: Client, asking: _Asking) -> None:
        pull = self._source.pull
        walk, ask, restarts, asked = Walk(pull, asking.zone), Ask(begin), 0, 0
        greatest = 0
        next_ask: Ask | None = ask
        while next_ask is not None:
            ask = next_ask
            if asked == pull.max_pages:
                self._refuse_more()
            asked += 1
            try:
                answer = client.page(asking.request(ask), self._source.backoff, self._stop, self._retried)
            except PullFailed as error:
                is_first = not ask.cursor and not ask.url
                if error.status not in _EXPIRED or is_first or restarts == self._source.backoff.attempts:
                    raise
                restarts += 1
                self._retried(EXPIRED)
                walk, next_ask = Walk(pull, asking.zone), Ask(begin)
                continue
            if asked == 1 and answer.date:
                self._server_time = int(answer.date * 1_000_000)
            page = page_of(self._source, answer, asking.zone)
            if page.records:
                self._keep(answer, len(page.records))
            greatest = max([greatest, *(time for time in page.times if time is not None)])
            next_ask = walk.after(ask, page)
            if pull.next.kind == SINCE and next_ask is not None:
                self._covered = next_ask.since
        self._is_complete = True
        self._covered = greatest or None
        if self._held:
            raise PullFailed(
                f"{len(self._held):,} of its pages are in quarantine, such as {self._held[0]}; correct the cause, and run "
                "`strandline retry`"
            )

    def _refuse_more(self) -> None:
        """After max_pages: it is unknown what is missing. In the order of change, the next round goes on from here."""
        is_ordered = self._source.pull.next.kind == SINCE
        goes_on = "the next round goes on from here" if is_ordered else "the cursor stays where it was"
        raise PullFailed(
            f"max_pages = {self._source.pull.max_pages:,} pages were read, and there are more. They are applied, and {goes_on}; "
            "raise max_pages, or ask for more records a page"
        )

    def _keep(self, answer: Answer, records: int) -> None:
        """Puts a page into the folder of the source, durably. One that is in quarantine already is not put there again each
        time; it holds the cursor."""
        if self._stop.is_set():
            raise Stopped("stopped between two pages")
        self._check()
        before = self.done
        done = Progress(before.source, before.pages + 1, before.records + records, before.bytes + len(answer.body))
        content = hashlib.sha256(answer.body).digest()
        self._contents.append(content)
        if (held := self._quarantined.get(content.hex()[:12])) is not None:
            self._held.append(held)
            return
        name = f"{self._source.name}-{self._state.rounds + 1:06d}-{done.pages:05d}.json"
        self._source.place.open().write(name, answer.body)
        self.done = done
        self._tell(done)

    def _retried(self, reason: str) -> None:
        self.retries[reason] += 1
