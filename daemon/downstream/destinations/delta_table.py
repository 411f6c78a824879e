"""One Delta table of ours: which files its rows come from, and how files are exchanged in one commit.

The published Parquet files are added as they are. The name of each has its SHA-256, so the log of a table says itself which files
its rows came from, and nothing else is recorded. A table is ours if its log has our application transaction.
"""

from __future__ import annotations

import datetime
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, TableFeatures, Transaction
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from deltalake.transaction import AddAction, create_table_with_add_actions

from ...core.errors import Unavailable
from ...storage.store import folder_name, iso_date
from ..contract import WHOLE, DownstreamFailed
from .delta_types import DATE, has_local_times
from .object_store import Files
from .store import Change
from .store_errors import telling

LOG = "_delta_log"
AGAIN = "move its folder away there, and it is made anew"
_BATCH, _VACUUM = "strandline", "strandline.vacuum"  # application transactions
_OURS = re.compile(r".*-([0-9a-f]{64})\.parquet")
_EPOCH = datetime.date(1970, 1, 1)
_HOUR_SECONDS = 3_600
_FOREVER = "interval 36500 days"
_INSTANT = "created_at"  # rows are sorted by it, so readers skip files by its range
_UNTRACEABLE = "deletionVectors"  # with this feature, rows go while the file stays


@dataclass(frozen=True, slots=True)
class Settings:
    """`checkpoint`: every so many commits. `vacuum_seconds`: the age from which on files that no version needs are removed; 0:
    never, and then the log is kept as well."""

    checkpoint: int
    vacuum_seconds: int

    @property
    def configuration(self) -> dict[str, str]:
        """As the log of a table has them."""
        kept = f"interval {self.vacuum_seconds} seconds" if self.vacuum_seconds else _FOREVER
        return {
            "delta.checkpointInterval": str(self.checkpoint),
            "delta.deletedFileRetentionDuration": kept,
            "delta.logRetentionDuration": kept,
        }


@dataclass(frozen=True, slots=True)
class Marks:
    """What a commit says: the newest batch of its rows, and the day of a vacuum that follows it, in days since 1970; None: none
    follows."""

    batch: int
    vacuum: int | None = None


class Table:
    """The table in the folder `name`, as it was when it was read."""

    def __init__(self, files: Files, name: str, table: DeltaTable | None) -> None:
        self._files, self.name, self._table = files, name, table
        self._paths = {} if table is None else self._active(table)

    @property
    def exists(self) -> bool:
        return self._table is not None

    @property
    def has_dates(self) -> bool:
        """Whether it is divided by dates."""
        return self._table is not None and bool(self._table.metadata().partition_columns)

    @property
    def dates(self) -> set[int]:
        """Those that have rows; WHOLE in a table without dates."""
        return set(self._paths)

    @property
    def schema(self) -> pa.Schema:
        assert self._table is not None
        return pa.schema(self._table.schema().to_arrow())

    @property
    def digests(self) -> dict[int, bytes]:
        """The SHA-256 of the file that the rows of a date came from. Empty, which differs from every file, where they are in
        other files than ours, or in several."""
        return {date: self._digest(date, paths) for date, paths in self._paths.items()}

    def _digest(self, date: int, paths: Sequence[str]) -> bytes:
        found = _OURS.fullmatch(paths[0]) if len(paths) == 1 else None
        is_ours = found is not None and paths[0] == path_of(self.name, date, found[1])
        return bytes.fromhex(found[1]) if found is not None and is_ours else b""

    @property
    def vacuumed(self) -> int:
        """The day of the last vacuum, in days since 1970; 0 where there was none."""
        return 0 if self._table is None else self._table.transaction_version(_VACUUM) or 0

    def paths(self, date: int) -> Sequence[str]:
        """The files that have the rows of a date, below the folder of the table."""
        return self._paths.get(date, ())

    def rows(self, date: int) -> pa.Table:
        """The rows of a date, as a reader gets them."""
        assert self._table is not None
        only = None if date == WHOLE else [(DATE, "=", _EPOCH + datetime.timedelta(date))]
        with telling(self._files.where, f"read the rows of {self.name}", DownstreamFailed):
            return self._table.to_pyarrow_table(filters=only)

    def commit(self, changes: Sequence[Change], schema: pa.Schema, marks: Marks, settings: Settings) -> int:
        """Makes the rows of these dates those of files that are uploaded already, or none, in one commit. Returns the rows of the
        files. `marks`: recorded with it. Raises Unavailable where another writer was faster."""
        adds = {one.date: _add(self.name, one) for one in changes if one.path is not None}
        rows = sum(json.loads(one.stats)["numRecords"] for one in adds.values())
        if self._table is None:
            if adds:
                self._create(list(adds.values()), schema, marks, settings)
            return rows
        # Uploaded again, in case it is damaged.
        equal = {date for date, one in adds.items() if self.paths(date) == (one.path,)}
        changed = {one.date for one in changes if one.date in adds or one.date in self._paths} - equal
        if changed:
            self._configure(self._table, schema, settings)
            # A path cannot go and come in one commit: where somebody has put rows beside our file, all of them go first.
            if beside := {date for date in changed & adds.keys() if adds[date].path in self.paths(date)}:
                self._exchange(self._table, beside, [], self.schema, marks)
            added = [one for date, one in adds.items() if date in changed]
            self._exchange(self._table, changed, added, schema, marks)
        return rows

    def _create(self, adds: Sequence[AddAction], schema: pa.Schema, marks: Marks, settings: Settings) -> None:
        with self._committing():
            create_table_with_add_actions(
                url(self._files, self.name), Schema.from_arrow(schema), list(adds), "error",
                [DATE] if adds[0].partition_values else [], storage_options=dict(self._files.options) or None,
                configuration=settings.configuration, commit_properties=_properties(marks),
            )  # fmt: skip

    def _exchange(
        self, table: DeltaTable, dates: set[int], adds: Sequence[AddAction], schema: pa.Schema, marks: Marks
    ) -> None:
        """One commit: the files of these dates go, and others come."""
        days = [iso_date(date) for date in sorted(dates)] if self.has_dates else []
        with self._committing():
            table.create_write_transaction(
                list(adds), "overwrite", Schema.from_arrow(schema), [DATE] if days else [],
                [(DATE, "in", days)] if days else None,
                commit_properties=_properties(marks),
            )  # fmt: skip
            table.update_incremental()

    def _configure(self, table: DeltaTable, schema: pa.Schema, settings: Settings) -> None:
        """Brings the settings up to date, before a commit that needs them."""
        now = table.metadata().configuration
        if changed := {key: value for key, value in settings.configuration.items() if now.get(key) != value}:
            with self._committing():
                table.alter.set_table_properties(changed, commit_properties=CommitProperties(max_commit_retries=0))
                table.update_incremental()
        # Without it, the table could not be read any more.
        if has_local_times(schema) and not has_local_times(self.schema):
            with self._committing():
                table.alter.add_feature(
                    TableFeatures.TimestampWithoutTimezone,
                    allow_protocol_versions_increase=True,
                    commit_properties=CommitProperties(max_commit_retries=0),
                )
                table.update_incremental()

    @contextmanager
    def _committing(self) -> Iterator[None]:
        """A commit. A conflict is worth another try; what was committed is durable afterwards."""
        with telling(self._files.where, f"commit to the table {self.name}"):
            try:
                yield
            except CommitFailedError:
                raise self.changed_meanwhile() from None
            except Exception as error:
                if "already exists" in str(error):  # another writer has made the table
                    raise self.changed_meanwhile() from None
                raise
            self._files.made_durable(f"{self.name}/{LOG}")

    def changed_meanwhile(self) -> Unavailable:
        """The error for a table that is not what it was when it was compared."""
        return Unavailable(
            f"{self._files.where}: somebody else has changed the table {self.name} meanwhile; it is compared again. If this "
            "repeats, let only one strandline write there"
        )

    def _active(self, table: DeltaTable) -> dict[int, tuple[str, ...]]:
        """The active files by date."""
        actions = pa.table(table.get_add_actions(flatten=True))
        paths = actions["path"].to_pylist()
        dates = actions[f"partition.{DATE}"].to_pylist() if self.has_dates else []
        found: dict[int, tuple[str, ...]] = {}
        for path, date in zip(paths, dates or [_EPOCH] * len(paths), strict=True):
            if date is None:
                raise DownstreamFailed(
                    f"{self._files.where}: somebody has added rows without a date to the table {self.name}; delete them there"
                )
            day = (date - _EPOCH).days if dates else WHOLE
            found[day] = (*found.get(day, ()), path)
        return found


def opened(files: Files, name: str, *, foreign_allowed: bool) -> Table:
    """The table in a folder, which may not exist. One that is not ours is no table, or raises DownstreamFailed."""
    with telling(files.where, f"read the log of the table {name}", DownstreamFailed):
        try:
            table = DeltaTable(url(files, name), storage_options=dict(files.options) or None)
        except TableNotFoundError:
            return Table(files, name, None)
        if table.transaction_version(_BATCH) is None:
            if foreign_allowed:
                return Table(files, name, None)
            raise DownstreamFailed(
                f"{files.where}: there is a Delta table {name} that strandline did not make; choose another url, or move it away"
            )
        if _UNTRACEABLE in (table.protocol().reader_features or ()):
            raise DownstreamFailed(
                f"{files.where}: the table {name} has got the feature {_UNTRACEABLE}, so rows may go while their file stays; "
                f"{AGAIN}"
            )
        return Table(files, name, table)


def vacuum(files: Files, name: str, settings: Settings) -> None:
    """Removes the files that no version needs which is younger than the setting."""
    with telling(files.where, f"remove old files of the table {name}"):
        hours = -(-settings.vacuum_seconds // _HOUR_SECONDS)
        table = DeltaTable(url(files, name), storage_options=dict(files.options) or None)
        table.vacuum(hours, dry_run=False, full=True)
        files.made_durable(f"{name}/{LOG}")


def url(files: Files, name: str) -> str:
    """Where a table is."""
    return f"{files.url}/{name}"


def path_of(name: str, date: int, sha256: str) -> str:
    """The path of a file below the folder of its table. `sha256`: in hexadecimal digits."""
    file = f"{name}-{sha256}.parquet"
    return file if date == WHOLE else f"{folder_name(date)}/{file}"


def _add(name: str, change: Change) -> AddAction:
    assert change.path is not None
    return AddAction(
        path_of(name, change.date, change.sha256.hex()),
        change.path.stat().st_size,
        {} if change.date == WHOLE else {DATE: iso_date(change.date)},
        int(time.time() * 1000),
        True,
        json.dumps(_statistics(pq.read_metadata(change.path))),
    )


def _statistics(metadata: pq.FileMetaData) -> dict[str, Any]:
    """What readers know of a file without opening it. Instants are in milliseconds there, so a range is made wider."""
    found: dict[str, Any] = {"numRecords": metadata.num_rows}
    number = next((n for n in range(metadata.num_columns) if metadata.schema.column(n).path == _INSTANT), None)
    if number is None:
        return found
    ranges = [metadata.row_group(group).column(number).statistics for group in range(metadata.num_row_groups)]
    if not ranges or not all(
        one is not None and one.has_min_max and isinstance(one.min, datetime.datetime) for one in ranges
    ):
        return found
    first, last = min(one.min for one in ranges), max(one.max for one in ranges)
    first -= datetime.timedelta(microseconds=first.microsecond % 1000)
    if rest := last.microsecond % 1000:
        last += datetime.timedelta(microseconds=1000 - rest)
    return found | {"minValues": {_INSTANT: _iso(first)}, "maxValues": {_INSTANT: _iso(last)}}


def _iso(instant: datetime.datetime) -> str:
    return instant.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _properties(marks: Marks) -> CommitProperties:
    """Of a commit. It is not tried again after a conflict: what it would change was compared before."""
    found = [Transaction(_BATCH, marks.batch)]
    if marks.vacuum is not None:
        found.append(Transaction(_VACUUM, marks.vacuum))
    return CommitProperties(max_commit_retries=0, app_transactions=found)
