"""The files that a run reads are those that its fingerprints name, as long as the run takes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from daemon.downstream.contract import WHOLE, InputChanged
from daemon.downstream.inputs import Inputs, all_columns, only, published, schemas
from daemon.storage.ledger import Ledger
from tests.support.following import Home, day, epoch_days, file_rows

COLUMNS = (("status", "text"),)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    one = Home(tmp_path)
    one.publish(one.order(1, 1), one.order(2, 2), users="user_id,country\nu_1,DE\n")
    (tmp_path / "scratch").mkdir()
    yield one


def tables(home: Home) -> dict:
    with closing(Ledger(home.output / "state" / "ledger.sqlite", read_only=True)) as ledger:
        return published(ledger)


def viewed(home: Home, name: str = "fact_order", inputs: Inputs | None = None, folder: str = "scratch") -> list[Path]:
    """The paths that a run is given for a table."""
    place = home.root / folder
    place.mkdir(exist_ok=True)
    found = (inputs or Inputs(home.output)).views({name: tables(home)[name]}, schemas(()), place)
    return [Path(path) for path in found[name].paths]


def path_of(home: Home, number: int) -> Path:
    return home.output / "curated" / f"date={day(number)}" / "fact_order.parquet"


def test_what_is_published_is_what_the_ledger_has(home: Home) -> None:
    """A file by date, and one for a dimension; one that nobody sent has none."""
    found = tables(home)
    assert found.keys() == {"fact_order", "order_items", "dim_user", "dim_product"}
    assert found["fact_order"].keys() == found["order_items"].keys() == {epoch_days(day(1)), epoch_days(day(2))}
    assert found["dim_user"].keys() == {WHOLE} and found["dim_product"] == {}
    for table in found.values():
        assert all((home.output / file.path).exists() for file in table.values())


def test_files_are_linked_not_copied(home: Home) -> None:
    """By date; the same file under another name."""
    for path, number in zip(viewed(home), (1, 2), strict=True):
        assert path.samefile(path_of(home, number))


def test_a_link_keeps_what_a_later_batch_replaces(home: Home) -> None:
    """A run sees one state, however long it takes."""
    (path, _), before = viewed(home), file_rows(path_of(home, 1))
    home.publish(home.order(1, 1, 99))
    assert file_rows(path) == before != file_rows(path_of(home, 1))


@pytest.mark.parametrize("error", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_where_links_are_not_possible_files_are_copied(home: Home, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """With the same content, and checked each time."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "link", refuse)
    inputs = Inputs(home.output)
    (path, _) = viewed(home, inputs=inputs)
    assert not path.samefile(path_of(home, 1)) and path.read_bytes() == path_of(home, 1).read_bytes()
    content = bytearray(path_of(home, 1).read_bytes())
    content[50] ^= 1
    path_of(home, 1).write_bytes(content)
    with pytest.raises(InputChanged):
        viewed(home, inputs=inputs, folder="again")


def test_another_error_of_a_link_is_not_hidden(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is told as such."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OSError, match="No space"):
        viewed(home)


@pytest.mark.parametrize("known", [False, True])
def test_a_damaged_file_is_never_read(home: Home, known: bool) -> None:
    """A flipped bit is found, also in a file that was right before; so is a file of another batch, and one that is gone."""
    inputs = Inputs(home.output)
    if known:
        viewed(home, inputs=inputs)
    good = path_of(home, 1).read_bytes()
    bad = bytearray(good)
    bad[60] ^= 1
    for number, content in enumerate((bytes(bad), path_of(home, 2).read_bytes(), b"", None)):
        path_of(home, 1).unlink()
        if content is not None:
            path_of(home, 1).write_bytes(content)
        with pytest.raises(InputChanged, match=r"curated/date=2026-03-02/fact_order\.parquet"):
            viewed(home, inputs=inputs, folder=f"scratch{number}")
        path_of(home, 1).write_bytes(good)
    assert len(viewed(home, inputs=inputs, folder="healed")) == 2


def test_a_file_is_read_once_to_be_checked(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it is the same."""
    read: list[Path] = []
    kept = Inputs.link.__globals__["files"].sha256_of

    def counted(path: Path) -> bytes:
        read.append(path)
        return kept(path)

    monkeypatch.setattr("daemon.downstream.inputs.files.sha256_of", counted)
    inputs = Inputs(home.output)
    viewed(home, inputs=inputs)
    viewed(home, inputs=inputs, folder="again")
    assert len(read) == 2


def test_the_files_of_some_dates_are_chosen(home: Home) -> None:
    """Of a table without dates, always its one file."""
    found, wanted = tables(home), epoch_days(day(1))
    assert only(found["fact_order"], {wanted}).keys() == {wanted}
    assert only(found["fact_order"], None) == found["fact_order"]
    assert only(found["dim_user"], set()) == found["dim_user"]


def test_extra_columns_are_those_of_the_files_and_of_the_configuration(tmp_path: Path) -> None:
    """Together; a file that lacks one shows NULL."""
    home = Home(tmp_path, COLUMNS)
    home.publish(home.order(1, 1, status="paid"))
    assert all_columns(tables(home), (("tip", "decimal"),)) == (("status", "text"), ("tip", "decimal"))
    assert schemas(COLUMNS)["fact_order"].names[-1] == "status"
