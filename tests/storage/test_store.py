"""The staging folder of the curated layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.core.model import FACT
from daemon.storage import files
from daemon.storage.store import Store


@pytest.mark.parametrize("dates", [1, 150])
def test_all_that_is_staged_is_synced_files_before_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dates: int
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync", lambda path: synced.append(Path(path)))
    monkeypatch.setattr(files, "_syncfs", None)
    store = Store(tmp_path)
    store.staging.mkdir()
    stage = store.stage(7)
    staged = [stage.put(day, FACT.empty_table(), is_new=day % 2 == 0) for day in range(dates)]
    discards = tmp_path / ".staging" / "7" / "discarded" / "1.jsonl"
    discards.parent.mkdir()
    discards.write_bytes(b"{}")
    store.sync_staged(7)
    folders = [path for path in synced if path.is_dir()]
    assert set(synced) == {store.staging, *store.staging.rglob("*")} and len(synced) == len(set(synced))
    assert synced[-len(folders) :] == folders
    assert {discards, *(path for one in staged for path in store.staged_files(7, one))} == set(synced) - set(folders)


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in it would be committed without having been synced."""
    store = Store(tmp_path)
    store.staging.mkdir()
    store.stage(7).put(1, FACT.empty_table(), is_new=True)

    def scandir(path: str) -> None:
        raise OSError(5, "Input/output error", path)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output"):
        patch.setattr("os.scandir", scandir)
        store.sync_staged(7)


def test_a_batch_that_staged_nothing_has_nothing_to_sync(tmp_path: Path) -> None:
    Store(tmp_path).sync_staged(7)
    assert not list(tmp_path.iterdir())
