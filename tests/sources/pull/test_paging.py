"""Which page comes next: every way of paging against a model of an API, also while its records change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.parse.values import Number
from daemon.sources.pull.instants import Zone
from daemon.sources.pull.outcome import PullFailed
from daemon.sources.pull.paging import Ask, Page, Walk, next_link
from daemon.sources.pull.settings import Next, Pull
from tests.support.api import Asked, Reply, Shop
from tests.support.examples import examples

URL = "http://shop.example/orders"
MICRO = 1_000_000
SINCE = Pull(
    URL,
    params=(("since", "{since}"), ("page", "{page}")),
    next=Next("since"),
    cursor="orders.updated_at",
    since_format="seconds",
)
WAYS = {
    "page": (Pull(URL, params=(("page", "{page}"),), next=Next("page")), Shop.by_page),
    "offset": (Pull(URL, params=(("offset", "{offset}"),), next=Next("offset")), Shop.by_offset),
    "link": (Pull(URL, next=Next("link")), Shop.by_link),
    "token": (Pull(URL, next=Next("path", "meta.next_cursor", "cursor")), Shop.by_token),
    "url": (Pull(URL, next=Next("path", "next_url")), Shop.by_url),
    "since": (SINCE, Shop.by_page),
    "since_offset": (
        Pull(URL, params=(("since", "{since}"), ("offset", "{offset}")), next=Next("since"), cursor="orders.updated_at",
             since_format="seconds"),
        Shop.by_offset,
    ),
}  # fmt: skip


def asked_by(pull: Pull, ask: Ask) -> Asked:
    """The request that an Ask becomes."""
    from urllib.parse import parse_qsl, urlsplit

    if ask.url:
        parts = urlsplit(ask.url)
        return Asked("GET", parts.path, dict(parse_qsl(parts.query)), {}, b"")
    query = {"since": str(ask.since // MICRO)}
    if pull.uses("page"):
        query["page"] = str(ask.page)
    if pull.uses("offset"):
        query["offset"] = str(ask.offset)
    if ask.cursor:
        query["cursor"] = ask.cursor
    return Asked("GET", "/orders", query, {}, b"")


def page_of(reply: Reply, url: str = URL) -> Page:
    document = json.loads(reply.body, parse_int=Number, parse_float=Number)
    content = json.loads(reply.body)
    orders = (content.get("orders") or []) if isinstance(content, dict) else content
    records = [json.dumps(one).encode() for one in orders]
    times = [one["updated_at"] * MICRO for one in orders]
    return Page(
        document, url, reply.headers.get("Link", ""), records, times, hashlib.sha256(b"\n".join(records)).digest()
    )


def walked(
    pull: Pull, answer: Callable[[Asked], Reply], before: Callable[[int], None] = lambda number: None, most: int = 500
) -> list[dict[str, Any]]:
    """All records of a round, in order."""
    walk, ask, found = Walk(pull, Zone()), Ask(0), []
    following: Ask | None = ask
    number = 0
    while following is not None:
        number += 1
        assert number < most, "the pages do not end"
        before(number)
        page = page_of(answer(asked_by(pull, following)))
        found += [json.loads(record) for record in page.records]
        following = walk.after(following, page)
    return found


@pytest.mark.parametrize("way", WAYS)
@given(times=st.lists(st.integers(0, 4), max_size=12), limit=st.integers(1, 4))
@examples(60)
def test_every_record_is_read(way: str, times: list[int], limit: int) -> None:
    """In each way of paging, with any number of records of one instant."""
    pull, answer = WAYS[way]
    shop = Shop(limit)
    for number, time in enumerate(times):
        shop.put(f"o_{number}", time)
    found = walked(pull, lambda asked: answer(shop, asked))
    assert {json.dumps(one) for one in found} == {json.dumps(one) for one in shop.orders.values()}
    if not way.startswith("since"):  # which asks again for the instant that it ended with
        assert len(found) == len(times)


@given(
    times=st.lists(st.integers(0, 3), min_size=1, max_size=10),
    limit=st.integers(1, 4),
    changes=st.dictionaries(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 11), st.integers(0, 1)), max_size=3)),
)
@examples(300)
def test_by_change_time_nothing_is_skipped_while_records_change(
    times: list[int], limit: int, changes: dict[int, list[tuple[int, int]]]
) -> None:
    """Before some requests, orders change or come, also within the second that the pages are at. Whatever is not read then
    changed at the end of what was or later, or since the round began: the next round, which begins there, reads it."""
    shop = Shop(limit)
    for number, time in enumerate(times):
        shop.put(f"o_{number}", time)
    began = now = max(times)
    count = 0

    def change(number: int) -> None:
        nonlocal now, count
        for which, later in changes.get(number, []):
            now += later
            count += 1
            shop.put(f"o_{which}", now, amount=1 + count)

    try:
        found = walked(SINCE, shop.by_page, change)
    except PullFailed as error:  # an order came at the very instant, between two requests: the round ends, and says so
        assert "leaves out" in str(error) and began == now
        return
    seen = {json.dumps(one) for one in found}
    missing = [one for one in shop.orders.values() if json.dumps(one) not in seen]
    cursor = min(began, max(one["updated_at"] for one in found))
    assert all(one["updated_at"] >= cursor for one in missing)


def test_by_page_number_records_are_skipped_while_records_change() -> None:
    """What the property above would find, if asking by change time did not mend it: that the model moves records is true."""
    shop = Shop(2)
    for number in range(6):
        shop.put(f"o_{number}", number)
    found = walked(WAYS["page"][0], shop.by_page, lambda number: shop.put("o_0", 100, 7) if number == 2 else None)
    assert {one["order_id"] for one in found} == {"o_0", "o_1", "o_3", "o_4", "o_5"}


def test_a_total_ends_the_pages_of_an_api_that_repeats_its_last_one() -> None:
    """As Magento does."""
    shop = Shop(2)
    for number in range(5):
        shop.put(f"o_{number}", number)

    def answer(asked: Asked) -> Reply:
        last = min(int(asked.query["page"]), 3)
        content = json.loads(shop.by_page(Asked("GET", "", {"page": str(last)}, {}, b"")).body)
        return Reply(json.dumps(content | {"total_count": 5}).encode())

    pull = Pull(URL, params=(("page", "{page}"),), next=Next("page"), total="total_count")
    assert len(walked(pull, answer)) == 5
    with pytest.raises(PullFailed, match=r"the same records as one before it.*set `total`"):
        walked(WAYS["page"][0], answer)


@pytest.mark.parametrize("way", ["page", "offset"])
def test_an_api_that_ignores_the_placeholder_is_an_error(way: str) -> None:
    """Its first page again and again is not everything."""
    shop = Shop(2)
    for number in range(5):
        shop.put(f"o_{number}", number)
    with pytest.raises(PullFailed, match="the same records as one before it"):
        walked(WAYS[way][0], lambda asked: shop.by_page(Asked("GET", "", {}, {}, b"")))


def test_an_api_that_ignores_the_page_within_one_instant_is_an_error() -> None:
    shop = Shop(2)
    for number in range(5):
        shop.put(f"o_{number}", 3)
    with pytest.raises(PullFailed, match="changed at one instant"):
        walked(SINCE, lambda asked: shop.by_page(Asked("GET", "", {"since": asked.query["since"]}, {}, b"")))


def test_an_api_that_is_not_sorted_or_ignores_since_is_an_error() -> None:
    shop = Shop(3)
    for number in range(7):
        shop.put(f"o_{number}", number)

    def unsorted(asked: Asked) -> Reply:
        content = json.loads(shop.by_page(asked).body)
        return Reply(json.dumps({"orders": content["orders"][::-1]}).encode())

    with pytest.raises(PullFailed, match="not sorted"):
        walked(SINCE, unsorted)
    with pytest.raises(PullFailed, match=r"does {since} have an effect"):
        walked(SINCE, lambda asked: shop.by_page(Asked("GET", "", {"page": asked.query["page"]}, {}, b"")))


@pytest.mark.parametrize("way", ["link", "url", "token"])
def test_pages_that_lead_back_are_an_error(way: str) -> None:
    """An endless next: the round ends, and says that it has not read everything."""
    pull, _ = WAYS[way]
    count = iter(range(10**6))

    def answer(asked: Asked) -> Reply:
        orders = [{"order_id": f"o_{next(count)}", "updated_at": 1}]
        body = {"orders": orders, "next_url": "/orders?x=1", "meta": {"next_cursor": "again"}}
        return Reply(json.dumps(body).encode(), headers={"Link": '</orders?x=1>; rel="next"'})

    with pytest.raises(PullFailed, match="never end"):
        walked(pull, answer)


def test_more_says_whether_there_is_a_next_page() -> None:
    """As Stripe does: the token is the id of the last record."""
    pull = Pull(URL, next=Next("path", "data.-1.id", "starting_after", "has_more"))
    asked = []

    def answer(one: Asked) -> Reply:
        asked.append(one.query.get("cursor"))
        first = int(one.query.get("cursor", 0))
        orders = [{"order_id": f"o_{first + 1}", "updated_at": 0}]
        content = {"data": [{"id": first + 1}, {"id": first + 2}], "has_more": first < 4, "orders": orders}
        return Reply(json.dumps(content).encode())

    walked(pull, answer)
    assert asked == [None, "2", "4"]
    with pytest.raises(PullFailed, match=r"has_more.*nothing at data.-1.id"):
        walked(pull, lambda one: Reply(b'{"data": [], "has_more": true}'))


@pytest.mark.parametrize("token", [[], {"a": 1}, True])
def test_a_token_that_is_none_is_an_error(token: object) -> None:
    with pytest.raises(PullFailed, match="no URL and no token"):
        walked(WAYS["token"][0], lambda asked: Reply(json.dumps({"meta": {"next_cursor": token}}).encode()))


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y"])
def test_only_http_is_followed(url: str) -> None:
    with pytest.raises(PullFailed, match="http"):
        walked(WAYS["url"][0], lambda asked: Reply(json.dumps({"next_url": url}).encode()))


@pytest.mark.parametrize(
    ("header", "url"),
    [
        ("", None),
        ('<https://x/2>; rel="next"', "https://x/2"),
        ('<https://x/1>; rel="previous", <https://x/3?a=b,c>; rel="next"', "https://x/3?a=b,c"),
        ("<https://x/2>; rel=next", "https://x/2"),
        ('<https://x/2>; title="a; b"; rel="last next"', "https://x/2"),
        ('<https://x/2>; REL="NEXT"', "https://x/2"),
        ('<https://x/2>; rel="nextish"', None),
        ('<https://x/2>; crossorigin; rel="next"', "https://x/2"),
        ('<https://x/2>; title="a\\"b"; rel="next"', "https://x/2"),
        ('<https://x/2>; title=; rel="next"', "https://x/2"),
        ("<https://x/2>;; rel=next", "https://x/2"),
        ("<https://x/2>; rel='next'", "https://x/2"),
        ('<https://x/2>; xrel="next"', None),
        (', <https://x/2>; rel="next",', "https://x/2"),
    ],
)
def test_link_headers(header: str, url: str | None) -> None:
    assert next_link(header) == url


@pytest.mark.parametrize(
    "header", ["not a link", "https://x/2; rel=next", '<https://x/1>; rel="prev", https://x/2; rel="next", <']
)
def test_a_link_header_that_cannot_be_read_is_not_the_end(header: str) -> None:
    with pytest.raises(PullFailed, match="Link cannot be read"):
        next_link(header)


def once_at(number: int, wrong: Reply, right: Callable[[Asked], Reply]) -> Callable[[Asked], Reply]:
    """An API that answers one request with something else."""
    count = 0

    def answer(asked: Asked) -> Reply:
        nonlocal count
        count += 1
        return wrong if count == number else right(asked)

    return answer


@pytest.mark.parametrize("empty", [b"{}", b"[]", b'{"orders": []}', b'{"orders": null}'])
@pytest.mark.parametrize("way", ["page", "offset", "link", "token", "url"])
def test_an_empty_page_by_mistake_is_not_the_end(way: str, empty: bytes) -> None:
    """It is asked for once more."""
    pull, answer = WAYS[way]
    shop = Shop(2)
    for number in range(7):
        shop.put(f"o_{number}", number)
    for at in (2, 3, 4):
        found = walked(pull, once_at(at, Reply(empty), lambda asked: answer(shop, asked)))
        assert len(found) == 7


def test_fewer_records_than_the_total_are_an_error() -> None:
    shop = Shop(2)
    for number in range(6):
        shop.put(f"o_{number}", number)

    def answer(asked: Asked) -> Reply:
        content = json.loads(shop.by_page(asked).body)
        return Reply(json.dumps(content | {"total": 6}).encode())

    pull = Pull(URL, params=(("page", "{page}"),), next=Next("page"), total="total")
    assert len(walked(pull, answer)) == 6
    with pytest.raises(PullFailed, match="end after 2 records, and `total` says that there are 6"):
        walked(
            pull, lambda asked: answer(asked) if asked.query["page"] == "1" else Reply(b'{"orders": [], "total": 6}')
        )
    first = answer(Asked("GET", "", {"page": "1"}, {}, b""))
    with pytest.raises(PullFailed, match="the same records"):  # from a cache, say
        walked(pull, once_at(2, first, answer))


def test_an_envelope_that_differs_each_time_does_not_hide_a_repeated_page() -> None:
    shop = Shop(2)
    for number in range(5):
        shop.put(f"o_{number}", 3)
    count = iter(range(10**6))

    def answer(asked: Asked) -> Reply:
        content = json.loads(shop.by_page(Asked("GET", "", {"since": asked.query.get("since", "0")}, {}, b"")).body)
        return Reply(json.dumps(content | {"request": next(count)}).encode())

    for way in ("page", "since"):
        with pytest.raises(PullFailed, match=r"the same records|changed at one instant"):
            walked(WAYS[way][0], answer)


@pytest.mark.parametrize("url", ["http://h:99999/x", "http://h:abc/", "http://[bad/x"])
def test_a_url_that_is_none_is_an_error(url: str) -> None:
    with pytest.raises(PullFailed, match="none that can be read"):
        walked(WAYS["url"][0], lambda asked: Reply(json.dumps({"next_url": url, "orders": []}).encode()))


def newest_first(pages: int, **more: object) -> Callable[[Asked], Reply]:
    """Pages of two records, with more members on the first."""

    def answer(asked: Asked) -> Reply:
        number = int(asked.query.get("page", 1))
        orders = [{"order_id": f"o_{number}_{one}", "updated_at": 100 - number} for one in (1, 2)]
        content = {"orders": orders} if number <= pages else {}
        return Reply(json.dumps(content | (more if number == 1 else {})).encode())

    return answer


def test_what_any_page_says_of_the_total_counts() -> None:
    pull = Pull(URL, params=(("page", "{page}"),), next=Next("page"), total="total")
    with pytest.raises(PullFailed, match="`total` says that there are 6"):
        walked(pull, newest_first(1, total=6))
    assert len(walked(pull, newest_first(3, total=6))) == 6
    for wrong in (0, 1):
        with pytest.raises(PullFailed, match="counts something else"):
            walked(pull, newest_first(3, total=wrong))


def test_a_total_that_grows_while_pages_are_read_is_no_error() -> None:
    """The least that a page said counts."""
    shop, total = Shop(2), iter(range(6, 100))
    for number in range(6):
        shop.put(f"o_{number}", number)
    pull = Pull(URL, next=Next("path", "meta.next_cursor", "cursor"), total="total")

    def answer(asked: Asked) -> Reply:
        return Reply(json.dumps(json.loads(shop.by_token(asked).body) | {"total": next(total)}).encode())

    assert len(walked(pull, answer)) == 6


@pytest.mark.parametrize("more", [{}, {"has_more": {}}, {"has_more": []}, {"hasMore": True}])
def test_a_page_that_does_not_say_whether_more_follows_is_an_error(more: dict[str, object]) -> None:
    pull = Pull(URL, next=Next("path", "orders.-1.order_id", "after", "has_more"))
    with pytest.raises(PullFailed, match="neither true nor false"):
        walked(pull, newest_first(3, **more))


@pytest.mark.parametrize("limit", [2, 3, 4])
def test_by_change_time_an_api_that_leaves_out_the_instant_is_an_error(limit: int) -> None:
    """Orders of one instant would be cut in two, and the second half never be read."""
    shop = Shop(limit)
    for number, time in enumerate([1, 2, 3, 3, 3, 3, 4]):
        shop.put(f"o_{number}", time)

    def answer(asked: Asked) -> Reply:
        since = int(asked.query["since"]) + 1
        return shop.by_page(Asked("GET", "", asked.query | {"since": str(since)}, {}, b""))

    with pytest.raises(PullFailed, match="leaves out what changed at the very instant"):
        walked(SINCE, answer)


def test_by_change_time_an_instant_whose_orders_all_changed_meanwhile_is_no_error() -> None:
    shop = Shop(2)
    for number in range(6):
        shop.put(f"o_{number}", number)
    found = walked(SINCE, shop.by_page, lambda number: shop.put("o_1", 50, 9) if number == 2 else None)
    assert {json.dumps(one) for one in shop.orders.values()} <= {json.dumps(one) for one in found}


def test_a_token_that_is_given_again_with_an_empty_page_is_the_end() -> None:
    shop = Shop(2)
    for number in range(4):
        shop.put(f"o_{number}", number)

    def answer(asked: Asked) -> Reply:
        content = json.loads(shop.by_token(asked).body)
        last = content["orders"][-1] if content["orders"] else None
        token = json.dumps([last["updated_at"], last["order_id"]]) if last else asked.query["cursor"]
        return Reply(json.dumps(content | {"meta": {"next_cursor": token}}).encode())

    assert len(walked(WAYS["token"][0], answer)) == 4


def test_one_page_that_names_a_next_one_is_an_error() -> None:
    shop = Shop(2)
    for number in range(4):
        shop.put(f"o_{number}", number)
    with pytest.raises(PullFailed, match='write next = "link"'):
        walked(Pull(URL), shop.by_link)


def test_a_title_in_a_link_header_may_hold_anything() -> None:
    assert next_link('<u>; title="not rel=prev"; rel="next"') == "u"
    assert next_link('<u>; title="a, <b>"; rel="next"') == "u"
    assert next_link('<u>; title="rel=next"; rel="prev"') is None
