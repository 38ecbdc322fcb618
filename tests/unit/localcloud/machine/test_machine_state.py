"""What the host side and the cloud tell each other: files, the lock, the words of `status`."""

from __future__ import annotations

import errno
import os
import socket
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


def test_what_is_written_is_private_and_read_back(tmp_path: Path) -> None:
    state.write(tmp_path / "a.json", {"secret": "s"})
    assert state.read(tmp_path / "a.json") == {"secret": "s"}
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600
    assert state.read(tmp_path / "absent.json") is None


def test_a_log_that_grew_too_large_starts_anew_and_keeps_what_it_had(tmp_path: Path) -> None:
    log = tmp_path / "kubelet.log"
    with log.open("ab") as writer:
        writer.write(b"x" * 100)
        writer.flush()
        supervisor.rotate_logs(tmp_path, limit=50)
        writer.write(b"y")
    assert (log.read_bytes(), (tmp_path / "kubelet.log.1").read_bytes()) == (b"y", b"x" * 100)


def test_a_log_that_cannot_be_moved_does_not_end_the_cloud_nor_keep_others_from_it(tmp_path: Path) -> None:
    (tmp_path / "gone.log").symlink_to(tmp_path / "removed with its node")
    (tmp_path / "stuck.log").write_bytes(b"x" * 100)
    (tmp_path / "stuck.log.1").mkdir()
    (tmp_path / "whole.log").write_bytes(b"x" * 100)
    supervisor.rotate_logs(tmp_path, limit=50)
    assert ((tmp_path / "stuck.log").stat().st_size, (tmp_path / "whole.log").stat().st_size) == (100, 0)


def test_what_was_done_counts_though_it_cannot_be_told_to_people(tmp_path: Path) -> None:
    told = []

    def full(value: object) -> None:
        told.append(value)
        raise OSError(errno.ENOSPC, "No space left on device")

    machine = LocalMachine(tmp_path, tmp_path, (), full)
    machine.remove_node("i-0")
    assert told


def test_every_component_is_a_name_of_the_one_binary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(supervisor, "DATA_DIR", tmp_path)
    (tmp_path / "kubernetes").write_text("binary")
    folder = supervisor.link_components(tmp_path / "kubernetes")
    assert {name: (folder / name).read_text() for name in supervisor.COMPONENTS} == dict.fromkeys(supervisor.COMPONENTS, "binary")


def birth() -> tuple[supervisor.Birth, socket.socket]:
    here, there = socket.socketpair()
    return supervisor.Birth(here.detach()), there


def test_the_cloud_lives_when_up_wants_it_kept() -> None:
    cloud, up = birth()
    with up:
        up.sendall(supervisor.KEEP)
        assert cloud.kept()


def test_the_cloud_does_not_outlive_an_up_that_died() -> None:
    cloud, up = birth()
    up.close()
    assert not cloud.kept()


def newborn(messages: bytes) -> guardian.Guardian:
    """A guardian whose cloud says these messages, then ends."""
    here, there = socket.socketpair()
    there.sendall(messages)
    there.close()
    born = guardian.Guardian.__new__(guardian.Guardian)
    born._socket = here
    return born


def test_up_shows_progress_and_returns_what_the_cloud_says_at_last() -> None:
    said: list[str] = []
    born = newborn(b'{"progress": "the registry starts"}\n{"ready": {"region": "r"}}\n')
    assert born.environment(said.append, 5) == {"region": "r"}
    assert said == ["the registry starts"]


def test_up_fails_with_the_clouds_reason() -> None:
    with pytest.raises(MachineError, match="could not start: BuildError: not built"):
        newborn(b'{"failed": "BuildError: not built"}\n').environment(lambda text: None, 5)


def test_up_fails_when_the_cloud_dies_and_says_what_it_did_last() -> None:
    with pytest.raises(MachineError, match=r"ended while it started \(the registry starts\)"):
        newborn(b'{"progress": "the registry starts"}\n').environment(lambda text: None, 5)


def test_status_names_what_is_there() -> None:
    told = {
        "up": True,
        "endpoint_url": "http://e",
        "memory_bytes": 2e9,
        "cluster": {"name": "c", "endpoint": "https://k"},
        "nodes": [{"name": "n", "type": "inf2.8xlarge", "address": "10.213.0.100"}],
        "redis": [{"name": "r", "primary": "10.213.0.20", "members": 2}],
    }
    words = lifecycle._format_status(told)
    for part in ("http://e", "2.0 GB", "c at https://k", "n (inf2.8xlarge, 10.213.0.100)", "r at 10.213.0.20 (2 members)"):
        assert part in words


def test_who_is_not_root_is_told_to_be(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["up"]) == 1
    assert "run it as root" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["sideways"]])
def test_an_unknown_command_shows_the_known_ones(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert "usage: python -m localcloud" in capsys.readouterr().err


def test_the_clouds_environment_has_no_secret_of_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "hush")
    assert "hush" not in guardian._environment().values()


def test_an_add_on_that_is_part_of_every_node_needs_nothing() -> None:
    class NoApi:
        """Whoever touches it fails."""

    addons.install(NoApi(), "kube-proxy")  # type: ignore[arg-type]


def test_an_unknown_add_on_is_refused_with_those_there_are() -> None:
    with pytest.raises(MachineError, match="there are coredns, vpc-cni"):
        addons.install(None, "aws-ebs-csi-driver")  # type: ignore[arg-type]


def test_the_add_ons_of_the_machine_are_those_that_eks_offers() -> None:
    assert {"coredns", *addons.IN_EVERY_NODE} == set(eks_addons.VERSIONS)


def test_a_binding_is_of_the_whole_cluster_or_of_one_namespace() -> None:
    everywhere, here = Binding("g", "view", None), Binding("g", "view", "ns")
    assert everywhere.path.endswith("/clusterrolebindings/g")
    assert here.path.endswith("/namespaces/ns/rolebindings/g")
    assert (everywhere.manifest()["kind"], here.manifest()["kind"]) == ("ClusterRoleBinding", "RoleBinding")
