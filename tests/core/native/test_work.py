"""What reading takes grows with the text, and no faster: for each hostile form, twice the text takes at most twice the work.

The work of the C is counted in basic blocks, that of Python in bytes and calls; no time is measured: tests/support/counted.py.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

import pytest

from daemon.core.mapping import DIRECT, FieldMapping
from daemon.core.parse import reference
from daemon.core.parse.parse import Piece, parse
from tests.hostile_forms import FORMS
from tests.support import REPO
from tests.support.as_model import CONTEXT
from tests.support.counted import Counted
from tests.support.examples import LONG

# Bytes; twice as many next. More than a constant overhead, less than a block of records
SIZE = 12_000 if LONG else 1_200
MOST_GROWTH = 1.1  # of the work for a byte
MOST_STEPS = 100  # of the C for a byte
MAPPED = FieldMapping(
    fields=(("amount", ("total.value", "amount")), ("user_id", ("customer.id", "email"))), id_prefix="a-"
)
PARSE = str(REPO / "daemon" / "core")
# Functions of str and bytes that go through all of it. The others look at a part, or are counted by what they return.
WHOLE = {"count", "decode", "encode", "isascii", "lower", "replace", "split", "strip", "upper"}
# Names of arguments that say that only the text from there on is meant: what is looked at shows by what is returned.
PLACES = {"position", "at"}


class Work:
    """Counts calls, and the bytes of the texts that functions of `core` are given."""

    def __init__(self) -> None:
        self.done = 0
        self._begun: set[FrameType] = set()  # generators: each value that they yield is a call, too

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "c_call":
            owner = getattr(arg, "__self__", None)
            self.done += 1 + (len(owner) if isinstance(owner, (str, bytes)) and arg.__name__ in WHOLE else 0)
        elif frame.f_code.co_filename.startswith(PARSE):
            if event == "call":
                self.done += 1 + (0 if frame in self._begun else self._given(frame))
                if frame.f_code.co_flags & inspect.CO_GENERATOR:
                    self._begun.add(frame)
            elif event == "return" and frame.f_code is reference._scan.__code__:
                text, start = frame.f_locals["text"], frame.f_locals["position"]
                self.done += (len(text) if arg is None else arg[0]) - start  # where it raises, at most all of it

    @staticmethod
    def _given(frame: FrameType) -> int:
        names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
        if PLACES & set(names):
            return 0
        values = frame.f_locals
        return sum(len(values[name]) for name in names if isinstance(values.get(name), (str, bytes)))


def work_of(counted: Counted, call: Callable[[], object]) -> tuple[int, int]:
    """What a call takes, of the C and of Python."""
    work = Work()
    with counted.in_use():
        sys.setprofile(work)
        try:
            call()
        finally:
            sys.setprofile(None)
        return counted.steps, work.done


@pytest.mark.parametrize("form", FORMS)
def test_reading_a_hostile_form_takes_linear_work(form: str, counted: Counted) -> None:
    """Directly and under a mapping, in the C and in Python."""
    for mapping in (DIRECT, MAPPED):
        context = replace(CONTEXT, mapping=mapping)
        once, twice = (FORMS[form](size) for size in (SIZE, 2 * SIZE))
        c, python = zip(*(work_of(counted, partial(parse, [Piece(1, d, context)])) for d in (once, twice)), strict=True)
        most = MOST_GROWTH * len(twice) / len(once)
        assert c[1] <= MOST_STEPS * len(twice), "steps for a byte"
        assert c[1] <= most * c[0], "the C"
        assert python[1] <= most * python[0], "Python"
