"""Files in a place: a bucket of S3, GCS or Azure by obstore, or a local folder.

A file appears whole under its name, or not at all. Waiting and repeating have bounds: a request that is not answered, or refused
for a moment, is repeated some times; then it raises Unavailable. All errors are those of store_errors.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import from_url

from ...storage import files
from ..contract import DownstreamFailed
from .store import Target
from .store_errors import telling

_T = TypeVar("_T")
_AT_ONCE = 8  # requests
_PART_BYTES = 8 << 20  # of a large file; as many are in memory as _AT_ONCE × (_PARTS_AT_ONCE + 1)
_PARTS_AT_ONCE = 2
_LEDGER = "state/ledger.sqlite"  # what an output folder has
# The bounds, where `options` has no others. Those of a client are given apart from those of a store.
_CLIENT = {"connect_timeout": "10s", "timeout": "120s"}  # a part in that time
_RETRIES = {"max_retries": "8", "retry_timeout": "60s"}
_LONGEST_PAUSE_SECONDS = 5
_LATELY_SECONDS = 60  # what is older has been made durable
_CLIENT_OPTIONS = frozenset(
    {
        "allow_http", "allow_invalid_certificates", "connect_timeout", "http1_only", "http2_only", "pool_idle_timeout",
        "pool_max_idle_per_host", "proxy_url", "proxy_ca_certificate", "proxy_excludes", "read_timeout", "root_certificate",
        "timeout", "user_agent",
    }
)  # fmt: skip


class Files(ABC):
    """Files below one URL. Names have "/" between folders. `root`: the folder, if it is local. `options`: what deltalake is given
    for the same place."""

    root: Path | None = None

    def __init__(self, target: Target, url: str, options: Mapping[str, str]) -> None:
        self.where, self.url, self.options = target.where, url, options

    def upload(self, sources: Mapping[str, Path]) -> None:
        """Copies local files to these names, several at a time; they are durable then."""
        with telling(self.where, "upload files"):
            _each(lambda one: self._upload(*one), sources.items())
            self._sync(sources)

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Writes small files, several at a time; they are durable then."""
        with telling(self.where, f"write {_shown(contents)}"):
            _each(lambda one: self._write(*one), contents.items())
            self._sync(contents)

    def delete(self, names: Collection[str]) -> None:
        """Removes files. What is not there is no error."""
        with telling(self.where, f"remove {_shown(names)}"):
            self._delete(names)

    def read(self, name: str) -> bytes | None:
        """A small file; None where it is not there."""
        with telling(self.where, f"read {name}"):
            found = self._parts(name)
            return None if found is None else b"".join(bytes(part) for part in found)

    def sha256(self, name: str) -> bytes | None:
        """The SHA-256 of a file; None where it is not there."""
        with telling(self.where, f"read {name}"):
            if (found := self._parts(name)) is None:
                return None
            digest = hashlib.sha256()
            for part in found:
                digest.update(part)
            return digest.digest()

    def folders(self) -> list[str]:
        """The names of the folders at the top, in order."""
        with telling(self.where, "list its folders"):
            return sorted(self._folders())

    @abstractmethod
    def made_durable(self, folder: str) -> None:
        """After a library wrote there: makes the files directly in the folder durable that are new."""

    @abstractmethod
    def _upload(self, name: str, source: Path) -> None: ...

    @abstractmethod
    def _write(self, name: str, content: bytes) -> None: ...

    @abstractmethod
    def _delete(self, names: Collection[str]) -> None: ...

    @abstractmethod
    def _parts(self, name: str) -> Iterable[Any] | None: ...

    @abstractmethod
    def _folders(self) -> Iterable[str]: ...

    @abstractmethod
    def _sync(self, names: Iterable[str]) -> None: ...


def opened(target: Target) -> Files:
    """The place that `url` and `options` of a target name. Nothing is asked of it yet. A local folder is created."""
    url, options = str(target.values["url"]), dict(target.values.get("options") or {})
    path = url if "://" not in url else unquote(urlsplit(url).path) if urlsplit(url).scheme == "file" else None
    return _Bucket(target, url.rstrip("/"), options) if path is None else _Folder(target, Path(path).absolute())


class _Bucket(Files):
    """A bucket, or a folder in one."""

    def __init__(self, target: Target, url: str, options: Mapping[str, str]) -> None:
        super().__init__(
            target,
            url,
            _CLIENT | _RETRIES | {"backoff_config.max_backoff": f"{_LONGEST_PAUSE_SECONDS}s"} | dict(options),
        )
        given = {name.lower(): value for name, value in options.items()}
        # obstore reads the environment itself, but not for the client once an option of the client is given
        client = _CLIENT | {
            name: os.environ[f"AWS_{name.upper()}"] for name in _CLIENT_OPTIONS if f"AWS_{name.upper()}" in os.environ
        }
        client |= {name: value for name, value in given.items() if name in _CLIENT_OPTIONS}
        retries = {name: given.get(name, value) for name, value in _RETRIES.items()}
        store = {name: value for name, value in given.items() if name not in client.keys() | retries.keys()}
        with telling(self.where, "use its url and options", DownstreamFailed):
            bounds: Any = {
                "max_retries": int(retries["max_retries"]),
                "retry_timeout": timedelta(seconds=float(retries["retry_timeout"].removesuffix("s"))),
                "backoff": {"max_backoff": timedelta(seconds=_LONGEST_PAUSE_SECONDS)},
            }
            self._store: Any = from_url(url, config=store, client_options=client, retry_config=bounds)  # type: ignore[call-overload]

    def _upload(self, name: str, source: Path) -> None:
        obstore.put(self._store, name, source, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)

    def _write(self, name: str, content: bytes) -> None:
        obstore.put(self._store, name, content)

    def _delete(self, names: Collection[str]) -> None:
        if names:
            obstore.delete(self._store, sorted(names))

    def _parts(self, name: str) -> Iterable[Any] | None:
        try:
            return obstore.get(self._store, name).stream()
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise
            return None

    def _folders(self) -> Iterable[str]:
        prefix = getattr(self._store, "prefix", None)
        found = obstore.list_with_delimiter(self._store)["common_prefixes"]
        return (one.removeprefix(f"{prefix}/" if prefix else "").strip("/") for one in found)

    def _sync(self, names: Iterable[str]) -> None:
        """A put that returned is durable."""

    def made_durable(self, folder: str) -> None:
        """It is."""


class _Folder(Files):
    """A local folder. obstore would do, but it does not sync, and leaves temporary files when it is killed."""

    def __init__(self, target: Target, root: Path) -> None:
        super().__init__(target, str(root), {})
        if (root / _LEDGER).exists():
            raise DownstreamFailed(f"{self.where}: `url` is an output folder of strandline; choose another folder")
        with telling(self.where, "create its folder"):
            files.make_folder(root)
        self.root = root

    def _path(self, name: str) -> Path:
        assert self.root is not None
        return self.root / name

    def _temporary(self, name: str) -> Path:
        """The same each time, so that what a killed run left is written over; and no hidden one, so that vacuum sees it."""
        path = self._path(name)
        return path.with_name(f"{path.name}.tmp")

    def _upload(self, name: str, source: Path) -> None:
        files.make_folder(self._path(name).parent)
        shutil.copyfile(source, self._temporary(name))

    def _write(self, name: str, content: bytes) -> None:
        files.make_folder(self._path(name).parent)
        self._temporary(name).write_bytes(content)

    def _sync(self, names: Iterable[str]) -> None:
        names = list(names)
        files.sync_many([self._temporary(name) for name in names])
        for name in names:
            files.move(self._temporary(name), self._path(name))
        files.sync_many({self._path(name).parent for name in names})

    def _delete(self, names: Collection[str]) -> None:
        for name in names:
            for path in (self._path(name), self._temporary(name)):
                with suppress(FileNotFoundError, NotADirectoryError):
                    path.unlink()
        folders = {self._path(name).parent for name in names}
        files.sync_many(folder for folder in folders if folder.is_dir())
        for folder in folders:
            for empty in (folder, *folder.parents):
                if empty == self.root or not empty.is_dir():
                    break
                files.remove_folder_if_empty(empty)

    def _parts(self, name: str) -> Iterable[Any] | None:
        return _blocks(self._path(name)) if self._path(name).is_file() else None

    def _folders(self) -> Iterable[str]:
        assert self.root is not None
        return (one.name for one in self.root.iterdir() if one.is_dir())

    def made_durable(self, folder: str) -> None:
        path = self._path(folder)
        with telling(self.where, f"make {folder} durable"):
            since = time.time() - _LATELY_SECONDS
            files.sync_many(Path(one.path) for one in os.scandir(path) if one.is_file() and one.stat().st_mtime > since)
            files.sync(path)


def _blocks(path: Path) -> Iterable[bytes]:
    with open(path, "rb") as file:
        while block := file.read(_PART_BYTES):
            yield block


def _each(call: Callable[[_T], None], arguments: Iterable[_T]) -> None:
    """Calls it for each, several at a time. The first error ends it: what is under way ends, what is not begun is not."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        waiting = [pool.submit(call, one) for one in arguments]
        try:
            for one in waiting:
                one.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _shown(names: Collection[str]) -> str:
    return next(iter(names)) if len(names) == 1 else f"{len(names)} files"
