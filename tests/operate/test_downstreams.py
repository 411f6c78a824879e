"""What follows, as `downstream`, `status` and `sql` see it without a daemon, and what `refresh` refuses."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemon.cli import main
from daemon.core.errors import EnvironmentFault, UsageError
from daemon.downstream.inputs import Inputs
from daemon.downstream.records import copy
from daemon.downstream.settings import RECORDS
from daemon.observe.log import Reporter, log
from daemon.operate.downstreams import gather, refresh
from daemon.operate.sql.published import read
from daemon.storage.ledger import Ledger
from tests.support.following import DAILY, LIMITS, Home, InlineWorker, day, epoch_days, never

WORKER = InlineWorker(LIMITS)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    one = Home(tmp_path)
    one.publish(*(one.order(number, number, number) for number in range(3)))
    return one


def gathered(home: Home) -> dict[str, dict[str, Any]]:
    with closing(Ledger(home.output / "state" / "ledger.sqlite", read_only=True)) as ledger:
        return {one["name"]: one for one in gather(ledger, home.output, home.models, home.checks)}


@pytest.mark.parametrize("damage", [b"no database" * 1000, None])
def test_damaged_records_are_told_as_what_they_are(home: Home, damage: bytes | None) -> None:
    """Not as a damaged ledger, which would be moved away. The next round makes them anew."""
    home.model("daily", DAILY)
    home.round(WORKER)
    path = home.output / RECORDS
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)  # the pages behind the first one
    path.write_bytes(damage or bytes(content))
    looks = [lambda: gathered(home), lambda: read(home.output, Inputs(home.output), ())]
    if damage:  # a copy is made page by page, and whoever opens it looks into the pages
        looks.append(lambda: copy(path, home.root / "copy"))  # type: ignore[arg-type, return-value]
    for look in looks:
        with pytest.raises(EnvironmentFault) as caught:
            look()
        told = str(caught.value)
        assert str(path) in told and "the next run" in told and "move it away" not in told
    assert home.round(WORKER)["daily"].error == "" and not gathered(home)["daily"]["stale"]


def test_dates_that_a_result_does_not_have_cannot_be_refreshed(home: Home) -> None:
    """They are named, and none of the others is refreshed either."""
    home.model("daily", DAILY)
    home.round(WORKER)
    with pytest.raises(UsageError, match=f"daily has no results of {day(7)}; nothing was changed"):
        refresh(home.output, "daily", [epoch_days(day(1)), epoch_days(day(7))])
    assert not gathered(home)["daily"]["stale"]
    assert refresh(home.output, "daily", [epoch_days(day(1))]) == "model" and gathered(home)["daily"]["stale"] == 1


def test_a_name_that_has_not_run_yet_is_known(home: Home) -> None:
    """A file beside nothing, or beside what has run: it is named where it is meant, and needs no refresh."""
    with pytest.raises(UsageError, match=r"there is no model, check or destination daly; did you mean daily\?"):
        refresh(home.output, "daly", None, ["daily"])
    home.model("daily", DAILY)
    home.round(WORKER)
    with pytest.raises(UsageError, match=r"did you mean weekly\? Known are daily, weekly$"):
        refresh(home.output, "wekly", None, ["daily", "weekly"])
    with pytest.raises(UsageError, match="weekly has not run yet"):
        refresh(home.output, "weekly", None, ["daily", "weekly"])
    assert refresh(home.output, "daily", None, ["daily", "weekly"]) == "model"


@pytest.mark.parametrize("text", ["SELECT nope AS date FROM fact_order", "-- lookback: 2\nSELECT 1"])
def test_a_file_with_an_error_is_as_stale_in_status_as_in_the_metrics(home: Home, text: str) -> None:
    """Before its first round, after it, and where it was right before."""
    home.model("daily", DAILY)
    home.round(WORKER)
    home.model("daily", text)
    home.model("new", text)
    for _ in range(2):
        rounds = {name: one.stale for name, one in home.round(WORKER).items()}
        assert {name: one["stale"] for name, one in gathered(home).items()} == rounds == {"daily": 1, "new": 1}


def test_a_missing_folder_is_told(home: Home) -> None:
    """As the round tells it; a missing file as one whose results are removed."""
    path = home.model("daily", DAILY)
    home.round(WORKER)
    path.unlink()
    assert "its file is gone" in gathered(home)["daily"]["error"]
    shutil.rmtree(home.models)
    assert gathered(home)["daily"]["error"] == home.round(WORKER)["daily"].error != ""


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    found: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = found.append  # type: ignore[method-assign]
    log.addHandler(handler)
    before = log.level
    log.setLevel(logging.INFO)  # the attribute alone leaves what is cached
    yield found
    log.setLevel(before)
    log.removeHandler(handler)


def test_each_removal_is_logged(home: Home, logged: list[logging.LogRecord]) -> None:
    """With the name and the number of files."""
    path = home.model("daily", DAILY)
    home.round(WORKER)
    path.unlink()
    with home.following(WORKER) as following:
        Reporter().followed(following.round(never), 0.0)
    (one,) = logged
    assert (one.levelname, one.model, one.files) == ("INFO", "daily", 3)  # type: ignore[attr-defined]
    assert "removed" in one.getMessage()


def test_refresh_without_a_name_asks_for_that_only(capsys: pytest.CaptureFixture[str]) -> None:
    """Dates may be left out."""
    with pytest.raises(SystemExit, match="2"):
        main(["refresh"])
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("the following arguments are required: NAME") and "strandline refresh --help" in second
