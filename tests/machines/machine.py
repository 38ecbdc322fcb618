"""A machine with systemd and control groups of version 2 alone: Debian on a User-Mode Linux kernel, which is a process here.

It lives in namespaces that die with us, however we die: its disk is a file without a name, its memory a tmpfs of those
namespaces, its network another of them, joined to the outside by slirp4netns. So nothing of it is ever left behind.

    .venv/bin/python -m tests.machines.machine                    # boots it, says how to log in, and waits for Ctrl-C
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
from localcloud.build.command import BuildError, run, tail
from localcloud.progress import Reporter, Say, seconds
from scripts.support.paths import LOGS, cache_dir
from scripts.support.processes import Process, kill_with_children
from tests.machines import disk, kernel

HOST_PACKAGES = (*kernel.PACKAGES, "debian-archive-keyring", "e2fsprogs", "iproute2", "mmdebstrap", "openssh-client", "slirp4netns")
"""What is installed on this host where it is missing; all else that is changed are files in the user's cache."""
CONTAINED = ("setpriv", "--pdeathsig", "KILL", "--", "unshare", "--pid", "--fork", "--kill-child", "--mount")
"""Namespaces that end with us. /proc stays this host's, because by it files without a name are found."""
BRIDGE, OURS = "leeward-vm", "10.0.2.1/24"
BOOT_S = 120.0
LOG = LOGS / "machine.log"
"""The machine's console."""

# Both taps are there before anyone opens them: slirp4netns comes from outside, the machine from inside.
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
    """A machine that runs."""

    process: Process
    """The `unshare` that it lives in."""
    say: Say

    @property
    def login(self) -> list[str]:
        """The beginning of a command line that runs in the machine."""
        options = ("-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR", "-oConnectTimeout=5")
        return ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", "ssh", *options, "-oServerAliveInterval=30", f"root@{disk.ADDRESS}"]

    def run(self, command: Sequence[str], *, within_s: float) -> None:
        """The command ended with 0 in the project's folder; its lines stand among ours.

        Raises:
            BuildError: it did not; the text has its last lines.
        """
        log = LOGS / "machine-command.log"
        log.unlink(missing_ok=True)

        def follow(line: str) -> str:
            if line.strip():
                self.say(line.rstrip())
            return "still running"

        inside = f"cd {disk.PROJECT} && exec {shlex.join(command)}"
        run([*self.login, inside], what=shlex.join(command)[:60], log=log, say=self.say, deadline=within_s, follow=follow)

    def answers(self) -> bool:
        """Whether it can be logged into, and has begun all that it begins at boot."""
        asked = [*self.login, "systemctl is-system-running --wait"]
        try:
            done = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.stdout.strip() in ("running", "degraded")


@contextmanager
def booted(say: Say, *, cpus: int = 1, memory_gb: int = 8) -> Iterator[Machine]:
    """Inside, the machine runs. The first time its kernel and its Debian are made, which takes ten minutes.

    Raises:
        BuildError, CacheError: it cannot be made or does not boot; the text says why.
    """
    if os.geteuid() != 0:
        raise BuildError("run as root: the machine needs namespaces, a tap device and a mount")
    LOGS.mkdir(parents=True, exist_ok=True)
    install(say)
    program = Cache(cache_dir() / "machines").get(kernel.recipe(), say).path / "linux"
    archive = disk.root(say)
    with tempfile.TemporaryFile(dir=cache_dir()) as file:
        disk.fill(file, archive, CONTAINED, say)
        variables = {"KERNEL": str(program), "DISK": disk.nameless(file), "MEMORY": f"{memory_gb}G", "CPUS": str(cpus)}
        with _started(variables) as machine_process, _outside(machine_process):
            machine = Machine(machine_process, say)
            _wait(machine, say)
            yield machine


def install(say: Say) -> None:
    """The host has the packages that make and run the machine.

    Raises:
        BuildError: apt could not install them.
    """
    listing = debian.query("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n")
    if not (missing := packages.absent_from(listing, HOST_PACKAGES)):
        return
    say(f"installing {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=600"]
    for command in ([*apt, "update"], [*apt, "install", "--yes", "--no-install-recommends", *missing]):
        # Cut short, dpkg leaves packages half installed.
        run(
            command,
            what=" ".join(command[3:]),
            log=LOGS / "machine-packages.log",
            say=say,
            deadline=1200,
            env=environment,
            interruptible=False,
        )


@contextmanager
def _started(variables: dict[str, str]) -> Iterator[Process]:
    """The machine's processes run, in a network namespace with a bridge; all of them are gone afterwards."""
    environment = {**os.environ, **variables, "BRIDGE": BRIDGE, "OURS": OURS}
    with LOG.open("wb") as log:
        popen = subprocess.Popen(
            [*CONTAINED, "--net", "--", "sh", "-c", _BOOT],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is ours to answer
        )
    process = Process.find(popen.pid)
    try:
        if process is None:
            raise BuildError(f"the machine ended at once. Last lines of {LOG}:\n{tail(LOG)}")
        yield process
    finally:
        if process:
            kill_with_children(process)
        popen.wait(20)


@contextmanager
def _outside(machine: Process) -> Iterator[None]:
    """The machine reaches what this host reaches, but nothing that listens on this host's loopback."""
    network, deadline = Path(f"/proc/{machine.pid}/net/dev"), time.monotonic() + 20
    while BRIDGE not in (network.read_text() if machine.alive else BRIDGE):
        if time.monotonic() > deadline:
            raise BuildError(f"the machine's network was not made within 20 s. Last lines of {LOG}:\n{tail(LOG)}")
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


def _wait(machine: Machine, say: Say) -> None:
    say("booting")
    began = time.monotonic()
    while not machine.answers():
        if not machine.process.alive:
            raise BuildError(f"the machine ended while it booted. Last lines of {LOG}:\n{tail(LOG)}")
        if time.monotonic() - began > BOOT_S:
            raise BuildError(f"the machine could not be logged into within {seconds(BOOT_S)}. Last lines of {LOG}:\n{tail(LOG)}")
        time.sleep(0.5)
    say(f"booted in {seconds(time.monotonic() - began)}")


def main(given: Sequence[str] | None = None) -> int:
    """Runs one command in a new machine, or keeps one until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.machines.machine", description=__doc__.splitlines()[0])
    parser.add_argument("--cpus", type=int, default=1, help="processors (default: 1; threads of one program never run side by side)")
    parser.add_argument("--memory", type=int, default=8, help="GB of memory, taken as it is touched (default: 8)")
    parser.add_argument("--within", type=int, default=120, help="minutes after which it is ended (default: 120)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run in the project's folder")
    options = parser.parse_args(given)
    say = Reporter().about("machine")
    try:
        with booted(say, cpus=options.cpus, memory_gb=options.memory) as machine:
            say(f"to log in: {shlex.join(machine.login)}")
            machine.run(options.command or ["sleep", "infinity"], within_s=60 * options.within)
    except (BuildError, CacheError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
