"""The tests of the engines, run inside the bench image, which has torch; and that no container of the image is left."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from scripts.support.paths import PYTHON, ROOT
from scripts.support.processes import Process
from tests.waiting import eventually

WITHIN_S = 3600
IN_IMAGE = [str(PYTHON), "-m", "scripts.installed.run_in_image", "--"]


@pytest.mark.timeout(WITHIN_S)
@pytest.mark.parametrize("folder", ["tests/engine", "tests/served"])
def test_every_test_of_the_engines_passes_inside_the_image(folder: str) -> None:
    # Wide enough that the last lines say why a test failed. Warnings are those of other libraries here, and no errors.
    options = ["-v", "-rfEs", "-W", "default", "--disable-warnings", "--color=no"]
    command = [*IN_IMAGE, "env", "COLUMNS=500", "python3", "-m", "pytest", *options, folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    print(done.stdout)  # the names of the tests in the image, shown with -rP and when one fails
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-5000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_command_in_the_image_ends_with_the_process_that_started_it_and_its_container_is_removed(number: signal.Signals) -> None:
    command = [*IN_IMAGE, "sh", "-c", "echo it runs; exec sleep 3600"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=_interruptible) as popen:
        assert popen.stdout
        assert any(line == "it runs\n" for line in popen.stdout)
        mine = [child for child in map(Process.find, _group(popen.pid)) if child]
        assert f"leeward-bench-{popen.pid}" in _containers()
        # Ctrl-C reaches all of a terminal's group, a kill one process.
        os.killpg(popen.pid, number) if number == signal.SIGINT else popen.send_signal(number)
        popen.wait(120)
    assert all(child.ended_within(60) for child in mine)
    eventually(lambda: f"leeward-bench-{popen.pid}" in _containers(), False)


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _group(leader: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "-g", str(leader)], capture_output=True, text=True, timeout=30, check=True)
    return [int(pid) for pid in found.stdout.split()]


def _containers() -> str:
    # buildah fails when a container is removed while it lists them.
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run(["buildah", "containers"], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            return done.stdout
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.2)
