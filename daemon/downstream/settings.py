"""What follows an output folder, as far as a command must know it before it loads the rest of this package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..core.mapping import Columns
from ..core.retry import Backoff
from .definitions import has_files
from .destinations.settings import Destinations
from .sandbox import Limits

LEDGER, RECORDS = "state/ledger.sqlite", "state/downstream.sqlite"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where models and checks are, what they may use, the destinations, and how long to wait after failures."""

    models: Path
    checks: Path
    limits: Limits
    backoff: Backoff
    columns: Columns
    niceness: int = 0  # of runs
    destinations: Destinations = ()


def is_needed(output: Path, settings: Settings) -> bool:
    """Whether there is anything that follows, or was."""
    is_configured = bool(settings.destinations) or has_files(settings.models) or has_files(settings.checks)
    return is_configured or (output / RECORDS).exists()
