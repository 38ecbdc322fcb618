"""Fixed values agree with each other and with the version pins that they repeat."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations
from pathlib import Path

import pytest

from localcloud import paths, settings
from localcloud.machine import filesystem


@pytest.mark.parametrize(
    ("module", "dependency", "version"),
    [
        ("kubernetes", "k8s.io/kubernetes", settings.KUBERNETES_VERSION),
        ("kuberay", "github.com/ray-project/kuberay/ray-operator", settings.KUBERAY_VERSION),
        ("coredns", "github.com/coredns/coredns", settings.COREDNS_VERSION),
        ("karpenter", "github.com/aws/karpenter-provider-aws", settings.KARPENTER_VERSION),
        ("neuron-device-plugin", "k8s.io/kubelet", f"0.{settings.KUBERNETES_VERSION.partition('.')[2]}"),
    ],
)
def test_a_version_equals_the_one_that_its_go_module_pins(module: str, dependency: str, version: str) -> None:
    text = (paths.GO_DIR / module / "go.mod").read_text()
    assert re.findall(rf"^\s*(?:require )?{re.escape(dependency)} v(\S+)", text, re.MULTILINE) == [version]


def test_the_oldest_accepted_go_is_the_newest_that_a_module_requires() -> None:
    required = [re.search(r"^go (\d+(?:\.\d+)+)$", file.read_text(), re.MULTILINE) for file in paths.GO_DIR.glob("*/go.mod")]
    assert max(tuple(map(int, found[1].split("."))) for found in required if found) == settings.GO_MINIMUM


def test_the_device_plugin_reads_the_folder_in_which_nodes_list_their_chips() -> None:
    text = (paths.GO_DIR / "neuron-device-plugin" / "main.go").read_text()
    assert f'"{filesystem.CHIPS}/neuron*"' in text


def test_every_address_is_in_its_network_and_used_once() -> None:
    single = [settings.GATEWAY, settings.AWS_HOST, settings.REGISTRY_HOST, settings.API_SERVER_HOST]
    hosts = [*single, *settings.REDIS_HOSTS, *settings.NODE_HOSTS]
    assert len(set(hosts)) == len(hosts)
    assert all(IPv4Address(host) in IPv4Network(settings.NETWORK) for host in hosts)
    assert IPv4Address(settings.CLUSTER_DNS) in IPv4Network(settings.SERVICE_NETWORK)
    assert {IPv4Address(settings.UPLINK_HOST), IPv4Address(settings.UPLINK_CLOUD)} == set(IPv4Network(settings.UPLINK_NETWORK).hosts())


def test_the_networks_do_not_overlap_and_are_all_claimed() -> None:
    networks = [IPv4Network(n) for n in (settings.NETWORK, settings.UPLINK_NETWORK, settings.POD_NETWORK, settings.SERVICE_NETWORK)]
    assert not any(one.overlaps(other) for one, other in combinations(networks, 2))
    claimed = [IPv4Network(n) for n in settings.CLAIMED_NETWORKS]
    assert all(any(network.subnet_of(ours) for ours in claimed) for network in networks)


def test_the_cache_folder_follows_the_xdg_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert paths.cache_dir() == Path("/somewhere/leeward")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert paths.cache_dir() == Path.home() / ".cache" / "leeward"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert paths.cache_dir() == Path.home() / ".cache" / "leeward"
