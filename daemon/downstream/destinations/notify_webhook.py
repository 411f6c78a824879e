"""Sends a message to a webhook: POST, signed, until it is answered with 2xx. What is said of it has no secret."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, NewConnectionError, SSLError

from ...sources.pull.template import Secrets
from ..contract import DownstreamFailed
from .notify_tries import NotNow, tried, until
from .settings import Notify

ID_HEADER, SIGNATURE_HEADER = "X-Strandline-Id", "X-Strandline-Signature"
_LATER = {408, 425, 429}  # besides 5xx
_LONGEST_RETRY_AFTER_SECONDS = 60.0  # within a round; a longer one is kept by the delay between rounds
_SHOWN_BYTES = 2_000
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
        if password := _userinfo(self._url):
            secrets.hide(password)
        self._timeout = float(settings.timeout)
        self._headers = {name: secrets.filled(text, {}) or "" for name, text in settings.headers.items()}
        self._headers |= {"Content-Type": "application/json", "User-Agent": "strandline", ID_HEADER: number}
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
        """One try. A stop does not wait for the answer: the message is then sent again, under its id."""
        errors: list[Exception] = []

        def once() -> None:
            try:
                self._post()
            except Exception as error:
                errors.append(error)

        trying = threading.Thread(target=once, name="webhook", daemon=True)
        trying.start()
        limit = 3 * self._timeout  # of connecting, sending, and waiting for the answer
        if not until(lambda: not trying.is_alive(), limit, stopped):
            raise NotNow(f"{self._where}: no answer of {self._host} within {limit:g} s")
        if errors:
            raise errors[0].with_traceback(None) from None

    def _post(self) -> None:
        try:
            response = self._pool.request(
                "POST", self._url, body=self._body, headers=self._headers, redirect=False, preload_content=False,
                decode_content=False,
            )  # fmt: skip
        except NewConnectionError as error:
            raise self._not_now(f"no connection to {self._host}: {_cause(error)}") from None
        except SSLError as error:
            raise DownstreamFailed(
                f"{self._where}: no connection to {self._host}: {self._said(error)}; is ca_file right?"
            ) from None
        except LocationParseError:
            raise DownstreamFailed(f"{self._where}: url is none that can be asked; correct it") from None
        except HTTPError as error:
            raise self._not_now(f"no answer of {self._host}: {self._said(error)}") from None
        except ValueError as error:  # a header that cannot be sent
            raise DownstreamFailed(f"{self._where}: the request cannot be sent: {self._said(error)}") from None
        with response:
            self._judge(response)

    def _judge(self, response: urllib3.BaseHTTPResponse) -> None:
        status = response.status
        if 200 <= status < 300:
            return
        if 300 <= status < 400:
            raise DownstreamFailed(
                f"{self._where}: {self._host} answered with {status}, a redirect; write the address that it redirects to as url"
            )
        text = f"{self._host} answered with {status}{self._excerpt(response)}"
        if status in _LATER or status >= 500:
            raise self._not_now(text, _seconds(response.headers.get("Retry-After")))
        raise DownstreamFailed(
            f"{self._where}: {text}; see whether url, headers and secret are what the receiver expects"
        )

    def _excerpt(self, response: urllib3.BaseHTTPResponse) -> str:
        """The beginning of an answer; empty where it has none."""
        content, end = b"", time.monotonic() + self._timeout
        try:
            while len(content) < _SHOWN_BYTES and time.monotonic() < end:
                if not (part := response.read(_SHOWN_BYTES)):
                    break
                content += part
        except (HTTPError, OSError):
            pass
        text = " ".join(self._secrets.hidden_in(content[:_SHOWN_BYTES].decode(errors="replace")).split())
        shown = "".join(one if one.isprintable() else "?" for one in text[:_SHOWN_CHARACTERS])
        return f": {shown}" if shown else ""

    def _not_now(self, text: str, after: float = 0.0) -> NotNow:
        return NotNow(f"{self._where}: {text}; the message is sent again", after)

    @property
    def _host(self) -> str:
        return self._secrets.hidden_in(urlsplit(self._url).hostname or "the host of url")

    def _said(self, error: Exception) -> str:
        """What an error says, without objects of urllib3 and secrets."""
        return self._secrets.hidden_in(
            re.sub(r"<[^>]*>:?\s*|\(?Caused by.*", "", str(error)).strip() or type(error).__name__
        )


def _cause(error: NewConnectionError) -> str:
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error).rpartition(": ")[2])


def _userinfo(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""


def _seconds(retry_after: str | None) -> float:
    """What `Retry-After` asks for, within bounds; a date counts as nothing."""
    try:
        return min(max(0.0, float(retry_after or 0)), _LONGEST_RETRY_AFTER_SECONDS)
    except ValueError:
        return 0.0
