"""Values to pages. The template engine escapes everything that came from a file. A page loads nothing from elsewhere, runs no
script but its own, and its policy forbids the rest.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup

from ...operate.docs import slug
from ...operate.downstreams import found_text
from ...operate.status import keys_text, strays_text
from ...operate.wording import counted
from ..http import Document
from .filters import amount, moment, pretty, size, span, visible

_TEMPLATES = Path(__file__).parent / "templates"
_HTML, _JSON = "text/html; charset=utf-8", "application/json; charset=utf-8"


class Renderer:
    """`version`: of the program."""

    def __init__(self, version: str) -> None:
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
            "docs": _docs,
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


def _docs(section: str) -> Markup:
    """A link to a section of the documentation. `section`: PAGE or PAGE#HEADING, as in `RUNBOOK#StrandlinePaused`."""
    page, mark, heading = section.partition("#")
    return Markup('<a href="/docs/{}">{}</a>').format(page + mark + slug(heading), heading or page)


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
