"""Keeps pandas out of processes that never use it.

pyarrow imports pandas, where it is installed, at its first conversion, only to ask whether an object is a DataFrame.
That costs a third of a second in each process. Entry points (cli, worker processes) say here that there is none to
ask about; libraries that are imported by others (notebooks, frames.py) never do.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder


class _NoPandas(MetaPathFinder):
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "pandas":
            raise ModuleNotFoundError("pandas is not loaded in this process", name=name)


def without_pandas() -> None:
    """Lets pyarrow find no pandas in this process, unless it is loaded already."""
    if "pandas" in sys.modules:
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        import pyarrow as pa

        pa.array([])  # pyarrow asks once, and remembers the answer
    finally:
        sys.meta_path.remove(finder)
