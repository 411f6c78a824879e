"""Users and products: against a plain model of cells and rows, through the whole way of a batch, and on bad files."""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.batch.pipeline import BatchOutcome
from daemon.batch.repair import dimension_from_raw
from daemon.core.errors import Unreadable
from daemon.core.model import DIMENSIONS, DropOutcome, ParseContext
from daemon.core.parse.csv import read, upsert
from daemon.core.parse.discards import each
from daemon.storage import raw
from tests import model
from tests.harness import apply_batch, engine, tree
from tests.strategies import RECEIVED_AT_US

CONTEXT = ParseContext(RECEIVED_AT_US, 86_400_000_000)
LATEST_US = RECEIVED_AT_US + 86_400_000_000
SLOW = settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
COLUMNS = {"user": ["user_id", "email", "created_at", "country"], "product": ["sku", "name", "category", "price"]}
Rows = dict[str, tuple[object, ...]]

TEXTS = [
    "",
    " ",
    "a",
    "b",
    " a ",
    "NA",
    "null",
    "é",
    "x\ny",
    'say "hi"',
    "1",
    "01",
    "-0",
    "1.50",
    "k" * 256,
    "k" * 257,
    "a,b",
    '="00123"',
    '="say ""hi"""',
    "1.23457E+12",
    "1E+05",
    "1,5E+10",
    "1.5E+123",
]
INSTANTS = ["", "2026-01-01", "2026-01-01T10:00:00+01:00", " 2026-01-01 10:00 ", "1700000000", "1700000000123", "2999-01-01",
            "20250820", "45889.64", "0",
            "2026-02-30", "x", "1e9", "-5", "2026-01-01T10:00:00.1234567Z"]  # fmt: skip
NUMBERS = [
    "",
    "1",
    "1.005",
    "1.00005",
    "-2.5",
    "1e3",
    "1_000",
    "0x1",
    "1,5",
    "NaN",
    "99999999999999.9999",
    "1e14",
    " 3 ",
    ".5",
]
CELLS = {"created_at": INSTANTS, "price": NUMBERS}


@st.composite
def csv_drops(draw: st.DrawFn, name: str) -> bytes:
    """A CSV drop of a dimension: columns in any order, extra ones, some missing; rows of any length."""
    key, *others = COLUMNS[name]
    header = draw(st.permutations([key, *draw(st.lists(st.sampled_from(others), unique=True)), *draw(
        st.lists(st.sampled_from(["extra", "note"]), unique=True))]))  # fmt: skip
    keys = ["a", "b", "c", *TEXTS] if draw(st.booleans()) else ["a", "b", "c"]
    cells = [st.sampled_from(keys if column == key else CELLS.get(column, TEXTS)) for column in header]
    rows = draw(st.lists(st.tuples(*cells).map(list), max_size=6))
    ends = [draw(st.sampled_from(["", "", "", "longer", "shorter", "empty cells"])) for _ in rows]
    rows = [
        row[: len(row) - (end == "shorter")] + ["more"] * (end == "longer") + ["", " "] * (end == "empty cells")
        for row, end in zip(rows, ends, strict=True)
    ]
    text = io.StringIO()
    end = draw(st.sampled_from(["\n", "\r\n"]))
    writer = csv.writer(text, lineterminator=end)
    writer.writerow([draw(st.sampled_from([column, column.upper(), f" {column} "])) for column in header])
    for row in rows:
        if draw(st.sampled_from([False, False, True])):  # quoted, with blanks before the quotes
            blanks = draw(st.sampled_from([" ", "  "]))
            text.write(",".join(blanks + '"' + cell.replace('"', '""') + '"' for cell in row) + end)
            continue
        writer.writerow(row)
        text.write(draw(st.sampled_from(["", "", end])))
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.getvalue().encode()


def expected_rows(name: str, data: bytes) -> tuple[list[tuple[str, tuple[object, ...]] | str], Counter[str]]:
    """What each row of a drop says, by the plain reading of the contract: (key, row), or the reason why not."""
    lines = [row for row in cells_of(data.decode("utf-8-sig")) if any(cell.strip(model.TEXT_SPACE) for cell in row)]
    header, found, faults = [cell.strip().lower() for cell in lines[0]], [], Counter[str]()
    for line in lines[1:]:
        cells = dict(zip(header, line + [""] * (len(header) - len(line)), strict=False))
        key = cells[COLUMNS[name][0]].strip(model.TEXT_SPACE)
        if any(cell.strip(model.TEXT_SPACE) for cell in line[len(header) :]):
            found.append("malformed_record")
        elif not key:
            found.append("missing_key")
        elif len(key.encode()) > 256:
            found.append("invalid_key")
        elif re.fullmatch(r"-?[0-9]([.,][0-9]+)?[eE]\+[0-9][0-9]", key):
            found.append("shortened_key")
        else:
            values = [key]
            for column in COLUMNS[name][1:]:
                value = expected_value(column, cells.get(column, "").strip(model.TEXT_SPACE))
                faults[column] += value is model._Fault
                values.append(None if value is model._Fault else value)
            found.append((key, tuple(values)))
    return found, +faults


def cells_of(text: str) -> list[list[str]]:
    """A CSV text, character by character: white space before a quote and an Excel formula around a text say nothing."""
    rows: list[list[str]] = [[]]
    for row in re.finditer(r'((?:[^"\n]|"(?:[^"]|"")*")*)(?:\n|\Z)', text):
        cells = re.findall(r'(?:^|,)((?:[ \t\x0b\x0c]*"(?:[^"]|"")*"[^,]*)|[^,]*)', row[1].removesuffix("\r"))
        rows.append([cell_of(cell) for cell in cells] if row[1] else [])
    return rows


def cell_of(cell: str) -> str:
    if formula := re.fullmatch(r'=\s*"((?:[^"]|"")*)"', cell.strip(model.TEXT_SPACE)):
        return formula[1].replace('""', '"')
    if quoted := re.fullmatch(r'[ \t\x0b\x0c]*"((?:[^"]|"")*)"[ \t\x0b\x0c]*', cell):
        inner = quoted[1].replace('""', '"')
        formula = re.fullmatch(r'=\s*"((?:[^"]|"")*)"', inner.strip(model.TEXT_SPACE))
        return formula[1].replace('""', '"') if formula else inner
    return cell


def expected_value(column: str, text: str) -> Any:
    try:
        if not text:
            return None
        if column == "created_at":
            number = model._NUMBER.fullmatch(text)
            return model._instant_until(text if number else json.dumps(text), LATEST_US)
        if column == "price":
            return model._decimal(json.dumps(text))
        return model._text(json.dumps(text, ensure_ascii=False))
    except model._Fault:
        return model._Fault


def table_rows(table: Any) -> list[tuple[object, ...]]:
    plain = [column.cast("int64") if "timestamp" in str(column.type) else column for column in table.columns]
    return list(zip(*(column.to_pylist() for column in plain), strict=True))


@SLOW
@given(st.sampled_from(["user", "product"]).flatmap(lambda name: st.tuples(st.just(name), csv_drops(name))))
def test_each_row_is_read_as_the_contract_says(drop: tuple[str, bytes]) -> None:
    """Cells, discards with their positions, and faults are those of the plain reading."""
    name, data = drop
    found = read(DIMENSIONS[name], 7, data, CONTEXT)
    expected, faults = expected_rows(name, data)
    assert table_rows(found.rows) == [one[1] for one in expected if not isinstance(one, str)]
    assert [(d.drop, d.position, str(d.reason)) for d in each(found.discards)] == [
        (7, place, one) for place, one in enumerate(expected, 1) if isinstance(one, str)
    ]
    assert found.tally.extracted == len(expected) and dict(found.tally.faults) == dict(faults)


class DimensionModel:
    """The published rows by key, and what became of each row that came."""

    def __init__(self, name: str) -> None:
        self.name, self.published, self.last, self.seq = name, Rows(), b"", 0

    def apply(self, batch: Sequence[bytes]) -> list[Counter[str] | None]:
        """None: a duplicate."""
        results: list[Counter[str] | None] = []
        came: list[tuple[str, tuple[object, ...], Counter[str]]] = []
        for data in batch:
            if data == self.last:
                results.append(None)
                continue
            self.last = data
            counts: Counter[str] = Counter()
            for one in expected_rows(self.name, data)[0]:
                if isinstance(one, str):
                    counts[one] += 1
                else:
                    came.append((*one, counts))
            results.append(counts)
        latest = {key: place for place, (key, _, _) in enumerate(came)}
        for place, (key, row, counts) in enumerate(came):
            if latest[key] != place:
                counts["superseded"] += 1
                continue
            known = self.published.get(key)
            counts["new" if known is None else "unchanged" if known == row else "corrected"] += 1
            self.published[key] = row
        return results


def counted(outcome: BatchOutcome) -> list[Counter[str] | None]:
    results: list[Counter[str] | None] = []
    for result in outcome.results:
        counts = result.counts
        kept = {name: getattr(counts, name) for name in ("new", "unchanged", "corrected", "superseded")}
        assert counts.extracted == sum(kept.values()) + counts.discarded.total()
        duplicate = result.outcome is DropOutcome.DUPLICATE
        results.append(None if duplicate else Counter({n: c for n, c in {**kept, **counts.discarded}.items() if c}))
    return results


@SLOW
@given(st.sampled_from(["user", "product"]), st.data())
def test_every_batch_is_as_the_model_says(name: str, data: st.DataObject) -> None:
    """Rows, counts and duplicates are the model's after each batch; files change only where rows do; and a lost file made anew
    from raw has the same bytes."""
    pool = data.draw(st.lists(csv_drops(name), min_size=1, max_size=3))
    many = data.draw(st.lists(st.lists(st.sampled_from(pool), min_size=1, max_size=4), min_size=1, max_size=4))
    dimension, expected, number = DIMENSIONS[name], DimensionModel(name), 0
    with tempfile.TemporaryDirectory() as folder, engine(Path(folder)) as rooms:
        path = Path(folder) / "output" / "curated" / dimension.file
        for batch in many:
            before = (path.stat().st_ino, dict(expected.published)) if path.exists() else None
            drops = [(f"{dimension.drops}_{number + i}.csv", content) for i, content in enumerate(batch)]
            number += len(batch)
            assert counted(apply_batch(rooms, Path(folder), drops, RECEIVED_AT_US)) == expected.apply(batch)
            rows = table_rows(pq.read_table(path))
            assert rows == sorted(expected.published.values(), key=lambda row: str(row[0]).encode())
            if before is not None:
                assert (path.stat().st_ino == before[0]) == (expected.published == before[1])
        content = path.read_bytes()
        path.unlink()
        dimension_from_raw(rooms.ledger, rooms.reader, rooms.store, dimension)
        assert path.read_bytes() == content


@SLOW
@given(st.sampled_from(["user", "product"]), st.data())
def test_batching_does_not_change_the_table(name: str, data: st.DataObject) -> None:
    """The same drops in one batch, or one by one, give the same file to the byte."""
    pool = data.draw(st.lists(csv_drops(name), min_size=1, max_size=3))
    drops = data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=6))
    named = [(f"{DIMENSIONS[name].drops}{i}.csv", content) for i, content in enumerate(drops)]
    results = []
    for division in ([named], [[drop] for drop in named]):
        with tempfile.TemporaryDirectory() as folder, engine(Path(folder)) as rooms:
            for batch in division:
                apply_batch(rooms, Path(folder), batch, RECEIVED_AT_US)
            results.append(tree(Path(folder) / "output" / "curated"))
    assert results[0] == results[1]


def test_a_drop_that_returns_to_an_earlier_state_is_no_duplicate(tmp_path: Path) -> None:
    """The later drop wins, so the first file again after a second one puts its rows back."""
    one, other = b"user_id,country\na,NA\n", b"user_id,country\na,DE\n"
    with engine(tmp_path) as rooms:
        for number, content in enumerate([one, other, one, one]):
            (result,) = apply_batch(rooms, tmp_path, [(f"users{number}.csv", content)], RECEIVED_AT_US).results
            assert result.outcome is (DropOutcome.DUPLICATE if number == 3 else DropOutcome.APPLIED)
    assert pq.read_table(tmp_path / "output/curated/dim_user.parquet")["country"].to_pylist() == ["NA"]


def test_a_damaged_dimension_is_made_anew_before_rows_are_put_on_top(tmp_path: Path) -> None:
    """A flipped bit is not carried on: the result is as if the file had been whole, and it is said."""
    with engine(tmp_path) as rooms:
        apply_batch(rooms, tmp_path, [("users.csv", b"user_id,country\na,NA\nb,DE\n")], RECEIVED_AT_US)
        path = tmp_path / "output" / "curated" / "dim_user.parquet"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        outcome = apply_batch(rooms, tmp_path, [("users2.csv", b"user_id,country\nc,FR\n")], RECEIVED_AT_US)
    assert list(outcome.rebuilt) == ["dim_user.parquet"]
    assert pq.read_table(path)["country"].to_pylist() == ["NA", "DE", "FR"]


def test_orders_of_unknown_users_and_products_are_counted_and_kept(tmp_path: Path) -> None:
    """Counted by order, against what the dimensions know with this batch; none is dropped; NULL is nobody unknown."""

    def order(number: int, user: str | None, *skus: str | None) -> dict[str, object]:
        items = [{"sku": sku, "qty": 1, "price": 1} for sku in skus]
        return {"order_id": f"o{number}", "user_id": user, "created_at": "2026-11-18", "items": items}

    users, products = b"user_id\nu1\n", b"sku\np1\n"
    first = [order(1, "u1", "p1"), order(2, "u2", "p1", "p2", "p3"), order(3, None, None), order(4, "u1")]
    again = [order(2, "u2", "p1", "p2", "p3"), order(5, "u2", "p1")]
    with engine(tmp_path) as rooms:
        before = apply_batch(rooms, tmp_path, [("a.json", json.dumps([order(0, "u1", "p1")]).encode())], RECEIVED_AT_US)
        drops = [("b.json", json.dumps(first).encode()), ("products.csv", products), ("users.csv", users)]
        during = apply_batch(rooms, tmp_path, drops, RECEIVED_AT_US)
        after = apply_batch(rooms, tmp_path, [("c.json", json.dumps(again).encode())], RECEIVED_AT_US)
        totals = rooms.ledger.totals()
    assert before.results[0].counts.unknown == Counter(user=1, product=1)  # no drop ever brought any
    assert during.results[0].counts.unknown == Counter(user=1, product=1)
    assert after.results[0].counts.unknown == Counter(user=1)  # what is unchanged was counted before
    assert (totals["orders.unknown.user"], totals["orders.unknown.product"]) == (3, 2)
    assert sum(written.orders for written in after.written) == 6


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"email,country\na@b,DE\n", "no column user_id"),
        (b"user_id;country\na;DE\n", "separated by commas"),
        (b"user_id,country,user_id\na,DE,b\n", "user_id twice"),
        (b'user_id,country\na,"DE\nb,FR\n', "is not CSV"),
        (b"user_id\n\xff\n", "not UTF-8"),
        ("user_id\nb\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_unreadable(content: bytes, why: str) -> None:
    """The reason names what is wrong, and nothing of the rows."""
    with pytest.raises(Unreadable, match=why) as caught:
        read(DIMENSIONS["user"], 1, content, CONTEXT)
    assert "a@b" not in str(caught.value)


def test_a_header_alone_is_an_empty_dimension(tmp_path: Path) -> None:
    """So that there is a table to join with."""
    with engine(tmp_path) as rooms:
        (result,) = apply_batch(rooms, tmp_path, [("products.csv", b"sku\n")], RECEIVED_AT_US).results
    assert result.outcome is DropOutcome.APPLIED
    table = pq.read_table(tmp_path / "output/curated/dim_product.parquet")
    assert (table.num_rows, table.column_names) == (0, COLUMNS["product"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("users.csv", "user"), ("Users_2026.CSV", "user"), ("users.csv.gz", "user"), ("products-eu.csv.zst", "product"),
        ("users.json", "orders"), ("my_users.csv", None), ("users.csv.bz2", None), ("products", None), ("a.json.zst.gz", None),
    ],
)  # fmt: skip
def test_the_name_says_what_a_drop_holds(name: str, kind: str | None) -> None:
    """users*.csv and products*.csv in any case, compressed or not; orders by their suffix; nothing else."""
    assert raw.kind_of(name) == kind


def test_upsert_of_nothing_changes_nothing() -> None:
    """No rows in, no new table."""
    empty = DIMENSIONS["user"].schema.empty_table()
    assert upsert(DIMENSIONS["user"], None, empty).table is None


def test_lines_of_white_space_are_blank() -> None:
    """As in a drop of orders: they do not count, and rows keep their numbers."""
    data = b" \nuser_id,email\n   \na,x\n\t\n,y\n \r\n"
    found = read(DIMENSIONS["user"], 1, data, ParseContext(RECEIVED_AT_US, 0))
    assert (found.tally.extracted, found.rows["user_id"].to_pylist()) == (2, ["a"])
    assert found.discards["position"].to_pylist() == [2]
