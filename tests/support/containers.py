"""Real containers without Docker: the image is built by buildah over a base that mmdebstrap makes and that is given the name
which the Dockerfile asks for, and run by podman and runc. For tests."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import REPO

VERSION = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["version"]
IMAGE = f"localhost/strandline:{VERSION}"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_BUILD = 'test "$1" = build && shift && exec buildah bud --format docker --isolation chroot --network host --pull-never'
_TOOLS = ("mmdebstrap", "buildah", "podman", "runc")


class Containers:
    """A separate container storage under a folder, with the image in it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
        )
        self._environment = os.environ | {"CONTAINERS_STORAGE_CONF": str(folder / "storage.conf")}
        self.build()

    def build(self) -> None:
        """Builds the base, and over it the image with `make image`."""
        base = re.search(r"^FROM (\S+) AS build", (REPO / "Dockerfile").read_text(), re.MULTILINE)
        assert base is not None
        archive = self._folder / "base.tar"
        packages = "python3,python3-venv,ca-certificates"
        self._run("mmdebstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(archive))
        empty = self._run("buildah", "from", "scratch").stdout.strip()
        self._run("buildah", "add", "--quiet", empty, str(archive), "/")
        self._run("buildah", "commit", "--quiet", empty, base[1])
        archive.unlink()
        settings = self._folder / "pip.conf"
        settings.write_text(f"[global]\ncert = {_CERTIFICATES}\n")
        builder = self._folder / "builder"
        volumes = f"--volume {_CERTIFICATES}:{_CERTIFICATES}:ro --volume {settings}:/etc/pip.conf:ro"
        builder.write_text(f'#!/bin/sh\n{_BUILD} {volumes} "$@"\n')  # make says `build` and the rest
        builder.chmod(0o755)
        self._run("make", "--directory", str(REPO), "image", f"BUILDER={builder}", "COMMIT=0123abc")

    def _run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=600, check=False)
        assert not check or ended.returncode == 0, f"{command}: {ended.stdout[-2000:]} {ended.stderr[-3000:]}"
        return ended

    def podman(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs one podman command."""
        return self._run("podman", "--runtime", "runc", "--cgroup-manager=cgroupfs", *arguments, check=check)

    def inspect(self, name: str) -> dict[str, Any]:
        """The description of an image or a container."""
        return json.loads(self.podman("inspect", name).stdout)[0]

    def remove(self) -> None:
        """Removes everything, including running containers."""
        self.podman("rm", "--all", "--force", "--time", "2", check=False)
        self.podman("rmi", "--all", "--force", check=False)
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def containers(folder: Path) -> Iterator[Containers]:
    """Builds the image. Skips the test if a tool is missing or the user is not root."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        reason = f"needs root, and {', '.join(missing or _TOOLS)} (Debian: apt-get install {' '.join(_TOOLS)})"
        if os.environ.get("REQUIRE_TEST_TOOLS"):
            pytest.fail(reason)
        pytest.skip(reason)
    one = Containers(folder)
    try:
        yield one
    finally:
        one.remove()
