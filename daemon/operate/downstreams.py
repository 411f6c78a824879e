"""What follows, as one value, whether a daemon runs or not: for `downstream`, `status`, and the page."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import UsageError, instead_of
from ..downstream.contract import WHOLE, Table, stale
from ..downstream.definitions import CHECK, MODEL, Definition, missing_folder, read_folder
from ..downstream.destinations.contents import wanted_of
from ..downstream.destinations.settings import Destination, Destinations
from ..downstream.inputs import published
from ..downstream.records import Records, State, telling_damage
from ..downstream.results import MODELS, forget, has_of, path_of, table_of, wanted
from ..downstream.settings import RECORDS
from ..storage.ledger import Ledger
from ..storage.receipts import instant_text, local_text
from ..storage.store import iso_date

_SHOWN_STALE = 5


def gather(
    ledger: Ledger | None, output: Path, models: Path, checks: Path, destinations: Destinations = ()
) -> list[dict[str, Any]]:
    """Each model, check and destination as JSON, by kind and name. Stale dates are those of now, so they are right without a
    daemon, too; of a destination, what it had when it was last asked counts. `results`: where its rows are, below the output
    folder, or which destination it is. `waits_for`: models that fail or wait, which it reads."""
    present = {
        (kind, path.stem): found
        for kind, folder in ((MODEL, models), (CHECK, checks))
        for path, found in read_folder(folder, kind)
    }
    path = output / RECORDS
    if not path.exists():
        new = [_not_run(kind, name, found) for (kind, name), found in sorted(present.items())]
        return _with_waiting([*new, *(_destination(None, None, one, {}) for one in destinations)])
    with telling_damage(path), closing(Records(path, read_only=True)) as records:
        states = {(state.kind, state.name): state for state in records.states()}
        tables = dict(published(ledger)) if ledger else {}
        for state in states.values():
            if state.kind == MODEL:
                tables[state.name] = table_of(records, state.kind, state.name)
        sent = [_destination(records, states.pop((one.kind, one.name), None), one, tables) for one in destinations]
        found = [
            _shown(
                records, state, tables, present.get(where),
                missing_folder(state.kind, models, checks) or "its file is gone; the next round removes its results",
            )
            for where, state in states.items() if state.kind in (MODEL, CHECK)
        ]  # fmt: skip
    new = [_not_run(kind, name, one) for (kind, name), one in present.items() if (kind, name) not in states]
    return _with_waiting([*sorted([*found, *new], key=lambda one: (one["kind"], one["name"])), *sent])


def _with_waiting(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same, with what each of them waits for, over any number of steps."""
    behind = {one["name"] for one in found if one["error"]}
    ours = [one for one in found if one["kind"] in (MODEL, CHECK)]
    while waiting := {one["name"] for one in ours if behind.intersection(one["reads"])} - behind:
        behind |= waiting
    waits = [one["name"] for one in ours if not one["error"]]  # a destination takes the results that there are
    return [
        one | {"waits_for": sorted(behind.intersection(one["reads"])) if one["name"] in waits else []} for one in found
    ]


def _shown(
    records: Records, state: State, tables: Mapping[str, Table], present: Definition | UsageError | None, gone: str
) -> dict[str, Any]:
    definition = state.definition
    reads = definition.get("reads", [])
    behind: list[int] = []
    error = state.error
    if isinstance(present, UsageError):
        error, behind = str(present), [WHOLE]
    elif present is None:
        error = gone
    elif "base" in definition:
        now = replace(present, reads=tuple(reads), whole=present.whole or definition["whole"])
        base, lookback, whole = now.base, now.lookback, now.whole
        known = {name: tables.get(name, {}) for name in reads}
        behind = sorted(
            stale(
                wanted(base, reads, known, lookback, whole=whole), has_of(records, state.kind, state.name, whole=whole)
            )
        )
    elif "error" in definition:  # SQL that was refused
        behind = [WHOLE]
    files = records.files(state.kind, state.name)
    return {
        "kind": state.kind,
        "name": state.name,
        "file": definition.get("file"),
        "reads": reads,
        "lookback": definition.get("lookback", 0),
        "whole": definition.get("whole", False),
        "severity": definition.get("severity") if state.kind == CHECK else None,
        "stale": len(behind),
        "stale_dates": ["all" if date == WHOLE else iso_date(date) for date in behind[:_SHOWN_STALE]],
        "results": _results(state.kind, state.name),
        "files": len(files),
        "rows": sum(file.rows for file in files.values()),
        "bytes": sum(file.bytes for file in files.values()),
        "last_success": None if state.succeeded_at is None else instant_text(state.succeeded_at),
        "seconds": state.seconds,
        "failures": state.failures,
        "error": error,
    }


def _destination(
    records: Records | None, state: State | None, one: Destination, tables: Mapping[str, Table]
) -> dict[str, Any]:
    """A destination. Before its first round nothing is known of what it has."""
    has = records.has(one.kind, one.name) if records else {}
    behind = sorted(stale(wanted_of(one, tables), has))
    return {
        "kind": one.kind, "name": one.name, "file": None, "reads": list(getattr(one, "tables", ())), "lookback": 0,
        "whole": False, "severity": None, "stale": len(behind) if state else max(1, len(behind)),
        "stale_dates": ["all"] if state is None else [_date_text(date) for date in behind[:_SHOWN_STALE]],
        "results": one.place, "files": 0, "rows": 0, "bytes": 0,
        "last_success": instant_text(state.succeeded_at) if state and state.succeeded_at is not None else None,
        "seconds": state.seconds if state else None, "failures": state.failures if state else 0,
        "error": state.error if state else None,
    }  # fmt: skip


def _date_text(date: int) -> str:
    return "dimensions" if date == WHOLE else iso_date(date)


def _results(kind: str, name: str) -> str:
    """The path of its file, or a pattern for the paths of its files."""
    return path_of(kind, name, WHOLE) if kind == CHECK else f"{MODELS}/{name}/date=*/{name}.parquet"


def _not_run(kind: str, name: str, found: Definition | UsageError) -> dict[str, Any]:
    """A file that no run has read yet."""
    file = found.path.name if isinstance(found, Definition) else None
    error = None if isinstance(found, Definition) else str(found)
    return {
        "kind": kind, "name": name, "file": file, "reads": [], "lookback": 0, "whole": False,
        "severity": found.severity if kind == CHECK and isinstance(found, Definition) else None, "stale": 1,
        "stale_dates": ["all"], "results": _results(kind, name), "files": 0, "rows": 0, "bytes": 0,
        "last_success": None, "seconds": None, "failures": 0, "error": error,
    }  # fmt: skip


def refresh(output: Path, name: str, dates: Collection[int] | None, there: Collection[str] = ()) -> str:
    """Forgets what a model or a check has, so that the next round makes it again; returns its kind. Raises UsageError. `there`:
    the names of files and settings, some of which may not have run yet."""
    path = output / RECORDS
    names: list[str] = []
    if path.exists():
        with closing(Records(path)) as records:
            names = [state.name for state in records.states()]
            for state in records.states():
                if state.name == name:
                    is_whole = bool(state.definition.get("whole"))
                    has = {*records.files(state.kind, name), *records.has(state.kind, name)}
                    if dates and not is_whole and (others := sorted(set(dates) - has)):
                        raise UsageError(
                            f"{name} has no results of {', '.join(map(iso_date, others))}; nothing was changed"
                        )
                    forget(records, state.kind, name, dates, whole=is_whole)
                    return state.kind
    if name in there:
        raise UsageError(f"{name} has not run yet, so there is nothing to make again; the next round makes it")
    names = sorted({*names, *there})
    known = instead_of(name, names, "known are") if names else "there are none: see `strandline docs MODELS`"
    raise UsageError(f"there is no model, check or destination {name}; {known}")


def table(found: Collection[Mapping[str, Any]]) -> str:
    """The downstreams for a terminal."""
    if not found:
        return (
            "No models, checks or destinations. A file models/NAME.sql is a model: see `strandline docs MODELS`, "
            "`strandline docs DESTINATIONS`"
        )
    rows = [("KIND", "NAME", "READS", "UP TO DATE", "ROWS", "LAST SUCCESS", "SECONDS")]
    for one in found:
        seconds = "" if one["seconds"] is None else f"{one['seconds']:.2f}"
        is_sent = one["kind"] not in (MODEL, CHECK)
        reads = ", ".join(one["reads"] or (["all"] if is_sent else []))
        reads += f" ({one['lookback']} days back)" if one["lookback"] else ""
        rows.append(
            (
                one["kind"],
                one["name"],
                reads,
                state_text(one),
                "" if is_sent else f"{one['rows']:,}",
                local_text(one["last_success"], "never"),
                seconds,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    errors = [f"{one['name']}: {one['error']}" for one in found if one["error"]]
    rows_found = [f"{one['name']}: {found_text(one, 'output')}" for one in found if found_text(one, "")]
    behind = [one["name"] for one in found if one["error"] or one["stale"] or one["waits_for"]]
    step = (
        "the daemon brings them up to date, or `strandline --once`"
        if behind
        else "`strandline refresh NAME` makes one again"
    )
    closing = f"{', '.join(behind)}: not up to date; {step}" if behind else f"All are up to date; {step}"
    return "\n".join([*lines, *([""] if errors or rows_found else []), *errors, *rows_found, "", closing])


def found_text(one: Mapping[str, Any], output: str) -> str:
    """How many rows a check found, where they are, and how to see them; empty where it found none, and for a model."""
    if one["kind"] != CHECK or not one["rows"]:
        return ""
    found = f"{one['rows']:,} row{'' if one['rows'] == 1 else 's'} found"
    return f"{found}: see {output}/{one['results']}, or run: strandline sql 'FROM {one['name']}'"


def attention(one: Mapping[str, Any], output: str) -> str:
    """Why somebody should look at it; empty where nobody needs to."""
    trouble = one["error"] or (state_text(one) if one["stale"] or one["waits_for"] else "")
    return "; ".join(text for text in (trouble, found_text(one, output)) if text)


def state_text(one: Mapping[str, Any]) -> str:
    """In a word or two: whether it is up to date."""
    if one["error"]:
        return "failing" if one["failures"] else "no"
    if one["waits_for"]:
        return f"waits for {', '.join(one['waits_for'])}"
    if not one["stale"]:
        return "yes"
    if one["last_success"] is None:
        return "not run yet"
    return "stale" if one["whole"] else f"{one['stale']:,} stale"
