"""What differs between two configurations, and what of it takes effect while a daemon runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.batch.keeping import limits
from daemon.config import Config, check_places, load
from daemon.core.errors import UsageError
from daemon.reloading import Change, changes, in_force

SECRET = "do-not-show-me"
BEFORE = """
[batch]
max_drops = 7
[columns]
status = "text"
[sources.berlin]
preset = "shopify"
[sources.berlin.pull]
url = "https://shop.example.com/orders"
every = "5m"
[mirror.bucket]
url = "s3://shop/orders"
"""


def read(folder: Path, text: str) -> Config:
    (folder / "config.toml").write_text(text)
    return load(folder / "config.toml", {})


def differing(folder: Path, old: str, new: str) -> dict[str, Change]:
    """The changes after one replacement, by setting."""
    assert old in BEFORE
    before, after = read(folder, BEFORE), read(folder, BEFORE.replace(old, new))
    return {one.setting: one for one in changes(before, after)}


def test_equal_configurations_have_no_changes(tmp_path: Path) -> None:
    """Comments and order change nothing."""
    assert changes(read(tmp_path, BEFORE), read(tmp_path, "# a comment\n" + BEFORE)) == []


def test_a_change_has_its_setting_and_both_values(tmp_path: Path) -> None:
    """Of a section with fixed keys, of columns, and of the mapping of a source."""
    found = differing(tmp_path, "max_drops = 7", "max_drops = 8")
    assert found == {"[batch] max_drops": Change("[batch] max_drops", 7, 8, False)}
    found = differing(tmp_path, 'status = "text"', 'state = "text"')
    assert found["[columns] status"] == Change("[columns] status", "text", None, False)
    assert found["[columns] state"] == Change("[columns] state", None, "text", False)
    found = differing(tmp_path, 'preset = "shopify"', 'preset = "shopify"\nid_prefix = "b-"')
    assert found == {"[sources.berlin] id_prefix": Change("[sources.berlin] id_prefix", "", "b-", False)}


def test_a_section_that_comes_or_goes_is_one_change(tmp_path: Path) -> None:
    """Not one for each of its keys."""
    whole = BEFORE[BEFORE.index("[sources.berlin]") : BEFORE.index("[mirror")]
    found = differing(tmp_path, whole, "")
    assert list(found.values()) == [
        Change("[sources.berlin]", "there", None, False), Change("[sources.berlin.pull]", "there", None, False),
    ]  # fmt: skip
    found = differing(tmp_path, "[mirror.bucket]", '[table.lake]\nurl = "lake"\n[mirror.bucket]')
    assert list(found.values()) == [Change("[table.lake]", None, "there", False)]


def test_texts_that_may_be_secrets_are_not_shown(tmp_path: Path) -> None:
    """Numbers are: they say what somebody wants to know."""
    found = differing(
        tmp_path, 'every = "5m"', f'every = "1h"\nheaders = {{X-Token = "{SECRET}"}}\nbasic_auth = "{SECRET}"'
    )
    assert found["[sources.berlin.pull] every"] == Change("[sources.berlin.pull] every", 300.0, 3600.0, False)
    hidden = {name for name, one in found.items() if (one.old, one.new) == ("(not shown)", "(not shown)")}
    assert hidden == {"[sources.berlin.pull] headers", "[sources.berlin.pull] basic_auth"}
    moved = differing(tmp_path, 's3://shop/orders"', f's3://shop/other"\noptions = {{ token = "{SECRET}" }}')
    assert moved.keys() == {"[mirror.bucket] url", "[mirror.bucket] options"}
    login = changes(
        read(tmp_path, BEFORE),
        read(tmp_path, f'{BEFORE}[http]\nbasic_auth = "a:{SECRET}"\nbearer_token = "{SECRET}"\n'),
    )
    assert [(one.setting, one.old, one.new, one.at_a_start) for one in login] == [
        (f"[http] {name}", "(not shown)", "(not shown)", True) for name in ("basic_auth", "bearer_token")
    ]
    assert SECRET not in str([*found.values(), *moved.values(), *login])


def test_what_only_a_start_can_change_is_named_and_stays(tmp_path: Path) -> None:
    """The rest of the same file takes effect; the names of the sections are those of the docs."""
    before = read(tmp_path, BEFORE)
    after = read(
        tmp_path, BEFORE + '[paths]\ninbox = "elsewhere"\n[http]\nport = 1\n[engine]\nworkers = 3\n[retry]\nattempts = 9\n'
    )  # fmt: skip
    found = {one.setting: one.at_a_start for one in changes(before, after)}
    assert found == {"[paths] inbox": True, "[http] port": True, "[engine] workers": True, "[retry] attempts": False}
    ours = in_force(before, after)
    assert (ours.paths, ours.http, ours.engine) == (before.paths, before.http, before.engine)
    assert ours.retry.attempts == 9
    assert {one.setting for one in changes(ours, after)} == {"[paths] inbox", "[http] port", "[engine] workers"}


def test_a_place_is_checked_with_the_paths_that_stay_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A destination that would be fine with the new output would write into the old one."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.toml"
    path.write_text('[paths]\noutput = "out2"\n[mirror.x]\nurl = "output/curated/m"\n')
    given = load(path, {})
    with pytest.raises(UsageError, match="must neither contain"):
        check_places(in_force(Config(), given), path)
    path.write_text('[mirror.x]\nurl = "private/m"\n')
    assert load(path, {}).destinations


def test_an_age_takes_effect_while_the_daemon_runs(tmp_path: Path) -> None:
    """With what the loop gets of it."""
    before, after = (
        read(tmp_path, BEFORE),
        read(tmp_path, f'{BEFORE}\n[raw]\nkeep = "400d"\n[discards]\nkeep = "30d"\n'),
    )
    assert changes(before, after) == [
        Change("[raw] keep", "forever", "400d", False), Change("[discards] keep", "forever", "30d", False),
    ]  # fmt: skip
    assert limits(in_force(before, after)) == {"raw": 400 * 86_400_000_000, "discards": 30 * 86_400_000_000}
    assert limits(before) == {}
