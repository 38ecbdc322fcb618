"""Control groups: which hierarchies a machine has, and how the cloud's tree is made in them. On files, except where the kernel decides."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.machine import cgroups
from localcloud.machine.box import Box, Service, runner_command
from localcloud.machine.interface import MachineError
from localcloud.machine.processes import wait_until

MIXED = """proc /proc proc rw 0 0
tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,xattr,release_agent=/x,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
"""
UNIFIED = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate,memory_recursiveprot 0 0\n"


def machine(monkeypatch: pytest.MonkeyPatch, *found: cgroups.Hierarchy) -> None:
    monkeypatch.setattr(cgroups, "hierarchies", lambda: found)


def unified(tmp_path: Path, controllers: str = "cpu memory pids") -> cgroups.Hierarchy:
    (tmp_path / "cgroup.controllers").write_text(controllers)
    (tmp_path / "cgroup.subtree_control").write_text("")
    return cgroups.Hierarchy(tmp_path, "")


def test_a_mixed_machine_has_one_hierarchy_per_mount_with_the_options_to_mount_it_again() -> None:
    found = cgroups.parse(MIXED)
    assert [(h.path.name, h.options, h.version) for h in found] == [
        ("cpu,cpuacct", "cpu,cpuacct", 1),
        ("systemd", "none,name=systemd", 1),
        ("unified", "", 2),
    ]


def test_a_unified_machine_has_one_hierarchy() -> None:
    assert cgroups.parse(UNIFIED + UNIFIED.replace("/sys", "/elsewhere")) == (cgroups.Hierarchy(Path("/sys/fs/cgroup"), ""),)


def test_the_error_of_a_machine_without_control_groups_names_the_mount_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self: "proc /proc proc rw 0 0\n")
    with pytest.raises(MachineError, match="mount -t cgroup2"):
        cgroups.hierarchies()


def test_controllers_are_enabled_for_a_new_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    switched: list[tuple[Path, str]] = []
    hierarchy = unified(tmp_path)
    (tmp_path / "leeward").mkdir()
    (tmp_path / "leeward" / "cgroup.controllers").write_text("cpu memory")
    (tmp_path / "leeward" / "cgroup.subtree_control").write_text("cpu")
    machine(monkeypatch, hierarchy)
    write_text = Path.write_text

    def record(path: Path, text: str) -> int:
        switched.append((path.parent.relative_to(tmp_path), text))
        return write_text(path, text)

    monkeypatch.setattr(Path, "write_text", record)
    cgroups.create("leeward/cloud")
    assert switched == [(Path("."), "+memory"), (Path("."), "+cpu"), (Path("."), "+pids"), (Path("leeward"), "+memory")]
    assert (tmp_path / "leeward" / "cloud").is_dir()


def test_a_group_that_becomes_a_root_enables_no_controllers_while_processes_must_still_pass_through_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(monkeypatch, unified(tmp_path))
    (tmp_path / "leeward").mkdir()
    (tmp_path / "leeward" / "cgroup.controllers").write_text("cpu")
    (tmp_path / "leeward" / "cgroup.subtree_control").write_text("cpu")
    cgroups.create_root("leeward/node-1")
    assert (tmp_path / "leeward" / "node-1" / "init").is_dir()
    assert not (tmp_path / "leeward" / "node-1" / "cgroup.subtree_control").exists()


def test_the_error_of_a_controller_that_cannot_be_enabled_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    unified(tmp_path, "memory")

    def refuse(path: Path, text: str) -> int:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(MachineError, match=r"memory controller.*busy\); move its processes into a group below: mkdir "):
        cgroups.enable_controllers(tmp_path)


def test_a_new_cpuset_of_version_1_has_its_parents_processors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    group = tmp_path / "leeward"
    group.mkdir()
    for folder, text in ((tmp_path, "0-1\n"), (group, "\n")):
        for name in ("cpuset.cpus", "cpuset.mems"):
            (folder / name).write_text(text)
    (group / "tasks").touch()
    machine(monkeypatch, cgroups.Hierarchy(tmp_path, "cpuset"))
    cgroups.create("leeward")
    assert (group / "cpuset.cpus").read_text() == "0-1\n"


@pytest.mark.parametrize(("name", "process"), [("cpu.shares", 1024), ("cpu.weight", 100)])
def test_the_cloud_has_the_weight_of_ten_processes_or_of_two_and_a_half_slices_or_sessions(
    name: str, process: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(monkeypatch, cgroups.Hierarchy(tmp_path, ""))
    autogroup = tmp_path / "sched_autogroup_enabled"
    monkeypatch.setattr(cgroups, "AUTOGROUP", autogroup)
    autogroup.write_text("1\n")
    (tmp_path / "leeward").mkdir()
    weight = tmp_path / "leeward" / name
    weight.touch()
    (tmp_path / "cgroup.procs").write_text(f"1\n{os.getpid()}\n")
    cgroups.set_weight()
    assert weight.read_text() == str(10 * process), "in a container, whose root group is not the machine's"
    (tmp_path / {"cpu.shares": "release_agent", "cpu.weight": "cgroup.controllers"}[name]).touch()
    cgroups.set_weight()
    assert int(weight.read_text()) / process == 2.5
    autogroup.write_text("0\n")
    cgroups.set_weight()
    assert weight.read_text() == str(10 * process)
    (tmp_path / "cgroup.procs").write_text("1\n")
    cgroups.set_weight()
    assert int(weight.read_text()) / process == 2.5


@pytest.fixture
def real_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two new groups in the machine's hierarchy with the cpu controller, which looks like the only hierarchy. Yields the first."""
    found = [
        hierarchy
        for hierarchy in cgroups.hierarchies()
        if (hierarchy.path / "cpu.shares").exists() or "cpu" in _words(hierarchy.path / "cgroup.controllers")
    ]
    if os.geteuid() != 0 or not found:
        pytest.skip("needs root and the cpu controller")
    machine(monkeypatch, found[0])
    groups = [f"leeward-test-{os.getpid()}{suffix}" for suffix in ("", ".slice")]
    for group in groups:
        cgroups.create(group)
    yield found[0].path / groups[0]
    for group in groups:
        assert cgroups.remove(group) == []


def _words(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


def test_the_kernel_accepts_the_weight_which_depends_on_the_callers_own_group(real_cpu: Path) -> None:
    name, process = ("cpu.shares", 1024) if (real_cpu / "cpu.shares").exists() else ("cpu.weight", 100)

    def weight_beside(group: str) -> float:
        script = f"from localcloud.machine import cgroups; cgroups.set_weight({real_cpu.name!r})"
        subprocess.run(cgroups.join(group, [sys.executable, "-c", script]), check=True)
        return int((real_cpu / name).read_text()) / process

    assert weight_beside(f"{real_cpu.name}.slice") == 2.5
    if not (real_cpu.parent / "cgroup.type").exists():  # in a container with a cgroup namespace, its root group may refuse processes
        assert weight_beside(".") == (2.5 if cgroups.AUTOGROUP.exists() and cgroups.AUTOGROUP.read_text() == "1\n" else 10)


def test_the_joining_command_enters_every_hierarchy_before_it_runs_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first, second = tmp_path / "cpu", tmp_path / "memory"
    for hierarchy in (first, second):
        (hierarchy / "g").mkdir(parents=True)
    machine(monkeypatch, cgroups.Hierarchy(first, "cpu"), cgroups.Hierarchy(second, "memory"))
    done = subprocess.run(cgroups.join("g", ["echo", "a b", "--"]), capture_output=True, text=True, check=True)
    assert done.stdout == "a b --\n"
    assert [(h / "g" / "cgroup.procs").read_text() for h in (first, second)] == ["0\n", "0\n"]


def test_a_program_does_not_run_outside_a_group_it_cannot_join(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, cgroups.Hierarchy(tmp_path, "cpu"))
    done = subprocess.run(cgroups.join("absent", ["echo", "ran"]), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")


def test_a_node_has_controllers_under_their_own_names_too(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, *cgroups.parse(MIXED))
    commands = [" ".join(command) for command in cgroups.remount()]
    assert "mount -t cgroup -o cpu,cpuacct cgroup /sys/fs/cgroup/cpu,cpuacct" in commands
    assert "ln -sfn cpu,cpuacct /sys/fs/cgroup/cpuacct" in commands
    assert "mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd" in commands


@pytest.fixture
def real_v2(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new group in the machine's hierarchy of version 2, which looks like the only hierarchy."""
    found = next((hierarchy for hierarchy in cgroups.hierarchies() if hierarchy.version == 2), None)
    if os.geteuid() != 0 or found is None:
        pytest.skip("needs root and a mounted cgroup2")
    machine(monkeypatch, found)
    monkeypatch.setattr(cgroups, "ROOT", found.path)
    group = f"leeward-test-{os.getpid()}"
    yield found.path / group
    assert cgroups.kill(group) == set()
    assert cgroups.remove(group) == []


def test_a_node_of_a_unified_machine_sees_its_group_as_the_root_and_enables_all_its_controllers(real_v2: Path, tmp_path: Path) -> None:
    root = cgroups.ROOT
    script = f"cat /proc/self/cgroup; ls -d {root}/*/; cd {root}; tr '\\n' ' ' <cgroup.controllers; echo; cat cgroup.subtree_control"
    look = Service("look", ("sh", "-c", script), str(tmp_path / "seen"))
    log = tmp_path / "log"
    box = Box("a node", runner_command(tmp_path, [look], setup=cgroups.remount(), restart=False), log=log, group=real_v2.name)
    wait_until("the box ends", lambda: "it runs" if box.running else None, within=60)
    assert log.read_text().endswith(" look ended with 0\n")
    *_, where, folders, controllers, enabled = (tmp_path / "seen").read_text().splitlines()
    assert where == "0::/init"
    assert folders == f"{root}/init/"
    assert controllers.split() == enabled.split()


def test_the_command_in_the_error_moves_the_processes_of_a_group_into_a_child(real_v2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cgroups.create(real_v2.name)
    there = (real_v2 / "cgroup.controllers").read_text().split()
    if not there:
        pytest.skip("no controller of version 2")
    if not set(cgroups.NEEDED) <= set(there):
        monkeypatch.setattr(cgroups, "NEEDED", there[:1])
    sleeper = subprocess.Popen(cgroups.join(real_v2.name, ["sleep", "60"]))
    try:
        wait_until("it is in the group", lambda: None if cgroups.processes(real_v2.name) else "it is not", within=60)
        with pytest.raises(MachineError, match="busy") as refused:
            cgroups.enable_controllers(real_v2)
        assert cgroups.has_internal_processes(real_v2)
        subprocess.run(["sh", "-c", str(refused.value).partition("below: ")[2]], check=True)
        assert not cgroups.has_internal_processes(real_v2)
        cgroups.enable_controllers(real_v2)
        assert cgroups.processes(f"{real_v2.name}/init") == {sleeper.pid}
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_node_enables_its_controllers_of_version_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, unified(tmp_path, "memory"))
    subprocess.run(cgroups.remount()[-1], check=True)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory\n"


def test_the_processes_of_a_group_include_those_below_it_but_no_dead_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, cgroups.Hierarchy(tmp_path, "cpu"))
    deep = tmp_path / "leeward" / "node" / "pod"
    deep.mkdir(parents=True)
    dead = subprocess.Popen(["true"])
    dead.wait()
    (deep / "cgroup.procs").write_text(f"{os.getpid()}\n{dead.pid}\n0\n")
    assert cgroups.processes() == {os.getpid()}


def test_removing_a_group_removes_what_is_below_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, cgroups.Hierarchy(tmp_path, "cpu"))
    (tmp_path / "leeward" / "node" / "pod").mkdir(parents=True)
    assert cgroups.remove() == []
    assert not (tmp_path / "leeward").exists()


def test_a_group_that_cannot_be_removed_is_returned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, cgroups.Hierarchy(tmp_path, "cpu"))
    (tmp_path / "leeward").mkdir()
    (tmp_path / "leeward" / "a-file-keeps-it").touch()
    assert cgroups.remove(within=0.1) == [tmp_path / "leeward"]


@pytest.mark.parametrize(("text", "value"), [("cache 5\ntotal_rss 7\nrss 1\n", 7), ("anon 9\nfile 3\n", 9)])
def test_memory_is_counted_without_the_page_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, value: int) -> None:
    machine(monkeypatch, cgroups.Hierarchy(tmp_path / "cpu", "cpu"), cgroups.Hierarchy(tmp_path, "memory"))
    (tmp_path / "leeward").mkdir()
    (tmp_path / "leeward" / "memory.stat").write_text(text)
    assert cgroups.memory() == value


FIRST_THREAD_ENDS = """
import ctypes, platform, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)
"""


def test_a_process_is_in_its_group_until_its_last_thread_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cgroups.Hierarchy(tmp_path, ""))
    popen = subprocess.Popen([sys.executable, "-c", FIRST_THREAD_ENDS])
    try:
        (tmp_path / cgroups.TREE).mkdir()
        (tmp_path / cgroups.TREE / "cgroup.procs").write_text(f"{popen.pid}\n")
        stat, deadline = Path(f"/proc/{popen.pid}/stat"), time.monotonic() + 20
        while ") Z " not in stat.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert cgroups.processes() == {popen.pid}
        assert cgroups.kill() == set()
        assert stat.read_text().rpartition(")")[2].split()[17] == "1"
    finally:
        popen.kill()
        popen.wait()
