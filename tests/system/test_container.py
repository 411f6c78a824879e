"""The image and the compose file: linted, really built and really run, without Docker."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.support import REPO, elsewhere
from tests.support.command import order
from tests.support.containers import IMAGE, Containers, containers
from tests.support.daemon_process import Daemon, free_port, place, until

pytestmark = pytest.mark.timeout(900)  # slow by nature

USER = 1000
# As in docker-compose.yml. The limits of descriptors and processes are said since podman's defaults need rights to raise them.
HARDENED = (
    "--user", f"{USER}:{USER}", "--read-only", "--tmpfs", "/tmp:mode=1777", "--cap-drop", "ALL", "--security-opt",
    "no-new-privileges", "--network", "host", "--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096",
    "--env", "STRANDLINE_WATCH__FOREIGN_SETTLE_SECONDS=1",
)  # fmt: skip


# The daemon's own entry in docker-compose.yml: root for a moment, then USER with CAP_LEASE alone.
_CAP_LEASE = 1 << 28


def program(name: str) -> str:
    """A program of a package that the tests bring."""
    return str(Path(sys.executable).with_name(name))


def compose(*options: str) -> dict[str, Any]:
    ended = subprocess.run(
        [program("docker-compose"), *options, "config", "--format", "json"], cwd=REPO, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_hadolint_finds_nothing() -> None:
    """In the Dockerfile."""
    ended = subprocess.run([program("hadolint"), REPO / "Dockerfile"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_every_service_is_hardened_and_listens_on_loopback() -> None:
    """Compose understands the file; every service is read-only, without capabilities, limited, pinned, on loopback only."""
    assert set(compose()["services"]) == {"daemon", "prometheus", "alertmanager", "grafana"}
    services = compose("--profile", "cluster", "--profile", "warehouse")["services"]
    more = {"scheduler", "worker", "postgres", "bucket"}
    assert set(services) == {"daemon", "prometheus", "alertmanager", "grafana"} | more
    for name, one in services.items():
        assert one["read_only"] and one["cap_drop"] == ["ALL"] and "no-new-privileges:true" in one["security_opt"], name
        assert one["mem_limit"] and one["cpus"] and one["pids_limit"], name
        assert {port["host_ip"] for port in one.get("ports", [])} <= {"127.0.0.1"}, name
        assert re.search(r":v?\d+\.\d+(\.\d+)?$", one["image"]), name
    (scraped,) = re.findall(r'targets: \["([^":]+):10464"\]', (REPO / "deploy/prometheus/prometheus.yml").read_text())
    assert scraped == "daemon" == services["daemon"]["hostname"]  # or the daemon would refuse to answer to this name
    for one in services.values():  # every file that is mounted is there
        for volume in one.get("volumes", []):
            assert volume["type"] != "bind" or Path(volume["source"]).exists(), volume


def test_the_image_has_the_locked_versions() -> None:
    """Each version of the image's lock files is the tested one."""

    def pinned(path: str) -> set[str]:
        return set(re.findall(r"^([\w.-]+==\S+)", (REPO / path).read_text(), re.MULTILINE))

    for path in ("deploy/runtime.lock", "deploy/build.lock"):
        assert pinned(path) and pinned(path) <= pinned("requirements.lock"), path
        assert "http" not in (REPO / path).read_text()


@pytest.fixture(scope="module")
def built() -> Iterator[Containers]:
    # On a disk: it is large
    with (
        TemporaryDirectory(dir="/var/tmp") as folder,
        containers(Path(folder) / "storage") as one,
    ):
        yield one


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """An inbox and an output of the container's user, on two file systems where there is a second one."""
    inbox = Path(tempfile.mkdtemp(prefix="strandline-inbox-", dir=elsewhere(tmp_path)))
    output = tmp_path / "output"
    output.mkdir()
    for folder in (inbox, output):
        os.chown(folder, USER, USER)
    yield inbox, output
    shutil.rmtree(inbox)


def volumes(mounts: tuple[Path, Path]) -> list[str]:
    return ["--volume", f"{mounts[0]}:/data/inbox", "--volume", f"{mounts[1]}:/data/output"]


def test_the_image_says_what_it_is(built: Containers) -> None:
    """Not root, exec form, a health check, the OCI labels; the libraries of all destinations."""
    found = built.inspect(IMAGE)["Config"]
    assert found["User"] == "10464:10464" and found["Entrypoint"] == ["strandline"] and not found.get("Cmd")
    assert found["Labels"]["org.opencontainers.image.title"] == "Strandline"
    assert (
        built.inspect(IMAGE)["HealthCheck" if "HealthCheck" in built.inspect(IMAGE) else "Healthcheck"]["Test"][0]
        == "CMD"
    )
    shown = built.podman("run", "--rm", *HARDENED, IMAGE, "--version").stdout
    assert re.fullmatch(r"strandline \d+\.\d+\.\d+ \(commit 0123abc\)\n", shown)
    libraries = "import adbc_driver_postgresql.dbapi, deltalake, obstore; print('there')"
    command = ["--entrypoint", "/opt/strandline/bin/python", IMAGE, "-c", libraries]
    assert built.podman("run", "--rm", *HARDENED, *command).stdout == "there\n"


def test_a_drop_into_the_mounted_inbox_becomes_partitions(
    built: Containers, mounts: tuple[Path, Path], tmp_path: Path
) -> None:
    """In the running container, hardened as in compose; a second one is told who does the work; SIGTERM ends it with 0."""
    inbox, output = mounts
    port = free_port()
    variables = ["--env", f"STRANDLINE_HTTP__PORT={port}", "--env", "STRANDLINE_HTTP__HOST=127.0.0.1"]
    built.podman("run", "--detach", "--name", "strandline", *HARDENED, *variables, *volumes(mounts), IMAGE)
    daemon = Daemon(tmp_path, None, port, tmp_path / "no.log")  # type: ignore[arg-type]
    until(lambda: daemon.get("/-/ready")[0] == 200, "ready")
    place(inbox / "a.json", json.dumps([order(1), order(2, 3)]).encode())
    until(lambda: len(list(output.glob("curated/date=*/fact_order.parquet"))) == 2, "the partitions are there")
    until(lambda: not (inbox / "a.json").exists(), "the inbox is empty")
    assert {path.stat().st_uid for path in output.glob("curated/*/*")} == {USER}
    assert elsewhere(output) is None or os.stat(inbox).st_dev != os.stat(output).st_dev

    second = built.podman("run", "--rm", *HARDENED, *volumes(mounts), IMAGE, "--once", check=False)
    assert second.returncode == 3 and "It does this work already" in second.stderr
    told = built.podman("exec", "strandline", "strandline", "status", "--json")
    assert json.loads(told.stdout)["orders"]["new"] == 2
    health = [
        "exec", "strandline", "python3", "-c",
        f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}/-/healthy', timeout=4)",
    ]  # fmt: skip
    assert built.podman(*health).returncode == 0
    built.podman("stop", "--time", "12", "strandline")
    assert built.inspect("strandline")["State"]["ExitCode"] == 0


def test_as_in_compose_it_is_an_ordinary_user_with_the_lease_capability_alone(
    built: Containers, mounts: tuple[Path, Path]
) -> None:
    """The entry point of docker-compose.yml, with the capabilities that it adds; and a drop is applied so."""
    service = compose()["services"]["daemon"]
    assert service["user"] == "0:0" and service["cap_drop"] == ["ALL"]
    added = [part for name in service["cap_add"] for part in ("--cap-add", name)]
    options = ["--user", "0:0", *HARDENED[2:], *added, *volumes(mounts)]
    *entry, last = service["entrypoint"]
    assert last == "strandline"
    shown = built.podman(
        "run", "--rm", *options, "--entrypoint", json.dumps(entry), IMAGE, "cat", "/proc/self/status"
    ).stdout
    status = dict(line.split(":\t") for line in shown.splitlines() if ":\t" in line)
    assert status["Uid"].split() == [str(USER)] * 4 and status["Gid"].split() == [str(USER)] * 4
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd")} == {_CAP_LEASE}
    place(mounts[0] / "a.json", json.dumps([order(1)]).encode())
    ended = built.podman("run", "--rm", *options, "--entrypoint", json.dumps([*entry, last]), IMAGE, "--once")
    assert ended.returncode == 0 and list(mounts[1].glob("curated/date=2026-03-02/fact_order.parquet"))


def test_one_shot(built: Containers, mounts: tuple[Path, Path]) -> None:
    """`--once` as a container of its own: applied, and gone; 1 where something was quarantined."""
    inbox, output = mounts
    place(inbox / "a.json", json.dumps([order(1)]).encode())
    assert built.podman("run", "--rm", *HARDENED, *volumes(mounts), IMAGE, "--once").returncode == 0
    assert list(output.glob("curated/date=2026-03-02/fact_order.parquet"))
    place(inbox / "broken.json", b"<html>")
    ended = built.podman("run", "--rm", *HARDENED, *volumes(mounts), IMAGE, "--once", check=False)
    assert ended.returncode == 1 and len(list(output.glob("quarantine/*.reason.json"))) == 1
    verified = built.podman("run", "--rm", *HARDENED, *volumes(mounts), IMAGE, "verify")
    assert "all of it is there and right" in verified.stdout
