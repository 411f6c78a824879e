"""When records changed: how an API spells it, and how it is asked for. Instants are microseconds since 1970 UTC."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from ...core.mapping import FieldMapping
from ...core.parse.mapped import translator
from ...core.parse.values import read_instant, unwrapped

FORMATS = ("iso", "seconds", "milliseconds")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 253_402_300_799_999_999  # the end of the year 9999
_LATEST_SPELLED = _LATEST - 2 * 86_400_000_000  # in any zone
_NOTHING = timedelta()


class Zone:
    """The zone of local times: those that an API names without one, and those that it is asked for in a pattern without one."""

    def __init__(self, name: str = "UTC") -> None:
        self.info = ZoneInfo(name)
        self._translator = None if name == "UTC" else translator(FieldMapping(time_zone=name))

    def named(self, value: Any) -> Any:
        """A local time with its zone; anything else as it is."""
        return self._translator.zoned(value) if self._translator else value


def read_change_time(value: Any, zone: Zone) -> int | None:
    """The instant of a value, spelled in any way that an order's may be; None where it is none."""
    instant = read_instant(unwrapped(zone.named(value)))
    return instant if isinstance(instant, int) and instant <= _LATEST else None


def spelled(instant: int, form: str, zone: Zone) -> str:
    """An instant for {since}: cut to what the form can say, never later. A local time that occurs twice is one hour earlier: an
    API may take it for either."""
    if form == "seconds":
        return str(instant // 1_000_000)
    if form == "milliseconds":
        return str(instant // 1000)
    utc = _EPOCH + timedelta(microseconds=min(instant, _LATEST_SPELLED))
    if form == "iso":
        return f"{utc:%Y-%m-%dT%H:%M:%S}Z"
    local = utc.astimezone(zone.info)
    twice = (local.replace(fold=0).utcoffset() or _NOTHING) - (local.replace(fold=1).utcoffset() or _NOTHING)
    if twice > _NOTHING and "%z" not in form:
        local = (local.replace(tzinfo=None) - twice).replace(tzinfo=zone.info)
    return local.strftime(form)


def values_at(value: Any, keys: tuple[str, ...], missing: Any = None) -> Iterator[Any]:
    """What is at a path; of a list, what is there in each of its elements, or in the one whose index stands in the path;
    `missing` where there is nothing."""
    if not keys:
        yield value
    elif isinstance(value, list):
        if keys[0].lstrip("-").isdigit():
            index = int(keys[0])
            if -len(value) <= index < len(value):
                yield from values_at(value[index], keys[1:], missing)
        else:
            for one in value:
                yield from values_at(one, keys, missing)
    elif isinstance(value, dict):
        if keys[0] in value:
            yield from values_at(value[keys[0]], keys[1:], missing)
        else:  # a record without it
            yield missing
    else:
        yield missing
