"""A delivery to a Delta table or a mirror that is killed anywhere: the next one makes all right and leaves nothing over."""

from __future__ import annotations

import ast
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import obstore
import pytest
from deltalake import DeltaTable

from daemon.core.errors import StrandlineError
from daemon.downstream.destinations import delta_table, object_store
from daemon.downstream.destinations.objects import INDEX, MANIFEST
from daemon.downstream.destinations.store import Store, Target
from tests.downstream.lakes import World, files_below, opened, rows_of, target
from tests.support import REPO, s3
from tests.support.examples import LONG

_OF_OS = ("replace", "unlink", "rmdir", "mkdir")


class _Crash(BaseException):
    """Nothing can be changed after it."""


@contextmanager
def crashing(last: int) -> Iterator[Callable[[], int]]:
    """The `last`-th change, and every later one, is not possible. Yields how many there were."""
    done = 0

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            nonlocal done
            done += 1
            if done >= last:
                raise _Crash
            return work(*arguments, **named)

        return step

    with (
        mock.patch.multiple(os, **{name: counted(getattr(os, name)) for name in _OF_OS}),
        mock.patch.object(object_store, "_AT_ONCE", 1),
        mock.patch.object(shutil, "copyfile", counted(shutil.copyfile)),
        mock.patch.object(Path, "write_bytes", counted(Path.write_bytes)),
        mock.patch.multiple(obstore, put=counted(obstore.put), delete=counted(obstore.delete)),
        mock.patch.object(DeltaTable, "create_write_transaction", counted(DeltaTable.create_write_transaction)),
        mock.patch.object(
            delta_table, "create_table_with_add_actions", counted(delta_table.create_table_with_add_actions)
        ),
    ):
        yield lambda: done


@pytest.fixture(scope="module")
def bucket() -> Iterator[Callable[[str], tuple[str, dict[str, str]]]]:
    """Makes a bucket; its URL, and the options."""
    with s3.server() as url:
        yield lambda name: (s3.bucket(url, name), s3.options(url))


@pytest.mark.parametrize("kind", ["table", "mirror"])
@pytest.mark.parametrize("place", ["folder", "bucket"])
@pytest.mark.parametrize("seed", range(3 if LONG else 1))
def test_killed_at_any_change(
    tmp_path: Path, kind: str, place: str, seed: int, bucket: Callable[[str], tuple[str, dict[str, str]]]
) -> None:
    """Before each change to files, objects and logs. Meanwhile other files become wanted, and dates go."""
    (tmp_path / "published").mkdir()
    chance, world, last = random.Random(seed), World(tmp_path / "published"), 0
    url, options = (str(tmp_path / "there"), {}) if place == "folder" else bucket(f"{kind}-{seed}")
    where = target(kind, url, options, vacuum=0) if kind == "table" else target(kind, url, options)
    crashes, stride = 0, 1 if place == "folder" or LONG else 2  # a request takes longer than a rename
    while True:
        last += stride
        wanted_before = dict(world.wanted)
        for _ in range(4):
            world.step(chance)
        store = opened(where)
        delivery = world.delivery(store)
        try:
            with crashing(last) as done:
                store.deliver(delivery)
        except (StrandlineError, _Crash):
            crashes += 1
        manifests_name_what_is_there(where)
        if chance.random() < 0.5:
            world.wanted = wanted_before  # what was new is not wanted any more, and what changed is wanted as it was
        world.bring(opened(where))
        equal(world, opened(where))
        if done() < last:
            break
    assert crashes > 3


def manifests_name_what_is_there(where: Target) -> None:
    """Each file of a manifest exists."""
    place = object_store.opened(where)
    names = set(listed(where))
    for name in names:
        if name.endswith(f"/{MANIFEST}"):
            found = json.loads(place.read(name) or b"{}")
            assert {f"{Path(name).parent}/{one['name']}" for one in found["files"]} <= names


def equal(world: World, store: Store) -> None:
    """All rows of tables; of a mirror all objects, and nothing else."""
    where = store.target
    for (table, date), one in world.wanted.items():
        assert one.path is not None
        assert store.difference(table, date, one.path, world.folder) == ""
    if where.kind == "table":
        options = dict(where.values["options"]) or None
        for table in {table for table, _ in world.wanted}:
            found = DeltaTable(f"{where.values['url']}/{table}", storage_options=options).to_pyarrow_table()
            assert rows_of(found, sorted(world.schemas[table].names)) == world.rows(table)
        return
    names = set(listed(where))
    manifests = {name for name in names if name.endswith(f"/{MANIFEST}")}
    # Of an index that was not finished; the next one takes its place
    files = names - manifests - {INDEX, f"{INDEX}.tmp"}
    assert len(files) == len(world.wanted)
    assert manifests == {f"{Path(name).parent}/{MANIFEST}" for name in files}


def listed(where: Target) -> list[str]:
    """The names of all files that are there."""
    url, options = where.values["url"], dict(where.values["options"])
    if "://" not in url:
        return list(files_below(Path(url)))
    allow_http = options.pop("allow_http")
    store = obstore.store.from_url(url, config=options, client_options={"allow_http": allow_http})
    return [one["path"] for page in obstore.list(store) for one in page]


@pytest.mark.parametrize("kind", ["table", "mirror"])
def test_a_writer_that_is_really_killed(tmp_path: Path, kind: str) -> None:
    """At moments that nobody chose. The next writer does not know what was wanted before."""
    (tmp_path / "published").mkdir()
    chance, url = random.Random(7), str(tmp_path / "there")
    for seed in range(12 if LONG else 3):
        command = ["-m", "tests.downstream.lake_process", "write", kind, url, str(tmp_path / "published"), str(seed)]
        process = subprocess.Popen([sys.executable, *command], cwd=REPO, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.05, 0.5))
        assert process.poll() is None
        process.kill()
        process.communicate()
        world = World(tmp_path / "published")
        world.step(random.Random(seed + 100))
        where = target(kind, url)
        world.bring(opened(where))
        equal(world, opened(where))


@pytest.mark.parametrize("library", ["deltalake", "polars"])
def test_readers_see_only_whole_batches(tmp_path: Path, library: str) -> None:
    """While all dates of a table are exchanged again and again, each read finds all rows of one batch."""
    (tmp_path / "published").mkdir()
    world, dates = World(tmp_path / "published"), range(20_000, 20_012)
    store = opened(target("table", tmp_path / "there", checkpoint=3))

    def publish(seed: int) -> None:
        for date in dates:
            world.publish("daily", date, seed=seed, count=3)  # three rows of which each has `orders` = seed
        world.bring(store)

    publish(1)
    command = [
        sys.executable,
        "-m",
        "tests.downstream.lake_process",
        "read",
        library,
        str(tmp_path / "there" / "daily"),
    ]
    process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        seen, seed = set(), 1
        os.set_blocking(process.stdout.fileno(), False)
        while len(seen) < 8 and seed < 2_000:
            seed += 1
            publish(seed)
            assert process.poll() is None
            while line := process.stdout.readline():
                ((value, count),) = ast.literal_eval(line)
                assert count == 3 * len(dates), line
                seen.add(value)
        assert len(seen) >= 8
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
