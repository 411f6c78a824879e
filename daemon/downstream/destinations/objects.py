"""[mirror.NAME]: the published files and the results of models as objects, under the names that they have in the output folder.

What there is, is in one index, `strandline.json`. In each folder of a date, and for the tables without dates in `curated/`, a
`manifest.json` has the name, size and SHA-256 of each file. The order of a delivery:

1. the index says of everything that changes that its content is not known;
2. new content;
3. manifests, after what they name;
4. what is gone: manifests first, so that none names a file that is not there;
5. the index.

Killed anywhere, the index names each object that there may be, and what is not known is brought or removed again by the next one.
A reader that follows a manifest gets a file whose SHA-256 is that of the manifest, or knows that the manifest is about to change.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...core.errors import Unavailable
from ...storage.files import sha256_of
from ...storage.store import FACT_FILE, ITEMS_FILE, folder_name, iso_date
from ..contract import WHOLE, DownstreamFailed
from ..definitions import MODEL
from ..results import path_of
from . import object_store
from .store import Contents, Delivered, Delivery, Key, Store, Target

INDEX, MANIFEST = "strandline.json", "manifest.json"
_FORMAT = 1
_CURATED = "curated"
_BY_DATE = {"fact_order": FACT_FILE, "order_items": ITEMS_FILE}
_WHOLE = "all"  # in place of a date in the index
_EPOCH = datetime.date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class _File:
    """What the index knows of a file. An empty `sha256`: there may be one."""

    sha256: bytes = b""
    bytes: int = 0


_Index = dict[Key, _File]


class Objects(Store):
    """A bucket or a folder with copies of the published files."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._files = object_store.opened(target)

    def contents(self) -> Contents:
        return {key: one.sha256 for key, one in self._index().items()}

    def deliver(self, delivery: Delivery) -> Delivered:
        index = self._index()
        if {key: one.sha256 for key, one in index.items()} != delivery.before:
            raise Unavailable(
                f"{self.target.where}: {INDEX} there has changed meanwhile; it is compared again. If this repeats, let only one "
                "strandline write there"
            )
        brought = [one for one in delivery.changes if one.path is not None]
        gone = [one.key for one in delivery.changes if one.path is None and one.key in index]
        if not brought and not gone:
            return Delivered()
        touched = {one.key for one in brought}.union(gone)
        self._write_index(index | dict.fromkeys(touched, _File()), delivery.batch)
        self._files.upload({_name(*one.key): one.path for one in brought if one.path is not None})
        index |= {one.key: _File(one.sha256, one.bytes) for one in brought}
        for key in gone:
            del index[key]
        manifests = _manifests(index, touched, delivery.batch)
        self._files.write({name: content for name, content in manifests.items() if content})
        self._files.delete([name for name, content in manifests.items() if not content])
        self._files.delete([_name(*key) for key in gone])
        self._write_index(index, delivery.batch)
        return Delivered(0, sum(one.bytes for one in brought))

    def difference(self, table: str, date: int, path: Path, scratch: Path) -> str:
        name = _name(table, date)
        found, wanted = self._files.sha256(name), sha256_of(path)
        if found is None:
            return f"{name} is not there"
        if found != wanted:
            return f"{name} has another content"
        manifest = self._files.read(f"{_folder(name)}/{MANIFEST}")
        if manifest is None or _listed(manifest).get(Path(name).name) != found.hex():
            return f"{_folder(name)}/{MANIFEST} does not name it with its SHA-256"
        return ""

    def close(self) -> None:
        """It has no connections of its own."""

    def _index(self) -> _Index:
        """What there is, by the index; nothing where there is none."""
        content = self._files.read(INDEX)
        if content is None:
            return {}
        try:
            found = json.loads(content)
            if found["format"] != _FORMAT:
                raise ValueError
            return {
                (table, _day(day)): _File(bytes.fromhex(one["sha256"]), int(one["bytes"]))
                for table, dates in found["tables"].items()
                for day, one in dates.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DownstreamFailed(
                f"{self.target.where}: {INDEX} there is not the index of a mirror of this version; choose another url, or empty "
                "this one"
            ) from None

    def _write_index(self, index: Mapping[Key, _File], batch: int) -> None:
        tables: dict[str, dict[str, object]] = {}
        for (table, date), one in sorted(index.items()):
            day = _WHOLE if date == WHOLE else iso_date(date)
            tables.setdefault(table, {})[day] = {"sha256": one.sha256.hex(), "bytes": one.bytes}
        self._files.write({INDEX: _json({"format": _FORMAT, "batch": batch, "tables": tables})})


def _manifests(index: Mapping[Key, _File], touched: Collection[Key], batch: int) -> dict[str, bytes]:
    """The manifests of the folders of these files, by name; empty where nothing is left to name. A file whose content is not
    known is in none."""
    folders: dict[str, list[Mapping[str, object]]] = {_folder(_name(*key)): [] for key in touched}
    for key, one in sorted(index.items()):
        name = _name(*key)
        if one.sha256 and _folder(name) in folders:
            about = {"name": PurePosixPath(name).name, "bytes": one.bytes, "sha256": one.sha256.hex()}
            folders[_folder(name)].append(about)
    return {
        f"{folder}/{MANIFEST}": _json({"format": _FORMAT, "batch": batch, "files": found}) if found else b""
        for folder, found in folders.items()
    }


def _listed(manifest: bytes) -> dict[str, str]:
    """The SHA-256 of each file that a manifest names; nothing where it is none."""
    try:
        return {one["name"]: one["sha256"] for one in json.loads(manifest)["files"]}
    except (ValueError, KeyError, TypeError):
        return {}


def _name(table: str, date: int) -> str:
    """The name of an object: the path of the file in the output folder."""
    if table in _BY_DATE:
        return f"{_CURATED}/{folder_name(date)}/{_BY_DATE[table]}"
    return f"{_CURATED}/{table}.parquet" if date == WHOLE else path_of(MODEL, table, date)


def _folder(name: str) -> str:
    return str(PurePosixPath(name).parent)


def _day(text: str) -> int:
    return WHOLE if text == _WHOLE else (datetime.date.fromisoformat(text) - _EPOCH).days


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
