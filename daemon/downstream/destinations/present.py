"""The destinations of the configuration, as the downstreams of one round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..contract import Downstream, Tables
from ..records import Records
from ..results import Place
from . import settings as kinds
from .remote import Answers, Remote
from .settings import Load, Mirror, Notify, Table


class Destinations:
    """All of them, over one output. Remembers what each said that it has."""

    def __init__(self, settings: kinds.Destinations, place: Place, ledger: Path) -> None:
        self._settings, self._place, self._ledger = settings, place, ledger
        self._answers = Answers()

    def define(self, records: Records) -> None:
        """Records what each is."""
        for one in self._settings:
            definition = {"tables": list(getattr(one, "tables", ()))}
            state = records.state(one.kind, one.name)
            if state is None or dict(state.definition) != definition:
                records.define(one.kind, one.name, definition)

    def made(
        self, one: kinds.Destination, tables: Tables, batch: int, hwm: int | None, stopped: Callable[[], bool]
    ) -> Downstream:
        """One of them, for the state that `tables`, `batch` and `hwm` are of."""
        if isinstance(one, Notify):
            from .notify import Notice  # with an HTTP client, which few need

            return Notice(one, self._place.records, self._ledger, batch, hwm)
        assert isinstance(one, Load | Table | Mirror)
        mirrors = {other.name: other for other in self._settings if isinstance(other, Mirror)}
        mirror = mirrors.get(one.mirror) if isinstance(one, Load) else None
        return Remote(one, mirror, self._place, self._answers, tables, batch, stopped)
