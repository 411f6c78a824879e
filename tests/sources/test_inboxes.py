"""The folders of several sources, scanned and watched as one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.core.retry import Backoff
from daemon.sources.inbox import Inbox
from daemon.sources.inboxes import Inboxes
from daemon.sources.source_folder import SourceFolder, place_of, source_of
from daemon.sources.strays import strays
from daemon.sources.watcher import Watcher
from daemon.sources.watchers import Watchers
from tests.support.daemon_process import until

FUTURE = 10**10


def places(inbox: Path) -> list[SourceFolder]:
    found = [SourceFolder(inbox), SourceFolder(inbox, "shop", "shop"), SourceFolder(inbox, "eu/web", "web")]
    for place in found:
        place.make()
    return found


def inboxes(inbox: Path) -> Inboxes:
    return Inboxes([Inbox(place, 0.0, Backoff(1, 100.0, 100.0)) for place in places(inbox)])


def put(path: Path, age: int, content: bytes = b"[]") -> None:
    path.write_bytes(content)
    os.utime(path, (1000 - age, 1000 - age))


def test_files_in_folders_that_no_source_names_are_counted(tmp_path: Path) -> None:
    """At any depth, also beside the folder of a source or inside it, or on the way to one; nothing else is counted."""
    inbox = tmp_path / "inbox"
    found = places(inbox)
    for folder in ("mine", "mine/deep", "eu/web/old", ".hidden", "@eaDir", "empty"):
        (inbox / folder).mkdir(parents=True)
    for name in (
        "a.json", "shop/a.json", "eu/web/a.json", "eu/a.json", "mine/a.json", "mine/b.xml", "mine/.c.json", "mine/d.json.part",
        "mine/Thumbs.db", "mine/deep/a.json", "eu/web/old/a.json", ".hidden/a.json", "@eaDir/a.json",
    ):  # fmt: skip
        put(inbox / name, 0)
    (inbox / "link").symlink_to(tmp_path)
    (inbox / "mine" / "link.json").symlink_to(inbox / "a.json")
    put(tmp_path / "outside.json", 0)
    expected = {"eu": 1, "eu/web/old": 1, "mine": 2, "mine/deep": 1}
    assert strays(found, ["Thumbs.db", "@*"]) == expected
    assert strays(found[:1], ["Thumbs.db", "@*"]) == expected | {"shop": 1, "eu/web": 1}
    assert inboxes(inbox).strays() == sum(strays(found).values()) == 7


def test_counting_files_that_no_source_takes_is_bounded(tmp_path: Path) -> None:
    """A folder of many files, or one inside the other, costs no more than a few thousand files."""
    for number in range(2_500):
        put(tmp_path / f"{number}.json", 0)
    (tmp_path / "mine").mkdir()
    assert strays(places(tmp_path)) == {}
    deep = tmp_path / "shop" / "/".join("d" * 60)
    deep.mkdir(parents=True)
    put(deep / "a.json", 0)
    assert strays([SourceFolder(tmp_path / "shop")]) == {}


def test_drops_of_all_folders_come_in_order_of_arrival(tmp_path: Path) -> None:
    """Each with its source, and a label that no other file has. Names of folders that a source has are not reported."""
    found = inboxes(tmp_path)
    put(tmp_path / "a.json", 3)
    put(tmp_path / "shop" / "a.json", 4)
    put(tmp_path / "eu" / "web" / "b.json", 2)
    put(tmp_path / "shop" / "c.json", 1)
    (tmp_path / "eu" / "other").mkdir()
    put(tmp_path / "eu" / "other" / "unseen.json", 5)
    put(tmp_path / "eu" / "unseen.json", 5)
    (tmp_path / "unnamed").mkdir()
    put(tmp_path / "shop" / "x.json.part", 1)
    (tmp_path / "shop" / "link.json").symlink_to("c.json")
    look = found.scan(FUTURE)
    assert [(one.label, one.source) for one in look.settled] == [
        ("shop/a.json", "shop"), ("a.json", "default"), ("eu/web/b.json", "web"), ("shop/c.json", "shop"),
    ]  # fmt: skip
    assert [one.name for one in look.newly_unusable] == ["unnamed", "shop/link.json"]
    assert look.unfinished == 1 and look.oldest == 996
    assert found.names() == {
        "a.json",
        "shop/a.json",
        "eu/web/b.json",
        "shop/c.json",
        "shop/link.json",
        "shop",
        "eu",
        "unnamed",
    }
    assert [one.name for one in found.scan(FUTURE).newly_unusable] == []


def test_a_drop_that_is_put_off_waits_in_its_own_folder_only(tmp_path: Path) -> None:
    """The same name in another folder is another file."""
    found = inboxes(tmp_path)
    put(tmp_path / "a.json", 2)
    put(tmp_path / "shop" / "a.json", 1)
    found.put_off(found.scan(FUTURE).settled[1])
    look = found.scan(FUTURE)
    assert [one.label for one in look.settled] == ["a.json"] and look.waiting == ["shop/a.json"]


def test_a_closing_settles_the_file_of_that_folder(tmp_path: Path) -> None:
    """What an event says of shop/a.json is not said of a.json."""
    found = Inboxes([Inbox(place, 3600.0, Backoff(1, 0.1, 0.1)) for place in places(tmp_path)])
    for path in (tmp_path / "a.json", tmp_path / "shop" / "a.json"):
        path.write_bytes(b"[]")
    look = found.scan(time.time(), {"shop/a.json"})
    assert [one.label for one in look.settled] == ["shop/a.json"] and look.waiting == ["a.json"]


@pytest.mark.parametrize("what", ["link", "file", "link above", "gone"])
def test_only_a_real_folder_is_the_folder_of_a_source(tmp_path: Path, what: str) -> None:
    """Not a link, at any level, wherever it leads; nothing in it is looked at, and nothing is created behind it."""
    inbox, outside = tmp_path / "inbox", tmp_path / "outside"
    found = inboxes(inbox)
    (outside / "web").mkdir(parents=True)
    put(outside / "web" / "secret.json", 1)
    put(inbox / "a.json", 1)
    (inbox / "eu" / "web").rmdir()
    if what == "link":
        (inbox / "eu" / "web").symlink_to(outside / "web")
    elif what == "file":
        put(inbox / "eu" / "web", 1)
    elif what == "link above":
        (inbox / "eu").rmdir()
        (inbox / "eu").symlink_to(outside)
    place = SourceFolder(inbox, "eu/web", "web")
    actions: list[Callable[[], object]] = [lambda: found.scan(FUTURE), place.open, place.identity]
    for act in [*actions, place.make] if what != "gone" else actions:
        with pytest.raises(FileNotFoundError if what == "gone" else NotADirectoryError) as raised:
            act()
        assert str(inbox / "eu") in str(raised.value)
    assert os.listdir(outside / "web") == ["secret.json"]


def test_making_a_folder_twice_changes_nothing(tmp_path: Path) -> None:
    """As each start does."""
    place = SourceFolder(tmp_path / "new" / "inbox", "a/b", "x")
    place.make()
    before = place.identity()
    place.make()
    assert place.identity() == before and place.path.is_dir()


def test_the_source_of_a_file_is_that_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever path it is named; a folder that no source names is none."""
    found = places(tmp_path / "inbox")
    monkeypatch.chdir(tmp_path / "inbox" / "shop")
    asked = {"a.json": "shop", "../a.json": "default", "../eu/web/a.json": "web", "../eu/a.json": None, "/a.json": None}
    assert {path: source_of(Path(path), found) for path in asked} == asked
    assert place_of("web", found).below == "eu/web"


def watching(inbox: Path, bell: threading.Event) -> Watchers:
    return Watchers([Watcher(place, "native", 10.0, bell.set) for place in places(inbox)])


def heard(found: Watchers, *labels: str) -> set[str]:
    names: set[str] = set()

    def all_heard() -> bool:
        names.update(found.take().names)
        return names >= set(labels)

    until(all_heard, f"{labels} are heard")
    return names


def test_events_of_each_folder_have_its_labels_and_those_of_others_cost_nothing(tmp_path: Path) -> None:
    """In a folder that no source names, nothing is watched."""
    (tmp_path / "eu" / "other").mkdir(parents=True)
    found = watching(tmp_path, threading.Event())
    try:
        found.check()
        assert found.up and found.watch == 3
        for path in ("eu/other/x.json", "eu/y.json", "a.json", "shop/a.json", "eu/web/b.json"):
            put(tmp_path / path, 1)
        assert heard(found, "a.json", "shop/a.json", "eu/web/b.json") == {"a.json", "shop/a.json", "eu/web/b.json"}
    finally:
        found.stop()


def test_a_folder_that_is_replaced_is_watched_again_and_a_link_never_is(tmp_path: Path) -> None:
    """Each folder by itself."""
    inbox, outside = tmp_path / "inbox", tmp_path / "outside"
    outside.mkdir()
    found = watching(inbox, threading.Event())
    try:
        assert found.check() == [] and found.check() == []
        (inbox / "shop").rename(tmp_path / "away")
        (inbox / "shop").symlink_to(outside)
        (note,) = found.check()
        assert "the folder of source shop" in note and "neither a link nor a file" in note and not found.up
        put(outside / "secret.json", 1)
        put(inbox / "a.json", 1)
        assert not [name for name in heard(found, "a.json") if "secret" in name]
        (inbox / "shop").unlink()
        (inbox / "shop").mkdir()
        assert found.check() == ["the folder of source shop is back: watching it again"] and found.up
        put(inbox / "shop" / "b.json", 1)
        heard(found, "shop/b.json")
    finally:
        found.stop()


def test_the_watch_is_on_the_folder_that_was_opened(tmp_path: Path) -> None:
    """A path that is swapped for a link between the check and the watch leads nowhere."""
    place = SourceFolder(tmp_path / "inbox", "shop", "shop")
    place.make()
    (tmp_path / "outside").mkdir()
    opened = place.open()
    place.path.rename(tmp_path / "away")
    place.path.symlink_to(tmp_path / "outside")
    assert os.stat(opened.watch_path).st_ino == opened.identity[1] != os.stat(place.path).st_ino
