"""Builds the engine and the service from the configuration."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .batch.engine import Engine
from .batch.keeping import limits
from .batch.outcome import BatchOutcome
from .batch.reading import Limits, Reader
from .batch.recovery import recover
from .batch.retries import Retry
from .batch.rewriting import Rewriter
from .batch.taking import Taking
from .config import Config
from .core import progress
from .core.entries import Drop
from .core.errors import UsageError
from .core.mapping import DEFAULT_SOURCE
from .core.model import Contexts, ParseContext
from .downstream.sandbox import Limits as SandboxLimits
from .downstream.settings import Settings as FollowingSettings
from .downstream.settings import is_needed
from .execution import cluster
from .execution.workers import Workers
from .observe.log import Reporter, Telling, log, set_up
from .observe.observer import Observer
from .operate.presence import refuse_half_restored, refuse_missing
from .service import Service, ServiceSettings
from .sources.inbox import Inbox
from .sources.inboxes import Inboxes
from .sources.source_folder import SourceFolder, places_of, refuse_nested
from .sources.source_settings import refuse_without_api
from .stopping import Stop
from .storage import files
from .storage.ledger import Ledger
from .storage.ledger_schema import set_aside_other_version
from .storage.lock import ALREADY_RUNNING, STOP_FIRST, Lock
from .storage.raw import RawLayer
from .storage.store import Store

if TYPE_CHECKING:  # what a run without models, destinations and pulled sources does not load
    from .downstream.attempts import Followed, Progress
    from .downstream.follow import Following
    from .downstream.follower import Follower
    from .sources.pull.outcome import Pulled
    from .sources.pull.puller import Gate, Puller
    from .sources.pull.round import PulledSource
    from .sources.watchers import Watchers

_BESIDE_NICENESS = 10


@contextmanager
def engine(
    config: Config, stop: Stop, dry: Path | None = None, *, anew: bool = False, make: bool = True
) -> Iterator[Engine]:
    """What a batch passes through, over a locked output. `dry`: a scratch folder; nothing is locked then, the ledger is opened
    read-only, and nothing outside the scratch folder changes. `anew`: a ledger of another version is set aside. `make`: creates
    the inbox and the output; without it, UsageError where one is missing."""
    set_up(config.log.level, config.log.format)
    if dry is None and not make:
        refuse_missing("inbox", config.paths.inbox)
        refuse_missing("output", config.paths.output)
    output = config.paths.output.resolve()
    refuse_half_restored(output)
    store = Store(output, dry)
    path = output / "state" / "ledger.sqlite"
    with ExitStack() as stack:
        lock = None
        if dry is None:
            lock = stack.enter_context(closing(Lock(config.paths.output, ALREADY_RUNNING if make else STOP_FIRST)))
            for place in places(config):
                place.make()
            files.make_folder(store.staging)
            files.make_folder(store.curated)
            if anew and (aside := set_aside_other_version(path)):
                log.warning("set aside a ledger of another version", extra={"ledger": str(aside)})
        elif not path.exists():  # before the first run: an empty ledger in the scratch folder
            path = dry / "ledger.sqlite"
        workers = config.engine.worker_count
        reading: Executor
        if config.engine.scheduler:
            reading = stack.enter_context(cluster.connected(config.engine.scheduler, store.staging, config.paths.umask))
            workers = 2 * reading.cores
        else:
            reading = stack.enter_context(Workers(workers, config.engine.memory_limit))
        threads = stack.enter_context(ThreadPoolExecutor(workers, "rewrite"))
        ledger = stack.enter_context(closing(Ledger(path, read_only=dry is not None and dry not in path.parents)))
        raw = RawLayer(output, store.staging)
        yield Engine(
            output,
            ledger=ledger,
            raw=raw,
            store=store,
            reader=Reader(output, store.staging, _limits(config), reading, ledger.blocks()),
            rewriter=Rewriter(threads, reading, store.staging) if config.engine.scheduler else Rewriter(threads),
            taking=Taking(raw, ledger.drop, config.watch.foreign_settle_seconds),
            background=stack.enter_context(ThreadPoolExecutor(1, "background")),
            progress=progress.to(sys.stderr, Telling()),
            stopped=stop.asked.is_set,
            lock=lock,
            dry=dry is not None,
        )


def reconfigured(config: Config, engine: Engine) -> Engine:
    """The same engine, over the same lock, ledger and workers, with the settings of another configuration."""
    set_up(config.log.level, config.log.format)
    taking = Taking(engine.raw, engine.ledger.drop, config.watch.foreign_settle_seconds)
    return replace(engine, reader=replace(engine.reader, limits=_limits(config)), taking=taking)


def _limits(config: Config) -> Limits:
    return Limits(config.input.max_drop_bytes, config.input.max_expansion, tuple(config.watch.ignore))


def recovered(config: Config, engine: Engine) -> list[Drop]:
    """Finishes what an earlier run began. Returns the drops that are archived and not yet applied."""
    return recover(engine, places(config), contexts(config))


def service(config: Config, engine: Engine, observers: Sequence[Observer], since: int | None = None) -> Service:
    """The loop over an engine; the log is the first of its observers. `since`: an instant in microseconds. Raises UsageError if
    an extra column has another type than before."""
    refuse_retyped(config, engine.ledger)
    backoff = config.retry.backoff
    settings = ServiceSettings(
        contexts(config),
        config.batch.max_drops,
        config.batch.max_bytes,
        config.batch.linger_seconds,
        config.watch.settle_seconds + backoff.total_seconds + 1.0,
        config.watch.foreign_settle_seconds + 1.0,
        backoff,
        since,
        limits(config),
    )
    inboxes = [
        Inbox(
            place,
            config.watch.settle_seconds,
            backoff,
            foreign_settle_seconds=config.watch.foreign_settle_seconds,
            ignored=config.watch.ignore,
            accept=lambda folder: refuse_nested(folder, engine.output),
        )
        for place in places(config)
    ]
    return Service(engine, Inboxes(inboxes), settings, [Reporter(), *observers], lambda: recovered(config, engine))


def following_settings(config: Config, *, beside: bool = False) -> FollowingSettings:
    """What models and checks may use. `beside` batches: these come first."""
    models = config.models
    limits = SandboxLimits(models.memory_limit, models.thread_count, models.time_limit)
    niceness = _BESIDE_NICENESS if beside else 0
    return FollowingSettings(
        config.paths.models,
        config.paths.checks,
        limits,
        config.retry.backoff,
        config.columns,
        niceness,
        config.destinations,
    )


def following(config: Config, engine: Engine, *, beside: bool = False) -> Following | None:
    """What follows an output; None where there are no models, checks and destinations."""
    settings = following_settings(config, beside=beside)
    if not is_needed(engine.output, settings):
        return None
    from .downstream.follow import Following

    return Following(engine.output, settings, engine.guard.check)


@contextmanager
def checked_following(
    config: Config, engine: Engine, stop: Stop, *, beside: bool = False
) -> Iterator[Following | None]:
    """The same at the start of a command. Raises UsageError where a file of a model or check is wrong."""
    found = following(config, engine, beside=beside)
    if found is None:
        yield None
        return
    with closing(found):
        found.catalog(stop.asked.is_set).refuse_errors()
        yield found


def telling(observers: Sequence[Observer]) -> Callable[[Sequence[Followed]], None]:
    """Tells the log and the observers of a round."""
    told = [Reporter(), *observers]

    def tell(results: Sequence[Followed]) -> None:
        for observer in told:
            observer.followed(results, time.time())

    return tell


def telling_progress(observers: Sequence[Observer]) -> Progress:
    """Tells the observers how far a round is."""

    def tell(one: Followed) -> None:
        for observer in observers:
            observer.following(one)

    return tell


def follower_of(config: Config, engine: Engine, first: Following | None, observers: Sequence[Observer]) -> Follower:
    """Follows beside a daemon. `first`: what follows at the start; models may also come later."""
    from .downstream.follower import Follower

    ready = [first] if first else []
    return Follower(
        lambda: ready.pop() if ready else following(config, engine, beside=True),
        config.watch.rescan_seconds,
        config.retry.backoff,
        telling(observers),
        Reporter().noted,
        telling_progress(observers),
    )


class Waking(Observer):
    """Asks for a round of models and checks after each batch."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    def applied(self, outcome: BatchOutcome, latencies: Sequence[float]) -> None:
        self._follower.wake()


def contexts(config: Config, received_at: int = 0) -> Contexts:
    """What the drops of each source are parsed under."""
    tolerance = int(config.orders.future_tolerance * 1_000_000)
    defaults = {DEFAULT_SOURCE: config.input.records_path}
    return {
        name: ParseContext(
            received_at, tolerance, source.records_path or defaults.get(name, ""), source=name, mapping=source.mapping
        )
        for name, source in config.sources.items()
    }


def refuse_retyped(config: Config, ledger: Ledger) -> None:
    """Raises UsageError if an extra column has another type than before: its files would have no schema in common."""
    today = dict(config.columns)
    for name, before in ledger.columns():
        if (kind := today.get(name, before)) != before:
            raise UsageError(
                f'[columns] {name} = "{kind}" is not allowed; it is "{before}" in what is published. Choose another name, '
                "or run `strandline rebuild`, which reads all drops again with the columns of this configuration"
            )


def pulled_sources(config: Config, environment: Mapping[str, str], only: str | None = None) -> list[PulledSource]:
    """The sources with an API, or `only` this one. UsageError where a secret is missing. Warns of secrets in the file itself."""
    if all(source.pull is None for source in config.sources.values()):
        return []  # most runs: what requests need takes a sixteenth of the start
    from .sources.pull.round import PulledSource

    of_source = {place.source: place for place in places(config)}
    default = config.input.records_path
    found = [
        PulledSource(
            name, source.pull, source.mapping, source.records_path or (default if name == DEFAULT_SOURCE else ""),
            of_source[name], config.retry.backoff, environment,
        )
        for name, source in config.sources.items()
        if source.pull is not None and only in (None, name)
    ]  # fmt: skip
    for one in found:
        one.secrets()
        if one.pull.max_page_bytes > config.input.max_drop_bytes:
            raise UsageError(
                f"{one.where} max_page_bytes = {one.pull.max_page_bytes} is not allowed; it must be at most [input] "
                f"max_drop_bytes, {config.input.max_drop_bytes}, or pages could not be taken"
            )
        if one.pull.ca_file and not Path(one.pull.ca_file).is_file():
            raise UsageError(f"{one.where} ca_file = {one.pull.ca_file} is not allowed; there is no such file")
        for setting in one.pull.literal_secrets():
            log.warning(
                f"{one.where} {setting} is a secret in the configuration itself; write ${{VARIABLE}} or ${{file:PATH}}"
            )
    return found


def pulled_source(config: Config, name: str, environment: Mapping[str, str]) -> PulledSource:
    """The source with this name. UsageError where it is not configured, or has no API."""
    refuse_without_api(config.sources, name)
    return pulled_sources(config, environment, name)[0]


def pull_all(sources: Sequence[PulledSource], engine: Engine, stop: Stop, observers: Sequence[Observer]) -> list[str]:
    """One round of each source; returns the names of those that failed. Raises Stopped."""
    if not sources:
        return []
    from .sources.pull.round import pull_round

    behind = []
    for source in sources:
        done = pull_round(source, engine.ledger.path, stop.asked, check=engine.guard.check)
        for observer in (Reporter(), *observers):
            observer.pulled(done, time.time())
        if done.error:
            behind.append(source.name)
    return behind


def pullers_of(
    config: Config, sources: Sequence[PulledSource], engine: Engine, observers: Sequence[Observer]
) -> tuple[list[Puller], list[Observer]]:
    """Pulls beside a daemon, a thread for each source; and what must hear of its events."""
    from .sources.pull.puller import Gate, Puller

    gate, hears = Gate(engine.output), _Hears([Reporter(), *observers])
    made = [Puller(one, engine.ledger.path, gate, engine.guard.check, hears, Reporter().noted) for one in sources]
    return made, [_Pausing(gate)]


class Counting(Observer):
    """Adds up what the ledger adds up of each batch."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()

    def applied(self, outcome: BatchOutcome, latencies: Sequence[float]) -> None:
        for (_, name), value in outcome.totals.items():
            self.totals[name] += value


class _Hears:
    """Tells several observers of a round."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def pulled(self, one: Pulled, now: float) -> None:
        for observer in self._observers:
            observer.pulled(one, now)


class _Pausing(Observer):
    """Closes the gate of pulls while the loop waits for its environment."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def failed(self, retry: Retry) -> None:
        self._gate.is_paused = self._gate.is_paused or retry.exhausted

    def recovered(self) -> None:
        self._gate.is_paused = False


def places(config: Config) -> list[SourceFolder]:
    """Where the drops of each source arrive."""
    return places_of(config.paths.inbox, config.folders)


def watchers(config: Config, wake: Callable[[], None]) -> Watchers:
    """What notices new drops, in the folder of each source."""
    from .sources.watcher import Watcher
    from .sources.watchers import Watchers

    return Watchers([Watcher(place, config.watch.mode, config.watch.rescan_seconds, wake) for place in places(config)])
