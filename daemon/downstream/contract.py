"""The contract of everything that is derived from the published partitions. Pure.

A downstream is kept equal to what is published by comparing two tables: WANTED, a fingerprint by date of all that the result of
that date depends on, and HAS, the fingerprints that were recorded with the results. Dates where they differ are stale. To bring
a piece of stale dates up to date is to make their results anew and to record their fingerprints with them. So a downstream is
incremental, resumable and idempotent by construction: a new one has nothing, a changed one wants something else, and one that
failed still has what it had.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..core.errors import StrandlineError
from ..core.mapping import Columns

TABLES = ("fact_order", "order_items", "dim_user", "dim_product")  # that are published
WHOLE = -(1 << 31)  # in place of a date: the file of a table that has no dates; the result of all dates at once


@dataclass(frozen=True, slots=True)
class Sums:
    """What a date has. `amount` in units of 1/10,000."""

    orders: int
    lines: int
    amount: int


@dataclass(frozen=True, slots=True)
class File:
    """A published file. `path` is relative to the output folder. `columns`: the extra ones, and `sums`: what it adds up to; both
    of fact_order."""

    path: str
    sha256: bytes
    bytes: int
    columns: Columns = ()
    sums: Sums | None = None


Table = Mapping[int, File]  # by date in days since 1970, or the one file at WHOLE
Tables = Mapping[str, Table]  # what is published, by the name of the table
Wanted = Mapping[int, bytes]  # fingerprints by date
Piece = Mapping[int, bytes | None]  # fingerprints of dates to bring up to date; None: the date has no result any more


@dataclass(frozen=True, slots=True)
class Aside:
    """What is set aside: published dates, in days since 1970, and tables without dates."""

    dates: frozenset[int] = frozenset()
    tables: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.dates or self.tables)


class DownstreamFailed(StrandlineError):
    """A downstream could not be brought up to date because of what it is: wrong SQL, an exception in a model, a limit. To try
    again with the same input is of no use."""


class InputChanged(StrandlineError):
    """A file is not the one that the ledger named a moment ago: a batch was published meanwhile, or the file is damaged."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What one piece came to."""

    files: int  # that were written, sent or removed; equal ones are left as they are
    rows: int  # of the results
    bytes: int = 0  # that were sent to a destination
    altered: int = 0  # texts that a destination cannot hold as they are


class Downstream(ABC):
    """One thing that follows. `reads`: the tables that it reads, among them other downstreams, which are brought up to date
    before it."""

    kind: str
    name: str
    reads: Sequence[str]
    after: Sequence[str] = ()  # destinations that must be up to date before it

    @abstractmethod
    def wanted(self, tables: Tables) -> Wanted:
        """The fingerprint of each date that has or may have a result."""

    @abstractmethod
    def has(self) -> Wanted:
        """The fingerprints of the results that there are. What is elsewhere is asked, so it may raise what `bring` does."""

    def had(self) -> Wanted:
        """The same, as last known: nobody is asked."""
        return self.has()

    @abstractmethod
    def bring(self, piece: Piece, tables: Tables, stopped: Callable[[], bool]) -> Brought:
        """Makes the results of these dates equal to what is wanted, and records their fingerprints with them. Killed anywhere,
        it leaves dates stale, and never a fingerprint without its result. Raises DownstreamFailed, InputChanged, Stopped, or
        an error of the environment."""

    @abstractmethod
    def forget(self, dates: Collection[int] | None) -> None:
        """Forgets the fingerprints of these dates, or of all, so that they are made anew."""

    @abstractmethod
    def remove(self) -> None:
        """Removes the results and everything that is recorded of them."""

    def held_by(self, date: int, tables: Tables, aside: Aside) -> Aside:
        """What is set aside among the published files that the result of a date is made of. May raise what `bring` does."""
        return Aside(aside.dates.intersection([date]))

    def table(self) -> Table | None:
        """What other downstreams may read of it; None where it is no table."""
        return None

    def pieces(self, stale: Piece, tables: Tables) -> Iterator[Piece]:
        """Divides stale dates, oldest first, into pieces of bounded size."""
        yield stale


def stale(wanted: Wanted, has: Wanted) -> dict[int, bytes | None]:
    """The dates to bring up to date, oldest first. None: the date is not wanted any more."""
    differing = {date for date, _ in wanted.items() ^ has.items()}
    return {date: wanted.get(date) for date in sorted(differing)}


def in_order(reads: Mapping[str, Collection[str]]) -> list[str]:
    """Names so that each comes after those that it reads, otherwise by name. Raises ValueError with the names of a circle."""
    done: dict[str, None] = {}
    path: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        if name in path:
            raise Circle([*path[path.index(name) :], name])
        path.append(name)
        for other in sorted(reads[name]):
            if other in reads:
                visit(other)
        path.pop()
        done[name] = None

    for name in sorted(reads):
        visit(name)
    return list(done)


class Circle(ValueError):
    """Downstreams that read each other. `names`: the way round, the first name again at the end."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(" reads ".join(names))
        self.names = names
