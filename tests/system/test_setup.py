"""`strandline init` and `strandline check`; and that no other command takes a mistyped output for an empty one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon.cli import main
from daemon.config import Config, load
from daemon.operate import initial
from daemon.sources.mapping_settings import presets
from daemon.storage.pause import pause
from tests.support import REPO
from tests.support.api import Api, Asked, Reply, page
from tests.support.command import drop, once, order, receipts, strandline
from tests.support.harness import tree

Levels = dict[str, tuple[str, str]]  # by check: the level and the text

STARTS = "`strandline` watches the inbox, `strandline --once` applies what is there"


def looked(home: Path, expected: int, **settings: str) -> Levels:
    """What `check` finds that is not well, by what it looked at."""
    ended = strandline(home, "check", "--json", **settings)
    assert ended.returncode == expected, ended.stdout + ended.stderr
    found = json.loads(ended.stdout)
    levels = [one["level"] for one in found["findings"]]
    assert (levels.count("error"), levels.count("warning")) == (found["errors"], found["warnings"])
    return {one["check"]: (one["level"], one["what"]) for one in found["findings"] if one["level"] != "ok"}


def unchanging(home: Path) -> dict[str, str]:
    """Every file with its hash, but those that SQLite keeps beside a database that anybody reads."""
    return {name: sha256 for name, sha256 in tree(home).items() if not name.endswith(("-shm", "-wal"))}


# ----------------------------------------------------------------------------------------------------------------- init


def test_init_writes_the_shipped_configuration_and_check_is_content(tmp_path: Path) -> None:
    """Every setting with its default; the folders; three steps. Nothing is written over."""
    ended = strandline(tmp_path, "init")
    assert ended.returncode == 0
    assert [line[:2] for line in ended.stdout.splitlines()[-3:]] == ["1.", "2.", "3."]
    assert (tmp_path / "config.toml").read_text() == (REPO / "config.toml").read_text()
    assert {one.name for one in tmp_path.iterdir() if one.is_dir()} == {"inbox", "output", "models", "checks"}
    assert {one.stat().st_mode & 0o777 for one in tmp_path.iterdir() if one.is_dir()} == {0o700}
    before = tree(tmp_path)
    ended = strandline(tmp_path, "check", HTTP__PORT="0")
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, f"everything is well; {STARTS}"), ended.stdout
    (tmp_path / "config.toml").write_text("# mine\n")
    assert main(["init", "--preset", "shopify", "--config", str(tmp_path / "config.toml")]) == 2
    assert (tmp_path / "config.toml").read_text() == "# mine\n"
    (tmp_path / "config.toml").write_text((REPO / "config.toml").read_text())
    assert tree(tmp_path) == before


@pytest.mark.parametrize("preset", presets())
def test_init_writes_the_preset_and_how_to_read_its_api(preset: str, tmp_path: Path) -> None:
    """The orders of the inbox are read as the preset has them. Without the `#`, the lines of the pull are right, too."""
    path = tmp_path / "own.toml"
    assert main(["init", "--preset", preset, "--config", str(path)]) == 0
    alone = tmp_path / "alone.toml"
    alone.write_text(f'[sources.default]\npreset = "{preset}"\n')
    assert load(path, {}).sources == load(alone, {}).sources != Config().sources
    assert load(path, {}).batch == Config().batch
    text = path.read_text()
    for variable in initial.variables(preset):
        assert f"{variable} " in text
    begun = text.replace("# [sources.default.pull]\n# url", "[sources.default.pull]\nurl")
    assert begun != text
    path.write_text(begun)
    pull = load(path, {}).sources["default"].pull
    assert pull is not None and pull.url.startswith("https://")


def test_init_leaves_nothing_where_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown preset, a folder that is not there, a wrong variable."""
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--preset", "nobody"]) == 2
    assert main(["init", "--config", str(tmp_path / "gone" / "config.toml")]) == 3
    monkeypatch.setenv("STRANDLINE_BATCH__MAX_DROPS", "none")
    assert main(["init"]) == 2
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------------- check


def test_check_changes_nothing_beside_what_a_run_left(tmp_path: Path) -> None:
    """Not a byte, in the output, the inbox or elsewhere; also where models have results and drops wait."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "daily.sql").write_text("SELECT date, count(*) AS n FROM fact_order GROUP BY date")
    drop(tmp_path, "a.json", [order(1)])
    assert once(tmp_path).returncode == 0
    drop(tmp_path, "b.json", [order(2)])
    before = unchanging(tmp_path)
    ended = strandline(tmp_path, "check", HTTP__PORT="0")
    assert ended.returncode == 0 and "model daily" in ended.stdout and "1 drops" in ended.stdout
    assert unchanging(tmp_path) == before


def test_check_finds_what_a_run_would_fail_at(tmp_path: Path) -> None:
    """Each with its own finding, so that one mistake hides no other. Nothing is made, although most of it is missing."""
    for name, text in (("broken.sql", "SELECT nothing FROM fact_order"), ("good.sql", "SELECT date FROM fact_order")):
        (tmp_path / "models").mkdir(exist_ok=True)
        (tmp_path / "models" / name).write_text(text)
    (tmp_path / "config.toml").write_text("""
[sources.unset.pull]
url = "http://127.0.0.1:9/"
headers = {X-Token = "${NOT_SET}"}
[sources.gone.pull]
url = "http://127.0.0.1:9/"
headers = {X-Token = "literal"}
[load.warehouse]
dsn = "postgresql://nobody:do-not-show@127.0.0.1:9/none?connect_timeout=2"
[notify.team]
command = ["no-such-program"]
[http]
basic_auth = "jo:do-not-show"
bearer_token = "${NO_TOKEN}"
""")
    before = tree(tmp_path)
    ended = strandline(tmp_path, "check", "--json", HTTP__PORT="0")
    assert ended.returncode == 2
    found = [(one["level"], one["check"], one["what"]) for one in json.loads(ended.stdout)["findings"]]

    def is_found(level: str, check: str, *parts: str) -> bool:
        return any(one[:2] == (level, check) and all(part in one[2] for part in parts) for one in found)

    assert is_found("error", "login", "[http]", "NO_TOKEN is missing")
    assert is_found("warning", "login", "[http] basic_auth is a secret in the configuration itself")
    assert is_found("warning", "paths", "[paths] inbox", "does not exist")
    assert is_found("warning", "paths", "[paths] output", "does not exist")
    assert is_found("error", "model broken", "nothing")
    assert is_found("ok", "model good", "fact_order")
    assert is_found("error", "source unset", "NOT_SET")
    assert is_found("warning", "source gone", "headers.X-Token is a secret")
    assert is_found("error", "source gone", "127.0.0.1:9")
    assert is_found("error", "load warehouse", "[load.warehouse]")
    assert is_found("error", "notify team", "no-such-program")
    assert "do-not-show" not in ended.stdout and "literal" not in ended.stdout
    assert tree(tmp_path) == before


@contextmanager
def api(document: object) -> Iterator[str]:
    """A server whose every page is this document."""

    def answer(asked: Asked) -> Reply:
        return page(document)

    one = Api(answer)
    try:
        yield one.url
    finally:
        one.close()


def test_check_reads_the_first_page_of_each_api(tmp_path: Path) -> None:
    """As drops: well, in part, not at all. Nothing is kept of it; a pause and another type of a column are found, too."""
    (tmp_path / "config.toml").write_text('[columns]\nstatus = "text"\n')
    drop(tmp_path, "a.json", [order(1, status="paid")])
    assert once(tmp_path).returncode == 0
    pause(tmp_path / "output", 1_700_000_000.0, "")
    with api([order(1), order(2)]) as good, api([order(1), {"order_id": 5}]) as partly, api({"error": "no"}) as bad:
        sections = [
            f'[sources.{name}.pull]\nurl = "{url}/"\n'
            for name, url in (("good", good), ("partly", partly), ("bad", bad))
        ]
        (tmp_path / "config.toml").write_text("".join(sections))
        before = unchanging(tmp_path)
        found = looked(tmp_path, 2, HTTP__PORT="0")
        assert unchanging(tmp_path) == before
        (tmp_path / "config.toml").write_text('[columns]\nstatus = "decimal"\n' + sections[0])
        retyped = looked(tmp_path, 2, HTTP__PORT="0")
    assert retyped["ledger"][0] == "error" and '[columns] status = "decimal" is not allowed' in retyped["ledger"][1]
    assert found.keys() == {"paths", "instance", "source partly", "source bad"}
    assert found["instance"][0] == "warning" and "strandline resume" in found["instance"][1]
    assert found["source partly"][0] == "warning" and "1 of the 2 records" in found["source partly"][1]
    assert found["source bad"][0] == "error" and "an error message of an API" in found["source bad"][1]
    assert found["paths"][0] == "warning"  # the folders of the sources, which the next start makes


def test_check_tells_of_a_wrong_configuration_as_of_anything_else(tmp_path: Path) -> None:
    """Programs read JSON then, too."""
    (tmp_path / "config.toml").write_text("[batch]\nmax = 1\n")
    assert looked(tmp_path, 2)["configuration"][0] == "error"


# ---------------------------------------------------------------------------------------------- nothing is made by others


@pytest.mark.parametrize("there", [False, True], ids=["missing", "empty"])
@pytest.mark.parametrize(
    "words",
    [
        ("verify",), ("verify", "--json"), ("status",), ("retry",), ("rebuild",), ("rebuild", "2026-03-02"), ("trace", "o_1"),
        ("downstream",), ("refresh", "daily"), ("sql", "SELECT 1"), ("manifest", "fact_order", "s3://bucket"), ("pause",),
        ("resume",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_mistyped_output_is_an_error_that_names_the_setting(
    words: tuple[str, ...],
    there: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, nothing on standard output, nothing is made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inbox").mkdir()
    if there:
        (tmp_path / "outptu").mkdir()
    monkeypatch.setenv("STRANDLINE_PATHS__OUTPUT", "outptu")
    before = sorted(os.listdir(tmp_path))
    assert main(words) == 2
    said = capsys.readouterr()
    assert f"[paths] output = {tmp_path / 'outptu'}" in said.err and said.out == ""
    assert sorted(os.listdir(tmp_path)) == before and (not there or not os.listdir(tmp_path / "outptu"))


def test_pull_makes_neither_an_output_nor_an_inbox(tmp_path: Path) -> None:
    """It may be the first run in an output that `init` made, and then leaves one."""
    with api([order(1)]) as url:
        (tmp_path / "config.toml").write_text(f'[sources.shop.pull]\nurl = "{url}/"\n')
        for missing, made in (("inbox", "inbox"), ("output", "output")):
            ended = strandline(tmp_path, "pull", "shop")
            assert ended.returncode == 2 and f"[paths] {missing} = " in ended.stderr
            (tmp_path / made).mkdir()
        assert strandline(tmp_path, "pull", "shop").returncode == 0
    assert [one["records"]["new"] for one in receipts(tmp_path).values()] == [1]
