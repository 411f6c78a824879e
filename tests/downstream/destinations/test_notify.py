"""Receivers of notifications: what they are told, in which order, how often, and what a failing one costs."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.errors import Stopped
from daemon.downstream.destinations import notify_command
from daemon.downstream.destinations.notices import Notices
from daemon.downstream.destinations.notify import Notice
from tests.downstream.destinations.receivers import Receiver, World, exact, is_gone, receiving
from tests.downstream.kinds import Order
from tests.downstream.worlds import ORDERS, WORKER
from tests.support.daemon_process import free_port, until
from tests.support.examples import examples
from tests.support.following import day, epoch_days, never

SECRET, TOKEN = "k3y-of-the-signature", "t0ken-in-a-header"


pytestmark = pytest.mark.usefixtures("quick_tries")


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
    assert [one.split("-")[1] for one in ids] == ["000001", "000002", "000001"] and len(set(ids)) == 3


def test_records_of_a_backup_give_no_id_a_second_time(world: World, receiver: Receiver) -> None:
    """A receiver that knows the id of what was told after the backup would take the next message for a repeat."""
    world.well()
    state = world.home.output / "state"
    backup = {path: path.read_bytes() for path in state.glob("downstream.sqlite*")}
    world.publish(Order(1, 1, 11))
    world.well()
    for path in state.glob("downstream.sqlite*"):
        path.unlink()
    for path, content in backup.items():
        path.write_bytes(content)
    world.publish(Order(1, 1, 12))
    world.well()
    _, second, third = receiver.messages
    assert second["id"] != third["id"] and third["dates"][0]["after"]["amount"] == "12.0000"


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


def test_a_date_that_is_gone_when_it_is_refreshed_is_told_as_gone(world: World, receiver: Receiver) -> None:
    """What is forgotten is not what the receiver does not know."""
    world.well()
    world.publish(Order(5, 1, -50, "u_3"))
    with world.home.following(WORKER) as following:
        following.refresh(["team"], [epoch_days(day(9))])
    world.well()
    assert (day(9), None) in [(one["date"], one["after"]) for one in receiver.messages[1]["dates"]]
    assert exact(receiver.known) == world.expected() and world.well().dates == 0


def test_what_is_refreshed_while_a_message_is_under_way_is_told_once_more(world: World, receiver: Receiver) -> None:
    """The message may have arrived long ago: its repeat tells a receiver that knows its id nothing."""
    world.well()
    receiver.answers = [lambda handler: handler.connection.shutdown(2)] * 3
    world.publish(Order(1, 1, 11))
    assert world.round().error
    with world.home.following(WORKER) as following:
        following.refresh(["team"], [epoch_days(day(1))])
    world.well()
    told = [message for message in receiver.messages[1:] if message["dates"][0]["date"] == day(1)]
    assert len(told) == 5 and len({one["id"] for one in told[:4]}) == 1 and told[4]["id"] != told[0]["id"]
    assert told[4]["dates"][0]["before"] == told[4]["dates"][0]["after"] and world.well().dates == 0


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


def test_batches_that_come_all_the_time_hold_up_no_message(world: World, receiver: Receiver) -> None:
    """A round takes longer than the time between two batches, which all change the same date: the receiver is told of the state
    that the round is about, whole, with its batch and its drops, and then of the next."""
    wanted, published = Notice.wanted, []

    def while_it_publishes(self: Notice, tables: Any) -> Any:
        if len(published) < 100:
            published.append(world.home.version)
            world.publish(Order(1, 1, 100 + len(published)), Order(90 + len(published), 10, 1))
        return wanted(self, tables)

    with mock.patch.object(Notice, "wanted", while_it_publishes):
        assert not world.round().error
        during = len(published)
        assert not world.round().error
    world.well()
    first, second, third = receiver.messages
    assert 0 < during < 5 and [one["date"] for one in first["dates"]] == [day(on) for on in (1, 2, 3, 5, 9)]
    assert (first["batch"], first["drops_total"], first["hwm"]) == (1, 1, f"{day(9)}T10:00:00Z")
    assert (second["batch"], second["drops_total"], second["hwm"]) == (1 + during, during, f"{day(10)}T10:00:00Z")
    assert third["drops_total"] == len(published) - during and exact(receiver.known) == world.expected()


def test_a_batch_whose_files_are_not_in_their_place_yet_is_told_later(world: World, receiver: Receiver) -> None:
    """A receiver may look at the files as soon as it is told."""
    from daemon.storage.ledger import Ledger

    asked = []

    def unpublished(self: Ledger) -> int | None:
        asked.append(len(receiver.messages))
        return 1 if len(asked) < 4 else None

    with mock.patch.object(Ledger, "unpublished_batch", unpublished):
        world.well()
    assert asked == [0] * len(asked) and len(receiver.messages) == 1 and len(asked) >= 4


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
        ("kill -9 $$", "ended with exit code 137"),
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
    until(lambda: is_gone(child), "the end of the child")


# --------------------------------------------------------------------------------------------------------------- histories

steps = st.lists(
    st.tuples(
        st.lists(
            st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(-9, 9)), min_size=1, max_size=3,
            unique_by=lambda one: one[0],
        ),
        st.sampled_from(
            ["well", "fails", "arrives unnoticed", "killed before", "killed after", "refreshed", "overtaken", "nothing"]
        ),
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip


class Killed(BaseException):
    """In place of SIGKILL."""


def test_after_any_history_the_receiver_knows_what_is_published(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Failures, answers that are lost, kills between recording, sending and noting: each change at least once, in order, `before`
    as told, and the same id never with other bytes."""

    @examples(20)
    @given(steps)
    def histories(history: list[tuple[list[tuple[int, int, int]], str]]) -> None:
        with receiving() as receiver:
            world = World(tmp_path_factory.mktemp("history"), f'url = "{receiver.url}"\nattempts = 1')
            for orders, then in history:
                world.publish(*(Order(number, on, amount) for number, on, amount in orders))
                disturbed(world, receiver, then)
            receiver.answers = []
            world.well()
            assert world.well().dates == 0 and exact(receiver.known) == world.expected()
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
    if how == "refreshed":
        with world.home.following(WORKER) as following:
            following.refresh(["team"], [epoch_days(day(1))])
    if how == "overtaken":  # by a batch that is published after the round has read the ledger
        pieces = Notice.pieces

        def publishing(self: Notice, *arguments: Any) -> Any:
            world.publish(Order(1, 2, 77))
            return pieces(self, *arguments)

        with mock.patch.object(Notice, "pieces", publishing):
            world.round()
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
