"""What runs in the worker process for a destination. It keeps the last one open, so that a round connects once."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from ..contract import DownstreamFailed
from .settings import LOAD, MIRROR, TABLE
from .store import Change, Contents, Delivered, Delivery, Store, Target

_T = TypeVar("_T")
_KINDS = {  # module, class, the extra that brings its libraries
    LOAD: ("postgres", "Postgres", "postgres"),
    TABLE: ("delta", "Delta", "delta"),
    MIRROR: ("objects", "Objects", "s3"),
}
_open: list[Store] = []  # one at most


def destination_contents(target: Target) -> Contents:
    """The files that the rows of a destination came from."""
    return _called(target, lambda store: store.contents())


def destination_deliver(target: Target, delivery: Delivery) -> Delivered:
    """Brings changes to a destination."""
    return _called(target, lambda store: store.deliver(delivery))


def destination_differences(target: Target, files: Sequence[Change], scratch: Path) -> dict[tuple[str, int], str]:
    """How a destination differs from these files, by table and date; nothing where it has the same rows."""

    def compared(store: Store) -> dict[tuple[str, int], str]:
        found = {}
        for file in files:
            if file.path is not None and (difference := store.difference(file.table, file.date, file.path, scratch)):
                found[file.key] = difference
        return found

    return _called(target, compared)


def _called(target: Target, use: Callable[[Store], _T]) -> _T:
    """What a store answers. One that failed is closed: its connection may be broken."""
    store = _opened(target)
    try:
        return use(store)
    except BaseException:
        _close()
        raise


def _opened(target: Target) -> Store:
    if _open and _open[0].target != target:
        _close()
    if not _open:
        module, name, extra = _KINDS[target.kind]
        try:
            cls = getattr(import_module(f".{module}", __package__), name)
        except ModuleNotFoundError as error:
            raise DownstreamFailed(
                f"{target.where}: it needs the Python package {error.name}, which is not installed; "
                f"run pip install 'strandline[{extra}]'"
            ) from None
        _open.append(cls(target))
    return _open[0]


@atexit.register  # a connection that is closed while Python shuts down complains
def _close() -> None:
    while _open:
        with suppress(Exception):  # a broken connection may be unable to say good-bye
            _open.pop().close()
