"""The settings that a reason names, as settings of the source that the drop came from.

Where reasons are made, the source is not known: they name `[sources.default]` and `[input] records_path`. Only the former
exists for every source, under its own name; another source has its `records` instead.
"""

from __future__ import annotations

import re

from ..mapping import DEFAULT_SOURCE
from ..model import ParseContext
from .damage import NEAR
from .envelopes import reads_preset

_SECTION, _PART = "[sources.default]", "[sources.default."
_PRESET = re.compile(r'\. This is the form of (\w+): set preset = "(\w+)" in \[sources\.default\]')
_RECORDS_PATH = re.compile(r'\[input\] records_path( = "[^"]*")?')
_LOOKED_AT = "at records_path = "


def for_source(reason: str, context: ParseContext) -> str:
    """The reason of a drop that was read under this context. The text around the damage stays as it is."""
    text, near, around = reason.partition(NEAR)
    if not context.mapping.is_direct:
        text = _PRESET.sub(lambda found: _other_preset(found[1], found[2], context), text)
    if context.source != DEFAULT_SOURCE:
        section = f"[sources.{context.source}]"
        text = (
            text.replace(_PART, f"[sources.{context.source}.")
            .replace(_SECTION, section)
            .replace(_LOOKED_AT, "at records = ")
        )
        text = _RECORDS_PATH.sub(lambda found: f"records{found[1] or ''} in {section}", text)
    return text + near + around


def _other_preset(shop: str, preset: str, context: ParseContext) -> str:
    """What to do with the records of a shop that came into a source with a mapping of its own."""
    if reads_preset(context.mapping, preset):
        return ""  # it reads this form already: something else is wrong
    return f'. This is the form of {shop}: put it into a source with preset = "{preset}"'
