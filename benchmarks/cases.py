"""Cases other than one large drop: dirty data, a resend, one small drop into a large day, a long history, a growing index, a huge
drop, idling.

    python -m benchmarks.cases [dirty mapped resend latency history growth memory idle] [--work FOLDER]

Each case prints its numbers and the ratio that counts. It measures whole processes; two things that are compared alternate.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.compare import CONFIG, run_strandline
from benchmarks.data import REPO, WORK, Input, fresh_folder, make_input
from benchmarks.measure import Measured, adopt_orphans, measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator

ODD = (
    lambda line: b"{broken\n",
    lambda line: line.replace(b'"created_at":"', b'"created_at":"not '),
    lambda line: line.replace(b'"order_id":', b'"order_id":null,"was":'),
    lambda line: line.replace(b'"amount":', b'"amount":"about ').replace(b',"currency"', b'","currency"'),
    lambda line: line.replace(b'"amount":', b'"amount":1e0,"was":'),
)
DAY_ORDERS, DROP_ORDERS, DROPS = 50_000, 1_000, 200
GROWTH, ENTRY_BYTES = (10**6, 10**7, 10**8), 60
HISTORY_DROPS, HISTORY_ORDERS, HISTORY_DATES = 1_000_000, 10_000_000, 600


def median(values: list[float]) -> float:
    return statistics.median(values)


def changed(source: Path, target: Path, line_of: Callable[[int, bytes], bytes]) -> Path:
    """A folder with the single drop of `source`, each line changed by `line_of`. Created once and then reused."""
    if not target.exists():
        unfinished = fresh_folder(target.with_name(target.name + ".part"))
        (drop,) = source.iterdir()
        with drop.open("rb") as lines, (unfinished / drop.name).open("wb") as sink:
            sink.writelines(line_of(number, line) for number, line in enumerate(lines))
        unfinished.rename(target)
    return target


# ------------------------------------------------------------------------------------------------------- bulk


def dirty(work: Path, runs: int) -> None:
    """1% of the records are odd in five ways, compared with the same drop without them. The order alternates."""
    clean = make_input(Input(), work)
    # Not the first line: a drop that begins with a damaged one is refused whole, as a damaged document.
    spoiled = changed(
        clean, work / "inputs" / "dirty", lambda n, line: ODD[n // 100 % 5](line) if n % 100 == 50 else line
    )
    ratios = []
    drops = {"clean": clean, "dirty": spoiled}
    for number in range(runs):
        names = list(drops)[:: -1 if number % 2 else 1]
        taken = {name: run_strandline(drops[name], work / f"case-{name}").wall_seconds for name in names}
        ratios.append(taken["dirty"] / taken["clean"])
        print(f"  clean {taken['clean']:.2f} s, 1% dirty {taken['dirty']:.2f} s, ratio {ratios[-1]:.2f}", flush=True)
    print(f"dirty: median {median(ratios):.2f} × clean (bar 1.2)")


def as_shopify(_: int, line: bytes) -> bytes:
    """An order with the same content as Shopify writes it; the user is the second of two that are there."""
    names = {b"order_id": b"id", b"amount": b"total_price", b"items": b"line_items", b"qty": b"quantity"}
    for ours, theirs in names.items():
        line = line.replace(b'"%b":' % ours, b'"%b":' % theirs)
    before, _, user = line.partition(b'"user_id":"')
    user, _, after = user.partition(b'"')
    return b'%b"email":"%b@example.org","customer":{"id":"%b","state":"enabled"}%b' % (before, user, user, after)


def mapped(work: Path, runs: int) -> None:
    """The same orders as Shopify writes them, under its preset, against the usual format. The published files are the same."""
    direct = make_input(Input(), work)
    drops = {"direct": direct, "mapped": changed(direct, work / "inputs" / "shopify", as_shopify)}
    settings = {
        "direct": "",
        "mapped": '[sources.default]\npreset = "shopify"\nfields = {metadata = "metadata"}\n',
    }
    size = {name: sum(drop.stat().st_size for drop in folder.iterdir()) for name, folder in drops.items()}
    ratios, cpu = [], []
    for number in range(runs):
        names = list(drops)[:: -1 if number % 2 else 1]
        taken = {name: run_strandline(drops[name], work / f"case-{name}", settings[name]) for name in names}
        if hashes(work / "case-mapped") != hashes(work / "case-direct"):
            raise SystemExit("a mapped drop was read as something else")
        one, other = taken["direct"], taken["mapped"]
        ratios.append(other.wall_seconds / one.wall_seconds)
        cpu.append(other.cpu_seconds / one.cpu_seconds)
        print(
            f"  direct {one.wall_seconds:.2f} s, mapped {other.wall_seconds:.2f} s, ratio {ratios[-1]:.2f}", flush=True
        )
    per_byte = median(ratios) * size["direct"] / size["mapped"]
    print(
        f"mapped: median {median(ratios):.2f} × direct per order (bar 1.1), {per_byte:.2f} × per byte; "
        f"processor time {median(cpu):.2f} ×"
    )


def hashes(home: Path) -> dict[str, str]:
    """The published files by their SHA-256."""
    curated = home / "output" / "curated"
    return {
        str(path.relative_to(curated)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in curated.rglob("*.parquet")
    }


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its inode and modification time, which change when it is rewritten."""
    return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def resend(work: Path, runs: int) -> None:
    """All orders again, spelled differently: no order changes and no file is rewritten."""
    first = make_input(Input(), work)
    again = changed(first, work / "inputs" / "respelled", lambda n, line: line.replace(b'","', b'" , "'))
    ratios = []
    for _ in range(runs):
        home = work / "case-resend"
        one = run_strandline(first, home).wall_seconds
        before = tree(home / "output" / "curated")
        for drop in again.iterdir():
            shutil.copy2(drop, home / "inbox" / f"again-{drop.name}")
        command = [sys.executable, "-m", "daemon", "--once", "--config", str(home / "config.toml")]
        other = measure(command, REPO, home / "log.txt").wall_seconds
        if tree(home / "output" / "curated") != before:
            raise SystemExit("a resend rewrote a file")
        ratios.append(other / one)
        print(f"  first {one:.2f} s, again {other:.2f} s, ratio {ratios[-1]:.2f}, no file rewritten", flush=True)
    print(f"resend: median {median(ratios):.2f} × the first time (bar 0.9)")


def memory(work: Path, runs: int) -> None:
    """A drop of 2 GB with the default memory limit, compared with a limit far above the need."""
    drops = make_input(Input(scale="4"), work)
    size = sum(drop.stat().st_size for drop in drops.iterdir())
    ratios = []
    for _ in range(runs):
        taken: dict[str, Measured] = {}
        for limit in ("1GiB", "64GiB"):
            os.environ["STRANDLINE_ENGINE__MEMORY_LIMIT"] = limit
            taken[limit] = run_strandline(drops, work / "case-memory")
            one = taken[limit]
            print(f"  memory_limit {limit}: {one.wall_seconds:.2f} s, peak {one.peak_megabytes:,.0f} MB", flush=True)
        del os.environ["STRANDLINE_ENGINE__MEMORY_LIMIT"]
        ratios.append(taken["1GiB"].wall_seconds / taken["64GiB"].wall_seconds)
    peak = taken["1GiB"].peak_megabytes
    print(
        f"memory: {size / 1e9:.2f} GB, peak {peak:,.0f} MB (bar 1,524), time {median(ratios):.2f} × unbounded (bar 1.3)"
    )


# -------------------------------------------------------------------------------------------------- one small drop


def order_line(number: int, day: str, amount: int) -> bytes:
    items = [{"sku": f"p_{(number * 7 + i) % 5000}", "qty": 1 + i, "price": 9.25 + i} for i in range(4)]
    order = {
        "order_id": f"o_{number}", "user_id": f"u_{number % 9000}", "amount": amount / 4, "currency": "USD",
        "created_at": f"{day}T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z", "items": items,
        "metadata": {"source": "api", "promo": None},
    }  # fmt: skip
    return json.dumps(order, separators=(",", ":")).encode() + b"\n"


def once(home: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "daemon", "--once", "--config", str(home / "config.toml")], cwd=REPO, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def drop_into(home: Path, name: str, content: bytes, age_seconds: float = 0) -> None:
    path = home / f"{name}.part"
    path.write_bytes(content)
    if age_seconds:
        then = time.time() - age_seconds
        os.utime(path, (then, then))
    path.rename(home / "inbox" / name)


@contextmanager
def watching(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon", "--config", str(home / "config.toml")], cwd=REPO,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def day_home(folder: Path) -> Path:
    """An output with one day of 50,000 orders of four items."""
    home = fresh_folder(folder)
    (home / "inbox").mkdir()
    (home / "config.toml").write_text(CONFIG)
    drop_into(home, "day.ndjson", b"".join(order_line(n, "2026-03-02", n) for n in range(DAY_ORDERS)), 60)
    once(home)
    return home


def published_after(home: Path, number: int) -> float:
    """Milliseconds from the close of a drop with 1,000 corrected orders (other ones each time) to the published file."""
    target = home / "output" / "curated" / "date=2026-03-02" / "fact_order.parquet"
    chosen = [(n * 49 + number * 13) % DAY_ORDERS for n in range(DROP_ORDERS)]
    content = b"".join(order_line(n, "2026-03-02", (number + 1) * 1_000_003 + n) for n in chosen)
    before = target.stat().st_ino
    with open(home / "inbox" / f"drop-{number}.ndjson", "wb") as file:
        file.write(content)
    started = time.perf_counter()
    while target.stat().st_ino == before:
        time.sleep(0.0005)
        if time.perf_counter() - started > 60:
            raise SystemExit("a drop was not published within a minute")
    return (time.perf_counter() - started) * 1e3


def by_hand(home: Path, number: int) -> float:
    """Milliseconds to read both files, replace the lines of 1,000 orders, sort, write and sync, in one process."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    folder = home / "output" / "curated" / "date=2026-03-02"
    new = pq.read_table(folder / "fact_order.parquet", partitioning=None).slice(0, 4 * DROP_ORDERS)
    started = time.perf_counter()
    fact = pq.read_table(folder / "fact_order.parquet", partitioning=None)
    items = pq.read_table(folder / "order_items.parquet", partitioning=None)
    gone = pc.is_in(fact["order_id"], value_set=new["order_id"].combine_chunks())
    merged = pa.concat_tables([fact.filter(pc.invert(gone)), new])
    order = pc.sort_indices(merged, [(n, "ascending") for n in ("created_at", "order_id", "line_number")])
    merged = merged.take(order)
    for name, table in (("fact", merged), ("items", merged.select(items.column_names))):
        path = home / f"by-hand.{name}"
        pq.write_table(table, path, use_dictionary=["currency"], store_schema=False)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    assert np.isfinite(number)
    return (time.perf_counter() - started) * 1e3


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def latency(work: Path, runs: int) -> None:
    """From the close of a drop to the published file, alternating with the same work by hand."""
    home = day_home(work / "case-latency")
    by_hand(home, 0)
    with watching(home):
        time.sleep(3)
        published_after(home, 0)
        ours, hand = [], []
        for number in range(1, DROPS + 1):
            ours.append(published_after(home, number))
            hand.append(by_hand(home, number))
            time.sleep(0.1)
    p50, p99, bare = percentile(ours, 0.5), percentile(ours, 0.99), percentile(hand, 0.5)
    print(f"latency: p50 {p50:.0f} ms, p99 {p99:.0f} ms ({p99 / p50:.1f} × p50, bar 2)")
    slow = percentile(hand, 0.99)  # shows the noise of a shared machine
    print(
        f"         by hand {bare:.0f} ms: p50 is {p50 / bare:.2f} × of that (bar 1.3); its own p99 {slow / bare:.1f} × p50"
    )


def history(work: Path, runs: int) -> None:
    """The same drop with 3,006 more partitions, a million drops and ten million orders in the ledger, compared with an empty
    one."""
    empty, full = day_home(work / "case-empty"), history_home(work / "case-full", work)
    with watching(empty), watching(full):
        time.sleep(25)  # two rescans, after which memory is released
        taken: dict[Path, list[float]] = {empty: [], full: []}
        for number in range(DROPS):
            for home, found in taken.items():
                found.append(published_after(home, number))
            time.sleep(0.1)
    p50, p99 = ({home: percentile(values[3:], share) for home, values in taken.items()} for share in (0.5, 0.99))
    print(f"history: p50 {p50[full]:.0f} ms, without {p50[empty]:.0f} ms: {p50[full] / p50[empty]:.2f} × (bar 1.2)")
    print(f"         p99 {p99[full]:.0f} ms, without {p99[empty]:.0f} ms")


def history_home(folder: Path, work: Path) -> Path:
    """An output with a day of 50,000 orders as in `day_home`, and a long history."""
    full = fresh_folder(folder)
    (full / "inbox").mkdir()
    (full / "config.toml").write_text(CONFIG)
    for drop in make_input(Input("wide"), work).iterdir():
        shutil.copy2(drop, full / "inbox" / drop.name)
    days = [(date(2000, 1, 1) + timedelta(n)).isoformat() for n in range(HISTORY_DATES)]
    drop_into(full, "more-days.ndjson", b"".join(order_line(10**7 + n, day, n) for n, day in enumerate(days)), 120)
    drop_into(full, "zz-day.ndjson", b"".join(order_line(n, "2026-03-02", n) for n in range(DAY_ORDERS)), 60)
    once(full)
    fill(full / "output" / "state" / "ledger.sqlite")
    return full


def fill(path: Path) -> None:
    """Adds a long history to a ledger: drops, and orders of other dates in the index."""
    import numpy as np

    from daemon.core.entries import Commit, Counts, Drop, DropResult
    from daemon.core.model import DropOutcome, ParseContext
    from daemon.storage.ledger import Ledger

    chosen = np.random.default_rng(1)
    ledger = Ledger(path)
    for first in range(0, HISTORY_DROPS, 50_000):
        seqs = range(ledger.last_seq + 1, ledger.last_seq + 50_001)
        context = ParseContext(1_767_000_000_000_000 + first, 86_400_000_000)
        drops = [
            Drop(seq, "a.json", f"raw/{seq:08d}_a.json", hashlib.sha256(b"%d" % seq).digest(), 100, context)
            for seq in seqs
        ]
        ledger.enter(drops)
        run = ledger.write_ahead(entries_of(chosen, HISTORY_ORDERS * 50_000 // HISTORY_DROPS))
        results = [DropResult(drop, DropOutcome.APPLIED, Counts(extracted=10, new=10)) for drop in drops]
        ledger.commit(
            Commit(context.received_at, results, run, [], [], [], {}, ledger.hwm, [], ledger.restatements_bytes)
        )
        ledger.published(ledger.unpublished_batch() or 0)
    while ledger.compact():
        pass
    ledger.close()


def entries_of(chosen: Generator, orders: int) -> np.ndarray:
    """Entries of the order index of so many orders on other dates, sorted."""
    import numpy as np

    from daemon.core.merge import keys
    from daemon.core.model import INDEX_ENTRY

    entries = np.zeros(orders, INDEX_ENTRY)
    entries["hi"], entries["lo"] = chosen.integers(0, 2**64 - 1, (2, len(entries)), dtype=np.uint64)
    entries["date"] = chosen.integers(15_000, 18_000, len(entries))
    return keys.sort(entries)


def growth(work: Path, runs: int) -> None:
    """The same drop after 1, 10 and 100 million orders in the index, or as many as a quarter of the free disk holds."""
    work.mkdir(parents=True, exist_ok=True)
    room = shutil.disk_usage(work).free // 4 // ENTRY_BYTES
    homes = {orders: grown(work / f"case-{orders}", orders) for orders in GROWTH if orders <= room}
    with ExitStack() as stack:
        for home in homes.values():
            stack.enter_context(watching(home))
        time.sleep(25)
        taken: dict[int, list[float]] = {orders: [] for orders in homes}
        for number in range(DROPS):
            for orders, home in homes.items():
                taken[orders].append(published_after(home, number))
            time.sleep(0.1)
    p50 = {orders: percentile(values[3:], 0.5) for orders, values in taken.items()}
    for orders, milliseconds in p50.items():
        ratio = milliseconds / p50[GROWTH[0]]
        print(f"growth: {orders // 10**6:,} million orders: p50 {milliseconds:.0f} ms, {ratio:.2f} × (bar 1.2)")


def grown(folder: Path, orders: int) -> Path:
    """An output with a day of 50,000 orders, and so many more in the index."""
    import numpy as np

    from daemon.storage.ledger import Ledger
    from daemon.storage.order_index import MANY_RUNS

    home, chosen = day_home(folder), np.random.default_rng(2)
    ledger = Ledger(home / "output" / "state" / "ledger.sqlite")
    for _ in range(orders // 10**6):
        run = ledger.write_ahead(entries_of(chosen, 10**6))
        with ledger.transaction():
            ledger.index.adopt(run)
        ledger.compact(MANY_RUNS)
    while ledger.compact():
        pass
    ledger.close()
    return home


# ----------------------------------------------------------------------------------------------------------- idling


def idle(work: Path, runs: int) -> None:
    """A minute without work, after one drop."""
    home = day_home(work / "case-idle")
    with watching(home) as process:
        time.sleep(3)
        published_after(home, 0)
        time.sleep(25)  # two rescans, after which memory is released
        before, seconds = cpu_seconds(process.pid), 60
        sizes = []
        for _ in range(seconds):
            time.sleep(1)
            sizes.append(resident_megabytes(process.pid))
        used = (cpu_seconds(process.pid) - before) / seconds
    print(f"idle: {used:.2%} of a core (bar 0.5%), {min(sizes):.0f} to {max(sizes):.0f} MB (bar 200, flat)")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_megabytes(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


CASES = {one.__name__: one for one in (dirty, mapped, resend, latency, history, growth, memory, idle)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)} (default all)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", type=Path, default=WORK)
    options = parser.parse_args()
    adopt_orphans()
    for name in options.cases or CASES:
        print(f"{name}: {(CASES[name].__doc__ or '').strip()}", flush=True)
        CASES[name](options.work.resolve(), options.runs)
        for folder in options.work.glob("case-*"):
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
