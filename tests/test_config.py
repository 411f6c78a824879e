"""config.toml and the environment."""

from __future__ import annotations

import contextlib
import json
import math
import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.config import SECTIONS, SETTINGS, Config, load, variable_of
from daemon.core.errors import UsageError
from daemon.core.mapping import COLUMN_TYPES
from daemon.core.retry import Backoff
from daemon.sources.mapping_settings import SETTINGS as SOURCE_SETTINGS
from daemon.sources.pull.settings import SETTINGS as PULL_SETTINGS
from daemon.sources.pull.settings import Pull
from tests.support import REPO


def written(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_file_shows_every_setting_with_its_default() -> None:
    """config.toml equals the defaults, and names each setting of each section, with a comment."""
    shipped = load(REPO / "config.toml", {})
    text = (REPO / "config.toml").read_text(encoding="utf-8")
    for section in (one for one in fields(Config) if one.name in SECTIONS):
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
        ("batch", "max_bytes", "1e9", 10**9),
        ("batch", "max_bytes", "1.1KB", 1100),
        ("batch", "max_bytes", "9007199254740993B", 2**53 + 1),
        ("batch", "max_bytes", str(2**63 - 1), 2**63 - 1),
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
    ("text", "said"),
    [
        ('[raw]\nkeep = "400"', ["[raw] keep = '400'", '"forever", or whole days such as "400d"']),
        ('[raw]\nkeep = "0d"', ["whole days"]),
        ('[receipts]\nkeep = "400d"', ['[receipts] keep = "400d"', '[raw] keep = "forever"', "rebuild without the ledger"]),
        ('[raw]\nkeep = "401d"\n[receipts]\nkeep = "400d"', ['[raw] keep = "401d"']),
        ("[nonsense]\n", ["nonsense", "config.toml", "paths", "engine"]),
        ('["a\\nb"]', [r"'a\nb'", "paths", "engine"]),
        ("nonsense = 1", ["nonsense", "paths", "engine"]),
        ("[batch]\nmax = 3", ["'max'", "[batch]", "config.toml", "max_drops, max_bytes, linger_seconds"]),
        ("[batch.max_drops]\nx = 3", ["[batch] max_drops", "{'x': 3}", "whole number"]),
        ("batch = 3", ["batch = 3", "config.toml", "[batch] is a section"]),
        ("[[batch]]\nmax_drops = 3", ["batch = [{'max_drops': 3}]", "[batch] is a section"]),
        ("[batch", ["config.toml", "TOML"]),
        ("[batch]\nmax_drops = 1\nmax_drops = 2", ["config.toml", "TOML"]),
        ("[batch]\nmax_drops = " + "9" * 5000, ["config.toml", "too many digits"]),
        ("[batch]\nmax_drops = " + "[" * 5000, ["config.toml", "nested too deeply"]),
        ("[batch]\nmax_drops = 0", ["[batch] max_drops = 0 in", "config.toml", "whole number from 1 to 1000000"]),
        ("[batch]\nmax_drops = true", ["max_drops = True", "whole number"]),
        ("[batch]\nmax_drops = 1.5", ["max_drops = 1.5", "whole number"]),
        ("[batch]\nmax_drops = 2026-11-18", ["max_drops", "whole number"]),
        ("[batch]\nmax_drops = 9223372036854775808", ["max_drops", "to 1000000"]),
        ("[batch]\nmax_drops = 0x" + "f" * 9000, ["max_drops", "a value of type int", "to 1000000"]),
        ('[batch]\nmax_bytes = "12 parsecs"', ["max_bytes", "MiB"]),
        ('[batch]\nmax_bytes = "1 kib"', ["max_bytes", "KiB"]),
        ('[batch]\nmax_bytes = "0.5B"', ["max_bytes", "whole bytes"]),
        ('[batch]\nmax_bytes = "0.3KiB"', ["max_bytes", "whole bytes"]),
        ("[batch]\nmax_bytes = 0.5", ["max_bytes", "whole bytes"]),
        ("[batch]\nmax_bytes = 0", ["max_bytes", "from 1 on"]),
        ("[batch]\nmax_bytes = -1", ["max_bytes", "from 1 on"]),
        ("[batch]\nmax_bytes = inf", ["max_bytes", "inf", "whole bytes"]),
        ("[batch]\nmax_bytes = nan", ["max_bytes", "nan", "whole bytes"]),
        ("[batch]\nmax_bytes = 1e300", ["max_bytes", "1e+300", "whole bytes"]),
        ("[batch]\nmax_bytes = 9223372036854775808", ["max_bytes", "whole bytes"]),
        ('[batch]\nmax_bytes = "9999999999TiB"', ["max_bytes", "whole bytes"]),
        ('[batch]\nmax_bytes = "' + "9" * 100_000 + 'B"', ["max_bytes", "…", "whole bytes"]),
        ("[batch]\nmax_bytes = true", ["max_bytes", "whole bytes"]),
        ('[orders]\nfuture_tolerance = "soon"', ["future_tolerance", "1d"]),
        ("[orders]\nfuture_tolerance = -1", ["future_tolerance", "from 0 to 36500 days"]),
        ("[orders]\nfuture_tolerance = inf", ["future_tolerance", "from 0 to 36500 days"]),
        ("[orders]\nfuture_tolerance = nan", ["future_tolerance", "from 0 to 36500 days"]),
        ('[orders]\nfuture_tolerance = "99999w"', ["future_tolerance", "from 0 to 36500 days"]),
        ("[watch]\nsettle_seconds = -0.1", ["settle_seconds", "from 0 to 86400"]),
        ("[watch]\nsettle_seconds = nan", ["settle_seconds", "nan", "from 0 to 86400"]),
        ("[watch]\nsettle_seconds = true", ["settle_seconds", "a number of seconds"]),
        ("[watch]\nrescan_seconds = 0", ["rescan_seconds", "from 0.01 to 86400"]),
        ("[watch]\nrescan_seconds = inf", ["rescan_seconds", "inf", "from 0.01 to 86400"]),
        ("[watch]\nrescan_seconds = 1e300", ["rescan_seconds", "from 0.01 to 86400"]),
        ("[watch]\nrescan_seconds = 1" + "0" * 400, ["rescan_seconds", "…", "from 0.01 to 86400"]),
        ('[watch]\nrescan_seconds = "often"', ["rescan_seconds", "number"]),
        ('[watch]\nmode = "magic"', ["mode", "auto", "native", "polling"]),
        ('[watch]\nmode = ["auto"]', ["mode", "auto", "native", "polling"]),
        ("[retry]\nattempts = 1001", ["attempts", "from 1 to 1000"]),
        ("[retry]\ninitial_delay_seconds = 0", ["initial_delay_seconds", "from 0.001"]),
        ('[log]\nlevel = "loud"', ["level", '"debug"', '"error"']),
        ("[http]\nport = 70000", ["port", "65535"]),
        ('[http]\nenabled = "yes"', ["enabled", "true or false"]),
        ("[http]\nhost = 1", ["host", "a host name"]),
        ('[http]\nhost = ""', ["host", "a host name"]),
        ('[http]\nhost = "a b"', ["host", "a host name"]),
        ('[engine]\nscheduler = "host:8786"', ["scheduler", "tcp://"]),
        ("[engine]\nworkers = 5000", ["workers", "from 0 to 1024"]),
        ('[input]\nrecords_path = "a..b"', ["records_path", "divided by dots"]),
        ('[input]\nrecords_path = "a.\\u0000"', ["records_path", "divided by dots"]),
        ('[paths]\ninbox = "a\\u0000b"', ["inbox", "a path"]),
        ('[metrics]\ntextfile = "a\\u0000b"', ["textfile", "a path"]),
        ("[metrics]\ntextfile = 3", ["textfile", "a path"]),
        ("[paths]\ninbox = 5", ["inbox", "path"]),
        ('[paths]\ninbox = ""', ["inbox", "path"]),
        ('[paths]\ninbox = "x"\noutput = "x/out"', ["inbox", "output"]),
        ('[paths]\ninbox = "out/x"\noutput = "out"', ["inbox", "output"]),
        ('[paths]\ninbox = "x"\noutput = "y/../x"', ["inbox", "output"]),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_file_is_named_with_what_is_allowed(tmp_path: Path, text: str, said: list[str]) -> None:
    """Every wrong section, key and value is a usage error of one short line that names it and helps."""
    with pytest.raises(UsageError) as error:
        load(written(tmp_path, text), {})
    assert all(word in str(error.value) for word in said), str(error.value)
    assert len(str(error.value).replace(str(tmp_path), "")) < 400 and str(error.value).isprintable()


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("STRANDLINE_NONSENSE", "1", ["PATHS", "ENGINE"]),
        ("STRANDLINE_NONSENSE__KEY", "1", ["PATHS", "ENGINE"]),
        ("STRANDLINE_BATCH", "1", ["<KEY>", "ENGINE"]),
        ("STRANDLINE_PORT", "tcp://10.0.0.1:10464", ["<KEY>", "ENGINE"]),
        ("STRANDLINE_BATCH__", "1", ["[batch]", "max_drops"]),
        ("STRANDLINE_BATCH__MAX", "1", ["[batch]", "max_drops, max_bytes, linger_seconds"]),
        ("STRANDLINE_BATCH__MAX_DROPS", "many", ["'many'", "whole number"]),
        ("STRANDLINE_BATCH__MAX_DROPS", "", ["''", "whole number"]),
        ("STRANDLINE_BATCH__MAX_DROPS", "1\nother = 2", ["whole number"]),
        ("STRANDLINE_BATCH__MAX_DROPS", "9" * 5000, ["whole number"]),
        ("STRANDLINE_BATCH__MAX_DROPS", "[" * 5000, ["whole number"]),
        ("STRANDLINE_BATCH__MAX_BYTES", "inf", ["whole bytes"]),
        ("STRANDLINE_WATCH__RESCAN_SECONDS", "nan", ["from 0.01 to 86400"]),
        ("STRANDLINE_HTTP__ENABLED", "yes", ["true or false"]),
        ("STRANDLINE_ORDERS__FUTURE_TOLERANCE", "a day", ["1d"]),
        ("STRANDLINE_INPUT__RECORDS_PATH", "a\udcff", ["divided by dots"]),
        ("STRANDLINE_PATHS__INBOX", "", ["a path"]),
        ("STRANDLINE_PATHS__INBOX", "a\0b", ["a path"]),
    ],
)
def test_what_is_wrong_in_a_variable_is_named_with_what_is_allowed(
    tmp_path: Path, variable: str, text: str, said: list[str]
) -> None:
    """The variable is named as it was written."""
    with pytest.raises(UsageError) as error:
        load(written(tmp_path, ""), {variable: text})
    assert all(word in str(error.value) for word in [variable, *said]), str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("text", ["batch = 3", "[batch]\nmax_drops = 0", "[batch]\nmax = 1"])
def test_a_variable_does_not_hide_what_is_wrong_in_the_file(tmp_path: Path, text: str) -> None:
    """A file that is wrong is wrong even where a variable overrides the very setting."""
    with pytest.raises(UsageError, match=r"config\.toml"):
        load(written(tmp_path, text), {"STRANDLINE_BATCH__MAX_DROPS": "3"})


_NUMBERS = st.one_of(st.integers().map(str), st.floats().map(repr))
_UNITS = st.sampled_from(["", "B", "KiB", "TB", "d", "ms", " w", "e9", "."])


@given(st.sampled_from(list(SETTINGS)), st.one_of(st.text(), _NUMBERS, st.tuples(_NUMBERS, _UNITS).map("".join)))
def test_any_text_at_all_is_allowed_or_refused(setting: tuple[str, str], text: str) -> None:
    """Whatever a variable or a file holds, the outcome is a Config or a UsageError."""
    section, key = setting
    for quote in ("", "'"):
        with contextlib.suppress(UsageError):
            value = getattr(getattr(load(None, {variable_of(section, key): quote + text + quote}), section), key)
            assert not isinstance(value, float) or math.isfinite(value)


def test_every_setting_has_a_default_that_it_allows_and_no_setting_allows_all() -> None:
    """What each setting reads of its own default is that default; a value of no kind at all is refused by each."""
    for setting in SETTINGS.values():
        default = setting.default
        read = setting.metadata["read"]
        assert read(str(default) if isinstance(default, Path) else default) == default, setting.name
        assert read({}) is None and read([1]) is None and setting.metadata["allowed"], setting.name


def test_a_loop_of_links_is_no_crash(tmp_path: Path) -> None:
    """A path that leads nowhere is somebody else's error, not the configuration's."""
    (tmp_path / "loop").symlink_to("loop")
    assert load(written(tmp_path, '[paths]\ninbox = "loop"'), {}).paths.inbox == tmp_path / "loop"
    with pytest.raises(UsageError, match="loop"):
        load(tmp_path / "loop", {})


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    """Editors write it, and nobody sees it."""
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbf[batch]\nmax_drops = 3\n")
    assert load(path, {}).batch.max_drops == 3


def test_the_textfile_is_a_path_like_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the file, or in a variable to the working folder; empty stays empty."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = written(tmp_path, '[metrics]\ntextfile = "a.prom"')
    assert load(path, {}).metrics.textfile == str(tmp_path / "a.prom")
    variable = "STRANDLINE_METRICS__TEXTFILE"
    assert load(path, {variable: "b.prom"}).metrics.textfile == str(tmp_path / "elsewhere" / "b.prom")
    assert load(path, {variable: ""}).metrics.textfile == ""


@pytest.mark.parametrize("attempts", [1, 5, 1000, 10**9])
def test_delays_double_up_to_their_limit_however_many_attempts(attempts: int) -> None:
    """The delay after attempt n is the first one doubled n-1 times, or the longest; all together are their sum."""
    backoff = Backoff(attempts, 0.5, 30.0)
    assert [backoff.delay_seconds(n) for n in (1, 2, 6, 7, 8, 10**9)] == [0.5, 1.0, 16.0, 30.0, 30.0, 30.0]
    first = min(attempts, 6)
    assert backoff.total_seconds == pytest.approx(0.5 * (2**first - 1) + 30.0 * (attempts - first))


def test_the_page_of_settings_is_the_code() -> None:
    """docs/CONFIGURATION.md has each section and each setting once, with the default of config.toml, what is allowed, and
    the variable's name, and something to say of it; it has no other."""
    sections = re.split(
        r"^## \[([\w.]+)\]$", (REPO / "docs" / "CONFIGURATION.md").read_text(encoding="utf-8"), flags=re.M
    )
    assert sections[1::2] == [*SECTIONS, "columns", "sources.NAME", "sources.NAME.pull"]
    *sections, _, columns, _, sources, _, pull = sections
    assert all(f'`"{kind}"`' in columns for kind in COLUMN_TYPES)
    assert re.findall(r"^\| `(\w+)` \|", sources, flags=re.M) == ["folder", "preset", *SOURCE_SETTINGS, "columns"]
    given = dict(re.findall(r"^\| `(\w+)` \| `?(.*?)`? \|", pull, flags=re.M))
    assert [*given] == [*PULL_SETTINGS], given
    for name in ("method", "every", "lookback", "max_pages", "max_page_bytes", "timeout", "since_format", "next"):
        value = PULL_SETTINGS[name](json.loads(given[name]), name)
        assert value == getattr(Pull("http://x/"), name), name
    shipped = (REPO / "config.toml").read_text(encoding="utf-8")
    found = []
    for section, text in zip(sections[1::2], sections[2::2], strict=True):
        defaults = shipped.split(f"[{section}]\n")[1].split("\n[")[0]
        for line in [line for line in text.splitlines() if line.startswith("|")][2:]:
            key, default, allowed, variable, why = (cell.strip() for cell in line.strip("|").split("|"))
            name = key.strip("`")
            found.append((section, name))
            assert f"\n{name} = {default.strip('`')} " in f"\n{defaults}", line
            assert allowed == SETTINGS[section, name].metadata["allowed"]
            assert variable == f"`{variable_of(section, name)}`"
            assert len(why) > 20
    assert found == list(SETTINGS)


def test_a_named_file_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing where named is an error; missing by default means the defaults."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"missing\.toml"):
        load(Path("missing.toml"), {})
    assert load(None, {}) == Config()


def test_what_compose_is_told_is_no_setting_of_the_daemon() -> None:
    """Who exports what docs/OPERATING.md says for docker compose can run commands in the same shell."""
    compose = (REPO / "docker-compose.yml").read_text(encoding="utf-8")
    told = set(re.findall(r"\$\{([A-Z_]+)", compose))
    assert len(told) == 7
    assert load(REPO / "config.toml", dict.fromkeys(told, "x")) == load(REPO / "config.toml", {})
    operating = (REPO / "docs" / "OPERATING.md").read_text(encoding="utf-8")
    assert all(name in operating + compose.split("services:")[0] for name in told)


def test_paths_are_relative_to_a_link_and_not_to_its_target(tmp_path: Path) -> None:
    """Kubernetes mounts a ConfigMap as links into a folder with a name of its own, which changes at each update."""
    target = tmp_path / "..2026_03_02"
    target.mkdir()
    written(target, '[paths]\ninbox = "drops"')
    (tmp_path / "config.toml").symlink_to(target / "config.toml")
    assert load(tmp_path / "config.toml", {}).paths.inbox == tmp_path / "drops"


def test_models_and_checks_are_beside_the_configuration(tmp_path: Path) -> None:
    """Wherever the command runs; a setting and a variable override that."""
    file = tmp_path / "config.toml"
    file.write_text("")
    found = load(file, {}).paths
    assert (found.models, found.checks) == (tmp_path / "models", tmp_path / "checks")
    file.write_text('[paths]\nmodels = "sql"\n')
    found = load(file, {"STRANDLINE_PATHS__CHECKS": "/elsewhere"}).paths
    assert (found.models, found.checks) == (tmp_path / "sql", Path("/elsewhere"))


def test_a_mistyped_name_gets_the_one_that_is_meant(tmp_path: Path) -> None:
    """Of a section, of a setting, and of a variable."""
    for text, environment, said in (
        ("[bach]", {}, "unknown section 'bach' in {}; did you mean batch? Allowed are "),
        ("[load_]", {}, "unknown section 'load_' in {}; did you mean load? Allowed are "),
        (
            "[watch]\nsettle_second = 1",
            {},
            "unknown setting 'settle_second' in [watch] in {}; did you mean settle_seconds? ",
        ),
        (
            "",
            {"STRANDLINE_HTTP__PROT": "1"},
            ": [http] has no prot; did you mean port? Allowed are enabled, host, port",
        ),
        (
            "",
            {"STRANDLINE_WACH__MODE": "auto"},
            "STRANDLINE_WACH__MODE: it must be STRANDLINE_<SECTION>__<KEY>; did you mean WATCH? The sections are PATHS, ",
        ),
        (
            "[sources.a.pull]\nur = 'x'",
            {},
            "unknown setting 'ur' in [sources.a.pull] in {}; did you mean url? Allowed are ",
        ),
        (
            "[sources.a]\nprest = 'x'",
            {},
            "unknown setting 'prest' in [sources.a] in {}; did you mean preset? Allowed are ",
        ),
        ("[paths]\nmode = 'grp'", {}, 'is not allowed; did you mean group? It must be one of "private", "group"'),
        ("[paths]\nmode = 'x'", {}, 'is not allowed; it must be one of "private", "group"'),
        ("", {"STRANDLINE_LOG__LEVEL": "inof"}, "is not allowed; did you mean info? It must be one of "),
        ("[sources.a]\npreset = 'shopfy'", {}, "is not allowed; did you mean shopify? It must be one of "),
    ):
        path = written(tmp_path, text)
        with pytest.raises(UsageError) as error:
            load(path, environment)
        assert said.format(path) in str(error.value)
