"""What `up`, `down` and `env` do when something ends early, and what they do not touch. On a file tree, without a cloud."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localcloud import paths, settings
from localcloud.__main__ import main
from localcloud.host import leftovers, lifecycle, state
from localcloud.machine import cgroups

ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
{uplink}	0000D50A	02FFD50A	0003	0	0	0	00FFFFFF	0	0	0
"""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine in a folder, with control groups and interfaces of its own."""
    run, data = tmp_path / "run", tmp_path / "data"
    for module, name, value in (
        (paths, "RUN_DIR", run),
        (paths, "DATA_DIR", data),
        (state, "LOCK", run / "lock"),
        (state, "LOGS", data / "log"),
        (leftovers, "LOGS", data / "log"),
        (state, "ENVIRONMENT", run / "environment.json"),
        (leftovers, "ENVIRONMENT", run / "environment.json"),
        (leftovers, "CRASH_LOGS", tmp_path / "cache" / "last-crash"),
        (settings, "UPLINK", "no-such0"),
        (cgroups, "hierarchies", lambda: (cgroups.Hierarchy(tmp_path / "cgroup", "cpu"),)),
        (lifecycle, "_require_artifacts", lambda: None),
        (os, "geteuid", lambda: 0),
    ):
        monkeypatch.setattr(module, name, value)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield tmp_path
    for number, handler in before.items():
        signal.signal(number, handler)


def dead_cloud(host: Path) -> None:
    """Make the files and folders that a killed cloud leaves."""
    (host / "data" / "log").mkdir(parents=True)
    (host / "data" / "log" / "supervisor.log").write_text("the reason")
    (host / "data" / "bin").mkdir()
    (host / "data" / "state.json").write_text("{}")
    (host / "cgroup" / cgroups.CLOUD).mkdir(parents=True)
    (host / "run").mkdir()
    environment = dict.fromkeys(("endpoint_url", "region", "access_key_id", "secret_access_key"), "of a cloud")
    state.write(state.ENVIRONMENT, environment)


def failing_guardian(error: BaseException) -> Callable[[int], None]:
    """Return a replacement of Guardian that raises after it has made its control group."""

    def make(lock: int) -> None:
        cgroups.create(cgroups.CLOUD)
        raise error

    return make


def hold() -> int:
    lock = state.take_lock()
    assert lock is not None
    return lock


@pytest.mark.parametrize(
    ("error", "code", "message"), [(KeyboardInterrupt(), 130, "interrupted"), (OSError(errno.ENOSPC, "No space left"), 1, "No space left")]
)
def test_an_up_that_ends_while_the_cloud_is_being_started_leaves_nothing_behind(
    host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, message: str
) -> None:
    (host / "cgroup").mkdir()
    monkeypatch.setattr(lifecycle, "Guardian", failing_guardian(error))
    assert main(["up"]) == code
    assert message in capsys.readouterr().err
    assert leftovers.find() == []
    assert not (host / "data").exists()
    os.close(hold())


def test_up_waits_while_status_holds_the_lock(host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "cgroup").mkdir()
    take, held_by_status = state.take_lock, [hold()]

    def taken() -> int | None:
        found = take()
        if held_by_status:
            os.close(held_by_status.pop())
        return found

    monkeypatch.setattr(state, "take_lock", taken)
    monkeypatch.setattr(lifecycle, "Guardian", failing_guardian(OSError("it was begun")))
    assert main(["up"]) == 1
    assert "it was begun" in capsys.readouterr().err


def test_up_is_refused_while_a_cloud_is_up(host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(lifecycle, "_STATUS_WITHIN", 0.0)
    lock = hold()
    assert main(["up"]) == 1
    assert "room for one" in capsys.readouterr().err
    os.close(lock)


def test_down_keeps_the_logs_of_a_cloud_that_died(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dead_cloud(host)
    assert main(["down"]) == 0
    assert (leftovers.CRASH_LOGS / "supervisor.log").read_text() == "the reason"
    assert str(leftovers.CRASH_LOGS) in capsys.readouterr().out
    assert leftovers.find() == []
    assert not (host / "data").exists()


def test_the_logs_of_a_cloud_that_down_ends_are_removed(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead_cloud(host)
    alive = {os.getpid()}
    monkeypatch.setattr(cgroups, "processes", lambda group="": set(alive))
    monkeypatch.setattr(cgroups, "kill", lambda group="", within=0.0: alive.clear() or set())
    assert main(["down"]) == 0
    assert not leftovers.CRASH_LOGS.exists()


def test_env_does_not_print_the_key_of_a_dead_cloud(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dead_cloud(host)
    assert main(["env"]) == 1
    assert "no cloud is up" in capsys.readouterr().err
    lock = hold()
    assert main(["env"]) == 0
    assert "export AWS_SECRET_ACCESS_KEY='of a cloud'" in capsys.readouterr().out
    os.close(lock)


def test_a_disk_that_is_mounted_on_the_clouds_folder_is_emptied_and_stays_mounted(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead_cloud(host)
    (host / "data" / "lost+found").mkdir()
    rmdir = Path.rmdir

    def busy(path: Path) -> None:
        if path == paths.DATA_DIR:
            raise OSError(errno.EBUSY, "Device or resource busy")
        rmdir(path)

    def run(argv: list[str], **options: object) -> None:
        raise AssertionError(f"nothing on the host may be changed: {argv}")

    monkeypatch.setattr(Path, "rmdir", busy)
    monkeypatch.setattr(subprocess, "run", run)
    assert main(["down"]) == 0
    assert [path.name for path in (host / "data").iterdir()] == ["lost+found"]
    assert leftovers.find() == []
    monkeypatch.setattr(lifecycle, "Guardian", failing_guardian(OSError("it was begun")))
    assert main(["up"]) == 1
    assert (host / "data").is_dir()


def test_routes_into_the_cloud_are_found_without_the_program_ip(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (host / "routes").write_text(ROUTES.format(uplink=settings.UPLINK))
    monkeypatch.setattr(leftovers, "_ROUTES", host / "routes")
    monkeypatch.setenv("PATH", str(host))
    assert leftovers.find() == ["route to 10.213.0.0/24"]
