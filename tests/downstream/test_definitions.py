"""The files of models and checks, as definitions: names, options in head comments, arguments, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.core.errors import UsageError
from daemon.downstream.definitions import (
    CHECK,
    MODEL,
    RESERVED,
    Definition,
    check_tables,
    circle_error,
    has_files,
    read,
    read_folder,
)
from daemon.downstream.options import MOST_LOOKBACK

PYTHON = "def model(fact_order):\n    return fact_order\n"


def defined(folder: Path, text: str, name: str = "m.sql", kind: str = MODEL) -> Definition:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read(path, kind)


def refused(folder: Path, text: str, name: str = "m.sql", kind: str = MODEL) -> str:
    """The error of a file: one line that begins with it."""
    with pytest.raises(UsageError) as caught:
        defined(folder, text, name, kind)
    told = str(caught.value)
    assert "\n" not in told and name in told
    return told


@pytest.mark.parametrize(
    ("head", "lookback", "whole"),
    [
        ("", 0, False),
        ("-- lookback = 6\n", 6, False),
        ("--lookback=6\n", 6, False),
        ("  --   lookback   =   6   \n", 6, False),
        ("-- lookback = 0\n", 0, False),
        (f"-- lookback = {MOST_LOOKBACK}\n", MOST_LOOKBACK, False),
        ("-- whole\n", 0, True),
        ("-- whole = true\n", 0, True),
        ("-- whole = false\n", 0, False),
        ("-- Revenue by day.\n\n-- whole\n", 0, True),
        ("-- the whole table\n", 0, False),
        ("-- a week: lookback\n", 0, False),
        ("-- lookback = 6  # seven days\n", 6, False),
        ("\ufeff-- lookback = 6\n", 6, False),
        ("-- lookback = 6\r\n", 6, False),
    ],
)
def test_options_stand_in_the_comments_at_the_head(tmp_path: Path, head: str, lookback: int, whole: bool) -> None:
    """Prose beside them is no option."""
    found = defined(tmp_path, head + "SELECT date FROM fact_order")
    assert (found.lookback, found.whole) == (lookback, whole)


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        ("SELECT date FROM fact_order\n-- lookback = 6\n", "m.sql", 2),
        ("SELECT date FROM fact_order\n-- whole\n", "m.sql", 2),
        ("SELECT date -- lookback = 6\nFROM fact_order\n", "m.sql", 1),
        (PYTHON + "# whole\n", "m.py", 3),
        ("import os\n# Lookback: 6\n" + PYTHON, "m.py", 2),
    ],
)
def test_an_option_after_the_head_is_refused(tmp_path: Path, text: str, name: str, line: int) -> None:
    """It would silently have no effect."""
    assert (
        f"{name}, line {line}: the option" in (found := refused(tmp_path, text, name)) and "head of the file" in found
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("/* Revenue\n by day */\n-- lookback = 2\nSELECT 1", "m.sql"),
        ("-- A week.\n/* one */ /* two */\n\n--lookback = 2\nSELECT 1", "m.sql"),
        ('"""A week.\n\n# whole\n"""\n\n# lookback = 2\n' + PYTHON, "m.py"),
        ("# lookback = 2\n'a docstring'\n" + PYTHON, "m.py"),
    ],
)
def test_options_may_come_after_other_comments(tmp_path: Path, text: str, name: str) -> None:
    """Those in a block, and the docstring of a module."""
    assert defined(tmp_path, text, name).lookback == 2


@pytest.mark.parametrize(
    "line", ["amount = price times qty", "whole weeks", "x: lookback = 6", "a = 1", "lookback is 6"]
)
def test_prose_with_an_equals_sign_is_prose(tmp_path: Path, line: str) -> None:
    """At the head, and after it."""
    found = defined(tmp_path, f"-- {line}\n/* {line} */\nSELECT date -- {line}\nFROM fact_order\n-- {line}\n")
    assert (found.lookback, found.whole) == (0, False)


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("-- lookbock = 6\nSELECT 1", 1, "unknown option lookbock"),
        ("-- A week.\n-- lookback = -1\nSELECT 1", 2, "lookback = -1"),
        ("-- lookback = 1.0\nSELECT 1", 1, "lookback = 1.0"),
        ("-- lookback = true\nSELECT 1", 1, "lookback = true"),
        ("-- lookback = '6'\nSELECT 1", 1, "lookback"),
        ("-- lookback =\nSELECT 1", 1, "lookback"),
        ("-- lookback\nSELECT 1", 1, "lookback"),
        ("-- lookback = six\nSELECT 1", 1, "six"),
        (f"-- lookback = {MOST_LOOKBACK + 1}\nSELECT 1", 1, str(MOST_LOOKBACK)),
        ("\n\n-- whole = 1\nSELECT 1", 3, "whole = 1"),
        ("-- severity = 'error'\nSELECT 1", 1, "unknown option severity"),
        ("-- lookback: 6\nSELECT 1", 1, "looks like the option lookback"),
        ("-- Lookback = 6\nSELECT 1", 1, "looks like the option lookback"),
        ("-- WHOLE\nSELECT 1", 1, "looks like the option whole"),
        ("--- lookback = 6\nSELECT 1", 1, "looks like the option lookback"),
        ("/* A week.\n * lookback = 6 */\nSELECT 1", 2, "looks like the option lookback"),
        ("/* c */\n-- lookback: 6\nSELECT 1", 2, "looks like the option lookback"),
        ("-- lookback = 6\n-- lookback = 2\nSELECT 1", 2, "is given twice"),
    ],
)
def test_a_wrong_option_is_refused_with_its_line(tmp_path: Path, text: str, line: int, told: str) -> None:
    """A typing error must not silently be prose."""
    assert told in (found := refused(tmp_path, text)) and f"m.sql, line {line}:" in found


def test_whole_and_lookback_exclude_each_other(tmp_path: Path) -> None:
    """All dates at once need no days before."""
    assert "whole" in refused(tmp_path, "-- whole\n-- lookback = 2\nSELECT 1")


@pytest.mark.parametrize(
    ("head", "severity"),
    [("", "warning"), ('-- severity = "error"\n', "error"), ("-- severity = error\n", "error"),
     ("-- severity = 'warning'\n", "warning")],
)  # fmt: skip
def test_a_check_has_a_severity(tmp_path: Path, head: str, severity: str) -> None:
    """Which it says at its head; a check always reads all dates."""
    found = defined(tmp_path, head + "SELECT 1", kind=CHECK)
    assert (found.severity, found.whole) == (severity, True)


def test_other_options_of_a_check_are_refused(tmp_path: Path) -> None:
    """Neither another severity nor the options of models."""
    assert "fatal" in refused(tmp_path, "-- severity = 'fatal'\nSELECT 1", kind=CHECK)
    assert "lookback" in refused(tmp_path, "-- lookback = 3\nSELECT 1", kind=CHECK)


def test_options_of_a_python_model_stand_in_its_comments(tmp_path: Path) -> None:
    """A shebang or a coding line is no option."""
    text = "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n# lookback = 2\n" + PYTHON
    found = defined(tmp_path, text, "m.py")
    assert (found.lookback, found.whole, found.is_python) == (2, False, True)


@pytest.mark.parametrize("name", ["M.sql", "1a.sql", "_a.sql", "a-b.sql", "a b.sql", "é.sql", "a" * 64 + ".sql"])
def test_a_name_is_one_that_sql_need_not_quote(tmp_path: Path, name: str) -> None:
    """Small letters, digits and _, and not too long."""
    assert "name" in refused(tmp_path, "SELECT 1", name)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_the_names_of_tables_are_reserved(tmp_path: Path, name: str) -> None:
    """Neither a model nor a check takes one."""
    assert name in refused(tmp_path, "SELECT 1", f"{name}.sql")
    assert name in refused(tmp_path, "SELECT 1", f"{name}.sql", CHECK)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe would block forever; a link to a file is one."""
    os.mkfifo(tmp_path / "pipe.sql")
    (tmp_path / "elsewhere").write_text("SELECT 1")
    (tmp_path / "link.sql").symlink_to(tmp_path / "elsewhere")
    found = {path.stem: one for path, one in read_folder(tmp_path, MODEL)}
    assert "not a regular file" in str(found["pipe"]) and isinstance(found["link"], Definition)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A folder, a broken link, and what is not UTF-8."""
    (tmp_path / "folder.sql").mkdir()
    (tmp_path / "link.sql").symlink_to(tmp_path / "nowhere")
    (tmp_path / "latin.sql").write_bytes(b"-- caf\xe9\nSELECT 1")
    found = {path.stem: str(one) for path, one in read_folder(tmp_path, MODEL) if isinstance(one, UsageError)}
    assert found.keys() == {"folder", "link", "latin"} and "UTF-8" in found["latin"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def model(fact_order:\n", "line 1"),
        ("import os\n\ndef model(fact_order)\n    return 1\n", "line 3"),
        ("def model(fact_order):\n\treturn 1\n        return 2\n", "line 3"),
        ("return 1\ndef model(fact_order): ...\n", "line 1"),
        ("def model(fact_order):\n    nonlocal x\n", "line 2"),
        ("x = '\0'\n", "null"),
        ("", "no function `model`"),
        ("model = 3\n", "no function `model`"),
        ("class A:\n    def model(self): ...\n", "no function `model`"),
        ("async def model(fact_order): ...\n", "no function `model`"),
        ("\ndef model(): ...\n", "line 2"),
        ("def model(*tables): ...\n", "line 1"),
        ("def model(fact_order, **tables): ...\n", "line 1"),
        ("x = " + "-" * 200_000 + "1\n" + PYTHON, "m.py"),
    ],
)
def test_a_wrong_python_model_is_refused_without_running_it(tmp_path: Path, text: str, told: str) -> None:
    """Its syntax, its function and its arguments, with the line."""
    assert told in refused(tmp_path, text, "m.py")


def test_the_arguments_of_a_python_model_are_what_it_reads(tmp_path: Path) -> None:
    """Of every kind, with the line of each; nothing at the top of the file is run for that."""
    text = "raise SystemExit\n\ndef model(fact_order, /,\n          daily, *, dim_user): ...\n"
    found = defined(tmp_path, text, "m.py")
    assert found.reads == ("daily", "dim_user", "fact_order")
    assert found.lines == {"fact_order": 3, "daily": 4, "dim_user": 4}


def test_a_folder_gives_its_models_by_name(tmp_path: Path) -> None:
    """Hidden files and other endings are no models; a name can be given once; a check is SQL; a missing folder is empty."""
    for name in ("b.sql", "a.py", "b.py", ".c.sql", "d.sql~", "e.txt", "README.md"):
        (tmp_path / name).write_text(PYTHON if name.endswith("py") else "SELECT 1")
    found = {path.name: isinstance(one, UsageError) for path, one in read_folder(tmp_path, MODEL)}
    assert found == {"a.py": False, "b.py": False, "b.sql": True}
    assert [path.name for path, one in read_folder(tmp_path, CHECK) if isinstance(one, UsageError)] == ["a.py", "b.py"]
    assert list(read_folder(tmp_path / "nowhere", MODEL)) == [] and not has_files(tmp_path / "nowhere")
    assert has_files(tmp_path)


def test_the_base_covers_what_changes_a_result_and_nothing_else(tmp_path: Path) -> None:
    """The text and the options; not the folder."""
    one = defined(tmp_path, "-- lookback = 1\nSELECT 1")
    other = tmp_path / "other"
    other.mkdir()
    assert defined(other, "-- lookback = 1\nSELECT 1").base == one.base
    assert defined(tmp_path, "-- lookback = 2\nSELECT 1").base != one.base
    assert defined(tmp_path, "-- lookback = 1\nSELECT 2").base != one.base
    assert defined(tmp_path, "SELECT 1").base != defined(tmp_path, "SELECT 1", kind=CHECK).base


def test_an_unknown_table_is_refused_with_the_line_that_names_it(tmp_path: Path) -> None:
    """And with what there is."""
    found = defined(tmp_path, "def model(\n    fact_order,\n    fact_oder): ...\n", "m.py")
    with pytest.raises(
        UsageError,
        match=r"m\.py, line 3: there is no table fact_oder; did you mean fact_order\? There are dim_user, fact_order$",
    ):
        check_tables(found, {"fact_order", "dim_user"})


def test_a_circle_is_told_all_the_way_round(tmp_path: Path) -> None:
    """With the file and the line of each step."""
    one = defined(tmp_path, "def model(b): ...\n", "a.py")
    other = defined(tmp_path, "\ndef model(a): ...\n", "b.py")
    told = str(circle_error([one, other, one]))
    assert told.index("a.py (line 1) reads b") < told.index("b.py (line 2) reads a")
