"""The state of an output folder as one value, whether a daemon runs or not: for `status`, the status page and its JSON.

Reads the committed state of the ledger and lists the inbox and the quarantine. Changes nothing and needs no lock.
"""

from __future__ import annotations

import json
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.drift import KnownKey
from ..core.entries import REASON, DropResult
from ..core.errors import escaped
from ..core.mapping import DEFAULT_SOURCE
from ..core.model import LAST_INSTANT, DropOutcome, amount_text
from ..sources.names import is_ignored, is_no_drop, is_unfinished
from ..sources.source_folder import SourceFolder
from ..sources.strays import strays
from ..storage.ledger import Ledger
from ..storage.lock import holder_of
from ..storage.pause import Pause, paused
from ..storage.raw import quarantined
from ..storage.receipts import as_dict, instant_text, local_text
from ..storage.store import iso_date
from . import waiting as drops_waiting
from .discarded import with_first_discards
from .downstreams import attention
from .pull import pull_rows, pulls
from .wording import counted, named, of_unknown

_LAST_DROPS = 10
_SHOWN_PARTITIONS = 31
_SHOWN_QUARANTINED = 20
_SHOWN_BARE = 5
_SHOWN_FOLDERS = 5
_SEARCHED_DROPS = 1_000
_SHOWN_KEYS = 20
_WIDEST = 48  # characters of a column
_HOUR = 3_600_000_000
_DAY = 24 * _HOUR


def gather(
    ledger: Ledger | None,
    places: Sequence[SourceFolder],
    output: Path,
    now: int,
    ignored: Sequence[str] = (),
    downstreams: Sequence[Mapping[str, Any]] = (),
    every: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The whole state as JSON. `ledger` is None before the first run. `places`: the folder of each source, the
    inbox itself first. `now` in microseconds. `ignored`: patterns of names in the
    inbox that are not drops. `downstreams`: see downstreams.gather. `every`: of each source with an API, the seconds between two
    rounds."""
    hwm = ledger.hwm if ledger else None
    totals = ledger.totals() if ledger else Counter()
    waiting = {place.source: _waiting(place, ignored) for place in places}
    partitions = list(ledger.partitions().values()) if ledger else []
    return {
        "output": str(output),
        "running": holder_of(output / "state" / "lock"),
        "paused": asdict(pause) if (pause := paused(output)) else None,
        "set_aside": [
            {"name": one.name, "since": instant_text(one.since), "reason": one.reason}
            for one in (ledger.set_aside().values() if ledger else ())
        ],
        "high_water_mark": None if hwm is None else instant_text(hwm),
        "high_water_mark_lag_seconds": None if hwm is None else (now - hwm) / 1e6,
        "inbox": {"path": str(places[0].inbox)}
        | _shown_waiting(*waiting.values())
        | {"strays": strays(places, ignored)},
        "sources": _sources(
            places, waiting, ledger.totals_by_source() if ledger else Counter(), ledger.record_keys() if ledger else [],
            pulls(every or {}, ledger.pull_states() if ledger else {}),
        ),
        "archived_not_applied": len(ledger.uncommitted()) if ledger else 0,
        "waiting": drops_waiting.waiting(ledger, output),
        "overdue": drops_waiting.overdue(ledger, (at for one in waiting.values() for at, _ in one.drops), now),
        "quarantine": _quarantine(output / "quarantine"),
        "drops": _part(totals, "drops"),
        "withdrawn": ledger.drop_count(DropOutcome.WITHDRAWN) if ledger else 0,
        "orders": _part(totals, "orders"),
        "dimensions": {
            name: {"rows": file.rows, "bytes": file.bytes} | _part(totals, name)
            for name, file in (ledger.dimensions() if ledger else {}).items()
        },
        "last_drops": [with_first_discards(result, output) for result in (ledger.last_results(_LAST_DROPS) if ledger else [])],
        "bare_drops": [_bare_drop(one) for one in (ledger.last_bare(_SHOWN_BARE, _SEARCHED_DROPS) if ledger else [])],
        "drops_by_hour": _by_hour(ledger.drops_by_hour(now - _DAY) if ledger else {}, now),
        "downstreams": list(downstreams),
        "partitions": [
            {
                "date": iso_date(one.date), "orders": one.orders, "lines": one.lines, "amount": amount_text(one.amount),
                "bytes": one.bytes, "restatements": one.restatements,
            } for one in partitions
        ],
    }  # fmt: skip


def _bare_drop(result: DropResult) -> dict[str, Any]:
    """A drop with bare orders, and the keys of the first one that nothing reads."""
    receipt = as_dict(result)
    return {key: receipt[key] for key in ("drop", "name", "source")} | receipt["without_amount_and_price"]


def _by_hour(counts: dict[int, dict[str, int]], now: int) -> list[dict[str, Any]]:
    """The last 24 hours, the current one last."""
    last = now // _HOUR * _HOUR
    hours = range(last - 23 * _HOUR, last + 1, _HOUR)
    return [
        {"hour": instant_text(hour)} | {str(kind): counts.get(hour, {}).get(kind, 0) for kind in DropOutcome}
        for hour in hours
    ]


def _part(totals: Counter[str], prefix: str) -> dict[str, Any]:
    """The sums under one prefix: `orders.new` becomes `new`, and `orders.discarded.missing_key` becomes a key of `discarded`."""
    found: dict[str, Any] = {}
    for name, value in sorted(totals.items()):
        kind, _, rest = name.partition(".")
        group, _, key = rest.partition(".")
        if kind == prefix and key:
            found.setdefault(group, {})[key] = value
        elif kind == prefix:
            found[group] = value
    return found


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What is in the folder of a source: (mtime in microseconds, size in bytes) of each drop; and files that are unfinished by
    their names. `error`: why it cannot be read."""

    drops: Sequence[tuple[int, int]]
    unfinished: int
    error: str = ""


def _waiting(place: SourceFolder, ignored: Sequence[str]) -> _Waiting:
    drops, unfinished = [], 0
    try:
        for name, found in place.open().entries():
            if is_ignored(name, ignored) or isinstance(found, OSError) or not stat.S_ISREG(found.st_mode):
                continue
            unfinished += is_unfinished(name)
            if not is_no_drop(name):
                drops.append((found.st_mtime_ns // 1000, found.st_size))
    except OSError as error:
        return _Waiting([], 0, f"{error.strerror}: {place.path}")
    return _Waiting(drops, unfinished)


def _shown_waiting(*found: _Waiting) -> dict[str, Any]:
    """The drops in some folders together."""
    if error := "; ".join(one.error for one in found if one.error):
        return {"error": error}
    drops = [drop for one in found for drop in one.drops]
    oldest = min((changed_at for changed_at, _ in drops), default=None)
    return {
        "pending": len(drops),
        "bytes": sum(size for _, size in drops),
        "oldest": None if oldest is None else instant_text(min(max(oldest, 0), LAST_INSTANT)),  # it may be any year
        "unfinished": sum(one.unfinished for one in found),
    }


def _sources(
    places: Sequence[SourceFolder],
    waiting: Mapping[str, _Waiting],
    totals: Mapping[tuple[str, str], int],
    keys: Sequence[KnownKey],
    pulled: Mapping[str, Any],
) -> dict[str, Any]:
    """Each configured source, and each that the ledger has drops of: its folder (None: not configured any more), what waits
    there, the sums over its drops, the keys of its records that nothing reads or that are missing, the state of its pull."""
    folders = {place.source: str(place.path) for place in places}
    names = [*folders, *sorted({source for source, _ in totals} - folders.keys())]
    found: dict[str, Any] = {}
    for name in names:
        own = Counter({key: value for (source, key), value in totals.items() if source == name})
        there = {"folder": folders.get(name)} | (_shown_waiting(waiting[name]) if name in waiting else {})
        found[name] = there | {"drops": _part(own, "drops"), "orders": _part(own, "orders")}
        of_source = [one for one in keys if one.source == name]
        found[name] |= {
            "pull": pulled.get(name),
            "unread_keys": {one.key: one.first_drop for one in of_source if not one.is_read},
            "missing_keys": {one.key: one.missing_since for one in of_source if one.missing_since is not None},
        }
    return found


def _quarantine(folder: Path) -> dict[str, Any]:
    """The number of drops in quarantine, and the reasons of the newest."""
    found = quarantined(folder)
    newest = [reason_of(folder, file) | {"file": file} for file in found[: -_SHOWN_QUARANTINED - 1 : -1]]
    return {"drops": len(found), "newest": newest}


def reason_of(folder: Path, file: str) -> dict[str, Any]:
    """The reason file of a drop in quarantine. It appears shortly after the drop, and somebody may have changed it."""
    try:
        content = json.loads((folder / (file + REASON)).read_bytes())
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        return {"name": file, "reason": "(no readable reason file)"}
    source = _text(content.get("source", DEFAULT_SOURCE))
    return content | {
        "name": _text(content.get("name", file)),
        "source": source,
        "reason": _text(content.get("reason", "")),
    }


def _text(value: object) -> str:
    return str(value).encode(errors="replace").decode()


# -------------------------------------------------------------------------------------------------------------- as text


def table(status: dict[str, Any]) -> str:
    """The state for a terminal."""
    running, inbox, quarantine = status["running"], status["inbox"], status["quarantine"]
    orders = status["orders"]
    lines = [
        f"Output            {status['output']}",
        f"Running           {_running(running)}",
        *([f"Paused            {_paused(status['paused'])}"] if status["paused"] else []),
        f"High-water mark   {local_text(status['high_water_mark'], '(none yet)')}",
        f"Inbox             {inbox.get('error') or _pending(inbox)}",
        *([f"Not taken         {strays_text(inbox['strays'])}"] if inbox["strays"] else []),
        f"Archived, waiting {status['archived_not_applied']}",
        "",
        "Drops             " + _numbers(status["drops"], ("applied", "duplicate", "quarantined")),
        *([f"Withdrawn         {status['withdrawn']:,} of them"] if status["withdrawn"] else []),
        "Orders            "
        + _numbers(
            orders, ("extracted", "new", "corrected", "deleted", "unchanged", "superseded", "before_since", "late")
        ),
    ]
    lines += [f"{name.capitalize():17} {one['rows']:,} rows" for name, one in status["dimensions"].items()]
    if orders.get("bare"):
        lines.append(f"No amount, price  {orders['bare']:,} orders")
    for name, number in orders.get("unknown", {}).items():
        lines.append(f"Unknown {name:9} {of_unknown(name, number)}")
    lines += _section(
        'Discards by reason: `strandline sql "FROM discards"` shows each',
        [(k, f"{v:,}") for k, v in summed(status, "discarded").items()],
    )
    lines += _section("Field faults", [(k, f"{v:,}") for k, v in summed(status, "faults").items()])
    lines += _section(
        f"In quarantine ({quarantine['drops']:,}): correct the cause, then `strandline retry`; or `strandline discard NAME`",
        [(one["file"], one["reason"]) for one in quarantine["newest"]],
    )
    lines += _section("Archived and not applied", drops_waiting.rows(status))
    lines += _section(
        "Set aside: damaged, and cannot be made anew", [(one["name"], one["reason"]) for one in status["set_aside"]]
    )
    lines += _section(
        "Models, checks and destinations that need attention",
        [
            (one["kind"], one["name"], text)
            for one in status["downstreams"]
            if (text := attention(one, status["output"]))
        ],
    )
    lines += _section("Pulls", pull_rows(status["sources"]))
    if status["sources"].keys() != {DEFAULT_SOURCE}:
        lines += _section("Sources", [_source_row(name, one) for name, one in status["sources"].items()])
    lines += _section(
        "Orders with neither an amount nor a price, and the keys of the first one that nothing reads",
        [
            (
                str(one["drop"]),
                _named(one),
                f"{one['orders']:,} order{'' if one['orders'] == 1 else 's'}: {', '.join(one['other_keys']) or 'none'}",
            )
            for one in status["bare_drops"]
        ],
    )
    for title, group in (
        ("Keys that nothing reads (first in drop)", "unread_keys"), ("Keys that are missing (since drop)", "missing_keys"),
    ):  # fmt: skip
        lines += _section(
            title, [(name, keys_text(one[group])) for name, one in status["sources"].items() if one[group]]
        )
    lines += _section("Last drops", [drop_row(one) for one in status["last_drops"]])
    lines += _partitions(status["partitions"])
    lines += ["", last_line(status)]
    return "\n".join(map(escaped, lines))


def last_line(status: Mapping[str, Any]) -> str:
    """The last line: what needs attention, and what to do next."""
    needs = {
        f"{counted(number, what)} {which}": number
        for number, what, which in (
            (len(status["set_aside"]), "part", "set aside"),
            *drops_waiting.needs(status),
            (status["quarantine"]["drops"], "drop", "in quarantine"),
            (
                sum(bool(attention(one, status["output"])) for one in status["downstreams"]),
                "downstream",
                "not as it should be",
            ),
            (sum(bool((one["pull"] or {}).get("error")) for one in status["sources"].values()), "API", "not read"),
            (sum(status["inbox"].get("strays", {}).values()), "file", "that no source takes"),
        )
    }
    found = [text for text, number in needs.items() if number]
    if status["paused"]:
        found.append("paused")
    if found:
        return f"Needs attention: {', '.join(found)}; see above. `strandline history` lists all drops"
    return (
        "Nothing needs attention. "
        + ("`strandline sql` answers queries" if status["partitions"] else "Put a file with orders into the inbox")
        + ("" if status["running"] else "; `strandline` watches the inbox, `strandline --once` applies what is there")
    )


def keys_text(keys: Mapping[str, int]) -> str:
    """The newest keys, each with its drop."""
    newest = sorted(keys.items(), key=lambda item: -item[1])
    rest = len(newest) - _SHOWN_KEYS
    return ", ".join(f"{key} ({drop})" for key, drop in newest[:_SHOWN_KEYS]) + (
        f" and {rest:,} more" if rest > 0 else ""
    )


def strays_text(found: Mapping[str, int]) -> str:
    """How many files no source takes, and where they are."""
    files, shown = sum(found.values()), list(found)[:_SHOWN_FOLDERS]
    rest = f" and {len(found) - len(shown):,} more" if len(found) > len(shown) else ""
    count = f"{files:,} file{'' if files == 1 else 's'}"
    return f"{count} in folders that no [sources] section names: {', '.join(shown)}{rest}"


def _running(holder: dict[str, Any] | None) -> str:
    if holder is None:
        return "no"
    shown = holder | ({"since": local_text(holder["since"])} if "since" in holder else {})
    return ", ".join(f"{key} {value}" for key, value in shown.items()) or "yes"


def _paused(pause: dict[str, str]) -> str:
    return str(Pause(**pause)).removeprefix("paused ") + "; drops are taken after `strandline resume`"


def _pending(inbox: dict[str, Any]) -> str:
    unfinished = f"; {inbox['unfinished']:,} unfinished by name" if inbox["unfinished"] else ""
    if not inbox["pending"]:
        return f"empty{unfinished}"
    return (
        f"{inbox['pending']:,} drops, {inbox['bytes']:,} bytes, the oldest of {local_text(inbox['oldest'])}{unfinished}"
    )


def _numbers(values: dict[str, Any], names: tuple[str, ...] = ()) -> str:
    return ", ".join(f"{values.get(name, 0):,} {name}" for name in names or values) or "none"


def summed(status: dict[str, Any], group: str) -> dict[str, int]:
    """`discarded` by reason or `faults` by field, of orders and of rows together."""
    found: Counter[str] = Counter(status["orders"].get(group, {}))
    for one in status["dimensions"].values():
        found += Counter(one.get(group, {}))
    return dict(sorted(found.items()))


def drop_row(receipt: dict[str, Any]) -> tuple[str, ...]:
    """A drop for a person: its number, name, outcome, and what became of its records."""
    kept = {k: v for k, v in receipt["records"].items() if isinstance(v, int) and v and k != "extracted"}
    discarded = sum(receipt["records"]["discarded"].values())
    faults, bare = sum(receipt["field_faults"].values()), receipt["without_amount_and_price"]
    more = {"discarded": discarded, named(faults, "field fault"): faults, "without amount and price": bare["orders"]}
    detail = receipt["reason"] or _numbers(kept | {name: number for name, number in more.items() if number})
    if bare["orders"]:
        detail += f" (keys that nothing reads: {', '.join(bare['other_keys']) or 'none'})"
    return str(receipt["drop"]), _named(receipt), str(receipt["outcome"]), detail


def _named(receipt: dict[str, Any]) -> str:
    """The name of a drop, with its source where that is not the default one."""
    return receipt["name"] if receipt["source"] == DEFAULT_SOURCE else f"{receipt['source']}: {receipt['name']}"


def _source_row(name: str, source: dict[str, Any]) -> tuple[str, ...]:
    waiting = "not configured" if source["folder"] is None else source.get("error") or _pending(source)
    drops, orders = source["drops"], source["orders"]
    discarded = sum(orders.get("discarded", {}).values())
    return (
        name, waiting, _numbers(drops, ("applied", "duplicate", "quarantined")),
        f"{orders.get('new', 0):,} orders new, {discarded:,} records discarded",
    )  # fmt: skip


def _partitions(partitions: list[dict[str, Any]]) -> list[str]:
    if not partitions:
        return []
    shown = partitions[-_SHOWN_PARTITIONS:]
    title = f"Partitions ({len(partitions):,}" + (f", the last {len(shown)})" if len(shown) < len(partitions) else ")")
    header = ("date", "orders", "lines", "amount", "bytes", "restated")
    rows = [
        (p["date"], f"{p['orders']:,}", f"{p['lines']:,}", p["amount"], f"{p['bytes']:,}", f"{p['restatements']:,}")
        for p in shown
    ]
    return _section(title, [header, *rows], right=True)


def _section(title: str, rows: list[tuple[str, ...]], *, right: bool = False) -> list[str]:
    """A title and aligned rows; empty without rows. A very long cell moves only what follows it in its own row. `right`: aligns
    all columns but the first to the right."""
    if not rows:
        return []
    widths = [min(_WIDEST, max(len(row[column]) for row in rows)) for column in range(len(rows[0]))]

    def line(row: tuple[str, ...]) -> str:
        cells = [
            cell.rjust(width) if right and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return ("  " + "  ".join(cells)).rstrip()

    return ["", title, *map(line, rows)]
