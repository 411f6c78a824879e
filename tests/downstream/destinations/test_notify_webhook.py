"""Webhooks: where a message is sent to and where not, how long is waited, and what is shown of an answer."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
import ssl
import subprocess
import threading
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from daemon.downstream.destinations import notify_tries
from tests.downstream.destinations.receivers import Receiver, World
from tests.downstream.worlds import ORDERS
from tests.support import REPO

pytestmark = pytest.mark.usefixtures("quick_tries")
KEY = "abcdefghijklmnop"


def world_of(root: Path, section: str) -> World:
    world = World(root, f"{section}\nattempts = 1")
    world.publish(*ORDERS)
    return world


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:{port}/hook", "url must begin with https:// or http://"),
        ("ftp://127.0.0.1/", "url must begin with https:// or http://"),
        ("https:///hook", "url must begin with https:// or http:// and have a host"),
        ("http://[::1/", "url is none that can be asked"),
        ("http://127.0.0.1:x/", "url is none that can be asked"),
        ("http://me:{key}@127.0.0.1:{port}/", "url has a user; write headers"),
    ],
)
def test_a_url_that_is_none_is_said_and_nothing_is_sent(
    tmp_path: Path, receiver: Receiver, monkeypatch: Any, url: str, said: str
) -> None:
    """Above all not without encryption because the scheme is missing."""
    port = receiver.url.rpartition(":")[2].partition("/")[0]
    monkeypatch.setenv("HOOK", url.format(port=port, key=KEY))
    found = world_of(tmp_path, 'url = "${HOOK}"').round()
    assert f"[notify.team]: {said}" in found.error and not found.is_transient and not receiver.received
    assert KEY not in found.error and port not in found.error


@pytest.mark.parametrize(
    "answer",
    [
        KEY.encode(), b" " * ((1 << 16) - 9) + KEY.encode(), b" " * 1990 + KEY.encode(),
        "".join(f"&#{ord(one)};" for one in KEY).encode(), KEY.encode("utf-16"), "\n".join(KEY).encode(),
    ],
    ids=["plain", "at the end of what is looked at", "after blanks", "as HTML", "as UTF-16", "by line"],
)  # fmt: skip
def test_an_answer_that_repeats_a_secret_is_shown_without_it(
    tmp_path: Path, receiver: Receiver, monkeypatch: Any, answer: bytes
) -> None:
    """Nor a part of it, wherever the answer is cut, and however it is spelled."""
    monkeypatch.setenv("HOOK_KEY", KEY)
    world = world_of(tmp_path, f'url = "{receiver.url}"\nsecret = "${{HOOK_KEY}}"')
    receiver.answers = [(400, {}, answer)]
    error = world.round().error
    assert "answered with 400" in error
    assert not any(KEY[at : at + 4] in "".join(error.split()) for at in range(len(KEY) - 3))


def test_a_secret_in_latin_1_is_not_shown(tmp_path: Path, receiver: Receiver, monkeypatch: Any) -> None:
    """Its first letters are readable, whatever the bytes are taken for."""
    monkeypatch.setenv("HOOK_KEY", "geheimnis-müller")
    world = world_of(tmp_path, f'url = "{receiver.url}"\nsecret = "${{HOOK_KEY}}"')
    receiver.answers = [(400, {}, "geheimnis-müller".encode("latin-1"))]
    assert "geheim" not in world.round().error


def test_a_header_that_cannot_be_sent_is_named_without_its_value(
    tmp_path: Path, receiver: Receiver, monkeypatch: Any
) -> None:
    """HTTP has no letters beyond Latin-1."""
    monkeypatch.setenv("HOOK_KEY", "кл" + KEY)
    found = world_of(tmp_path, f'url = "{receiver.url}"\nheaders = {{ X-Key = "${{HOOK_KEY}}" }}').round()
    assert "the request cannot be sent" in found.error and KEY not in found.error and not receiver.received


def test_headers_of_the_settings_replace_those_of_the_same_name(tmp_path: Path, receiver: Receiver) -> None:
    """Not the id, by which a receiver tells repeats."""
    headers = 'content-type = "application/vnd.shop+json", x-strandline-id = "1", X-Team = "a"'
    world_of(tmp_path, f'url = "{receiver.url}"\nheaders = {{ {headers} }}').well()
    (one,) = receiver.received
    sent = [(name.lower(), value) for name, value in one.headers.items()]
    assert ("content-type", "application/vnd.shop+json") in sent and ("x-team", "a") in sent
    assert ("x-strandline-id", one.message["id"]) in sent and len({name for name, _ in sent}) == len(sent)


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("7", 7, 7),
        ("2.5", 2.5, 2.5),
        ("in 20 s", 15, 20),
        ("86400", 60, 60),
        ("-1", 0, 1),
        ("soon", 0, 1),
        ("nan", 0, 1),
    ],
)
def test_retry_after_is_kept_within_bounds(
    tmp_path: Path, receiver: Receiver, value: str, least: float, most: float
) -> None:
    """In seconds or as a date; at most a minute."""
    world = World(tmp_path, f'url = "{receiver.url}"\nattempts = 2')
    world.publish(*ORDERS)
    value = formatdate(time.time() + 20, usegmt=True) if value == "in 20 s" else value
    receiver.answers = [(429, {"Retry-After": value}, b"")]
    waits: list[float] = []

    def until(is_done: Any, seconds: float, stopped: Any) -> bool:
        waits.append(seconds)
        return True

    with mock.patch.object(notify_tries, "until", until):
        world.well()
    assert len(waits) == 1 and least <= waits[0] <= most


def test_a_stop_ends_a_wait(tmp_path: Path, receiver: Receiver) -> None:
    """And the message is still there."""
    world = World(tmp_path, f'url = "{receiver.url}"\nattempts = 2')
    world.publish(*ORDERS)
    receiver.answers = [(503, {"Retry-After": "60"}, b"")]
    with world.home.following() as following, pytest.raises(Exception, match="stopped while a message"):
        following.round(lambda: bool(receiver.received))
    world.well()
    assert len({one.body for one in receiver.received}) == 1 and len(receiver.received) == 2


@pytest.mark.parametrize("part", ["headers", "body"])
def test_what_comes_byte_by_byte_is_not_waited_for(tmp_path: Path, receiver: Receiver, part: str) -> None:
    """The time limit is of the whole try. Where the status has come, it counts."""
    over = threading.Event()

    def drip(handler: Any) -> None:
        if part == "body":
            handler.send_response(400)
            handler.send_header("Content-Length", "100000")
            handler.end_headers()
        else:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not over.wait(0.05):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    world = world_of(tmp_path, f'url = "{receiver.url}"\ntimeout = 0.4')
    receiver.answers = [drip]
    began = time.monotonic()
    try:
        error = world.round().error
    finally:
        over.set()
    assert ("answered with 400" if part == "body" else "no answer of 127.0.0.1 within 0.4 s") in error
    assert time.monotonic() - began < 20


def test_success_is_the_status_whatever_follows(tmp_path: Path, receiver: Receiver) -> None:
    """The body is not read: it may be cut short, or endless."""

    def cut(handler: Any) -> None:
        handler.send_response(202)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        handler.wfile.write(b"x")
        handler.connection.shutdown(2)

    receiver.answers = [cut]
    world_of(tmp_path, f'url = "{receiver.url}"').well()
    assert len(receiver.received) == 1


def test_the_page_is_the_code(tmp_path: Path, receiver: Receiver, monkeypatch: Any) -> None:
    """docs/NOTIFY.md: its example has the keys of a message, and its lines of Python tell a genuine one from another."""
    monkeypatch.setenv("HOOK_KEY", KEY)
    world_of(tmp_path, f'url = "{receiver.url}"\nsecret = "${{HOOK_KEY}}"').well()
    (one,) = receiver.received
    page = (REPO / "docs" / "NOTIFY.md").read_text(encoding="utf-8")
    example, check = (page.partition(f"```{language}\n")[2].partition("```")[0] for language in ("json", "python"))
    shown, message = json.loads(example), one.message
    assert list(shown) == list(message) and list(shown["drops"][0]) == list(message["drops"][0])
    assert list(shown["dates"][0]) == list(message["dates"][0])
    assert list(shown["dates"][0]["after"]) == list(message["dates"][0]["after"])
    for body, is_genuine in ((one.body, True), (one.body + b" ", False)):
        names = {"hmac": hmac, "hashlib": hashlib, "secret": KEY.encode(), "body": body, "headers": one.headers}
        exec(check, names)
        assert names["is_genuine"] is is_genuine


def test_certificates_are_verified(tmp_path: Path, receiver: Receiver) -> None:
    """An unknown one is an error that names ca_file; with it, whose path is relative to the configuration, it is known."""
    program = shutil.which("openssl")
    if program is None:
        if os.environ.get("REQUIRE_TEST_TOOLS"):
            pytest.fail("openssl is missing")
        pytest.skip("needs openssl")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate], check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    url = receiver.url.replace("http:", "https:")
    world = world_of(tmp_path, f'url = "{url}"')
    found = world.round()
    assert "certificate" in found.error and "ca_file" in found.error and not found.is_transient
    assert not receiver.received
    world.home.destinations(f'[notify.team]\nurl = "{url}"\nca_file = "no such file"')
    assert "ca_file" in world.round().error
    world.home.destinations(f'[notify.team]\nurl = "{url}"\nca_file = "certificate.pem"')
    world.well()
    assert len(receiver.received) == 1
