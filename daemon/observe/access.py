"""Who is answered over HTTP: clients that call this server by a name of its own, and that log in where [http] says so.

A page of another site can make a browser ask this server: a name of that site is made to point to the server's address (DNS
rebinding). Then the Host header has that name. An address as Host proves that there was no name to rebind.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import UsageError, shown
from ..sources.pull.template import Secrets
from .http_settings import Http

ANY = "*"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:,\s]*)(?::[0-9]*)?")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered, with the status and further headers."""

    status: str
    why: str
    headers: Mapping[str, str]


class Access:
    """`hosts`: names that clients may call this server by, in addition to addresses and the names of this machine; "*": any.
    `basic_auth`: "USER:PASSWORD", and `bearer_token`; either is enough, and where both are empty nobody needs to log in."""

    def __init__(self, hosts: Iterable[str] = (), basic_auth: str = "", bearer_token: str = "") -> None:
        own = ("localhost", socket.gethostname(), *hosts)
        self._names = {one.lower().removesuffix(".") for one in own}
        self._expected = {"basic": basic_auth.encode(), "bearer": bearer_token.encode()}
        self._challenge = ", ".join(
            challenge
            for given, challenge in (
                (basic_auth, 'Basic realm="Strandline", charset="UTF-8"'),
                (bearer_token, 'Bearer realm="Strandline"'),
            )
            if given
        )

    def refusal(self, environ: Mapping[str, Any]) -> Refusal | None:
        """Why this request is not answered; None where it is. `environ`: as WSGI has it."""
        host = environ.get("HTTP_HOST")
        if host is None and environ.get("SERVER_PROTOCOL") != "HTTP/1.0":
            return Refusal("400 Bad Request", "the request has no Host header", {})
        if host is not None and not self._is_own(host):
            why = (
                f"the Host header {shown(host)} is not a name of this server; "
                "if it is one, add it to [http] allowed_hosts and start strandline again"
            )
            return Refusal("421 Misdirected Request", why, {})
        if self._challenge and not self._is_logged_in(environ.get("HTTP_AUTHORIZATION", "")):
            return Refusal("401 Unauthorized", "log in as [http] requires", {"WWW-Authenticate": self._challenge})
        return None

    def _is_own(self, host: str) -> bool:
        if ANY in self._names:
            return True
        found = _HOST.fullmatch(host.strip())
        if found is None:
            return False
        name = found[1].lower().removesuffix(".")
        return name in self._names or _is_address(name.strip("[]"))

    def _is_logged_in(self, given: str) -> bool:
        scheme, _, rest = given.strip().partition(" ")
        expected = self._expected.get(scheme.lower(), b"")
        credentials = _decoded(rest.strip()) if scheme.lower() == "basic" else rest.strip().encode("latin-1", "replace")
        return bool(expected) and hmac.compare_digest(credentials, expected)


def access_of(settings: Http, environment: Mapping[str, str], folder: Path) -> Access:
    """The access that settings describe; their secrets are read here. `folder`: what ${file:PATH} is relative to. UsageError
    where a secret is missing, or cannot be one."""
    texts = settings.basic_auth, settings.bearer_token
    secrets = Secrets(environment, folder)
    secrets.read(texts, "[http]")
    basic_auth, token = (secrets.filled(one, {}) or "" for one in texts)
    user, _, password = basic_auth.partition(":")
    if settings.basic_auth and not (user and password):
        raise UsageError("[http] basic_auth is not allowed; it must be USER:PASSWORD with a user and a password")
    if settings.bearer_token and not re.fullmatch(r"[!-~]+", token):
        raise UsageError(
            "[http] bearer_token is not allowed; it must be letters, digits and signs of ASCII, without spaces"
        )
    return Access((settings.host, *settings.allowed_hosts), basic_auth, token)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
