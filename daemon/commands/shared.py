"""What the commands share: exit codes, the engine, signals, and how a run ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..stopping import Stop

if TYPE_CHECKING:
    from ..batch.engine import Engine
    from ..config import Config
    from ..core.progress import Progress
    from ..downstream.attempts import Followed
    from ..downstream.follow import Following
    from ..observe.observer import Observer
    from ..service import Summary
    from ..storage.ledger import Ledger

DONE, ATTENTION, USAGE, ENVIRONMENT = 0, 1, 2, 3  # exit codes: see cli


def version() -> str:
    from importlib import metadata

    try:
        return metadata.version("strandline")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def commit() -> str:
    """The commit that was built (hatch_build.py writes it into the wheel), or that of the checkout; else "unknown"."""
    import subprocess

    package = Path(__file__).parents[1]
    with suppress(OSError):
        return (package / "commit.txt").read_text().strip()
    if not (package.parent / ".git").exists():  # git would look in the folders above
        return "unknown"
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        asked = subprocess.run(describe, cwd=package, check=False, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):  # there is no git
        return "unknown"
    return asked.stdout.strip() or "unknown"


def stop_on_signals(exit_code: int, *, reloads: bool = False) -> Stop:
    stop = Stop()
    stop.on_signals(exit_code, reloads=reloads)
    return stop


def engine_of(
    config: Config, stop: Stop, dry: Path | None = None, *, anew: bool = False, make: bool = False
) -> AbstractContextManager[Engine]:
    from ..execution.process import prepare

    prepare()  # before anything heavy is imported
    from ..wiring import engine

    return engine(config, stop, dry, anew=anew, make=make)


@contextmanager
def scratch_folder(command: str) -> Iterator[Path]:
    """A temporary folder for one command."""
    from tempfile import TemporaryDirectory

    from ..downstream.scratch import VARIABLE

    with TemporaryDirectory(prefix=f"strandline-{command}-", dir=os.environ.get(VARIABLE)) as folder:
        yield Path(folder)


def refuse_other_ledger(output: Path) -> None:
    """EnvironmentFault where the ledger has another schema version. For commands that only leave a request in the output, which
    would be carried out after the rebuild, when nobody expects it."""
    from ..storage.ledger import Ledger

    path = output / "state" / "ledger.sqlite"
    if path.exists():
        Ledger(path, read_only=True).close()


def gathered(config: Config, *, running: bool = False) -> dict[str, Any]:
    """The status, for the command and for the page. `running`: see looked_at."""
    from ..operate import downstreams
    from ..operate.status import gather
    from ..sources.source_folder import places_of

    output, places = config.paths.output.resolve(), places_of(config.paths.inbox, config.folders)
    with looked_at(output, running=running) as ledger:
        if ledger is not None and not running:
            ledger.refuse_lost_drops()
        follows = downstreams.gather(ledger, output, config.paths.models, config.paths.checks, config.destinations)
        every = {name: one.pull.every for name, one in config.sources.items() if one.pull is not None}
        return gather(ledger, places, output, time.time_ns() // 1000, config.watch.ignore, follows, every)


def used(config: Config, progress: Progress | None = None, *, running: bool = False) -> dict[str, Any]:
    """What the output takes on the disk, for the command and for the page. The ledger is closed before the files are listed.
    `running`: see looked_at."""
    from ..batch.keeping import limits
    from ..core.progress import silent
    from ..operate.usage import gather, known
    from ..storage import ages

    output = config.paths.output.resolve()
    settings = {kind: getattr(config, kind).keep for kind in ages.KINDS}
    with looked_at(output, running=running) as ledger:
        before = known(output, ledger, settings, limits(config), time.time_ns() // 1000)
    return gather(output, before, progress or silent)


@contextmanager
def looked_at(output: Path, seconds: float | None = None, *, running: bool = False) -> Iterator[Ledger | None]:
    """The ledger as it is now, read-only; None before the first run. `seconds`: how long it may be read. `running`: this process
    has made one, so that EnvironmentFault is raised where there is none."""
    from ..core.errors import EnvironmentFault
    from ..storage.ledger import Ledger

    path = output / "state" / "ledger.sqlite"
    if not path.exists():
        if running:
            raise EnvironmentFault("read the ledger in", output, "it is gone", "The log says what became of it.")
        yield None
        return
    with closing(Ledger(path, read_only=True)) as ledger:
        if seconds is not None:
            ledger.end_after(seconds)
        yield ledger


def followed(config: Config, follows: Following, stop: Stop, observers: Sequence[Observer] = ()) -> list[str]:
    """Brings models, checks and destinations up to date; returns the names of those that are not."""
    from ..core.errors import Stopped
    from ..downstream.follower import bring_up_to_date
    from ..wiring import telling

    with suppress(Stopped):
        return bring_up_to_date(follows, config.retry.backoff, stop.asked, telling(observers), _showing_dates())
    return []


def show(text: str) -> None:
    """Prints what is for people; with colours, where these are wanted."""
    from ..operate.colours import painted, wanted

    print(painted(text) if wanted(sys.stdout, os.environ) else text)


def _showing_dates() -> Callable[[Followed], None]:
    """Shows how many of the dates of a downstream are up to date."""
    from ..core import progress

    show = progress.to(sys.stderr)
    totals: dict[tuple[str, str], int] = {}

    def tell(one: Followed) -> None:
        total = totals[one.kind, one.name] = max(totals.get((one.kind, one.name), 0), one.stale)
        if total:
            show(f"bringing {one.kind} {one.name} up to date", total - one.stale, total)

    return tell


def _next(summary: Summary) -> str:
    """What to do after a run."""
    steps = (
        (summary.stopped, "start again: what was archived is applied then"),
        (summary.paused, "strandline resume, then start again"),
        (summary.set_aside, "strandline status says what is set aside, and why"),
        (summary.quarantined, "strandline status has the reasons; then strandline retry, or strandline discard"),
        (summary.behind, "strandline downstream has the errors"),
        (summary.left, "what is left waits, in the inbox or in raw/; the lines above say why"),
        (summary.applied, "strandline sql looks at the result, strandline status at everything"),
        (summary.duplicates, "nothing: these were applied before"),
    )
    return next((text for is_so, text in steps if is_so), "put a file into the inbox")


def ended(summary: Summary, *, once: bool) -> int:
    from ..observe.log import log

    log.info("run ended", extra={"applied": summary.applied, "duplicates": summary.duplicates,
                                 "quarantined": summary.quarantined, "left": summary.left, "behind": summary.behind,
                                 "stopped": summary.stopped, "paused": summary.paused,
                                 "set_aside": summary.set_aside, "next": _next(summary)})  # fmt: skip
    attention = (
        summary.quarantined or summary.left or summary.behind or summary.stopped or summary.paused or summary.set_aside
    )
    return ATTENTION if once and attention else DONE
