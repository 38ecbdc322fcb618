"""Checks whether loopback ports are free, and which program uses them if not."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from localcloud.doctor.check import MISSING, OK, Check

_LISTEN = "0A"


def port(number: int) -> Check:
    """Check that the port is free on 127.0.0.1."""
    with socket.socket() as probe:
        # As servers do: then a connection in TIME_WAIT does not count as use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError as error:
            reason = owner(number) or error.strerror
            return Check(f"port {number}", MISSING, f"127.0.0.1:{number} is in use: {reason}", "stop that program, or choose another port")
    return Check(f"port {number}", OK, f"127.0.0.1:{number} is free")


def owner(number: int) -> str | None:
    """Return the program that listens on the port; None when this user may not see it."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in listening(_read(Path("/proc/net", table)), number)}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith("socket:[") and target[8:-1] in inodes:
            process = link.parent.parent
            return f"{_read(process / 'comm').strip()} (process {process.name})"
    return None


def listening(table: str, number: int) -> set[str]:
    """Return the inodes of the sockets that listen on the port, from the text of /proc/net/tcp or tcp6."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return {row[9] for row in rows if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == number}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
