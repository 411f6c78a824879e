"""Values to pages. The template engine escapes everything that came from a file. A page loads nothing from elsewhere, runs no
script but its own, and its policy forbids the rest.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup, escape

from ...operate.downstreams import found_text
from ...operate.status import keys_text, strays_text
from ...operate.wording import counted
from ..http import Document
from .filters import amount, moment, pretty, size, span, visible

_TEMPLATES = Path(__file__).parent / "templates"
_HTML, _JSON = "text/html; charset=utf-8", "application/json; charset=utf-8"
_DOCUMENTATION = "documentation"  # the label of its address in the metadata of the package


class Renderer:
    """`version`: of the program. `documentation`: the address of its site, "" where there is none; then pages name the file and
    the section."""

    def __init__(self, version: str, documentation: str = "") -> None:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            finalize=visible,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {
            "number": "{:,}".format, "strays": strays_text, "span": span, "size": size, "moment": moment, "pretty": pretty,
            "keys": keys_text, "found": found_text, "amount": amount, "counted": counted,
            "docs": lambda section: _docs(documentation, section),
        }  # fmt: skip
        script, style = (Markup((_TEMPLATES / name).read_text("utf-8")) for name in ("page.js", "page.css"))
        environment.globals |= {"version": version, "script": script, "style": style}
        self.environment = environment
        self._headers = {"Content-Security-Policy": _policy(script, style)}

    def page(self, template: str, values: Mapping[str, Any], status: str = "200 OK", **headers: str) -> Document:
        """A page. `template`: the name of its file, without its ending."""
        content = self.environment.get_template(f"{template}.html").render(values)
        return Document(content.encode(errors="replace"), _HTML, status, self._headers | headers)


def as_json(values: object, status: str = "200 OK", **headers: str) -> Document:
    """The same for programs."""
    # The encoder in C makes no indentation, and that in Python takes twenty times as long.
    return Document(msgspec.json.format(json.dumps(values).encode(), indent=2) + b"\n", _JSON, status, headers)


def documentation() -> str:
    """The address of the documentation as the metadata of the installed package has it; "" where there is none."""
    try:
        urls = metadata.metadata("strandline").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return ""
    found = (url.partition(",") for url in urls)
    return next((url.strip() for label, _, url in found if label.strip().lower() == _DOCUMENTATION), "")


def _docs(site: str, section: str) -> Markup:
    """Where a section of the documentation is. `section`: PAGE or PAGE#HEADING, as in `RUNBOOK#StrandlinePaused`."""
    page, _, heading = section.partition("#")
    if not site:
        return Markup('<span class="path">docs/{}.md</span>{}').format(page, f", “{heading}”" if heading else "")
    anchor = heading.lower().replace(" ", "-")
    address = f"{site.rstrip('/')}/docs/{page}.html" + (f"#{anchor}" if anchor else "")
    return Markup('<a href="{}" rel="noreferrer">{}</a>').format(address, escape(heading or page))


def _policy(script: str, style: str) -> str:
    """The Content-Security-Policy: only the page's own style and script, the widths of bars, requests to this server, and forms
    that ask it."""
    script_hash, style_hash = (
        f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in (script, style)
    )
    return (
        f"default-src 'none'; script-src {script_hash}; style-src {style_hash}; style-src-attr 'unsafe-inline'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
