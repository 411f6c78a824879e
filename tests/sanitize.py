"""Runs the tests that touch the C on a build with ASan and UBSan: `make sanitize`. The first error ends the process.

    python -m tests.sanitize [arguments of pytest]

First it shows that an error would be seen: a call that reads past its text must end with a report.
"""

from __future__ import annotations

import subprocess
import sys

from tests.support import REPO
from tests.support.instrumented import checkout, environment

# Those whose subject is the C, or both parsers; test_fuzz reads the committed inputs. What compiles the C itself is left out.
TESTS = (
    "tests/core/native/test_bindings.py", "tests/core/merge", "tests/core/parse/test_parse.py",
    "tests/core/parse/test_documents.py", "tests/core/parse/test_mapped.py", "tests/core/parse/test_shapes.py",
    "tests/test_fuzz.py",
)  # fmt: skip
FLAGS = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
TOO_FAR = """
import ctypes
from daemon.core.native import bindings
text = b"a" * 100
bindings.library.strandline_lines(text, 1_000, ctypes.byref(bindings._SpanMemory().spans))
"""


def main() -> int:
    compiler = "gcc"
    folder = checkout(REPO / "build" / "sanitized", compiler, FLAGS)
    names = ("libasan.so", "libubsan.so")
    libraries = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in names
    ]
    variables = environment(libraries)
    seen = subprocess.run(
        [sys.executable, "-c", TOO_FAR], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    if "AddressSanitizer" not in seen.stderr:
        print(f"a read past a text was not reported, so this build shows nothing: {seen.stderr}", file=sys.stderr)
        return 1
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *TESTS, *sys.argv[1:]]
    return subprocess.run(command, cwd=folder, env=variables, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
