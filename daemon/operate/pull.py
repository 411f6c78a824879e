"""What `strandline pull` shows: a progress bar by page, and what came of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..sources.pull.outcome import Progress, Pulled
from ..storage.pulls import PullState
from ..storage.receipts import instant_text

_ORDERS = ("new", "corrected", "deleted", "unchanged", "superseded")


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
    came = (
        f"{done.source}: {done.pages:,} pages, {done.records:,} records, {done.bytes:,} bytes in {done.seconds:.1f} s"
    )
    orders = ", ".join(f"{totals[f'orders.{name}']:,} {name}" for name in _ORDERS if totals[f"orders.{name}"])
    discarded = sum(value for name, value in totals.items() if name.startswith("orders.discarded."))
    lines = [came, f"Orders     {orders or 'nothing new'}" + (f", {discarded:,} discarded" if discarded else "")]
    for name, meaning in (("duplicate", "pages that were applied before"), ("quarantined", "drops in quarantine")):
        if number := totals[f"drops.{name}"]:
            lines.append(f"           {number:,} {meaning}")
    if state is not None and state.cursor is not None:
        lines.append(f"Cursor     {instant_text(state.cursor)}")
    if done.error:
        lines.append(f"Not all of it: {done.error}")
    return "\n".join(lines)
