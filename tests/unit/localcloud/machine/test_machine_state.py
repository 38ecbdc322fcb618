"""What the host side and the cloud exchange: files, the lock, startup messages, the text of `status`."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from localcloud import paths
from localcloud.__main__ import main
from localcloud.aws.eks import addons as eks_addons
from localcloud.host import guardian, lifecycle, state, supervisor
from localcloud.machine.cluster import addons
from localcloud.machine.cluster.access import Binding
from localcloud.machine.interface import MachineError
from localcloud.machine.local import LocalMachine


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(paths, "RUN_DIR", tmp_path / "run")
    monkeypatch.setattr(state, "LOCK", tmp_path / "run" / "lock")
    return tmp_path


def test_one_cloud_at_a_time_has_the_lock(folders: Path) -> None:
    lock = state.take_lock()
    assert lock is not None
    assert state.take_lock() is None
    copy = os.dup(lock)
    os.close(lock)
    assert state.take_lock() is None, "a copy of the descriptor holds it as well"
    os.close(copy)
    again = state.take_lock()
    assert again is not None
    os.close(again)


def test_a_written_value_is_private_and_can_be_read_back(tmp_path: Path) -> None:
    state.write(tmp_path / "a.json", {"secret": "s"})
    assert state.read(tmp_path / "a.json") == {"secret": "s"}
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600
    assert state.read(tmp_path / "absent.json") is None


def test_a_log_that_is_too_large_is_copied_and_emptied(tmp_path: Path) -> None:
    log = tmp_path / "kubelet.log"
    with log.open("ab") as writer:
        writer.write(b"x" * 100)
        writer.flush()
        supervisor.rotate_logs(tmp_path, limit=50)
        writer.write(b"y")
    assert (log.read_bytes(), (tmp_path / "kubelet.log.1").read_bytes()) == (b"y", b"x" * 100)


def test_a_log_that_cannot_be_copied_does_not_keep_others_from_being_rotated(tmp_path: Path) -> None:
    (tmp_path / "gone.log").symlink_to(tmp_path / "removed with its node")
    (tmp_path / "stuck.log").write_bytes(b"x" * 100)
    (tmp_path / "stuck.log.1").mkdir()
    (tmp_path / "whole.log").write_bytes(b"x" * 100)
    supervisor.rotate_logs(tmp_path, limit=50)
    assert ((tmp_path / "stuck.log").stat().st_size, (tmp_path / "whole.log").stat().st_size) == (100, 0)


def test_a_call_succeeds_although_the_state_file_cannot_be_written(tmp_path: Path) -> None:
    written = []

    def full(value: object) -> None:
        written.append(value)
        raise OSError(errno.ENOSPC, "No space left on device")

    machine = LocalMachine(tmp_path, tmp_path, (), full)
    machine.remove_node("i-0")
    assert written


def test_every_component_is_a_link_to_the_one_binary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(supervisor, "DATA_DIR", tmp_path)
    (tmp_path / "kubernetes").write_text("binary")
    folder = supervisor.link_components(tmp_path / "kubernetes")
    assert {name: (folder / name).read_text() for name in supervisor.COMPONENTS} == dict.fromkeys(supervisor.COMPONENTS, "binary")


def startup_channel() -> tuple[supervisor.StartupChannel, socket.socket]:
    here, there = socket.socketpair()
    return supervisor.StartupChannel(here.detach()), there


def test_a_cloud_ends_when_up_died_before_it_kept_the_cloud() -> None:
    cloud, up = startup_channel()
    up.close()
    assert not cloud.wait_for_keep()


@contextmanager
def starting(messages: bytes) -> Iterator[guardian.Guardian]:
    """A guardian that receives these messages from its cloud, then the end of the cloud."""
    here, there = socket.socketpair()
    with there:
        there.sendall(messages)
    cloud = guardian.Guardian.__new__(guardian.Guardian)
    with here:
        cloud._socket = here
        yield cloud


def test_the_error_of_up_has_the_last_step_of_a_cloud_that_died() -> None:
    ended = pytest.raises(MachineError, match=r"ended while it started \(the registry starts\)")
    with starting(b'{"progress": "the registry starts"}\n') as cloud, ended:
        cloud.wait_until_ready(lambda text: None, 5)


def test_the_messages_of_the_startup_channel_are_understood_by_up() -> None:
    channel, there = startup_channel()
    progress: list[str] = []
    cloud = guardian.Guardian.__new__(guardian.Guardian)
    cloud._socket = there
    channel.report("the registry starts")
    channel.report_ready({"region": "r"})
    assert cloud.wait_until_ready(progress.append, 5) == {"region": "r"}
    assert progress == ["the registry starts"]
    channel.report_failure("BuildError: not built")
    with pytest.raises(MachineError, match="could not start: BuildError: not built"):
        cloud.wait_until_ready(progress.append, 5)
    cloud.keep()
    assert channel.wait_for_keep()


def test_status_names_everything_that_exists() -> None:
    found = {
        "up": True,
        "endpoint_url": "http://e",
        "memory_bytes": 2e9,
        "cluster": {"name": "c", "endpoint": "https://k"},
        "nodes": [{"name": "n", "type": "inf2.8xlarge", "address": "10.213.0.100"}],
        "redis": [{"name": "r", "primary": "10.213.0.20", "members": 2}],
    }
    text = lifecycle._format_status(found)
    for part in ("http://e", "2.0 GB", "c at https://k", "n (inf2.8xlarge, 10.213.0.100)", "r at 10.213.0.20 (2 members)"):
        assert part in text


def test_a_user_other_than_root_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["up"]) == 1
    assert "run it as root" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["sideways"]])
def test_an_unknown_command_prints_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert "usage: python -m localcloud" in capsys.readouterr().err


def test_the_cloud_inherits_no_secret_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "hush")
    assert "hush" not in guardian._environment().values()


def test_an_add_on_that_is_part_of_every_node_needs_nothing() -> None:
    class NoApi:
        """An API on which every call fails."""

    addons.install(NoApi(), "kube-proxy")  # type: ignore[arg-type]


def test_an_unknown_add_on_is_refused_with_the_available_ones() -> None:
    with pytest.raises(MachineError, match="there are coredns, vpc-cni"):
        addons.install(None, "aws-ebs-csi-driver")  # type: ignore[arg-type]


def test_the_machine_has_the_add_ons_that_eks_offers() -> None:
    assert {"coredns", *addons.IN_EVERY_NODE} == set(eks_addons.VERSIONS)


def test_a_binding_applies_to_the_whole_cluster_or_to_one_namespace() -> None:
    everywhere, here = Binding("g", "view", None), Binding("g", "view", "ns")
    assert everywhere.path.endswith("/clusterrolebindings/g")
    assert here.path.endswith("/namespaces/ns/rolebindings/g")
    assert (everywhere.manifest()["kind"], here.manifest()["kind"]) == ("ClusterRoleBinding", "RoleBinding")
