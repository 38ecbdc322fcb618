"""Processes are found again by pid, start time and boot, and end with whoever started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.support.processes import Busy, Process, can_contain, children, contained, only_one, read_record, write_record

needs_root = pytest.mark.skipif(not can_contain(), reason="this machine allows no namespaces")


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"])


def until(holds: object, within: float = 10.0) -> bool:
    deadline = time.monotonic() + within
    while not holds():  # type: ignore[operator]
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_recorded_process_is_found_again_until_it_ends(tmp_path: Path) -> None:
    with sleeper() as child:
        process = Process.of(child.pid)
        assert process is not None
        write_record(tmp_path / "record.json", process, api_url="http://here")
        assert read_record(tmp_path / "record.json") == (process, {"api_url": "http://here"})
        assert process.alive
        child.kill()
        assert process.gone_within(60), "a zombie counts as gone"
    assert Process.of(child.pid) != process


def test_a_stranger_with_the_same_pid_is_never_signalled() -> None:
    with sleeper() as child:
        process = Process.of(child.pid)
        assert process is not None
        for stranger in (replace(process, started=process.started + "0"), replace(process, started="another-boot:1")):
            assert not stranger.alive
            stranger.signal(signal.SIGKILL)
        assert process.alive
        child.kill()


def test_a_record_is_private_and_a_broken_one_is_no_record(tmp_path: Path) -> None:
    me = Process.of(os.getpid())
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


def test_a_process_lives_until_its_last_thread_has_ended() -> None:
    popen = subprocess.Popen([sys.executable, "-c", FIRST_THREAD_ENDS])
    try:
        stat, deadline = Path(f"/proc/{popen.pid}/stat"), time.monotonic() + 60
        while ") Z " not in stat.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process = Process.of(popen.pid)
        assert process is not None
        assert process.alive
        process.signal(signal.SIGKILL)
        assert process.gone_within(60)
    finally:
        popen.kill()
        popen.wait()


def test_children_are_those_that_live() -> None:
    with sleeper() as child:
        me = Process.of(os.getpid())
        assert me is not None
        assert child.pid in [found.pid for found in children(me)]
        child.kill()
        child.wait()
        assert child.pid not in [found.pid for found in children(me)]


HOLD = """
import sys, time
from pathlib import Path
from scripts.processes import only_one
with only_one(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_told_who_the_first_is_and_a_killed_holder_lets_go(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Busy) as refused, only_one(lock):
            pass
        assert refused.value.holder == Process.of(holder.pid)
        assert str(holder.pid) in str(refused.value)
        holder.kill()
    with only_one(lock):
        pass


@needs_root
@pytest.mark.parametrize("victim", ["starter", "unshare"])
def test_what_is_contained_dies_with_its_starter_and_with_its_namespace(tmp_path: Path, victim: str) -> None:
    inner = f"sleep 60 & setsid sleep 61 & echo $$ > {tmp_path}/up; wait"
    start = f"import subprocess; from scripts.support.processes import contained\nsubprocess.run(contained(['bash', '-c', {inner!r}]))"
    with subprocess.Popen([sys.executable, "-c", start]) as starter:
        assert until((tmp_path / "up").exists)
        first = Process.of(starter.pid)
        assert first is not None
        (unshare,) = children(first)
        (init,) = children(unshare)
        sleepers = children(init)
        assert len(sleepers) == 2
        (first if victim == "starter" else unshare).signal(signal.SIGKILL)
        for process in (init, *sleepers):
            assert process.gone_within(60), f"{process} outlived {victim}"


@needs_root
def test_a_mount_made_in_containment_is_not_seen_outside(tmp_path: Path) -> None:
    done = subprocess.run(
        contained(["bash", "-c", f"mount -t tmpfs none {tmp_path} && touch {tmp_path}/inside && ls {tmp_path}"]), capture_output=True
    )
    assert done.stdout == b"inside\n"
    assert not list(tmp_path.iterdir())
