"""What the process imports that workers are forked from: all that a call needs, once, and prepared as entry points are."""

from .process import prepare

prepare()  # before anything heavy is imported; what is forked has it, too

from . import tasks  # noqa: E402, F401
