"""A progress bar for work that takes longer than a second, on a terminal only."""

from __future__ import annotations

from typing import IO, Any, Protocol


class Progress(Protocol):
    """Called with how far a phase is: `done` of `total` units. A new phase begins with a smaller `done`."""

    def __call__(self, phase: str, done: int, total: int) -> None: ...


def silent(phase: str, done: int, total: int) -> None:
    """Shows nothing."""


class Bars:
    """One bar at a time, for the current phase; it disappears when the phase is done."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._bar: Any = None
        self._phase = ""

    def __call__(self, phase: str, done: int, total: int) -> None:
        if self._bar is None or phase != self._phase:
            self._end()
            self._bar, self._phase = self._begun(phase, total), phase
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._end()

    def _begun(self, phase: str, total: int) -> Any:
        from tqdm import tqdm

        form = "{desc}: {percentage:3.0f}% |{bar:30}| {remaining} left"
        return tqdm(desc=phase, total=total, file=self._stream, delay=1.0, miniters=1, leave=False, bar_format=form)

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def to(stream: IO[str]) -> Progress:
    """Bars on a terminal, and nothing elsewhere."""
    return Bars(stream) if stream.isatty() else silent
