"""The real process and its commands beside `--once`: status, plan, rebuild, retry, --since, schema, manifest."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from daemon import cli
from daemon.storage.lock import Lock
from daemon.storage.order_index import PAGE_BYTES
from daemon.storage.receipts import local_text
from tests.support.command import drop, environment, once, order, receipts, strandline
from tests.support.harness import dates, tree

USERS = b"user_id,email,created_at,country\nu_1,someone@example.org,2026-01-01,NA\n,nobody@example.org,,\n"
PRODUCTS = b"sku,name,category,price\np_1,Lamp,home,1.00\n"


def status(home: Path) -> dict:
    ended = strandline(home, "status", "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def lasting(files: dict[str, str]) -> dict[str, str]:
    """Without the files of the ledger, which differ from run to run and which SQLite keeps engine with, and the generation."""
    passing = ("ledger.sqlite", "lock", "generation")
    return {name: content for name, content in files.items() if not any(one in name for one in passing)}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder after one run over orders of three dates, users, products, a discard and a quarantined drop."""
    drop(tmp_path, "a.json", [order(1, 2, user_id="u_1"), order(2, 3, user_id="u_2"), order(3, 4), {"order_id": "x"}])
    drop(tmp_path, "users.csv", USERS)
    drop(tmp_path, "products.csv", PRODUCTS)
    drop(tmp_path, "bad.json", b"null")
    assert once(tmp_path).returncode == 1
    return tmp_path


def test_status_says_what_is_known(home: Path) -> None:
    """The numbers are those of the receipts, in JSON and for people, and no e-mail is among them."""
    drop(home, "b.json", [order(4)])
    found = status(home)
    assert found["running"] is None
    assert found["high_water_mark"] == "2026-03-04T10:00:00Z"
    assert found["inbox"]["pending"] == 1
    assert found["drops"] == {"applied": 3, "quarantined": 1}
    assert (found["orders"]["extracted"], found["orders"]["new"]) == (4, 3)
    assert found["orders"]["discarded"] == {"missing_created_at": 1}
    assert found["orders"]["unknown"] == {"user": 1}
    assert found["dimensions"]["user"]["rows"] == 1
    assert found["dimensions"]["user"]["discarded"] == {"missing_key": 1}
    assert [one["date"] for one in found["partitions"]] == dates(home / "output")
    discarded = (home / "output").glob("discarded/*/00000001.jsonl")
    first = [json.loads(line) for path in discarded for line in path.read_text().splitlines()]
    assert found["last_drops"][-1] == receipts(home)["1:a.json"] | {
        "first_discards": [
            {"position": one["position"], "reason": one["reason"], "why": "there is no value at created_at",
             "record": json.dumps(one["record"], separators=(",", ":"))}
            for one in first
        ]
    }  # fmt: skip
    assert [one["name"] for one in found["quarantine"]["newest"]] == ["bad.json"]
    text = strandline(home, "status").stdout
    for expected in (local_text("2026-03-04T10:00:00Z"), "missing_created_at", "bad.json", "2026-03-02"):
        assert expected in text
    assert "@" not in text + json.dumps(found)


def test_status_before_anything_happened(tmp_path: Path) -> None:
    """After a run that found no drop."""
    assert once(tmp_path).returncode == 0
    found = status(tmp_path)
    assert (found["high_water_mark"], found["partitions"], found["paused"]) == (None, [], None)
    assert strandline(tmp_path, "status").returncode == 0


def test_status_and_plan_beside_a_running_instance(home: Path) -> None:
    """Who holds the lock keeps nobody from looking."""
    lock = Lock(home / "output")
    try:
        assert status(home)["running"]["pid"]
        drop(home, "b.json", [order(4)])
        assert strandline(home, "plan", "inbox/b.json").returncode == 0
        assert once(home).returncode == 3
    finally:
        lock.close()


def test_what_needs_the_output_for_itself_says_what_to_stop(home: Path) -> None:
    """Beside a running instance, which does not do that work; a name that nothing has is refused before."""
    with closing(Lock(home / "output")):
        for words in (("undo", "1"), ("rebuild", "2026-03-02")):
            ended = strandline(home, *words)
            assert ended.returncode == 3 and "stop that one first, and start it again afterwards" in ended.stderr, words
            assert "does this work already" not in ended.stderr
        assert "It does this work already" in once(home).stderr
        for words, said in (
            (("undo", "99"), "there is no drop with the number, name or SHA-256 99"),
            (("pull", "nope"), "there is no source nope"),
            (("pull", "default"), "source default has no API"),
        ):
            ended = strandline(home, *words)
            assert ended.returncode == 2 and said in ended.stderr, words


def test_status_of_an_output_that_cannot_be_written(home: Path) -> None:
    """Whoever may only read sees the same."""
    before = status(home)
    output, state = home / "output", home / "output" / "state"
    for path in [output, *output.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        reader = [sys.executable, "-m", "daemon", "status", "--json"]
        if shutil.which("setpriv"):
            reader = ["setpriv", "--reuid=65534", "--clear-groups", *reader]
        for parent in [home, *home.parents][:-2]:
            parent.chmod(parent.stat().st_mode | 0o055)
        ended = subprocess.run(reader, cwd=home, env=environment(), capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        after = json.loads(ended.stdout)
    finally:
        for path in (output, state):
            path.chmod(0o755)
    assert after["drops"] == before["drops"] and after["partitions"] == before["partitions"]


def test_plan_says_where_a_line_is_broken(home: Path) -> None:
    """The line as an editor counts it, though the file is compressed and has empty lines."""
    lines = [json.dumps(order(1)), "", json.dumps(order(2))[:-2], json.dumps(order(3) | {"created_at": "soon"})]
    (home / "inbox" / "b.ndjson.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    ended = strandline(home, "plan", "inbox/b.ndjson.gz")
    column = len(lines[2]) + 1
    assert f"malformed_record: a comma or a closing bracket is missing (line 3, column {column})\n" in ended.stdout
    assert '3  invalid_created_at: created_at is "soon", which cannot be read as an instant\n' in ended.stdout
    (home / "inbox" / "users.csv").write_text("user_id,email\n\nu_1,a@x,b\n,b@x\nu_2,c@x\n")
    ended = strandline(home, "plan", "inbox/users.csv")
    assert "the row has 3 cells, more than the header, and which are too many is unknown (line 3)\n" in ended.stdout
    assert "missing_key: the cell of its key is empty (line 4)\n" in ended.stdout


def test_plan_says_what_would_happen_and_changes_nothing(home: Path) -> None:
    """Outcome, counts, discards and dates are those that the drop then has; nothing in the folder changes by asking."""
    records = [order(1, 5), order(2, 3, user_id="u_2"), order(3, 4, amount=7), order(9, 9), {"order_id": "y"}, 7]
    drop(home, "b.json", records)
    before = lasting(tree(home))
    ended = strandline(home, "plan", "inbox/b.json", "--json")
    assert ended.returncode == 0, ended.stderr
    plan = json.loads(ended.stdout)
    assert lasting(tree(home)) == before
    assert [(d["position"], d["reason"]) for d in plan["discards"]] == [(5, "missing_created_at"), (6, "not_an_object")]
    assert [(p["date"], p["orders_before"], p["orders_after"]) for p in plan["partitions"]] == [
        ("2026-03-02", 1, 0), ("2026-03-04", 1, 1), ("2026-03-05", 0, 1), ("2026-03-09", 0, 1),
    ]  # fmt: skip
    text = strandline(home, "plan", "inbox/b.json").stdout
    assert "2026-03-02  removed" in text and "missing_created_at" in text
    assert once(home).returncode == 0
    receipt = receipts(home)["5:b.json"]
    for name in ("outcome", "records", "late", "field_faults", "unknown_keys"):
        assert plan[name] == receipt[name]


def test_plan_knows_duplicates_dimensions_and_what_cannot_be_read(home: Path) -> None:
    """Each kind of drop gets its outcome; a file that is not there is a usage error."""
    shutil.copy(home / receipts(home)["1:a.json"]["raw"].replace("raw", "output/raw", 1), home / "again.json")
    (home / "users2.csv").write_bytes(USERS + b"u_2,,,DE\n")
    (home / "worse.json").write_bytes(b"null")
    assert "would be duplicate" in strandline(home, "plan", "again.json").stdout
    planned = strandline(home, "plan", "users2.csv").stdout
    assert "1 new" in planned and "  1  user\n" in planned
    worse = strandline(home, "plan", "worse.json")
    assert worse.returncode == 1 and "would be quarantined" in worse.stdout
    assert strandline(home, "plan", "nothing.json").returncode == 2


def test_plan_shows_how_the_first_records_are_read(home: Path) -> None:
    """By the source that is named, else by that of the folder; field by field, with the paths; the same in JSON."""
    (home / "config.toml").write_text('[sources.shop]\npreset = "shopify"\n[sources.web]\n')
    item = {"sku": "A", "quantity": 2, "price": "5", "grams": 7}
    bad = {"id": 2, "created_at": "2026-03-02", "total_price": "5 EUR", "line_items": []}
    records = [{"id": 1, "created_at": "2026-03-02", "total_price": "199.9", "line_items": [item], "tags": ""}, bad]
    for place in (home, home / "inbox" / "shop"):
        place.mkdir(exist_ok=True)
        (place / "export.json").write_text(json.dumps({"orders": [*records, *[bad] * 4]}))
    named = strandline(home, "plan", "export.json", "--source", "shop")
    assert named.returncode == 0 and named.stdout == strandline(home, "plan", "inbox/shop/export.json").stdout
    lines = [line.split() for line in named.stdout.splitlines()]
    for expected in (
        "1 order", "amount 199.90 total_price", "user_id NULL (nothing at customer.id, email)", "metadata NULL (not read)",
        "items 1 line_items", "sku A line_items.0.sku", "qty 2 line_items.0.quantity", "not read: tags, line_items.grams",
        "2 order", 'amount "5 EUR" total_price FAULT: this cannot be read', "3 order",
    ):  # fmt: skip
        assert expected.split() in lines, expected
    assert ["4", "order"] not in lines
    first = json.loads(strandline(home, "plan", "inbox/shop/export.json", "--json").stdout)["first_records"]
    assert [one["position"] for one in first] == [1, 2, 3] and first[0]["not_read"] == ["tags", "line_items.grams"]
    assert {"field": "amount", "value": "199.90", "path": "total_price", "is_fault": False} in first[0]["fields"]
    assert first[0]["items"][0][1] == {"field": "qty", "value": "2", "path": "line_items.0.quantity", "is_fault": False}
    unmapped = strandline(home, "plan", "export.json")
    assert unmapped.returncode == 1 and "discarded: missing_order_id" in unmapped.stdout
    assert ["order_id", "NULL", "order_id", "FAULT:", "this", "is", "missing"] in map(
        str.split, unmapped.stdout.splitlines()
    )
    unknown = strandline(home, "plan", "export.json", "--source", "nobody")
    assert unknown.returncode == 2 and "configured are default, shop, web" in unknown.stderr


def test_retry_of_an_archive_is_one_of_all_drops_from_it(home: Path) -> None:
    """Of those in quarantine, if there are any; else of the applied ones, each once."""

    def archive(name: str, second: str) -> None:
        with zipfile.ZipFile(home / "inbox" / name, "w") as file:
            file.writestr("x.json", json.dumps([order(8, 8)]))
            file.writestr("y.json", second)
        os.utime(home / "inbox" / name, (1, 1))

    archive("more.zip", "[")
    assert strandline(home, "--once").returncode == 1
    ended = strandline(home, "retry", "more.zip")
    assert ended.returncode == 0 and "y.json is back in" in ended.stdout and "x.json" not in ended.stdout, ended
    (home / "inbox" / "y.json").unlink()
    ended = strandline(home, "retry", "default/more.zip")
    assert ended.returncode == 0 and "(more.zip/x.json) was applied; it is back in" in ended.stdout, ended
    assert strandline(home, "--once").returncode == 0
    ended = strandline(home, "retry", "other.zip")
    assert ended.returncode == 2 and "cannot retry other.zip" in ended.stderr


def test_plan_shows_the_files_of_an_archive_one_after_another(home: Path) -> None:
    """As the drops that they become, with the dates of all of them; an archive that cannot be unpacked as one drop."""
    with zipfile.ZipFile(home / "more.zip", "w") as archive:
        for name, content in (
            ("x.json", json.dumps([order(8, 8)])),
            ("users.csv", "user_id\nu_8\n"),
            ("z.json", "null"),
        ):
            archive.writestr(name, content)
    ended = strandline(home, "plan", "more.zip")
    lines = [line for line in ended.stdout.splitlines() if "would be" in line or line.startswith("  2026")]
    assert ended.returncode == 1 and [line.partition(":")[0] for line in lines] == [
        "more.zip/x.json would be applied", "more.zip/users.csv would be applied", "more.zip/z.json would be quarantined",
        "  2026-03-08  new, 1 order",
    ]  # fmt: skip
    plan = json.loads(strandline(home, "plan", "more.zip", "--json").stdout)
    assert [one["name"] for one in plan["drops"]] == ["more.zip/x.json", "more.zip/users.csv", "more.zip/z.json"]
    (home / "bad.zip").write_bytes(b"PK\3\4")
    assert "bad.zip would be quarantined: the zip archive is damaged" in strandline(home, "plan", "bad.zip").stdout


def test_rebuild_of_dates_puts_lost_and_damaged_files_back(home: Path) -> None:
    """The same bytes, and other dates are not touched; a date that is not published is a usage error that says so."""
    before = tree(home / "output" / "curated")
    lost = home / "output" / "curated" / "date=2026-03-02"
    shutil.rmtree(lost)
    damaged = home / "output" / "curated" / "date=2026-03-03" / "order_items.parquet"
    damaged.write_bytes(b"PAR1")
    untouched = home / "output" / "curated" / "date=2026-03-04" / "fact_order.parquet"
    inode = untouched.stat().st_ino
    ended = strandline(home, "rebuild", "2026-03-02", "2026-03-03")
    assert ended.returncode == 0, ended.stderr
    assert tree(home / "output" / "curated") == before and untouched.stat().st_ino == inode
    for wrong in ("2030-01-01", "yesterday"):
        ended = strandline(home, "rebuild", wrong)
        assert ended.returncode == 2 and wrong in ended.stderr


def histories(home: Path) -> list[tuple]:
    """The ledger's rows that must outlive a rebuild."""
    with sqlite3.connect(home / "output" / "state" / "ledger.sqlite") as sql:
        queries = (
            "SELECT seq, name, raw, sha256, bytes, received_at, tolerance, records_path, since, outcome, reason, "
            "duplicate_of, counts FROM drops ORDER BY seq",
            "SELECT date, orders, lines, amount, fact_sha256, items_sha256, bytes, restatements FROM partitions ORDER BY date",
            "SELECT date, restatements FROM gone ORDER BY date",
            "SELECT * FROM totals ORDER BY name",
            "SELECT name, rows, sha256, last_drop FROM dimensions ORDER BY name",
            "SELECT key, value FROM meta WHERE key IN ('hwm', 'restatements_bytes')",
        )
        return [tuple(sql.execute(query).fetchall()) for query in queries]


@pytest.mark.parametrize("lost", ["nothing", "state", "curated", "both"])
def test_rebuild_of_everything(home: Path, lost: str) -> None:
    """Whatever is lost beside raw and receipts comes back: the same rows in the ledger, the same bytes, and the same answer to
    the next drop; what does not belong is removed."""
    drop(home, "b.json", [order(1, 5), order(3, 4, amount=7)])
    drop(home, "again.json", [order(1, 5), order(3, 4, amount=7)])
    drop(home, "users2.csv", b"user_id\nu_9\n")
    assert once(home).returncode == 0
    before, history = tree(home / "output"), histories(home)
    assert status(home)["drops"]["duplicate"] == 1
    for name in {"nothing": [], "both": ["state", "curated"]}.get(lost, [lost]):
        shutil.rmtree(home / "output" / name)
    stale = home / "output" / "curated" / "date=2020-01-01" / "fact_order.parquet"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"left over")
    if lost in ("state", "both"):
        refused = once(home)
        assert refused.returncode == 3 and "strandline rebuild" in refused.stderr
    ended = strandline(home, "rebuild")
    assert ended.returncode == 0, ended.stderr
    assert histories(home) == history

    assert lasting(tree(home / "output")) == lasting(before)
    drop(home, "c.json", [order(1, 5), order(4, 6)])
    assert once(home).returncode == 0
    records = next(r["records"] for r in receipts(home).values() if r["name"] == "c.json")
    assert (records["unchanged"], records["new"]) == (1, 1)


def test_rebuild_applies_raw_copies_that_have_no_receipt(home: Path) -> None:
    """With ledger and receipts lost, the raw layer alone brings every row back."""
    before = tree(home / "output" / "curated")
    for name in ("state", "receipts", "curated"):
        shutil.rmtree(home / "output" / name)
    assert strandline(home, "rebuild").returncode == 0
    assert tree(home / "output" / "curated") == before


def test_a_damaged_ledger_is_one_line_that_says_what_mends_it(home: Path) -> None:
    """Also where its first page is whole, so that it can be opened; and that mends it."""
    before = tree(home / "output" / "curated")
    ledger = home / "output" / "state" / "ledger.sqlite"
    content = ledger.read_bytes()
    ledger.write_bytes(content[:PAGE_BYTES] + b"\xff" * (len(content) - PAGE_BYTES))
    for words in (["status"], ["--once"], ["rebuild"]):
        ended = strandline(home, *words)
        assert ended.returncode == 3 and len(ended.stderr.splitlines()) == 1
        assert "move it away and run `strandline rebuild`" in ended.stderr
    ledger.unlink()
    assert strandline(home, "rebuild").returncode == 0
    assert tree(home / "output" / "curated") == before


def test_rebuild_refuses_raw_copies_that_are_damaged(home: Path) -> None:
    """Nothing is made out of a file that is not what was archived, and nothing that is published is touched."""
    path = home / "output" / receipts(home)["1:a.json"]["raw"]
    path.write_bytes(path.read_bytes().replace(b"o_1", b"o_7"))
    before = tree(home / "output" / "curated")
    for words in (["rebuild"], ["rebuild", "2026-03-02"]):
        ended = strandline(home, *words)
        assert ended.returncode == 3 and path.name in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert tree(home / "output" / "curated") == before
    assert once(home).returncode == 0


@pytest.mark.parametrize("named", [[], ["bad.json"], ["2"], "file"])
def test_retry_puts_quarantined_drops_back(home: Path, named: list[str] | str) -> None:
    """By the file, the drop's own name, its number, or all of them; beside a running instance; and the next run takes it."""
    seq = next(int(key.split(":")[0]) for key in receipts(home) if key.endswith("bad.json"))
    (file,) = [path.name for path in (home / "output" / "quarantine").iterdir() if path.name.endswith("_bad.json")]
    words = [file] if named == "file" else [str(seq)] if named == ["2"] else list(named)
    lock = Lock(home / "output")
    try:
        assert strandline(home, "retry", *words).returncode == 0
    finally:
        lock.close()
    assert (home / "inbox" / "bad.json").read_bytes() == b"null"
    assert list((home / "output" / "quarantine").iterdir()) == []
    assert once(home).returncode == 1
    assert status(home)["quarantine"]["drops"] == 1


def test_retry_after_the_cause_is_gone(home: Path) -> None:
    """A drop that was quarantined for a setting is applied once the setting is right, and never replaces a new drop."""
    drop(home, "c.json", json.dumps({"payload": {"rows": [order(7, 7)]}}).encode())
    assert once(home).returncode == 1
    assert strandline(home, "retry", "c.json", "c.json").returncode == 0
    drop(home, "d.json", b"{}")
    (home / "inbox" / "d.json").rename(home / "inbox" / "bad.json")
    assert strandline(home, "retry", "bad.json").returncode == 0
    assert sorted(path.name for path in (home / "inbox").iterdir()) == ["bad-1.json", "bad.json", "c.json"]
    once(home, INPUT__RECORDS_PATH="payload.rows")
    assert "2026-03-07" in dates(home / "output")
    unknown = strandline(home, "retry", "nothing.json")
    assert unknown.returncode == 2 and "nothing.json" in unknown.stderr


def test_an_order_id_of_any_bytes_can_be_asked_for(home: Path) -> None:
    """What is no UTF-8 is nobody's id, which is an answer."""
    ended = strandline(home, "trace", os.fsdecode(b"\xff"))
    assert ended.returncode == 1 and "no applied drop has a record of it" in ended.stdout


@pytest.mark.parametrize("options", [["--once"], ["--since", "2026-03-02"], ["--once", "--since", "hwm"]])
def test_options_of_a_run_are_not_passed_over_before_a_command(tmp_path: Path, options: list[str]) -> None:
    """Who writes both means one of them; neither is done."""
    ended = strandline(tmp_path, *options, "status")
    assert ended.returncode == 2 and "do not go with a command" in ended.stderr and ended.stdout == ""


def test_a_textfile_without_a_folder_is_said_before_anything_is_done(tmp_path: Path) -> None:
    """As other settings that cannot work; the drop stays where it is."""
    drop(tmp_path, "a.json", [order(1)])
    textfile = str(tmp_path / "nowhere" / "a.prom")
    ended = strandline(tmp_path, "--once", METRICS__TEXTFILE=textfile)
    assert ended.returncode == 2 and textfile in ended.stderr and (tmp_path / "inbox" / "a.json").exists()


def test_since_is_an_instant_and_hwm_the_mark(tmp_path: Path) -> None:
    """Orders before it stay in raw and are counted; with a wider one, and with none at all for new drops, they come."""
    drop(tmp_path, "a.json", [order(1, 2), order(2, 3), order(3, 4)])
    assert once(tmp_path, "--since", "2026-03-04T11:00:00+01:00").returncode == 0
    assert dates(tmp_path / "output") == ["2026-03-04"]
    assert receipts(tmp_path)["1:a.json"]["records"]["before_since"] == 2
    assert receipts(tmp_path)["1:a.json"]["parsed_with"]["since"] == "2026-03-04T10:00:00Z"
    drop(tmp_path, "b.json", [order(4, 1), order(5, 4)])
    assert once(tmp_path, "--since", "hwm").returncode == 0
    assert dates(tmp_path / "output") == ["2026-03-04"]
    assert once(tmp_path, "--since", "2026-03-03").returncode == 0
    assert dates(tmp_path / "output") == ["2026-03-03", "2026-03-04"]
    assert receipts(tmp_path)["1:a.json"]["records"]["before_since"] == 1
    assert once(tmp_path, "--since", "1970-01-01").returncode == 0
    assert dates(tmp_path / "output") == ["2026-03-01", "2026-03-02", "2026-03-03", "2026-03-04"]
    orders = status(tmp_path)["orders"]
    assert [orders[name] for name in ("extracted", "new", "late", "before_since")] == [5, 5, 3, 0]
    wrong = once(tmp_path, "--since", "last week")
    assert wrong.returncode == 2 and "last week" in wrong.stderr


@pytest.mark.parametrize("since", ["1772474651000000", "99999999999999999999", "1e30", "9999-12-31T23:59-05:00"])
def test_a_since_after_the_calendar_is_one_line_and_changes_nothing(tmp_path: Path, since: str) -> None:
    """Microseconds instead of milliseconds, say. Nothing is taken, so the next run is as if there had been none."""
    drop(tmp_path, "a.json", [order(1, 2)])
    wrong = once(tmp_path, "--since", since)
    assert wrong.returncode == 2 and since in wrong.stderr and len(wrong.stderr.splitlines()) == 1
    assert [path.name for path in (tmp_path / "inbox").iterdir()] == ["a.json"] and not (tmp_path / "output").exists()


def test_a_rebuild_keeps_what_since_left_out(tmp_path: Path) -> None:
    """Each drop is judged again by the `since` that it was read under."""
    drop(tmp_path, "a.json", [order(1, 2), order(2, 3)])
    assert once(tmp_path, "--since", "2026-03-03").returncode == 0
    before = tree(tmp_path / "output" / "curated")
    shutil.rmtree(tmp_path / "output" / "state")
    assert strandline(tmp_path, "rebuild").returncode == 0
    assert tree(tmp_path / "output" / "curated") == before
    assert once(tmp_path, "--since", "1970-01-01").returncode == 0
    assert dates(tmp_path / "output") == ["2026-03-02", "2026-03-03"]


def test_schema_and_manifest_print_and_need_no_lock(home: Path) -> None:
    """Both are for pipes: the text alone on standard output."""
    assert strandline(home, "schema", "--dialect", "postgres").stdout.count("CREATE TABLE") == 4
    manifest = json.loads(strandline(home, "manifest", "fact_order", "s3://bucket/x", "2026-03-02").stdout)
    (entry,) = manifest["entries"]
    size = (home / "output" / "curated" / "date=2026-03-02" / "fact_order.parquet").stat().st_size
    assert entry["url"].endswith("/curated/date=2026-03-02/fact_order.parquet")
    assert entry["meta"]["content_length"] == size


def test_e_mails_are_only_where_they_belong(home: Path) -> None:
    """Personal data is in the dimension, in raw and in discards; not in a log, a receipt, a reason or the ledger's counts."""
    (tmp_log := home / "log.txt").write_text(once(home, LOG__LEVEL="debug").stderr)
    assert pq.read_table(home / "output" / "curated" / "dim_user.parquet")["email"].to_pylist() == [
        "someone@example.org"
    ]
    for path in [tmp_log, *(home / "output").glob("receipts/*/*"), *(home / "output").glob("quarantine/*")]:
        assert b"example.org" not in path.read_bytes(), path
    with sqlite3.connect(home / "output" / "state" / "ledger.sqlite") as sql:
        assert not any("example.org" in line for line in sql.iterdump())


def test_plan_before_anything_happened(tmp_path: Path) -> None:
    """All of it would be new, and nothing is made by asking."""
    drop(tmp_path, "a.json", [order(1)])
    ended = strandline(tmp_path, "plan", "inbox/a.json")
    assert ended.returncode == 0 and "1 new" in ended.stdout, ended.stderr
    assert not (tmp_path / "output").exists()


def test_plan_with_a_damaged_dimension_says_what_mends_it(home: Path) -> None:
    """Of orders, whose users it would look up, and of users."""
    with open(home / "output" / "curated" / "dim_user.parquet", "ab") as file:
        file.write(b"x")
    drop(home, "b.json", [order(4)])
    drop(home, "users2.csv", USERS)
    for name in ("b.json", "users2.csv"):
        ended = strandline(home, "plan", f"inbox/{name}")
        assert ended.returncode == 3 and "published files of dim_user.parquet" in ended.stderr, ended.stderr
    assert strandline(home, "rebuild").returncode == 0
    assert strandline(home, "plan", "inbox/b.json").returncode == 0


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "refused an operation: No space left on device."),
        (OSError(errno.EIO, "Input/output error", "raw/x"), "refused an operation on raw/x: Input/output error."),
    ],
)
def test_an_error_of_the_system_names_its_file_where_it_has_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError, said: str
) -> None:
    """And no file where it has none: a full disk is no file's fault."""

    def refused(*_: object) -> int:
        raise error

    monkeypatch.setattr(cli.looking, "status", refused)
    monkeypatch.setattr(cli, "release", lambda: None)
    assert cli.main(["status"]) == 3 and said in capsys.readouterr().err


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ["--once", "status", "schema"])
def test_closed_streams_change_nothing(home: Path, words: str, closed: str) -> None:
    """As some supervisors and cron wrappers have them. What is said goes nowhere, and files do not take their numbers."""
    drop(home, "late.json", [order(77)])
    line = f'"{sys.executable}" -m daemon {words} {closed}'
    ended = subprocess.run(
        ["sh", "-c", line], cwd=home, env=environment(), capture_output=True, timeout=120, check=False
    )
    assert (ended.returncode, b"Traceback" in ended.stdout + ended.stderr) == (0, False)
    assert strandline(home, "verify").returncode == 0


def test_who_stops_reading_learns_the_exit_code_nevertheless(home: Path) -> None:
    """`strandline plan bad.json | head -1` in a script with pipefail."""
    (home / "bad.json").write_text("{")
    command = [sys.executable, "-m", "daemon", "plan", "bad.json"]
    reading, writing = os.pipe()
    os.close(reading)
    settings = {name: value for name, value in environment().items() if name != "PYTHONUNBUFFERED"}
    ended = subprocess.run(command, cwd=home, env=settings, stdout=writing, timeout=120, check=False)
    os.close(writing)
    assert ended.returncode == 1


def test_an_output_that_cannot_be_written_is_said(home: Path) -> None:
    """Also where all of it fits the buffer, so that nobody notices before the end."""
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "daemon", "schema"]
        ended = subprocess.run(command, cwd=home, env=environment(), stdout=full, stderr=subprocess.PIPE, check=False)
    assert ended.returncode == 3 and b"No space left" in ended.stderr


def test_a_run_with_workers_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the folder in which workers are reached. Its path is short: the address of a socket holds 107 bytes."""
    scratch = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(scratch))
    metadata = "m" * 30_000
    drop(tmp_path, "large.json", [order(number, metadata=metadata) for number in range(600)])
    ended = once(tmp_path)
    assert ended.returncode == 0, ended.stderr
    scratch.rmdir()  # it is empty
