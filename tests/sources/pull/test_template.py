"""Templates and secrets: what a request is filled with, and what nobody sees."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.errors import UsageError
from daemon.sources.pull.template import HIDDEN, Secrets, names, secrets, unknown

ENVIRONMENT = {"TOKEN": "t0k/en+ {page}", "EMPTY": "", "LINES": "a\nb"}


def filled(text: str, folder: Path = Path(), **values: str) -> str | None:
    found = Secrets(ENVIRONMENT, folder)
    found.read([text], "here")
    return found.filled(text, values)


def test_placeholders_are_filled_in_one_pass(tmp_path: Path) -> None:
    """What a value holds is no placeholder."""
    (tmp_path / "secret").write_text("from a file\n")
    assert filled("a {since} b {page}", since="{page}", page="2") == "a {page} b 2"
    assert filled("Bearer ${TOKEN}", page="2") == "Bearer t0k/en+ {page}"
    assert filled("${file:secret}!", tmp_path) == "from a file!"
    assert filled("{cursor}") is None and filled("{cursor}", cursor="") is None and filled("{}{x y}$") == "{}{x y}$"


def test_a_json_value_is_filled_and_what_has_no_value_is_left_out() -> None:
    found = Secrets({}, Path())
    value = {"a": "{cursor}", "b": ["{since}", "{cursor}", 1], "c": None, "d": {"e": "{page}"}}
    assert found.filled_json(value, {"since": "s", "page": "2"}) == {"b": ["s", 1], "c": None, "d": {"e": "2"}}


def test_names() -> None:
    text = "{since} ${TOKEN} ${file:a/b c} {nothing} {{page}}"
    assert (
        names(text) == {"since", "page"} and secrets(text) == {"TOKEN", "file:a/b c"} and unknown(text) == "{nothing}"
    )
    assert unknown("{since} ${TOKEN} {a b} {") is None and unknown("${}") == "${}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${GONE}", "environment variable GONE is missing or empty"),
        ("${EMPTY}", "environment variable EMPTY is missing or empty"),
        ("${LINES}", "value of ${LINES} has a line break"),
        ("${file:gone}", "No such file"),
        ("${file:empty}", "is empty"),
        ("${file:bytes}", "not UTF-8"),
    ],
)
def test_a_missing_secret_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError) as raised:
        filled(text, tmp_path)
    assert str(raised.value).startswith("here: ") and words in str(raised.value) and "a\nb" not in str(raised.value)


@given(
    secret=st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=4),
    around=st.text(max_size=5),
)
def test_a_secret_is_hidden_in_every_form(secret: str, around: str) -> None:
    found = Secrets({"S": secret}, Path())
    found.read(["${S}"], "here")
    forms = [secret, quote_plus(secret), repr(secret), base64.b64encode(secret.encode()).decode()]
    for form in forms:
        assert secret not in found.hidden_in(f"{around}{form}{around}").replace(HIDDEN, "") or secret in around


def test_without_secrets_nothing_is_hidden() -> None:
    assert Secrets({}, Path()).hidden_in("a text") == "a text"
