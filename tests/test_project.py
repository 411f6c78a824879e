"""The files around the code say the same as it: versions, the public API, and what is checked before a commit."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import yaml

from daemon import frames
from tests.support import REPO
from tests.support.command import strandline

VERSION = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def text_of(path: str) -> str:
    return (REPO / path).read_text(encoding="utf-8")


def test_the_version_is_the_same_everywhere() -> None:
    """In the image, in compose, and as the newest dated section of the changelog."""
    assert re.findall(r'image\.version="(.*?)"', text_of("Dockerfile")) == [VERSION]
    assert set(re.findall(r"image: strandline:(\S+)", text_of("docker-compose.yml"))) == {VERSION}
    sections = re.findall(r"^## (.+)$", text_of("CHANGELOG.md"), re.MULTILINE)
    assert sections[0] == "Unreleased" and sections[1].startswith(f"{VERSION} - ")
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", one) for one in sections[1:])


def test_each_change_is_one_line() -> None:
    """A list is read line by line; what needs more is explained in the documentation."""
    for line in text_of("CHANGELOG.md").partition("\n## ")[2].splitlines()[1:]:
        assert re.match(r"$|# |## |### |- ", line), f"a change goes on in a second line: {line}"


def test_the_public_api_is_what_the_frames_name() -> None:
    """Each name has a docstring, and nothing else of the module is documented as public."""
    assert frames.__all__ == sorted(frames.__all__)
    assert all(getattr(frames, name).__doc__ for name in frames.__all__)


def test_the_forge_runs_what_every_machine_runs() -> None:
    """The workflow calls .ci/run for each Python that the documentation names; the hooks are those of `make lint`."""
    (job,) = yaml.safe_load(text_of(".github/workflows/ci.yml"))["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert job["steps"][-1] == {"run": ".ci/run"}
    hooks = [hook for repo in yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]]
    linted = re.findall(r"\$\(BIN\)/(.+)", text_of("Makefile").split("\nlint:")[1].split("\n\n")[0])
    assert [hook["entry"].split()[0] for hook in hooks][:3] == [f".venv/bin/{line.split()[0]}" for line in linted]


def test_the_floor_of_coverage_only_rises() -> None:
    """No earlier commit had a higher one. Without git or the history, there is nothing to compare."""
    command = "git log --patch --unified=0 -G^fail_under -- pyproject.toml"
    log = subprocess.run(command, shell=True, cwd=REPO, capture_output=True, text=True, check=False).stdout
    earlier = [int(one) for one in re.findall(r"^[-+]fail_under = (\d+)$", log, re.MULTILINE)]
    now = tomllib.loads(text_of("pyproject.toml"))["tool"]["coverage"]["report"]["fail_under"]
    assert now >= max([1, *earlier])


def test_templates_of_the_forge_can_be_read() -> None:
    """Each is YAML with what the forge needs."""
    for path in (REPO / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert form["name"] and form["description"]
        assert all(part["type"] == "markdown" or part["attributes"]["label"] for part in form["body"])
    assert yaml.safe_load(text_of(".github/dependabot.yml"))["version"] == 2


def test_an_image_and_a_release_are_one_command_each() -> None:
    """`make release` builds the image with its version and its commit."""
    shown = subprocess.run(
        ["make", "--dry-run", "image", "BUILDER=podman"], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert re.search(
        rf"podman build --build-arg SOURCE_COMMIT=\S* --tag strandline:{re.escape(VERSION)} \.", shown.stdout
    )
    assert "\nrelease: wheel image\n" in text_of("Makefile")


def test_the_sample_of_dirty_records_is_what_examples_says(tmp_path: Path) -> None:
    """`make demo` applies it: seven records are discarded, each for another reason, and two are kept with a field at fault."""
    assert "seven records that are discarded, each for another reason, and two that are kept" in text_of(
        "examples/README.md"
    )
    ended = strandline(tmp_path, "plan", str(REPO / "examples" / "dirty.ndjson"), "--json")
    plan = json.loads(ended.stdout)
    found = plan["records"]
    assert found["new"] == 2 and list(found["discarded"].values()) == [1] * 7 and len(plan["field_faults"]) == 2


def test_the_picture_of_the_readme_is_small() -> None:
    """`make picture` takes it."""
    picture = (REPO / "docs" / "page.png").read_bytes()
    assert "(docs/page.png)" in text_of("README.md") and picture.startswith(b"\x89PNG") and len(picture) < 150_000


def test_the_readme_is_read_in_a_few_minutes() -> None:
    """What needs more is a page of docs/."""
    assert len(text_of("README.md").splitlines()) <= 130
