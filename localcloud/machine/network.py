"""The cloud's network: one bridge, a network namespace per box, and one veth to the host.

Every box has a /32 address and sends everything to the gateway, the cloud's root namespace. So paths are the same in
both directions, as connection tracking there needs, and one route in one place leads to each pod network.
All of it is inside the cloud's namespace: the host's end of the veth and the host's routes go with that namespace.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from ipaddress import ip_network

from localcloud import settings
from localcloud.machine.box import NETNS
from localcloud.machine.processes import run_command

INSIDE = "uplink"
"""Name of the veth's end inside the cloud."""
_FORWARD = {
    "net/ipv4/ip_forward": "1",
    # Boxes reach each other through the gateway on purpose; ICMP redirects would give them a shorter path.
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
}


def ip(commands: Iterable[str], *, netns: str | None = None) -> None:
    """Run commands of ip(8), in a box's network namespace if one is given."""
    run_command(["ip", *(["-netns", netns] if netns else []), "-batch", "-"], stdin=_lines(commands))


def _lines(commands: Iterable[str]) -> str:
    return "".join(f"{command}\n" for command in commands)


def sysctl(values: dict[str, str], netns: str | None = None) -> None:
    """Set kernel parameters in this namespace or the box's. It does not need sysctl(8), which may not be installed."""
    script = "".join(f"echo {value} > /proc/sys/{key}\n" for key, value in values.items())
    run_command([*(["nsenter", f"--net={NETNS / netns}"] if netns else []), "sh", "-ec", script])


def build_root() -> None:
    """Set up the cloud's root namespace: the bridge with the addresses of gateway, AWS, registry and pod identity agent, and forwarding."""
    NETNS.mkdir(parents=True, exist_ok=True)
    sysctl(_FORWARD)
    addresses = (settings.GATEWAY, settings.AWS_HOST, settings.REGISTRY_HOST)
    ip(
        [
            "link set lo up",
            f"link add {settings.BRIDGE} type bridge",
            *(f"address add {address}/{settings.NETWORK_PREFIX} dev {settings.BRIDGE}" for address in addresses),
            # A link-local address, but no link has its network: nodes and pods send such packets to the gateway, like all others.
            f"address add {settings.POD_IDENTITY_HOST}/32 dev {settings.BRIDGE}",
            f"link set {settings.BRIDGE} up",
        ]
    )


def build_uplink(host_netns: int) -> None:
    """Connect host and cloud; `host_netns` is a file descriptor of the host's network namespace."""
    commands = [
        f"link add {settings.UPLINK} type veth peer name {INSIDE} netns {os.getpid()}",
        f"address add {settings.UPLINK_HOST}/{settings.UPLINK_PREFIX} dev {settings.UPLINK}",
        f"link set {settings.UPLINK} up",
        *(f"route add {network} via {settings.UPLINK_CLOUD}" for network in settings.ROUTES),
    ]
    on_host = ["nsenter", f"--net=/proc/self/fd/{host_netns}"]
    run_command([*on_host, "ip", "-batch", "-"], stdin=_lines(commands), pass_fds=[host_netns])
    ip([f"address add {settings.UPLINK_CLOUD}/{settings.UPLINK_PREFIX} dev {INSIDE}", f"link set {INSIDE} up"])


def _port(address: str) -> str:
    """Name of the bridge's end of a box's veth."""
    return f"lw-{address.rpartition('.')[2]}"


def attach(name: str, address: str, *, forward: bool = False) -> None:
    """Make a network namespace `name` with this address on the bridge; with `forward`, it forwards packets of the pods behind it."""
    detach(name, address)
    port = _port(address)
    run_command(["ip", "netns", "add", name])
    ip([f"link add {port} type veth peer name eth0 netns {name}", f"link set {port} master {settings.BRIDGE} up"])
    ip(
        [
            "link set lo up",
            f"address add {address}/32 dev eth0",
            "link set eth0 up",
            f"route add default via {settings.GATEWAY} dev eth0 onlink",
        ],
        netns=name,
    )
    if forward:
        sysctl(_FORWARD, name)


def detach(name: str, address: str) -> None:
    """Remove namespace and veth, if they exist."""
    if _port(address) in interfaces(run_command(["ip", "-brief", "link"])):
        ip([f"link delete {_port(address)}"])
    if (NETNS / name).exists():
        run_command(["ip", "netns", "delete", name])


def interfaces(listing: str) -> set[str]:
    """Parse the names in the output of `ip -brief link`. Not from /sys: it was mounted on the host and shows the host's."""
    return {line.split()[0].partition("@")[0] for line in listing.splitlines() if line}


def pod_network(node_index: int) -> str:
    """Return the pod network of the node with this index."""
    return str(list(ip_network(settings.POD_NETWORK).subnets(new_prefix=24))[node_index])


def route_pods(network: str, node_address: str) -> None:
    """Route packets for this pod network to its node."""
    ip([f"route replace {network} via {node_address}"])


def unroute_pods(network: str) -> None:
    """Remove the route to this pod network, if there is one."""
    if run_command(["ip", "route", "show", network]).strip():
        ip([f"route delete {network}"])


def move_address(address: str, *, old: str | None, new: str) -> None:
    """Move the floating address from box `old` to box `new`; it applies from the gateway's next packet on."""
    if old is not None and old != new and f" {address}/32" in run_command(["ip", "-netns", old, "-brief", "address", "show", "eth0"]):
        ip([f"address delete {address}/32 dev eth0"], netns=old)
    if f" {address}/32" not in run_command(["ip", "-netns", new, "-brief", "address", "show", "eth0"]):
        ip([f"address add {address}/32 dev eth0"], netns=new)
    # All packets come through the gateway, so it is enough to clear its neighbour entry; a gratuitous ARP would do no more.
    run_command(["ip", "neigh", "flush", "to", address, "dev", settings.BRIDGE])
