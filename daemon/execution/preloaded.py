"""Imported by the process that workers are forked from, so that a worker starts with everything that a call needs."""

from .process import prepare

prepare()  # before anything heavy is imported; forked workers inherit it

from . import tasks  # noqa: E402, F401
