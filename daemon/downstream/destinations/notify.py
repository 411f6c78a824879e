"""A receiver of notifications as a downstream: it is told of each date whose file is another one, at least once and in order.

What changed while it was away is told in one message, merged. Only a message that may have arrived is sent again before that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from ...core.entries import DropResult, Partition
from ...core.errors import UsageError
from ...core.model import amount_text
from ...sources.pull.template import Secrets
from ...storage.ledger import Ledger
from ...storage.receipts import instant_text
from ...storage.store import iso_date
from ..contract import Brought, Downstream, DownstreamFailed, InputChanged, Piece, Tables, Wanted
from ..records import Records
from . import contents, notify_command, notify_webhook
from .notices import Message, Notices, Sums, Told
from .settings import NOTIFY, Notify

_MOST_DATES = 1_000  # of a message
_MOST_DROPS = 100  # named in a message


class Notice(Downstream):
    """One receiver, for one round. `stopped` ends a command and a wait between two tries."""

    kind = NOTIFY
    reads = (contents.FACTS,)

    def __init__(self, settings: Notify, records: Records, ledger: Path) -> None:
        self.name, self.settings = settings.name, settings
        self._records, self._ledger = records, ledger
        self._notices = Notices(records, settings.name)

    def wanted(self, tables: Tables) -> Wanted:
        return contents.of_facts(tables)

    def has(self) -> Wanted:
        """What it was told. A date of a message that may not have arrived has an empty fingerprint: it is to be told."""
        under_way = self._notices.under_way()
        return dict(self.had()) | dict.fromkeys(under_way.after if under_way else (), b"")

    def had(self) -> Wanted:
        told = {date: one.fingerprint for date, one in self._notices.told().items()}
        return {date: told[date] for date in told.keys() - self._forgotten(told)}

    def pieces(self, stale: Piece, tables: Tables) -> Iterator[Piece]:
        dates = iter(stale.items())
        while piece := dict(islice(dates, _MOST_DATES)):
            yield piece

    def bring(self, piece: Piece, tables: Tables, stopped: Callable[[], bool]) -> Brought:
        distrusted = self._records.distrusted(self.kind, self.name)
        sent = 0
        if (message := self._notices.under_way()) is not None:
            sent += self._send(message, distrusted, stopped)
        told = self._notices.told()
        forgotten = self._forgotten(told)
        wanted = self.wanted(tables)
        dates = [
            date for date in piece
            if date in forgotten or wanted.get(date) != (told[date].fingerprint if date in told else None)
        ]  # fmt: skip
        if dates:
            message = self._message(dates, told, tables)
            self._notices.begin(message)
            sent += self._send(message, distrusted, stopped)
        return Brought(0, len(dates), sent)

    def forget(self, dates: Collection[int] | None) -> None:
        self._records.forget_sent(self.kind, self.name, dates)

    def remove(self) -> None:
        """Forgets it."""
        self._records.drop(self.kind, self.name)

    def _forgotten(self, told: Collection[int]) -> set[int]:
        return self._records.forgotten(self.kind, self.name, told)

    def _message(self, dates: Collection[int], told: Mapping[int, Told], tables: Tables) -> Message:
        """What to tell of these dates. All of it is of one state of the ledger: that of `tables`, or InputChanged."""
        with closing(Ledger(self._ledger, read_only=True)) as ledger:
            partitions = ledger.partitions(dates)
            batch, hwm = ledger.next_batch - 1, ledger.hwm
            drops, count = ledger.results_after(self._notices.batch, _MOST_DROPS)
            if ledger.unpublished_batch() is not None:  # a receiver may look at the files at once
                raise InputChanged("a batch is being published")
        facts = tables[contents.FACTS]
        for date in dates:
            published, known = facts.get(date), partitions.get(date)
            if (published and published.sha256) != (known and known.fact_sha256):
                raise InputChanged(f"{iso_date(date)} was published meanwhile")
        after = {date: _told(partitions.get(date)) for date in dates}
        number = self._notices.next_id()
        content = {
            "id": number,
            "notify": self.name,
            "batch": batch,
            "hwm": None if hwm is None else instant_text(hwm),
            "dates": [
                {"date": iso_date(date), "before": _shown(told.get(date)), "after": _shown(after[date])}
                for date in sorted(dates)
            ],
            "drops": [_drop(result, its) for result, its in drops],
            "drops_total": count,
        }
        return Message(number, json.dumps(content, ensure_ascii=False).encode(), batch, after)

    def _send(self, message: Message, distrusted: int, stopped: Callable[[], bool]) -> int:
        """Sends a message until it arrives; returns its bytes. Raises DownstreamFailed, Unavailable, Stopped."""
        settings, secrets = self.settings, Secrets(os.environ, self.settings.folder)
        try:
            secrets.read(settings.texts(), settings.where)
        except UsageError as error:
            raise DownstreamFailed(str(error)) from None
        if settings.url:
            notify_webhook.send(settings, secrets, message.id, message.body, stopped)
        else:
            notify_command.send(settings, secrets, message.id, message.body, stopped)
        self._notices.arrived(message, distrusted)
        return len(message.body)


def _told(partition: Partition | None) -> Told | None:
    if partition is None:
        return None
    return Told(partition.fact_sha256, Sums(partition.orders, partition.lines, partition.amount))


def _shown(told: Told | None) -> dict[str, Any] | None:
    if told is None:
        return None
    return {"orders": told.sums.orders, "lines": told.sums.lines, "amount": amount_text(told.sums.amount)}


def _drop(result: DropResult, batch: int) -> dict[str, Any]:
    drop = result.drop
    return {
        "drop": drop.seq, "name": drop.name, "source": drop.context.source, "outcome": str(result.outcome), "batch": batch,
    }  # fmt: skip
