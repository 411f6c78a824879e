"""The configuration that `init` writes: config.toml as it is shipped, for a preset if one is named."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ..core.errors import UsageError, instead_of
from ..sources.mapping_settings import preset_text, presets
from ..sources.pull.template import secrets

_SHIPPED = "config.toml"
_DEFAULT_SOURCE = re.compile(r"^# \[sources\.default\]\n# preset = .*\n", re.MULTILINE)
_URL = re.compile(r'\burl = ("[^"]+")')


def shipped() -> str:
    """config.toml, of the package where it is installed, else of the checkout."""
    package = Path(__file__).resolve().parents[1]
    found = next(path for path in (package / _SHIPPED, package.parent / _SHIPPED) if path.is_file())
    return found.read_text(encoding="utf-8")


def content(preset: str | None) -> str:
    """The text of a new configuration. UsageError where there is no such preset."""
    text = shipped()
    if preset is None:
        return text
    if preset not in presets():
        raise UsageError(f"there is no preset {preset}; {instead_of(preset, presets(), 'there are')}")
    section = _section(preset)
    return _DEFAULT_SOURCE.sub(lambda _: section, text, count=1)


def variables(preset: str) -> list[str]:
    """The environment variables with the secrets of a preset's API."""
    return sorted(secrets(preset_text(preset)))


def _section(preset: str) -> str:
    url = _URL.search(preset_text(preset))
    assert url is not None  # a test reads each preset
    needs = " and ".join(variables(preset))
    return (
        f"[sources.default]\npreset = {json.dumps(preset)}\n"
        f"# To read its API instead of files (`strandline docs PULL`), put {needs} into the environment, and write:\n"
        f"# [sources.default.pull]\n# url = {url[1]}\n"
    )


def next_steps(config: Path, inbox: Path, preset: str | None) -> list[str]:
    """What to do after `init`, in three steps."""
    api = (
        f" (or the pull section of {config}, with {', '.join(variables(preset))} in the environment)" if preset else ""
    )
    orders = f"orders of {preset}" if preset else "orders"
    return [
        f"Put a file with {orders} into {inbox}{api}. `strandline plan FILE` shows what one would become.",
        "Run `strandline check`: it tests the settings, the folders and the connections, and changes nothing.",
        "Run `strandline` to watch the inbox, or `strandline --once` to apply what is there; then `strandline status`.",
    ]
