"""The section [http] of the configuration. What its secrets are is read at a start: see access."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..sources.pull import template

_MOST_PORTS = 65_535


def _setting(default: Any, is_allowed: Callable[[Any], bool], allowed: str, **more: Any) -> Any:
    def read(value: Any) -> Any:
        frozen = tuple(value) if isinstance(value, list) else value
        return frozen if is_allowed(frozen) else None

    return field(default=default, metadata={"read": read, "allowed": allowed} | more)


def _is_secret(value: Any) -> bool:
    """A text that may have ${VARIABLE} and ${file:PATH}."""
    is_text = isinstance(value, str) and value.isprintable()
    return is_text and not (template.unknown(value) or "").startswith("$")


def _are_hosts(value: Any) -> bool:
    is_list = isinstance(value, tuple)
    return is_list and all(isinstance(one, str) and re.fullmatch(r"\*|[A-Za-z0-9._-]{1,253}", one) for one in value)


@dataclass(frozen=True)
class Http:
    """Where HTTP is served, and to whom."""

    enabled: bool = _setting(True, lambda value: isinstance(value, bool), "true or false")
    host: str = _setting(
        "127.0.0.1",
        lambda value: isinstance(value, str) and bool(re.fullmatch(r"[!-~]{1,253}", value)),
        "a host name or an address",
    )
    port: int = _setting(
        10464, lambda value: type(value) is int and 0 <= value <= _MOST_PORTS, f"a whole number from 0 to {_MOST_PORTS}"
    )
    allowed_hosts: tuple[str, ...] = _setting(
        (), _are_hosts, 'a list of host names, such as ["orders.example.com"]; ["*"] for any'
    )
    basic_auth: str = _setting(
        "", _is_secret, '"USER:PASSWORD", such as "${USER}:${PASSWORD}", or "" for none', is_secret=True
    )
    bearer_token: str = _setting("", _is_secret, 'a token, such as "${TOKEN}", or "" for none', is_secret=True)

    @property
    def literal_secrets(self) -> list[str]:
        """The settings that have a secret as it is, where everybody who may read the file can see it."""
        return [
            name
            for name in ("basic_auth", "bearer_token")
            if (text := getattr(self, name)) and not template.secrets(text)
        ]
