"""A load, a table or a mirror as a downstream: what it should have is what is published, and what it has, it says itself.

A round asks a destination what it has (at most once a minute while nothing changes), links the files that differ, and has the
worker deliver them. The destination records the files with the rows, so a kill at any moment leaves nothing to repair.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from ...core.errors import StrandlineError, Unavailable
from ...sources.pull.template import Secrets
from ..contract import TABLES, WHOLE, Aside, Brought, Downstream, DownstreamFailed, InputChanged, Piece, Tables, Wanted
from ..results import Place
from ..scratch import scratch
from ..worker import TimeLimit
from . import contents
from .settings import Destination, Load, Mirror
from .settings import Table as TableSettings
from .store import Change, Contents, Delivered, Delivery, Key, Target

_TRUSTED_SECONDS = 60.0  # how long an answer counts: a destination may be restored from a backup, or changed by others
Sent = Load | TableSettings | Mirror


@dataclass
class Answers:
    """What destinations said they have, by name, and when. One that failed is asked again."""

    known: dict[str, tuple[float, Contents]] = field(default_factory=dict)

    def of(self, name: str) -> Contents | None:
        """The last answer, while it counts."""
        at, answer = self.known.get(name, (-_TRUSTED_SECONDS, {}))
        return answer if time.monotonic() - at < _TRUSTED_SECONDS else None

    def set(self, name: str, answer: Contents) -> None:
        self.known[name] = time.monotonic(), answer

    def forget(self, name: str) -> None:
        self.known.pop(name, None)


class Remote(Downstream):
    """One destination, for one state. `tables`: all that are published then; `batch`: the newest one."""

    def __init__(
        self, settings: Sent, mirror: Mirror | None, place: Place, answers: Answers, tables: Tables, batch: int,
        stopped: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.kind, self.name = settings.kind, settings.name
        self.reads = settings.tables or (*TABLES, *sorted(set(tables) - set(TABLES)))
        self._tables, self._unknown = tables, contents.unknown(tables, self.reads)
        self.settings, self._mirror, self._place, self._answers = settings, mirror, place, answers
        self._batch, self._stopped = batch, stopped
        self._secrets = Secrets(os.environ, settings.folder)
        self.after = [mirror.name] if mirror else []

    def wanted(self, tables: Tables) -> Wanted:
        return contents.by_date(contents.published(tables, self.reads))

    def has(self) -> Wanted:
        """Asks the destination. Raises DownstreamFailed, Unavailable, Stopped."""
        if unknown := sorted(set(self.reads).difference(self._tables)):
            raise DownstreamFailed(
                f"{self.settings.where} tables: there is no table or model {unknown[0]}; there are "
                f"{', '.join(sorted(self._tables))}"
            )
        if self._batch == 0 and self._known():
            raise DownstreamFailed(
                f"{self.settings.where}: it has rows, and nothing was ever published in {self._place.output}. Is [paths] output "
                "right? If it is, empty the destination, or name another one"
            )
        has = contents.by_date(self._known())
        self._place.records.set_has(self.kind, self.name, has)
        return has

    def had(self) -> Wanted:
        return self._place.records.has(self.kind, self.name)

    def held_by(self, date: int, tables: Tables, aside: Aside) -> Aside:
        """A dimension that it has already holds back nothing."""
        if date != WHOLE:
            return super().held_by(date, tables, aside)
        wanted, has = contents.published(tables, aside.tables.intersection(self.reads)), self._known()
        return Aside(tables=frozenset(name for name, _ in wanted if wanted[name, WHOLE] != has.get((name, WHOLE))))

    def bring(self, piece: Piece, tables: Tables, stopped: Callable[[], bool]) -> Brought:
        records, distrusted = self._place.records, self._place.records.distrusted(self.kind, self.name)
        wanted = contents.published(tables, self.reads)
        keys = contents.differing(wanted, self._known(), piece.keys())
        try:
            delivered = self._deliver(keys, wanted, tables)
        except DownstreamFailed:
            facts = [key for key in keys if key[0] in TABLES]
            if not facts or len(facts) == len(keys):
                raise
            self._deliver(facts, wanted, tables)  # a model that does not fit keeps back the other models, and no orders
            raise
        fingerprints = contents.by_date(wanted)
        records.sent(self.kind, self.name, {date: fingerprints.get(date) for date in piece}, distrusted)
        return Brought(len(keys), delivered.rows, delivered.bytes, delivered.altered)

    def _deliver(self, keys: Sequence[Key], wanted: Contents, tables: Tables) -> Delivered:
        """Has the worker deliver these tables and dates."""
        before = self._asked()
        schemas = self._schemas(tables, {name for name, _ in keys})
        with scratch(self._place.output) as folder:
            changes = [self._change(key, tables, folder / f"{number}.parquet") for number, key in enumerate(keys)]
            self._place.check()
            delivered: Delivered = self._call("destination_deliver", Delivery(before, changes, schemas, self._batch))
        now = {key: sha256 for key, sha256 in before.items() if key not in keys}
        self._answers.set(self.name, now | {key: wanted[key] for key in keys if key in wanted})
        return delivered

    def differences(self, tables: Tables, folder: Path) -> dict[Key, str]:
        """For `verify`: how its rows differ from the files that are published. Where it is not up to date, that is no
        difference: only what it says that it has is compared. `folder`: for links and for what is fetched."""
        wanted, has = contents.published(tables, self.reads), self._known()
        same = [key for key in wanted if has.get(key) == wanted[key]]
        with scratch(folder) as place:
            files = []
            for number, key in enumerate(same):
                with suppress(InputChanged):  # published meanwhile, or damaged, which `verify` tells of anyway
                    files.append(self._change(key, tables, place / f"{number}.parquet"))
            found: dict[Key, str] = self._call("destination_differences", files, place)
        return found

    def forget(self, dates: Collection[int] | None) -> None:
        self._place.records.forget_sent(self.kind, self.name, dates)

    def remove(self) -> None:
        """Forgets it. What is there belongs to its users and stays."""
        self._answers.forget(self.name)
        self._place.records.drop(self.kind, self.name)

    def _schemas(self, tables: Tables, names: Collection[str]) -> dict[str, pa.Schema]:
        """All columns of each table. Those of models are those of their files: a model may have a new text and no run yet."""
        found = {name: schema for name, schema in self._place.schemas(tables).items() if name in TABLES}
        for name in set(names).intersection(tables) - set(TABLES):
            if tables[name] and (schema := self._place.inputs.schema_of(tables[name])) is None:
                raise DownstreamFailed(
                    f"{self.settings.where}: a column of the model {name} has not the same type on all dates; make it anew with "
                    f"`strandline refresh {name}`"
                )
            if tables[name]:
                found[name] = schema
        return {name: schema for name, schema in found.items() if name in names}

    def _asked(self) -> Contents:
        """What the destination says that it has."""
        if (answer := self._answers.of(self.name)) is None:
            answer = self._call("destination_contents")
            self._answers.set(self.name, answer)
        return answer

    def _known(self) -> Contents:
        """The same, of its tables. What is to be sent again is there, too, and differs from every file. What is published there
        and not known is left out, so it stays as it is."""
        forgotten = self._place.records.forgotten(self.kind, self.name, {date for _, date in self._asked()})
        asked = contents.of_tables(self._asked(), self.settings.tables or None)
        known = {key: b"" if key[1] in forgotten else sha256 for key, sha256 in asked.items()}
        return {key: sha256 for key, sha256 in known.items() if key not in self._unknown}

    def _change(self, key: Key, tables: Tables, link: Any) -> Change:
        name, date = key
        file = tables.get(name, {}).get(date)
        if file is None:
            return Change(name, date, None)
        return Change(name, date, self._place.inputs.link(file, link), file.sha256, file.bytes)

    def _call(self, function: str, *arguments: Any) -> Any:
        settings = self.settings
        self._secrets.read([*settings.texts(), *(self._mirror.texts() if self._mirror else ())], settings.where)
        values = self._filled(settings)
        if self._mirror:
            mirrored = self._filled(self._mirror)
            values |= {"mirror_url": mirrored["url"], "mirror_options": mirrored["options"]}
        for value in (values.get("dsn"), values.get("url")):
            if value and (password := _password(value)):
                self._secrets.hide(password)
        target = Target(settings.kind, settings.name, values)
        limit = TimeLimit(settings.time_limit, f"{settings.where} time_limit")
        try:
            return self._place.worker.call(
                settings.where, function, target, *arguments, stopped=self._stopped, time_limit=limit
            )
        except (DownstreamFailed, Unavailable) as error:
            self._answers.forget(self.name)
            raise type(error)(self._secrets.hidden_in(str(error))) from None
        except (OSError, StrandlineError):
            self._answers.forget(self.name)
            raise

    def _filled(self, settings: Destination) -> dict[str, Any]:
        """The settings with their secrets; the path of a folder is relative to the configuration."""
        values = {name: self._with_secrets(value) for name, value in settings.values().items()}
        if "url" in values and "://" not in values["url"]:
            values["url"] = str(settings.folder / values["url"])
        return values

    def _with_secrets(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._secrets.filled(value, {}) or value
        if isinstance(value, Mapping):
            return {name: self._with_secrets(one) for name, one in value.items()}
        return value


def _password(url: str) -> str:
    """The password in a URL, which must not be shown even where the whole URL is no secret."""
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""
