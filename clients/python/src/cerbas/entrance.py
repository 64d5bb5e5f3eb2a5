"""The way into the private Redis of a daemon: its user finds it without being told.

A daemon that runs a Redis of its own keeps everybody else of the machine out. For its user it leaves a note in
``~/.local/state/cerbas/redis-PORT.json``: a Unix socket in a private folder, and the password.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def find(url: str) -> dict[str, Any] | None:
    """What redis-py needs to get in, where there is a note for the server at `url` and somebody listens.

    Nothing where the URL says itself how to log in, or names a server of another machine.
    """
    parts = urlsplit(url)
    if parts.scheme != "redis" or parts.username is not None or parts.password is not None:
        return None
    if not _is_here(parts.hostname or "localhost"):
        return None
    note = Path.home() / ".local/state/cerbas" / f"redis-{parts.port or 6379}.json"
    try:
        if note.stat().st_uid != os.geteuid():
            return None
        entrance = json.loads(note.read_text())
        path, password = entrance["socket"], entrance["password"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if path is None:
        return {"password": password}
    # Nobody listens at the socket of a server that is gone, and nobody else can. Where another has taken its port the URL
    # means that one; else it will be back.
    if not _listens(socket.AF_UNIX, path) and _listens(socket.AF_INET, ("127.0.0.1", parts.port or 6379)):
        return None
    return {"unix_socket_path": path, "password": password}


def _listens(family: int, address: Any) -> bool:
    with socket.socket(family) as probe:
        probe.settimeout(1)
        return probe.connect_ex(address) == 0


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
