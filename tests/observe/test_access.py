"""Who is answered: names of the server, and logins."""

from __future__ import annotations

import base64
import socket
from pathlib import Path

import pytest

from daemon.core.errors import UsageError
from daemon.observe.access import Access, access_of
from daemon.observe.http_settings import Http


def refused(access: Access, host: str | None = "localhost", authorization: str = "", protocol: str = "HTTP/1.1") -> str:
    """The status of the refusal, or an empty string."""
    environ = {"SERVER_PROTOCOL": protocol, "HTTP_AUTHORIZATION": authorization}
    found = access.refusal(environ if host is None else environ | {"HTTP_HOST": host})
    return "" if found is None else found.status.split()[0]


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:10464", "localhost.:1", "127.0.0.1", "127.0.0.1:10464", "10.1.2.3:80", "[::1]", "[::1]:10464",
     "[fe80::1]", socket.gethostname(), f"{socket.gethostname().upper()}:1", "orders.example.com", "ORDERS.example.com:443"],
)  # fmt: skip
def test_its_own_names_and_addresses_are_answered(host: str) -> None:
    """In capital letters, with a port, with the dot of a full name."""
    assert refused(Access(["orders.example.com"]), host) == ""


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:10464", "localhost.evil.example", "127.0.0.1.evil.example", "evil.localhost.", "", ":10464",
     "localhost, evil.example", "evil.example, localhost", "user@localhost", "localhost/x", "[::1].evil.example",
     "[evil.example]",
     "::1", "orders.example.com.evil.example", "127.0.0.1:80:80", "localhost:80a", "\x00localhost", "*", "1.2.3", "0x7f000001"],
)  # fmt: skip
def test_other_names_are_refused(host: str) -> None:
    """As a page that rebinds a name of its own to this address sends them."""
    assert refused(Access(["orders.example.com"]), host) == "421"


def test_a_refusal_says_what_to_set_on_one_line() -> None:
    """And shows the name as text of limited length."""
    found = Access().refusal({"HTTP_HOST": "evil\x1b[31m<b>" + "x" * 10_000, "SERVER_PROTOCOL": "HTTP/1.1"})
    assert found is not None and "[http] allowed_hosts" in found.why
    assert found.why.isprintable() and len(found.why) < 500


def test_any_name_is_answered_where_that_is_said_and_none_is_needed_in_http_1_0() -> None:
    """HTTP/1.1 requires one."""
    assert refused(Access(["*"]), "evil.example") == "" and refused(Access(["*"]), "what, ever") == ""
    assert refused(Access(), None, protocol="HTTP/1.0") == "" and refused(Access(), None) == "400"


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_a_login_opens_and_nothing_else_does() -> None:
    """A user and a password, or a token; the scheme in any case."""
    both = Access((), "jo:pass:wörd", "t0ken")
    assert [refused(both, authorization=one) for one in (basic("jo:pass:wörd"), "Bearer t0ken", "bearer  t0ken ")] == [
        ""
    ] * 3
    wrong = ("", basic("jo:pass:word"), basic("jo:"), basic(":pass:wörd"), basic("JO:pass:wörd"), "Basic !!!", "Basic", "Bearer",
             "Bearer T0ken", "Bearer t0ken2", "Bearer t0ke", "t0ken", basic("t0ken"), "Bearer jo:pass:wörd", "Digest t0ken",
             "Bearer \xff\u0100", "Basic " + "=" * 1000)  # fmt: skip
    assert [refused(both, authorization=one) for one in wrong] == ["401"] * len(wrong)
    found = both.refusal({"HTTP_HOST": "localhost"} | {"SERVER_PROTOCOL": "HTTP/1.1"})
    assert found is not None
    assert found.headers == {"WWW-Authenticate": 'Basic realm="Strandline", charset="UTF-8", Bearer realm="Strandline"'}


def test_of_two_logins_only_the_one_that_is_set_counts() -> None:
    """An empty one opens nothing."""
    for given in ("Bearer ", "Bearer", "Bearer jo:pw"):
        assert refused(Access((), "jo:pw"), authorization=given) == "401"
    assert refused(Access((), "", "t0ken"), authorization=basic("")) == "401"
    assert refused(Access((), "", "t0ken"), authorization="Bearer t0ken") == ""


def test_without_a_login_nobody_needs_one() -> None:
    """As before there were logins."""
    assert refused(Access()) == "" and refused(Access(), authorization=basic("any:thing")) == ""


def test_secrets_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    """A file is relative to the folder of the configuration; the line break at its end does not count."""
    (tmp_path / "token").write_text("t0ken\n")
    settings = Http(
        allowed_hosts=("orders.example.com",), basic_auth="${WHO}:${PASSWORD}", bearer_token="${file:token}"
    )
    access = access_of(settings, {"WHO": "jo", "PASSWORD": "pass:word"}, tmp_path)
    assert (
        refused(access, "orders.example.com", basic("jo:pass:word")) == ""
        and refused(access, authorization="Bearer t0ken") == ""
    )


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (Http(basic_auth="${NOT_SET}"), "environment variable NOT_SET is missing"),
        (Http(bearer_token="${file:nothing}"), "cannot read .*nothing"),
        (Http(bearer_token="${file:empty}"), "is empty"),
        (Http(basic_auth="${SECRET}"), "must be USER:PASSWORD"),
        (Http(basic_auth=":${SECRET}"), "must be USER:PASSWORD"),
        (Http(basic_auth="s3cret:"), "must be USER:PASSWORD"),
        (Http(bearer_token="${SECRET} ${SECRET}"), "without spaces"),
        (Http(bearer_token="{page}s3cret"), "without spaces"),
    ],
)
def test_a_secret_that_is_missing_or_cannot_be_one_is_named_and_not_shown(
    tmp_path: Path, settings: Http, why: str
) -> None:
    """Before the port is opened."""
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(UsageError, match=why) as error:
        access_of(settings, {"SECRET": "s3cret"}, tmp_path)
    assert "s3cret" not in str(error.value) and "[http]" in str(error.value)
