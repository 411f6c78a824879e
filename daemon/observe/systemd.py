"""Notifies systemd (sd_notify(3)) where the service has `Type=notify`. Elsewhere does nothing."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Sends a state such as `READY=1` or `STOPPING=1`. Never raises: a failed notification must not end the service."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.sendto(state.encode(), address)
    except OSError:
        pass
