"""All benchmarks, one after the other: python -m benchmarks [--quick] [--peers-python PYTHON] [--work FOLDER]

Each part is a command of its own, too (README.md). With `--peers-python`, only dlt and PySpark, which that interpreter has.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.data import WORK, Input, make_input

RECENT = Input()
REST_SECONDS = 60  # after each part: ext4 without a journal is slow to make files where many were just removed
