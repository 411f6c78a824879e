"""What receivers were told, and the message that is under way to each, in state/downstream.sqlite: nobody else could say it.

A message is recorded with its id before it is sent, and is sent until it arrives: whatever is sent again is the same bytes under
the same id. What it tells becomes what was told in one transaction with its end.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from ..records import Records
from .settings import NOTIFY

_GONE = "-"


@dataclass(frozen=True, slots=True)
class Sums:
    """Of a date, as it is published: what a receiver is told. `amount` in units of 1/10,000."""

    orders: int
    lines: int
    amount: int

    def to_text(self) -> str:
        return f"{self.orders} {self.lines} {self.amount}"

    @classmethod
    def from_text(cls, text: str) -> Sums:
        return cls(*map(int, text.split()))


@dataclass(frozen=True, slots=True)
class Told:
    """What a receiver knows of a date."""

    fingerprint: bytes
    sums: Sums


@dataclass(frozen=True, slots=True)
class Message:
    """A message that is under way. `after`: what the receiver knows of these dates when it has arrived; None: they are gone."""

    id: str
    body: bytes
    batch: int
    after: Mapping[int, Told | None]


class Notices:
    """The messages of one receiver."""

    def __init__(self, records: Records, name: str) -> None:
        self._records, self._name = records, name

    def told(self) -> dict[int, Told]:
        """What the receiver knows, by date."""
        query = "SELECT date, fingerprint, sums FROM told WHERE name = ?"
        rows = self._records.rows(query, self._name)
        return {date: Told(fingerprint, Sums.from_text(sums)) for date, fingerprint, sums in rows}

    def under_way(self) -> Message | None:
        """The message that has not arrived yet, as far as is known."""
        rows = self._records.rows("SELECT run, number, body, batch, after FROM notices WHERE name = ?", self._name)
        if not rows or rows[0][2] is None:
            return None
        run, number, body, batch, after = rows[0]
        return Message(self._id(run, number), body, batch, _after(after))

    @property
    def batch(self) -> int:
        """The newest batch that the last message that arrived told of; 0: there was none."""
        rows = self._records.rows("SELECT arrived FROM notices WHERE name = ?", self._name)
        return int(rows[0][0]) if rows else 0

    def next_id(self) -> str:
        """The id of the next message. Ids of one state folder have a common part and count up from 1."""
        with self._records.transaction():
            self._records.run(
                "INSERT INTO notices (name, run, number, arrived) VALUES (?, ?, 0, 0) ON CONFLICT DO NOTHING",
                [(self._name, secrets.token_hex(4))],
            )
        ((run, number),) = self._records.rows("SELECT run, number FROM notices WHERE name = ?", self._name)
        return self._id(run, number + 1)

    def begin(self, message: Message) -> None:
        """Records a message before it is sent; its id is the last `next_id`."""
        after = {
            str(date): _GONE if told is None else f"{told.fingerprint.hex()} {told.sums.to_text()}"
            for date, told in message.after.items()
        }
        with self._records.transaction():
            self._records.run(
                "UPDATE notices SET number = number + 1, body = ?, batch = ?, after = ? WHERE name = ?",
                [(message.body, message.batch, json.dumps(after), self._name)],
            )

    def arrived(self, message: Message, distrusted: int) -> None:
        """Records that a message arrived. `distrusted`: as it was before it was sent; if it is another number now, its dates are
        told again."""
        gone = [(self._name, date) for date, told in message.after.items() if told is None]
        known = [
            (self._name, date, told.fingerprint, told.sums.to_text())
            for date, told in message.after.items()
            if told is not None
        ]
        with self._records.transaction():
            self._records.run("DELETE FROM told WHERE name = ? AND date = ?", gone)
            self._records.run("INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?)", known)
            self._records.run(
                "UPDATE notices SET body = NULL, after = NULL, arrived = ? WHERE name = ?",
                [(message.batch, self._name)],
            )
        has = {date: told.fingerprint for date, told in self.told().items()}
        self._records.sent(NOTIFY, self._name, {date: has.get(date) for date in message.after}, distrusted)

    def _id(self, run: str, number: int) -> str:
        return f"{self._name}-{run}-{number:06d}"


def _after(text: str) -> dict[int, Told | None]:
    found: dict[int, Told | None] = {}
    for date, value in json.loads(text).items():
        fingerprint, _, sums = value.partition(" ")
        found[int(date)] = None if value == _GONE else Told(bytes.fromhex(fingerprint), Sums.from_text(sums))
    return found
