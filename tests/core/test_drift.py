"""Keys that come or vanish: each is told once by source, with the drop that brought it."""

from __future__ import annotations

from daemon.core.drift import Drift, Known, KnownKey, SeenKeys, changes, drifts, paths_of
from daemon.core.mapping import DIRECT, FieldMapping
from daemon.sources.mapping_settings import mapping_of

SHOP = mapping_of({"preset": "shopify"}, "here")[1]
ALL = paths_of(SHOP)


def seen(*unread: str, without: str = "", unclear: str = "", judged: bool = True) -> SeenKeys:
    return SeenKeys(frozenset(unread), ALL - {without, unclear}, frozenset({unclear} - {""}), judged)


def told(
    known: Known, drop: int, keys: SeenKeys, source: str = "shop", mapping: FieldMapping = SHOP
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    return [(one.unread, one.missing) for one in drifts(known, [(drop, source, mapping, keys)])]


def test_a_key_that_nothing_reads_is_new_once_by_source() -> None:
    known: Known = {}
    (first,) = drifts(known, [(1, "shop", SHOP, seen("b", "a"))])
    assert first == Drift(1, "shop", ("a", "b"), (), is_first=True)
    (second,) = drifts(known, [(2, "shop", SHOP, seen("b", "c"))])
    assert second == Drift(2, "shop", ("c",), (), is_first=False)
    assert told(known, 3, seen("a", "b", "c")) == []
    assert told(known, 4, seen("a"), "other") == [(("a",), ())]
    assert known["shop", False, "c"] == KnownKey("shop", "c", False, 2)


def test_a_path_that_is_missing_is_told_once() -> None:
    """It is missing until it comes back; if it vanishes once more, it is missing again, and nobody is told."""
    known: Known = {}
    assert told(known, 1, seen()) == []
    assert told(known, 2, seen(without="total_price")) == [((), ("total_price",))]
    assert known["shop", True, "total_price"].missing_since == 2
    assert told(known, 3, seen(without="total_price")) == []
    assert known["shop", True, "total_price"].missing_since == 2
    assert told(known, 4, seen()) == [] and known["shop", True, "total_price"].missing_since is None
    assert told(known, 5, seen(without="total_price")) == []
    assert known["shop", True, "total_price"].missing_since == 5


def test_a_path_that_was_never_there_is_not_missing() -> None:
    known: Known = {}
    for drop in (1, 2):
        assert told(known, drop, seen(without="customer.id")) == []


def test_null_on_the_way_and_drops_without_an_order_say_nothing() -> None:
    """The customer of a guest is null; a drop of deletions has no totals."""
    known: Known = {}
    told(known, 1, seen())
    assert told(known, 2, seen(unclear="customer.id")) == []
    assert told(known, 3, seen(without="total_price", judged=False)) == []


def test_another_mapping_forgets_what_it_reads_by_now() -> None:
    """A key that gets a field is unread no more; a path that is not read any more is not missing."""
    known: Known = {}
    mapping = FieldMapping(fields=(("amount", ("total",)),))
    told(known, 1, SeenKeys(frozenset({"total", "x"}), paths_of(DIRECT), judged=True), mapping=DIRECT)
    told(known, 2, SeenKeys(frozenset(), paths_of(DIRECT) - {"amount"}, judged=True), mapping=DIRECT)
    before = dict(known)
    assert told(known, 3, SeenKeys(frozenset({"x"}), paths_of(mapping), judged=True), mapping=mapping) == []
    kept, forgotten = changes(before, known)
    assert [one.key for one in kept] == ["total"] and kept[0].is_read
    assert {(one.key, one.is_read) for one in forgotten} == {("total", False), ("amount", True)}


def test_keys_that_are_values_do_not_fill_the_ledger() -> None:
    known: Known = {}
    for drop in range(1, 9):
        told(known, drop, seen(*(f"k_{drop}_{number}" for number in range(60))))
    assert sum(not one.is_read for one in known.values()) == 200


def test_how_drops_are_grouped_does_not_matter() -> None:
    """A rebuild reads them in other groups."""
    drops = [(1, "shop", SHOP, seen("a")), (2, "web", SHOP, seen("b")), (3, "shop", SHOP, seen("c", without="email"))]
    one_by_one: Known = {}
    found = [drift for drop in drops for drift in drifts(one_by_one, [drop])]
    together: Known = {}
    assert drifts(together, drops) == found and together == one_by_one


def test_a_key_of_items_that_is_read_by_now_is_forgotten() -> None:
    """As a key of orders is."""
    known: Known = {}
    told(known, 1, SeenKeys(frozenset({"items.cost", "items.tax"}), paths_of(DIRECT), judged=True), mapping=DIRECT)
    mapping = FieldMapping(fields=(("price", ("cost",)),))
    told(known, 2, SeenKeys(frozenset({"items.tax"}), paths_of(mapping), judged=True), mapping=mapping)
    assert {key for _, is_read, key in known if not is_read} == {"items.tax"}
