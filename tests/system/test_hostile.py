"""A hostile inbox: each thing of the corpus between two good drops, through the real process."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.measure import MemorySampler
from tests.hostile import CASES, Case, make, order
from tests.support.command import command, environment, receipts
from tests.support.harness import dates, rows

pytestmark = pytest.mark.timeout(300)  # slow by nature

TIMEOUT_SECONDS = 120
# [engine] memory_limit is 1 GiB; the parent and the workers' programs come on top, and pages of files that are mapped.
BOUND_MEGABYTES = 2500


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_gets_what_is_documented_and_costs_no_other_drop_anything(tmp_path: Path, case: Case) -> None:
    """The good drops before and after it are applied, memory and time are bounded, and the process ends as it should."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    now = time.time()
    try:
        odd = make(case, inbox)
    except PermissionError:
        pytest.skip("not permitted here")
    for number, (name, age) in enumerate((("a-before.json", 3600), ("z-after.json", 600))):
        good = inbox / name
        good.write_text(json.dumps([order(f"good_{number}", created_at="2026-07-01")]))
        os.utime(good, (now - age, now - age))
    if odd.is_file() and not odd.is_symlink():
        os.utime(odd, (now - 1800, now - 1800))

    with open(tmp_path / "log.txt", "wb") as log:
        process = subprocess.Popen(command(), cwd=tmp_path, env=environment(), stdout=log, stderr=log)
        memory = MemorySampler(process.pid)
        memory.start()
        code = process.wait(TIMEOUT_SECONDS)
    peak = memory.stop()
    said = (tmp_path / "log.txt").read_text()

    assert "Traceback" not in said
    assert code == (0 if case.outcome == "applied" or case.name == "folder.json" else 1), said
    assert peak < BOUND_MEGABYTES
    output = tmp_path / "output"
    assert {row["order_id"] for row in rows(output, "2026-07-01")} == {"h_good_0", "h_good_1"}
    found = {key.partition(":")[2]: receipt for key, receipt in receipts(tmp_path).items()}
    others = [receipt for name, receipt in found.items() if name not in ("a-before.json", "z-after.json")]
    if case.outcome == "left":
        assert others == [] and os.path.lexists(odd)
        assert len([line for line in said.splitlines() if case.reason in line and "run ended" not in line]) == 1
        assert list((output / "quarantine").glob("*")) == []
        assert dates(output) == ["2026-07-01"]
        return
    (receipt,) = others
    assert receipt["outcome"] == case.outcome and [p.name for p in inbox.iterdir()] == []
    if case.outcome == "quarantined":
        assert case.reason in receipt["reason"]
        kept = [path for path in (output / "quarantine").iterdir() if not path.name.endswith(".reason.json")]
        assert len(kept) == 1
    else:
        records = receipt["records"]
        assert (records["new"], records["discarded"], receipt["field_faults"]) == (
            case.new,
            case.discarded,
            case.faults,
        )


def test_an_unreadable_file_waits_for_its_rights(tmp_path: Path) -> None:
    """Not the data's fault: it stays in the inbox, is named with the cause, and is applied once it can be read."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for name, mode in (("locked.json", 0o000), ("open.json", 0o600)):
        path = inbox / name
        path.write_text(json.dumps([order(name)]))
        path.chmod(mode)
        os.utime(path, (time.time() - 600, time.time() - 600))
    # root reads everything, unless these rights are taken from it
    as_others = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if as_others and subprocess.run([*as_others, "true"], check=False, capture_output=True).returncode:
        pytest.skip("root's rights cannot be taken away here (setpriv)")
    settings = environment(RETRY__ATTEMPTS="1", RETRY__INITIAL_DELAY_SECONDS="0.1", WATCH__SETTLE_SECONDS="0.1")

    def once() -> subprocess.CompletedProcess[str]:
        arguments = [*as_others, *command()]
        return subprocess.run(
            arguments, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=60, check=False
        )

    ended = once()
    assert ended.returncode == 1
    assert "Permission denied" in ended.stderr and [path.name for path in inbox.iterdir()] == ["locked.json"]
    assert [receipt["name"] for receipt in receipts(tmp_path).values()] == ["open.json"]
    (inbox / "locked.json").chmod(0o600)
    assert once().returncode == 0
    assert len(receipts(tmp_path)) == 2
