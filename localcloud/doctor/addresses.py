"""Checks whether the cloud's fixed address ranges are free on this machine."""

from __future__ import annotations

import itertools
import re
import struct
import subprocess
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from localcloud import settings
from localcloud.doctor.check import MISSING, OK, WARNING, Check

_OURS = tuple(IPv4Network(network) for network in settings.CLAIMED_NETWORKS)
_REMEDY = (
    "the cloud's ranges are fixed: take that network down while it runs. One of Docker's (br-…): docker network ls, docker network rm NAME"
)
_UPLINK = IPv4Network(settings.UPLINK_NETWORK)
Uses = dict[IPv4Network, str]
"""Networks in use, each with a description of its use."""


def addresses() -> Check:
    """Compare the ranges with the machine's routes and addresses; those of a running cloud do not count."""
    routes = parse_routes(Path("/proc/net/route").read_text())
    local = parse_local(Path("/proc/net/fib_trie").read_text())
    return judge_addresses(routes, local, parse_other_tables(_ip("-4", "-o", "route", "show", "table", "all")), _ip("-4", "rule"))


def _ip(*arguments: str) -> str:
    """Return the output of ip(8); empty where it is not installed yet."""
    try:
        return subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def judge_addresses(
    routes: Iterable[tuple[str, IPv4Network]],
    local: Iterable[IPv4Address],
    others: Sequence[tuple[str, IPv4Network]] = (),
    rules: str = "",
) -> Check:
    """Decide from (interface, destination) of each route, the machine's own addresses, and the routes and rules of VPNs.

    Args:
        others: Routes in tables of their own, as VPNs make them. They are looked up before the main table, where the cloud's are.
        rules: Output of `ip rule`.
    """
    uses: Uses = {network: f"route by {interface}" for interface, network in routes if interface != settings.UPLINK}
    uses.update({IPv4Network(address): "an address of this machine" for address in local if address not in _UPLINK})
    inside = [(ours, used) for ours in _OURS for used in uses if used.subnet_of(ours)]
    around = [(ours, used) for ours in _OURS for used in uses if used.supernet_of(ours) and used != ours and used.prefixlen > 0]
    first = {network: f"route by {interface}, looked up before the cloud's" for interface, network in others if network.prefixlen}
    if taken := [(ours, used) for ours in _OURS for used in first if used.overlaps(ours)]:
        return Check("addresses", MISSING, _describe(taken, first), "the cloud's ranges are fixed: take that VPN down while it runs")
    if inside:
        return Check("addresses", MISSING, _describe(inside, uses), _REMEDY)
    whole = [interface for interface, network in others if not network.prefixlen]
    if whole and "suppress_prefixlength 0" not in rules:
        detail = f"everything goes to {whole[0]} by a rule, perhaps also what is for the cloud"
        return Check("addresses", WARNING, detail, "if the cloud does not answer the host, take that VPN down while it runs")
    if around:
        return Check("addresses", WARNING, f"{_describe(around, uses)}; that part of it is out of reach while the cloud is up")
    return Check("addresses", OK, f"{', '.join(settings.CLAIMED_NETWORKS)} are free")


def _describe(pairs: Iterable[tuple[IPv4Network, IPv4Network]], uses: Uses) -> str:
    return "; ".join(f"{ours} is needed, but {used} is in use ({uses[used]})" for ours, used in pairs)


def parse_routes(table: str) -> list[tuple[str, IPv4Network]]:
    """Parse /proc/net/route: interface and destination of each route."""
    rows = [line.split() for line in table.splitlines()[1:] if line.strip()]
    return [(row[0], IPv4Network((_address(row[1]), str(IPv4Address(_address(row[7])))))) for row in rows]


def parse_other_tables(listing: str) -> list[tuple[str, IPv4Network]]:
    """Parse `ip route show table all`: interface and destination of each route that is neither in the main nor in the local table."""
    found = []
    for words in map(str.split, listing.splitlines()):
        named = dict(itertools.pairwise(words))
        if named.get("table", "local") != "local" and "dev" in named and named["dev"] != settings.UPLINK:
            to = next(word for word in words if word == "default" or word[0].isdigit())
            found.append((named["dev"], IPv4Network("0.0.0.0/0" if to == "default" else to)))
    return found


def _address(text: str) -> bytes:
    """Parse an address, which the kernel prints as one number in the machine's byte order."""
    return struct.pack("=I", int(text, 16))


def parse_local(trie: str) -> list[IPv4Address]:
    """Parse /proc/net/fib_trie: the machine's own addresses except loopback's."""
    found = {IPv4Address(text) for text in re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", trie)}
    return sorted(address for address in found if not address.is_loopback)
