"""What a destination has to do: say which files it has the rows of, and take others. One class per kind implements it; it runs in
the worker process, where it may block, and where a crash of a library costs the daemon nothing.

A destination holds tables: those that are published (fact_order, order_items, dim_user, dim_product) and models. The rows of one
table on one date come from one file. Which files they came from is recorded in the destination, in the same step as the rows
(the transaction, the commit, the manifest), so it cannot say anything else than what is there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

Key = tuple[str, int]  # a table and a date in days since 1970; contract.WHOLE for a table without dates
Contents = Mapping[Key, bytes]  # the SHA-256 of the files that the rows came from


@dataclass(frozen=True, slots=True)
class Target:
    """Where it is. `values`: the settings of its section, secrets filled in; nothing of them may be in an error or a log."""

    kind: str
    name: str
    values: Mapping[str, Any] = field(repr=False)

    @property
    def where(self) -> str:
        """How errors name it."""
        return f"[{self.kind}.{self.name}]"


@dataclass(frozen=True, slots=True)
class Change:
    """What a table must have on a date. `path`: a local file with its rows, which nobody changes; None: no rows."""

    table: str
    date: int
    path: Path | None
    sha256: bytes = b""
    bytes: int = 0

    @property
    def key(self) -> Key:
        return self.table, self.date


@dataclass(frozen=True, slots=True)
class Delivery:
    """Everything that one round changes in a destination. It becomes visible at once, where the kind can do that."""

    before: Contents  # what `contents` returned; where it is something else by now, nothing may be changed
    changes: Sequence[Change]
    schemas: Mapping[str, pa.Schema]  # all columns of each table that it changes; a file may lack extra ones
    batch: int  # the newest one whose rows are among these


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a delivery came to."""

    rows: int = 0
    bytes: int = 0  # of the files that were sent
    altered: int = 0  # texts that the destination cannot hold as they are


class Store(ABC):
    """One open destination. Every method raises Unavailable where it may help to try again (it cannot be reached, refuses
    credentials, is full, is locked), and DownstreamFailed where somebody has to change something. The texts say what was
    attempted and what to do, and have no secret."""

    def __init__(self, target: Target) -> None:
        self.target = target

    @abstractmethod
    def contents(self) -> Contents:
        """The files that its rows came from; empty where it is new."""

    @abstractmethod
    def deliver(self, delivery: Delivery) -> Delivered:
        """Makes the rows of each changed table and date equal to the file, or removes them, and records their files with them.
        Killed anywhere, it leaves what was, or what should be, or a state that says itself that it is neither. Doing it again is
        harmless."""

    @abstractmethod
    def difference(self, table: str, date: int, path: Path, scratch: Path) -> str:
        """For `verify`: how its rows of a date differ from those of a file; "" where they are equal. `scratch`: a folder for
        what it fetches."""

    @abstractmethod
    def close(self) -> None:
        """Gives back its connections."""
