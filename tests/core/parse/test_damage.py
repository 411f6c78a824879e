"""Drops that are damaged, or that are no orders: wherever the damage is, the drop is refused whole, with words for a person."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.batch.reading import _joined
from daemon.core.errors import Unreadable
from daemon.core.model import DIMENSIONS, ParseContext
from daemon.core.parse.csv import read
from daemon.core.parse.damage import NEAR, without_text
from daemon.core.parse.documents import Form, WrongCut, cut
from daemon.core.parse.parse import Piece, parse
from tests import model
from tests.strategies import RECEIVED_AT_US
from tests.support.examples import examples

CONTEXT = ParseContext(RECEIVED_AT_US, 86_400_000_000)
SLOW = examples(100)
LINE_ENDS = ["\n", "\r\n", "\r", ""]
DAMAGES = ["cut", "comma", "quote", "no comma", "no quote", "garbage", "bracket"]
PYTHON = re.compile(r"codec|Expecting|Errno|Traceback|\bchar \d|Error\b|Exception|unexpected error")


def order(number: int) -> str:
    items = [{"sku": "p_1", "qty": 1, "price": "10.50"}]
    return json.dumps(
        {"order_id": f"o_{number}", "amount": "10.50", "created_at": "2026-11-18T10:00:00Z", "items": items}
    )


def damaged(record: str, how: str) -> str:
    """A record that is no JSON any more, nor together with what can follow."""
    return {
        "cut": record[: record.index('"amount"') + 4],
        "comma": record.replace(', "amount"', ',, "amount"'),
        "quote": record.replace('"amount"', '"amo"unt"'),
        "no comma": record.replace(', "amount"', ' "amount"'),
        "no quote": record.replace('"10.50", "created_at"', '10.50", "created_at"'),
        "garbage": record.replace('"amount"', 'x"amount"'),
        "bracket": record.replace("[{", "[{{"),
    }[how]


@st.composite
def damaged_documents(draw: st.DrawFn) -> tuple[bytes, int]:
    """An envelope or an array, a record a line or not, with one record damaged; and the number of that record."""
    count = draw(st.integers(1, 5))
    at = draw(st.sampled_from([0, count // 2, count - 1]))
    end = draw(st.sampled_from(LINE_ENDS))
    records = [order(number) for number in range(count)]
    records[at] = damaged(records[at], draw(st.sampled_from(DAMAGES)))
    body = f",{end}".join(records) if draw(st.booleans()) else f"{end},".join(records)
    key = draw(st.sampled_from(["", *model.ENVELOPE_KEYS]))
    before = draw(st.sampled_from(["", f'"count": {count},{end}', f'"next":{{"page":2}},{end}']))
    text = f'{{{before}"{key}": [{end}{body}{end}]}}' if key else f"[{end}{body}{end}]"
    mark = draw(st.sampled_from(["", "\ufeff", "\n\n"]))
    return (mark + text + draw(st.sampled_from(["", end]))).encode(), at


@SLOW
@given(damaged_documents(), st.booleans())
def test_a_damaged_document_is_never_taken_for_lines(drop: tuple[bytes, int], reference_only: bool) -> None:
    """Whole or not at all: no order, no discard; the reason has line, column and the text around, and nothing of Python."""
    data, _ = drop
    parsed = parse([Piece(1, data, CONTEXT)], reference_only=reference_only)
    with pytest.raises(model.Unreadable):
        model.read_drop(data, received_at_us=RECEIVED_AT_US)
    assert not parsed.orders.num_rows and not parsed.discards.num_rows and not parsed.tallies
    found = re.search(r"\(line ([\d,]+), column ([\d,]+)\); near: ", parsed.unreadable[1])
    assert found and not PYTHON.search(without_text(parsed.unreadable[1]))
    lines = re.split(r"\r\n|\r|\n", data.decode().removeprefix("\ufeff"))
    line, column = (int(number.replace(",", "")) for number in found.groups())
    assert 1 <= column <= len(lines[line - 1]) + 1
    around = lines[line - 1][column - 1 : column + 9]
    assert around in parsed.unreadable[1].partition(NEAR)[2]


@SLOW
@given(damaged_documents(), st.integers(20, 400))
def test_however_it_is_divided_it_is_refused(drop: tuple[bytes, int], target_bytes: int) -> None:
    """A large drop is read in pieces: the first that is no whole records leads to reading it as a whole."""
    parts = []
    try:
        for start, stop, form in cut(drop[0], target_bytes):
            parts.append(parse([Piece(1, drop[0][start:stop], CONTEXT, form)]))
    except WrongCut:
        return
    assert 1 in _joined(parts, {}).unreadable


@st.composite
def one_change(draw: st.DrawFn) -> tuple[int, str, str]:
    """Some orders in any form in which tools write them; and the same text after one character of it was changed."""
    count = draw(st.integers(2, 6))
    orders = [json.loads(order(number)) for number in range(count)]
    pairs = [orders[at : at + 2] for at in range(0, count, 2)]
    key, end = draw(st.sampled_from(model.ENVELOPE_KEYS)), draw(st.sampled_from(["\n", "\r\n"]))
    indent = draw(st.sampled_from([None, 1]))
    values = draw(
        st.sampled_from(
            [
                orders, [orders], pairs, [{key: orders, "next": None}], [{key: pair, "next": 7} for pair in pairs],
                [{"order": one} for one in orders],
            ]
        )
    )  # fmt: skip
    between = draw(st.sampled_from([end, end, "", "\n\x1e", "\n\ufeff", *([",\n"] if values is orders else [])]))
    text = between.join(json.dumps(value, indent=indent) for value in values) + end
    at, character = draw(st.integers(0, len(text) - 1)), draw(st.sampled_from('",{}[]x\\: 0'))
    changed = draw(
        st.sampled_from(
            [text[:at] + text[at + 1 :], text[:at] + character + text[at:], text[:at] + character + text[at + 1 :]]
        )
    )
    return count, text, changed


@examples(300)
@given(one_change())
def test_one_changed_character_costs_one_order_or_is_refused(drop: tuple[int, str, str]) -> None:
    """Whatever the form: all orders are read before, and after, all but the one that was changed, which is a discard then; or the
    drop is refused."""
    count, sound, changed = drop
    ids = {f"o_{number}" for number in range(count)}
    assert set(parse([Piece(1, sound.encode(), CONTEXT)]).orders["order_id"].to_pylist()) == ids
    parsed = parse([Piece(1, changed.encode(), CONTEXT)])
    if not parsed.unreadable:
        found = parsed.orders["order_id"].to_pylist()
        assert len(ids - set(found)) <= 1 and len(found) + parsed.discards.num_rows >= count


def test_a_divided_drop_is_refused_as_a_whole_for_its_damaged_page() -> None:
    """The damaged line may be all that a piece holds; that the others are pages is known only when all were read."""
    page = b'{"data":[' + order(1).encode() + b'],"next":null}\n'
    parts = [parse([Piece(1, data, CONTEXT, Form.LINES)]) for data in (page, b'{"data":[{"order_id":"o_2"\n')]
    assert "pages of many orders" in _joined(parts, {}).unreadable[1]


@st.composite
def spread_orders(draw: st.DrawFn) -> bytes:
    """Orders one a line, of which some are written over several lines, in a text that is no sequence of documents."""
    end = draw(st.sampled_from(["\n", "\r\n"]))
    lines = [order(number) for number in range(draw(st.integers(1, 4)))]
    written = json.dumps(json.loads(order(9)), indent=draw(st.sampled_from([0, 1, 4])))
    if draw(st.booleans()):  # the first member on the line of the bracket
        written = "{" + written[1:].lstrip()
    if draw(st.booleans()):
        written += ","
    lines.insert(draw(st.integers(1, len(lines))), written.replace("\n", end))
    lines.insert(draw(st.integers(1, len(lines))), draw(st.sampled_from(["garbage", "7 x", '"'])))
    return end.join(lines).encode() + end.encode()


@SLOW
@given(spread_orders(), st.booleans(), st.integers(30, 300))
def test_an_order_over_several_lines_is_not_lost_as_discards(
    data: bytes, reference_only: bool, target_bytes: int
) -> None:
    """Read as a whole or in pieces, by either parser: the drop is refused, as the model says."""
    with pytest.raises(model.Unreadable):
        model.read_drop(data, received_at_us=RECEIVED_AT_US)
    assert "several lines" in parse([Piece(1, data, CONTEXT)], reference_only=reference_only).unreadable[1]
    parts = []
    try:
        for start, stop, form in cut(data, target_bytes):
            parts.append(parse([Piece(1, data[start:stop], CONTEXT, form)], reference_only=reference_only))
    except WrongCut:
        return
    assert 1 in _joined(parts, {}).unreadable


def test_a_line_that_is_json_but_for_its_encoding_is_a_discard_like_others() -> None:
    """It is kept as JSON, not as the text of a line, and is looked at beside the other malformed lines all the same."""
    data = order(1).encode() + b'\n{"order_id":"\xff","created_at":"2026-11-19"}\n{"a\n'
    read = parse([Piece(1, data, CONTEXT)])
    assert not read.unreadable and read.tallies[1].discarded == {"malformed_record": 2}


def test_one_cut_line_among_others_is_one_discard() -> None:
    """It is no document with what follows: the other orders are applied."""
    lines = [order(1), order(2)[:20], order(3), order(4)[:-3], order(5)]
    parsed = parse([Piece(1, "\n".join(lines).encode(), CONTEXT)])
    assert not parsed.unreadable and parsed.orders.num_rows == 3 and parsed.discards.num_rows == 2


@pytest.mark.parametrize(
    "data", [b"\xff\xfe\xfd", b'[{"order_id":"\xe9"}]', b"[" * 100_000, b'{"a":1', b"[1,]", b"nul"]
)
def test_no_reason_speaks_python(data: bytes) -> None:
    """Whatever the bytes, the words are ours; of users too."""
    assert not PYTHON.search(parse([Piece(1, data, CONTEXT)]).unreadable[1])
    with pytest.raises(Unreadable) as caught:
        read(DIMENSIONS["user"], 1, data, CONTEXT)
    assert not PYTHON.search(str(caught.value))


def test_compressed_or_not_a_damaged_document_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Through the pipeline: the drop lies whole in quarantine, its reason beside it."""
    from tests.support.harness import apply_batch, open_engine

    data = f'{{"count": 2,\r\n"orders": [\r\n{order(1)},\r\n{damaged(order(2), "cut")}\r\n]}}\r\n'.encode()
    with open_engine(tmp_path) as engine:
        outcome = apply_batch(engine, tmp_path, [("a.json", data), ("b.json.gz", gzip.compress(data))], RECEIVED_AT_US)
    assert [str(result.outcome) for result in outcome.results] == ["quarantined"] * 2
    assert all("line 4, column" in (result.reason or "") for result in outcome.results)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (
            b"order_id,created_at,amount\na,2026-11-18,5\n",
            "a table whose columns are separated by commas; export orders as",
        ),
        (b"\xef\xbb\xbforder_id\tamount\r\n\r\na\t5\r\n", "a table whose columns are separated by tabs;"),
        (b"order_id;amount\na;5\n", "a table whose columns are separated by semicolons;"),
        (b"---\norders: 1\n", "YAML;"),
        (b"order_id: a\namount: 5\n", "YAML;"),
        (b"- order_id: a\n  amount: 5\n", "YAML;"),
        (b"Dear all, here are the orders\nof today\n", "plain text;"),
        (b"order_id,amount\n", "plain text;"),
        (b"nul", "plain text;"),
    ],
)
def test_what_is_no_json_is_called_what_it_seems_to_be(data: bytes, what: str) -> None:
    why = parse([Piece(1, data, CONTEXT)]).unreadable[1]
    assert f"nor line by line. It seems to be {what}" in why and "(line 1, column 1)" in why, why


@pytest.mark.parametrize("name", ["a", "orders.json"])
def test_a_tar_archive_is_called_that(name: str) -> None:
    """Also one whose first bytes could be UTF-16."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    assert "a tar archive; unpack it" in parse([Piece(1, packed.getvalue(), CONTEXT)]).unreadable[1]
