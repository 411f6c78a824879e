"""Writes the pages of docs/reference, and the tables of settings in docs/, from the code.

    python docs/reference/generate.py           writes what is not current
    python docs/reference/generate.py --check   names what is not current, and ends with exit code 1

commands.md, exit-codes.md, presets.md and python.md are written whole. In the tables of CONFIGURATION.md, DESTINATIONS.md and
METRICS.md, the rows and the cells that the code knows (default, what is allowed, variable, type) are written again; the sentence
at the end of a row is the page's own.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(DOCS.parent))  # runs from a checkout, installed or not

from prometheus_client import generate_latest  # noqa: E402
from prometheus_client.metrics_core import Metric  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from daemon import frames  # noqa: E402 (after the path)
from daemon.commands.guide import GUIDES, MAIN, Guide  # noqa: E402
from daemon.commands.parser import parser as make_parser  # noqa: E402
from daemon.config import SETTINGS, variable_of  # noqa: E402
from daemon.core.quantities import Duration  # noqa: E402
from daemon.downstream.destinations.settings import KINDS  # noqa: E402
from daemon.observe.metrics import Metrics  # noqa: E402
from daemon.operate import docs  # noqa: E402
from daemon.sources.mapping_settings import preset_text, presets  # noqa: E402

_MADE = "<!-- Made from the code by `make reference`. Edit the code. -->"


def pages() -> dict[Path, str]:
    """Each generated page, with what it should be."""
    whole = {"commands": commands, "exit-codes": exit_codes, "presets": preset_page, "python": python}
    made = {DOCS / "reference" / f"{name}.md": page().strip() + "\n" for name, page in whole.items()}
    made[DOCS / "CONFIGURATION.md"] = configuration((DOCS / "CONFIGURATION.md").read_text(encoding="utf-8"))
    made[DOCS / "DESTINATIONS.md"] = destinations((DOCS / "DESTINATIONS.md").read_text(encoding="utf-8"))
    made[DOCS / "METRICS.md"] = metrics((DOCS / "METRICS.md").read_text(encoding="utf-8"))
    return made


# ------------------------------------------------------------------------------------------------------------- commands


def commands() -> str:
    """The command line: each command with its arguments, as `--help` has them."""
    parser = make_parser()
    said = (
        "`strandline --help` and `strandline COMMAND --help` say the same. More: [COMMAND-LINE.md](../COMMAND-LINE.md)."
    )
    parts = [f"# Commands\n\n{_MADE}\n\n{_prose(parser.description or '')}\n\n{said}"]
    parts.append(
        f"## strandline\n\n{_arguments(parser)}\n\nEvery command takes `--config PATH`, too.\n\n{_guide(MAIN)}"
    )
    for name, command in subcommands(parser).items():
        parts.append(
            f"## strandline {name}\n\n{command.description}\n\n{_arguments(command)}\n\n{_guide(GUIDES[name])}"
        )
    parts.append("Exit codes: [exit-codes.md](exit-codes.md).")
    return "\n\n".join(parts)


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands, in the order of `--help`."""
    (found,) = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    return dict(found.choices)


def _guide(guide: Guide) -> str:
    """The examples, and where to go next."""
    rows = [f"| `{_cell(line)}` | {_cell(what)} |" for line, what in guide.examples]
    examples = "\n".join(["| example | does |", "|---|---|", *rows])
    more = f" More: {_link(guide.page)}." if guide.page else ""
    return f"{examples}\n\n{_prose(f'Next: {guide.next}{more}')}"


def _link(page: str) -> str:
    """To a page of the documentation, by its name."""
    file = docs.pages()[page].relative_to(DOCS)
    return f"[{file}](../{file})"


def _arguments(parser: argparse.ArgumentParser) -> str:
    actions = [one for one in parser._actions if not isinstance(one, argparse._SubParsersAction | argparse._HelpAction)]
    if parser.prog != "strandline":
        actions = [one for one in actions if one.dest != "config"]
    if not actions:
        return "It has no arguments of its own."
    rows = [
        f"| `{_cell(_spelled(one))}` | {_cell(one.help or '')} |"
        for one in actions
        if one.help is not argparse.SUPPRESS
    ]
    return "\n".join(["| argument | is |", "|---|---|", *rows])


def _spelled(action: argparse.Action) -> str:
    """An argument as a usage line has it."""
    value = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest.upper())
    if action.option_strings:
        options = ", ".join(action.option_strings)
        return options if action.nargs == 0 else f"{options} {value}"
    return {"?": f"[{value}]", "*": f"[{value} …]", "+": f"{value} …"}.get(str(action.nargs), str(value))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def exit_codes() -> str:
    """What the help says of exit codes, as a table."""
    said = re.search(r"Exit codes: (.*?)\.(?:\s|$)", " ".join((make_parser().epilog or "").split()))
    assert said is not None, "the help of strandline names its exit codes"
    codes = re.findall(r"(\d) (.*?)(?:; (?=\d)|$)", said[1])
    own = [
        f"| `strandline {name}` | {_cell(command.description or '')} |"
        for name, command in subcommands(make_parser()).items()
        if "exit code" in (command.description or "")
    ]
    return "\n".join(
        [
            "# Exit codes", "", _MADE, "", "All commands have these:", "", "| code | meaning |", "|---|---|",
            *(f"| {code} | {_cell(text)} |" for code, text in codes), "",
            "These say more with them:", "", "| command | is |", "|---|---|", *own, "",
        ]
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- presets


def preset_page() -> str:
    """The presets as the program reads them."""
    parts = [
        f'# Presets\n\n{_MADE}\n\nWhat `preset = "NAME"` in a source stands for. A key of your own replaces that of the preset;'
        " [CONFIGURATION.md](../CONFIGURATION.md#sourcesname) has all keys."
    ]
    for name in presets():
        text = preset_text(name).strip()
        parts.append(
            f"## {name}\n\n[{name}.md](../sources/{name}.md) says what is read, and what cannot be had.\n\n```toml\n{text}\n```"
        )
    return "\n\n".join(parts)


# --------------------------------------------------------------------------------------------------------------- python


def python() -> str:
    """The public API, by its signatures and docstrings."""
    intro = (inspect.getdoc(frames) or "").split("\n\n", 1)[1]
    parts = [
        f"# Python\n\n{_MADE}\n\n`from strandline.frames import …` is the public API, with types (`py.typed`). Anything else in"
        f" the package may change with any release. [READING.md](../READING.md#notebooks) has examples.\n\n{_prose(intro)}"
    ]
    for name in frames.__all__:
        one = getattr(frames, name)
        if not inspect.isclass(one):
            parts.append(f"## {name}\n\n```python\n{name}{_signature(one)}\n```\n\n{_prose(inspect.getdoc(one) or '')}")
        else:
            parts.append(f"## {name}\n\nAn exception. {_prose(inspect.getdoc(one) or '')}")
    types = [name for name in ("Records", "Since") if hasattr(frames, name)]
    aliases = "\n".join(f"{name} = {_alias(getattr(frames, name))}" for name in types)
    parts.append(f"## Types\n\n```python\n{aliases}\n```")
    return "\n\n".join(parts)


def _signature(function: Callable[..., Any]) -> str:
    """The arguments as they are written: annotations are texts there."""
    found = inspect.signature(function)
    parts = []
    for one in found.parameters.values():
        star = "*, " if one.kind is one.KEYWORD_ONLY else ""
        parts.append(
            f"{star}{one.name}: {one.annotation}" + ("" if one.default is one.empty else f" = {one.default!r}")
        )
    return f"({', '.join(parts)}) -> {found.return_annotation}"


def _alias(kind: Any) -> str:
    return re.sub(r"\b(?:collections\.abc|typing|datetime)\.", "", str(kind)).replace("NoneType", "None")


def _prose(text: str) -> str:
    return "\n".join(textwrap.wrap(" ".join(text.split()), 140, break_long_words=False, break_on_hyphens=False))


# ------------------------------------------------------------------------------------------------------------- settings


def configuration(page: str) -> str:
    """CONFIGURATION.md with the tables of the sections that the code knows."""

    shipped = tomllib.loads(
        (DOCS.parent / "config.toml").read_text(encoding="utf-8")
    )  # has every default, in its usual spelling

    def known(section: str, key: str) -> list[str]:
        setting = SETTINGS[section, key]
        return [_toml(shipped[section][key]), setting.metadata["allowed"], f"`{variable_of(section, key)}`"]

    sections = {section: [key for at, key in SETTINGS if at == section] for section, _ in SETTINGS}
    return _with_tables(page, r"## \[{}\]", sections, known)


def destinations(page: str) -> str:
    """DESTINATIONS.md with the table of each kind."""
    own = {
        kind: {one.name: one for one in dataclasses.fields(cls) if "allowed" in one.metadata}
        for kind, cls in KINDS.items()
    }

    def known(section: str, key: str) -> list[str]:
        setting = own[section.removesuffix(".NAME")][key]
        default = setting.default
        if setting.default_factory is not dataclasses.MISSING:
            default = setting.default_factory()
        return ["" if default is dataclasses.MISSING else _toml(default), setting.metadata["allowed"]]

    return _with_tables(page, r"### \[{}\]", {f"{kind}.NAME": list(keys) for kind, keys in own.items()}, known)


def metrics(page: str) -> str:
    """METRICS.md with a row for each metric: those that are gone go, and a new one gets its labels and its help text."""
    found = re.compile(r"(\| metric \|[^\n]*\n\|[-|]+\n)((?:\|[^\n]*\n)+)").search(page)
    assert found is not None, "the page has a table of metrics"
    rows = dict(re.findall(r"^\| `(\w+)` \| \w+ (\|.*)$", found[2], flags=re.MULTILINE))
    known = {_metric_name(one): one for one in _families()}
    names = [*(name for name in rows if name in known), *(name for name in known if name not in rows)]
    lines = [f"| `{name}` | {_metric_type(known[name])} {rows.get(name) or _new_row(known[name])}\n" for name in names]
    return page[: found.start(2)] + "".join(lines) + page[found.end(2) :]


def _families() -> list[Metric]:
    registry = Metrics(DOCS, "", lambda: True).registry
    return list(text_string_to_metric_families(generate_latest(registry).decode()))


def _metric_name(one: Metric) -> str:
    if one.name == "strandline_build":
        return "strandline_build_info"
    return one.name + ("_total" if one.type == "counter" else "")


def _metric_type(one: Metric) -> str:
    return "gauge" if one.type == "info" else one.type


def _new_row(one: Metric) -> str:
    values: dict[str, list[str]] = {}
    for sample in one.samples:
        for label, value in sample.labels.items():
            if label != "le" and value not in values.setdefault(label, []):
                values[label].append(value)
    labels = "; ".join(f"`{label}`: " + ", ".join(f"`{value}`" for value in some) for label, some in values.items())
    return f"| {labels} | {_cell(one.documentation)} |".replace("|  |", "| |")


def _with_tables(
    page: str, heading: str, sections: dict[str, list[str]], known: Callable[[str, str], list[str]]
) -> str:
    """A page with the first table below each heading written again. A key without a row gets one without a sentence."""
    for section, keys in sections.items():
        pattern = re.compile(
            rf"({heading.format(re.escape(section))}\n.*?\n\|[^\n]*\n\|[-|]+\n)((?:\|[^\n]*\n)+)", re.DOTALL
        )
        found = pattern.search(page)
        assert found is not None, f"the page has no table of [{section}]"
        said = dict(_sentences(found[2]))
        rows = [
            " | ".join(["| `" + key + "`", *known(section, key), said.get(key, "")]).replace("|  |", "| |") + " |\n"
            for key in keys
        ]
        page = page[: found.start(2)] + "".join(rows) + page[found.end(2) :]
    return page


def _sentences(rows: str) -> Iterator[tuple[str, str]]:
    for row in rows.splitlines():
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        yield cells[0].strip("` "), cells[-1]


def _toml(value: Any) -> str:
    """A default as config.toml has it, in code."""
    return f"`{_literal(value)}`"


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:.15g}" if isinstance(value, Duration) else repr(value)
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return f'"{value}"'


def main() -> int:
    """Writes or compares; the exit code."""
    old = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in old:
            print(f"{path.relative_to(DOCS.parent)} is not what the code says; run `make reference`", file=sys.stderr)
        return 1 if old else 0
    for path, text in pages().items():
        if path in old:
            path.write_text(text, encoding="utf-8")
            print(f"written: {path.relative_to(DOCS.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
