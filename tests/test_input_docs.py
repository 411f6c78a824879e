"""docs/INPUT.md is held against the code: every row of its table of bad input, by an example of each thing the row names."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from daemon.batch.pipeline import take
from daemon.batch.reading import Limits
from daemon.batch.taking import Taking
from daemon.core.mapping import FieldMapping
from daemon.core.model import DropOutcome, Field, ParseContext, Reason
from daemon.core.parse.parse import Piece, parse
from daemon.core.retry import Backoff
from daemon.sources.inbox import Arrival, Inbox
from daemon.sources.source_folder import SourceFolder
from tests.hostile import CASES, documented
from tests.strategies import RECEIVED_AT_US
from tests.support import REPO
from tests.support.harness import apply_batch, open_engine, tree
from tests.support.zips import encrypted, overlapping, with_method, with_size, with_wrong_sum, zipped

DOCS = REPO / "docs" / "INPUT.md"
CONTEXT = ParseContext(RECEIVED_AT_US, 86_400_000_000)
TABLE = DOCS.read_text(encoding="utf-8").split("## What bad input gets")[1].split("## A hostile inbox")[0]
ROWS = {
    cells[0]: tuple(cells[1].split(": "))
    for line in TABLE.splitlines()
    if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 2
    and not set(cells[0]) <= {"-"}
    and cells[0] != "input"
}


def record(fields: str) -> bytes:
    return b'[{"order_id":"a","created_at":"2026-11-18",' + fields.encode() + b"}]"


def identified(order_id: str) -> bytes:
    return f'[{{"order_id":{order_id},"created_at":"2026-11-18"}}]'.encode()


def created(created_at: str) -> bytes:
    return f'[{{"order_id":"a","created_at":{created_at}}},{{"order_id":"b","created_at":"2026-11-18"}}]'.encode()


def named(*names: str, content: str = "x") -> bytes:
    """A zip archive of files with these names."""
    return zipped(*((name, content.encode()) for name in names))


def zstandard(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


GOOD = b'{"order_id":"good","created_at":"2026-11-18"}\n'
PAGE = b'{"data":[' + GOOD.strip() + b'],"next":null}\n'
DEEP = b'{"order_id":"a","x":' + b"[" * 512 + b"]" * 512 + b"}"
PACKED = gzip.compress(GOOD)
SMALL = Limits(max_drop_bytes=100_000, max_expansion=20)

# What is decided by the name or the compression: (name, content) of whole drops, judged under SMALL limits.
DROPS = {
    "another name, such as `orders.xml`": [("orders.xml", GOOD), ("orders.json.bz2", GOOD), ("orders", GOOD)],
    "CSV without its key column": [("users.csv", b"email\na\n"), ("users.csv", b"name;mail\na;b\n")],
    "CSV separated by vertical bars or another character, also after `sep=`": [
        ("products.csv", b"sku|name\na|b\n"), ("users.csv", b"sep=|\nuser_id|email\na|b\n"), ("users.csv", b"sep=^\nuser_id\n"),
    ],
    "CSV that names a column twice": [("users.csv", b"user_id,email,email\na,b,c\n")],
    "CSV with a quote that is never closed": [("users.csv", b'user_id,email\na,"b\nc,d\n')],
    "CSV with text after a closing quote": [
        ("users.csv", b'user_id,email\na,"b"c\n'), ("users.csv", b'"user_id" ,email\na,b\n'),
    ],
    "CSV whose lines end in a carriage return alone": [("users.csv", b"user_id,email\ra,b\r")],
    "CSV that is not UTF-8": [("users.csv", b"user_id\n\xff\n"), ("users.csv", b"\xef\xbb\xbfuser_id\n\xff\n")],
    "CSV in UTF-16 without a byte order mark, or damaged": [
        ("products.csv", "sku\na\n".encode("utf-16-le")), ("users.csv", "user_id\na\n".encode("utf-16")[:-1]),
    ],
    'CSV that is neither UTF-8 nor cp1252, under `encoding = "cp1252"`': [("users.csv", b"user_id\n\xe4\x81\n")],
    "CSV of which no row can be kept": [("users.csv", b"user_id,email\n,a\n,b\n")],
    "CSV that ends in NUL characters": [("users.csv", b"user_id,email\na,b\n\0\0\0")],
    "CSV with a second header that has another order of columns": [("users.csv", b"user_id,email\na,b\nemail,user_id\nc,d\n")],
    "CSV with a line end in a key, an instant or a price: a quote is missing": [
        ("users.csv", b'user_id,email,created_at\na,b,"\nc,d,2026-01-01\ne,f,"\n'),
    ],
    "CSV row that has another separator than the header": [("users.csv", b"user_id,email\na,b\nc;d\n")],
    "CSV without a line": [("users.csv", b""), ("products.csv.gz", gzip.compress(b"\n"))],
    "compressed, and damaged": [("b.json.gz", PACKED[:-6] + b"XXXXXX"), ("b.json", PACKED[:-6] + b"XXXXXX")],
    "compressed, and cut short, under any name": [
        *((name, content[:-3]) for name in ("a.json", "a.json.gz", "a.json.zst") for content in (PACKED, zstandard(GOOD))),
    ],
    "decompression bomb": [("a.json", gzip.compress(b" " * 99_000)), ("a.json.zst", zstandard(b" " * 99_000))],
    "compressed twice": [
        ("a.json.gz", gzip.compress(PACKED)), ("users.csv", gzip.compress(zstandard(b"user_id\na\n"))),
    ],
    "zip archive, under a name without `.zip`": [("a.json", named("orders.json")), ("users.csv", named("users.csv"))],
    "zip archive that is encrypted": [("a.zip", encrypted())],
    "zip archive that is damaged: a wrong check sum, no directory": [
        ("a.zip", with_wrong_sum()), ("a.zip", named("a.json")[:-30]), ("a.zip", with_size(1_000)),
    ],
    "zip archive with another one inside": [("a.zip", named("a.json", "b.zip"))],
    "zip archive with a file compressed by bzip2, LZMA or Deflate64": [
        ("a.zip", zipped(("a.json", GOOD), method=method)) for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    ] + [("a.zip", with_method(9))],
    "zip archive that names a place outside itself": [("a.zip", named("../a.json")), ("a.zip", named("/a.json"))],
    "zip archive with entries that overlap": [("a.zip", overlapping())],
    "zip archive that is a decompression bomb": [
        ("a.zip", zipped(("a.json", b" " * 99_000))), ("a.zip", zipped(*((f"{n}.json", b" " * 45_000) for n in range(3)))),
    ],
    "zip archive with a file larger than `max_drop_bytes`": [("a.zip", zipped(("a.json", b"[1,2]" * 30_000)))],
    "zip archive with more than 10,000 entries": [("a.zip", named(*(f"{number}.json" for number in range(10_001))))],
    "zip archive without a file to read": [("a.zip", zipped()), ("a.zip", named(".hidden", "__MACOSX/a.json", "folder/"))],
    "`.zip` that is no zip archive": [("a.zip", GOOD), ("a.zip", b"Rar!")],
    "spreadsheet (.xlsx, .xls, .ods), under the name of another file": [
        ("a.json", named("[Content_Types].xml", "xl/workbook.xml")),
        ("users.csv", named("[Content_Types].xml", "xl/workbook.xml")),
        ("a.zip", named("[Content_Types].xml", "xl/workbook.xml")),
        ("a.json", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)),
        ("users.csv", zipped(("mimetype", b"application/vnd.oasis.opendocument.spreadsheet"), method=zipfile.ZIP_STORED)),
    ],
    "tar archive, under the name of another file": [
        ("a.json", b"a.json".ljust(257, b"\0") + b"ustar\x0000" + bytes(248)),
        ("users.csv", b"a".ljust(257, b"\0") + b"ustar  \0" + bytes(247)),
    ],
    "table, YAML or another text, in place of JSON": [
        ("a.json", b"order_id,amount\na,5\n"), ("a.json", b"order_id: a\namount: 5\n"), ("a.json", b"the orders\n"),
    ],
    "PDF document": [("a.json", b"%PDF-1.7\n1 0 obj\n"), ("products.csv", b"%PDF-1.4\n")],
}  # fmt: skip

# What is not even copied, judged under SMALL limits.
LEFT = {
    "larger than `max_drop_bytes`": [
        ("a.json", GOOD + b" " * 100_000), ("users.csv", b"x" * 100_001), ("backup.tar", b"x" * 100_001),
    ],
}  # fmt: skip

# What is decided by the content: the bytes of one drop.
EXAMPLES = {
    "empty file, or nothing but white space": [b"", b" \n\t\r\n", b"\xef\xbb\xbf"],
    "truncated document": [b'{"data":[{"order_id":"a"},', b'[\n{"order_id":"a"},\n{"order_id":"b"}\n'],
    "damaged envelope, also with a record a line": [
        b'{"count":2,\n"orders":[\n' + GOOD.strip() + b',\n{"order_id":"b,\n' + GOOD + b"]}\n",
        b'{"data":[' + GOOD.strip() + b",,]}", b'{"results":[' + GOOD.strip() + b'"]}\r\n' + GOOD,
    ],
    "several documents, of which one is damaged": [
        b"{\n" + GOOD[1:] + b'{\n"order_id":"b",,\n"created_at":"2026-11-18"}\n', b"[{}]\n[{},]\n",
    ],
    "damaged array": [b'[\n{"order_id":"a"},\n{"order_id":"b"}\n]\ngarbage', b'[\n{"a":1}\n{"b":2}\n]'],
    "HTML page": [b"<!DOCTYPE html><p>502", b"<html></html>"],
    "UTF-16": [GOOD.decode().encode("utf-16"), GOOD.decode().encode("utf-16-le")],
    "`null`, or any one value that is no object and no array": [b"null", b"7", b'"text"', b"true"],
    "API error object": [
        b'{"error":"rate limit"}', b'{"data":null,"errors":[{"message":"no"}]}', b'{"message":"Not found","orders":null}',
        b'{"data":[],"errors":[{"message":"no"}]}', b'{"data":[],"error":"rate limit"}', b'{"success":false,"data":null}',
        b'{"data":[],"message":"Rate limit exceeded","status":429}', b'{"status":"error","data":[]}',
        b'{"ok":false,"results":{}}',
        b'{"title":"Unauthorized","status":401,"type":"about:blank"}', b'{"code":40100,"msg":"token expired"}',
    ],
    "object with its records under another key": [
        b'{"items":[{"number":"1","gross":5}],"total_count":1}',
        b'{"code":0,"message":"Success","data":{"order_list":[' + GOOD.strip() + b"]}}",
    ],
    "envelope with an order beside its records": [
        b'{"orders":[' + GOOD.strip() + b'],"order":{"order_id":"b","created_at":"2026-11-18"}}',
        b'{"data":[' + GOOD.strip() + b'],"more":{"1":[[{"order_id":"b","created_at":"2026-11-18"}]]}}',
    ],
    "object with a key twice, each with other data": [
        b'{"orders":[' + GOOD.strip() + b'],"orders":[]}', b'{"order":{},"order":' + GOOD.strip() + b"}",
    ],
    "line among orders that is a damaged page or array, or holds several orders and is damaged": [
        GOOD + line + b"\n" for line in (
            b'{"orders":[{"order_id":"b","cr', b"[" + GOOD.strip() + b",{", GOOD.strip() * 2 + b'{"order_id":"c" "order_id":"d"}',
        )
    ],
    "line among orders with orders below its first level": [
        GOOD + b'{"data":{"orders":[' + GOOD.strip() + b"]}}\n", GOOD + b'{"a":1,"b":[' + GOOD.strip() + b"]}\n",
    ],
    "order written over several lines, among lines": [
        GOOD + b'{"order_id":"b",\n"created_at":"2026-11-18"}\n', GOOD + b"oops\n{\n" + GOOD[1:],
        GOOD + b"," + GOOD + b"]\n",
    ],
    "line that is cut, at the end of a file without a line end": [GOOD + b'{"order_id":"b","crea', GOOD + b'{"order_id":"\xc3'],
    "no record has a `created_at` that can be read": [
        b'{"order_id":"a","created_at":"18.11.2026"}', b'{"order_id":"a","created_at":7}\n{"order_id":"b","created_at":8}\n',
    ],
    "object with orders under keys of their own": [b'{"0":{"order_id":"a","created_at":"2026-11-18"}}'],
    "page without records, with others beside it": [
        b'{"data":[],"page":{"orders":[' + GOOD.strip() + b"]}}", b'{"orders":[],"included":[{"id":1}]}',
    ],
    "object with records under two of the keys": [b'{"orders":[' + GOOD.strip() + b'],"data":[' + GOOD.strip() + b"]}"],
    "object without any array": [b"{}", b'{"id":5,"total":7,"data":null}'],
    "records that are no orders, all of them": [
        b'[{"created_at":"2026-11-18"}]', b'{"id":1,"total":2}\n{"id":2,"total":3}\n', b'{"data":[{"id":1}],"next":null}',
        b'[{"order_id":"a","date":"2026-11-18"}]', b"[1,2]",
    ],
    "records that hold an order each, all of them": [(b'{"payload":{"after":' + GOOD.strip() + b"}}\n") * 2],
    "orders without amounts, all of them, in a source with a preset or `fields`": [
        b'[{"id":"a","created_at":"2026-11-18","paid":5}]', b'{"id":"a","created_at":"2026-11-18","total":null}\n' * 2,
        b'{"id":"a","created_at":"2026-11-18","items":[{"price":5}]}',
    ],
    "columns instead of records (`order_id` is an object)": [
        b'{"order_id":{"0":"a"},"created_at":{"0":1795255200000}}', identified("true"),
    ],
    "line among pages that is damaged, or an error message": [
        PAGE + b'{"data":[{"order_id":"b"\n' + PAGE, PAGE + b'{"error":"rate limit"}\n',
    ],
    "no line is an object": [b"1\n2\n", b"order_id,created_at\na,2026-11-18\n"],
    "object without `order_id` and without an array at `records_path`": [b'{"data":[]}', b"{}", b'{"payload":{"orders":7}}'],
    "document that is not UTF-8": [b'[{"order_id":"\xff"}]'],
    "record in a document, nested more than 512 levels": [b"[" + DEEP + b"]", b'{"data":[' + DEEP + b"]}"],
    "line nested more than 512 levels": [GOOD + DEEP + b"\n"],
    "line that is no JSON": [GOOD + b'{"order_id":"a",}\n', GOOD + b'{"order_id":nan}\n', GOOD + b"oops\n"],
    "line that is not UTF-8": [GOOD + b'{"order_id":"\xff"}\n'],
    "record that is no object": [
        b"[" + GOOD + b",[1]]", b"[" + GOOD + b",null]", GOOD + b"7\n", b'[1]\n{"order_id":"a","created_at":"2026-11-18"}',
    ],
    "no `order_id`, null or blank": [
        GOOD + b'{"created_at":"2026-11-18"}', GOOD + identified("null")[1:-1], GOOD + identified('" \\t"')[1:-1],
    ],
    "`order_id` 1.5, true, a list, or too long": [
        GOOD + identified(bad)[1:-1] for bad in ("1.5", "true", "[1]", f'"{"x" * 257}"')
    ],
    "`order_id` 1.23E+12": [GOOD + identified('"1.23E+12"')[1:-1]],
    "no `created_at`, null or blank": [GOOD + b'{"order_id":"a"}', GOOD + created("null")[1:-1], GOOD + created('" "')[1:-1]],
    "`created_at` 2026-02-30, or before 1970": [created('"2026-02-30"'), created('"1969-12-31"')],
    "`created_at` 20250820, 45889.64, 0 or negative": [
        created(bad) for bad in ("20250820", "45889.64", "0", "-1", "-1795255200")
    ],
    "`created_at` far in the future": [created('"2999-01-01"'), created("1e300")],
    "`user_id` a list": [record('"user_id":[1]')],
    "`amount` with a currency sign": [record('"amount":"12,50 €"'), record('"amount":"$5"')],
    "`amount` NaN, hex, with underscores, or out of range": [
        record(f'"amount":{amount}')
        for amount in ('"NaN"', "NaN", "-Infinity", '"0x10"', '"1_000"', "1e14", "-1e14", "1e999999999")
    ],
    "`currency` true": [record('"currency":true')],
    "`updated_at` far in the future": [record('"updated_at":"2999-01-01"')],
    "`items` a text": [record('"items":"none"')],
    "item that is no object": [record('"items":[7]'), record('"items":[null]')],
    "`sku` 1.5": [record('"items":[{"sku":1.5}]')],
    "`qty` true": [record('"items":[{"qty":true}]')],
    "`price` a text with a comma": [record('"items":[{"price":"1,50"}]')],
    "`metadata` over 65,535 bytes": [record('"metadata":"' + "x" * 65_534 + '"')],
    "lone surrogate in `currency`": [record('"currency":"\\ud800"')],
}  # fmt: skip
LONG = b"x" * 257

# Rows of users and products: (name, content) of drops with one row.
CSV = {
    "CSV row without a key": [("users.csv", b"user_id,email\n ,a\nb,c\n"), ("products.csv", b"name,sku\na\nb,c\n")],
    "CSV row with a key over 256 bytes": [("users.csv", b"user_id\n" + LONG + b"\nb\n")],
    "CSV row with a key like 1.23E+12": [
        ("users.csv", b"user_id,email\n1.23457E+12,a\nb,c\n"),
        ("products.csv", b'sku\n"1,2E+10"\nb\n'),
    ],
    "CSV row with more cells than columns": [("products.csv", b"sku,name\na,b,c\nb,c\n")],
    "CSV `email` over 256 bytes": [("users.csv", b"user_id,email\na," + LONG)],
    "CSV `created_at` 2026-02-30": [("users.csv", b"user_id,created_at\na,2026-02-30\nb,\n")],
    "CSV `country` over 256 bytes": [("users.csv", b"user_id,country\na," + LONG)],
    "CSV `name` over 256 bytes": [("products.csv", b"sku,name\na," + LONG)],
    "CSV `category` over 256 bytes": [("products.csv", b"sku,category\na," + LONG)],
    "CSV `price` with a currency sign": [("products.csv", b"sku,price\na,$5\n")],
    "CSV `price` with a comma, in a file with commas or tabs": [
        ("products.csv", b'sku,price\na,"12,50"\n'),
        ("products.csv", b"sku\tprice\na\t12,50\n"),
    ],
    "CSV `price` that may be 1.234 or 1234, in a file with semicolons": [
        ("products.csv", b"sku;price\na;1.234\nb;12,50\n")
    ],
}
NEIGHBOURS = {"line nested more than 512 levels", "line that is no JSON", "line that is not UTF-8"}


def test_every_row_has_an_example() -> None:
    """Neither a row without an example nor an example without a row, nor one row twice."""
    assert EXAMPLES.keys() | DROPS.keys() | LEFT.keys() | CSV.keys() == ROWS.keys()
    assert len(ROWS) == sum(line.startswith("|") for line in TABLE.splitlines()) - 2


@pytest.mark.parametrize("reference_only", [False, True])
@pytest.mark.parametrize(("row", "data"), [(row, data) for row, examples in EXAMPLES.items() for data in examples])
def test_bad_input_gets_what_the_table_says(row: str, data: bytes, reference_only: bool) -> None:
    """Each example gets the documented outcome, in either lane, and costs nothing else."""
    kind, what = ROWS[row]
    context = replace(CONTEXT, records_path="payload.orders") if "records_path" in row else CONTEXT
    if "`fields`" in row:
        context = replace(CONTEXT, mapping=FieldMapping(fields=(("amount", ("total",)), ("order_id", ("id",)))))
    parsed = parse([Piece(1, data, context)], reference_only=reference_only)
    if kind == "quarantine":
        assert what in parsed.unreadable[1]
        assert not parsed.orders.num_rows and not parsed.discards.num_rows and not parsed.tallies
    elif kind == "discard":
        assert parsed.discards["reason"].to_pylist() == [what]
        assert parsed.orders.num_rows == parsed.tallies[1].extracted - 1
        assert row not in NEIGHBOURS or parsed.orders["order_id"].to_pylist() == ["good"]
    else:
        assert kind == "fault" and dict(parsed.tallies[1].faults) == {what: 1}
        assert parsed.orders.num_rows == 1 and not parsed.discards.num_rows


@pytest.mark.parametrize(("row", "drop"), [(row, drop) for row, drops in DROPS.items() for drop in drops])
def test_bad_drops_get_what_the_table_says(tmp_path: Path, row: str, drop: tuple[str, bytes]) -> None:
    """A drop that its name, size or compression condemns lies whole in quarantine, with the documented reason."""
    kind, what = ROWS[row]
    with open_engine(tmp_path) as engine:
        limits = Limits(1 << 30, 200) if "entries" in row else SMALL
        limited = replace(engine, reader=replace(engine.reader, limits=limits))
        mapping = FieldMapping(encoding="cp1252" if "cp1252" in row else "utf-8")
        (result,) = apply_batch(limited, tmp_path, [drop], RECEIVED_AT_US, mapping=mapping).results
    assert kind == "quarantine" and result.outcome is DropOutcome.QUARANTINED
    assert result.reason is not None and what in result.reason
    quarantine = tmp_path / "output" / "quarantine"
    (whole,) = [name for name in tree(quarantine) if not name.endswith(".reason.json")]
    assert (quarantine / whole).read_bytes() == drop[1]
    assert what in (quarantine / f"{whole}.reason.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(("row", "drop"), [(row, drop) for row, drops in LEFT.items() for drop in drops])
def test_drops_that_are_left_get_what_the_table_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str, drop: tuple[str, bytes]
) -> None:
    """Nothing of it is copied, it stays, the log is told the documented reason, and the drop beside it is applied."""
    kind, what = ROWS[row]
    copied: list[str] = []
    copy = Taking.copy

    def counted(taking: Taking, arrival: Arrival, *arguments: Any) -> Any:
        copied.append(arrival.name)
        return copy(taking, arrival, *arguments)

    monkeypatch.setattr(Taking, "copy", counted)
    inbox = tmp_path / "inbox"
    with open_engine(tmp_path) as engine:
        limited = replace(engine, reader=replace(engine.reader, limits=SMALL))
        for name, data in (drop, ("good.json", GOOD)):
            (inbox / name).write_bytes(data)
        look = Inbox(SourceFolder(inbox), 0.0, Backoff(1, 0.1, 0.1)).scan(now=10**10)
        outcome, refused = take(limited, look.settled, {"default": CONTEXT}, RECEIVED_AT_US)
    assert kind == "left in the inbox" and [one.label for one in refused] == [drop[0]] and what in refused[0].cause
    assert [path.name for path in inbox.iterdir()] == [drop[0]] and copied == ["good.json"]
    assert outcome is not None and [result.outcome for result in outcome.results] == [DropOutcome.APPLIED]


@pytest.mark.parametrize(("row", "drop"), [(row, drop) for row, drops in CSV.items() for drop in drops])
def test_bad_rows_get_what_the_table_says(tmp_path: Path, row: str, drop: tuple[str, bytes]) -> None:
    """A row's discard or fault is the documented one, and the drop is applied."""
    kind, what = ROWS[row]
    with open_engine(tmp_path) as engine:
        (result,) = apply_batch(engine, tmp_path, [drop], RECEIVED_AT_US).results
    assert result.outcome is DropOutcome.APPLIED
    counts = result.counts
    assert {"discard": dict(counts.discarded), "fault": dict(counts.faults)} == {"discard": {}, "fault": {}} | {
        kind: {what: 1}
    }


@pytest.mark.parametrize("name", ["A.JSON", "a.jsonl", "a.ndjson", "a.json.gz", "a.JSONL.GZ", "a.ndjson.zst"])
def test_the_documented_names_are_read(tmp_path: Path, name: str) -> None:
    """Every form of name that the page allows is applied, in either case."""
    pack = {".gz": gzip.compress, "zst": zstandard}.get(name.lower()[-3:], bytes)
    with open_engine(tmp_path) as engine:
        (result,) = apply_batch(engine, tmp_path, [(name, pack(GOOD))], RECEIVED_AT_US).results
    assert result.outcome is DropOutcome.APPLIED


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard])
@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.json.zst"])
def test_the_content_says_whether_a_drop_is_compressed(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    """Whatever the name says. The same bytes under another name are a duplicate, and raw/orders_raw.json is never compressed."""
    packed = pack(GOOD)
    with open_engine(tmp_path) as engine:
        (first,) = apply_batch(engine, tmp_path, [(name, packed)], RECEIVED_AT_US).results
        (second,) = apply_batch(engine, tmp_path, [("other.jsonl", packed)], RECEIVED_AT_US).results
        users_name = name.replace("a.json", "users.csv")
        (users,) = apply_batch(engine, tmp_path, [(users_name, pack(b"user_id\n1\n"))], RECEIVED_AT_US).results
    assert [first.outcome, second.outcome, users.outcome] == ["applied", "duplicate", "applied"]
    link = tmp_path / "output" / "raw" / "orders_raw.json"
    assert link.read_bytes() == GOOD if pack is bytes else not link.exists()


def test_every_reason_and_fault_is_in_the_table() -> None:
    """What the code can say, the page says; and the reverse."""
    of_input = {str(reason) for reason in Reason} - {Reason.BLOCKED}  # of a record with which nothing is wrong
    assert {what for kind, what in ROWS.values() if kind == "discard"} == of_input
    assert f"`{Reason.BLOCKED}`" in DOCS.read_text(encoding="utf-8")
    assert {what for kind, what in ROWS.values() if kind == "fault"} == {str(field) for field in Field}


def test_every_field_has_a_rule() -> None:
    """The table of fields names every field that can be at fault, and both that can cost the order."""
    rules = DOCS.read_text(encoding="utf-8").split("## Records")[1].split("\n## Versions")[0]
    lines = [line for line in rules.splitlines() if line.startswith("|")]
    for field in [*map(str, Field), "order_id", "created_at"]:
        assert any(f"`{field}`" in line for line in lines), field


def test_the_table_of_a_hostile_inbox_is_the_corpus() -> None:
    """Every row is what a test makes and what that test demands."""
    table = DOCS.read_text(encoding="utf-8").split("## A hostile inbox")[1]
    rows = [
        line for line in table.splitlines() if line.startswith("| ") and not line.startswith(("| in the inbox", "|---"))
    ]
    assert rows == [documented(case) for case in CASES]
