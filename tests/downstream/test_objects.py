"""[mirror.NAME]: the objects are the published files, manifests name them, and failures of the store say what to do."""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.core.errors import StrandlineError, Unavailable
from daemon.downstream.contract import WHOLE, DownstreamFailed
from daemon.downstream.destinations import object_store
from daemon.downstream.destinations.delta import Delta
from daemon.downstream.destinations.objects import INDEX, MANIFEST, Objects
from daemon.downstream.destinations.store import Change, Delivery, Target
from daemon.downstream.sandbox import Limits
from daemon.downstream.worker import Worker
from tests.downstream.lakes import FIRST, World, files_below, opened, target
from tests.support import s3
from tests.support.examples import LONG
from tests.support.faulty import Fault, between

SECRETS = (s3.SECRET, s3.KEY, "a-string-to-sign")
DAY = "curated/date=2024-10-04"


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "published").mkdir()
    return World(tmp_path / "published")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3.server() as url:
        s3.bucket(url, "mirror")
        yield url


def mirror(folder: Path) -> Objects:
    return Objects(target("mirror", folder))


def test_names_are_those_of_the_output_folder(world: World, tmp_path: Path) -> None:
    """Each folder of a date has its manifest, and the tables without dates theirs."""
    for table, date in (("fact_order", FIRST), ("order_items", FIRST), ("daily", FIRST), ("dim_user", WHOLE)):
        world.publish(table, date, seed=1)
    delivered = world.bring(mirror(tmp_path / "there"))
    assert delivered.bytes == sum(one.bytes for one in world.wanted.values())
    names = {
        ("fact_order", FIRST): f"{DAY}/fact_order.parquet", ("order_items", FIRST): f"{DAY}/order_items.parquet",
        ("daily", FIRST): "models/daily/date=2024-10-04/daily.parquet", ("dim_user", WHOLE): "curated/dim_user.parquet",
    }  # fmt: skip
    manifests = {f"{Path(name).parent}/{MANIFEST}" for name in names.values()}
    assert set(files_below(tmp_path / "there")) == {*names.values(), *manifests, INDEX}
    for key, one in world.wanted.items():
        assert one.path is not None
        content = (tmp_path / "there" / names[key]).read_bytes()
        assert content == one.path.read_bytes()
        manifest = json.loads((tmp_path / "there" / names[key]).with_name(MANIFEST).read_bytes())
        assert manifest["format"] == 1 and manifest["batch"] == world.batch
        about = {"name": Path(names[key]).name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        assert about in manifest["files"]
    index = json.loads((tmp_path / "there" / INDEX).read_bytes())
    assert index["tables"]["dim_user"]["all"]["sha256"] == world.wanted["dim_user", WHOLE].sha256.hex()
    assert index["tables"]["daily"]["2024-10-04"]["bytes"] == world.wanted["daily", FIRST].bytes


def test_new_content_comes_before_manifests_and_old_goes_after(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of all changes of a delivery, and the index names what may be there from the first on."""
    store = mirror(tmp_path / "there")
    for date in (FIRST, FIRST + 1):
        world.publish("fact_order", date, seed=1)
    world.bring(store)
    world.publish("fact_order", FIRST, seed=2)
    world.publish("order_items", FIRST, seed=2)
    world.remove("fact_order", FIRST + 1)
    done: list[tuple[str, list[str]]] = []
    for name in ("upload", "write", "delete"):
        original = getattr(store._files, name)

        def call(names: Any, name: str = name, original: Any = original) -> None:
            done.append((name, sorted(names)))
            if name == "upload":
                known = store.contents()
                assert {known[one] for one in [*world.wanted, ("fact_order", FIRST + 1)]} == {b""}
            original(names)

        monkeypatch.setattr(store._files, name, call)
    store.deliver(world.delivery(store))
    next_day = DAY.replace("04", "05")
    assert done == [
        ("write", [INDEX]),
        ("upload", [f"{DAY}/fact_order.parquet", f"{DAY}/order_items.parquet"]),
        ("write", [f"{DAY}/{MANIFEST}"]),
        ("delete", [f"{next_day}/{MANIFEST}"]),
        ("delete", [f"{next_day}/fact_order.parquet"]),
        ("write", [INDEX]),
    ]
    assert not (tmp_path / "there" / next_day).exists()


@pytest.mark.parametrize("seed", range(20 if LONG else 3))
def test_random_histories_equal_a_plain_model(world: World, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(15):
        world.step(chance)
        store = mirror(tmp_path / "there")
        world.bring(store)
        for (table, date), one in world.wanted.items():
            assert one.path is not None
            assert store.difference(table, date, one.path, tmp_path) == ""
    names = [name for name in files_below(tmp_path / "there") if not name.endswith((MANIFEST, INDEX))]
    assert len(names) == len(world.wanted)


def test_differences_are_found(world: World, tmp_path: Path) -> None:
    one = world.publish("fact_order", FIRST, seed=1)
    store = mirror(tmp_path / "there")
    world.bring(store)
    assert one.path is not None
    path = tmp_path / "there" / DAY / "fact_order.parquet"
    manifest = path.with_name(MANIFEST)
    manifest.write_text("[]")
    assert (
        store.difference("fact_order", FIRST, one.path, tmp_path)
        == f"{DAY}/{MANIFEST} does not name it with its SHA-256"
    )
    path.write_bytes(b"x")
    assert store.difference("fact_order", FIRST, one.path, tmp_path) == f"{DAY}/fact_order.parquet has another content"
    path.unlink()
    assert store.difference("fact_order", FIRST, one.path, tmp_path) == f"{DAY}/fact_order.parquet is not there"
    store.deliver(Delivery(store.contents(), [one], world.schemas, 2))
    assert store.difference("fact_order", FIRST, one.path, tmp_path) == ""


def test_another_writer_is_noticed(world: World, tmp_path: Path) -> None:
    world.publish("daily", FIRST, seed=1)
    late = world.delivery(mirror(tmp_path / "there"))
    world.bring(mirror(tmp_path / "there"))
    with pytest.raises(Unavailable, match="has changed meanwhile"):
        mirror(tmp_path / "there").deliver(late)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"format": 2, "tables": {}}', '{"format": 1, "tables": {"x": {"y": {}}}}']
)
def test_an_index_that_is_none_is_left_alone(world: World, tmp_path: Path, content: str) -> None:
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(DownstreamFailed, match="is not the index of a mirror"):
        mirror(tmp_path).contents()
    assert (tmp_path / INDEX).read_text() == content


@pytest.mark.parametrize("kind", ["mirror", "table"])
def test_a_folder_is_a_path_or_a_file_url(world: World, tmp_path: Path, kind: str) -> None:
    """It is created, with its parents."""
    world.publish("daily", FIRST, seed=1)
    world.bring(opened(target(kind, f"file://{tmp_path}/a%20b/c")))
    assert opened(target(kind, tmp_path / "a b" / "c")).contents() == world.digests


def test_nothing_to_do_writes_nothing(world: World, tmp_path: Path) -> None:
    store = mirror(tmp_path / "there")
    world.bring(store)
    store.deliver(Delivery({}, [Change("daily", FIRST, None)], {}, 1))
    assert list(files_below(tmp_path / "there")) == []


def test_a_local_file_is_durable_before_it_has_its_name(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its folder is synced before the index says that the file is there."""
    done: list[str] = []
    for name in ("sync_many", "move"):
        original = getattr(object_store.files, name)

        def call(*paths: Any, name: str = name, original: Any = original) -> None:
            paths = tuple(list(one) if name == "sync_many" else one for one in paths)
            shown = paths[0] if name == "sync_many" else paths
            done.append(f"{name} {' '.join(str(one.relative_to(tmp_path / 'there')) for one in shown)}")
            original(*paths)

        monkeypatch.setattr(object_store.files, name, call)
    world.publish("dim_user", WHOLE, seed=1)
    mirror(tmp_path / "there").deliver(world.delivery(mirror(tmp_path / "there")))
    user = "curated/dim_user.parquet"
    assert done[3:6] == [f"sync_many {user}.tmp", f"move {user}.tmp {user}", "sync_many curated"]
    assert done[-3:] == [f"sync_many {INDEX}.tmp", f"move {INDEX}.tmp {INDEX}", "sync_many ."]


# ----------------------------------------------------------------------------------------------------------- a real server


def test_a_large_file_is_sent_in_parts(world: World, server: str) -> None:
    """Above 8 MiB; a smaller one by one request."""
    path = world.folder / "large.parquet"
    content = random.Random(1).randbytes(20 << 20)
    path.write_bytes(content)
    large = Change("daily", FIRST, path, hashlib.sha256(content).digest(), len(content))
    with between(server) as proxy:
        store = Objects(target("mirror", "s3://mirror/large", s3.options(proxy.url)))
        store.deliver(Delivery({}, [large], {}, 1))
        parts = [path for method, path in proxy.requests if method == "PUT" and "partNumber" in path]
        assert len(parts) == 3
        assert store.difference("daily", FIRST, path, world.folder) == ""


def test_a_store_that_is_busy_for_a_moment_is_asked_again(world: World, server: str) -> None:
    """Twice 503 for each of two objects, and a connection that is cut in the middle of an upload."""
    for date in (FIRST, FIRST + 1):
        world.publish("fact_order", date, seed=1, count=3_000)
    busy = [Fault("PUT", f"2024-10-0{day}/fact", 503, "SlowDown", times=2) for day in (4, 5)]
    cut = Fault("PUT", "2024-10-04/manifest", cut=True, times=1)
    with between(server, *busy, cut) as proxy:
        world.bring(Objects(target("mirror", "s3://mirror/busy", s3.options(proxy.url))))
        assert [one.met for one in (*busy, cut)] == [2, 2, 1]


FAILURES = {
    "SlowDown": (Fault("PUT", status=503, code="SlowDown"), Unavailable, "asks for fewer requests"),
    "ExpiredToken": (Fault("PUT", status=400, code="ExpiredToken"), Unavailable, "have expired.*renew them"),
    "expired, as 403": (Fault("PUT", status=403, code="ExpiredToken"), Unavailable, "have expired.*renew them"),
    "clock": (Fault("PUT", status=403, code="RequestTimeTooSkewed"), Unavailable, "clock of this machine.*set it"),
    "key": (Fault("PUT", status=403, code="InvalidAccessKeyId"), Unavailable, "are not accepted.*check what `options`"),
    "signature": (Fault("PUT", status=403, code="SignatureDoesNotMatch"), Unavailable, "are not accepted"),
    "rights": (Fault("PUT", status=403, code="AccessDenied"), Unavailable, "do not allow it"),
    "bucket": (Fault("PUT", status=404, code="NoSuchBucket"), DownstreamFailed, "no such bucket.*create it"),
    "region": (Fault("PUT", status=301, code="PermanentRedirect"), DownstreamFailed, "another region"),
    "full": (Fault("PUT", status=507, code="XMinioStorageFull"), Unavailable, "no space left"),
    "cut": (Fault("PUT", cut=True), Unavailable, "cannot be reached, or closed the connection"),
    "server": (Fault("PUT", status=500, code="InternalError"), Unavailable, "an error of its own"),
    "strange": (Fault("PUT", status=418, code="Teapot"), Unavailable, r"could not .*\(Teapot\)"),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [*(("mirror", one) for one in FAILURES), *(("table", one) for one in FAILURES if LONG or one == "cut")],
)
def test_a_failure_of_the_store_says_what_to_do(
    world: World, server: str, kind: str, name: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """After a bounded number of tries, without a credential or the answer of the server. Then the store works again."""
    model, error, said = FAILURES[name]
    caplog.set_level(logging.DEBUG)
    fault = Fault(model.method, "", model.status, model.code, model.cut)
    world.publish("fact_order", FIRST, seed=1, count=3_000)
    with between(server, fault) as proxy:
        options = s3.options(proxy.url) | {"max_retries": "2", "retry_timeout": "20s"}
        store = opened(target(kind, f"s3://mirror/{kind}-{name.replace(' ', '')}", options))
        with pytest.raises(error, match=said) as caught:
            store.deliver(world.delivery(store))
        assert 1 <= fault.met <= 6
        shown = f"{caught.value} {caught.value!r} {store!r} {store._files!r} {caplog.text} {capfd.readouterr()}"
        assert not any(secret in shown for secret in SECRETS)
        assert f"[{kind}.lake]" in str(caught.value)
        assert len(str(caught.value)) < 300
        fault.times = 0
        world.bring(store)


@pytest.mark.parametrize(
    "name", ["SlowDown", "expired, as 403", "clock", "signature", "rights", "bucket", "cut", "server"]
)
def test_a_failure_while_a_log_is_read_says_what_to_do(world: World, server: str, name: str) -> None:
    """deltalake has other texts than obstore; a failure is never taken for a table that is not there."""
    model, error, said = FAILURES[name]
    fault = Fault("GET", "_delta_log", model.status, model.code, model.cut)
    url = f"s3://mirror/log-{name.replace(' ', '')}"
    world.publish("fact_order", FIRST, seed=1)
    world.bring(Delta(target("table", url, s3.options(server))))
    with between(server, fault) as proxy:
        store = Delta(target("table", url, s3.options(proxy.url) | {"max_retries": "2"}))
        with pytest.raises(error, match=said) as caught:
            store.contents()
        assert 1 <= fault.met <= 8
        assert not any(secret in f"{caught.value} {caught.value!r}" for secret in SECRETS)


@pytest.mark.parametrize("kind", ["mirror", "table"])
def test_a_commit_that_fails_halfway_is_finished_later(world: World, server: str, kind: str) -> None:
    """The connection is cut when the index, or the log, is written; all files are there already."""
    world.publish("fact_order", FIRST, seed=1)
    fault = Fault("PUT", INDEX if kind == "mirror" else "_delta_log", cut=True)
    with between(server, fault) as proxy:
        options = s3.options(proxy.url) | {"max_retries": "1"}
        where = target(kind, f"s3://mirror/half-{kind}", options)
        with pytest.raises(Unavailable):
            opened(where).deliver(world.delivery(opened(where)))
        assert fault.met
        fault.times = 0
        world.bring(opened(where))


def test_a_server_that_does_not_answer_is_unavailable(world: World) -> None:
    options = s3.options("http://127.0.0.1:1") | {"max_retries": "1"}
    for store in (Objects(target("mirror", "s3://b/x", options)), Delta(target("table", "s3://b/x", options))):
        with pytest.raises(Unavailable, match="cannot be reached"):
            store.contents()


@pytest.mark.parametrize("kind", ["mirror", "table"])
def test_a_server_that_takes_too_long_is_unavailable(server: str, kind: str) -> None:
    with between(server, delay_seconds=2) as proxy:
        options = s3.options(proxy.url) | {"timeout": "200ms", "max_retries": "1"}
        with pytest.raises(Unavailable, match="did not answer in time"):
            opened(target(kind, "s3://mirror/slow", options)).contents()


@pytest.mark.parametrize("kind", ["mirror", "table"])
def test_no_credentials_are_named(server: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any, the SDKs ask the machine that they run on; here it is one that does not answer."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    options = {key: value for key, value in s3.options(server).items() if "key" not in key}
    options |= {"metadata_endpoint": "http://127.0.0.1:1", "max_retries": "1"}
    with pytest.raises(Unavailable, match="there are no credentials; check what `options` or the environment gives"):
        opened(target(kind, "s3://mirror/x", options)).contents()


def test_a_bucket_that_is_not_there_is_named(server: str) -> None:
    for kind in ("mirror", "table"):
        with pytest.raises(DownstreamFailed, match=r"there is no such bucket.*create it, or correct `url`"):
            opened(target(kind, "s3://missing/x", s3.options(server))).contents()


def test_credentials_come_from_the_environment(world: World, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the SDKs take them, where `options` has none."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    world.publish("daily", FIRST, seed=1)
    for kind in ("mirror", "table"):
        world.bring(opened(target(kind, f"s3://mirror/environment-{kind}")))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"access_kye_id": "very-secret"}, "`options` has a name that the store does not know"),
        ({"allow_http": "very-secret"}, "a value of `options`, or `url`"),
        ({"max_retries": "very-secret"}, "a value of `options`, or `url`"),
    ],
)
def test_wrong_options_are_named_without_their_values(options: dict[str, str], said: str) -> None:
    for kind in ("mirror", "table"):
        with pytest.raises(DownstreamFailed, match=said) as caught:
            opened(target(kind, "s3://bucket/x", options))
        assert "very-secret" not in str(caught.value)


def test_http_must_be_meant(server: str) -> None:
    options = {key: value for key, value in s3.options(server).items() if key != "allow_http"}
    for kind in ("mirror", "table"):
        with pytest.raises(DownstreamFailed, match='write allow_http = "true"'):
            opened(target(kind, "s3://mirror/x", options)).contents()


def test_a_local_folder_that_cannot_be_written_says_so(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No permission, no space, and a name that is taken."""
    world.publish("daily", FIRST, seed=1)
    store = mirror(tmp_path / "there")
    delivery = world.delivery(store)
    for number, error, said in ((13, DownstreamFailed, "may not write there"), (28, Unavailable, "no space left")):

        def failing(*_: object, number: int = number) -> None:
            raise OSError(number, "")

        with monkeypatch.context() as patch:
            patch.setattr(object_store.shutil, "copyfile", failing)
            with pytest.raises(error, match=said):
                store.deliver(delivery)
        delivery = world.delivery(store)
    (tmp_path / "file").write_text("")
    with pytest.raises(StrandlineError, match="something else has that name"):
        mirror(tmp_path / "file" / "below")
    world.bring(store)


@pytest.mark.parametrize("kind", ["mirror", "table"])
def test_the_worker_process_brings_it(world: World, server: str, kind: str) -> None:
    """Under its limit of memory, and errors come back as what they are."""
    worker, where = Worker(Limits(256 << 20, 2, 60.0)), target(kind, f"s3://mirror/worker-{kind}", s3.options(server))

    def call(function: str, *arguments: object, where: Target = where) -> Any:
        return worker.call(where.where, function, where, *arguments, stopped=lambda: False)

    try:
        for date in range(FIRST, FIRST + 30):
            world.publish("fact_order", date, seed=1, count=2_000)
        changes = list(world.wanted.values())
        assert call("destination_contents") == {}
        call("destination_deliver", Delivery({}, changes, world.schemas, 1))
        assert call("destination_contents") == world.digests
        assert call("destination_differences", changes, world.folder) == {}
        with pytest.raises(Unavailable, match="meanwhile"):
            call("destination_deliver", Delivery({}, changes, world.schemas, 1))
        missing = target(kind, "s3://missing/x", s3.options(server))
        with pytest.raises(DownstreamFailed, match="there is no such bucket"):
            call("destination_contents", where=missing)
    finally:
        worker.close()
