"""A receiver of notifications as a downstream: it is told of each date whose file is another one, at least once and in order.

A message is of the state that its round is about, as the other destinations are: a batch that is committed meanwhile is for the
next round. What changed while a receiver was away is told in one message, merged. Only a message that may have arrived is sent
again before that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from ...core.entries import DropResult
from ...core.errors import UsageError
from ...core.model import amount_text
from ...sources.pull.template import Secrets
from ...storage.ledger import Ledger
from ...storage.receipts import instant_text
from ...storage.store import iso_date
from ..contract import Brought, Downstream, DownstreamFailed, File, InputChanged, Piece, Tables, Wanted
from ..records import Records
from . import contents, notify_command, notify_webhook
from .notices import Message, Notices, Told
from .settings import NOTIFY, Notify

_MOST_DATES = 1_000  # of a message
_MOST_DROPS = 100  # named in a message


class Notice(Downstream):
    """One receiver, for one round. `batch` and `hwm`: those of the state that its tables are of."""

    kind = NOTIFY
    reads = (contents.FACTS,)

    def __init__(self, settings: Notify, records: Records, ledger: Path, batch: int, hwm: int | None) -> None:
        self.name, self.settings = settings.name, settings
        self._records, self._ledger, self._batch, self._hwm = records, ledger, batch, hwm
        self._notices = Notices(records, settings.name)

    def wanted(self, tables: Tables) -> Wanted:
        return contents.of_facts(tables)

    def has(self) -> Wanted:
        """What it was told. A date of a message that may not have arrived has an empty fingerprint: it is to be told, also where
        it is gone."""
        under_way = self._notices.under_way()
        return dict(self.had()) | dict.fromkeys(under_way.after if under_way else (), b"")

    def had(self) -> Wanted:
        told = {date: one.fingerprint for date, one in self._notices.told().items()}
        return told | dict.fromkeys(self._forgotten(told), b"")

    def pieces(self, stale: Piece, tables: Tables) -> Iterator[Piece]:
        dates = iter(stale.items())
        while piece := dict(islice(dates, _MOST_DATES)):
            yield piece

    def bring(self, piece: Piece, tables: Tables, stopped: Callable[[], bool]) -> Brought:
        distrusted = self._records.distrusted(self.kind, self.name)
        sent = 0
        if (message := self._notices.under_way()) is not None:
            sent += self._send(message, distrusted, stopped, self._forgotten(self._notices.told()))
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
        """What to tell of these dates."""
        with closing(Ledger(self._ledger, read_only=True)) as ledger:
            if ledger.unpublished_batch() == self._batch:  # a receiver may look at the files at once
                raise InputChanged(f"the batch {self._batch} is being published")
            drops, count = ledger.results_after(self._notices.batch, self._batch, _MOST_DROPS)
        facts = tables[contents.FACTS]
        after = {date: _told(facts.get(date)) for date in dates}
        number = self._notices.next_id()
        content = {
            "id": number,
            "notify": self.name,
            "batch": self._batch,
            "hwm": None if self._hwm is None else instant_text(self._hwm),
            "dates": [
                {"date": iso_date(date), "before": _shown(told.get(date)), "after": _shown(after[date])}
                for date in sorted(dates)
            ],
            "drops": [_drop(result, its) for result, its in drops],
            "drops_total": count,
        }
        return Message(number, json.dumps(content, ensure_ascii=False).encode(), self._batch, after)

    def _send(
        self, message: Message, distrusted: int, stopped: Callable[[], bool], forgotten: Collection[int] = ()
    ) -> int:
        """Sends a message until it arrives; returns its bytes. `forgotten`: dates to be told once more, since they were forgotten
        after it was sent for the first time. Raises DownstreamFailed, Unavailable, Stopped."""
        settings, secrets = self.settings, Secrets(os.environ, self.settings.folder)
        try:
            secrets.read(settings.texts(), settings.where)
        except UsageError as error:
            raise DownstreamFailed(str(error)) from None
        if settings.url:
            notify_webhook.send(settings, secrets, message.id, message.body, stopped)
        else:
            notify_command.send(settings, secrets, message.id, message.body, stopped)
        self._notices.arrived(message, distrusted, forgotten)
        return len(message.body)


def _told(file: File | None) -> Told | None:
    if file is None:
        return None
    assert file.sums is not None  # each file of the facts has them
    return Told(file.sha256, file.sums)


def _shown(told: Told | None) -> dict[str, Any] | None:
    if told is None:
        return None
    return {"orders": told.sums.orders, "lines": told.sums.lines, "amount": amount_text(told.sums.amount)}


def _drop(result: DropResult, batch: int) -> dict[str, Any]:
    drop = result.drop
    return {
        "drop": drop.seq, "name": drop.name, "source": drop.context.source, "outcome": str(result.outcome), "batch": batch,
    }  # fmt: skip
