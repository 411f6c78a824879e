"""A soak test: the real daemon watches for half an hour or longer while faults are injected.

    python -m benchmarks.soak --minutes 30

Random drops arrive all the time, some written slowly. For two thirds of the time, there is an event every 5 to 20 s: the
daemon is killed or asked to stop, all its operations fail for a while, or the clock is shifted by up to a day. In the last
third it runs without a stop, with drops and failures only. Then everything is compared with the model and checked with
`verify`. The descriptors, threads and memory of the last process must be flat. Needs a C compiler; see tests/faults/.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults import MANY, Action, Control, preloading
from tests.faults.world import CONFIG, World, ledger_rows, violations, world

REPO = Path(__file__).resolve().parents[1]
_ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES)
_DAY = 86_400


class Soak:
    """One daemon, its inbox, and the events. `sent`: every drop, by name."""

    def __init__(self, home: Path, control: Control, seed: int) -> None:
        self.home, self.control, self.chosen = home, control, random.Random(seed)
        self.sent: dict[str, bytes] = {}
        self.happened: Counter[str] = Counter()
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Starts a new daemon."""
        environment = preloading(self.control) | {"PYTHONPATH": str(REPO)}
        with open(self.home / "log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "daemon"], cwd=self.home, env=environment, stderr=log, start_new_session=True
            )

    def drop(self) -> None:
        """Adds a drop: renamed into the inbox, or written in place, sometimes slowly."""
        number = len(self.sent)
        one = world(self.chosen.randrange(1 << 40))
        name, content = self.chosen.choice([*one.before, *one.now])
        name = name.replace("users", f"users{number}x").replace("products", f"products{number}x")
        name = name if "csv" in name else f"d{number}{name}"
        self.sent[name] = content
        target = self.home / "inbox" / name
        if self.chosen.random() < 0.7:
            aside = self.home / "aside"
            aside.write_bytes(content)
            aside.rename(target)
            return
        with open(target, "wb", buffering=0) as file:
            half = len(content) // 2
            file.write(content[:half])
            time.sleep(self.chosen.choice([0, 0.02, 0.2]))
            file.write(content[half:])

    def happen(self, *, may_end: bool) -> None:
        """Causes one event. `may_end`: also events that end the process."""
        what = self.chosen.choice(["kill", "kill", "stop", "fail", "clock"] if may_end else ["fail"])
        self.happened[what] += 1
        if what == "kill":
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = self.start()
        elif what == "stop":
            self.process.send_signal(signal.SIGTERM)
            self.happened[f"stopped with exit code {self.process.wait(15)}"] += 1
            self.process = self.start()
        elif what == "clock":
            self.control.set_clock(self.chosen.choice([0, 1, -1, 3600, -3600, _DAY, -_DAY]))
        else:
            self.control.act(Action.FAIL, self.control.count + 1, MANY, self.chosen.choice(_ERRORS))
            time.sleep(self.chosen.uniform(0.2, 2))
            self.control.heal()
        if self.process.poll() is not None:
            self.happened["unexpected end"] += 1
            self.process = self.start()

    def run(self, seconds: float, *, may_end: bool) -> list[tuple[float, int, int, int]]:
        """Sends drops and causes events for some time. Returns samples, one per second: time, descriptors, threads and bytes of
        memory of the daemon."""
        end, next_event, next_sample = time.monotonic() + seconds, time.monotonic() + 5, time.monotonic()
        samples = []
        while (now := time.monotonic()) < end:
            self.drop()
            if now >= next_event:
                self.happen(may_end=may_end)
                next_event = time.monotonic() + self.chosen.uniform(5, 20)
            if now >= next_sample:
                samples.append((now, *sample(self.process.pid)))
                next_sample = now + 1
            time.sleep(self.chosen.uniform(0.05, 0.6))
        return samples

    def settle(self) -> None:
        """Waits until everything is applied, then stops the daemon."""
        self.control.heal()
        self.control.set_clock(0)
        until = time.monotonic() + 120
        while time.monotonic() < until:
            known = ledger_rows(self.home)
            if (
                len(known) >= len(self.sent)
                and all(row.batch for row in known)
                and not any((self.home / "inbox").iterdir())
            ):
                break
            time.sleep(0.2)
        time.sleep(1)
        self.process.send_signal(signal.SIGTERM)
        self.happened[f"stopped with exit code {self.process.wait(15)}"] += 1


def sample(pid: int) -> tuple[int, int, int]:
    """The number of descriptors and threads and the resident bytes of a process."""
    try:
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0, 0, 0
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return descriptors, int(values["Threads"]), int(values["VmRSS"].split()[0]) * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="strandline-soak-"))
    home = folder / "home"
    (home / "inbox").mkdir(parents=True)
    (home / "config.toml").write_text(CONFIG)
    soak = Soak(home, Control(folder / "control", home), options.seed)
    began = time.monotonic()
    soak.run(options.minutes * 40, may_end=True)
    if soak.process.poll() is not None:
        soak.process = soak.start()
    soak.control.set_clock(0)
    samples = soak.run(options.minutes * 20, may_end=False)
    soak.settle()

    found = violations(home, World(options.seed, [], list(soak.sent.items())))
    verified = subprocess.run(
        [sys.executable, "-m", "daemon", "verify"], cwd=home, env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    samples = samples[len(samples) // 2 :]  # after the first minutes, in which caches fill
    times, descriptors, threads, memory = zip(*samples, strict=True)
    slope = statistics.linear_regression(times, memory).slope * 3600 / 1e6
    print(f"{len(soak.sent):,} drops in {(time.monotonic() - began) / 60:.1f} minutes")
    print(", ".join(f"{number} {what}" for what, number in sorted(soak.happened.items())))
    print(f"descriptors {min(descriptors)} to {max(descriptors)}, threads {min(threads)} to {max(threads)}, "
          f"memory {', '.join(f'{memory[len(memory) * part // 5] / 1e6:.1f}' for part in range(5))}, {memory[-1] / 1e6:.1f} MB, "
          f"{slope:+.1f} MB per hour")  # fmt: skip
    print(f"differences from the model: {len(found)}", *found[:5], sep="\n  ")
    print(verified.stdout.strip())
    good = not found and verified.returncode == 0
    if good:
        shutil.rmtree(folder)
    else:
        print(f"kept: {folder}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
