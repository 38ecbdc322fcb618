"""Configuration files, taints, versions and networks of nodes, without a node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tomllib

from localcloud import settings
from localcloud.machine import filesystem, network
from localcloud.machine.cluster import controlplane, kubeconfig
from localcloud.machine.interface import MachineError
from localcloud.machine.nodes import containerd
from localcloud.machine.nodes.kubelet import taint
from localcloud.machine.pki import Pair


def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, major: int) -> dict[str, object]:
    monkeypatch.setattr(containerd, "major_version", lambda: major)
    monkeypatch.setattr(containerd, "plugins_folder", lambda: "/usr/lib/cni")
    return tomllib.loads(containerd.write_config(tmp_path, "10.214.3.0/24").read_text())


def test_containerd_1_gets_the_format_of_version_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = config(monkeypatch, tmp_path, 1)
    plugin = found["plugins"]["io.containerd.grpc.v1.cri"]  # type: ignore[index]
    assert found["version"] == 2
    assert plugin["sandbox_image"] == settings.PAUSE_IMAGE
    assert plugin["cni"] == {"bin_dir": "/usr/lib/cni", "conf_dir": f"{tmp_path}/network"}


def test_containerd_2_gets_the_format_of_version_3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = config(monkeypatch, tmp_path, 2)
    plugins = found["plugins"]
    assert found["version"] == 3
    assert plugins["io.containerd.cri.v1.images"]["pinned_images"] == {"sandbox": settings.PAUSE_IMAGE}  # type: ignore[index]
    assert plugins["io.containerd.cri.v1.runtime"]["cni"]["conf_dir"] == f"{tmp_path}/network"  # type: ignore[index]


@pytest.mark.parametrize("major", [1, 2])
@pytest.mark.parametrize("may", [True, False])
def test_oom_scores_are_not_changed_where_the_machine_may_not_lower_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, major: int, may: bool
) -> None:
    monkeypatch.setattr(containerd, "may_lower_oom_score", lambda: may)
    config(monkeypatch, tmp_path, major)
    assert f"restrict_oom_score_adj = {str(not may).lower()}" in (tmp_path / "containerd.toml").read_text()


def test_a_nodes_pods_have_the_nodes_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config(monkeypatch, tmp_path, 1)
    chain = json.loads((tmp_path / "network" / "10-ptp.conflist").read_text())
    assert chain["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.214.3.0/24"}]]


def test_the_registry_is_reached_over_plain_http(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config(monkeypatch, tmp_path, 1)
    hosts = tomllib.loads((tmp_path / "registries" / settings.REGISTRY / "hosts.toml").read_text())
    assert hosts["server"] == f"http://{settings.REGISTRY}"


@pytest.mark.parametrize(
    ("output", "major"),
    [("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", 1), ("containerd containerd.io v2.1.4 75cb2b71", 2)],
)
def test_containerds_version_is_parsed_from_its_output(monkeypatch: pytest.MonkeyPatch, output: str, major: int) -> None:
    monkeypatch.setattr(containerd, "run_command", lambda argv: output)
    assert containerd.major_version.__wrapped__() == major


def test_each_node_has_a_pod_network_of_its_own() -> None:
    networks = [network.pod_network(index) for index in range(len(settings.NODE_HOSTS))]
    assert networks[:2] == ["10.214.0.0/24", "10.214.1.0/24"]
    assert len(set(networks)) == len(settings.NODE_HOSTS)


def test_interface_names_are_parsed_whole_and_without_their_peers() -> None:
    assert network.interfaces("lo   UNKNOWN 00:00\nlw-100@if3  UP 12:34\n") == {"lo", "lw-100"}


def test_a_taint_is_read_with_and_without_value() -> None:
    assert taint("aws.amazon.com/neuron=true:NoSchedule") == {"key": "aws.amazon.com/neuron", "value": "true", "effect": "NoSchedule"}
    assert taint("spot:NoExecute") == {"key": "spot", "value": "", "effect": "NoExecute"}


@pytest.mark.parametrize("text", ["", "key", "key=value", "key=value:Never", ":NoSchedule"])
def test_a_malformed_taint_is_refused_with_the_correct_form(text: str) -> None:
    with pytest.raises(MachineError, match="key=value:NoSchedule"):
        taint(text)


def test_the_one_kubernetes_version_is_accepted_with_and_without_its_patch_number() -> None:
    controlplane.check_version("1.35")
    controlplane.check_version(settings.KUBERNETES_VERSION)


@pytest.mark.parametrize("version", ["1.34", "1.36", "1.3", ""])
def test_another_kubernetes_version_is_refused_with_the_available_one(version: str) -> None:
    with pytest.raises(MachineError, match=r"only 1\.35"):
        controlplane.check_version(version)


def test_a_kubeconfig_is_private_and_contains_paths_of_keys_not_keys(tmp_path: Path) -> None:
    path = kubeconfig.write(tmp_path / "k", tmp_path / "ca.crt", Pair(tmp_path / "c.crt", tmp_path / "c.key"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["users"][0]["user"] == {
        "client-certificate": f"{tmp_path}/c.crt",
        "client-key": f"{tmp_path}/c.key",
    }


def test_kubelet_sees_the_kernel_parameters_that_it_wants(tmp_path: Path) -> None:
    commands = filesystem.kernel_files(tmp_path)
    shown = {command[-1]: Path(command[2]).read_text().strip() for command in commands}
    assert shown["/proc/sys/vm/overcommit_memory"] == "1"
    assert len(shown) == len(filesystem.KERNEL)


@pytest.mark.parametrize(("chips", "cores", "files"), [(0, 0, {}), (1, 2, {"neuron0": "2"}), (2, 16, {"neuron0": "8", "neuron1": "8"})])
def test_the_device_plugin_sees_a_file_per_chip_with_its_number_of_cores(
    tmp_path: Path, chips: int, cores: int, files: dict[str, str]
) -> None:
    commands = filesystem.chip_files(tmp_path, chips, cores)
    shown = Path(commands[-1][2])
    assert {file.name: file.read_text().strip() for file in shown.iterdir()} == files
    assert commands[-1][-1] == filesystem.CHIPS
