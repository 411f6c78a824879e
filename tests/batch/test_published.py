"""Whether two outputs have the same published file: by its hash if one writer wrote both, otherwise by its rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from daemon.batch.published import PublishedFile, is_same
from daemon.core.columns import widened
from daemon.core.mapping import Columns
from daemon.core.model import FACT
from daemon.storage.store import Store

NOTE: Columns = (("note", "text"),)
TIP: Columns = (("tip", "decimal"),)


def fact(order_id: str, columns: Columns = (), **values: object) -> pa.Table:
    """One order line, NULL but for its order."""
    row = {name: pa.nulls(1, FACT.field(name).type) for name in FACT.names}
    row["order_id"] = pa.array([order_id], FACT.field("order_id").type)
    table = widened(pa.table(row, schema=FACT), columns)
    for name, value in values.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array([value], table.schema.field(at).type))
    return table


def file(sha: bytes, rows: pa.Table | None, writer: str = "now", columns: Columns = ()) -> PublishedFile:
    return PublishedFile(sha, writer, lambda _: rows, columns)


@pytest.fixture
def same(tmp_path: Path) -> Callable[[PublishedFile | None, PublishedFile | None], bool]:
    """Whether a published file equals a rebuilt one, each in a store of its own."""
    published, rebuilt = (Store(tmp_path / name) for name in ("published", "rebuilt"))
    return lambda ours, theirs: is_same(published, ours, rebuilt, theirs)


Same = Callable[[PublishedFile | None, PublishedFile | None], bool]


def test_files_of_one_writer_are_the_same_if_their_bytes_are(same: Same) -> None:
    """Their rows are not read."""
    unread = PublishedFile(b"1", "now", lambda _: pytest.fail("it was read"))
    assert same(unread, unread)
    assert not same(unread, PublishedFile(b"2", "now", unread.read))


def test_the_same_bytes_are_the_same_whoever_wrote_them(same: Same) -> None:
    assert same(file(b"1", None, "before"), file(b"1", None))


def test_files_of_two_writers_are_the_same_if_their_rows_are(same: Same) -> None:
    assert same(file(b"1", fact("a"), "before"), file(b"2", fact("a")))
    assert not same(file(b"1", fact("a"), "before"), file(b"2", fact("b")))


def test_an_extra_column_that_a_file_lacks_is_null_there(same: Same) -> None:
    """In either file, and in both at once."""
    plain, null = file(b"1", fact("a")), file(b"2", fact("a", NOTE), columns=NOTE)
    assert same(plain, null) and same(null, plain)
    assert same(null, file(b"3", fact("a", TIP), columns=TIP))
    assert not same(plain, file(b"3", fact("a", NOTE, note="x"), columns=NOTE))
    assert not same(plain, file(b"3", fact("b", NOTE), columns=NOTE))


def test_a_file_that_one_of_them_lacks_is_another(same: Same) -> None:
    assert not same(file(b"1", fact("a")), None)
    assert not same(None, file(b"1", fact("a")))


@pytest.mark.parametrize("columns", [(), NOTE])
def test_a_published_file_that_cannot_be_read_is_reported_elsewhere(same: Same, columns: Columns) -> None:
    """As damaged; a rebuilt one that cannot be read shows nothing."""
    assert same(file(b"1", None, "before"), file(b"2", fact("a", columns), columns=columns))
    assert not same(file(b"1", fact("a"), "before"), file(b"2", None, columns=columns))
