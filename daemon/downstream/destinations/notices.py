"""What receivers were told, and the message that is under way to each, in state/downstream.sqlite: nobody else could say it.

A message is recorded with its id before it is sent, and is sent until it arrives: whatever is sent again is the same bytes under
the same id. What it tells becomes what was told in one transaction with its end.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from ..contract import Sums
from ..records import Records
from .settings import NOTIFY

_GONE = "-"


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
        return {date: Told(fingerprint, _sums(sums)) for date, fingerprint, sums in rows}

    def under_way(self) -> Message | None:
        """The message that has not arrived yet, as far as is known."""
        rows = self._records.rows("SELECT id, body, batch, after FROM notices WHERE name = ?", self._name)
        if not rows or rows[0][0] is None:
            return None
        number, body, batch, after = rows[0]
        return Message(number, body, batch, _after(after))

    @property
    def batch(self) -> int:
        """The newest batch that the last message that arrived told of; 0: there was none."""
        rows = self._records.rows("SELECT arrived FROM notices WHERE name = ?", self._name)
        return int(rows[0][0]) if rows else 0

    def next_id(self) -> str:
        """An id for the next message. Ids count up from 1. Their end is random: where the records are lost, or restored from a
        backup, a new message must not have the id of one that its receiver knows."""
        rows = self._records.rows("SELECT number FROM notices WHERE name = ?", self._name)
        number = rows[0][0] + 1 if rows else 1
        return f"{self._name}-{number:06d}-{secrets.token_hex(4)}"

    def begin(self, message: Message) -> None:
        """Records a message before it is sent; its id is of `next_id`."""
        after = {
            str(date): _GONE if told is None else f"{told.fingerprint.hex()} {_text(told.sums)}"
            for date, told in message.after.items()
        }
        with self._records.transaction():
            self._records.run(
                "INSERT INTO notices VALUES (?, 1, 0, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET number = number + 1, "
                "id = excluded.id, body = excluded.body, batch = excluded.batch, after = excluded.after",
                [(self._name, message.id, message.body, message.batch, json.dumps(after))],
            )

    def arrived(self, message: Message, distrusted: int, forgotten: Collection[int] = ()) -> None:
        """Records that a message arrived. `distrusted`: as it was before it was sent; if it is another number now, its dates are
        told again, as those of `forgotten` are."""
        gone = [(self._name, date) for date, told in message.after.items() if told is None]
        known = [
            (self._name, date, told.fingerprint, _text(told.sums))
            for date, told in message.after.items()
            if told is not None
        ]
        with self._records.transaction():
            self._records.run("DELETE FROM told WHERE name = ? AND date = ?", gone)
            self._records.run("INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?)", known)
            self._records.run(
                "UPDATE notices SET id = NULL, body = NULL, after = NULL, arrived = ? WHERE name = ?",
                [(message.batch, self._name)],
            )
        now = {
            date: told.fingerprint if told else None for date, told in message.after.items() if date not in forgotten
        }
        self._records.sent(NOTIFY, self._name, now, distrusted)


def reword(records: Records, reworded: Callable[[str], str]) -> None:
    """Changes the texts of messages that have not arrived yet, such as names of drops."""
    found = records.rows("SELECT name, body FROM notices WHERE body IS NOT NULL")
    with records.transaction():
        records.run(
            "UPDATE notices SET body = ? WHERE name = ?",
            [(reworded(body.decode()).encode(), name) for name, body in found],
        )


def _text(sums: Sums) -> str:
    return f"{sums.orders} {sums.lines} {sums.amount}"


def _sums(text: str) -> Sums:
    return Sums(*map(int, text.split()))


def _after(text: str) -> dict[int, Told | None]:
    found: dict[int, Told | None] = {}
    for date, value in json.loads(text).items():
        fingerprint, _, sums = value.partition(" ")
        found[int(date)] = None if value == _GONE else Told(bytes.fromhex(fingerprint), _sums(sums))
    return found
