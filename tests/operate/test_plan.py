"""A dry run while somebody else publishes: what moved on is looked at again, and what is damaged is said to be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.batch import pipeline
from daemon.batch.engine import Engine
from daemon.batch.pipeline import publish_committed
from daemon.core.errors import Corruption, EnvironmentFault, UsageError
from daemon.core.model import ParseContext
from daemon.operate import plan as dry
from daemon.storage.ledger import Ledger
from daemon.storage.set_aside import SetAside
from daemon.storage.store import Store
from tests.support.command import order
from tests.support.harness import DAY, apply_batch, open_engine

NOW = 1_780_000_000_000_000
CONTEXT = ParseContext(NOW, DAY)
USERS = b"user_id,email,created_at,country\nu_1,,2026-01-01,NA\n"


class Views:
    """The ledger as it is at each look; the `stale` ones come first."""

    def __init__(self, path: Path, *stale: Ledger) -> None:
        self.looks = 0
        self._path, self._stale = path, list(stale)

    def __call__(self) -> Ledger:
        self.looks += 1
        return self._stale.pop(0) if self._stale else Ledger(self._path, read_only=True)


@contextmanager
def applied(root: Path) -> Iterator[Engine]:
    """An output of one order and one user, with its owner at work."""
    with open_engine(root) as engine:
        drops = [("a.json", json.dumps([order(1, user_id="u_1")]).encode()), ("users.csv", USERS)]
        apply_batch(engine, root, drops, NOW)
        yield engine


def view_of(engine: Engine) -> Ledger:
    return Ledger(engine.ledger.path, read_only=True)


def planned(engine: Engine, root: Path, views: Views, name: str = "b.json") -> dry.Plan:
    """What would become of another order of the same date (or of another user)."""
    content = USERS + b"u_2,,,DE\n" if name == "users.csv" else json.dumps([order(2, user_id="u_1")]).encode()
    (root / name).write_bytes(content)
    (root / "scratch").mkdir(exist_ok=True)
    with closing(view_of(engine)) as ledger:
        looking = replace(engine, ledger=ledger, store=Store(engine.output, root / "scratch"), dry=True)
        return dry.plan(looking, views, root / name, CONTEXT)


def another(engine: Engine, root: Path) -> None:
    """A batch that replaces both published files."""
    drops = [("c.json", json.dumps([order(3)]).encode()), ("users.csv", USERS + b"u_3,,,FR\n")]
    apply_batch(engine, root, drops, NOW)


@pytest.mark.parametrize("name", ["b.json", "users.csv"])
def test_files_that_moved_on_since_the_ledger_was_looked_at_are_looked_at_again(tmp_path: Path, name: str) -> None:
    """A batch came in between: nothing is damaged."""
    with applied(tmp_path) as engine:
        views = Views(engine.ledger.path, view_of(engine))
        another(engine, tmp_path)
        found = planned(engine, tmp_path, views, name)
        assert found.result.counts.new == 1
        assert [(one.orders_before, one.orders) for one in found.written] == ([(2, 3)] if name == "b.json" else [])


@pytest.mark.parametrize("name", ["b.json", "users.csv"])
def test_files_that_are_committed_and_not_yet_published_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The ledger is ahead of the files for a moment."""
    with applied(tmp_path) as engine:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(pipeline, "publish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
            another(engine, tmp_path)
        views = Views(engine.ledger.path)
        monkeypatch.setattr(dry.time, "sleep", lambda _: publish_committed(engine, recovering=True))
        assert planned(engine, tmp_path, views, name).result.counts.new == 1


def test_files_that_never_rest_are_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends, and says what it saw."""
    monkeypatch.setattr(dry.time, "sleep", lambda _: None)
    with applied(tmp_path) as engine:
        views = Views(engine.ledger.path, *(view_of(engine) for _ in range(2 * dry._TRIES)))
        another(engine, tmp_path)
        monkeypatch.setattr(dry, "_is_unchanged", lambda *_: False)
        with pytest.raises(EnvironmentFault, match="being replaced"):
            planned(engine, tmp_path, views)


@pytest.mark.parametrize(
    ("damaged", "name"),
    [
        ("date=2026-03-02/fact_order.parquet", "b.json"),
        ("dim_user.parquet", "b.json"),
        ("dim_user.parquet", "users.csv"),
    ],
)
@pytest.mark.parametrize("lost", [False, True])
def test_a_damaged_file_is_named_at_once(tmp_path: Path, damaged: str, name: str, lost: bool) -> None:
    """Where nobody is at work there is nothing to wait for; also a dimension is no empty one."""
    with applied(tmp_path) as engine:
        path = engine.store.curated / damaged
        rest = b"" if lost else path.read_bytes() + b"x"
        path.unlink()
        if rest:
            path.write_bytes(rest)
        views = Views(engine.ledger.path)
        with pytest.raises(Corruption, match="2026-03-02" if "date" in damaged else "dim_user"):
            planned(engine, tmp_path, views, name)
        assert views.looks == 2


def test_a_date_that_is_set_aside_is_named_and_the_others_are_planned(tmp_path: Path) -> None:
    """The drop would be applied, but the date would not change before it is mended."""
    with applied(tmp_path) as engine:
        (engine.store.curated / "date=2026-03-02" / "fact_order.parquet").write_bytes(b"damaged")
        engine.ledger.set_one_aside(SetAside("2026-03-02", NOW, "damaged"))
        found = planned(engine, tmp_path, Views(engine.ledger.path))
        assert found.result.counts.new == 1 and not found.written and found.waiting == ["2026-03-02"]
        shown = dry.table(found).splitlines()
        assert shown[-2:] == ["Set aside, and changed once they are mended: see `strandline status`", "  2026-03-02"]
        assert dry.as_dict(found)["set_aside"] == ["2026-03-02"]


def test_a_drop_that_would_wait_for_a_dimension_is_said_to(tmp_path: Path) -> None:
    with applied(tmp_path) as engine:
        engine.ledger.set_one_aside(SetAside("dim_user.parquet", NOW, "damaged"))
        with pytest.raises(UsageError, match=r"applied once dim_user\.parquet is no longer set aside"):
            planned(engine, tmp_path, Views(engine.ledger.path), "users.csv")
        assert planned(engine, tmp_path, Views(engine.ledger.path)).waiting == []
