"""One page over HTTP: asked for with retries, bounded, and free of secrets in whatever is said of it.

Retried with jitter, up to [retry] attempts: connection errors, timeouts, an incomplete or damaged body, 429, 408, 5xx, and a body
with status 200 that is no JSON (the error page of a proxy). `Retry-After` is honoured. Any other status ends the round at once.
"""

from __future__ import annotations

import json
import logging
import random
import re
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from threading import Event
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

import urllib3
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from urllib3.exceptions import (  # fmt: skip
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from ...core.errors import Stopped, plain
from ...core.parse.values import Number
from ...core.retry import Backoff
from ...storage.raw import zstd_module
from .outcome import PullFailed, PutOff
from .template import Secrets

_RATE_LIMITS = (429,)
_REDIRECTS = (301, 302, 303, 307, 308)
_KEEPS_METHOD = (307, 308)
_MOST_REDIRECTS = 5
_BLOCK_BYTES = 1 << 16
_SLOWEST = 10  # a page may take this many timeouts in all
_SHOWN_CHARACTERS = 200
_SHOWN_BYTES = 1 << 16  # looked at for secrets; half of it may be shown, so that none is cut at its end
_NO_CONTENT = 204
_LONGEST_PUT_OFF_SECONDS = 86_400.0
_DEFAULT_PORTS = {"https": 443, "http": 80}
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?")  # Shopify sends "2.0", although RFC 9110 has whole numbers only


logging.getLogger("urllib3").propagate = False  # its lines have URLs with parameters


class _TryAgain(Exception):
    """A try that failed; `reason` is one of outcome.REASONS. Its text has no secret."""

    def __init__(self, reason: str, text: str, after: float | None = None) -> None:
        super().__init__(text)
        self.reason, self.after = reason, after


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent. `private`: headers that only the host of the source gets."""

    method: str
    url: str = field(repr=False)
    private: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A page as it was received, without the compression of the transport. `document`: its JSON; numbers are Number."""

    url: str
    body: bytes
    document: Any
    link: str = ""  # the Link header
    date: float | None = None  # the Date header, in seconds since 1970
    is_foreign: bool = False  # of another host than that of the source


Tell = Callable[[str], None]  # the reason of a retry


class Client:
    """Asks one server. `origin`: the URL whose host may get the headers of a request."""

    def __init__(self, origin: str, timeout: float, most_bytes: int, ca_file: str, secrets: Secrets) -> None:
        self._origin, self._timeout, self._most, self._secrets = origin_of(origin), timeout, most_bytes, secrets
        self._pool = urllib3.PoolManager(
            retries=False, timeout=urllib3.Timeout(connect=timeout, read=timeout), ca_certs=ca_file or None,
            cert_reqs="CERT_REQUIRED", maxsize=1,
        )  # fmt: skip

    def close(self) -> None:
        """Closes the connections."""
        self._pool.clear()

    def page(self, request: Request, backoff: Backoff, stop: Event, tell: Tell) -> Answer:
        """The page that a request is for. Raises PullFailed, PutOff or Stopped."""

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            delay = backoff.delay_seconds(state.attempt_number) * random.uniform(0.5, 1.0)
            return max(delay, error.after or 0.0) if isinstance(error, _TryAgain) else delay

        def before_sleep(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if isinstance(error, _TryAgain):
                tell(error.reason)

        def sleep(seconds: float) -> None:
            if stop.wait(seconds):
                raise Stopped("stopped while a page was to be asked for again")

        def attempt() -> Answer:
            return self._attempt(request, backoff.max_delay_seconds, stop)

        retrying = Retrying(
            retry=retry_if_exception_type(_TryAgain), stop=stop_after_attempt(backoff.attempts), wait=wait, sleep=sleep,
            before_sleep=before_sleep, reraise=True,
        )  # fmt: skip
        try:
            return retrying(attempt)
        except _TryAgain as error:
            told = f"{error}, {backoff.attempts} times" if backoff.attempts > 1 else str(error)
        raise PullFailed(f"could not read {self._shown(request.url)}: {told}")

    # ------------------------------------------------------------------------------------------------------- one try

    def _attempt(self, request: Request, longest_wait: float, stop: Event) -> Answer:
        """One try, redirects followed."""
        for _ in range(_MOST_REDIRECTS + 1):
            answer, failed = self._sent(request, longest_wait, stop)
            if failed is not None:  # not raised where the other error is handled: that one has the URL in it
                raise failed
            if isinstance(answer, Answer):
                return answer
            assert answer is not None
            request = answer
        raise PullFailed(f"could not read {self._shown(request.url)}: more than {_MOST_REDIRECTS} redirects")

    def _sent(
        self, request: Request, longest_wait: float, stop: Event
    ) -> tuple[Answer | Request | None, Exception | None]:
        """The answer, or the request that a redirect asks for; or why there is neither."""
        try:
            headers = self._headers(request)
        except (ValueError, PullFailed) as error:
            told = str(error) if isinstance(error, PullFailed) else "the URL of the next page is none that can be read"
            return None, PullFailed(told)
        began = time.monotonic()
        try:
            response = self._pool.request(
                request.method, request.url, headers=headers, body=request.body, preload_content=False,
                decode_content=False, redirect=False,
            )  # fmt: skip
            try:
                if response.status in _REDIRECTS:
                    return self._redirected(request, response.status, response.headers.get("Location")), None
                if response.status not in (200, _NO_CONTENT):
                    self._refuse(request, response, self._message(response, began, stop), longest_wait)
                has_none = response.status == _NO_CONTENT
                content = b"" if has_none else self._content(response, began, stop)
                document = None if has_none else self._document(content)
                link, date = response.headers.get("Link", ""), _seconds_of(response.headers.get("Date"))
                is_foreign = origin_of(request.url) != self._origin
                return Answer(request.url, content, document, link, date, is_foreign), None
            finally:
                response.close()
        except NewConnectionError as error:  # a ConnectTimeoutError for urllib3
            return None, _TryAgain("connection", f"no connection: {self._said(error)}")
        except (ConnectTimeoutError, ReadTimeoutError):
            return None, _TryAgain("timeout", f"no answer within {self._timeout:g} s")
        except SSLError as error:  # a wrong certificate stays wrong
            return None, PullFailed(f"could not read {self._shown(request.url)}: {self._said(error)}; see ca_file")
        except (IncompleteRead, ProtocolError) as error:
            reason = (
                "incomplete" if isinstance(error, IncompleteRead) or "IncompleteRead" in repr(error) else "connection"
            )
            return None, _TryAgain(reason, f"the connection broke: {self._said(error)}")
        except HTTPError as error:
            return None, _TryAgain("connection", f"no connection: {self._said(error)}")
        except (_TryAgain, PullFailed, Stopped) as error:
            return None, error.with_traceback(None)
        except ValueError as error:  # a header or URL that http.client refuses
            return None, PullFailed(f"could not ask for {self._shown(request.url)}: {self._said(error)}")

    def _headers(self, request: Request) -> urllib3.HTTPHeaderDict:
        """What is sent with a request; what is secret goes to the host of the source only. ValueError where the URL is none."""
        is_own = origin_of(request.url) == self._origin
        if request.body is not None and not is_own:
            where = self._shown(request.url)
            raise PullFailed(f"the next page is at {where}; a request with a body is sent to the host of url only")
        headers = urllib3.HTTPHeaderDict({"Accept": "application/json", "User-Agent": "strandline"})
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        headers.update(request.private if is_own else {})
        headers["Accept-Encoding"] = "gzip, zstd"  # what can be decompressed here
        return headers

    def _content(self, response: urllib3.BaseHTTPResponse, began: float, stop: Event) -> bytes:
        """The body, without its compression."""
        plain = _decompressor(response.headers.get("Content-Encoding", "").strip().lower())
        parts: list[bytes] = []
        received = size = 0
        while block := response.read1(_BLOCK_BYTES):  # what has come: `read` would wait for a whole block
            if stop.is_set():
                raise Stopped("stopped while a page was being received")
            if time.monotonic() - began > self._timeout * _SLOWEST:
                raise _TryAgain("timeout", f"the page was not complete after {self._timeout * _SLOWEST:g} s")
            received += len(block)
            while block or plain.holds_back:
                part, block = plain.some(block, self._most + 1 - size), b""
                size += len(part)
                parts.append(part)
                if max(size, received) > self._most:
                    raise PullFailed(
                        f"the page is larger than max_page_bytes, {self._most:,}; ask for fewer records a page, or raise it"
                    )
        if not plain.is_complete:
            raise _TryAgain("incomplete", "the compressed body is cut short")
        return b"".join(parts)

    def _message(self, response: urllib3.BaseHTTPResponse, began: float, stop: Event) -> bytes:
        """What there is of the body of a refusal: the status counts, however the body came."""
        try:
            return self._content(response, began, stop)
        except (_TryAgain, PullFailed, HTTPError):
            return b""

    def _refuse(
        self, request: Request, response: urllib3.BaseHTTPResponse, content: bytes, longest_wait: float
    ) -> NoReturn:
        """Raises what an answer without a page means."""
        status = response.status
        said = f"status {status} {response.reason or ''}".strip()
        if begin := self._begin(content):
            said = f"{said}: {begin}"
        if status not in (408, *_RATE_LIMITS) and status < 500:
            raise PullFailed(f"could not read {self._shown(request.url)}: {said}", status)
        after = retry_after(response.headers.get("Retry-After"), time.time())
        if after is not None and after > longest_wait:
            after = min(after, _LONGEST_PUT_OFF_SECONDS)
            raise PutOff(f"{said}; the server asks to wait for {after:,.0f} s", after)
        raise _TryAgain("rate_limit" if status in _RATE_LIMITS else "server_error", said, after)

    def _document(self, content: bytes) -> Any:
        try:
            return json.loads(content, parse_int=Number, parse_float=Number)
        except (ValueError, RecursionError):
            begin = self._begin(content)
        raise _TryAgain("not_json", f"the answer is not JSON: {begin}" if begin else "the answer is empty")

    def _redirected(self, request: Request, status: int, location: str | None) -> Request:
        try:
            target = urljoin(request.url, location or "")
            origin = origin_of(target) if location else None
        except ValueError:
            origin = None
        if origin is None or origin[0] not in _DEFAULT_PORTS:
            raise PullFailed(f"{self._shown(request.url)} redirects to what is no URL that can be read", status)
        where = f"{self._shown(request.url)} redirects to {self._shown(target)}"
        if request.method != "GET" and (status not in _KEEPS_METHOD or origin != self._origin):
            raise PullFailed(f"{where}; a request with a body is not sent there. Write that as url", status)
        return Request(request.method, target, request.private, request.body)

    # ----------------------------------------------------------------------------------------------------- for errors

    def _shown(self, url: str) -> str:
        """A URL without its parameters, which may hold a token of the server's."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return "(no URL)"
        return self._secrets.hidden_in(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")

    def _said(self, error: Exception) -> str:
        """What an error of urllib3 says, without the URL and the addresses of objects in it."""
        text = self._secrets.hidden_in(str(error))
        text = re.sub(r"<[^<>]* object at 0x[0-9a-f]+>:? ?", "", text)
        text = re.sub(r"HTTPS?Connection(?:Pool)?\([^()]*\): ?", "", text)
        text = re.sub(r"\?[^\s'\")]*", "", text)
        return " ".join(plain(text).split())[:_SHOWN_CHARACTERS]

    def _begin(self, content: bytes) -> str:
        """The first characters of a body, on one line. Nothing of it where it repeats a secret."""
        text = content[:_SHOWN_BYTES].decode("utf-8", "replace")
        if self._secrets.reveals(text, content[:_SHOWN_BYTES].decode("latin-1")):
            return "(an answer that repeats a secret)"
        shown = " ".join("".join(one if one.isprintable() else " " for one in text[: _SHOWN_BYTES // 2]).split())
        return shown if len(shown) <= _SHOWN_CHARACTERS else shown[: _SHOWN_CHARACTERS - 1] + "…"


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks to wait, in either of its forms; None where it is missing or wrong. `now`: seconds
    since 1970."""
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text[:12])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _seconds_of(date: str | None) -> float | None:
    """A date of HTTP in seconds since 1970."""
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def origin_of(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of a URL. ValueError where it is none."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(parts.scheme)


class _Plain:
    """A body without compression."""

    holds_back = False
    is_complete = True

    def some(self, block: bytes, most: int) -> bytes:
        """What a block becomes, at most this many bytes; the rest with the next call."""
        return block


class _Gzip(_Plain):
    is_complete = False

    def __init__(self, wbits: int = 31) -> None:
        self._wbits, self._decompressor, self._rest = wbits, zlib.decompressobj(wbits), b""

    def some(self, block: bytes, most: int) -> bytes:
        data = self._rest + block
        if self.is_complete and data:  # another member follows
            self._decompressor, self.is_complete = zlib.decompressobj(self._wbits), False
        try:
            part = self._decompressor.decompress(data, most)
        except zlib.error:
            raise _TryAgain("incomplete", "the compressed body is damaged") from None
        self.is_complete = self._decompressor.eof
        self._rest = self._decompressor.unused_data if self.is_complete else self._decompressor.unconsumed_tail
        self.holds_back = bool(self._rest)
        return part


class _Zstd(_Plain):
    is_complete = False

    def __init__(self) -> None:
        self._decompressor = zstd_module().ZstdDecompressor()

    def some(self, block: bytes, most: int) -> bytes:
        if self._decompressor.eof:
            raise _TryAgain("incomplete", "the compressed body has several parts")
        try:
            part: bytes = self._decompressor.decompress(block, most)
        except zstd_module().ZstdError:
            raise _TryAgain("incomplete", "the compressed body is damaged") from None
        self.is_complete = self._decompressor.eof
        self.holds_back = not self.is_complete and not self._decompressor.needs_input
        return part


def _decompressor(encoding: str) -> _Plain:
    if encoding in ("", "identity"):
        return _Plain()
    if encoding in ("gzip", "x-gzip"):
        return _Gzip()
    if encoding == "deflate":
        return _Gzip(15)
    if encoding == "zstd":
        return _Zstd()
    raise PullFailed(f"the body has the encoding {encoding[:40]!r}, which was not asked for")
