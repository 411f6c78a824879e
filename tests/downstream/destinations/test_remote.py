"""How a round talks to a destination: what it hands over, how often it asks, what it says where a library is missing, and that no
secret passes through it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from daemon.core.errors import Unavailable
from daemon.core.retry import Backoff
from daemon.downstream import follow
from daemon.downstream.contract import WHOLE, DownstreamFailed
from daemon.downstream.destinations import remote
from daemon.downstream.destinations.store import Delivered, Target
from daemon.downstream.inputs import Inputs
from daemon.operate.downstreams import refresh
from daemon.storage.ledger import Ledger
from daemon.storage.set_aside import SetAside
from tests.downstream.worlds import ORDERS
from tests.support.following import LIMITS, Home, InlineWorker, day, never

KINDS = [("load", "adbc_driver_postgresql", "postgres"), ("table", "deltalake", "delta"), ("mirror", "obstore", "s3")]


class Listening(InlineWorker):
    """Answers for destinations itself, and remembers what it was asked."""

    def __init__(self, answer: Callable[[str, Target, Any], Any]) -> None:
        super().__init__(LIMITS)
        self.calls: list[tuple[str, Target]] = []
        self._answer = answer

    def call(self, what: str, function: str, *arguments: Any, **more: Any) -> Any:
        if not function.startswith("destination"):
            return super().call(what, function, *arguments, **more)
        self.calls.append((function, arguments[0]))
        return self._answer(function, *arguments[:2])


def has_nothing(function: str, *_: object) -> Any:
    return {} if function == "destination_contents" else Delivered()


def world(root: Path, text: str) -> Home:
    home = Home(root)
    home.publish(*(home.order(one.number, one.on, one.amount, one.user) for one in ORDERS))
    home.destinations(text)
    return home


@pytest.mark.parametrize(("kind", "library", "extra"), KINDS)
def test_a_missing_library_is_named_with_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, library: str, extra: str
) -> None:
    """In the error of that destination. The worker process finds what a package that is not installed does."""
    missing = tmp_path / "missing" / library
    missing.mkdir(parents=True)
    (missing / "__init__.py").write_text(f"raise ModuleNotFoundError('there is none', name='{library}')")
    monkeypatch.setenv("PYTHONPATH", str(missing.parent))
    home = world(tmp_path, f'[{kind}.d]\n{"dsn" if kind == "load" else "url"} = "s3://bucket/x"\n')
    found = home.round()["d"]
    assert library in found.error and f"pip install 'strandline[{extra}]'" in found.error and found.stale == 5


def test_a_redshift_gets_the_place_of_its_mirror_and_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It copies from there, so the mirror must be up to date before."""
    monkeypatch.setenv("KEY", "a-key-of-the-mirror")
    home = world(
        tmp_path,
        '[load.red]\ndsn = "postgresql://u@h/d"\ndialect = "redshift"\nmirror = "lake"\n'
        '[mirror.lake]\nurl = "s3://bucket/x"\noptions = { access_key_id = "${KEY}" }\n',
    )
    worker = Listening(has_nothing)
    found = home.round(worker)
    assert not found["red"].error and not found["lake"].error
    (target,) = {target.name: target for _, target in worker.calls if target.kind == "load"}.values()
    assert target.values["mirror_url"] == "s3://bucket/x"
    assert target.values["mirror_options"] == {"access_key_id": "a-key-of-the-mirror"}
    assert "a-key-of-the-mirror" not in repr(target)

    def fails(function: str, target: Target, *_: object) -> Any:
        if target.kind == "mirror":
            raise Unavailable("the bucket is away")
        return has_nothing(function)

    home.publish(home.order(1, 1, 77))
    found = home.round(Listening(fails))
    assert found["lake"].error == "the bucket is away" and found["red"].error == "it waits for lake"


def test_a_destination_is_asked_once_a_minute_while_nothing_changes(tmp_path: Path) -> None:
    """And again when it failed, or another process begins."""
    home, has = world(tmp_path, '[mirror.m]\nurl = "s3://bucket/x"\n'), {}

    def answer(function: str, target: Target, delivery: Any = None) -> Any:
        if function == "destination_contents":
            return dict(has)
        has.update({one.key: one.sha256 for one in delivery.changes})
        return Delivered()

    worker, clock = Listening(answer), [1000.0]
    with mock.patch.object(remote, "time", mock.Mock(monotonic=lambda: clock[0])), home.following(worker) as following:
        for seconds in (0, 10, 30, 59, 61):
            clock[0] = 1000.0 + seconds
            assert [one.error for one in following.round(never)] == [""]
        asked = [name for name, _ in worker.calls]
        assert asked == ["destination_contents", "destination_deliver", "destination_contents"]


@pytest.mark.parametrize("error", [Unavailable, DownstreamFailed])
def test_no_secret_of_a_setting_is_in_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Any) -> None:
    """Neither the whole of it nor the password in it, if a library repeats one."""
    monkeypatch.setenv("DSN", "postgresql://loader:pa55-w0rd%21@db.example.com/shop")
    home = world(tmp_path, '[load.l]\ndsn = "${DSN}"\n')

    def fails(_: str, target: Target, *__: object) -> Any:
        raise error(f"cannot connect to {target.values['dsn']}: password pa55-w0rd%21 is wrong")

    found = home.round(Listening(fails))["l"]
    assert "cannot connect" in found.error and "pa55" not in found.error
    monkeypatch.delenv("DSN")
    assert "the environment variable DSN is missing" in home.round(Listening(fails))["l"].error


def test_a_delivery_has_what_differs_and_nothing_else(tmp_path: Path) -> None:
    """Links of the files, their checksums, and the schemas of these tables."""
    home, seen = world(tmp_path, '[table.t]\nurl = "lake"\ntables = ["fact_order"]\n'), []

    def answer(function: str, _: Target, delivery: Any = None) -> Any:
        if function == "destination_contents":
            return {("fact_order", 1): b"gone" * 8, ("another", 1): b"not asked for" * 2}
        seen.append((delivery, [one.path and one.path.read_bytes()[:4] for one in delivery.changes]))
        return Delivered(rows=5)

    assert home.round(Listening(answer))["t"].rows == 5
    ((delivery, contents),) = seen
    assert {one.table for one in delivery.changes} == {"fact_order"} and len(delivery.changes) == 6
    assert contents == [None, *[b"PAR1"] * 5] and delivery.changes[0].date == 1
    assert set(delivery.schemas) == {"fact_order"} and delivery.batch == 1


def test_a_slow_one_keeps_nothing_from_the_others(tmp_path: Path) -> None:
    """A batch is published during each delivery of the first: the second is brought what there is when it is its turn."""
    home = world(tmp_path, '[mirror.slow]\nurl = "s3://bucket/x"\n[table.other]\nurl = "s3://bucket/y"\n')
    delivered: dict[str, int] = {"slow": 0, "other": 0}

    def answer(function: str, target: Target, delivery: Any = None) -> Any:
        if function == "destination_contents":
            return {}
        delivered[target.name] += 1
        if target.name == "slow":
            home.publish(home.order(1, 1, 100 + delivered["slow"]))
        return Delivered()

    found = home.round(Listening(answer))
    assert delivered == {"slow": 1, "other": 1} and not found["slow"].error and not found["other"].error


def test_a_file_that_changes_while_it_is_linked_is_no_damage(tmp_path: Path) -> None:
    """The same destination is tried again with what is published then."""
    home = world(tmp_path, '[mirror.m]\nurl = "s3://bucket/x"\n')
    link, changed = Inputs.link, []

    def changing(self: Inputs, *arguments: Any) -> Any:
        if not changed:
            changed.append(True)
            home.publish(home.order(1, 1, 99))
        return link(self, *arguments)

    with mock.patch.object(Inputs, "link", changing):
        found = home.round(Listening(has_nothing))["m"]
    assert changed and not found.error and found.files == 10
    (home.output / "curated" / f"date={day(1)}" / "fact_order.parquet").write_bytes(b"damaged")
    with mock.patch.object(follow, "_CHANGED_TRIES", 2):
        assert "it is damaged: run `strandline rebuild`" in home.round(Listening(has_nothing))["m"].error


def test_a_refresh_ends_the_wait_after_a_failure(tmp_path: Path) -> None:
    """Whoever has mended something need not wait a quarter of an hour."""
    home, fails = world(tmp_path, '[mirror.m]\nurl = "s3://bucket/x"\n'), [True]

    def answer(function: str, *_: object) -> Any:
        if fails:
            raise Unavailable("away")
        return has_nothing(function)

    with home.following(Listening(answer), backoff=Backoff(3, 600.0, 600.0)) as following:
        assert following.round(never)[0].failures == 1
        fails.clear()
        assert following.round(never)[0].error == "away"
        refresh(home.output, "m", None)
        assert following.round(never)[0].error == ""


@pytest.mark.parametrize("is_there", [True, False])
def test_a_dimension_that_is_set_aside_waits_only_where_it_is_not_there(tmp_path: Path, *, is_there: bool) -> None:
    """A destination that has it gets the other one, and orders; a new one gets orders."""
    home, has = world(tmp_path, '[mirror.m]\nurl = "s3://bucket/x"\n'), {}
    home.publish(users="user_id,email\nu_1,a@example.com\n")

    def answer(function: str, target: Target, delivery: Any = None) -> Any:
        if function == "destination_contents":
            return dict(has)
        has.update({one.key: one.sha256 for one in delivery.changes})
        return Delivered()

    if is_there:
        assert not home.round(Listening(answer))["m"].error
    (home.output / "curated" / "dim_user.parquet").write_bytes(b"damaged")
    with closing(Ledger(home.output / "state" / "ledger.sqlite")) as ledger:
        ledger.set_one_aside(SetAside("dim_user.parquet", 1, "damaged"))
    home.publish(home.order(1, 1, 77))
    found = home.round(Listening(answer))["m"]
    assert (found.waiting, found.stale) == ((0, 0) if is_there else (1, 1))
    assert ("dim_user" in found.error and "`strandline status`" in found.error) is not is_there
    assert ("dim_user", WHOLE) in has if is_there else {name for name, _ in has} == {"fact_order", "order_items"}
