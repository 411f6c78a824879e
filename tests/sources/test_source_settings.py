"""The [sources] sections: which folder each source has, and what an error says."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.config import Config, load
from daemon.core.errors import UsageError
from daemon.wiring import contexts


def written(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_source_has_the_folder_of_its_name_or_another_one(tmp_path: Path) -> None:
    """The inbox itself is always a source."""
    text = '[sources.shop]\n[sources.Web_2]\nfolder = "eu/web"\n'
    assert load(written(tmp_path, text), {}).folders == {"default": "", "shop": "shop", "Web_2": "eu/web"}
    assert Config().folders == {"default": ""}


def test_each_source_is_parsed_under_its_own_settings(tmp_path: Path) -> None:
    """`[input] records_path` is for the default source, where that says nothing itself."""
    text = '[input]\nrecords_path = "a.b"\n[sources.shop]\nid_prefix = "s-"\n[sources.web]\nrecords = "c"\n'
    found = contexts(load(written(tmp_path, text), {}), 7)
    assert {name: (one.source, one.records_path) for name, one in found.items()} == {
        "default": ("default", "a.b"), "shop": ("shop", ""), "web": ("web", "c"),
    }  # fmt: skip
    assert found["shop"].mapping.id_prefix == "s-" and found["web"].mapping.id_prefix == ""
    own = load(written(tmp_path, text + '[sources.default]\nrecords = "d"\n'), {})
    assert contexts(own)["default"].records_path == "d"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sources = 3", ["sources = 3", "[sources.NAME] is a section"]),
        ("[sources]\nshop = 3", ["sources.shop = 3", "[sources.shop]", "is a section"]),
        ('[sources."a b"]', ["sources.a b", "letters", "digits", "- and _"]),
        ('[sources."../x"]', ["sources.../x", "letters"]),
        ('[sources.""]', ["sources.", "letters"]),
        ('[sources."é"]', ["letters"]),
        (f"[sources.{'x' * 65}]", ["64"]),
        ("[sources.default]\nfolder = 'x'", ["[sources.default]", "folder", "is the inbox"]),
        ("[sources.a]\nfolder = 3", ["[sources.a]", "folder = 3", "below the inbox", "eu/shop"]),
        ("[sources.a]\nfolder = ''", ["folder = ''", "below the inbox"]),
        ("[sources.a]\nfolder = '/x'", ["folder = '/x'", "below the inbox"]),
        ("[sources.a]\nfolder = 'x/'", ["folder = 'x/'", "below the inbox"]),
        ("[sources.a]\nfolder = 'x//y'", ["folder = 'x//y'", "below the inbox"]),
        ("[sources.a]\nfolder = '.'", ["folder = '.'", "below the inbox"]),
        ("[sources.a]\nfolder = 'x/../y'", ["folder = 'x/../y'", "below the inbox"]),
        ("[sources.a]\nfolder = '.x'", ["folder = '.x'", "hidden"]),
        ("[sources.a]\nfolder = 'x/.y'", ["folder = 'x/.y'", "hidden"]),
        ('[sources.a]\nfolder = "x\\u0000"', ["folder", "below the inbox"]),
        (f"[sources.a]\nfolder = '{'x' * 256}'", ["folder", "below the inbox"]),
        ("[sources.a]\n[sources.b]\nfolder = 'a'", ["[sources.b]", "folder = 'a'", "[sources.a]"]),
        ("[sources.a]\n[sources.b]\nfolder = 'A'", ["[sources.b]", "folder = 'A'", "[sources.a]"]),
        ("[sources.a]\n[sources.A]\nfolder = 'x'", ["[sources.A]", "[sources.a]", "case"]),
        ("[sources.a]\ncolour = 'red'", ["colour", "[sources.a]", "preset", "id_prefix"]),
    ],
)
def test_what_is_not_allowed_is_named_with_what_is(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as raised:
        load(written(tmp_path, text), {})
    assert all(word in str(raised.value) for word in ["config.toml", *words]), str(raised.value)
    assert str(raised.value).isprintable()


def test_variables_cannot_set_a_source(tmp_path: Path) -> None:
    """As docs/CONFIGURATION.md says."""
    with pytest.raises(UsageError, match="unknown environment variable"):
        load(written(tmp_path, ""), {"STRANDLINE_SOURCES__SHOP": "x"})
