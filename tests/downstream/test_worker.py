"""The process of models: what one leaves in it reaches no other, and no answer is taken for that of another call."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.following import Home, day

SUMS = "fact_order.groupby('date', as_index=False)['amount'].sum()"
EXTRA_ANSWER = (
    "import gc\nfrom multiprocessing.connection import Connection\n\ndef model(fact_order):\n"
    "    (own,) = [one for one in gc.get_objects() if isinstance(one, Connection)]\n"
    "    own.{}\n    return {}\n"
)  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Home:
    one = Home(tmp_path)
    one.publish(*(one.order(number, number, number) for number in range(3)))
    return one


def errors(home: Home) -> dict[str, str]:
    return {name: one.error for name, one in home.round().items() if one.error}


def test_a_process_that_a_model_forks_neither_answers_nor_writes(home: Home) -> None:
    """Here it comes first, with another result: that of the process itself counts, for this model and for the next ones."""
    home.model(
        "a.py",
        "import os\n\ndef model(fact_order):\n    child = os.fork()\n    if child:\n        os.waitpid(child, 0)\n"
        f"    frame = {SUMS}\n    return frame if child else frame.head(0)\n",
    )
    home.model("b.py", f"def model(fact_order):\n    return {SUMS}.assign(b=True)\n")
    home.model("c", "SELECT date, amount, true AS c FROM fact_order")
    assert errors(home) == {}
    assert home.rows("a").keys() == {day(0), day(1), day(2)}
    assert {row[2] for name in ("b", "c") for rows in home.rows(name).values() for row in rows} == {True}


def test_an_exception_in_a_forked_process_is_not_the_answer(home: Home) -> None:
    """The process itself returns a frame."""
    home.model(
        "a.py",
        "import os\n\ndef model(fact_order):\n    if child := os.fork():\n        os.waitpid(child, 0)\n"
        f"        return {SUMS}\n    raise ValueError('in the child')\n",
    )
    assert errors(home) == {} and len(home.rows("a")) == 3


@pytest.mark.parametrize(
    ("sent", "told"), [("send((0, 'result', {}))", "not the one to this call"), ("send_bytes(b'x')", "cannot be read")]
)
def test_an_answer_to_another_call_is_an_error(home: Home, sent: str, told: str) -> None:
    """Of the model whose process gave it; the others are made."""
    home.model("a.py", EXTRA_ANSWER.format(sent, SUMS))
    home.model("b", "SELECT DISTINCT date FROM fact_order")
    found = errors(home)
    assert found.keys() == {"a"} and told in found["a"] and found["a"].startswith(f"{home.models}/a.py: ")
    assert home.rows("a") == {} and len(home.rows("b")) == 3


def test_what_a_python_model_leaves_in_its_process_reaches_no_other(home: Home) -> None:
    """The environment, the folder, the decimal context, and a pandas that was changed."""
    home.model(
        "a.py",
        "import decimal, os\nimport pandas as pd\n\ndef model(fact_order):\n    os.environ['LEFT'] = 'here'\n"
        "    os.chdir('/')\n    decimal.getcontext().prec = 3\n    pd.DataFrame.left = 1\n"
        f"    return {SUMS}\n",
    )
    home.model(
        "b.py",
        "import decimal, os\nimport pandas as pd\n\ndef model(a):\n    return a[['date']].assign(\n"
        "        left=os.environ.get('LEFT'), folder=os.getcwd(), prec=decimal.getcontext().prec,\n"
        "        changed=hasattr(pd.DataFrame, 'left'))\n",
    )
    assert errors(home) == {}
    assert {row[1:] for rows in home.rows("b").values() for row in rows} == {(None, str(Path.cwd()), 28, False)}


@pytest.mark.parametrize(("signal", "told"), [("SIGSEGV", "by the signal SIGSEGV"), ("SIGKILL", "memory ran out")])
def test_a_process_that_a_signal_ended_says_which(home: Home, signal: str, told: str) -> None:
    """Only SIGKILL is most likely the system's, for want of memory."""
    home.model(
        "a.py", f"import os, signal\n\ndef model(fact_order):\n    os.kill(os.getpid(), signal.{signal})\n"
    )  # fmt: skip
    found = errors(home)["a"]
    assert told in found and ("memory" in found) == (signal == "SIGKILL")


def test_what_a_model_prints_is_not_lost_with_its_process(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    """It goes to standard error."""
    home.model("a.py", f"def model(fact_order):\n    print('it is said')\n    return {SUMS}\n")
    assert errors(home) == {}
    assert "it is said" in capfd.readouterr().err
