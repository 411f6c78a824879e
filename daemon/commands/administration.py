"""The commands with which somebody sets strandline up, looks whether it can run, and pauses it: init, check, pause, resume."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import EnvironmentFault, StrandlineError, UsageError, cause_of
from .shared import ATTENTION, DONE, engine_of, scratch_folder, show, stop_on_signals

if TYPE_CHECKING:
    from ..batch.engine import Engine
    from ..config import Config
    from ..downstream.destinations.remote import Remote
    from ..operate.check import Finding
    from ..stopping import Stop


def init(options: argparse.Namespace) -> int:
    """Writes a configuration where there is none, and makes the folders that it names."""
    from ..config import DEFAULT_FILE, load
    from ..operate import initial
    from ..wiring import places

    path: Path = options.config or DEFAULT_FILE
    text = initial.content(options.preset)
    os.umask(0o077)  # the file may get secrets
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(
            f"{path} exists, and init writes over nothing; name another file with --config, or move this one away"
        ) from None
    except OSError as error:
        raise EnvironmentFault("write the configuration", path, error.strerror, "Nothing was made.") from None
    try:
        config = load(path, os.environ)
    except UsageError:
        path.unlink()  # a variable is wrong: nothing was made then
        raise
    paths = config.paths
    os.umask(paths.umask)
    for place in places(config):
        place.make()
    for folder in (paths.output, paths.models, paths.checks):
        folder.mkdir(parents=True, exist_ok=True)
    print(f"Wrote {path}, and made {paths.inbox}, {paths.output}, {paths.models} and {paths.checks}.\n\nNext:")
    for number, step in enumerate(initial.next_steps(path, paths.inbox, options.preset), 1):
        print(f"{number}. {step}")
    return DONE


def pause(config: Config, options: argparse.Namespace) -> int:
    from ..storage.pause import pause, paused

    output = config.paths.output.resolve()
    before = paused(output)
    made = pause(output, time.time(), options.reason)
    if before is not None:
        print(f"strandline was {made} already; `strandline resume` ends that")
    else:
        print(
            f"strandline is {made}; a batch that is being applied is finished, and no drop is taken until `strandline resume`"
        )
    return DONE


def resume(config: Config, options: argparse.Namespace) -> int:
    from ..storage.lock import holder_of
    from ..storage.pause import resume

    output = config.paths.output.resolve()
    ended = resume(output)
    running = holder_of(output / "state" / "lock") is not None
    when = f"within {config.watch.rescan_seconds:g} s by the daemon" if running else "by the next run"
    print(
        f"strandline was {ended}; drops are taken {when}" if ended else "strandline was not paused; nothing was changed"
    )
    return DONE


# ---------------------------------------------------------------------------------------------------------------- check


def check(options: argparse.Namespace) -> int:
    """Looks at everything that a run needs, and changes nothing. Exit code 0, 1 (warnings), 2 (errors)."""
    stop = stop_on_signals(ATTENTION)
    from ..config import load
    from ..operate import check as looking

    found: list[Finding] = []
    try:
        config = load(options.config, os.environ)
    except (UsageError, EnvironmentFault) as error:
        found.append(looking.Finding(looking.ERROR, "configuration", str(error)))
    else:
        with scratch_folder("check") as scratch:
            found += _found(config, options.config, scratch, stop)
    if options.json:
        print(json.dumps(looking.as_dict(found), indent=2))
    else:
        show(looking.table(found))
    return looking.exit_code(found)


def _found(config: Config, path: Path | None, scratch: Path, stop: Stop) -> Iterator[Finding]:
    from ..config import DEFAULT_FILE
    from ..operate import check as looking
    from ..wiring import places

    file = path or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    what = str(file.absolute()) if file else "the defaults: there is no config.toml here"
    yield looking.Finding(looking.OK, "configuration", what)
    output = config.paths.output.resolve()
    yield from looking.folders(places(config), output)
    yield from looking.readable("[paths] models", config.paths.models)
    yield from looking.readable("[paths] checks", config.paths.checks)
    yield from looking.disk(output)
    if config.paths.inbox.is_dir():
        yield from looking.leases(config.paths.inbox, config.watch.foreign_settle_seconds)
    yield from looking.instance(output, (config.http.host, config.http.port) if config.http.enabled else None)
    found: list[Finding] = _login(config, path)
    with _telling(found, "ledger"), engine_of(config, stop, dry=scratch) as engine:
        in_ledger = _in_ledger(config, engine)
        found += in_ledger
        found += _pulls(config, engine, scratch, stop, is_read=looking.exit_code(in_ledger) == 0)
        found += _downstreams(config, output, scratch, stop)
    yield from found


def _login(config: Config, path: Path | None) -> list[Finding]:
    """Whether the secrets of [http] are there. `path`: of the configuration."""
    from ..config import DEFAULT_FILE
    from ..observe.access import access_of
    from ..operate.check import WARNING, Finding

    found: list[Finding] = []
    with _telling(found, "login"):
        access_of(config.http, os.environ, (path or DEFAULT_FILE).parent.resolve())
    for name in config.http.literal_secrets:
        what = f"[http] {name} is a secret in the configuration itself; write ${{VARIABLE}} or ${{file:PATH}}"
        found.append(Finding(WARNING, "login", what))
    return found


@contextmanager
def _telling(found: list[Finding], what: str, hint: str = "") -> Iterator[None]:
    """Adds an error of the block to what was found."""
    from ..operate.check import ERROR, Finding

    try:
        yield
    except (StrandlineError, OSError, sqlite3.Error) as error:
        found.append(Finding(ERROR, what, f"{cause_of(error)}{hint}"))


def _in_ledger(config: Config, engine: Engine) -> list[Finding]:
    from ..batch.recovery import refuse_lost_ledger
    from ..operate.check import OK, Finding
    from ..wiring import refuse_retyped

    found: list[Finding] = []
    with _telling(found, "ledger"):
        refuse_lost_ledger(engine)
        refuse_retyped(config, engine.ledger)
        found.append(Finding(OK, "ledger", f"{engine.ledger.drop_count():,} drops"))
    return found


def _pulls(config: Config, engine: Engine, scratch: Path, stop: Stop, *, is_read: bool) -> list[Finding]:
    """The first page of each API. `is_read`: read as a drop would be, which needs a ledger that goes with the configuration."""
    from ..operate import plan
    from ..operate.check import ERROR, OK, WARNING, Finding
    from ..sources.pull.round import first_page
    from ..storage.ledger import Ledger
    from ..wiring import contexts, pulled_source

    found: list[Finding] = []
    path = engine.ledger.path
    for name, configured in config.sources.items():
        if configured.pull is None:
            continue
        what = f"source {name}"
        hint = f"; `strandline pull {name} --dry-run` shows more"
        for setting in configured.pull.literal_secrets():
            found.append(
                Finding(
                    WARNING,
                    what,
                    f"{setting} is a secret in the configuration itself; write ${{VARIABLE}} or ${{file:PATH}}",
                )
            )
        with _telling(found, what):
            source = pulled_source(config, name, os.environ)
            once = replace(source, backoff=replace(source.backoff, attempts=1))  # a person waits, and can ask again
            answer, _ = first_page(once, Ledger.pull_state_of(path, name), None, stop.asked)
            if not is_read:
                found.append(Finding(OK, what, "its API answers; the first page was not read, because of the ledger"))
                continue
            file = scratch / f"{name}-first-page.json"
            file.write_bytes(answer.body)
            context = contexts(config, time.time_ns() // 1000)[name]
            result = plan.plan(engine, lambda: Ledger(path, read_only=True), file, context).result
            extracted, discarded = result.counts.extracted, result.counts.discarded.total()
            if result.outcome == "quarantined":
                found.append(Finding(ERROR, what, f"the first page of its API cannot be read: {result.reason}{hint}"))
            elif discarded:
                text = f"{discarded:,} of the {extracted:,} records of the first page would be discarded{hint}"
                found.append(Finding(WARNING if discarded < extracted else ERROR, what, text))
            else:
                found.append(Finding(OK, what, f"its API answers; the first page has {extracted:,} records"))
    return found


def _downstreams(config: Config, output: Path, scratch: Path, stop: Stop) -> list[Finding]:
    """Models and checks by inspection, as the start does it, and the connection of each destination."""
    from ..downstream.follow import Following
    from ..downstream.records import copy
    from ..downstream.settings import LEDGER, RECORDS, is_needed
    from ..operate.check import ERROR, OK, Finding
    from ..storage.ledger import Ledger
    from ..wiring import following_settings

    settings = following_settings(config)
    if not is_needed(output, settings):
        return []
    if (output / RECORDS).exists():
        copy(output / RECORDS, scratch / RECORDS)
    there = output
    if not (output / LEDGER).exists():  # before the first run: an empty ledger in the scratch folder
        there = scratch
        (scratch / LEDGER).parent.mkdir(exist_ok=True)
        Ledger(scratch / LEDGER).close()
    found: list[Finding] = []
    with _telling(found, "models"), closing(Following(there, settings, dry=scratch)) as following:
        catalog = following.catalog(stop.asked.is_set)
        found += [Finding(ERROR, f"{kind} {name}", str(error)) for (kind, name), error in catalog.errors.items()]
        found += [Finding(OK, f"{one.kind} {one.name}", f"reads {', '.join(one.reads)}") for one in catalog.definitions]
        for remote, _ in following.remotes(stop.asked.is_set):
            found += _destination(remote)
    return found + _receivers(config)


def _destination(remote: Remote) -> list[Finding]:
    """Asks a load, a table or a mirror what it has, which writes nothing there."""
    from ..operate.check import OK, Finding

    found: list[Finding] = []
    with _telling(found, f"{remote.kind} {remote.name}"):
        dates = len(remote.has())
        found.append(Finding(OK, f"{remote.kind} {remote.name}", f"it answers, and has {dates:,} dates"))
    return found


def _receivers(config: Config) -> list[Finding]:
    """What is told of changes. It is not called: a message would tell something that did not happen."""
    from ..downstream.destinations.settings import Notify
    from ..operate.check import ERROR, OK, Finding
    from ..sources.pull.template import Secrets

    found: list[Finding] = []
    for one in config.destinations:
        if isinstance(one, Notify):
            what = f"{one.kind} {one.name}"
            with _telling(found, what):
                Secrets(os.environ, one.folder).read(one.texts(), one.where)
                if one.command and shutil.which(one.command[0]) is None:
                    found.append(Finding(ERROR, what, f"{one.where} command: there is no program {one.command[0]}"))
                else:
                    found.append(Finding(OK, what, "its settings are complete; it was not called"))
    return found
