"""One round against a real API on loopback that fails in every way: in the end every order is there, once."""

from __future__ import annotations

import html
import json
import random
import re
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event, Timer
from types import SimpleNamespace
from urllib.parse import quote, quote_plus

import pytest

from daemon.core.errors import Stopped
from daemon.sources.inbox_folder import InboxFolder
from daemon.sources.pull import round as pull_rounds
from daemon.sources.pull.outcome import Pulled
from daemon.storage.ledger import Ledger
from tests.support.api import FAULTS, Asked, Reply, Shop, page, serving
from tests.support.command import strandline
from tests.support.examples import LONG
from tests.support.harness import tree
from tests.support.ledgers import changing
from tests.support.pulls import Home, seconds_ago

WAYS: dict[str, tuple[str, Callable[[Shop, Asked], Reply]]] = {
    "page": ('params = {since = "{since}", page = "{page}"}\nnext = "page"', Shop.by_page),
    "offset": ('params = {since = "{since}", offset = "{offset}"}\nnext = "offset"', Shop.by_offset),
    "link": ('params = {since = "{since}"}\nnext = "link"', Shop.by_link),
    "token": ('params = {since = "{since}"}\nnext = {path = "meta.next_cursor", param = "cursor"}', Shop.by_token),
    "url": ('params = {since = "{since}"}\nnext = {path = "next_url"}', Shop.by_url),
    "since": ('params = {since = "{since}", page = "{page}"}\nnext = "since"', Shop.by_page),
}
CURSOR = 'cursor = "orders.updated_at"\nsince_format = "seconds"\n'


def pull_of(url: str, way: str, more: str = "") -> str:
    return f'url = "{url}/orders"\n{CURSOR}{WAYS[way][0]}\n{more}'


def full_shop(count: int = 8, limit: int = 3) -> Shop:
    shop = Shop(limit)
    for number in range(count):
        shop.put(f"o_{number}", 1_700_000_000 + 10 * number, number + 1)
    return shop


def amounts_of(shop: Shop) -> dict[str, float]:
    return {name: float(one["amount"]) for name, one in shop.orders.items()}


@pytest.mark.parametrize("way", WAYS)
def test_rounds_go_on_where_the_last_committed_one_left_off(tmp_path: Path, way: str) -> None:
    """The first reads everything; the next asks for what changed since, less the lookback; an equal page costs nothing."""
    shop = full_shop()
    with serving(lambda asked: WAYS[way][1](shop, asked)) as api:
        home = Home(tmp_path, pull_of(api.url, way, 'lookback = "15s"'))
        done = home.round()
        assert (done.outcome, done.records >= 8, home.cursor) == ("succeeded", True, None)  # nothing is committed yet
        assert len(home.pages()) == done.pages
        home.apply()
        assert home.amounts() == amounts_of(shop) and home.cursor == 1_700_000_070
        shop.put("o_2", 1_700_000_500, 99)
        shop.put("o_new", 1_700_000_600, 7)
        api.asked.clear()
        home.pull()
        assert api.asked[0].query["since"] == "1700000055"
        assert home.amounts() == amounts_of(shop) and home.cursor == 1_700_000_600
        partitions = {path: path.stat().st_mtime_ns for path in tmp_path.glob("output/curated/*/*")}
        again = home.pull()
        assert again.outcome == "succeeded" and home.cursor == 1_700_000_600
        assert partitions == {path: path.stat().st_mtime_ns for path in tmp_path.glob("output/curated/*/*")}


def test_a_page_is_kept_exactly_as_it_was_received(tmp_path: Path) -> None:
    """Its bytes, under a name with the source, the round and the page."""
    body = b'\n{ "orders" :[ {"order_id": "\\u0061", "created_at": 1700000000 , "amount": 1.50, "items": []} ]}  '
    with serving(lambda asked: Reply(body)) as api:
        home = Home(tmp_path, f'url = "{api.url}/orders"')
        for number in (1, 2):
            assert home.round().pages == 1
            assert (home.inbox / f"shop-{number:06d}-00001.json").read_bytes() == body
        assert home.apply().duplicates == 1
        assert [path.read_bytes() for path in (tmp_path / "output" / "raw").rglob("*shop-000001*")] == [body]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", ["page", "link", "token", "since"])
def test_what_goes_wrong_once_is_tried_again(tmp_path: Path, way: str, fault: str) -> None:
    """In the middle of a round. The reason is counted."""
    shop = full_shop()
    with serving(lambda asked: WAYS[way][1](shop, asked)) as api:
        api.faults.extend([None, fault, fault])
        home = Home(tmp_path, pull_of(api.url, way, 'timeout = "5s"'))
        done = home.pull()
        assert (done.outcome, done.error) == ("succeeded", "")
        assert home.amounts() == amounts_of(shop) and home.cursor == 1_700_000_070
        expected = {
            "silent": "connection", "cut": "incomplete", "cut_without_length": "not_json", "longer_length": "incomplete",
            "shorter_length": "not_json", "busy": "rate_limit", "busy_until": "rate_limit", "busy_without_time": "rate_limit",
            "error_500": "server_error", "error_503": "server_error", "html": "not_json", "empty": "not_json",
            "cut_gzip": "incomplete", "wrong_gzip": "incomplete", "cut_zstd": "incomplete", "wrong_zstd": "incomplete",
        }.get(fault)  # fmt: skip
        assert done.retries == ({expected: 2} if expected else {})


@pytest.mark.parametrize("fault", sorted(FAULTS.keys() - {"gzip", "gzip_members", "deflate", "zstd"}))
def test_what_stays_wrong_ends_the_round_and_the_next_one_reads_it_again(tmp_path: Path, fault: str) -> None:
    """The cursor stays; what came is applied; nothing is lost."""
    shop = full_shop()
    with serving(shop.by_page) as api:
        home = Home(tmp_path, pull_of(api.url, "page", 'timeout = "5s"'))
        api.faults.extend([None, *[fault] * 3])
        done = home.pull()
        assert (done.outcome, done.pages) == ("failed", 1)
        assert "3 times" in done.error and api.url in done.error and "since" not in done.error
        assert home.cursor is None and len(home.amounts()) == 3
        state = Ledger.pull_state_of(home.ledger, "shop")
        assert state.error == done.error and state.succeeded_at is None
        assert home.pull().outcome == "succeeded"
        assert home.amounts() == amounts_of(shop) and home.cursor == 1_700_000_070
        assert Ledger.pull_state_of(home.ledger, "shop").error == ""


@pytest.mark.parametrize("wait", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_long_retry_after_puts_the_round_off_and_does_not_sleep(tmp_path: Path, wait: str, status: int) -> None:
    with serving(lambda asked: Reply(b"later", status, {"Retry-After": wait})) as api:
        began = time.monotonic()
        done = Home(tmp_path, pull_of(api.url, "page")).round()
        assert time.monotonic() - began < 5
        assert done.outcome == "put_off" and done.wait_seconds > 3500 and len(api.asked) == 1
        assert str(status) in done.error and "later" in done.error


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_a_refusal_ends_the_round_at_once(tmp_path: Path, status: int) -> None:
    """With the first characters of what the server says."""
    with serving(lambda asked: Reply(b'{"errors": "no\nsuch\tthing' + b"x" * 5000, status)) as api:
        done = Home(tmp_path, pull_of(api.url, "page")).round()
        assert done.outcome == "failed" and len(api.asked) == 1
        assert f"status {status}" in done.error and '{"errors": "no such thing' in done.error
        assert len(done.error) < 500 and done.error.isprintable()


@pytest.mark.parametrize("status", [400, 410])
@pytest.mark.parametrize("way", ["link", "token", "url"])
def test_a_cursor_that_expires_begins_the_round_again(tmp_path: Path, way: str, status: int) -> None:
    """From the committed cursor."""
    shop = full_shop()
    with serving(lambda asked: WAYS[way][1](shop, asked)) as api:
        count = 0

        def answer(asked: Asked) -> Reply:
            nonlocal count
            count += 1
            return Reply(b"expired", status) if count == 3 else WAYS[way][1](shop, asked)

        api.answer = answer
        home = Home(tmp_path, pull_of(api.url, way))
        done = home.pull()
        assert done.outcome == "succeeded" and done.retries == {"expired": 1}
        assert home.amounts() == amounts_of(shop)
        api.answer = lambda asked: Reply(b"expired", status) if "cursor" in asked.query else WAYS[way][1](shop, asked)
        shop.put("o_1", 1_700_000_900)
        done = home.round()
        assert done.outcome == "failed" and "expired" in done.error and done.retries == {"expired": 3}


def test_a_page_that_repeats_itself_and_pages_without_end_leave_the_cursor(tmp_path: Path) -> None:
    """What came is applied; the error says what to do."""
    shop = full_shop()
    with serving(lambda asked: shop.by_page(Asked("GET", "", {}, {}, b""))) as api:
        home = Home(tmp_path, pull_of(api.url, "page"))
        done = home.pull()
        assert done.outcome == "failed" and "same records as one before" in done.error
        assert home.cursor is None and len(home.amounts()) == 3
        endless = iter(range(10**9))
        api.answer = lambda asked: page(
            {
                "orders": [
                    {
                        "order_id": f"e_{next(endless)}",
                        "created_at": 1_700_000_000,
                        "updated_at": 1_700_000_001,
                        "amount": 1,
                    }
                ]
            }
        )
        (tmp_path / "config.toml").unlink()
        home = Home(tmp_path, pull_of(api.url, "page", "max_pages = 4"))
        done = home.pull()
        assert done.outcome == "failed" and done.pages == 4 and "max_pages = 4" in done.error
        assert home.cursor is None and len(home.amounts()) == 7


def test_by_change_time_a_round_that_ends_early_is_not_in_vain(tmp_path: Path) -> None:
    """At max_pages, or with an error: the next one goes on from where it came to, since whatever changed before was read."""
    shop = full_shop(20)
    with serving(shop.by_page) as api:
        home = Home(tmp_path, pull_of(api.url, "since", 'max_pages = 3\nlookback = "0s"'))
        done = home.pull()
        assert (
            done.outcome == "failed"
            and "max_pages = 3" in done.error
            and "the next round goes on from here" in done.error
        )
        assert home.cursor == 1_700_000_060
        api.faults.extend([None, None, *["error_500"] * 3])
        done = home.pull()
        assert done.outcome == "failed" and home.cursor == 1_700_000_100
        while home.pull().error:
            pass
        assert home.amounts() == amounts_of(shop)


def test_records_that_change_while_pages_are_read(tmp_path: Path) -> None:
    """Asked for by change time: the first order changes before the second page is asked for, which moves all others."""
    shop = full_shop()
    with serving(shop.by_page) as api:
        api.before = lambda number: shop.put("o_0", 1_700_000_900, 77) if number == 2 else None
        home = Home(tmp_path, pull_of(api.url, "since"))
        home.pull()
        assert home.amounts() == amounts_of(shop)


def test_a_record_of_the_cursors_own_second_that_appears_later(tmp_path: Path) -> None:
    """Even without a lookback: a round begins at the cursor, inclusive."""
    shop = full_shop()
    with serving(shop.by_page) as api:
        home = Home(tmp_path, pull_of(api.url, "page", 'lookback = "0s"'))
        home.pull()
        shop.put("late", home.cursor or 0, 5)
        home.pull()
        assert home.amounts() == amounts_of(shop)


def test_a_change_time_in_the_future_does_not_carry_the_cursor_away(tmp_path: Path) -> None:
    """A wrong clock would make every later round begin after all that comes."""
    shop = full_shop()
    shop.put("o_1", seconds_ago(-10 * 86_400), 5)
    with serving(shop.by_page) as api:
        home = Home(tmp_path, pull_of(api.url, "page", 'lookback = "0s"'))
        began = int(time.time())
        home.pull()
        assert home.cursor is not None and began <= home.cursor <= time.time()


def test_a_cursor_of_a_clock_that_was_ahead_counts_as_now(tmp_path: Path) -> None:
    shop = full_shop()
    with serving(shop.by_page) as api:
        home = Home(tmp_path, pull_of(api.url, "page"))
        home.pull()
        with closing(changing(home.ledger)) as sql:
            sql.execute("UPDATE pulls SET cursor = cursor * 2")
            sql.commit()
        api.asked.clear()
        home.round()
        assert int(api.asked[0].query["since"]) <= time.time() - 3600


def test_a_page_in_quarantine_holds_the_cursor(tmp_path: Path) -> None:
    """What it has is not applied, so the next round reads it again."""
    shop = full_shop(4)
    wrong = {"orders": [{"id": 1, "updated_at": 1_700_000_500}, {"id": 2, "updated_at": 1_700_000_500}]}
    with serving(lambda asked: page(wrong) if asked.query["page"] == "2" else shop.by_page(asked)) as api:
        home = Home(tmp_path, pull_of(api.url, "page"))
        done = home.round()
        assert done.outcome == "succeeded"
        assert home.apply().quarantined == 1 and home.cursor is None
        again = home.pull()
        assert (
            again.outcome == "failed"
            and "1 of its pages are in quarantine" in again.error
            and "strandline retry" in again.error
        )
        # It was not put there again; and its reason
        assert len(list((tmp_path / "output" / "quarantine").glob("*.json"))) == 2
        assert home.cursor is None
        api.answer = shop.by_page
        home.pull()
        assert home.amounts() == amounts_of(shop) and home.cursor == 1_700_000_030


def test_a_page_that_is_no_page_of_records_ends_the_round(tmp_path: Path) -> None:
    """An error message with status 200 is not the end of the pages."""
    with serving(lambda asked: page({"errors": [{"message": "throttled"}]})) as api:
        done = Home(tmp_path, pull_of(api.url, "page")).round()
        assert done.outcome == "failed" and "error message of an API" in done.error and done.pages == 0


@pytest.mark.parametrize("document", [{}, {"orders": []}, {"orders": None}, []])
def test_an_empty_page_is_the_end_and_no_drop(tmp_path: Path, document: object) -> None:
    with serving(lambda asked: page(document)) as api:
        home = Home(tmp_path, pull_of(api.url, "page"))
        assert home.round() == Pulled("shop", seconds=pytest.approx(0, abs=60)) and home.pages() == []


def test_a_cursor_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    shop = full_shop()
    with serving(shop.by_page) as api:
        text = pull_of(api.url, "page").replace("orders.updated_at", "orders.changed")
        done = Home(tmp_path, text).round()
        assert "no record of the page has an instant at cursor = 'orders.changed'" in done.error


def test_from_the_high_water_mark(tmp_path: Path) -> None:
    """For an API that filters by creation only. The mark counts when the whole round is committed: an API may list the newest
    orders first."""
    shop = Shop(2)
    for number in range(5):
        shop.put(f"o_{number}", 0, 1, created=1_700_000_000 + number)

    def newest_first(asked: Asked) -> Reply:
        since, first = int(asked.query["created"]), (int(asked.query["page"]) - 1) * 2
        found = sorted(shop.orders.values(), key=lambda one: -one["created_at"])
        return page({"orders": [one for one in found if one["created_at"] >= since][first : first + 2]})

    with serving(newest_first) as api:
        home = Home(
            tmp_path,
            f'url = "{api.url}/orders"\nparams = {{created = "{{since}}", page = "{{page}}"}}\nnext = "page"\ncursor = "hwm"\n'
            'since_format = "seconds"\nlookback = "1s"',
        )
        api.faults.extend([None, *["error_500"] * 3])
        assert home.pull().outcome == "failed"
        assert home.amounts().keys() == {"o_3", "o_4"} and home.cursor is None
        home.pull()
        assert len(home.amounts()) == 5 and home.cursor == 1_700_000_004
        api.asked.clear()
        home.pull()
        assert api.asked[0].query["created"] == "1700000003"


def test_since_reads_earlier_ones_again_and_a_later_one_leaves_the_cursor(tmp_path: Path) -> None:
    shop = full_shop()
    with serving(shop.by_page) as api:
        home = Home(tmp_path, pull_of(api.url, "page", 'lookback = "0s"'))
        home.round(since=1_700_000_050 * 1_000_000)
        home.apply()
        assert home.amounts().keys() == {"o_5", "o_6", "o_7"} and home.cursor is None
        home.pull()
        assert home.amounts() == amounts_of(shop) and home.cursor == 1_700_000_070
        api.asked.clear()
        home.round(since=0)
        home.apply()
        assert api.asked[0].query["since"] == "0" and home.cursor == 1_700_000_070


def test_a_stop_ends_a_wait_between_retries(tmp_path: Path) -> None:
    with serving(lambda asked: Reply(b"", 500)) as api:
        home = Home(tmp_path, pull_of(api.url, "page"))
        text = (tmp_path / "config.toml").read_text().replace("_seconds = 0.001", "_seconds = 60")
        (tmp_path / "config.toml").write_text(text.replace("_seconds = 0.01", "_seconds = 60"))
        from daemon.config import load

        home.config = load(tmp_path / "config.toml", {})
        stop = Event()
        Timer(0.3, stop.set).start()
        with pytest.raises(Stopped):
            home.round(stop=stop)


def test_a_page_too_large_is_an_error_and_not_kept(tmp_path: Path) -> None:
    """Compressed or not; a bomb is not unpacked."""
    body = json.dumps({"orders": [{"order_id": "x" * 3_000_000}]}).encode()
    with serving(lambda asked: Reply(body)) as api:
        home = Home(tmp_path, pull_of(api.url, "page", 'max_page_bytes = "1MiB"'))
        for fault in (None, "gzip", "deflate", "zstd"):
            api.faults.append(fault)
            done = home.round()
            assert done.outcome == "failed" and "max_page_bytes" in done.error and home.pages() == []


def test_a_body_that_comes_too_slowly_is_given_up(tmp_path: Path) -> None:
    """Each byte comes within the timeout, and the page would take an hour."""
    with serving(lambda asked: Reply(b" " * 100_000, drip=0.05)) as api:
        began = time.monotonic()
        done = Home(tmp_path, pull_of(api.url, "page", "timeout = 0.4")).round()
        assert "not complete after 4 s" in done.error and done.retries == {"timeout": 2}
        assert time.monotonic() - began < 60


def test_a_server_that_does_not_answer_in_time_is_asked_again(tmp_path: Path) -> None:
    with serving(lambda asked: Reply(b"[]", slow=2)) as api:
        done = Home(tmp_path, pull_of(api.url, "page", "timeout = 0.1")).round()
        assert "no answer within 0.1 s" in done.error and done.retries == {"timeout": 2}


def test_an_unknown_encoding_is_an_error(tmp_path: Path) -> None:
    with serving(lambda asked: Reply(b"[]", headers={"Content-Encoding": "br"})) as api:
        assert "the encoding 'br'" in Home(tmp_path, pull_of(api.url, "page")).round().error


def test_the_cursor_outlives_a_rebuild_and_not_the_loss_of_the_state(tmp_path: Path) -> None:
    """After the loss, the next round begins at `start`, and everything that it brings is there already."""
    shop = full_shop()
    with serving(shop.by_page) as api:
        home = Home(tmp_path, pull_of(api.url, "page"))
        home.pull()
        assert strandline(tmp_path, "rebuild").returncode == 0
        assert home.cursor == 1_700_000_070
        shop.put("o_new", 1_700_000_090, 3)
        home.pull()
        assert home.amounts() == amounts_of(shop) and home.cursor == 1_700_000_090
        shutil.rmtree(tmp_path / "output" / "state")
        assert strandline(tmp_path, "rebuild").returncode == 0
        assert home.cursor is None and home.amounts() == amounts_of(shop)
        before = tree(tmp_path / "output" / "curated")
        home.pull()
        assert home.cursor == 1_700_000_090 and tree(tmp_path / "output" / "curated") == before


def test_a_full_disk_ends_the_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is read again when there is room."""
    shop = full_shop()
    with serving(shop.by_page) as api:
        home = Home(tmp_path, pull_of(api.url, "page"))
        with monkeypatch.context() as patched:
            patched.setattr(InboxFolder, "write", _full)
            done = home.pull()
        assert done.outcome == "failed" and "No space left" in done.error
        home.pull()
        assert home.amounts() == amounts_of(shop)


def _full(*_: object) -> str:
    import errno
    import os

    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_redirect_to_another_host_goes_there_without_the_secret(tmp_path: Path) -> None:
    """Neither headers nor the user; another path of the same host gets them."""
    shop = full_shop()
    secret = 'headers = {X-Token = "${TOKEN}"}\nbasic_auth = "me:${PASSWORD}"'
    with serving(shop.by_page) as other, serving(lambda asked: Reply()) as api:

        def answer(asked: Asked) -> Reply:
            query = "&".join(f"{name}={value}" for name, value in asked.query.items())
            where = "/moved" if asked.path == "/orders" else f"{other.url}/orders"
            return Reply(b"", 302, {"Location": f"{where}?{query}"})

        api.answer = answer
        home = Home(tmp_path, pull_of(api.url, "page", secret), environment={"TOKEN": "t0ken", "PASSWORD": "pass"})
        home.pull()
        assert home.amounts() == amounts_of(shop)
        assert all(one.headers["X-Token"] == "t0ken" and "Authorization" in one.headers for one in api.asked)
        assert not any("X-Token" in one.headers or "Authorization" in one.headers for one in other.asked)
        api.answer = lambda asked: Reply(b"", 301, {"Location": asked.path})
        assert "redirects" in home.round().error


def test_the_next_page_at_another_host_goes_there_without_the_secret(tmp_path: Path) -> None:
    shop = full_shop()
    with serving(shop.by_link) as other, serving(lambda asked: Reply()) as api:

        def answer(asked: Asked) -> Reply:
            linked = shop.by_link(asked)
            linked.headers["Link"] = linked.headers["Link"].replace("</orders", f"<{other.url}/orders", 1)
            return linked

        api.answer = answer
        home = Home(
            tmp_path, pull_of(api.url, "link", 'headers = {X-Token = "${TOKEN}"}'), environment={"TOKEN": "t0ken"}
        )
        home.pull()
        assert home.amounts() == amounts_of(shop)
        assert api.asked[0].headers["X-Token"] == "t0ken" and len(other.asked) == 2
        assert not any("X-Token" in one.headers for one in other.asked)


@pytest.mark.parametrize("seed", range(60 if LONG else 6))
@pytest.mark.parametrize("way", ["since", "token"])
def test_random_histories(tmp_path: Path, way: str, seed: int) -> None:
    """Orders come, change and move; rounds fail and are applied or not, in any order. Without a lookback, in the end every order
    is there, once. Asked for by change time, they also change between any two requests, by the clock of this machine."""
    chosen = random.Random(f"{way} {seed}")
    shop = Shop(chosen.randint(1, 4))

    def change(at: int) -> None:
        for _ in range(chosen.randint(0, 3)):
            day = 86_400 * chosen.randint(0, 2)
            shop.put(f"o_{chosen.randint(0, 15)}", at, chosen.randint(1, 99), created=1_700_000_000 + day)

    for number in range(chosen.randint(0, 12)):
        shop.put(f"o_{number}", 1_700_000_000 + chosen.randint(0, 3))
    with serving(lambda asked: WAYS[way][1](shop, asked)) as api:
        home = Home(tmp_path, pull_of(api.url, way, 'lookback = 0\nmax_pages = 40\ntimeout = "5s"'))
        for _ in range(chosen.randint(2, 8)):
            change(int(time.time()))
            if way == "since":
                api.before = lambda number: change(int(time.time()))
            api.faults.extend(chosen.choices([None, *FAULTS], k=chosen.randint(0, 6)))
            home.round()
            api.faults.clear()
            api.before = lambda number: None
            if chosen.random() < 0.6:
                home.apply()
        while home.pull().outcome != "succeeded":
            pass
        assert home.pull().outcome == "succeeded"
        assert home.amounts() == amounts_of(shop)


@pytest.mark.parametrize(
    "wrong",
    [
        {"Link": '<http://h:99999/x>; rel="next"'},
        {"Link": '<http://h:abc/>; rel="next"'},
        {"Link": '<http://[bad/x>; rel="next"'},
        {"Link": "nothing"},
    ],
)  # fmt: skip
def test_a_next_page_that_is_no_url_ends_the_round(tmp_path: Path, wrong: dict[str, str]) -> None:
    """Whatever is wrong, the round ends with an error that the ledger has, and what came is applied."""
    shop = full_shop()
    with serving(lambda asked: Reply(shop.by_page(asked).body, headers=wrong)) as api:
        home = Home(tmp_path, pull_of(api.url, "link"))
        done = home.pull()
        assert done.outcome == "failed" and Ledger.pull_state_of(home.ledger, "shop").error == done.error
        assert len(home.amounts()) == 3 and home.cursor is None


@pytest.mark.parametrize("target", ["http://h:99999/x", "http://h:abc/", "http://[bad/x", "ftp://x/y", ""])
def test_a_redirect_that_is_no_url_ends_the_round(tmp_path: Path, target: str) -> None:
    with serving(lambda asked: Reply(b"", 302, {"Location": target})) as api:
        done = Home(tmp_path, pull_of(api.url, "page")).round()
        assert done.outcome == "failed" and "no URL that can be read" in done.error


def test_whatever_is_unexpected_ends_the_round_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text has no secret, and the ledger has it."""
    with serving(full_shop().by_page) as api:
        home = Home(
            tmp_path, pull_of(api.url, "page", 'headers = {X = "${TOKEN}"}'), environment={"TOKEN": "s3cret-token"}
        )
        monkeypatch.setattr(pull_rounds, "split", lambda *_, **__: [][len("s3cret-token")])
        done = home.round()
        assert (
            done.outcome == "failed"
            and "an unexpected error in" in done.error
            and "IndexError" not in done.error
            and "report this" in done.error
        )
        monkeypatch.setattr(pull_rounds, "split", lambda *_, **__: {}["s3cret-token"])
        done = home.round()
        assert done.outcome == "failed" and "s3cret-token" not in done.error
        assert Ledger.pull_state_of(home.ledger, "shop").error == done.error


def test_a_token_with_a_lone_surrogate_ends_the_round(tmp_path: Path) -> None:
    with serving(lambda asked: page({"orders": full_shop().since(0)[:1], "meta": {"next_cursor": "\ud800"}})) as api:
        assert Home(tmp_path, pull_of(api.url, "token")).round().outcome == "failed"


@pytest.mark.parametrize("wait", ["99999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_round_that_is_put_off_is_so_for_every_process_and_at_most_a_day(tmp_path: Path, wait: str) -> None:
    with serving(lambda asked: Reply(b"later", 503, {"Retry-After": wait})) as api:
        home = Home(tmp_path, pull_of(api.url, "page"))
        first = home.round()
        assert first.outcome == "put_off" and first.wait_seconds == 86_400
        again = home.round()
        assert again.outcome == "put_off" and again.error == first.error and 86_000 < again.wait_seconds <= 86_400
        assert len(api.asked) == 1


def test_a_body_with_secrets_goes_to_no_other_host(tmp_path: Path) -> None:
    """Neither after a redirect nor for the next page."""
    with serving(lambda asked: Reply(b"[]")) as other, serving(lambda asked: Reply()) as api:
        api.answer = lambda asked: page({"orders": full_shop().since(0)[:1], "next": f"{other.url}/x"})
        text = f'url = "{api.url}/orders"\nmethod = "POST"\nbody = {{key = "${{TOKEN}}"}}\nnext = {{path = "next"}}'
        done = Home(tmp_path, text, environment={"TOKEN": "s3cret"}).round()
        assert done.outcome == "failed" and "host of url only" in done.error and other.asked == []
        assert api.asked[0].json == {"key": "s3cret"}


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
@pytest.mark.parametrize(("status", "requests"), [(401, 1), (410, 1), (429, 3), (503, 3)])
def test_the_status_counts_however_the_body_came(tmp_path: Path, status: int, requests: int, encoding: str) -> None:
    with serving(lambda asked: Reply(b"", status, {"Content-Encoding": encoding})) as api:
        done = Home(tmp_path, pull_of(api.url, "page")).round()
        assert done.outcome == "failed" and f"status {status}" in done.error and len(api.asked) == requests


def test_no_content_is_an_empty_page(tmp_path: Path) -> None:
    with serving(lambda asked: Reply(b"", 204)) as api:
        assert Home(tmp_path, pull_of(api.url, "page")).round().outcome == "succeeded"


def test_a_connection_that_is_refused_is_no_timeout(tmp_path: Path) -> None:
    done = Home(tmp_path, pull_of("http://127.0.0.1:9", "page")).round()
    assert done.retries == {"connection": 2} and "no connection" in done.error


SECRET = "abcDEF/ghi+jkl=="


@pytest.mark.parametrize(
    "echo",
    [
        SECRET, SECRET.replace("/", "\\/"), html.escape('"' + SECRET), quote(SECRET), 
        re.sub("%..", lambda found: found[0].lower(), quote(SECRET, safe="")), quote_plus(SECRET),
        SECRET.replace("+", "\\u002b"), SECRET.replace("/", "&#47;"), " " * 5000 + SECRET,
    ],
)  # fmt: skip
def test_an_answer_that_repeats_a_secret_is_not_shown(tmp_path: Path, echo: str) -> None:
    """In whatever spelling. (A percent escape in lower case is one, too.)"""
    with serving(lambda asked: Reply(f'{{"error": "token {echo} is wrong"}}'.encode(), 401)) as api:
        home = Home(tmp_path, pull_of(api.url, "page", 'headers = {X = "${TOKEN}"}'), environment={"TOKEN": SECRET})
        error = home.round().error
        assert "status 401" in error and "repeats a secret" in error and "DEF" not in error


def test_a_clock_of_this_machine_that_is_ahead_carries_no_cursor_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server says what time it is."""
    shop = full_shop()
    shop.put("o_1", seconds_ago(-5 * 86_400), 5)
    with serving(shop.by_page) as api:
        home = Home(tmp_path, pull_of(api.url, "page"))
        monkeypatch.setattr(pull_rounds, "time", SimpleNamespace(time=lambda: time.time() + 30 * 86_400))
        home.round()
        monkeypatch.undo()
        home.apply()
        assert home.cursor is not None and home.cursor <= time.time()


def test_an_empty_page_of_another_host_is_not_the_end(tmp_path: Path) -> None:
    """It was asked for without the headers, and shows an anonymous nothing."""
    shop = full_shop()
    with serving(lambda asked: page({"orders": []})) as other, serving(lambda asked: Reply()) as api:
        api.answer = lambda asked: Reply(b"", 302, {"Location": f"{other.url}/orders"})
        done = Home(tmp_path, pull_of(api.url, "page")).round()
        assert done.outcome == "failed" and "on another host" in done.error

        def answer(asked: Asked) -> Reply:
            linked = shop.by_link(asked)
            linked.headers["Link"] = linked.headers["Link"].replace("</orders", f"<{other.url}/orders", 1)
            return linked

        api.answer = answer
        (tmp_path / "b").mkdir()
        done = Home(tmp_path / "b", pull_of(api.url, "link")).round()
        assert done.outcome == "failed" and "on another host" in done.error


def test_an_empty_round_does_not_take_the_high_water_mark(tmp_path: Path) -> None:
    """It rose with the first page of a round that failed."""
    shop = full_shop(5)
    with serving(shop.by_page) as api:
        text = pull_of(api.url, "page").replace('cursor = "orders.updated_at"', 'cursor = "hwm"')
        home = Home(tmp_path, text)
        api.faults.extend([None, *["error_500"] * 3])
        assert home.pull().outcome == "failed"
        api.answer = lambda asked: page({"orders": []})
        assert home.pull().outcome == "succeeded" and home.cursor is None
        api.answer = shop.by_page
        home.pull()
        assert home.amounts() == amounts_of(shop) and home.cursor == 1_700_000_000


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_a_secret_in_utf_16_is_not_shown(tmp_path: Path, encoding: str) -> None:
    with serving(lambda asked: Reply(f"no: {SECRET}".encode(encoding), 401)) as api:
        home = Home(tmp_path, pull_of(api.url, "page", 'headers = {X = "${TOKEN}"}'), environment={"TOKEN": SECRET})
        assert "repeats a secret" in home.round().error


def test_a_put_off_of_a_clock_that_was_ahead_counts_no_more(tmp_path: Path) -> None:
    shop = full_shop()
    with serving(shop.by_page) as api:
        home = Home(tmp_path, pull_of(api.url, "page"))
        home.round()
        with closing(changing(home.ledger)) as sql:
            sql.execute("UPDATE pulls SET put_off_until = ?", (int((time.time() + 3 * 86_400) * 1_000_000),))
            sql.commit()
        assert home.round().outcome == "succeeded"
