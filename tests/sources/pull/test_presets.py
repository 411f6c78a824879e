"""The pull of each preset, with the lines of configuration that docs/sources/ gives, against a server that behaves as the
documentation of the shop says. A live API was not asked."""

from __future__ import annotations

import base64
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from daemon.storage.ledger import Ledger
from tests.support import REPO
from tests.support.api import Api, serving
from tests.support.command import strandline
from tests.support.harness import dates, rows
from tests.support.pulls import Home, written
from tests.support.shop_apis import (
    MagentoApi,
    Order,
    ShopApi,
    ShopifyApi,
    SquareApi,
    StripeApi,
    WooCommerceApi,
)

SECRET = "s3cr3t+of/the=shop"
CREATED = 1_760_000_000  # the first order; one each minute
CHANGED = 1_760_500_000


@dataclass(frozen=True)
class Shop:
    """`pages`: requests for all of `count` orders."""

    api: type[ShopApi]
    count: int
    pages: int
    lines: str
    variable: str
    name: str = "{}"  # of an order
    sees_changes: bool = True  # of an order that was created long ago
    more: dict[str, str] = field(default_factory=dict)


SHOPS = {
    "shopify": Shop(ShopifyApi, 510, 3, 'url = "{url}/admin/api/2026-10/orders.json"', "SHOPIFY_TOKEN"),
    "woocommerce": Shop(
        WooCommerceApi, 210, 5, 'url = "{url}/wp-json/wc/v3/orders"', "WOOCOMMERCE_SECRET", more={"WOOCOMMERCE_KEY": "ck_1"}
    ),
    "stripe": Shop(
        StripeApi, 210, 3, 'url = "{url}/v1/checkout/sessions"', "STRIPE_KEY", name="cs_test_{}", sees_changes=False
    ),
    "square": Shop(
        SquareApi, 1010, 3, 'url = "{url}/v2/orders/search"\nbody.location_ids = ["L1"]', "SQUARE_TOKEN", name="sq_{}"
    ),
    "magento": Shop(MagentoApi, 210, 3, 'url = "{url}/rest/V1/orders"', "MAGENTO_TOKEN", name="{:09d}"),
}  # fmt: skip
of_each = pytest.mark.parametrize("name", SHOPS)


def filled(shop: Shop) -> ShopApi:
    """A shop whose orders changed in another order than that of their creation, some at one second."""
    api = shop.api(SECRET)
    for number in range(1, shop.count + 1):
        changed = CHANGED + number * 7 % shop.count // 2
        api.put(Order(number, 100 + number * 3, CREATED + 60 * number, changed))
    return api


@contextmanager
def opened(folder: Path, name: str, api: ShopApi) -> Iterator[tuple[Home, Api]]:
    shop = SHOPS[name]
    with serving(api.answer) as server:
        environment = {shop.variable: SECRET, **shop.more}
        yield Home(folder, shop.lines.format(url=server.url), f'preset = "{name}"', environment), server


def expected(shop: Shop, api: ShopApi) -> dict[str, float]:
    return {shop.name.format(one.number): one.cents / 100 for one in api.orders.values()}


def amounts(home: Home) -> dict[str, float]:
    return {name: round(amount, 2) for name, amount in home.amounts().items()}


def newest(shop: Shop, api: ShopApi) -> int:
    """Where the cursor is after all orders."""
    return max(one.changed if shop.sees_changes else one.created for one in api.orders.values())


@of_each
def test_every_order_is_there_once_after_several_pages(tmp_path: Path, name: str) -> None:
    """With its amount; the cursor is the latest change, and a second round finds nothing new."""
    shop, api = SHOPS[name], filled(SHOPS[name])
    with opened(tmp_path, name, api) as (home, server):
        done = home.pull()
        assert (done.outcome, done.error, len(server.asked)) == ("succeeded", "", shop.pages)
        assert done.records == shop.count
        assert amounts(home) == expected(shop, api) and home.cursor == newest(shop, api)
        home.pull()
        assert amounts(home) == expected(shop, api) and home.cursor == newest(shop, api)


@of_each
def test_the_next_round_brings_new_and_changed_orders(tmp_path: Path, name: str) -> None:
    """Asked for from the cursor less the lookback, so that a few records come. Stripe lists by creation, and the session that
    changed is younger than the lookback."""
    shop, api = SHOPS[name], filled(SHOPS[name])
    with opened(tmp_path, name, api) as (home, server):
        home.pull()
        for number in range(1, shop.count - 9):  # as if most changed long before
            api.change(number, created=CREATED - 9_000_000, changed=CHANGED - 9_000_000)
        changed = shop.count - 1 if not shop.sees_changes else 3
        api.change(changed, cents=77_777, changed=CHANGED + 90_000)
        api.put(Order(5001, 123, CREATED + 90_000, CHANGED + 90_001))
        server.asked.clear()
        done = home.pull()
        assert done.outcome == "succeeded" and done.records < 30
        found = amounts(home)
        assert found == expected(shop, api) and home.cursor == newest(shop, api)
        assert found[shop.name.format(changed)] == 777.77


@of_each
def test_orders_that_change_while_pages_are_read_are_there_after_the_next_round(tmp_path: Path, name: str) -> None:
    """One that was read already, and one that was not: none is lost, and none is there twice."""
    shop, api = SHOPS[name], filled(SHOPS[name])
    with opened(tmp_path, name, api) as (home, server):

        def change(number: int) -> None:
            if number == 2:
                for one in (1, 2, shop.count - 1, shop.count):
                    api.change(one, cents=50_000 + one, changed=CHANGED + 5000)
                api.put(Order(5001, 123, CREATED + 90_000, CHANGED + 5001))

        server.before = change
        assert home.pull().outcome == "succeeded"
        server.before = lambda number: None
        if not shop.sees_changes:  # Stripe: the oldest are older than the lookback, and were read after their change
            assert api.orders[1].created > newest(shop, api) - 2 * 86_400
        home.pull()
        assert amounts(home) == expected(shop, api)


@of_each
def test_a_rate_limit_is_waited_for(tmp_path: Path, name: str) -> None:
    shop, api = SHOPS[name], filled(SHOPS[name])
    if isinstance(api, ShopifyApi):
        api.retry_after = "0.0"
    with opened(tmp_path, name, api) as (home, server):
        server.before = lambda number: setattr(api, "busy", 1 if number in (1, 3) else api.busy)
        done = home.pull()
        assert done.outcome == "succeeded" and done.retries == {"rate_limit": 2}
        assert amounts(home) == expected(shop, api) and home.cursor == newest(shop, api)


def test_the_decimal_that_shopify_asks_to_wait_for_is_read(tmp_path: Path) -> None:
    """Here it is longer than the longest delay, so the round is put off by it."""
    api = filled(SHOPS["shopify"])
    api.busy = 1
    with opened(tmp_path, "shopify", api) as (home, _):
        done = home.round()
        assert (done.outcome, done.wait_seconds) == ("put_off", 2.0)


@of_each
def test_an_expired_token_ends_the_round_until_there_is_a_new_one(tmp_path: Path, name: str) -> None:
    """In the middle of a round: what came is applied, the cursor stays, and the error has what the shop says."""
    shop, api = SHOPS[name], filled(SHOPS[name])
    with opened(tmp_path, name, api) as (home, server):
        server.before = lambda number: setattr(api, "secret", "another" if number >= 2 else SECRET)
        done = home.pull()
        assert (done.outcome, done.pages) == ("failed", 1) and "status 401" in done.error and SECRET not in done.error
        assert len(server.asked) == 2 and home.cursor is None and 0 < len(home.amounts()) < shop.count
        assert "401" in Ledger.pull_state_of(home.ledger, "shop").error
        server.before = lambda number: None
        api.secret = SECRET
        assert home.pull().outcome == "succeeded"
        assert amounts(home) == expected(shop, api) and home.cursor == newest(shop, api)


@of_each
def test_no_secret_is_in_what_the_command_writes(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a round that is throttled and one that is refused: in what they print, and in the files of the inbox and the output."""
    shop, api = SHOPS[name], filled(SHOPS[name])
    if isinstance(api, ShopifyApi):
        api.retry_after = "0.2"
    for variable, value in {shop.variable: SECRET, **shop.more}.items():
        monkeypatch.setenv(variable, value)
    with serving(api.answer) as server:
        written(tmp_path, shop.lines.format(url=server.url), f'preset = "{name}"')
        for folder in ("inbox", "output"):
            (tmp_path / folder).mkdir()
        api.busy = 1
        settings = {"RETRY__MAX_DELAY_SECONDS": "1", "LOG__LEVEL": "debug"}
        good = strandline(tmp_path, "pull", "shop", "--config", "config.toml", **settings)
        assert good.returncode == 0, good.stderr
        api.secret = "another"
        refused = strandline(tmp_path, "pull", "shop", "--config", "config.toml", **settings)
        assert refused.returncode == 1 and "401" in refused.stdout
    said = "".join(one.stdout + one.stderr for one in (good, refused)).encode()
    content = said + b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    basic = base64.b64encode(f"ck_1:{SECRET}".encode())
    assert not any(one in content for one in (SECRET.encode(), base64.b64encode(SECRET.encode()), basic, b"s3cr3t"))


@of_each
def test_nothing_new_is_a_round_without_pages(tmp_path: Path, name: str) -> None:
    """An empty shop: [], {"orders": []}, {}, or a list of which `items` is empty. No drop, and no error."""
    with opened(tmp_path, name, SHOPS[name].api(SECRET)) as (home, _):
        done = home.pull()
        assert (done.outcome, done.pages, done.error, home.cursor) == ("succeeded", 0, "", None)


def test_an_order_in_the_trash_of_woocommerce_is_gone_and_may_come_back(tmp_path: Path) -> None:
    """The status `any` would not have it; so is an order that is cancelled, which stays."""
    shop, api = SHOPS["woocommerce"], filled(SHOPS["woocommerce"])
    with opened(tmp_path, "woocommerce", api) as (home, _):
        home.pull()
        api.change(3, state="trash", changed=CHANGED + 1000)
        api.change(4, state="cancelled", changed=CHANGED + 1000)
        api.put(Order(6000, 500, CREATED, CHANGED + 1000, state="checkout-draft"))
        home.pull()
        found = amounts(home)
        assert "3" not in found and "4" in found and "6000" not in found and len(found) == shop.count - 1
        api.change(3, state="processing", changed=CHANGED + 2000)
        home.pull()
        assert amounts(home)["3"] == 1.09


def test_a_change_that_woocommerce_does_not_date_is_seen_with_since(tmp_path: Path) -> None:
    """A change of items may leave date_modified as it was. Of two records with one time of change, the later arrival wins."""
    api = filled(SHOPS["woocommerce"])
    with opened(tmp_path, "woocommerce", api) as (home, _):
        home.pull()
        api.put(Order(6000, 500, CREATED, CHANGED + 90_000))
        home.pull()
        api.change(9, cents=90_000)
        home.pull()
        assert amounts(home)["9"] == 1.27
        home.round(since=(CHANGED - 3600) * 1_000_000)
        home.apply()
        assert amounts(home)["9"] == 900.0


def test_the_zone_of_a_woocommerce_shop_has_no_effect(tmp_path: Path) -> None:
    """The shop is five hours behind UTC. Without dates_are_gmt, what changes in the five hours after the cursor is missed."""
    api = filled(SHOPS["woocommerce"])
    with opened(tmp_path, "woocommerce", api) as (home, server):
        home.pull()
        api.change(9, cents=90_000, changed=(home.cursor or 0) + 600)
        home.pull()
        assert amounts(home)["9"] == 900.0
        assert all(one.query["dates_are_gmt"] == "true" for one in server.asked)


def test_the_key_of_woocommerce_may_be_sent_as_parameters(tmp_path: Path) -> None:
    """For servers that drop the header Authorization, as the documentation has it. It is in no error."""
    shop, api = SHOPS["woocommerce"], filled(SHOPS["woocommerce"])
    section = (REPO / "docs" / "sources" / "woocommerce.md").read_text(encoding="utf-8").split("as parameters:")[1]
    none, params = section.split("`")[1], section.split("`")[3]
    with serving(api.answer) as server:
        lines = f"{shop.lines.format(url=server.url)}\n{none}\n{params}"
        home = Home(tmp_path, lines, 'preset = "woocommerce"', {shop.variable: SECRET, **shop.more})
        assert home.pull().outcome == "succeeded" and amounts(home) == expected(shop, api)
        assert not any("Authorization" in one.headers for one in server.asked)
        api.secret = "another"
        assert "401" in (error := home.round().error) and "s3cr3t" not in error


def test_a_section_without_settings_has_those_of_the_preset(tmp_path: Path) -> None:
    """Stripe has one URL for all."""
    home = Home(tmp_path, "", 'preset = "stripe"')
    pull = home.config.sources["shop"].pull
    assert pull is not None and pull.url == "https://api.stripe.com/v1/checkout/sessions"


@pytest.mark.parametrize(("name", "state"), [("shopify", "cancelled"), ("square", "CANCELED"), ("magento", "canceled")])
def test_a_cancelled_order_of_the_others_stays_with_its_last_amount(tmp_path: Path, name: str, state: str) -> None:
    """Shopify lists it only with status=any."""
    shop, api = SHOPS[name], filled(SHOPS[name])
    with opened(tmp_path, name, api) as (home, _):
        home.pull()
        api.change(3, state=state, cents=999, changed=CHANGED + 1000)
        home.pull()
        assert amounts(home) == expected(shop, api)


def test_a_stripe_session_older_than_the_lookback_is_not_asked_for_again(tmp_path: Path) -> None:
    """Its change is not seen until --since names a time before its creation."""
    api = filled(SHOPS["stripe"])
    with opened(tmp_path, "stripe", api) as (home, _):
        home.pull()
        api.put(Order(5001, 123, CREATED + 4 * 86_400, CHANGED))
        home.pull()
        api.change(7, cents=88_888)
        home.pull()
        assert amounts(home)["cs_test_7"] == 1.21
        home.round(since=CREATED * 1_000_000)
        home.apply()
        assert amounts(home)["cs_test_7"] == 888.88


def test_a_stripe_session_has_its_whole_amount_over_its_first_ten_lines(tmp_path: Path) -> None:
    """The list has ten lines of each session and no more."""
    api = StripeApi(SECRET)
    api.put(Order(1, 12_000, CREATED, CHANGED, lines=12))
    with opened(tmp_path, "stripe", api) as (home, _):
        home.pull()
        assert amounts(home) == {"cs_test_1": 120.0}
        (day,) = dates(tmp_path / "output")
        assert len(rows(tmp_path / "output", day)) == 10


def test_square_refuses_a_search_without_locations(tmp_path: Path) -> None:
    """The error says so, since the preset cannot know them."""
    with serving(filled(SHOPS["square"]).answer) as server:
        home = Home(tmp_path, f'url = "{server.url}/v2/orders/search"', 'preset = "square"', {"SQUARE_TOKEN": SECRET})
        done = home.round()
        assert done.outcome == "failed" and "location_id" in done.error and len(server.asked) == 1


@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize("count", [100, 101, 200])
def test_magento_says_how_many_orders_there_are(tmp_path: Path, repeats: bool, count: int) -> None:
    """So no page beyond the end is asked for, which before Magento 2.4 would be the last one again."""
    api = MagentoApi(SECRET, repeats=repeats)
    for number in range(1, count + 1):
        api.put(Order(number, number, CREATED, CHANGED + number))
    with opened(tmp_path, "magento", api) as (home, server):
        assert home.pull().outcome == "succeeded"
        assert len(server.asked) == -(-count // 100) and len(home.amounts()) == count


@pytest.mark.parametrize(
    ("name", "setting"),
    [("shopify", 'limit = "251"'), ("woocommerce", 'per_page = "101"'), ("stripe", 'limit = "101"')],
)
def test_a_limit_that_the_shop_refuses_is_an_error(tmp_path: Path, name: str, setting: str) -> None:
    shop, api = SHOPS[name], filled(SHOPS[name])
    with serving(api.answer) as server:
        lines = f"{shop.lines.format(url=server.url)}\nparams.{setting}"
        done = Home(tmp_path, lines, f'preset = "{name}"', {shop.variable: SECRET, **shop.more}).round()
        assert done.outcome == "failed" and "status 400" in done.error


@pytest.mark.parametrize("name", SHOPS)
def test_the_documentation_has_the_lines_that_are_tested(name: str) -> None:
    """The same settings, and a URL with the same path; where it gives none, that of the preset."""
    section = (REPO / "docs" / "sources" / f"{name}.md").read_text(encoding="utf-8").split("## Pulling")[1]
    config = tomllib.loads(section.split("```toml\n")[1].split("```")[0])
    (source,) = config["sources"].values()
    assert source["preset"] == name
    preset = tomllib.loads((REPO / "daemon" / "sources" / "presets" / f"{name}.toml").read_text(encoding="utf-8"))
    written, tested = source["pull"], tomllib.loads(SHOPS[name].lines)
    urls = [written.pop("url", None) or preset["pull"]["url"], tested.pop("url").replace("{url}", "https://host")]
    assert written == tested and len({urlsplit(url).path for url in urls}) == 1
    assert all(f"{variable}=" in section for variable in (SHOPS[name].variable, *SHOPS[name].more))
