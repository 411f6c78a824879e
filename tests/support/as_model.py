"""Compares the daemon's results for drops with those of the model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np

from daemon.batch.engine import Engine
from daemon.batch.outcome import BatchOutcome
from daemon.core.columns import EXTRA
from daemon.core.mapping import DIRECT, FieldMapping
from daemon.core.model import INDEX_ENTRY, ParseContext, Parsed
from daemon.core.parse.discards import each
from daemon.core.parse.parse import Piece, parse
from daemon.core.parse.values import order_key
from daemon.storage.store import iso_date
from tests import model
from tests.model import DropOutcome, Model
from tests.strategies import RECEIVED_AT_US
from tests.support.harness import dates, rows

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CONTEXT = ParseContext(RECEIVED_AT_US, 86_400_000_000)


def orders_of(parsed: Parsed) -> list[dict]:
    return sorted(parsed.orders.to_pylist(), key=lambda row: (row["drop"], row["position"]))


def expected_row(position: int, order: model.Order) -> dict:
    def unscaled(value: Decimal | None) -> int | None:
        return None if value is None else int(value * 10_000)

    return {
        "position": position,
        "order_id": order.order_id,
        "created_at": order.created_at,
        "updated_at": order.updated_at,
        "user_id": order.user_id,
        "amount": unscaled(order.amount),
        "currency": order.currency,
        "metadata": order.metadata,
        "items": [{"sku": i.sku, "qty": unscaled(i.qty), "price": unscaled(i.price)} for i in order.items],
        **{EXTRA + name: value for name, value in order.extra},
    }


def found_row(row: dict) -> dict:
    """A row of ORDERS as the model has it: of extra columns those with a value, instants in microseconds."""
    row = {key: value for key, value in row.items() if not (key.startswith(EXTRA) and value is None)}
    row |= {key: (v - EPOCH) // timedelta(microseconds=1) for key, v in row.items() if isinstance(v, datetime)}
    return {key: value for key, value in row.items() if key not in ("key", "content", "drop")}


def as_model_mapping(mapping: FieldMapping) -> model.Mapping:
    return model.Mapping(**{one.name: getattr(mapping, one.name) for one in fields(model.Mapping)})


def assert_as_model(
    data: bytes, *, reference_only: bool, records_path: str = "", mapping: FieldMapping = DIRECT
) -> None:
    context = replace(CONTEXT, records_path=records_path, mapping=mapping)
    parsed = parse([Piece(1, data, context)], reference_only=reference_only)
    try:
        orders, discards, faults = model.read_drop(
            data, received_at_us=RECEIVED_AT_US, records_path=records_path, mapping=as_model_mapping(mapping)
        )
    except model.Unreadable as reason:
        assert 1 in parsed.unreadable, f"the model says: {reason}"
        return
    assert not parsed.unreadable, parsed.unreadable
    found = [found_row(row) for row in orders_of(parsed)]
    assert found == [expected_row(position, order) for position, order in orders]
    assert [(d.position, str(d.reason)) for d in each(parsed.discards)] == [(d.position, d.reason) for d in discards]
    tally = parsed.tallies[1]
    assert tally.extracted == len(orders) + len(discards)
    assert dict(tally.faults) == {k: v for k, v in faults.items() if v}


def assert_counts(outcome: BatchOutcome, expected: Sequence[DropOutcome]) -> None:
    for result, want in zip(outcome.results, expected, strict=True):
        got = result.counts
        assert (result.drop.seq, str(result.outcome)) == (want.seq, want.outcome)
        for name in ("extracted", "before_since", "superseded", "unchanged", "new", "corrected", "late"):
            assert getattr(got, name) == getattr(want, name), (name, got, want)
        assert +got.discarded == +want.discarded
        assert +got.faults == +want.field_faults
        kept = got.superseded + got.unchanged + got.new + got.corrected
        assert got.extracted == got.discarded.total() + got.before_since + kept


def assert_restatements(output: Path, model: Model) -> None:
    path = output / "restatements.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    assert [(r["date"], r["orders_before"], r["orders_after"]) for r in found] == [
        tuple(r[:3]) for r in model.restatements
    ]
    for line, (*_, before, after) in zip(found, model.restatements, strict=True):
        assert (Decimal(line["amount_before"]), Decimal(line["amount_after"])) == (before or 0, after or 0)


def assert_restated(engine: Engine, model: Model) -> None:
    """The ledger counts the same restatements as the model."""
    told = Counter(one.date for one in model.restatements)
    counted = {iso_date(day): number for day, number in engine.ledger.restatements().items()}
    assert counted == {date: told[date] for date in counted} and +told == +Counter(counted)
    assert {iso_date(day) for day in engine.ledger.partitions()} == set(model.dates())


def assert_published(engine: Engine, output: Path, model: Model) -> None:
    assert dates(output) == model.dates()
    for date in model.dates():
        assert [r | {"date": str(r["date"])} for r in rows(output, date)] == [
            r | {"date": str(r["date"])} for r in model.fact_rows(date)
        ]
        assert [r | {"date": str(r["date"])} for r in rows(output, date, "order_items")] == [
            r | {"date": str(r["date"])} for r in model.item_rows(date)
        ]
    homes = dict(
        sorted(model.index().items(), key=lambda home: tuple(np.frombuffer(order_key(home[0].encode()), "<u8")))
    )
    wanted = np.zeros(len(homes), INDEX_ENTRY)
    for i, order_id in enumerate(homes):
        wanted[i]["hi"], wanted[i]["lo"] = np.frombuffer(order_key(order_id.encode()), "<u8")
    entries, found = engine.ledger.index.find(wanted)
    assert found.all()
    for entry, (date, version) in zip(entries, homes.values(), strict=True):
        assert str(np.datetime64(int(entry["date"]), "D")) == date
        assert (entry["instant"], entry["drop"], entry["position"]) == tuple(version)
