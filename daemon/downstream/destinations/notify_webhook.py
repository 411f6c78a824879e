"""Sends a message to a webhook: POST, signed, until it is answered with 2xx. What is said of it has no secret."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, NewConnectionError, SSLError

from ...core.errors import plain
from ...sources.pull.requests import retry_after
from ...sources.pull.template import Secrets
from ..contract import DownstreamFailed
from .notify_tries import LOOKED_AT_BYTES, NotNow, tried, until, without_secrets
from .settings import Notify

ID_HEADER, SIGNATURE_HEADER = "X-Strandline-Id", "X-Strandline-Signature"
_LATER = {408, 425, 429}  # besides 5xx
_LONGEST_RETRY_AFTER_SECONDS = 60.0
_SHOWN_CHARACTERS = 200

logging.getLogger("urllib3").propagate = False  # its lines have URLs with parameters


def send(settings: Notify, secrets: Secrets, number: str, body: bytes, stopped: Callable[[], bool]) -> None:
    """Sends one message, in a few tries. Raises DownstreamFailed, Unavailable, Stopped. `secrets`: read already."""
    webhook = _Webhook(settings, secrets, number, body)
    try:
        tried(lambda: webhook.post(stopped), settings.attempts, stopped)
    finally:
        webhook.close()


def signature(secret: str, body: bytes) -> str:
    """The value of the header that a receiver compares."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


class _Webhook:
    def __init__(self, settings: Notify, secrets: Secrets, number: str, body: bytes) -> None:
        self._where, self._secrets, self._body = settings.where, secrets, body
        self._url = secrets.filled(settings.url, {}) or settings.url
        self._host = secrets.hidden_in(self._checked_host())
        self._timeout = float(settings.timeout)
        self._headers = urllib3.HTTPHeaderDict({"Content-Type": "application/json", "User-Agent": "strandline"})
        for name, text in settings.headers.items():
            self._headers[name] = secrets.filled(text, {}) or ""
        self._headers[ID_HEADER] = number
        if settings.secret:
            self._headers[SIGNATURE_HEADER] = signature(secrets.filled(settings.secret, {}) or "", body)
        self._pool = urllib3.PoolManager(
            retries=False, timeout=urllib3.Timeout(connect=self._timeout, read=self._timeout),
            ca_certs=str(settings.folder / settings.ca_file) if settings.ca_file else None, cert_reqs="CERT_REQUIRED",
            maxsize=1,
        )  # fmt: skip

    def close(self) -> None:
        self._pool.clear()

    def post(self, stopped: Callable[[], bool]) -> None:
        """One try, in a thread: neither a stop nor the time limit waits for what comes late, or byte by byte. The message may
        have arrived then, and is sent again under its id."""
        found: list[Exception | None] = []

        def once() -> None:
            try:
                for outcome in self._outcomes():
                    found.append(outcome)
            except Exception as error:
                found.append(error)

        trying = threading.Thread(target=once, name="webhook", daemon=True)
        trying.start()
        until(lambda: not trying.is_alive(), self._timeout, stopped)
        error = found[-1] if found else self._not_now(f"no answer of {self._host} within {self._timeout:g} s")
        if error is not None:
            raise error.with_traceback(None) from None

    def _outcomes(self) -> Iterator[Exception | None]:
        """What one try comes to; None: the message arrived. The last one counts: the status says it, whatever follows it."""
        try:
            response = self._pool.request(
                "POST", self._url, body=self._body, headers=self._headers, redirect=False, preload_content=False,
                decode_content=False,
            )  # fmt: skip
        except NewConnectionError as error:
            yield self._not_now(f"no connection to {self._host}: {_cause(error)}")
        except SSLError as error:
            yield self._failed(f"no connection to {self._host}: {self._said(error)}; is ca_file right?")
        except (LocationValueError, ValueError) as error:  # a header or a URL that cannot be sent
            yield self._failed(f"the request cannot be sent: {self._said(error)}; correct url or headers")
        except HTTPError as error:
            yield self._not_now(f"no answer of {self._host}: {self._said(error)}")
        else:
            with response:
                yield self._judged(response, "")
                if response.status >= 400:
                    yield self._judged(response, self._excerpt(response))

    def _judged(self, response: urllib3.BaseHTTPResponse, excerpt: str) -> Exception | None:
        status = response.status
        if 200 <= status < 300:
            return None
        if 300 <= status < 400:
            return self._failed(
                f"{self._host} answered with {status}, a redirect; write the address that it redirects to as url"
            )
        text = f"{self._host} answered with {status}{excerpt}"
        if status in _LATER or status >= 500:
            after = retry_after(response.headers.get("Retry-After"), time.time()) or 0.0
            return self._not_now(text, min(after, _LONGEST_RETRY_AFTER_SECONDS))
        return self._failed(f"{text}; see whether url, headers and secret are what the receiver expects")

    def _excerpt(self, response: urllib3.BaseHTTPResponse) -> str:
        """The beginning of an answer; empty where it has none."""
        content = b""
        try:
            while len(content) < LOOKED_AT_BYTES and (part := response.read1(LOOKED_AT_BYTES)):
                content += part
        except (HTTPError, OSError):
            pass
        text = without_secrets(content[:LOOKED_AT_BYTES], self._secrets)[: LOOKED_AT_BYTES // 2]
        shown = " ".join(text.split())[:_SHOWN_CHARACTERS]
        return f": {shown}" if shown else ""

    def _checked_host(self) -> str:
        """The host of the URL. DownstreamFailed where it is none that a message may be sent to: without a scheme it would go out
        unencrypted, and a user in it would not be sent at all."""
        try:
            parts = urlsplit(self._url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise self._failed("url must begin with https:// or http:// and have a host; correct it")
            if parts.username is not None:
                raise self._failed("url has a user; write headers = { Authorization = … } in its place")
            _ = parts.port  # ValueError where it is no number
        except ValueError:
            raise self._failed("url is none that can be asked; correct it") from None
        return parts.hostname

    def _failed(self, text: str) -> DownstreamFailed:
        return DownstreamFailed(f"{self._where}: {text}")

    def _not_now(self, text: str, after: float = 0.0) -> NotNow:
        return NotNow(f"{self._where}: {text}; the message is sent again", after)

    def _said(self, error: Exception) -> str:
        """What an error says, without objects of urllib3 and secrets."""
        text = re.sub(r"<[^>]*>:?\s*|\(?Caused by.*", "", self._secrets.hidden_in(str(error)))
        return plain(text).strip()[:_SHOWN_CHARACTERS] or "the request failed"


def _cause(error: NewConnectionError) -> str:
    return plain(str(error).rpartition(": ")[2])
