"""A machine with systemd and control groups of version 2 alone: Debian on a User-Mode Linux kernel, which is a process here.

It runs in namespaces that end with this process, even when that is killed: its disk is an unlinked file, its memory a
tmpfs of those namespaces, its network one of them, connected to the outside by slirp4netns. So nothing of it is left behind.

    .venv/bin/python -m tests.machines.machine                    # boots it, prints how to log in, and waits for Ctrl-C
    .venv/bin/python -m tests.machines.machine --cpus 2 ./demo    # runs one command in the project's folder there
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localcloud.build import debian, packages
from localcloud.build.cache import Cache, CacheError
from localcloud.build.command import BuildError, run_logged
from localcloud.files import last_lines
from localcloud.paths import cache_dir
from localcloud.progress import Report, Reporter, format_seconds
from scripts.support.paths import LOGS
from scripts.support.processes import Process, kill_with_children
from tests.machines import disk, kernel

HOST_PACKAGES = (*kernel.PACKAGES, "debian-archive-keyring", "e2fsprogs", "iproute2", "mmdebstrap", "openssh-client", "slirp4netns")
"""Packages that are installed on this host if they are missing. Apart from that only files in the user's cache change."""
CONTAINED = ("setpriv", "--pdeathsig", "KILL", "--", "unshare", "--pid", "--fork", "--kill-child", "--mount")
"""Command prefix for namespaces that end with this process. They keep this host's /proc, by which unlinked files are opened."""
BRIDGE, OURS = "leeward-vm", "10.0.2.1/24"
BOOT_S = 120.0
LOG = LOGS / "machine.log"
"""Log of the machine's console."""

# Both taps are made before a program opens them: slirp4netns from outside, the machine from inside.
_BOOT = """
set -e
for tap in outside machine; do ip tuntap add $tap mode tap; ip link set $tap up; done
ip link set lo up
ip link add $BRIDGE type bridge
for tap in outside machine; do ip link set $tap master $BRIDGE; done
ip address add $OURS dev $BRIDGE
ip link set $BRIDGE up
mount -t tmpfs -o size=$MEMORY,nr_inodes=1000 tmpfs /dev/shm
TMPDIR=/dev/shm "$KERNEL" mem=$MEMORY ncpus=$CPUS seccomp=on uml_dir=/dev/shm/ ubd0="$DISK" root=/dev/ubda rw \
  vec0:transport=tap,ifname=machine,depth=128,mac=52:54:00:12:34:56 con0=null,fd:1 con=null
echo "the machine ended with $?"
"""


@dataclass(frozen=True)
class Machine:
    """A machine that has been booted."""

    process: Process
    """Process of the `unshare` in which the machine runs."""
    report: Report

    @property
    def login(self) -> list[str]:
        """Prefix of a command line that runs in the machine."""
        options = ("-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR", "-oConnectTimeout=5")
        return ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", "ssh", *options, "-oServerAliveInterval=30", f"root@{disk.ADDRESS}"]

    def run(self, command: Sequence[str], *, within_s: float) -> None:
        """Run a command in the project's folder in the machine; report its lines of output.

        Raises:
            BuildError: the command did not end with 0; the text contains its last lines.
        """
        log = LOGS / "machine-command.log"
        log.unlink(missing_ok=True)

        def follow(line: str) -> str:
            if line.strip():
                self.report(line.rstrip())
            return "still running"

        inside = f"cd {disk.PROJECT} && exec {shlex.join(command)}"
        run_logged([*self.login, inside], what=shlex.join(command)[:60], log=log, report=self.report, deadline=within_s, follow=follow)

    def answers(self) -> bool:
        """Return whether a login works and systemd has finished the boot."""
        command = [*self.login, "systemctl is-system-running --wait"]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.stdout.strip() in ("running", "degraded")


@contextmanager
def booted(report: Report, *, cpus: int = 1, memory_gb: int = 8) -> Iterator[Machine]:
    """Run a machine inside the `with` block. The first time its kernel and its Debian are made, which takes ten minutes.

    Raises:
        BuildError, CacheError: the machine cannot be made or does not boot; the text gives the reason.
    """
    if os.geteuid() != 0:
        raise BuildError("run as root: the machine needs namespaces, a tap device and a mount")
    LOGS.mkdir(parents=True, exist_ok=True)
    install_packages(report)
    program = Cache(cache_dir() / "machines").get(kernel.recipe(), report).path / "linux"
    archive = disk.root(report)
    with tempfile.TemporaryFile(dir=cache_dir()) as file:
        disk.fill(file, archive, CONTAINED, report)
        variables = {"KERNEL": str(program), "DISK": disk.unlinked_path(file), "MEMORY": f"{memory_gb}G", "CPUS": str(cpus)}
        with _started(variables) as machine_process, _outside(machine_process):
            machine = Machine(machine_process, report)
            _wait_for_boot(machine, report)
            yield machine


def install_packages(report: Report) -> None:
    """Install the missing packages that make and run the machine.

    Raises:
        BuildError: apt could not install them.
    """
    listing = debian.query("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n")
    if not (missing := packages.absent_from(listing, HOST_PACKAGES)):
        return
    report(f"installing {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=600"]
    for command in ([*apt, "update"], [*apt, "install", "--yes", "--no-install-recommends", *missing]):
        # Not interruptible: if dpkg is stopped half-way, packages are half installed.
        run_logged(
            command,
            what=" ".join(command[3:]),
            log=LOGS / "machine-packages.log",
            report=report,
            deadline=1200,
            env=environment,
            interruptible=False,
        )


@contextmanager
def _started(variables: dict[str, str]) -> Iterator[Process]:
    """Start the machine's processes in a network namespace with a bridge; kill all of them afterwards."""
    environment = {**os.environ, **variables, "BRIDGE": BRIDGE, "OURS": OURS}
    with LOG.open("wb") as log:
        popen = subprocess.Popen(
            [*CONTAINED, "--net", "--", "sh", "-c", _BOOT],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # so that Ctrl-C reaches this process alone
        )
    process = Process.find(popen.pid)
    try:
        if process is None:
            raise BuildError(f"the machine ended at once. Last lines of {LOG}:\n{last_lines(LOG)}")
        yield process
    finally:
        if process:
            kill_with_children(process)
        popen.wait(20)


@contextmanager
def _outside(machine: Process) -> Iterator[None]:
    """Connect the machine to everything that this host can reach, except its loopback."""
    network, deadline = Path(f"/proc/{machine.pid}/net/dev"), time.monotonic() + 20
    while BRIDGE not in (network.read_text() if machine.alive else BRIDGE):
        if time.monotonic() > deadline:
            raise BuildError(f"the machine's network was not made within 20 s. Last lines of {LOG}:\n{last_lines(LOG)}")
        time.sleep(0.1)
    command = ["slirp4netns", "--disable-host-loopback", str(machine.pid), "outside"]
    with (LOGS / "machine-network.log").open("wb") as log:
        slirp = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        slirp.kill()
        slirp.wait(20)


def _wait_for_boot(machine: Machine, report: Report) -> None:
    report("booting")
    began = time.monotonic()
    while not machine.answers():
        if not machine.process.alive:
            raise BuildError(f"the machine ended while it booted. Last lines of {LOG}:\n{last_lines(LOG)}")
        if time.monotonic() - began > BOOT_S:
            raise BuildError(f"no login to the machine within {format_seconds(BOOT_S)}. Last lines of {LOG}:\n{last_lines(LOG)}")
        time.sleep(0.5)
    report(f"booted in {format_seconds(time.monotonic() - began)}")


def main(given: Sequence[str] | None = None) -> int:
    """Run one command in a new machine, or keep a machine until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.machines.machine", description=__doc__.splitlines()[0])
    parser.add_argument("--cpus", type=int, default=1, help="processors (default: 1; threads of one program never run side by side)")
    parser.add_argument("--memory", type=int, default=8, help="GB of memory, taken as it is touched (default: 8)")
    parser.add_argument("--within", type=int, default=120, help="minutes after which it is ended (default: 120)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run in the project's folder")
    options = parser.parse_args(given)
    report = Reporter().for_step("machine")
    try:
        with booted(report, cpus=options.cpus, memory_gb=options.memory) as machine:
            report(f"to log in: {shlex.join(machine.login)}")
            machine.run(options.command or ["sleep", "infinity"], within_s=60 * options.within)
    except (BuildError, CacheError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
