"""config.toml and the environment."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from daemon.config import Config, load
from daemon.core.errors import UsageError

REPO = Path(__file__).resolve().parents[1]


def written(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_file_shows_every_setting_with_its_default() -> None:
    """config.toml equals the defaults, and names each setting of each section, with a comment."""
    shipped = load(REPO / "config.toml", {})
    text = (REPO / "config.toml").read_text(encoding="utf-8")
    for section in fields(Config):
        assert f"[{section.name}]" in text
        if section.name != "paths":
            assert getattr(shipped, section.name) == getattr(Config(), section.name)
        for setting in fields(type(getattr(shipped, section.name))):
            (line,) = [line for line in text.split(f"[{section.name}]")[1].split("\n[")[0].splitlines()
                       if line.startswith(f"{setting.name} = ")]  # fmt: skip
            assert "#" in line
    assert shipped.paths.inbox == REPO / "inbox"


def test_variables_override_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are TOML or else text; paths in variables are relative to the working folder."""
    monkeypatch.chdir(tmp_path)
    config = load(
        written(tmp_path, '[batch]\nmax_bytes = "1MB"\n[watch]\nsettle_seconds = 3'),
        {
            "STRANDLINE_BATCH__MAX_BYTES": "2MiB",
            "STRANDLINE_ORDERS__FUTURE_TOLERANCE": "36h",
            "STRANDLINE_HTTP__ENABLED": "false",
            "STRANDLINE_INPUT__RECORDS_PATH": "payload.orders",
            "STRANDLINE_PATHS__INBOX": "drops",
            "HOME": "/",
        },
    )
    assert config.batch.max_bytes == 2 << 20
    assert config.orders.future_tolerance == 36 * 3600
    assert config.watch.settle_seconds == 3.0
    assert config.http.enabled is False
    assert config.input.records_path == "payload.orders"
    assert config.paths.inbox == tmp_path / "drops"


@pytest.mark.parametrize(
    ("section", "key", "text", "value"),
    [
        ("batch", "max_bytes", "1000", 1000),
        ("batch", "max_bytes", "1.5KiB", 1536),
        ("batch", "max_bytes", '"2 GB"', 2 * 10**9),
        ("orders", "future_tolerance", "90", 90.0),
        ("orders", "future_tolerance", "250ms", 0.25),
        ("orders", "future_tolerance", "2w", 14 * 86_400.0),
        ("batch", "max_drops", "7", 7),
        ("watch", "rescan_seconds", "2", 2.0),
        ("watch", "settle_seconds", "0", 0.0),
        ("log", "level", "debug", "debug"),
        ("log", "format", '"json"', "json"),
        ("input", "records_path", "2026", "2026"),
        ("engine", "workers", "3", 3),
    ],
)
def test_values_are_read_as_their_setting_has_them(section: str, key: str, text: str, value: object) -> None:
    """Numbers, sizes, durations, texts in quotes or without: each setting decides what its variable means."""
    config = load(REPO / "config.toml", {f"STRANDLINE_{section}__{key}".upper(): text})
    assert getattr(getattr(config, section), key) == value


def test_a_variable_replaces_one_setting_only(tmp_path: Path) -> None:
    """What the file says of the others stays."""
    path = written(tmp_path, "[batch]\nmax_drops = 7\nlinger_seconds = 2")
    batch = load(path, {"STRANDLINE_BATCH__MAX_DROPS": "8"}).batch
    assert (batch.max_drops, batch.linger_seconds, batch.max_bytes) == (8, 2.0, Config().batch.max_bytes)


def test_paths_in_the_file_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the program is started; an absolute path stays as it is."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = written(tmp_path, f'[paths]\ninbox = "a/b"\noutput = "{tmp_path / "far"}"')
    for named in (path, Path("../config.toml")):
        paths = load(named, {}).paths
        assert (paths.inbox, paths.output) == (tmp_path / "a" / "b", tmp_path / "far")


@pytest.mark.parametrize(
    ("text", "variables", "said"),
    [
        ("[nonsense]\n", {}, ["nonsense", "paths", "engine"]),
        ("[batch]\nmax = 3", {}, ["max", "max_drops", "max_bytes"]),
        ("[batch]\nmax_drops = 0", {}, ["max_drops", "more than 0"]),
        ("[batch]\nmax_drops = true", {}, ["max_drops", "whole number"]),
        ('[batch]\nmax_bytes = "12 parsecs"', {}, ["max_bytes", "MiB"]),
        ('[orders]\nfuture_tolerance = "soon"', {}, ["future_tolerance", "1d"]),
        ('[log]\nlevel = "loud"', {}, ["level", "debug", "error"]),
        ("[http]\nport = 70000", {}, ["port", "65535"]),
        ("batch = 3", {}, ["batch", "section"]),
        ("[batch", {}, ["TOML"]),
        ('[paths]\ninbox = "x"\noutput = "x/out"', {}, ["inbox", "output"]),
        ('[paths]\ninbox = "out/x"\noutput = "out"', {}, ["inbox", "output"]),
        ('[paths]\ninbox = "x"\noutput = "y/../x"', {}, ["inbox", "output"]),
        ("[paths]\ninbox = 5", {}, ["inbox", "path"]),
        ('[paths]\ninbox = ""', {"STRANDLINE_PATHS__INBOX": ""}, ["inbox", "path"]),
        ("[batch]\nmax_drops = 1.5", {}, ["max_drops", "whole number"]),
        ("[batch]\nmax_bytes = -1", {}, ["max_bytes", "more than 0"]),
        ("[watch]\nsettle_seconds = -0.1", {}, ["settle_seconds", "0 or more"]),
        ('[watch]\nrescan_seconds = "often"', {}, ["rescan_seconds", "number"]),
        ('[watch]\nmode = "magic"', {}, ["mode", "auto", "native", "polling"]),
        ('[http]\nenabled = "yes"', {}, ["enabled", "true or false"]),
        ("[http]\nhost = 1", {}, ["host", "text"]),
        ("", {"STRANDLINE_NONSENSE": "1"}, ["STRANDLINE_NONSENSE", "PATHS"]),
        ("", {"STRANDLINE_BATCH__MAX": "1"}, ["max", "max_drops"]),
        ("", {"STRANDLINE_BATCH": "1"}, ["STRANDLINE_BATCH", "<KEY>", "ENGINE"]),
        ("", {"STRANDLINE_ORDERS__FUTURE_TOLERANCE": "a day"}, ["future_tolerance", "1d"]),
        ("", {"STRANDLINE_BATCH__MAX_DROPS": "many"}, ["max_drops", "whole number"]),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(
    tmp_path: Path, text: str, variables: dict[str, str], said: list[str]
) -> None:
    """Every wrong key, variable and value is a usage error that helps."""
    with pytest.raises(UsageError) as error:
        load(written(tmp_path, text), variables)
    assert all(word in str(error.value) for word in said), str(error.value)


def test_a_named_file_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing where named is an error; missing by default means the defaults."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"missing\.toml"):
        load(Path("missing.toml"), {})
    assert load(None, {}) == Config()
