"""The order APIs of five shops, as their documentation says: paging, limits, errors, and what their filters mean. For tests.

Each refuses what the documentation says is refused, so a preset that asks wrongly fails. A live API may differ: none was asked.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from operator import attrgetter
from typing import Any, ClassVar
from urllib.parse import urlencode

from tests.support.api import Asked, Reply, page


@dataclass(frozen=True)
class Order:
    """Times are seconds since 1970; `cents`: the total; `state`: a shop's own word, "" is that of a usual order."""

    number: int
    cents: int
    created: int
    changed: int
    state: str = ""
    lines: int = 2

    def split(self) -> list[int]:
        """The total by line, one piece each."""
        least = self.cents // self.lines
        return [least] * (self.lines - 1) + [self.cents - least * (self.lines - 1)]

    @property
    def money(self) -> str:
        return f"{Decimal(self.cents) / 100:.2f}"


def instant(seconds: int, form: str = "%Y-%m-%dT%H:%M:%SZ", zone: timezone = UTC) -> str:
    return datetime.fromtimestamp(seconds, zone).strftime(form)


def seconds_of(text: str, zone: timezone = UTC) -> int:
    """Of an ISO 8601 instant; without a zone it is in `zone`."""
    found = datetime.fromisoformat(text)
    return int((found if found.tzinfo else found.replace(tzinfo=zone)).timestamp())


def error(status: int, document: Any, **headers: str) -> Reply:
    return Reply(json.dumps(document).encode(), status, {"Content-Type": "application/json", **headers})


@dataclass
class ShopApi:
    """The orders of a shop. `secret`: what its token is now; `busy`: so many requests are answered with 429 first."""

    secret: str
    orders: dict[int, Order] = field(default_factory=dict)
    busy: int = 0

    def put(self, *orders: Order) -> None:
        self.orders |= {one.number: one for one in orders}

    def change(self, number: int, **changes: Any) -> None:
        self.orders[number] = replace(self.orders[number], **changes)

    def answer(self, asked: Asked) -> Reply:
        if self.busy:
            self.busy -= 1
            return self.too_many()
        return self.listed(asked) if self.is_allowed(asked) else self.unauthorized()

    def is_allowed(self, asked: Asked) -> bool:
        return asked.headers.get("Authorization") == f"Bearer {self.secret}"

    def listed(self, asked: Asked) -> Reply:
        raise NotImplementedError

    def unauthorized(self) -> Reply:
        raise NotImplementedError

    def too_many(self) -> Reply:
        raise NotImplementedError


class ShopifyApi(ShopApi):
    """GET /admin/api/VERSION/orders.json. A page is named by page_info, with which only limit and fields may be sent. Retry-After
    is a decimal."""

    retry_after = "2.0"
    _PARAMS: ClassVar = {"status", "limit", "order", "updated_at_min", "page_info", "fields"}
    _ORDERS: ClassVar = {"updated_at asc": lambda one: (one.changed, one.number)}

    def is_allowed(self, asked: Asked) -> bool:
        return asked.headers.get("X-Shopify-Access-Token") == self.secret

    def unauthorized(self) -> Reply:
        return error(401, {"errors": "[API] Invalid API key or access token (unrecognized login or wrong password)"})

    def too_many(self) -> Reply:
        said = "Exceeded 2 calls per second for api client. Reduce request rates to resume uninterrupted service."
        headers = {"Retry-After": self.retry_after, "X-Shopify-Shop-Api-Call-Limit": "40/40"}
        return error(429, {"errors": said}, **headers)

    def listed(self, asked: Asked) -> Reply:
        if not re.fullmatch(r"/admin/api/\d{4}-\d{2}/orders\.json", asked.path) or asked.method != "GET":
            return error(404, {"errors": "Not Found"})
        query = dict(asked.query)
        if query.keys() - self._PARAMS:
            return error(400, {"errors": {"query": "unknown parameter"}})
        limit = int(query.get("limit", 50))
        if not 1 <= limit <= 250:
            return error(400, {"errors": {"limit": "must be between 1 and 250"}})
        place = (-1, -1)
        if token := query.get("page_info"):
            if query.keys() - {"page_info", "limit", "fields"}:
                return error(400, {"errors": {"status": "status cannot be passed when page_info is present."}})
            query, place = self._of_token(token)
        found = [one for one in self.orders.values() if one.changed >= seconds_of(query["updated_at_min"])]
        found = [one for one in found if query.get("status", "open") == "any" or not one.state]
        key = self._ORDERS[query["order"]]
        rest = sorted((one for one in found if key(one) > place), key=key)
        reply = page({"orders": [self.record(one) for one in rest[:limit]]})
        reply.headers["X-Shopify-Shop-Api-Call-Limit"] = "1/40"
        if len(rest) > limit:
            more = self._token(query, key(rest[limit - 1]))
            link = urlencode({"limit": limit, "page_info": more})
            previous = f'<http://{asked.headers["Host"]}{asked.path}?page_info=p>; rel="previous", ' if token else ""
            reply.headers["Link"] = f'{previous}<http://{asked.headers["Host"]}{asked.path}?{link}>; rel="next"'
        return reply

    def _token(self, query: dict[str, str], place: tuple[int, int]) -> str:
        return base64.urlsafe_b64encode(json.dumps([query, place]).encode()).decode()

    def _of_token(self, token: str) -> tuple[dict[str, str], tuple[int, int]]:
        query, (changed, number) = json.loads(base64.urlsafe_b64decode(token))
        return query, (changed, number)

    def record(self, one: Order) -> dict[str, Any]:
        zone = timezone(timedelta(hours=-5))
        return {
            "id": one.number, "created_at": instant(one.created, "%Y-%m-%dT%H:%M:%S-05:00", zone),
            "updated_at": instant(one.changed, "%Y-%m-%dT%H:%M:%S-05:00", zone), "total_price": one.money, "currency": "USD",
            "cancelled_at": instant(one.changed) if one.state == "cancelled" else None, "customer": {"id": one.number % 9},
            "line_items": [
                {"id": number, "sku": f"p_{number}", "quantity": 1, "price": f"{cents / 100:.2f}"}
                for number, cents in enumerate(one.split())
            ],
        }  # fmt: skip


class WooCommerceApi(ShopApi):
    """GET /wp-json/wc/v3/orders. `any` in the list of statuses ends it, and has no trash; modified_after is exclusive, and in the
    shop's time unless dates_are_gmt is true; a page beyond the end is []."""

    zone = timezone(timedelta(hours=-5))
    _STATUSES: ClassVar = {
        "pending", "processing", "on-hold", "completed", "cancelled", "refunded", "failed", "checkout-draft", "trash", "any",
    }  # fmt: skip
    _NOT_IN_ANY: ClassVar = {"trash"}

    def is_allowed(self, asked: Asked) -> bool:
        key = base64.b64encode(f"ck_1:{self.secret}".encode()).decode()
        sent = (asked.query.get("consumer_key"), asked.query.get("consumer_secret"))
        return asked.headers.get("Authorization") == f"Basic {key}" or sent == ("ck_1", self.secret)

    def unauthorized(self) -> Reply:
        return self._refused("woocommerce_rest_authentication_error", "Consumer key is invalid.", 401)

    def too_many(self) -> Reply:
        """Of a host or a plugin: WooCommerce has no limit for this API."""
        return Reply(b"<html><h1>429 Too Many Requests</h1></html>", 429, {"Retry-After": "0"})

    def _refused(self, code: str, message: str, status: int = 400) -> Reply:
        return error(status, {"code": code, "message": message, "data": {"status": status}})

    def listed(self, asked: Asked) -> Reply:
        query = asked.query
        if asked.path != "/wp-json/wc/v3/orders" or asked.method != "GET":
            return self._refused("rest_no_route", "No route was found matching the URL and request method.", 404)
        per_page, number = int(query.get("per_page", 10)), int(query.get("page", 1))
        statuses = query.get("status", "any").split(",")
        wrong = [] if 1 <= per_page <= 100 else ["per_page"]
        wrong += ["orderby"] if query.get("orderby", "date") not in ("date", "id", "include", "title", "slug") else []
        wrong += ["status"] if set(statuses) - self._STATUSES else []
        if wrong:
            return self._refused("rest_invalid_param", f"Invalid parameter(s): {', '.join(wrong)}")
        zone = UTC if query.get("dates_are_gmt") == "true" else self.zone
        after = seconds_of(query["modified_after"], zone)
        found = [one for one in self.orders.values() if one.changed > after and self._is_of(one, statuses)]
        found.sort(key=lambda one: one.number if query.get("orderby") == "id" else one.created)
        if query.get("order", "desc") == "desc":
            found.reverse()
        first = (number - 1) * per_page
        reply = page([self.record(one) for one in found[first : first + per_page]])
        reply.headers |= {"X-WP-Total": str(len(found)), "X-WP-TotalPages": str(-(-len(found) // per_page))}
        return reply

    def _is_of(self, one: Order, statuses: list[str]) -> bool:
        status = one.state or "processing"
        return status not in self._NOT_IN_ANY if "any" in statuses else status in statuses

    def record(self, one: Order) -> dict[str, Any]:
        form = "%Y-%m-%dT%H:%M:%S"
        return {
            "id": one.number, "status": one.state or "processing", "currency": "EUR", "total": one.money, "customer_id": 0,
            "date_created": instant(one.created, form, self.zone), "date_created_gmt": instant(one.created, form),
            "date_modified": instant(one.changed, form, self.zone), "date_modified_gmt": instant(one.changed, form),
            "billing": {"email": f"{one.number}@example.org"},
            "line_items": [
                {"id": number, "sku": f"p_{number}", "quantity": 1, "price": cents / 100}
                for number, cents in enumerate(one.split())
            ],
        }  # fmt: skip


class StripeApi(ShopApi):
    """GET /v1/checkout/sessions: the newest first, by creation only; at most ten line items of each, where they are asked for."""

    _PARAMS: ClassVar = {"limit", "created[gte]", "expand[]", "starting_after", "status"}
    most_lines = 10

    def unauthorized(self) -> Reply:
        return error(401, {"error": {"type": "invalid_request_error", "message": "Invalid API Key provided: sk_***"}})

    def too_many(self) -> Reply:
        said = {"type": "invalid_request_error", "code": "rate_limit", "message": "Request rate limit exceeded."}
        return error(429, {"error": said}, **{"Stripe-Rate-Limited-Reason": "global-rate"})

    def _refused(self, param: str, code: str = "parameter_unknown") -> Reply:
        return error(400, {"error": {"type": "invalid_request_error", "code": code, "param": param}})

    def listed(self, asked: Asked) -> Reply:
        query = asked.query
        if asked.path != "/v1/checkout/sessions" or asked.method != "GET":
            return error(404, {"error": {"type": "invalid_request_error", "message": "Unrecognized request URL"}})
        if unknown := query.keys() - self._PARAMS:
            return self._refused(min(unknown))
        limit, since = int(query.get("limit", 10)), int(query.get("created[gte]", 0))
        if not 1 <= limit <= 100:
            return self._refused("limit", "parameter_invalid_integer")
        found = sorted(self.orders.values(), key=lambda one: (-one.created, one.number))
        if token := query.get("starting_after"):
            places = [place for place, one in enumerate(found) if self.name(one) == token]
            if not places:
                return self._refused("starting_after", "resource_missing")
            found = found[places[0] + 1 :]
        found = [one for one in found if one.created >= since]
        expanded = query.get("expand[]") == "data.line_items"
        data = [self.record(one, expanded) for one in found[:limit]]
        return page({"object": "list", "url": "/v1/checkout/sessions", "has_more": len(found) > limit, "data": data})

    def name(self, one: Order) -> str:
        return f"cs_test_{one.number}"

    def record(self, one: Order, expanded: bool) -> dict[str, Any]:
        record = {
            "id": self.name(one), "object": "checkout.session", "amount_total": one.cents, "created": one.created,
            "currency": "usd", "customer": None, "customer_details": {"email": f"{one.number}@example.org"},
            "metadata": {}, "payment_status": "paid", "status": one.state or "complete",
        }  # fmt: skip
        if expanded:
            lines = [
                {"id": f"li_{number}", "quantity": 1, "price": {"product": f"prod_{number}", "unit_amount": cents}}
                for number, cents in enumerate(one.split())
            ]
            has_more = len(lines) > self.most_lines
            record["line_items"] = {"object": "list", "has_more": has_more, "data": lines[: self.most_lines]}
        return record


class SquareApi(ShopApi):
    """POST /v2/orders/search. Locations must be named; the filter and the sort must be of one field; a cursor goes with the query
    that it came with; what changes after its first page is not in its pages; nothing found is {}."""

    location = "L1"

    def unauthorized(self) -> Reply:
        return self._refused("AUTHENTICATION_ERROR", "ACCESS_TOKEN_EXPIRED", "The access token has expired.", 401)

    def too_many(self) -> Reply:
        return self._refused("RATE_LIMIT_ERROR", "RATE_LIMITED", "The app is making too many requests.", 429)

    def _refused(self, category: str, code: str, detail: str, status: int = 400) -> Reply:
        return error(status, {"errors": [{"category": category, "code": code, "detail": detail}]})

    def listed(self, asked: Asked) -> Reply:
        if asked.path != "/v2/orders/search" or asked.method != "POST":
            return self._refused("INVALID_REQUEST_ERROR", "NOT_FOUND", "Resource not found.", 404)
        body = asked.json
        if wrong := self._wrong(body):
            return self._refused("INVALID_REQUEST_ERROR", "BAD_REQUEST", wrong)
        (name, range_), *_ = body["query"]["filter"]["date_time_filter"].items()
        assert name == "updated_at"
        place, latest = (-1, -1), max((one.changed for one in self.orders.values()), default=0)
        if "cursor" in body:
            query, place, latest = self._of_cursor(body["cursor"])
            if query != body["query"]:
                return self._refused("INVALID_REQUEST_ERROR", "INVALID_CURSOR", "The query is another one.")
        since = seconds_of(range_["start_at"])
        found = [one for one in self.orders.values() if since <= one.changed <= latest]
        if self.location not in body["location_ids"]:
            found = []
        rest = sorted((one.changed, one.number) for one in found if (one.changed, one.number) > place)
        some, limit = [self.orders[number] for _, number in rest], body.get("limit", 500)
        if not some:
            return page({})
        found_page = {"orders": [self.record(one) for one in some[:limit]]}
        if len(some) > limit:
            found_page["cursor"] = self._cursor(body["query"], rest[limit - 1], latest)
        return page(found_page)

    def _wrong(self, body: dict[str, Any]) -> str:
        """What the documentation refuses; "" for nothing."""
        locations: Iterable[str] = body.get("location_ids", [])
        if not 1 <= len(list(locations)) <= 10:
            return "Must provide at least 1 location_id."
        if not 1 <= body.get("limit", 500) <= 1000:
            return "limit must be between 1 and 1000."
        (name, *_) = body["query"]["filter"]["date_time_filter"]
        if body["query"].get("sort", {}).get("sort_field", "CREATED_AT") != name.upper():
            return "sort_field must match the field of date_time_filter."
        return "" if body["query"]["sort"].get("sort_order") == "ASC" else "only ascending order is served here."

    def _cursor(self, query: Any, place: tuple[int, int], latest: int) -> str:
        return base64.b64encode(json.dumps([query, place, latest]).encode()).decode()

    def _of_cursor(self, cursor: str) -> tuple[Any, tuple[int, int], int]:
        query, (changed, number), latest = json.loads(base64.b64decode(cursor))
        return query, (changed, number), latest

    def record(self, one: Order) -> dict[str, Any]:
        return {
            "id": f"sq_{one.number}", "location_id": self.location, "state": one.state or "COMPLETED", "version": 1,
            "created_at": instant(one.created, "%Y-%m-%dT%H:%M:%S.000Z"),
            "updated_at": instant(one.changed, "%Y-%m-%dT%H:%M:%S.000Z"),
            "total_money": {"amount": one.cents, "currency": "USD"},
            "line_items": [
                {"uid": str(number), "name": f"p_{number}", "quantity": "1", "base_price_money": {"amount": cents}}
                for number, cents in enumerate(one.split())
            ],
        }  # fmt: skip


@dataclass
class MagentoApi(ShopApi):
    """GET /rest/V1/orders. Times are UTC without a zone. `repeats`: before 2.4, a page beyond the end is the last one again."""

    repeats: bool = True
    _NAME: ClassVar = re.compile(r"searchCriteria\[(\w+)\](?:\[0\](?:\[filters\]\[0\])?\[(\w+)\])?")

    def unauthorized(self) -> Reply:
        said = "The consumer isn't authorized to access %resources."
        return error(401, {"message": said, "parameters": {"resources": "Magento_Sales::actions_view"}})

    def too_many(self) -> Reply:
        """Of a proxy: Magento has no limit for this API."""
        return Reply(b"<html><h1>429 Too Many Requests</h1></html>", 429, {"Retry-After": "0"})

    def listed(self, asked: Asked) -> Reply:
        if not re.fullmatch(r"/rest/(\w+/)?V1/orders", asked.path) or asked.method != "GET":
            return error(404, {"message": "Request does not match any route."})
        read = {self._key(name): value for name, value in asked.query.items()}
        if read.get("conditiontype", "eq") != "gteq" or read.get("field") != "updated_at" or None in read:
            return error(400, {"message": "Invalid search criteria", "parameters": list(asked.query)})
        since = int(datetime.strptime(read["value"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp())
        of: dict[str, Callable[[Order], int]] = {"entity_id": attrgetter("number"), "updated_at": attrgetter("changed")}
        found = sorted((one for one in self.orders.values() if one.changed >= since), key=of[read["sortorders.field"]])
        if read.get("direction", "DESC") != "ASC":
            found.reverse()
        size, number = int(read["pagesize"]), int(read["currentpage"])
        last = max(1, -(-len(found) // size))
        first = (min(number, last) if self.repeats else number) * size - size
        items = [self.record(one) for one in found[first : first + size]]
        return page({"items": items, "search_criteria": {"page_size": size}, "total_count": len(found)})

    def _key(self, name: str) -> str | None:
        found = self._NAME.fullmatch(name)
        if found is None:
            return None
        outer, inner = (str(part or "").replace("_", "").lower() for part in found.groups())
        return f"{outer}.{inner}" if (outer, inner) == ("sortorders", "field") else inner or outer

    def record(self, one: Order) -> dict[str, Any]:
        form = "%Y-%m-%d %H:%M:%S"
        return {
            "entity_id": one.number, "increment_id": f"{one.number:09d}", "grand_total": one.cents / 100,
            "order_currency_code": "USD", "created_at": instant(one.created, form), "status": one.state or "processing",
            "updated_at": instant(one.changed, form), "customer_email": f"{one.number}@example.org",
            "items": [
                {"item_id": number, "sku": f"p_{number}", "qty_ordered": 1, "price": cents / 100}
                for number, cents in enumerate(one.split())
            ],
        }  # fmt: skip
