"""Receivers of notifications: what they are told, in which order, how often, and what a failing one costs."""

from __future__ import annotations

import hashlib
import hmac
import http.server
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.errors import Stopped
from daemon.downstream.attempts import Followed
from daemon.downstream.destinations import notify_command, notify_tries
from daemon.downstream.destinations.notices import Notices
from tests.downstream.kinds import Order
from tests.downstream.worlds import ORDERS, WORKER
from tests.support.daemon_process import free_port, until
from tests.support.examples import examples
from tests.support.following import Home, day, epoch_days, never

SECRET, TOKEN = "k3y-of-the-signature", "t0ken-in-a-header"


@dataclass
class Received:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class Receiver:
    """A webhook on loopback. `answers`: what the next requests get, then 204; a function gets the handler."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answers: list[int | tuple[int, dict[str, str], bytes] | Callable[[Any], None]] = field(default_factory=list)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [one.message for one in self.received]

    @property
    def known(self) -> dict[str, dict[str, Any]]:
        """What a receiver that tells repeats by their ids knows of each date."""
        seen: set[str] = set()
        dates: dict[str, Any] = {}
        for message in self.messages:
            if message["id"] not in seen:
                seen.add(message["id"])
                for one in message["dates"]:
                    assert one["before"] == dates.get(one["date"]), "before is what was told last"
                    dates[one["date"]] = one["after"]
        return {date: sums for date, sums in dates.items() if sums is not None}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


@contextmanager
def receiving() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.received.append(Received(self.path, dict(self.headers), body))
            answer = found.answers.pop(0) if found.answers else 204
            if callable(answer):
                answer(self)
                return
            status, headers, content = answer if isinstance(answer, tuple) else (answer, {}, b"")
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    """Delays between two tries are short."""
    with mock.patch.object(notify_tries, "_BACKOFF", notify_tries.Backoff(1, 0.01, 0.02)):
        yield


class World:
    """An output with orders, and one receiver."""

    def __init__(self, root: Path, section: str) -> None:
        self.home = Home(root)
        self.orders: dict[int, Order] = {}
        self.home.destinations(f"[notify.team]\n{section}\n")

    def publish(self, *orders: Order) -> None:
        self.orders |= {one.number: one for one in orders}
        self.home.publish(*(self.home.order(one.number, one.on, one.amount, one.user) for one in orders))

    def round(self) -> Followed:
        return self.home.round(WORKER)["team"]

    def well(self) -> Followed:
        found = self.round()
        assert not found.error and found.stale == 0, found
        return found

    def expected(self) -> dict[str, dict[str, Any]]:
        """What plain Python expects of each date. An order has one line."""
        sums: dict[str, list[Order]] = {}
        for one in self.orders.values():
            sums.setdefault(day(one.on), []).append(one)
        return {
            date: {"orders": len(those), "lines": len(those), "amount": Decimal(sum(one.amount for one in those))}
            for date, those in sums.items()
        }


def exact(known: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {date: sums | {"amount": Decimal(sums["amount"])} for date, sums in known.items()}


@pytest.fixture
def world(tmp_path: Path, receiver: Receiver) -> World:
    one = World(tmp_path, f'url = "{receiver.url}"')
    one.publish(*ORDERS)
    return one


# ---------------------------------------------------------------------------------------------------------------- messages


def test_the_first_message_tells_all_and_the_next_what_changed(world: World, receiver: Receiver) -> None:
    """Each date before and after, exact; the drops, the batch and the high-water mark; an idle round tells nothing."""
    world.well()
    world.publish(Order(5, 1, -50, "u_3"), Order(3, 3, -33))
    world.well()
    world.well()
    first, second = receiver.messages
    assert len(first["dates"]) == 5 and all(one["before"] is None for one in first["dates"])
    assert exact(receiver.known) == world.expected()
    assert [one["date"] for one in second["dates"]] == [day(1), day(3), day(9)]
    assert second["dates"][2] == {
        "date": day(9),
        "before": {"orders": 1, "lines": 1, "amount": "-50.0000"},
        "after": None,
    }
    assert (first["batch"], second["batch"]) == (1, 2) and second["hwm"] == f"{day(9)}T10:00:00Z"
    assert [one["drop"] for one in first["drops"]] == [1] and [one["drop"] for one in second["drops"]] == [2]
    assert second["drops_total"] == 1 and second["drops"][0]["outcome"] == "applied"
    assert first["notify"] == "team" and first["id"] != second["id"]


def test_ids_count_up_and_those_of_a_new_state_are_others(world: World, receiver: Receiver) -> None:
    """A receiver that remembers ids must not take a new message for an old one."""
    world.well()
    world.publish(Order(1, 1, 11))
    world.well()
    for path in (world.home.output / "state").glob("downstream.sqlite*"):
        path.unlink()
    world.well()
    ids = [message["id"] for message in receiver.messages]
    assert [one[-6:] for one in ids] == ["000001", "000002", "000001"] and len(set(ids)) == 3


def test_a_request_is_signed_and_has_the_headers(tmp_path: Path, receiver: Receiver, monkeypatch: Any) -> None:
    """The signature is HMAC-SHA256 of the exact body; the secret may be in a file, and is read at every round."""
    monkeypatch.setenv("HOOK_TOKEN", TOKEN)
    (tmp_path / "key").write_text(SECRET + "\n")
    section = (
        f'url = "{receiver.url}"\nsecret = "${{file:key}}"\nheaders = {{ Authorization = "Bearer ${{HOOK_TOKEN}}" }}'
    )
    world = World(tmp_path, section)
    for key in (SECRET, "another-key"):
        (tmp_path / "key").write_text(key)
        world.publish(Order(1, 1, len(key)))
        world.well()
        one = receiver.received[-1]
        assert (
            one.headers["X-Strandline-Signature"]
            == "sha256=" + hmac.new(key.encode(), one.body, hashlib.sha256).hexdigest()
        )
        assert one.headers["X-Strandline-Id"] == one.message["id"]
        assert one.headers["Content-Type"] == "application/json" and one.headers["Authorization"] == f"Bearer {TOKEN}"


def test_what_is_refreshed_is_told_again(world: World, receiver: Receiver) -> None:
    """One date or all, with what was told as `before`."""
    world.well()
    with world.home.following(WORKER) as following:
        following.refresh(["team"], [epoch_days(day(3))])
        following.round(never, now=True)
        following.refresh(["team"])
        following.round(never, now=True)
    _, one, every = receiver.messages
    assert [(date["date"], date["before"] == date["after"]) for date in one["dates"]] == [(day(3), True)]
    assert len(every["dates"]) == 5 and world.well().dates == 0


def test_a_long_history_is_told_in_pieces(tmp_path: Path, receiver: Receiver) -> None:
    """A message has a bounded number of dates."""
    world = World(tmp_path, f'url = "{receiver.url}"')
    world.publish(*(Order(number, number, number) for number in range(25)))
    with mock.patch("daemon.downstream.destinations.notify._MOST_DATES", 10):
        world.well()
    assert [len(message["dates"]) for message in receiver.messages] == [10, 10, 5]
    assert exact(receiver.known) == world.expected()


# ---------------------------------------------------------------------------------------------------------------- failures


def test_what_changed_during_an_outage_is_told_merged(world: World, receiver: Receiver) -> None:
    """The message that may have arrived comes again, the same; then one message for everything since."""
    world.well()
    receiver.answers = [503] * 9
    for amount in (11, 12, 13):
        world.publish(Order(1, 1, amount), Order(amount, 4, amount))
        found = world.round()
        assert found.error and found.is_transient and "503" in found.error
    assert receiver.answers == []
    world.well()
    tried = receiver.received[1:10]
    assert {one.body for one in tried} == {tried[0].body}
    again, merged = receiver.received[10:]
    assert again.body == tried[0].body and [one["date"] for one in merged.message["dates"]] == [day(1), day(4)]
    assert merged.message["drops_total"] == 2 and exact(receiver.known) == world.expected()


def test_a_change_that_was_taken_back_during_an_outage_is_not_lost(world: World, receiver: Receiver) -> None:
    """A, then B whose message may have arrived, then A again: the receiver must not go on with B."""
    world.well()
    receiver.answers = [500] * 3
    world.publish(Order(1, 2, 10))
    assert world.round().error
    world.publish(Order(1, 1, 10))
    world.well()
    assert len(receiver.messages) == 6 and exact(receiver.known) == world.expected()


@pytest.mark.parametrize(
    "answer", [408, 429, 500, 503, (429, {"Retry-After": "0"}, b""), (503, {"Retry-After": "never"}, b"")]
)
def test_what_may_succeed_later_is_tried_again_in_the_round(world: World, receiver: Receiver, answer: Any) -> None:
    """And the same bytes are sent."""
    receiver.answers = [answer, answer]
    world.well()
    assert len({one.body for one in receiver.received}) == 1 and len(receiver.received) == 3


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (400, "answered with 400; see whether url"),
        ((403, {}, b"no such\x00 key"), "answered with 403: no such? key"),
        ((302, {"Location": "https://elsewhere.example/"}, b""), "answered with 302, a redirect"),
    ],
)
def test_what_stays_wrong_is_not_repeated_in_the_round(
    world: World, receiver: Receiver, answer: Any, said: str
) -> None:
    """The error says what to look at; a later round tells it."""
    receiver.answers = [answer]
    found = world.round()
    assert said in found.error and "[notify.team]" in found.error and not found.is_transient
    assert len(receiver.received) == 1
    world.well()
    assert exact(receiver.known) == world.expected()


def test_a_receiver_that_never_answers_ends_at_its_timeout_or_at_a_stop(tmp_path: Path, receiver: Receiver) -> None:
    """A stop does not wait for it."""
    over = threading.Event()
    world = World(tmp_path, f'url = "{receiver.url}"\ntimeout = 0.2\nattempts = 2')
    world.publish(Order(1, 1, 1))
    receiver.answers = [lambda _: over.wait(20)] * 3
    assert "no answer" in world.round().error
    world.home.destinations(f'[notify.team]\nurl = "{receiver.url}"\ntimeout = 60')
    began = time.monotonic()
    with world.home.following(WORKER) as following, pytest.raises(Stopped):
        following.round(lambda: time.monotonic() > began + 0.3, now=True)
    over.set()
    assert time.monotonic() - began < 20
    world.well()


def test_a_connection_that_is_cut_and_one_that_is_refused(world: World, receiver: Receiver) -> None:
    """Neither has an object of a library in its text."""
    receiver.answers = [lambda handler: handler.connection.shutdown(2)] * 3
    found = world.round()
    assert found.is_transient and "127.0.0.1" in found.error and "object at" not in found.error
    world.home.destinations(f'[notify.team]\nurl = "http://127.0.0.1:{free_port()}/"')
    assert "no connection to 127.0.0.1: Connection refused" in world.round().error


def test_no_secret_is_in_an_error_or_a_record(tmp_path: Path, receiver: Receiver, monkeypatch: Any) -> None:
    """Even where the receiver repeats it."""
    monkeypatch.setenv("HOOK_URL", receiver.url + f"?token={TOKEN}")
    monkeypatch.setenv("HOOK_KEY", SECRET)
    world = World(tmp_path, 'url = "${HOOK_URL}"\nsecret = "${HOOK_KEY}"')
    world.publish(Order(1, 1, 1))
    receiver.answers = [(400, {}, f"{SECRET} {receiver.url}?token={TOKEN}".encode())]
    found = world.round()
    assert "400" in found.error
    for path in [*world.home.output.rglob("*")]:
        content = path.read_bytes() if path.is_file() else b""
        assert SECRET.encode() not in content and TOKEN.encode() not in content
    assert SECRET not in found.error and TOKEN not in found.error
    monkeypatch.delenv("HOOK_KEY")
    assert "HOOK_KEY is missing" in world.round().error


def test_a_batch_that_is_published_meanwhile_is_told_whole(world: World, receiver: Receiver) -> None:
    """The dates of a message are of one state: where the ledger has gone on, the round begins again."""
    next_id, published = Notices.next_id, []

    def publishes(self: Notices) -> str:
        return next_id(self)

    def results(self: Any, *arguments: Any) -> Any:
        found = original(self, *arguments)
        if not published:
            published.append(True)
            world.publish(Order(1, 2, 77))
        return found

    from daemon.storage.ledger import Ledger

    original = Ledger.results_after
    with mock.patch.object(Ledger, "results_after", results), mock.patch.object(Notices, "next_id", publishes):
        world.well()
    world.well()
    assert published and exact(receiver.known) == world.expected()


# ---------------------------------------------------------------------------------------------------------------- commands


def script(home: Path, text: str) -> str:
    path = home / "tell.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_command_gets_the_message_without_a_shell(tmp_path: Path) -> None:
    """Its arguments as they are written."""
    out = tmp_path / "out"
    command = [script(tmp_path, f'printf "%s\\n" "$1" >> {out}; cat >> {out}'), "$HOME; `false`"]
    world = World(tmp_path, f"command = {json.dumps(command)}")
    world.publish(*ORDERS)
    world.well()
    argument, message = out.read_text().split("\n", 1)
    assert argument == "$HOME; `false`" and len(json.loads(message)["dates"]) == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo first; echo no such host >&2; exit 7", "ended with exit code 7 for the message team-"),
        ("exec 0<&-; exit 1", "ended with exit code 1"),
        ("yes | head -c 3000000; exit 2", "ended with exit code 2"),
        ("kill -9 $$", "ended with exit code -9"),
    ],
)
def test_a_command_that_fails_is_tried_again_and_told_of(tmp_path: Path, text: str, said: str) -> None:
    """With the end of what it printed."""
    world = World(tmp_path, f'command = ["{script(tmp_path, f"echo x >> {tmp_path}/runs; {text}")}"]\nattempts = 2')
    world.publish(Order(1, 1, 1))
    found = world.round()
    assert said in found.error and found.is_transient and (tmp_path / "runs").read_text() == "x\nx\n"
    if "no such host" in text:
        assert "first / no such host" in found.error


def test_a_command_that_reads_nothing_and_one_that_leaves_a_child(tmp_path: Path) -> None:
    """Exit code 0 is success; a child that keeps the output open is not waited for."""
    world = World(tmp_path, f'command = ["{script(tmp_path, "sleep 30 & exit 0")}"]')
    world.publish(*ORDERS)
    began = time.monotonic()
    world.well()
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(("path", "said"), [("/no/such/program", "No such file"), ("/", "Permission denied")])
def test_a_command_that_cannot_run_says_so(tmp_path: Path, path: str, said: str) -> None:
    world = World(tmp_path, f'command = ["{path}"]')
    world.publish(Order(1, 1, 1))
    found = world.round()
    assert f"cannot run {path}: {said}" in found.error and not found.is_transient


@pytest.mark.parametrize("how", ["timeout", "stop"])
def test_a_command_is_ended_with_its_children(tmp_path: Path, how: str) -> None:
    """Those that ignore SIGTERM, too; at its time limit, and when the daemon is to stop."""
    text = f"trap '' TERM; (trap '' TERM; echo $$ > {tmp_path}/pid; exec sleep 600) & echo $! > {tmp_path}/child; sleep 600"
    timeout = 0.5 if how == "timeout" else 60
    world = World(tmp_path, f'command = ["{script(tmp_path, text)}"]\ntimeout = {timeout}\nattempts = 1')
    world.publish(Order(1, 1, 1))
    with mock.patch.object(notify_command, "_GRACE_SECONDS", 0.2):
        if how == "timeout":
            assert "took longer than timeout, 0.5 s" in world.round().error
        else:
            with world.home.following(WORKER) as following, pytest.raises(Stopped):
                following.round((tmp_path / "child").exists, now=True)
    child = int(until(lambda: (tmp_path / "child").read_text().strip(), "the number of the child"))
    until(lambda: _is_gone(child), "the end of the child")


def _is_gone(pid: int) -> bool:
    """Ended, and perhaps not yet taken note of by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


# --------------------------------------------------------------------------------------------------------------- histories

steps = st.lists(
    st.tuples(
        st.lists(
            st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(-9, 9)), min_size=1, max_size=3,
            unique_by=lambda one: one[0],
        ),
        st.sampled_from(["well", "fails", "arrives unnoticed", "killed before", "killed after", "nothing"]),
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip


class Killed(BaseException):
    """In place of SIGKILL."""


def test_after_any_history_the_receiver_knows_what_is_published(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Failures, answers that are lost, kills between recording, sending and noting: each change at least once, in order, `before`
    as told, and the same id never with other bytes."""

    @examples(25)
    @given(steps)
    def histories(history: list[tuple[list[tuple[int, int, int]], str]]) -> None:
        with receiving() as receiver:
            world = World(tmp_path_factory.mktemp("history"), f'url = "{receiver.url}"\nattempts = 1')
            for orders, then in history:
                world.publish(*(Order(number, on, amount) for number, on, amount in orders))
                disturbed(world, receiver, then)
            receiver.answers = []
            world.well()
            assert exact(receiver.known) == world.expected()
            bodies: dict[str, set[bytes]] = {}
            for one in receiver.received:
                bodies.setdefault(one.message["id"], set()).add(one.body)
            assert all(len(those) == 1 for those in bodies.values())
            ids = [one.message["id"] for one in receiver.received]
            assert ids == sorted(ids)

    histories()


def disturbed(world: World, receiver: Receiver, how: str) -> None:
    """One round in which something happens."""
    if how == "nothing":
        return
    receiver.answers = {
        "fails": [500], "arrives unnoticed": [lambda handler: handler.connection.shutdown(2)],
    }.get(how, [])  # fmt: skip
    if how.startswith("killed"):
        where = "begin" if how == "killed before" else "arrived"
        original = getattr(Notices, where)

        def kill(self: Notices, *arguments: Any) -> None:
            if where == "begin":
                original(self, *arguments)
            raise Killed

        with mock.patch.object(Notices, where, kill), pytest.raises(Killed):
            world.round()
            raise Killed  # where there was nothing to tell
        return
    world.round()


def test_a_process_that_is_killed_tells_it_again(tmp_path: Path, receiver: Receiver) -> None:
    """SIGKILL to a real process while the receiver has the message and has not answered."""
    over = threading.Event()
    receiver.answers = [lambda _: over.wait(60)]
    world = World(tmp_path, f'url = "{receiver.url}"')
    world.publish(*ORDERS)
    pid = os.fork()
    if pid == 0:
        try:
            world.round()
        finally:
            os._exit(0)
    until(lambda: receiver.received)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    over.set()
    world.publish(Order(1, 1, 11))
    world.well()
    first, again, then = receiver.received
    assert first.body == again.body and [one["date"] for one in then.message["dates"]] == [day(1)]
    assert exact(receiver.known) == world.expected()
