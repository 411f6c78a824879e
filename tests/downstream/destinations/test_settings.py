"""What the sections of destinations may hold, and how an error says what is wrong."""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from daemon.config import load
from daemon.core.errors import UsageError
from daemon.downstream.destinations.settings import KINDS, Load, Mirror, Notify, Table, destinations_of
from tests.support import REPO


def read(text: str) -> tuple[Any, ...]:
    return destinations_of(tomllib.loads(text), Path("/etc/strandline/config.toml"))


def test_each_kind_is_read_with_its_defaults_in_the_order_of_a_round() -> None:
    """Mirrors first, since a Redshift copies from one; notifications last, when the others have the rows."""
    found = read(
        '[notify.n]\nurl = "https://x/"\n[table.t]\nurl = "lake"\n[load.l]\ndsn = "${DSN}"\n[mirror.m]\nurl = "s3://b/p"'
    )
    assert [type(one) for one in found] == [Mirror, Load, Table, Notify]
    assert [one.where for one in found] == ["[mirror.m]", "[load.l]", "[table.t]", "[notify.n]"]
    assert found[1] == Load(name="l", dsn="${DSN}", folder=Path("/etc/strandline"))
    assert [one.place for one in found] == ["s3://b/p", "postgres, schema strandline", "lake", "https://x/"]


def test_what_people_see_of_a_place_has_no_user_and_no_query() -> None:
    """A token may be in either."""
    (one,) = read('[notify.n]\nurl = "https://me:secret@host/path?token=secret"')
    assert one.place == "https://host/path"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("load = 1", "[load.NAME] is a section"),
        ("[load]\nx = 1", "[load.NAME] is a section"),
        ("[load.l]", "dsn is missing; it must be a URI"),
        ('[load.L]\ndsn = "x"', "the name must be a small letter"),
        ('[load.fact_order]\ndsn = "x"', "is the name of a table"),
        ('[load.a]\ndsn = "x"\n[mirror.a]\nurl = "x"', "there is [mirror.a], too"),
        ('[load.l]\ndsn = "x"\nshema = "y"', "; did you mean schema? Allowed are dsn, schema, tables"),
        ('[load.l]\ndsn = "x"\nschema = "Größe"', "schema = 'Größe' is not allowed"),
        ('[load.l]\ndsn = "x"\nlock_timeout = "2d"', "from 0 to 1 days"),
        ('[load.l]\ndsn = "${file}"\n', None),
        ('[load.l]\ndsn = "${no name}"', "unknown placeholder ${no name}"),
        ('[load.l]\ndsn = "x"\ndialect = "redshift"', "Redshift copies from a mirror"),
        ('[load.l]\ndsn = "x"\ndialect = "redshift"\nmirror = "m"', "Redshift copies from a mirror"),
        ('[load.l]\ndsn = "x"\nmirror = "m"\n[mirror.m]\nurl = "x"', 'goes with dialect = "redshift"'),
        ('[mirror.m]\nurl = "ftp://host/x"', "it must be a URL such as"),
        ('[mirror.m]\nurl = "x"\noptions = { region = 1 }', "a table of texts"),
        ('[table.t]\nurl = "x"\ntables = "fact_order"', "a list of tables and models"),
        ('[mirror.m]\nurl = "s3://[b/d"', "url is not allowed; it must be a URL such as"),
        ('[mirror.m]\nurl = "x"\ntime_limit = 0', "not below 1 s"),
        ('[mirror.m]\nurl = "s3://b/x"\n[table.t]\nurl = "s3://b/x/"', "[mirror.m] is at the same place"),
        ('[load.a]\ndsn = "x"\n[load.b]\ndsn = "x"', "[load.a] is at the same place"),
        ("[notify.n]", "write one of url and command"),
        ('[notify.n]\nurl = "https://x"\ncommand = ["a"]', "write one of url and command"),
        ('[notify.n]\ncommand = ["a"]\nheaders = { a = "b" }', "go with url"),
        ('[notify.n]\ncommand = ["a"]\nsecret = "${KEY}"', "go with url"),
        ('[notify.n]\nurl = "https://x"\ntimeout = 0', "timeout = 0 leaves no time for an answer"),
        ('[notify.n]\nurl = "https://x"\nsecret = "in the open"', 'secret is not allowed; it must be "${VARIABLE}"'),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(text: str, said: str | None) -> None:
    if said is None:
        read(text)
        return
    with pytest.raises(UsageError) as error:
        read(text)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        'options = { secret_access_key = "TOPSECRET", timeout = 5 }\nurl = "x"', "url = 'ftp://u:TOPSECRET@h'",
        "url = ['TOPSECRET']",
    ],
)  # fmt: skip
def test_an_error_shows_no_value_that_may_be_a_secret(text: str) -> None:
    """It names the setting and what is allowed."""
    for section in (f"[mirror.m]\n{text}", '[load]\ndsn = "TOPSECRET"', '[load.l]\ndsn = "a\\nTOPSECRET"'):
        with pytest.raises(UsageError) as error:
            read(section)
        assert "TOPSECRET" not in str(error.value) and "is not allowed" in str(error.value)


@pytest.mark.parametrize("url", ["inbox", "inbox/below", ".", "output", "output/raw", "models", "./x/../checks"])
def test_a_local_one_must_not_be_where_drops_or_results_are(tmp_path: Path, url: str) -> None:
    """What it writes would be taken for a drop, or undone."""
    path = tmp_path / "config.toml"
    paths = "".join(f'{name} = "{name}"\n' for name in ("inbox", "output", "models", "checks"))
    path.write_text(f'[paths]\n{paths}[mirror.m]\nurl = "{url}"\n')
    with pytest.raises(UsageError, match=r"\[mirror.m\] url .* must neither contain \[paths\]"):
        load(path, {})
    path.write_text(f'[paths]\n{paths}[mirror.m]\nurl = "elsewhere"\n')
    assert load(path, {}).destinations


def test_the_configuration_has_them(tmp_path: Path) -> None:
    """Beside all other sections; an unknown section names them among what is allowed."""
    path = tmp_path / "config.toml"
    path.write_text('[mirror.m]\nurl = "x"\n[http]\nport = 1\n')
    assert [one.name for one in load(path, {}).destinations] == ["m"]
    path.write_text('[mirrors.m]\nurl = "x"\n')
    with pytest.raises(UsageError, match="mirror, load, table, notify"):
        load(path, {})


def test_the_page_is_the_code() -> None:
    """docs/DESTINATIONS.md has each kind and each setting once, with its default and what is allowed."""
    text = (REPO / "docs" / "DESTINATIONS.md").read_text(encoding="utf-8")
    sections = re.split(r"^### \[(\w+)\.NAME\]$", text, flags=re.M)[1:]
    assert sorted(sections[::2]) == sorted(KINDS)
    for kind, body in zip(sections[::2], sections[1::2], strict=True):
        rows = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines() if line[:3] == "| `"
        ]
        settings = [one for one in fields(KINDS[kind]) if "read" in one.metadata]
        assert [row[0] for row in rows] == [f"`{one.name}`" for one in settings]
        for (_, default, allowed, why), one in zip(rows, settings, strict=True):
            assert allowed == one.metadata["allowed"] and len(why) > 9
            if one.default is MISSING and one.default_factory is MISSING:
                assert default == ""
            else:
                wanted = one.default if one.default_factory is MISSING else one.default_factory()
                assert one.metadata["read"](tomllib.loads(f"x = {default.strip('`')}")["x"]) == wanted, one.name
