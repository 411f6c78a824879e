"""A small world from a seed: drops that were applied before, drops in the inbox, and the check that nothing is lost.

Every kind of effect occurs in most worlds: new, corrected, moved and late orders, ties, dates that become empty, discards,
faults, quarantine, duplicates, dimensions, compressed drops, an empty drop, zip archives.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import sqlite3
import subprocess
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.faults import Ended
from tests.model import Drop, DropOutcome, Model
from tests.support.harness import dates, rows

CONFIG = """\
[watch]
settle_seconds = 0.05
foreign_settle_seconds = 0.2
rescan_seconds = 0.2
[retry]
attempts = 3
initial_delay_seconds = 0.01
max_delay_seconds = 0.05
[batch]
linger_seconds = 0.01
[http]
enabled = false
[engine]
workers = 1
[log]
level = "warning"
"""
_BAD_RECORDS = (
    '{"order_id":1}', '{"created_at":"2026-03-02"}', "nonsense", "7", '{"order_id":"o_1","created_at":"2999-01-01"}',
    '{"order_id":"o_2","created_at":"2026-02-30T00:00:00Z"}',
)  # fmt: skip
_UNREADABLE = (b"<html>", b"", b'[{"order_id":', b"\xff\xfe[\0", b'{"error":"no"}')


@dataclass(frozen=True)
class World:
    """`before`: drops that an undisturbed run applied (if empty, there was no such run). `now`: drops in the inbox. Both in order
    of arrival. Names are unique."""

    seed: int
    before: list[tuple[str, bytes]]
    now: list[tuple[str, bytes]]

    def prepare(self, home: Path, run: Callable[[Path], Ended]) -> None:
        """Creates the files before the disturbed run."""
        if self.before:
            put(home, self.before)
            ended = run(home)
            assert ended.status in (0, 1), ended.stderr
        put(home, self.now)


def put(home: Path, drops: list[tuple[str, bytes]]) -> None:
    """Writes drops into the inbox of `home`, old enough to be settled."""
    (home / "inbox").mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text(CONFIG)
    then = time.time() - 3600
    for number, (name, content) in enumerate(drops):
        path = home / "inbox" / name
        path.write_bytes(content)
        os.utime(path, (then + number, then + number))


def world(seed: int) -> World:
    """The world of a seed."""
    chosen = random.Random(seed)
    before = list(_drops(chosen, "a", chosen.randint(1, 3)))
    repeated = [content for _, content in before]
    now = list(_drops(chosen, "b", chosen.randint(1, 4)))
    if chosen.random() < 0.6:
        now.append(
            (
                "b-again.ndjson",
                chosen.choice([content for name, content in before if name.endswith("ndjson")] or repeated),
            )
        )
    if chosen.random() < 0.6:
        now.append(("b-broken.json", chosen.choice(_UNREADABLE)))
    if chosen.random() < 0.6:
        before.append(("users.csv", b"user_id,email\nu_1,a@example.com\nu_3,c@example.com\n"))
    if chosen.random() < 0.6:
        now.append(("users-b.csv", b"user_id,email,country\nu_2,b@example.com,NA\n,nobody@example.com,DE\n"))
    if chosen.random() < 0.3:
        now.append(("products-b.csv", b"sku,name,price\np_1,One,1.5\np_2,Two,many\n"))
    chosen.shuffle(now)
    if seed % 3:
        now.insert(chosen.randrange(len(now) + 1), ("b-many.zip", _zipped(chosen)))
    if seed % 4 == 0:  # everything arrives before the first start
        return World(seed, [], before + now)
    return World(seed, before, now)


def _zipped(chosen: random.Random) -> bytes:
    """An archive of drops, one of them quarantined, with what is left out of it."""
    members = [
        *_drops(chosen, "m", chosen.randint(1, 3)),
        ("sub/notes.txt", b"no drop"),
        ("users-m.csv", b"user_id\nu_9\n"),
    ]
    chosen.shuffle(members)
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [*members, ("sub/.DS_Store", b"left out")]:
            archive.writestr(zipfile.ZipInfo(name), content)
    return sink.getvalue()


def _members(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """A drop, or those that the files of an archive become."""
    if not name.endswith(".zip"):
        yield name, content
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        yield from ((f"{name}/{one}", archive.read(one)) for one in archive.namelist() if ".DS_Store" not in one)


def _drops(chosen: random.Random, prefix: str, many: int) -> Iterator[tuple[str, bytes]]:
    for number in range(1, many + 1):
        records = [record(chosen) for _ in range(chosen.randint(0, 8) or 1)]
        if chosen.random() < 0.5:
            yield f"{prefix}{number}.ndjson", "".join(record + "\n" for record in records).encode()
            continue
        content = ("[" + ",".join(record for record in records if _is_json(record)) + "]").encode()
        if chosen.random() < 0.3:
            yield f"{prefix}{number}.json.gz", gzip.compress(content, mtime=0)
        else:
            yield f"{prefix}{number}.json", content


def record(chosen: random.Random) -> str:
    """A record of an order, right or wrong."""
    if chosen.random() < 0.15:
        return chosen.choice(_BAD_RECORDS)
    record: dict[str, Any] = {
        "order_id": f"o_{chosen.randrange(9)}",
        "created_at": f"2026-03-0{chosen.randint(1, 5)}T0{chosen.randrange(3)}:00:00Z",
        "amount": chosen.choice([1, 2.5, "7.25", None, "x", -3]),
        "user_id": chosen.choice(["u_1", "u_2", None]),
        "items": [
            {"sku": f"p_{chosen.randrange(3)}", "qty": chosen.choice([1, 2, "many"]), "price": chosen.randint(0, 9)}
            for _ in range(chosen.randrange(4))
        ],
    }
    if chosen.random() < 0.5:
        record["updated_at"] = f"2026-03-1{chosen.randrange(4)}T00:00:00Z"
    return json.dumps(record)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------------ the check


@dataclass(frozen=True)
class Row:
    """One drop in the ledger."""

    seq: int
    batch: int
    name: str
    sha256: bytes
    raw: str | None
    received_at: int
    outcome: str
    reason: str | None
    counts: dict[str, Any]


def ledger_rows(home: Path) -> list[Row]:
    """All drops in the ledger, by number."""
    with closing(sqlite3.connect(home / "output" / "state" / "ledger.sqlite")) as sql:
        found = sql.execute(
            "SELECT seq, batch, name, sha256, raw, received_at, outcome, reason, counts FROM drops ORDER BY seq"
        ).fetchall()
    return [Row(*row[:8], json.loads(row[8] or "{}")) for row in found]


def violations(home: Path, world: World) -> list[str]:
    """Every violation after all drops of a world were applied: a drop is lost or applied twice, or a result is not that of the
    model. Empty if there is none."""
    found: list[str] = []
    sent = dict(one for drop in (*world.before, *world.now) for one in _members(*drop))
    known = ledger_rows(home)
    named = Counter(row.name for row in known)
    found += [f"{name} is lost" for name in sent if not named[name]]
    found += [f"{name} was taken {number} times" for name, number in named.items() if number != 1]
    found += [f"drop {row.seq} was never committed" for row in known if row.batch is None]
    found += [
        f"{row.name} holds other bytes"
        for row in known
        if row.sha256 != hashlib.sha256(sent.get(row.name, b"?")).digest()
    ]
    left = [path.name for path in (home / "inbox").iterdir()]
    found += [f"left in the inbox: {name}" for name in left]
    if found:
        return found
    try:
        found += _against_the_model(home, known, sent)
        found += _files(home, known, sent)
    except (OSError, ValueError, KeyError) as error:  # a file that is missing or damaged
        found.append(f"{type(error).__name__}: {error}")
    return found


def _against_the_model(home: Path, known: list[Row], sent: dict[str, bytes]) -> Iterator[str]:
    model = Model()
    orders = [row for row in known if not row.name.endswith((".csv", ".txt"))]
    if [row.batch for row in known] != sorted(row.batch for row in known):
        yield "batches are not in order of arrival"
    for batch in sorted({row.batch for row in orders}):
        drops = [row for row in orders if row.batch == batch]
        expected = model.apply([Drop(row.name, _plain(sent[row.name]), row.received_at) for row in drops])
        for row, want in zip(drops, expected, strict=True):
            yield from _counts(row, want)
    yield from _published(home / "output", model)


def _counts(row: Row, want: DropOutcome) -> Iterator[str]:
    if row.outcome != want.outcome:
        yield f"{row.name} is {row.outcome}, not {want.outcome}"
    for name in ("extracted", "before_since", "superseded", "unchanged", "new", "corrected", "late"):
        if row.counts.get(name, 0) != getattr(want, name):
            yield f"{row.name}: {row.counts.get(name, 0)} {name}, not {getattr(want, name)}"
    if row.counts.get("discarded", {}) != +want.discarded or row.counts.get("faults", {}) != +want.field_faults:
        yield f"{row.name}: {row.counts}, not {want}"


def _published(output: Path, model: Model) -> Iterator[str]:
    if dates(output) != model.dates():
        yield f"dates {dates(output)}, not {model.dates()}"
        return
    for date in model.dates():
        for table, want_rows in (("fact_order", model.fact_rows(date)), ("order_items", model.item_rows(date))):
            if _plain_rows(rows(output, date, table)) != _plain_rows(want_rows):
                yield f"{date} {table}: {rows(output, date, table)}, not {want_rows}"
    with closing(sqlite3.connect(output / "state" / "ledger.sqlite")) as sql:
        hwm = sql.execute("SELECT value FROM meta WHERE key = 'hwm'").fetchone()
        if (hwm[0] if hwm else None) != model.hwm_us:
            yield f"high-water mark {hwm}, not {model.hwm_us}"
    log = output / "restatements.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    told = [
        (
            one["date"],
            one["orders_before"],
            one["orders_after"],
            Decimal(one["amount_before"]),
            Decimal(one["amount_after"]),
        )
        for one in lines
    ]
    want_told = [(*one[:3], one.amount_before or 0, one.amount_after or 0) for one in model.restatements]
    if told != want_told:
        yield f"restatements {told}, not {want_told}"


def _files(home: Path, known: list[Row], sent: dict[str, bytes]) -> Iterator[str]:
    """Checks that raw copies, quarantine, receipts, discards and dimensions are complete and that there is nothing else."""
    output = home / "output"
    yield from _raw(output, known, sent)
    yield from _quarantine(output, {row.seq: row for row in known if row.outcome == "quarantined"}, sent)
    receipts = {
        int(path.name.partition("_")[0]): json.loads(path.read_bytes()) for path in output.glob("receipts/*/*.json")
    }
    if {seq: one["outcome"] for seq, one in receipts.items()} != {row.seq: row.outcome for row in known}:
        yield f"receipts for {sorted(receipts)}, not for all of {[row.seq for row in known]}"
    for row in known:
        kept = [
            line for path in output.glob(f"discarded/*/{row.seq:08d}.jsonl") for line in path.read_text().splitlines()
        ]
        if Counter(json.loads(line)["reason"] for line in kept) != Counter(row.counts.get("discarded", {})):
            yield f"{row.name}: {len(kept)} discards are kept, not {row.counts.get('discarded')}"
    for kind, table, key in (("users", "dim_user", "user_id"), ("products", "dim_product", "sku")):
        applied = [
            sent[row.name] for row in known if row.name.rpartition("/")[2].startswith(kind) and row.outcome == "applied"
        ]
        want = {line.partition(b",")[0].decode() for content in applied for line in content.splitlines()[1:]} - {""}
        have = _keys(output / "curated" / f"{table}.parquet", key)
        if have != sorted(want):
            yield f"{table} holds {have}, not {sorted(want)}"
    staged = [str(path) for path in (output / ".staging").rglob("*") if path.is_file()]
    if staged:
        yield f"left in staging: {staged}"


def _raw(output: Path, known: list[Row], sent: dict[str, bytes]) -> Iterator[str]:
    expected = {row.raw: row for row in known if row.outcome == "applied" and row.raw}
    found = {
        str(path.relative_to(output)) for path in (output / "raw").rglob("*")
        if path.is_file() and not path.is_symlink() and not path.name.startswith(".")
    }  # fmt: skip
    if found != expected.keys():
        yield f"raw holds {sorted(found)}, not {sorted(expected)}"
    for path in found & expected.keys():
        if (output / path).read_bytes() != sent[expected[path].name]:
            yield f"{path} is not what arrived"


def _quarantine(output: Path, refused: dict[int, Row], sent: dict[str, bytes]) -> Iterator[str]:
    there = {path.name for path in (output / "quarantine").glob("[0-9]*")}
    if len(there) != 2 * len(refused):
        yield f"quarantine holds {sorted(there)}, not {len(refused)} drops with their reasons"
    for name in there:
        row = refused.get(int(name.partition("_")[0]))
        content = (output / "quarantine" / name).read_bytes()
        if row is None:
            yield f"{name} is in quarantine, but not in the ledger"
        elif name.endswith(".reason.json"):
            if json.loads(content)["reason"] != row.reason:
                yield f"{name} gives another reason than the ledger"
        elif content != sent[row.name]:
            yield f"{name} is not what arrived"


def _keys(path: Path, key: str) -> list[str]:
    return pq.read_table(path)[key].to_pylist() if path.exists() else []


def _plain(content: bytes) -> bytes:
    """The content of a drop for the model, which finds duplicates by content. What is compressed is told by the content, not by
    the name. A compressed drop is no duplicate of an uncompressed one, so it gets a space at the end."""
    return gzip.decompress(content) + b" " if content.startswith(b"\x1f\x8b") else content


def _plain_rows(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"date": str(row["date"])} for row in found]


def whole(home: Path) -> list[str]:
    """The published files that cannot be read. Every published file must be complete at any time, even right after a crash."""
    found = []
    for path in (home / "output" / "curated").rglob("*.parquet"):
        try:
            pq.read_table(path, partitioning=None)
        except Exception as error:
            found.append(f"{path.relative_to(home)} cannot be read: {error}")
    return found


def copied(base: Path, home: Path) -> Path:
    """A copy of a home that keeps modification times and hard links."""
    subprocess.run(["cp", "-a", base, home], check=True)
    return home
