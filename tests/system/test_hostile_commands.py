"""Commands with hostile arguments, configurations and outputs: each ends with a reason in words, and never with Python's. Some of
them; all with TEST_LONG."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.docs.worlds import history
from tests.support import zygote
from tests.support.command import environment
from tests.support.examples import LONG as LONG_RUN

PYTHON = re.compile(
    r"Traceback|Errno|\b[A-Za-z]+(?:Error|Exception)\b|codec|<\w[\w. ]* at 0x|unexpected error|object has no attribute|NoneType"
)
SETTINGS = {"WATCH__SETTLE_SECONDS": "0", "ENGINE__WORKERS": "1", "HTTP__PORT": "0", "RETRY__ATTEMPTS": "1",
            "RETRY__INITIAL_DELAY_SECONDS": "0.01"}  # fmt: skip
LONG, BYTE, ESCAPE = "x" * 100_000, "\udcff", "\x1b[31m\u202e\n"
TEXTS = ("", BYTE, ESCAPE, LONG, "../../etc/passwd", "9" * 30, "-1", "٣", "a/b", ".", "/dev/null")


def with_each(*words: str, texts: tuple[str, ...] = TEXTS) -> list[tuple[str, ...]]:
    """The words, with each of the texts in place of `?`."""
    return [tuple(text if word == "?" else word.replace("=?", f"={text}") for word in words) for text in texts]


ARGUMENTS = {
    "trace": with_each("trace", "--", "?"),
    "history": with_each("history", "--since=?", texts=("", BYTE, "1e400", "9" * 400, "-1e18", "2026-02-30", "٣", "NaN")),
    "plan": [*with_each("plan", "--", "?"), ("plan", "raw"), ("plan", "/proc/self/mem"),
             *with_each("plan", "x.json", "--source=?")],
    "undo": with_each("undo", "--", "?"),
    "retry": with_each("retry", "--", "?"),
    "discard": with_each("discard", "--", "?"),
    "forget": [*with_each("forget", "--order=?", "--dry-run"),
               *with_each("forget", "--user=?", "--dry-run", texts=(BYTE, ESCAPE))],
    "dates": [
        *with_each("rebuild", "?", texts=("2026-13-40", "", "0001-01-01", "٢٠٢٦-٠٣-٠٢", "20260302", LONG)),
        *with_each("refresh", "daily", "?", texts=("x", "9999-12-31")), *with_each("refresh", "?", texts=("", BYTE, LONG)),
        *with_each("manifest", "?", "s3://bucket/x"), *with_each("manifest", "fact_order", "?"),
        *with_each("manifest", "fact_order", "s3://bucket/x", "?", texts=("", BYTE, "2026-03-40")),
        *with_each("pull", "?"), *with_each("schema", "--dialect=?"), *with_each("?", texts=("", BYTE, LONG)),
        *with_each("--since=?", "--once", texts=("", BYTE, "9" * 400)),
    ],
    "sql": [
        *with_each("sql", "?", texts=("", BYTE, ESCAPE, "'", "SELECT", "SELECT 1; SELECT 2", "SELECT 1/0 + 'a'")),
        ("sql", "COPY fact_order TO 'x'"),
        ("sql", "SELECT * FROM read_csv('/etc/passwd')"), ("sql", "SELECT " + "(" * 500), ("sql", "SELECT error('no')"),
        ("sql", "SELECT CAST('x' AS INT)"),
        *with_each("sql", "SELECT 1", "--output=?", texts=("", "x.exe", "none/x.csv", "/dev/null/x.csv", LONG)),
    ],
    "copies": [
        *with_each("backup", "--", "?", texts=("", "/dev/null/x", "output", "output/x", LONG, "/proc/x")),
        *with_each("restore", "--", "?", texts=("", "none", "config.toml", BYTE, LONG)),
        *with_each("init", "--config=?", texts=("", "/dev/null/x", "none/x.toml", "output", LONG)),
        *with_each("init", "--config", "new.toml", "--preset=?", texts=("", BYTE, "../x", LONG)),
        *with_each("check", "--config=?", texts=("", "output", "none", LONG, BYTE)),
        *with_each("status", "--config=?", texts=("/dev/null/x", "output", "inbox/nothing", LONG)),
    ],
}  # fmt: skip

CONFIGS = {
    "not UTF-8": b'[paths]\ninbox = "\xff"',
    "binary": bytes(range(256)),
    "nested": b"a = " + b"[" * 5000,
    "long number": b"[batch]\nmax_drops = " + b"9" * 10_000,
    "NUL in a path": b'[paths]\ninbox = "a\\u0000b"',
    "long path": b'[paths]\noutput = "' + b"x" * 5000 + b'"',
    "a file as inbox": b'[paths]\ninbox = "config.toml"',
    "a file as output": b'[paths]\noutput = "config.toml"',
    "a device as output": b'[paths]\noutput = "/dev/null"',
    "a place that is read-only": b'[paths]\noutput = "/proc/strandline"',
    "a file as models": b'[paths]\nmodels = "config.toml"',
    "no port": b"[http]\nport = 99999",
    "no host": b'[http]\nhost = "256.256.256.256"',
    "a section as text": b'paths = "x"',
    "a source as text": b'[sources]\nx = "y"',
    "a refused API": b'[sources.x.pull]\nurl = "http://127.0.0.1:9/orders"\n[sources.x]\npreset = "shopify"',
    "no URL": b'[sources.x.pull]\nurl = "http://[/orders"',
    "no scheme": b'[sources.x.pull]\nurl = "ftp://127.0.0.1/orders"',
    "a host that nobody knows": b'[sources.x.pull]\nurl = "http://nobody.invalid/orders"',
    "a database that refuses": b'[load.x]\nurl = "postgresql://127.0.0.1:9/x"',
    "a bucket that refuses": b'[mirror.x]\nurl = "s3://bucket/x"\nendpoint = "http://127.0.0.1:9"',
    "a webhook that refuses": b'[notify.x]\nurl = "http://127.0.0.1:9/"',
    "a log that nobody knows": b'[log]\nlevel = "loud"',
    "a textfile in no folder": b'[metrics]\ntextfile = "none/x.prom"',
}
WITH_CONFIG = (("--once",), ("check",), ("status",), ("pull", "x"), ("trace", "o_1"))

OUTPUTS = {
    "a ledger of garbage": lambda output: (output / "state" / "ledger.sqlite").write_bytes(b"garbage" * 1000),
    "an empty ledger": lambda output: (output / "state" / "ledger.sqlite").write_bytes(b""),
    "a cut ledger": lambda output: _cut(output / "state" / "ledger.sqlite"),
    "a folder as ledger": lambda output: _as_folder(output / "state" / "ledger.sqlite"),
    "a file as state": lambda output: _as_file(output / "state"),
    "a file as raw": lambda output: _as_file(output / "raw"),
    "a file as curated": lambda output: _as_file(output / "curated"),
    "a file as quarantine": lambda output: _as_file(output / "quarantine"),
    "a folder as lock": lambda output: _as_folder(output / "state" / "lock"),
    "no raw copies": lambda output: shutil.rmtree(output / "raw"),
    "published files of garbage": lambda output: [one.write_bytes(b"x") for one in output.glob("curated/*/*.parquet")],
}
WITH_OUTPUT = (
    ("--once",), ("status",), ("usage",), ("history",), ("trace", "o_1"), ("verify",), ("sql", "FROM fact_order"), ("retry",),
    ("undo", "3", "--dry-run"), ("downstream",), ("discard", "19"), ("forget", "--order", "o_1", "--dry-run"), ("check",),
    ("rebuild", "2026-03-02"), ("backup", "copy"), ("rebuild",),
)  # fmt: skip


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _as_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def _as_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("x")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("history")
    history(home)
    (home / "config.toml").write_text("")
    (home / "x.json").write_text("[]")
    return home


def refuse_python(home: Path, words: tuple[str, ...]) -> None:
    """Runs a command, which must say what is wrong in words, if something is."""
    env = environment(**SETTINGS) | {"TMPDIR": str(home)}
    ended = zygote.run(words, home, env)
    shown = [word[:60] for word in words]
    said = ended.stdout + ended.stderr
    assert ended.returncode in (0, 1, 2, 3), (shown, said[-2000:])
    assert not (found := PYTHON.search(said)), (shown, found, said[-2000:])
    assert ended.returncode == 0 or said.strip(), shown
    assert not list(home.glob("strandline-error-*")), shown


@pytest.mark.parametrize("name", ARGUMENTS)
def test_hostile_arguments(name: str, made: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(made, home, symlinks=True)
    for words in ARGUMENTS[name] if LONG_RUN else ARGUMENTS[name][::4]:
        refuse_python(home, words)


@pytest.mark.parametrize("name", CONFIGS)
def test_hostile_configurations(name: str, made: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(made, home, symlinks=True)
    (home / "config.toml").write_bytes(CONFIGS[name])
    for words in WITH_CONFIG if LONG_RUN else WITH_CONFIG[list(CONFIGS).index(name) % 2 : 2]:
        refuse_python(home, words)


@pytest.mark.parametrize("name", OUTPUTS)
def test_damaged_outputs(name: str, made: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(made, home, symlinks=True)
    OUTPUTS[name](home / "output")
    for words in WITH_OUTPUT if LONG_RUN else WITH_OUTPUT[list(OUTPUTS).index(name) % 5 :: 5]:
        refuse_python(home, words)
