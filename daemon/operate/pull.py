"""How far the APIs of sources are read, for `status` and the page; and what `strandline pull` shows of one round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..sources.pull.outcome import Progress, Pulled
from ..storage.pulls import PullState
from ..storage.receipts import instant_text, local_text
from .wording import counted

_ORDERS = ("new", "corrected", "deleted", "unchanged", "superseded")


def pulls(every: Mapping[str, float], states: Mapping[str, PullState]) -> dict[str, dict[str, Any]]:
    """The state of each source that has an API, or was pulled once, as JSON. `every`: the seconds between two rounds."""
    found = {}
    for source in dict.fromkeys([*every, *states]):
        state = states.get(source, PullState())
        texts = {name: getattr(state, name) for name in ("cursor", "tried_at", "succeeded_at")}
        found[source] = {
            "every_seconds": every.get(source),
            **{name: None if instant is None else instant_text(instant) for name, instant in texts.items()},
            "rounds": state.rounds,
            "error": state.error,
        }
    return found


def pull_rows(sources: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The same for people: source, cursor, last success, and the last error."""
    return [
        (
            name,
            f"cursor {local_text(one['cursor'], '(none)')}",
            f"last success {local_text(one['succeeded_at'], '(never)')}",
            one["error"],
        )
        for name, source in sources.items()
        if (one := source["pull"]) is not None
    ]


@contextmanager
def showing_pages() -> Iterator[Callable[[Progress], None]]:
    """A progress bar on a terminal; nothing elsewhere."""
    from tqdm import tqdm

    with tqdm(unit=" pages", disable=None, leave=False) as bar:

        def tell(one: Progress) -> None:
            bar.set_postfix(records=one.records, bytes=one.bytes, refresh=False)
            bar.update(one.pages - bar.n)

        yield tell


def shown(done: Pulled, totals: Counter[str], state: PullState | None) -> str:
    """The round for a person. `totals`: what the ledger added up of the batches after it."""
    pages, records = counted(done.pages, "page"), counted(done.records, "record")
    came = f"{done.source}: {pages}, {records}, {done.bytes:,} bytes in {done.seconds:.1f} s"
    orders = ", ".join(f"{totals[f'orders.{name}']:,} {name}" for name in _ORDERS if totals[f"orders.{name}"])
    discarded = sum(value for name, value in totals.items() if name.startswith("orders.discarded."))
    lines = [came, f"Orders     {orders or 'nothing new'}" + (f", {discarded:,} discarded" if discarded else "")]
    if number := totals["drops.duplicate"]:
        lines.append(f"           {counted(number, 'page')} applied before")
    if number := totals["drops.quarantined"]:
        lines.append(f"           {counted(number, 'drop')} quarantined")
    if state is not None and state.cursor is not None:
        lines.append(f"Cursor     {local_text(instant_text(state.cursor))}")
    if done.error:
        lines.append(f"Not all of it: {done.error}")
        lines.append(f"What came is applied; `strandline pull {done.source}` goes on from there")
    else:
        lines.append(
            f"All that is new is applied; `strandline history` lists {'the pages' if done.pages else 'all drops'}"
        )
    return "\n".join(lines)
