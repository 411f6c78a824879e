"""How far long work is: a line on a terminal that is written again and again, for what takes longer than a second."""

from __future__ import annotations

from typing import IO, Any, Protocol

_FORM = "{desc}: {n_fmt} of {total_fmt}, {rate_fmt} |{bar:20}| {remaining} left"
_READABLE = 1_000_000  # larger numbers, as of bytes, are written with a unit
_WITHOUT_TOTAL = "{desc}: {n_fmt}, {rate_fmt}"


class Progress(Protocol):
    """Called with how far a phase is: `done` of `total` units; 0 of it: nobody knows how many there are. A new phase begins with
    a smaller `done`."""

    def __call__(self, phase: str, done: int, total: int) -> None: ...


def silent(phase: str, done: int, total: int) -> None:
    """Shows nothing."""


class Bars:
    """One line at a time, for the current phase; it disappears when the phase is done, or another one begins."""

    def __init__(self, stream: IO[str], delay_seconds: float = 1.0) -> None:
        self._stream, self._delay = stream, delay_seconds
        self._bar: Any = None
        self._phase = ""

    def __call__(self, phase: str, done: int, total: int) -> None:
        bar = self._bar  # another thread may take it away meanwhile; then it ignores this
        if bar is None or phase != self._phase or done < bar.n:
            self.end()
            bar, self._phase = self._begun(phase, done, total), phase
            self._bar = bar
            _open.add(self)
        bar.update(done - bar.n)
        if 0 < total <= done:
            self.end()

    def _begun(self, phase: str, done: int, total: int) -> Any:
        from tqdm import tqdm

        return tqdm(
            desc=phase, initial=done, total=total or None, file=self._stream, delay=self._delay, miniters=1, leave=False, unit="",
            unit_scale=total > _READABLE, bar_format=_FORM if total else _WITHOUT_TOTAL, dynamic_ncols=True,
        )  # fmt: skip

    def end(self) -> None:
        """Takes the line away."""
        bar, self._bar = self._bar, None
        _open.discard(self)
        if bar is not None:
            bar.close()


_open: set[Bars] = set()


def make_room() -> None:
    """Takes away the line that is shown, if one is: something else is to be written to the terminal."""
    for bars in list(_open):
        bars.end()


def to(stream: IO[str], otherwise: Progress = silent) -> Progress:
    """A line on a terminal, and `otherwise` elsewhere."""
    return Bars(stream) if stream.isatty() else otherwise
