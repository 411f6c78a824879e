"""Several sources, as the real command has them: watched folders, retries, metrics, plan, and folders that are no folders."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.support.command import differences, once, order, strandline
from tests.support.daemon_process import Daemon, place, running, series, until
from tests.support.harness import dates, rows, tree

CONFIG = """\
[sources.shop]
id_prefix = "s-"
[sources.shop.fields]
order_id = "number"
[sources.web]
folder = "eu/web"
[watch]
settle_seconds = 0.05
rescan_seconds = 2
[retry]
attempts = 2
initial_delay_seconds = 0.01
max_delay_seconds = 0.05
"""


def home_of(folder: Path, config: str = CONFIG) -> Path:
    (folder / "config.toml").write_text(config)
    return folder


def of_shop(number: int) -> bytes:
    return json.dumps([{"number": f"n_{number}", "created_at": "2026-03-02T10:00:00Z", "amount": 5}]).encode()


def of_web(number: int) -> bytes:
    return json.dumps([order(number)]).encode()


def published(home: Path) -> set[object]:
    return {row["order_id"] for day in dates(home / "output") for row in rows(home / "output", day)}


def counted(daemon: Daemon, name: str, **labels: str) -> float:
    return daemon.metrics()[series(f"strandline_{name}_total" if labels else f"strandline_{name}", **labels)]


def test_drops_into_each_folder_are_noticed_and_counted_by_source(tmp_path: Path) -> None:
    """By events, without a rescan: each folder is watched. A folder that no source names is left alone."""
    with running(home_of(tmp_path), WATCH__RESCAN_SECONDS="600") as daemon:
        assert (daemon.inbox / "shop").is_dir() and (daemon.inbox / "eu" / "web").is_dir()
        for source in ("default", "shop", "web"):
            assert counted(daemon, "drops", source=source, outcome="applied") == 0
        for folder in ("mine", "eu/mine"):
            (daemon.inbox / folder).mkdir()
            place(daemon.inbox / folder / "x.json", of_web(99))
        place(daemon.inbox / "shop" / "a.json", of_shop(1)[:-1] + b", 7]")
        place(daemon.inbox / "eu" / "web" / "b.json", of_web(2))
        place(daemon.inbox / "c.json", of_web(3))
        receipts = {name: daemon.applied(name) for name in ("a.json", "b.json", "c.json")}
        assert {name: one["source"] for name, one in receipts.items()} == {
            "a.json": "shop", "b.json": "web", "c.json": "default",
        }  # fmt: skip
        assert receipts["a.json"]["raw"].startswith("raw/source=shop/received=")
        assert receipts["a.json"]["parsed_with"]["mapping"]["id_prefix"] == "s-"
        assert receipts["b.json"]["parsed_with"]["mapping"] is None
        assert published(tmp_path) == {"s-n_1", "o_2", "o_3"}
        until(lambda: counted(daemon, "orders", source="web", outcome="new") == 1, "counted")
        for source in ("default", "shop", "web"):
            assert counted(daemon, "drops", source=source, outcome="applied") == 1
        assert counted(daemon, "orders_discarded", source="shop", reason="not_an_object") == 1
        assert counted(daemon, "orders_discarded", source="default", reason="not_an_object") == 0
        assert daemon.metrics()["strandline_drops_found_by_rescan_total"] == 0
        status = json.loads(daemon.get("/api/status")[1])
        assert {name: one["drops"]["applied"] for name, one in status["sources"].items()} == {
            "default": 1, "shop": 1, "web": 1,
        }  # fmt: skip
        page = daemon.get("/")[1]
        assert "shop: a.json" in page and "eu/web" in page
        said = "2 files in folders that no [sources] section names: eu/mine, mine"
        assert status["inbox"]["strays"] == {"eu/mine": 1, "mine": 1} and said in page
        assert f"Not taken         {said}" in strandline(tmp_path, "status").stdout
    assert (tmp_path / "inbox" / "mine" / "x.json").exists() and (
        tmp_path / "inbox" / "eu" / "mine" / "x.json"
    ).exists()
    (discards,) = daemon.said("records discarded")
    assert discards["source"] == "shop"
    assert differences(tmp_path) == []


def test_a_lost_ledger_is_rebuilt_to_the_same_bytes(tmp_path: Path) -> None:
    """After the sources are gone from the configuration, too."""
    home = home_of(tmp_path)
    assert once(home).returncode == 0
    place(home / "inbox" / "shop" / "a.json", of_shop(1))
    place(home / "inbox" / "a.json", of_web(3))
    assert once(home).returncode == 0
    before = tree(home / "output" / "curated"), tree(home / "output" / "receipts")
    for path in (home / "output" / "state").iterdir():
        path.unlink()
    home_of(home, "")
    assert strandline(home, "rebuild").returncode == 0
    assert (tree(home / "output" / "curated"), tree(home / "output" / "receipts")) == before
    assert differences(home) == []
    status = json.loads(strandline(home, "status", "--json").stdout)
    assert status["sources"]["shop"] == {
        "folder": None, "drops": {"applied": 1}, "orders": {"extracted": 1, "new": 1}, "pull": None, "unread_keys": {},
        "missing_keys": {},
    }  # fmt: skip
    assert "not configured" in strandline(home, "status").stdout
    assert "shop: a.json" in strandline(home, "trace", "s-n_1").stdout


def test_retry_puts_a_drop_back_into_the_folder_of_its_source(tmp_path: Path) -> None:
    """One in quarantine, whether its reason file is there or not, and one that was applied."""
    home = home_of(tmp_path)
    once(home)
    shop = home / "inbox" / "shop"
    place(shop / "broken.json", b"<html>")
    place(shop / "good.json", of_shop(1))
    assert once(home).returncode == 1
    ended = strandline(home, "retry", "good.json")
    assert ended.returncode == 0 and str(Path("inbox") / "shop") in ended.stdout
    assert (shop / "good.json").read_bytes() == of_shop(1)
    assert strandline(home, "retry").returncode == 0
    assert (shop / "broken.json").read_bytes() == b"<html>"
    assert once(home).returncode == 1
    for path in (home / "output" / "quarantine").glob("*.reason.json"):
        path.unlink()
    assert strandline(home, "retry").returncode == 0
    assert sorted(os.listdir(shop)) == ["broken.json"]


def test_a_drop_of_a_source_that_is_not_configured_any_more_is_not_put_anywhere(tmp_path: Path) -> None:
    """The error says what to do; nothing changes."""
    home = home_of(tmp_path)
    once(home)
    place(home / "inbox" / "shop" / "broken.json", b"<html>")
    place(home / "inbox" / "shop" / "good.json", of_shop(1))
    once(home)
    home_of(home, "")
    before = tree(home / "output" / "quarantine"), tree(home / "inbox")
    for names in ([], ["broken.json"], ["good.json"]):
        ended = strandline(home, "retry", *names)
        assert ended.returncode == 2 and "[sources.shop]" in ended.stderr, ended.stderr
        assert (tree(home / "output" / "quarantine"), tree(home / "inbox")) == before


def test_plan_reads_a_file_as_its_source_does(tmp_path: Path) -> None:
    """That of the folder where it is, or the one that is named."""
    home = home_of(tmp_path)
    once(home)
    (home / "elsewhere.json").write_bytes(of_shop(1))
    place(home / "inbox" / "shop" / ".a.json", of_shop(1))

    def planned(*words: str) -> tuple[int, dict]:
        ended = strandline(home, "plan", *words, "--json")
        return ended.returncode, json.loads(ended.stdout) if ended.stdout else {"error": ended.stderr}

    code, found = planned("elsewhere.json")
    assert (code, found["source"], found["outcome"]) == (1, "default", "quarantined")
    for words in (["elsewhere.json", "--source", "shop"], ["inbox/shop/.a.json"]):
        (home / "inbox" / "shop" / "a.json").write_bytes(of_shop(1))
        code, found = planned(*[word.replace(".a.json", "a.json") for word in words])
        assert (code, found["source"], found["records"]["new"]) == (0, "shop", 1)
    code, found = planned("elsewhere.json", "--source", "shoe")
    assert code == 2 and "default, shop, web" in found["error"]


def test_files_of_a_source_that_was_removed_are_counted(tmp_path: Path) -> None:
    """They are not taken, and nothing else would say so."""
    home = home_of(tmp_path)
    once(home)
    place(home / "inbox" / "shop" / "a.json", of_shop(1))
    home_of(home, CONFIG.replace("[sources.shop", "[sources.other"))
    assert once(home).returncode == 0 and (home / "inbox" / "shop" / "a.json").exists()
    assert "1 file in folders that no [sources] section names: shop\n" in strandline(home, "status").stdout
    with running(home) as daemon:
        until(lambda: counted(daemon, "inbox_stray_files") == 1, "counted")
        os.unlink(daemon.inbox / "shop" / "a.json")
        until(lambda: counted(daemon, "inbox_stray_files") == 0, "counted again")


def test_a_link_is_no_folder_of_a_source(tmp_path: Path) -> None:
    """At the start the daemon refuses it; later it waits, and takes nothing through it."""
    home = home_of(tmp_path)
    outside = home / "outside"
    outside.mkdir()
    place(outside / "secret.json", of_shop(5))
    (home / "inbox").mkdir()
    (home / "inbox" / "shop").symlink_to(outside)
    ended = once(home)
    assert ended.returncode == 3 and "real folder" in ended.stderr and "inbox/shop" in ended.stderr, ended.stderr
    (home / "inbox" / "shop").unlink()
    with running(home) as daemon:
        shop = daemon.inbox / "shop"
        shop.rmdir()
        shop.symlink_to(outside)
        until(lambda: daemon.get("/-/ready")[0] == 503, "it is not ready")
        place(daemon.inbox / "a.json", of_web(1))
        until(lambda: len(daemon.said("operation failed")) + len(daemon.said("paused")) > 2, "it is tried again")
        assert os.listdir(outside) == ["secret.json"] and not published(home)
        shop.unlink()
        shop.mkdir()
        daemon.applied("a.json")
        until(daemon.ready, "ready again")
        place(shop / "b.json", of_shop(2))
        daemon.applied("b.json")
    assert published(home) == {"o_1", "s-n_2"} and os.listdir(outside) == ["secret.json"]


def test_a_killed_daemon_finishes_the_drops_of_each_source(tmp_path: Path) -> None:
    """Whatever it had taken when it was killed; each is applied once, under the settings of its source."""
    home = home_of(tmp_path)
    numbers = range(60)
    with running(home) as daemon:
        for number in numbers:
            place(daemon.inbox / "shop" / f"s{number}.json", of_shop(number))
            place(daemon.inbox / "eu" / "web" / f"w{number}.json", of_web(number))
            if number == 20:
                until(lambda: any((home / "output").glob("raw/source=*/received=*/*")), "the first are archived")
                daemon.process.kill()
                daemon.process.wait()
    assert once(home).returncode == 0
    assert published(home) == {f"s-n_{n}" for n in numbers} | {f"o_{n}" for n in numbers}
    assert [path for path in (home / "inbox").rglob("*") if path.is_file()] == []
    assert differences(home) == []


def test_a_reason_names_the_section_of_the_source_of_its_drop(tmp_path: Path) -> None:
    """In `plan`, in quarantine and in `status`: what it says can be pasted into the configuration, and then the drop is read."""
    home = home_of(tmp_path, CONFIG + "[sources.berlin]\n")
    once(home)
    shopify = json.dumps({"orders": [{"id": 1, "created_at": "2026-03-02", "total_price": "1.00", "line_items": []}]})
    place(home / "inbox" / "berlin" / "a.json", shopify.encode())
    setting = 'set preset = "shopify" in [sources.berlin]'
    assert setting in strandline(home, "plan", "inbox/berlin/a.json").stdout
    assert once(home).returncode == 1
    status = json.loads(strandline(home, "status", "--json").stdout)
    assert status["quarantine"]["newest"][0]["reason"].endswith(setting)
    assert status["last_drops"][0]["reason"].endswith(setting)
    home_of(home, CONFIG + '[sources.berlin]\npreset = "shopify"\n')
    assert strandline(home, "retry").returncode == 0 and once(home).returncode == 0
    assert published(home) == {"1"}


def of_berlin(number: int, **more: object) -> bytes:
    item = {"sku": "a", "quantity": 1, "price": "5.00"}
    record = {
        "id": number,
        "created_at": "2026-03-02T10:00:00Z",
        "total_price": "5.00",
        "currency": "EUR",
        "line_items": [item],
        "tags": "",
    }
    return json.dumps([{key: value for key, value in (record | more).items() if value is not None}]).encode()


def test_keys_that_come_and_vanish_are_told_once_by_source(tmp_path: Path) -> None:
    """In the log, in `status`, on the page and in the metrics, with the drop that brought them; also after a restart."""
    home = home_of(tmp_path, CONFIG + '[sources.berlin]\npreset = "shopify"\n')
    with running(home) as daemon:
        berlin = daemon.inbox / "berlin"
        for name, content in (
            ("a.json", of_berlin(1)), ("b.json", of_berlin(2, currency=None, total={"gross": 5})),
            ("c.json", of_berlin(3, currency=None, total=5, line_items=[{"sku": "a", "qty": 2, "price": 1}])),
        ):  # fmt: skip
            place(berlin / name, content)
            daemon.applied(name)
        place(daemon.inbox / "a.json", json.dumps([order(1, total=5)]).encode())
        daemon.applied("a.json")
        until(lambda: counted(daemon, "key_drift", source="default", kind="unread") == 1, "counted")
        assert counted(daemon, "key_drift", source="berlin", kind="unread") == 3
        assert counted(daemon, "key_drift", source="berlin", kind="missing") == 2
    (first,) = [one for one in daemon.said("records have keys that nothing reads") if one.get("source") == "berlin"]
    assert (first["level"], first["drop"], first["keys"]) == ("info", 1, "tags")
    new = daemon.said("records have new keys that nothing reads")
    assert [(one["level"], one["source"], one["drop"], one["keys"]) for one in new] == [
        ("warning", "berlin", 2, "total"), ("warning", "berlin", 3, "line_items.qty"),
    ]  # fmt: skip
    missing = daemon.said("keys that were read are missing in all first records")
    assert [(one["source"], one["drop"], one["keys"]) for one in missing] == [
        ("berlin", 2, "currency"), ("berlin", 3, "line_items.quantity"),
    ]  # fmt: skip
    with running(home) as daemon:
        found = json.loads(daemon.get("/api/status")[1])["sources"]
        page = daemon.get("/")[1]
    assert found["berlin"]["unread_keys"] == {"tags": 1, "total": 2, "line_items.qty": 3}
    assert found["berlin"]["missing_keys"] == {"currency": 2, "line_items.quantity": 3}
    assert found["default"]["unread_keys"] == {"total": 4} and found["web"]["missing_keys"] == {}
    assert len(daemon.said("records have new keys that nothing reads")) == 2  # in the logs of both runs
    for text in (page, strandline(home, "status").stdout):
        for expected in (
            "Keys that nothing reads",
            "line_items.qty (3), total (2), tags (1)",
            "Keys that are missing",
            "line_items.quantity (3)",
        ):
            assert expected in text


def test_orders_without_amount_and_price_have_a_badge_and_name_their_keys(tmp_path: Path) -> None:
    """Of each drop, from the ledger: after a restart and after other drops, too. A fault has one as well."""
    home = home_of(tmp_path)
    place_all = {
        "bare.json": [{"order_id": "b", "created_at": "2026-03-02", "total_price": 5, "line_items": []}],
        "fault.json": [order(2, amount="five")],
    }
    once(home)
    for name, content in place_all.items():
        place(home / "inbox" / name, json.dumps(content).encode())
        assert once(home).returncode == 0
    receipt = json.loads(next((home / "output" / "receipts").glob("*/00000001_*")).read_text())
    assert receipt["without_amount_and_price"] == {"orders": 1, "other_keys": ["line_items", "total_price"]}
    with running(home) as daemon:
        page = daemon.get("/")[1]
        assert page.count('<span class="badge warn">no amount, no price</span>') == 1
        assert page.count('<span class="badge warn">field faults</span>') == 1
        for number in range(12):
            place(daemon.inbox / f"{number}.json", json.dumps([order(number)]).encode())
            daemon.applied(f"{number}.json")
        until(lambda: "no amount, no price</span>" not in daemon.get("/")[1], "it is none of the last ten drops")
        page, found = daemon.get("/")[1], json.loads(daemon.get("/api/status")[1])
    assert "Orders with neither an amount nor a price" in page
    bare = {
        "drop": 1,
        "name": "bare.json",
        "source": "default",
        "orders": 1,
        "other_keys": ["line_items", "total_price"],
    }
    assert found["bare_drops"] == [bare]
    assert "1  bare.json  1 order: line_items, total_price" in strandline(home, "status").stdout
