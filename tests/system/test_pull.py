"""Pulls as the real command and the real daemon do them, against an API on loopback."""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
import ssl
import subprocess
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from urllib.parse import quote, quote_plus

import pytest

from daemon.config import load
from daemon.core.errors import StrandlineError
from daemon.sources.pull.round import first_page
from daemon.storage.pulls import PullState
from daemon.storage.receipts import local_text
from daemon.wiring import pulled_source
from tests.faults import MANY, Action, Control, library, preloading
from tests.support import zygote
from tests.support.api import FAULTS, Api, Asked, Reply, Shop, page, serving
from tests.support.command import drop, environment, once, order, strandline
from tests.support.daemon_process import running, series, started_with, until
from tests.support.harness import dates, rows, tree
from tests.support.pulls import pulling_home

SECRETS = {"SHOP_TOKEN": "t0p+secret/token=", "SHOP_PASSWORD": "pass word&1"}


def full_shop(count: int = 7) -> Shop:
    shop = Shop(3)
    for number in range(count):
        shop.put(f"o_{number}", 1_700_000_000 + number, number + 1)
    return shop


def amounts(home: Path) -> dict[str, float]:
    return {
        str(row["order_id"]): float(str(row["amount"]))
        for day in dates(home / "output") for row in rows(home / "output", day)
    }  # fmt: skip


def expected(shop: Shop) -> dict[str, float]:
    return {name: float(one["amount"]) for name, one in shop.orders.items()}


def test_pull_does_one_round_and_says_what_came(tmp_path: Path) -> None:
    shop = full_shop()
    with serving(shop.by_page) as api:
        home = pulling_home(tmp_path, api)
        ended = strandline(home, "pull", "shop")
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith("shop: 3 pages, 7 records,")
        assert "7 new" in ended.stdout and f"Cursor     {local_text('2023-11-14T22:13:26Z')}" in ended.stdout
        assert amounts(home) == expected(shop)
        shop.put("o_1", 1_700_000_100, 99)
        assert "1 corrected, 6 unchanged" in strandline(home, "pull", "shop").stdout
        again = strandline(home, "pull", "shop")
        assert "nothing new" in again.stdout and "3 pages applied before" in again.stdout
        assert amounts(home) == expected(shop)
        api.asked.clear()
        assert strandline(home, "pull", "shop", "--since", "2023-11-14T22:13:25Z").returncode == 0
        assert api.asked[0].query["since"] == "1700000005"


def test_a_dry_run_shows_the_first_page_and_changes_nothing(tmp_path: Path) -> None:
    """Before the first run, and beside a daemon."""
    shop = full_shop()
    with serving(shop.by_page) as api:
        home = pulling_home(tmp_path, api)
        for folder in ("inbox", "output"):
            (home / folder).rmdir()
        ended = strandline(home, "pull", "shop", "--dry-run")
        assert ended.returncode == 0, ended.stderr
        assert "o_0" in ended.stdout and "order_id" in ended.stdout and len(api.asked) == 1
        assert not (home / "output").exists() and not (home / "inbox").exists()
        (home / "config.toml").write_text((home / "config.toml").read_text().replace("every = 0.2", 'every = "1h"'))
        with running(home) as daemon:
            until(lambda: len(amounts(home)) == 7, "the first round")
            before = tree(home / "output" / "curated")
            assert strandline(home, "pull", "shop", "--dry-run").returncode == 0
            locked = strandline(home, "pull", "shop")
            assert locked.returncode == 3 and str(daemon.process.pid) in locked.stderr
            assert tree(home / "output" / "curated") == before


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["nobody"], "there is no source nobody; configured are default, shop"),
        (["default"], "source default has no API; add the section [sources.default.pull]"),
        (["shop", "--since", "soon"], "is not an instant"),
    ],
)
def test_a_wrong_call_is_a_usage_error(tmp_path: Path, words: list[str], error: str) -> None:
    with serving(full_shop().by_page) as api:
        ended = strandline(pulling_home(tmp_path, api), "pull", *words)
        assert ended.returncode == 2 and error in ended.stderr and not api.asked


@pytest.mark.parametrize("words", [["pull", "shop"], ["pull", "shop", "--dry-run"], ["--once"], []])
def test_a_missing_secret_is_a_usage_error_at_the_start(tmp_path: Path, words: list[str]) -> None:
    with serving(full_shop().by_page) as api:
        home = pulling_home(tmp_path, api)
        with open(home / "config.toml", "a") as file:
            file.write('[sources.shop.pull.headers]\nX-Token = "${NOBODY_SETS_THIS}"\n')
        ended = strandline(home, *words)
        assert ended.returncode == 2 and "NOBODY_SETS_THIS" in ended.stderr and not api.asked


@pytest.mark.parametrize(
    ("setting", "error"),
    [('ca_file = "gone.pem"', "there is no such file"), ('max_page_bytes = "1TiB"', "at most [input] max_drop_bytes")],
)
def test_a_setting_that_cannot_work_is_a_usage_error_at_the_start(tmp_path: Path, setting: str, error: str) -> None:
    with serving(full_shop().by_page) as api:
        home = pulling_home(tmp_path, api)
        (home / "config.toml").write_text((home / "config.toml").read_text().replace("every = 0.2", setting))
        ended = once(home)
        assert ended.returncode == 2 and error in ended.stderr and not api.asked


def test_once_pulls_first_and_a_failing_api_costs_no_drop(tmp_path: Path) -> None:
    shop = full_shop()
    with serving(shop.by_page) as api:
        home = pulling_home(tmp_path, api)
        drop(home, "a.json", [order(1)])
        assert once(home).returncode == 0
        assert amounts(home) == expected(shop) | {"o_1": 1.0} | {"o_1": float(order(1)["amount"])}  # type: ignore[arg-type]
        api.faults.extend([None, *["error_500"] * 2])
        shop.put("o_8", 1_700_000_500, 8)
        drop(home, "b.json", [order(20)])
        ended = once(home)
        assert ended.returncode == 1 and '"behind": ["shop"]' in ended.stderr and "pull failed" in ended.stderr
        assert "o_20" in amounts(home)
        assert once(home).returncode == 0 and "o_8" in amounts(home)


def test_the_daemon_pulls_by_itself_and_shows_how_it_goes(tmp_path: Path) -> None:
    """`status`, the page and metrics have the state and the last error; what fails heals."""
    shop = full_shop()
    with serving(shop.by_page) as api, running(pulling_home(tmp_path, api)) as daemon:
        until(lambda: amounts(tmp_path) == expected(shop), "the first round")
        shop.put("o_2", 1_700_000_900, 55)
        until(lambda: amounts(tmp_path) == expected(shop), "a later round")
        name = 'strandline_pull_cursor_timestamp_seconds{source="shop"}'
        until(lambda: daemon.metrics()[name] == 1_700_000_900, "the cursor")
        assert daemon.metrics()[series("strandline_pull_rounds_total", source="shop", outcome="succeeded")] >= 2
        assert daemon.metrics()[series("strandline_pull_failing", source="shop")] == 0
        api.faults.extend(["error_503"] * 10_000)
        until(lambda: daemon.metrics()[series("strandline_pull_failing", source="shop")] == 1, "it fails")
        found = json.loads(daemon.get("/api/status")[1])["sources"]["shop"]["pull"]
        assert (
            "Maintenance" in found["error"]
            and found["cursor"] == "2023-11-14T22:28:20Z"
            and found["every_seconds"] == 0.2
        )
        assert "status 503" in until(
            lambda: daemon.get("/")[1] if "status 503" in daemon.get("/")[1] else "", "the page"
        )
        assert "Maintenance" in strandline(tmp_path, "status").stdout
        assert daemon.metrics()[series("strandline_pull_retries_total", source="shop", reason="server_error")] >= 1
        api.faults.clear()
        until(lambda: daemon.metrics()[series("strandline_pull_failing", source="shop")] == 0, "it heals")


def test_a_restart_goes_on_from_the_committed_cursor(tmp_path: Path) -> None:
    shop = full_shop()
    with serving(shop.by_page) as api:
        with running(pulling_home(tmp_path, api)) as daemon:
            until(lambda: amounts(tmp_path) == expected(shop), "the first round")
            name = 'strandline_pull_cursor_timestamp_seconds{source="shop"}'
            until(
                lambda: daemon.metrics()[name] == 1_700_000_006,
                "the cursor: its pages are committed, and the round has ended",
            )
        api.asked.clear()
        with running(tmp_path):
            until(lambda: api.asked, "a round")
        assert api.asked[0].query["since"] == str(1_700_000_006 - 3600)


def test_a_slow_source_delays_no_other_and_never_has_two_rounds(tmp_path: Path) -> None:
    shop, busy, most = full_shop(), 0, 0
    lock = threading.Lock()

    def slowly(asked: Asked) -> Reply:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.3)
        with lock:
            busy -= 1
        return shop.by_page(asked)

    with serving(shop.by_page) as api, serving(slowly) as slow:
        slow._lock = _Free()  # type: ignore[assignment]  # answers at the same time, if asked
        home = pulling_home(tmp_path, api)
        text = (home / "config.toml").read_text().replace("every = 0.2", "every = 0.1")
        other = text.split("[watch]")[0].replace("sources.shop", "sources.slow").replace(api.url, slow.url)
        (home / "config.toml").write_text(other + text)
        with running(home) as daemon:
            until(lambda: len(slow.asked) > 8, "rounds of the slow one")
            names = [
                series("strandline_pull_rounds_total", source=one, outcome="succeeded") for one in ("shop", "slow")
            ]
            assert daemon.metrics()[names[0]] > daemon.metrics()[names[1]] + 2
    assert most == 1


class _Free:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_a_paused_daemon_does_not_pull(tmp_path: Path) -> None:
    """And goes on when its environment is well again."""
    if library() is None:
        pytest.skip("needs a C compiler on Linux, to cause faults")
    shop = full_shop()
    control = Control(tmp_path / "control", tmp_path / "home" / "output")
    with serving(shop.by_page) as api:
        (tmp_path / "home").mkdir()
        home = pulling_home(tmp_path / "home", api)
        daemon = started_with(home, preloading(control))
        try:
            until(daemon.ready, "ready")
            until(lambda: amounts(home) == expected(shop), "the first round")
            control.act(Action.FAIL, control.count + 1, MANY, errno.ENOSPC)
            drop(home, "a.json", [order(1)])
            until(lambda: daemon.metrics()["strandline_paused"] == 1, "paused")
            time.sleep(0.5)  # a round that had begun ends
            before = len(api.asked)
            time.sleep(1.5)
            assert len(api.asked) == before
            until(lambda: daemon.said("shop is not pulled"), "a note")
            control.heal()
            until(lambda: len(api.asked) > before, "it goes on")
            assert daemon.stop() == 0
        finally:
            if daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.wait()


def test_a_daemon_stops_at_once_in_the_middle_of_a_request(tmp_path: Path) -> None:
    """Nothing is lost: the next start asks again."""
    shop = full_shop()
    asked = Event()

    def never(one: Asked) -> Reply:
        asked.set()
        reply = shop.by_page(one)
        return Reply(reply.body, slow=30)

    with serving(never) as api:
        with running(pulling_home(tmp_path, api)) as daemon:
            assert asked.wait(30)
            began = time.monotonic()
            assert daemon.stop() == 0 and time.monotonic() - began < 8
        api.answer = shop.by_page
        assert once(tmp_path).returncode == 0 and amounts(tmp_path) == expected(shop)


# ------------------------------------------------------------------------------------------------------------- secrets

WITH_SECRETS = """
headers = {Authorization = "Bearer ${SHOP_TOKEN}"}
params = {since = "{since}", page = "{page}", api_key = "${SHOP_TOKEN}", other = "${file:password}"}
basic_auth = "me:${SHOP_PASSWORD}"
"""


def secret_home(folder: Path, api: Api) -> Path:
    home = pulling_home(folder, api)
    text = (
        (home / "config.toml")
        .read_text()
        .replace('params = {since = "{since}", page = "{page}"}\n', WITH_SECRETS.lstrip())
    )
    (home / "config.toml").write_text(
        text.replace("[watch]", 'timeout = 1\nca_file = ""\n[log]\nlevel = "debug"\n[watch]')
    )
    (home / "password").write_text(SECRETS["SHOP_PASSWORD"] + "\n")
    return home


def forms() -> list[str]:
    """How a secret may be spelled."""
    found = []
    for secret in SECRETS.values():
        found += [
            secret,
            quote(secret),
            quote(secret, safe=""),
            quote_plus(secret),
            base64.b64encode(secret.encode()).decode(),
        ]
    return [*found, base64.b64encode(f"me:{SECRETS['SHOP_PASSWORD']}".encode()).decode()]


def refuse(text: str, where: str) -> None:
    for form in forms():
        assert form not in text, f"{form!r} in {where}"


def echoing(asked: Asked) -> Reply:
    """A server that says back what it was asked, as some do in their errors."""
    text = f"{asked.path} {asked.query} {asked.headers}"
    return Reply(json.dumps({"error": text}).encode() + text.encode(), 403)


TROUBLES = (*FAULTS, "echo", "redirect", "endless", "gone", "late")


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_secret_appears_nowhere_whatever_fails(tmp_path: Path, trouble: str) -> None:
    """In no file, log, error, status, page or metric, nor in any part of an exception."""
    shop = full_shop()
    with serving(shop.by_page) as api:
        home = secret_home(tmp_path, api)
        if trouble == "echo":
            api.answer = echoing
        elif trouble == "redirect":
            api.answer = lambda asked: Reply(b"", 302, {"Location": f"{asked.path}?token={SECRETS['SHOP_TOKEN']}"})
        elif trouble == "endless":
            api.answer = lambda asked: page({"orders": [shop.orders["o_1"]]})
        elif trouble == "late":
            api.answer = lambda asked: Reply(b"busy", 429, {"Retry-After": "9999"})
        elif trouble == "gone":
            api.close()
        else:
            api.faults.extend([trouble] * 1000)
        more = (
            [["pull", "shop"], ["pull", "shop", "--dry-run"], ["status"], ["status", "--json"]]
            if trouble == "echo"
            else []
        )
        for words in [["--once"], *more]:
            ended = zygote.run(words, home, environment() | SECRETS)
            assert ended.returncode in (0, 1), ended.stderr
            refuse(ended.stdout + ended.stderr, " ".join(words))
        source = pulled_source(load(home / "config.toml", {}), "shop", SECRETS)
        try:
            first_page(source, PullState(), None, Event())
        except StrandlineError as error:
            refuse("".join(traceback.format_exception(error)), "a traceback")
            one: BaseException | None = error
            while one is not None:
                refuse(f"{one} {one!r} {one.args} {vars(one)}", "an exception")
                one = one.__cause__ or one.__context__
        refuse(repr(source), "the source")
    for path in home.rglob("*"):
        if path.is_file() and path.name != "password":
            refuse(path.read_bytes().decode("latin-1"), str(path))


def test_a_secret_appears_in_no_metric_and_on_no_page(tmp_path: Path) -> None:
    with serving(echoing) as api:
        home = secret_home(tmp_path, api)
        daemon = started_with(home, SECRETS)
        try:
            until(daemon.ready, "ready")
            until(lambda: daemon.metrics()[series("strandline_pull_failing", source="shop")] == 1, "it fails")
            for path in ("/metrics", "/", "/api/status"):
                refuse(daemon.get(path)[1], path)
            assert "403" in daemon.get("/api/status")[1]
            assert daemon.stop() == 0
            refuse(daemon.log_path.read_text(), "the log")
        finally:
            if daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.wait()


def test_a_literal_secret_gets_a_warning(tmp_path: Path) -> None:
    """Which does not show it."""
    with serving(full_shop().by_page) as api:
        home = pulling_home(tmp_path, api)
        with open(home / "config.toml", "a") as file:
            file.write('[sources.shop.pull.headers]\nAuthorization = "Bearer literal-secret"\n')
        ended = once(home)
        assert ended.returncode == 0 and "headers.Authorization is a secret in the configuration itself" in ended.stderr
        assert "literal-secret" not in ended.stderr and api.asked[0].headers["Authorization"] == "Bearer literal-secret"


# ----------------------------------------------------------------------------------------------------------------- TLS


@contextmanager
def encrypted(api: Api, folder: Path) -> Iterator[Path]:
    """Makes an API speak TLS with a certificate of its own; gives the path of that."""
    program = shutil.which("openssl")
    if program is None:
        if os.environ.get("REQUIRE_TEST_TOOLS"):
            pytest.fail("openssl is missing")
        pytest.skip("needs openssl")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate], check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    api._server.socket = context.wrap_socket(api._server.socket, server_side=True)
    api.url = api.url.replace("http:", "https:")
    yield certificate


def test_certificates_are_verified(tmp_path: Path) -> None:
    """An unknown one ends the round at once, and the error says what to do; with ca_file it is known."""
    shop = full_shop()
    with serving(shop.by_page) as api, encrypted(api, tmp_path) as certificate:
        home = pulling_home(tmp_path, api)
        ended = strandline(home, "pull", "shop")
        assert ended.returncode == 1 and "certificate" in ended.stdout.lower() and "ca_file" in ended.stdout
        text = (home / "config.toml").read_text()
        (home / "config.toml").write_text(text.replace("every = 0.2", f'ca_file = "{certificate.name}"'))
        ended = strandline(home, "pull", "shop")
        assert ended.returncode == 0, ended.stdout
        assert amounts(home) == expected(shop)
