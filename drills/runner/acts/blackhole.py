"""Cuts the network that it runs in off from everything but a few addresses, and ends that by itself after some seconds.

It is one file of Python's own library, because it runs in a pod: as root with the capability NET_ADMIN, in the pod's network namespace.
Two rules go in front of the routing tables, whatever network plug-in made those: packets to the near addresses are routed as ever, all
others are dropped, of connections that exist, too. What the pod sends to itself is not touched: the table of local addresses comes first.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import signal
import socket
import struct
import sys
import time
from contextlib import suppress

HEAL = "/tmp/leeward-heal"
"""File whose existence ends the cut before its time."""
NEAR, FAR = 10, 20
"""Priorities of the two rules: after that of local addresses (0), before that of the main table (32766)."""
NEW_RULE, DELETE_RULE = 32, 33
REQUEST_ACK, CREATE_EXCLUSIVE = 0x5, 0x600
TO_TABLE, BLACKHOLE = 1, 6
MAIN_TABLE = 254
DESTINATION, PRIORITY = 1, 6
"""Attributes of a rule."""
NO_FAMILY = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP)
SOMEWHERE = ("192.0.2.1", "2001:db8::1")
"""Addresses for documentation, which no host has."""


def rule(kind: int, version: int, near: bytes = b"") -> None:
    """Add or delete one rule: packets to that address go to the main table; without an address all packets are dropped.

    Raises:
        OSError: the kernel refuses it.
    """
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    table, action, priority = (MAIN_TABLE, TO_TABLE, NEAR) if near else (0, BLACKHOLE, FAR)
    body = struct.pack("=BBBBBBBBI", family, 8 * len(near), 0, 0, table, 0, 0, action, 0) + attribute(PRIORITY, struct.pack("=I", priority))
    body += attribute(DESTINATION, near) if near else b""
    flags = REQUEST_ACK | (CREATE_EXCLUSIVE if kind == NEW_RULE else 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.bind((0, 0))
        kernel.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
        refused = -struct.unpack("=i", kernel.recv(4096)[16:20])[0]
    if refused:
        raise OSError(refused, os.strerror(refused))


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute of a netlink message. All values here have lengths that need no padding."""
    return struct.pack("=HH", 4 + len(value), kind) + value


def gateways() -> list[str]:
    """Return the next hops of the default routes: with some plug-ins the node's probes come from there."""
    found = []
    with suppress(OSError), open("/proc/net/route", encoding="ascii") as routes:
        for words in map(str.split, routes):
            if words[1] == "00000000" and words[2] != "00000000":
                found.append(socket.inet_ntoa(struct.pack("=I", int(words[2], 16))))
    with suppress(OSError), open("/proc/net/ipv6_route", encoding="ascii") as routes:
        for words in map(str.split, routes):
            if words[0] == "0" * 32 and words[1] == "00" and words[4] != "0" * 32:
                found.append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(words[4])))
    return found


def reachable(address: str) -> bool:
    """Whether the kernel has a route to that address. Nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
    except OSError:
        return False
    return True


def cut_off(near: list[str], seconds: float) -> None:
    """Cut everything off but these addresses, for so long or until `HEAL` exists; say when it is cut, and when it is over.

    Raises:
        OSError: the kernel refuses the rules; nothing is cut then.
    """
    addresses = sorted({ipaddress.ip_address(address.split("%")[0]) for address in near}, key=lambda one: (one.version, int(one)))
    rules = [(address.version, address.packed) for address in addresses] + [(4, b""), (6, b"")]
    made = []
    try:
        for version, address in rules:
            try:
                rule(NEW_RULE, version, address)
            except OSError as refused:
                if version == 6 and refused.errno in NO_FAMILY:
                    continue
                raise
            made.append((version, address))
        if open_still := [address for address in SOMEWHERE if reachable(address)]:
            raise OSError(f"{open_still[0]} can still be reached")
        print("cut", time.time(), flush=True)
        until = time.monotonic() + seconds
        while time.monotonic() < until and not os.path.exists(HEAL):
            time.sleep(min(0.2, max(0.0, until - time.monotonic())))
    finally:
        for version, address in reversed(made):
            rule(DELETE_RULE, version, address)
    print("healed", time.time(), flush=True)


def main() -> None:
    """Cut off for so many seconds (first argument), unless a moment has passed (second one); the others are the near addresses."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    seconds, latest, near = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    if time.time() > latest:
        sys.exit("started too late: nothing was cut off")
    cut_off([*near, *gateways()], seconds)


if __name__ == "__main__":
    main()
