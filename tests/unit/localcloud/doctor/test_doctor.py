"""The doctor reads the machine correctly and names what to do."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import SimpleNamespace

import pytest

from localcloud.build import artifacts, debian
from localcloud.build.cache import Cache
from localcloud.build.command import BuildError
from localcloud.doctor import addresses, cgroups, doctor, kernel, ports, system, tools
from localcloud.doctor.check import MISSING, OK, SETUP, WARNING, Check
from localcloud.machine import cgroups as groups
from scripts.support.processes import can_contain

needs_root = pytest.mark.skipif(not can_contain(), reason="this machine allows no namespaces and mounts")

ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
eth0	000200C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
leeward0	0000D50A	02FFD50A	0003	0	0	0	00FFFFFF	0	0	0
"""
TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     |-- 192.0.2.2
        /32 host LOCAL
     |-- 192.0.2.255
        /32 link BROADCAST
Local:
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 192.0.2.2
        /32 host LOCAL
"""
V1 = """\
/dev/vda / ext4 rw,relatime,discard 0 0
tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
"""
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nsdelegate 0 0\n"


def routes(*pairs: tuple[str, str]) -> list[tuple[str, IPv4Network]]:
    return [(interface, IPv4Network(network)) for interface, network in pairs]


def test_routes_are_parsed_from_the_kernels_table() -> None:
    assert addresses.parse_routes(ROUTES) == routes(("eth0", "0.0.0.0/0"), ("eth0", "192.0.2.0/24"), ("leeward0", "10.213.0.0/24"))


def test_the_machines_addresses_are_parsed_without_loopback_and_broadcast() -> None:
    assert addresses.parse_local(TRIE) == [IPv4Address("192.0.2.2")]


def test_other_networks_and_those_of_a_running_cloud_do_not_conflict_with_the_ranges() -> None:
    found = addresses.judge_addresses(addresses.parse_routes(ROUTES), [IPv4Address("192.0.2.2"), IPv4Address("10.213.255.1")])
    assert found.status == OK


@pytest.mark.parametrize("taken", ["172.20.0.0/16", "10.214.3.0/24", "10.213.0.0/24"])
def test_a_network_inside_the_ranges_is_a_conflict(taken: str) -> None:
    found = addresses.judge_addresses(routes(("br-1", taken)), [])
    assert found.status == MISSING
    assert taken in found.detail
    assert "br-1" in found.detail
    assert found.remedy


def test_an_address_inside_the_ranges_is_a_conflict() -> None:
    assert addresses.judge_addresses([], [IPv4Address("10.213.7.7")]).status == MISSING


def test_a_larger_network_around_the_ranges_is_only_a_warning() -> None:
    found = addresses.judge_addresses(routes(("tun0", "10.0.0.0/8"), ("eth0", "0.0.0.0/0")), [])
    assert found.status == WARNING
    assert "tun0" in found.detail


TABLES = """\
default via 192.0.2.1 dev eth0
10.213.0.0/24 via 10.213.255.2 dev leeward0
default dev wg0 table 51820 scope link
10.0.0.0/8 dev tailscale0 table 52
throw 127.0.0.0/8 table 52
local 127.0.0.1 dev lo table local proto kernel scope host src 127.0.0.1
"""


def test_routes_of_vpns_are_those_in_tables_of_their_own() -> None:
    assert addresses.parse_other_tables(TABLES) == routes(("wg0", "0.0.0.0/0"), ("tailscale0", "10.0.0.0/8"))


@pytest.mark.parametrize("network", ["10.0.0.0/8", "10.213.0.0/24", "172.16.0.0/12"])
def test_a_vpn_whose_routes_come_before_the_clouds_is_a_conflict_also_when_they_are_wider(network: str) -> None:
    found = addresses.judge_addresses([], [], routes(("tailscale0", network)))
    assert (found.status, "tailscale0" in found.detail) == (MISSING, True)


def test_a_vpn_for_everything_is_a_warning_unless_the_main_table_comes_first() -> None:
    whole = routes(("wg0", "0.0.0.0/0"))
    assert addresses.judge_addresses([], [], whole).status == WARNING
    first = "32764: from all lookup main suppress_prefixlength 0\n32765: not from all fwmark 0xca6c lookup 51820\n"
    assert addresses.judge_addresses([], [], whole, first).status == OK


def test_another_kubelet_that_has_taken_the_watchers_of_files_is_reported_with_the_remedy() -> None:
    assert kernel.judge_inotify(128, 20).status == OK
    found = kernel.judge_inotify(128, 100)
    assert (found.status, "max_user_instances=340" in found.remedy) == (MISSING, True)
    assert kernel.used_inotify() >= 0


def test_a_hybrid_of_both_cgroup_versions_counts_as_version_1() -> None:
    table = groups.parse(V1)
    assert not cgroups.is_v2(table)
    where = cgroups.v1_hierarchies(table)
    assert where["cpu"] == where["cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct"
    assert where["memory"] == "/sys/fs/cgroup/memory"
    assert "pids" not in where


def test_the_unified_hierarchy_counts_as_version_2() -> None:
    assert cgroups.is_v2(groups.parse(V2))


@needs_root
def test_processes_in_a_unified_root_without_enabled_controllers_are_a_problem(tmp_path: Path) -> None:
    """A container with a cgroup namespace of its own has such a root; the machine's real root has no cgroup.type."""
    files = {"cgroup.controllers": "cpuset cpu memory pids", "cgroup.subtree_control": "", "cgroup.procs": "1\n77\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert cgroups.unified(tmp_path).status == OK
    (tmp_path / "cgroup.type").write_text("domain\n")
    found = cgroups.unified(tmp_path)
    assert (found.status, f"mkdir -p {tmp_path}/init" in found.remedy) == (MISSING, True)
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids")
    assert cgroups.unified(tmp_path).status == OK


@needs_root
def test_control_groups_that_a_node_cannot_mount_are_missing_with_the_kernels_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    assert cgroups.control_groups().status == OK
    monkeypatch.setattr(groups, "hierarchies", lambda: (groups.Hierarchy(Path("/sys/fs/cgroup/odd"), "no-such-controller"),))
    found = cgroups.control_groups()
    assert (found.status, "/sys/fs/cgroup/odd" in found.detail) == (MISSING, True)
    assert Path("/proc/self/mountinfo").read_text() == before


def test_lacking_capabilities_are_named() -> None:
    assert kernel.lacking_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n") == []
    without_admin = 0x1FFFFFFFFFF & ~(1 << 21)
    assert kernel.lacking_capabilities(f"CapEff:\t{without_admin:016x}\n") == ["SYS_ADMIN"]


@needs_root
@pytest.mark.parametrize(
    ("output", "detail"),
    [
        (
            "mount: /m: unknown filesystem type 'overlay'.\n       dmesg(1) may have more information after failed mount system call.",
            "mount: /m",
        ),
        ("RTNETLINK answers: Operation not supported\nand more", "RTNETLINK"),
        ("dmesg(1) may have more information", "exit code 3"),
        ("", "exit code 3"),
    ],
)
def test_a_failed_check_has_the_programs_error_without_its_hint_at_dmesg(output: str, detail: str) -> None:
    found = kernel.try_command("x", ["sh", "-c", 'echo "$1" >&2; exit 3', "sh", output], "works")
    assert found.status == MISSING
    assert found.detail.startswith(detail)
    assert "dmesg" not in found.detail


@pytest.mark.parametrize("check", [kernel.links, kernel.iptables])
def test_without_root_programs_that_a_users_path_does_not_contain_are_not_reported_as_missing(
    check: Callable[[], Check], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert (check().status, check().detail) == (WARNING, "cannot be tried without being root")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert check().status == SETUP


BOOKWORM = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nID=debian\n'
UBUNTU = 'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\nID=ubuntu\nID_LIKE=debian\n'


@pytest.mark.parametrize(
    ("release", "machine", "status"),
    [
        (BOOKWORM, "x86_64", OK),
        ('ID=debian\nVERSION_ID="13"\n', "x86_64", OK),
        ('PRETTY_NAME="Debian GNU/Linux forky/sid"\nVERSION_CODENAME=forky\nID=debian\n', "x86_64", OK),  # testing has no number
        ('ID=debian\nVERSION_ID="11"\n', "x86_64", MISSING),
        (UBUNTU, "x86_64", MISSING),
        ('ID=raspbian\nID_LIKE=debian\nVERSION_ID="12"\n', "aarch64", MISSING),
        (BOOKWORM, "aarch64", WARNING),
        (BOOKWORM, "riscv64", MISSING),
        ('ID=fedora\nVERSION_ID="44"\n', "x86_64", MISSING),
        ("", "x86_64", MISSING),
    ],
)
def test_the_system_is_judged_by_its_release(release: str, machine: str, status: str, tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text(release)
    found = system.judge_system(debian.os_release(tmp_path / "os-release"), machine)
    assert (found.status, bool(found.remedy)) == (status, status == MISSING)


@pytest.mark.parametrize(("release", "reason"), [(UBUNTU, "Ubuntu 24.04.1 LTS: use Debian 12"), (BOOKWORM, "no Debian bookworm main")])
def test_a_machine_without_debians_packages_is_refused_before_anything_is_installed(
    release: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "os-release").write_text(release)
    read = debian.os_release
    monkeypatch.setattr(debian, "os_release", lambda: read(tmp_path / "os-release"))
    monkeypatch.setattr(debian, "query", lambda *argv: "Packages http://archive.ubuntu.com/ubuntu/ noble main\n")
    found = tools.apt_packages()
    assert (found.status, reason in found.detail) == (MISSING, True)
    with pytest.raises(BuildError, match=reason):
        artifacts.plan(Cache(tmp_path))


def test_memory_and_disk_are_judged_by_what_is_free() -> None:
    assert system.parse_available("MemTotal: 100 kB\nMemAvailable:   2048 kB\n") == 2048 * 1024
    assert system.judge_memory(9 * 10**9).status == OK
    assert system.judge_memory(7 * 10**9).status == MISSING
    assert system.judge_room("/x", 26 * 10**9, 25 * 10**9).status == OK
    assert system.judge_room("/x", 24 * 10**9, 25 * 10**9).status == MISSING


def test_less_disk_space_is_needed_once_everything_was_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=14 * 10**9, f_frsize=1))
    assert {check.status for check in system.disk()} == {MISSING}
    (tmp_path / "leeward" / "artifacts" / "kubernetes-0123456789abcdef").mkdir(parents=True)
    assert {check.status for check in system.disk()} == {OK}


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_in_use_is_reported_with_its_program(taken: int) -> None:
    found = ports.port(taken)
    assert found.status == MISSING
    assert "(process " in found.detail


def test_a_port_is_free_again_after_its_program_ended() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        number = listener.getsockname()[1]
    assert ports.port(number).status == OK


def test_terraforms_version_is_parsed() -> None:
    assert tools.parse_terraform('{"terraform_version": "1.11.4"}') == (1, 11, 4)
    assert tools.parse_terraform('{"terraform_version": "1.12.0-rc1"}') == (1, 12, 0)


def test_a_mirror_counts_only_with_the_aws_provider(tmp_path: Path) -> None:
    empty, full = tmp_path / "empty", tmp_path / "full"
    (empty / "registry.terraform.io" / "hashicorp" / "random").mkdir(parents=True)
    (full / "registry.terraform.io" / "hashicorp" / "aws").mkdir(parents=True)
    assert tools.mirror_in([empty]) is None
    assert tools.mirror_in([tmp_path / "absent", empty, full]) == full


def test_what_is_said_about_a_proxy_does_not_contain_its_password() -> None:
    found = tools.judge_proxy({"HTTPS_PROXY": "http://me:secret@proxy:3128"})
    assert (found.status, "https_proxy" in found.detail) == (OK, True)
    assert "secret" not in found.detail + found.remedy
    assert tools.judge_proxy({}).detail == "none set"


def test_a_ca_bundle_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    assert tools.judge_certificates({"SSL_CERT_FILE": str(tmp_path / "absent.pem")}).status == MISSING
    (tmp_path / "ca.pem").touch()
    assert tools.judge_certificates({"SSL_CERT_FILE": str(tmp_path / "ca.pem")}).status == OK
    assert tools.judge_certificates({}).status == OK


def test_a_check_that_raises_is_a_warning_and_the_others_still_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Check:
        raise FileNotFoundError("/proc/odd")

    monkeypatch.setattr(doctor, "_CHECKS", (("odd", broken), ("good", lambda: Check("good", OK, "well"))))
    odd, good = doctor.run_checks()
    assert (odd.status, good.status) == (WARNING, OK)
    assert "/proc/odd" in odd.detail


@pytest.mark.parametrize(("status", "code"), [(OK, 0), (SETUP, 0), (WARNING, 0), (MISSING, 1)])
def test_only_what_setup_cannot_install_gives_exit_code_1(
    status: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_CHECKS", (("x", lambda: Check("x", status, "found", "do this")),))
    assert doctor.main() == code
    assert "do this" in capsys.readouterr().out
