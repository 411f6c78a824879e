"""[sources.NAME.pull]: what is allowed, what goes together, and that no error shows a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.config import load
from daemon.core.errors import UsageError
from daemon.sources.mapping_settings import presets
from daemon.sources.pull.instants import Zone, read_change_time, spelled, values_at
from daemon.sources.pull.settings import Next, Pull, merged

DAY = 86_400_000_000


def pull_of(folder: Path, text: str, source: str = "") -> Pull:
    path = folder / "config.toml"
    path.write_text(f"[sources.shop]\n{source}\n[sources.shop.pull]\n{text}\n", encoding="utf-8")
    found = load(path, {}).sources["shop"].pull
    assert found is not None
    return found


def test_defaults_and_every_setting(tmp_path: Path) -> None:
    assert pull_of(tmp_path, 'url = "https://a.example/x"') == Pull("https://a.example/x", folder=tmp_path)
    text = """
url = "https://a.example/{since}"
method = "POST"
params = {limit = 100, deep = true, many = ["a", "b"], page = "{page}"}
headers = {X-Token = "${TOKEN}"}
body = {query = {since = "{since}", n = 1}}
basic_auth = "${USER}:${file:secret}"
every = "5m"
next = {path = "meta.next", param = "cursor", more = "meta.more"}
total = "meta.total"
cursor = "orders.updated_at"
since_format = "%Y-%m-%d"
start = 2026-01-01
lookback = "2h"
max_pages = 7
max_page_bytes = "1MiB"
timeout = 3
ca_file = "ca.pem"
"""
    found = pull_of(tmp_path, text)
    assert found.params == (("limit", "100"), ("deep", "true"), ("many", "a"), ("many", "b"), ("page", "{page}"))
    assert (found.every, found.lookback, found.max_page_bytes, found.timeout) == (300.0, 7200.0, 1 << 20, 3.0)
    assert found.next == Next("path", "meta.next", "cursor", "meta.more")
    assert found.start == 20454 * DAY and found.ca_file == str(tmp_path / "ca.pem")
    assert found.body == '{"query": {"since": "{since}", "n": 1}}'


@pytest.mark.parametrize("start", ['"2026-01-01"', "2026-01-01", "2026-01-01T00:00:00Z", '"1767225600"'])
def test_start_is_any_spelling_of_an_instant(tmp_path: Path, start: str) -> None:
    assert pull_of(tmp_path, f'url = "http://x/y"\nstart = {start}').start == 20454 * DAY


def test_start_without_a_zone_is_in_the_zone_of_the_source(tmp_path: Path) -> None:
    found = pull_of(tmp_path, 'url = "http://x/y"\nstart = "2026-01-01"', 'time_zone = "Europe/Berlin"')
    assert found.start == 20454 * DAY - 3_600_000_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["url is missing", "https://"]),
        ("url = 3", ["url = 3", "https://"]),
        ('url = "ftp://x/y"', ["ftp://x/y", "https://"]),
        ('url = "https://"', ["https://"]),
        ('url = "https://x y/"', ["https://"]),
        ('url = "https://x:port/"', ["https://"]),
        ('url = "https://x/"\ncolour = 1', ["unknown setting 'colour'", "allowed are url, method"]),
        ('url = "https://x/"\nmethod = "PUT"', ['method = "PUT"', '"GET" or "POST"']),
        ('url = "https://x/"\nparams = 3', ["params = 3", "table"]),
        ('url = "https://x/"\nparams = {a = {b = 1}}', ["params.a", "a text or a number"]),
        (
            'url = "https://x/"\nparams = {a = "{sinc}"}',
            ["unknown placeholder {sinc}", "{since}, {page}, {offset}, {cursor}"],
        ),
        ('url = "https://x/"\nheaders = {"a b" = "c"}', ["headers", "'a b' is not the name of a header"]),
        ('url = "https://x/"\nheaders = {a = "b\\nc"}', ["headers.a", "one line"]),
        ('url = "https://x/"\nbody = {a = 1}', ['body needs method = "POST"']),
        ('url = "https://x/"\nbody = "a"', ["body", "table"]),
        ('url = "https://x/"\nevery = 0', ["every = 0", "at least 0.1 s"]),
        ('url = "https://x/"\nevery = "often"', ['every = "often"', '"1d"']),
        ('url = "https://x/"\nnext = "more"', ['next = "more"', '"link", "page"']),
        ('url = "https://x/"\nnext = {param = "a"}', ["next", "meta.next_cursor"]),
        ('url = "https://x/"\nnext = {path = "a..b"}', ["next", "keys divided by dots"]),
        ('url = "https://x/"\nnext = "page"', ['next = "page" needs the placeholder {page}']),
        ('url = "https://x/"\nnext = "offset"', ["{offset}"]),
        ('url = "https://x/"\nnext = "since"\ncursor = "a"', ["{since}"]),
        ('url = "https://x/{since}"\nnext = "since"\ncursor = "a"', ["{page} or {offset}"]),
        ('url = "https://x/{since}/{page}"\nnext = "since"', ["needs cursor"]),
        ('url = "https://x/{since}/{page}"\nnext = "since"\ncursor = "hwm"', ["needs cursor"]),
        ('url = "https://x/"\ncursor = "a.b"', ["cursor has no effect", "{since}"]),
        ('url = "https://x/{cursor}"', ["{cursor} needs next"]),
        ('url = "https://x/"\nsince_format = "unix"', ['since_format = "unix"', '"seconds"', "strftime"]),
        ('url = "https://x/"\nstart = "soon"', ['start = "soon"', "2026-01-01"]),
        ('url = "https://x/"\nstart = "1960-01-01"', ["start", "from 1970 on"]),
        ('url = "https://x/"\nmax_pages = 0', ["max_pages = 0", "from 1 to"]),
        ('url = "https://x/"\nmax_page_bytes = "much"', ['max_page_bytes = "much"', "256MiB"]),
        ('url = "https://x/"\ntimeout = -1', ["timeout"]),
        ('url = "https://x/"\ntotal = 3', ["total", "keys divided by dots"]),
        ('url = "https://x/"\nparams = {a = "${TOK-EN}"}', ["unknown placeholder ${TOK-EN}"]),
        ('url = "https://x/"\nmethod = "POST"\nbody = {a = "${file:}"}', ["unknown placeholder ${file:}"]),
        ('url = "https://x/"\nsince_format = "%Q"', ['since_format = "%Q"', "strftime"]),
        ('url = "https://x/"\nsince_format = "%s"', ['since_format = "%s"', "strftime"]),
    ],
)
def test_what_is_not_allowed_is_named_with_what_is(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as raised:
        pull_of(tmp_path, text)
    assert all(word in str(raised.value) for word in ["[sources.shop.pull] in", "config.toml", *words]), str(
        raised.value
    )
    assert str(raised.value).isprintable()


def test_by_change_time_a_local_time_must_name_its_zone(tmp_path: Path) -> None:
    """In the hour that occurs twice, the round would go in circles or miss orders."""
    text = 'url = "https://x/{since}/{page}"\nnext = "since"\ncursor = "orders.u"\nsince_format = "%Y-%m-%d %H:%M:%S"'
    with pytest.raises(UsageError, match="a local time may occur twice"):
        pull_of(tmp_path, text, 'time_zone = "Europe/Berlin"')
    assert pull_of(tmp_path, text).since_format.startswith("%Y")
    assert pull_of(tmp_path, text.replace("%S", "%S%z"), 'time_zone = "Europe/Berlin"').next.kind == "since"


def test_a_local_time_that_occurs_twice_is_asked_for_an_hour_earlier() -> None:
    berlin, form = Zone("Europe/Berlin"), "%Y-%m-%d %H:%M"
    first = 1_792_888_200_000_000  # 2026-10-25 02:30 in summer time
    spelled_at = [spelled(first + hour * 3_600_000_000, form, berlin) for hour in (-1, 0, 1, 2)]
    assert spelled_at == ["2026-10-25 01:30", "2026-10-25 01:30", "2026-10-25 01:30", "2026-10-25 03:30"]
    assert spelled(253_402_300_799_999_999, form, Zone("Asia/Tokyo")) == "9999-12-30 08:59"


def test_pull_is_a_section(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[sources.shop]\npull = 3\n")
    with pytest.raises(UsageError, match="is a section"):
        load(tmp_path / "config.toml", {})


@pytest.mark.parametrize(
    "text",
    [
        'url = "https://me:s3cret@x/"',
        'url = "https://x/"\nheaders = {Authorization = ["s3cret", {}]}',
        'url = "https://x/"\nheaders = {X-Api-Key = "s3cret\\u0001"}',
        'url = "https://x/"\nbasic_auth = ["s3cret"]',
        'url = "https://x/"\nparams = {api_key = {a = "s3cret"}}',
    ],
)
def test_no_error_shows_a_secret(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as raised:
        pull_of(tmp_path, text)
    assert "s3cret" not in str(raised.value)


def test_secrets_in_the_file_itself_are_found(tmp_path: Path) -> None:
    text = """
url = "https://x/{since}?sig=abc"
basic_auth = "a:b"
headers = {Authorization = "Bearer abc", X-Shopify-Access-Token = "abc", Accept = "application/json", Cookie = "${C}"}
params = {api_key = "abc", key = "${K}", page_token = "{since}", limit = "5"}
method = "POST"
body = {a = [{client_secret = "abc"}], limit = "5"}
"""
    found = pull_of(tmp_path, text).literal_secrets()
    assert found == [
        "headers.Authorization",
        "headers.X-Shopify-Access-Token",
        "params.api_key",
        "url (sig)",
        "body.a.0.client_secret",
        "basic_auth",
    ]


def test_settings_override_a_preset_table_by_table(tmp_path: Path) -> None:
    text = 'url = "https://x/y"\nparams = {limit = "10", status = ""}\nnext = "link"'
    found = pull_of(tmp_path, text, 'preset = "shopify"')
    assert dict(found.params)["limit"] == "10" and dict(found.params)["updated_at_min"] == "{since}"
    assert merged({"a": {"b": 1, "c": 2}, "next": {"path": "x", "more": "y"}}, {"a": {"b": 3}, "next": {"path": "z"}}) == {
        "a": {"b": 3, "c": 2}, "next": {"path": "z"},
    }  # fmt: skip


@pytest.mark.parametrize("preset", presets())
def test_a_preset_brings_its_pull_only_with_a_section(tmp_path: Path, preset: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'[sources.shop]\npreset = "{preset}"\n')
    assert load(path, {}).sources["shop"].pull is None
    assert pull_of(tmp_path, 'url = "https://x/y"', f'preset = "{preset}"').cursor


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("iso", "2026-01-01T10:20:30Z"), ("seconds", "1767262830"), ("milliseconds", "1767262830123"),
        ("%Y-%m-%d %H:%M:%S", "2026-01-01 11:20:30"), ("%Y-%m-%d", "2026-01-01"),
        ("%Y-%m-%dT%H:%M:%S%z", "2026-01-01T11:20:30+0100"),
    ],
)  # fmt: skip
def test_an_instant_is_cut_to_what_the_form_can_say(form: str, text: str) -> None:
    """Never later than it is. A pattern is in the zone of the source."""
    assert spelled(1_767_262_830_123_456, form, Zone("Europe/Berlin")) == text


def test_change_times_are_read_as_instants_of_orders_are() -> None:
    berlin = Zone("Europe/Berlin")
    assert read_change_time("2026-01-01T11:20:30", berlin) == 1_767_262_830_000_000
    assert read_change_time({"$date": "2026-01-01T10:20:30Z"}, berlin) == 1_767_262_830_000_000
    assert [read_change_time(one, berlin) for one in (None, "", "soon", {}, [], True)] == [None] * 6


def test_a_path_leads_through_lists() -> None:
    page = {"orders": [{"u": 1}, {"u": 2}, {}], "data": [{"id": 7}, {"id": 9}]}
    assert list(values_at(page, ("orders", "u"))) == [1, 2, None]
    assert list(values_at(page["orders"], ("u",))) == [1, 2, None]
    assert list(values_at(page, ("data", "-1", "id"))) == [9]
    assert list(values_at(page, ("data", "5", "id"))) == []
    assert list(values_at(page, ("gone", "u"))) == [None]
    assert list(values_at("text", ("u",))) == [None]
