"""What a destination should have, and what it has, as the files that its rows come from. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from ..contract import Tables, Wanted
from ..fingerprints import digest
from .settings import Destination, Notify

if TYPE_CHECKING:
    from .store import Contents, Key

FACTS = "fact_order"


def published(tables: Tables, names: Iterable[str]) -> dict[Key, bytes]:
    """The files of these tables whose content is known."""
    return {(name, date): file.sha256 for name in names for date, file in tables.get(name, {}).items() if file.sha256}


def unknown(tables: Tables, names: Iterable[str]) -> set[Key]:
    """Files of models that are being made again, or could not be: what a destination has of them stays as it is."""
    return {(name, date) for name in names for date, file in tables.get(name, {}).items() if not file.sha256}


def of_facts(tables: Tables) -> Wanted:
    """What a receiver of notifications should be told of: the files of the facts."""
    return {date: file.sha256 for date, file in tables.get(FACTS, {}).items()}


def wanted_of(settings: Destination, tables: Tables) -> Wanted:
    """What a destination should have of these tables."""
    if isinstance(settings, Notify):
        return of_facts(tables)
    return by_date(published(tables, getattr(settings, "tables", ()) or tables))


def of_tables(contents: Contents, names: Collection[str] | None) -> dict[Key, bytes]:
    """Of these tables alone; None: of all."""
    return {key: sha256 for key, sha256 in contents.items() if names is None or key[0] in names}


def by_date(contents: Contents) -> Wanted:
    """A fingerprint for each date: of the files of all tables on it."""
    parts: dict[int, list[bytes | str]] = {}
    for (table, date), sha256 in sorted(contents.items()):
        parts.setdefault(date, []).extend((table, sha256))
    return {date: digest(*those) for date, those in parts.items()}


def differing(wanted: Contents, has: Contents, dates: Collection[int]) -> list[Key]:
    """The tables and dates, of these dates, that must change: oldest first within each table, new ones among them."""
    keys = {key for key in wanted.keys() | has.keys() if key[1] in dates}
    return sorted(key for key in keys if wanted.get(key) != has.get(key))
