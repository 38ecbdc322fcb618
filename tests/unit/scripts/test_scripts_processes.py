"""Processes are identified by pid, start time and boot, and end with the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.support.processes import Busy, Process, can_contain, children, contained, exclusive_lock, read_record, write_record
from tests.waiting import eventually

needs_root = pytest.mark.skipif(not can_contain(), reason="this machine allows no namespaces")


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"])


def test_a_recorded_process_is_found_again_until_it_ends(tmp_path: Path) -> None:
    with sleeper() as child:
        process = Process.find(child.pid)
        assert process is not None
        write_record(tmp_path / "record.json", process, api_url="http://here")
        assert read_record(tmp_path / "record.json") == (process, {"api_url": "http://here"})
        assert process.alive
        child.kill()
        assert process.ended_within(60), "a zombie counts as gone"
    assert Process.find(child.pid) != process


def test_another_process_with_the_same_pid_is_never_signalled() -> None:
    with sleeper() as child:
        process = Process.find(child.pid)
        assert process is not None
        for other in (replace(process, started=process.started + "0"), replace(process, started="another-boot:1")):
            assert not other.alive
            other.signal(signal.SIGKILL)
        assert process.alive
        child.kill()


def test_a_record_has_mode_0600_and_a_broken_one_is_ignored(tmp_path: Path) -> None:
    me = Process.find(os.getpid())
    assert me is not None
    write_record(tmp_path / "record.json", me)
    assert (tmp_path / "record.json").stat().st_mode & 0o777 == 0o600
    for text in ("", "[]", "{}", '{"pid": 1'):
        (tmp_path / "record.json").write_text(text)
        assert read_record(tmp_path / "record.json") is None


FIRST_THREAD_ENDS = """
import ctypes, platform, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)
"""


def test_a_process_is_alive_until_its_last_thread_has_ended() -> None:
    popen = subprocess.Popen([sys.executable, "-c", FIRST_THREAD_ENDS])
    try:
        eventually(lambda: ") Z " in Path(f"/proc/{popen.pid}/stat").read_text(), what="the first thread ends")
        process = Process.find(popen.pid)
        assert process is not None
        assert process.alive
        process.signal(signal.SIGKILL)
        assert process.ended_within(60)
    finally:
        popen.kill()
        popen.wait()


def test_children_are_only_live_processes() -> None:
    with sleeper() as child:
        me = Process.find(os.getpid())
        assert me is not None
        assert child.pid in [found.pid for found in children(me)]
        child.kill()
        child.wait()
        assert child.pid not in [found.pid for found in children(me)]


HOLD = """
import sys, time
from pathlib import Path
from scripts.support.processes import exclusive_lock
with exclusive_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_names_its_holder_and_is_released_when_the_holder_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Busy) as refused, exclusive_lock(lock):
            pass
        assert refused.value.holder == Process.find(holder.pid)
        assert str(holder.pid) in str(refused.value)
        holder.kill()
    with exclusive_lock(lock):
        pass


@needs_root
@pytest.mark.parametrize("victim", ["starter", "unshare"])
def test_a_contained_command_ends_with_its_parent_and_with_its_namespace(tmp_path: Path, victim: str) -> None:
    inner = f"sleep 60 & setsid sleep 61 & echo $$ > {tmp_path}/up; wait"
    start = f"import subprocess; from scripts.support.processes import contained\nsubprocess.run(contained(['bash', '-c', {inner!r}]))"
    with subprocess.Popen([sys.executable, "-c", start]) as starter:
        eventually((tmp_path / "up").exists)
        first = Process.find(starter.pid)
        assert first is not None
        (unshare,) = children(first)
        (init,) = children(unshare)
        sleepers = children(init)
        assert len(sleepers) == 2
        (first if victim == "starter" else unshare).signal(signal.SIGKILL)
        for process in (init, *sleepers):
            assert process.ended_within(60), f"{process} outlived {victim}"


@needs_root
def test_a_mount_of_a_contained_command_is_not_visible_outside(tmp_path: Path) -> None:
    done = subprocess.run(
        contained(["bash", "-c", f"mount -t tmpfs none {tmp_path} && touch {tmp_path}/inside && ls {tmp_path}"]), capture_output=True
    )
    assert done.stdout == b"inside\n"
    assert not list(tmp_path.iterdir())
