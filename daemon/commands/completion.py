"""Completion in shells: `completion` prints what a shell needs, which then asks the program itself at each Tab (argcomplete).

So what is offered is what this version takes, names of the configuration and of the output too. Nothing is shown where these
cannot be read: a Tab is no place for an error.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..config import Config
    from ..storage.ledger import Ledger

SHELLS = ("bash", "zsh", "fish")
_MOST = 200  # names of drops: a list that nobody can read helps nobody
Completer = Callable[..., list[str]]


def completion(options: argparse.Namespace) -> int:
    """Prints the code for a shell."""
    from argcomplete.shell_integration import shellcode

    # Bash would offer files where nothing fits
    print(shellcode(["strandline"], use_defaults=False, shell=options.shell))
    return 0


# ---------------------------------------------------------------------------------------------------------------- names


def names(of: Callable[[Config], Iterator[str]]) -> Completer:
    """A completer of argcomplete: the names that a function finds for the configuration that is meant."""

    def completer(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        from ..config import load
        from ..execution.process import prepare

        prepare()  # before anything heavy is imported
        with suppress(Exception):
            return [one for one in of(load(parsed_args.config, os.environ)) if one.startswith(prefix)]
        return []

    return completer


def nothing(**_: Any) -> list[str]:
    """For an argument whose values nobody can list; without it, file names are offered."""
    return []


@names
def sources(config: Config) -> Iterator[str]:
    yield from config.sources


@names
def pulled(config: Config) -> Iterator[str]:
    yield from (name for name, one in config.sources.items() if one.pull is not None)


@names
def dates(config: Config) -> Iterator[str]:
    """Those that are published."""
    from ..storage.store import iso_date

    with closing(_ledger(config)) as ledger:
        yield from map(iso_date, sorted(ledger.partitions(), reverse=True))


@names
def quarantined(config: Config) -> Iterator[str]:
    """The names that drops in quarantine came with."""
    from ..operate.quarantine import names_in

    yield from dict.fromkeys(names_in(config.paths.output / "quarantine"))


@names
def applied(config: Config) -> Iterator[str]:
    """The names of the newest drops that can be withdrawn, or applied again."""
    from ..core.model import DropOutcome

    outcomes = (DropOutcome.APPLIED, DropOutcome.WITHDRAWN)
    with closing(_ledger(config)) as ledger:
        some = (one.drop.name for one in ledger.last_results(_MOST) if one.outcome in outcomes)
        yield from dict.fromkeys(islice(some, _MOST))


def followed(config: Config) -> Iterator[str]:
    """The names of models, checks and destinations, whether these have run or not."""
    for folder in (config.paths.models, config.paths.checks):
        with suppress(OSError):
            yield from sorted({path.stem for path in folder.iterdir() if path.suffix in (".sql", ".py")})
    yield from (one.name for one in config.destinations)


following = names(followed)


def presets(prefix: str, **_: Any) -> list[str]:
    from ..sources.mapping_settings import presets

    return [one for one in presets() if one.startswith(prefix)]


def pages(prefix: str, **_: Any) -> list[str]:
    """Of the documentation."""
    from ..operate import docs

    return [one for one in docs.pages() if one.startswith(prefix)]


def tables(prefix: str, **_: Any) -> list[str]:
    from ..core.ddl import TABLES

    return [one for one in TABLES if one.startswith(prefix)]


def _ledger(config: Config) -> Ledger:
    from ..storage.ledger import Ledger

    return Ledger(config.paths.output / "state" / "ledger.sqlite", read_only=True)
