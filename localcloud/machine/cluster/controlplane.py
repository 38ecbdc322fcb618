"""A cluster's control plane: etcd, API server, controller manager and scheduler, hidden from the nodes as on EKS.

There are no fixed tokens: components and nodes have client certificates of the cluster's own authority,
people and pipelines have EKS tokens, which a webhook on the AWS endpoint reviews.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from localcloud import settings
from localcloud.machine import filesystem, host_proxy, network, pki
from localcloud.machine.box import Box, Service, runner_command
from localcloud.machine.cluster import kubeconfig, pod_webhook
from localcloud.machine.cluster.kubeapi import KubeApi
from localcloud.machine.interface import ControlPlane, MachineError

NETNS = "control-plane"
READY_WITHIN = 90.0
"""Seconds until the API server must be ready: 4 on an idle machine, more on one that builds images at the same time."""
_ETCD = "http://127.0.0.1:2379"
_KUBELET_CLIENT = "kube-apiserver-kubelet-client"
_TOKEN_CACHE = "5s"
_RBAC = "rbac.authorization.k8s.io"


def check_version(version: str) -> None:
    """Raise MachineError unless it is the one minor version that this cloud is built from."""
    minor = settings.KUBERNETES_VERSION.rpartition(".")[0]
    if version != minor and version != settings.KUBERNETES_VERSION:
        raise MachineError(f"Kubernetes {version} is not available here, only {minor} (this cloud runs {settings.KUBERNETES_VERSION})")


def create(name: str, folder: Path, binaries: Path, webhook_ca_pem: str) -> Cluster:
    """Make a control plane; return it when it answers. If that fails, nothing of it is left."""
    cluster = Cluster(name, folder, binaries, webhook_ca_pem)
    try:
        cluster.start()
    except Exception:
        with suppress(MachineError):  # what went wrong first is what matters
            cluster.stop()
        raise
    return cluster


class Cluster:
    """A running control plane with its certificates."""

    def __init__(self, name: str, folder: Path, binaries: Path, webhook_ca_pem: str) -> None:
        """Make the certificates; `start` starts the processes.

        `binaries` is the folder of the components, `webhook_ca_pem` the authority of the webhook that puts credentials into pods.
        """
        self.name = name
        self.folder = folder
        self.binaries = binaries
        self.logs = folder.parent / "log"
        self.pki = folder / "pki"
        shutil.rmtree(folder, ignore_errors=True)
        self.authority = pki.Authority(self.pki, "ca")
        machine = self.authority.client("machine", "leeward:machine", ["system:masters"])
        self.api = KubeApi(settings.API_SERVER_HOST, settings.API_SERVER_PORT, self.authority.certificate, machine)
        self._webhook_ca_pem = webhook_ca_pem
        self._boxes: list[Box] = []

    @property
    def control_plane(self) -> ControlPlane:
        """Endpoint and authority, as describe_cluster returns them."""
        return ControlPlane(settings.API_SERVER_URL, self.authority.pem)

    def start(self) -> None:
        """Start all components; return when the API server is ready and services can be reached from the cloud's root namespace."""
        network.attach(NETNS, settings.API_SERVER_HOST)
        box = self._run("api", self._service("etcd", self._etcd()), self._service("kube-apiserver", self._api_server()))
        box.wait_until("the API server is ready", self.api.readiness_problem, within=READY_WITHIN)
        self.api.apply(f"/apis/{_RBAC}/v1/clusterrolebindings/{_KUBELET_CLIENT}", _kubelet_access())
        self.api.apply(pod_webhook.PATH, pod_webhook.configuration(self.name, self._webhook_ca_pem))
        # Not earlier: without an API server they would end at once, and be started again a second later.
        managers = {"kube-controller-manager": self._controller_manager(), "kube-scheduler": self._component("kube-scheduler")}
        self._run("managers", *(self._service(name, flags) for name, flags in managers.items()))
        log, folder = self.logs / "kube-proxy-gateway.log", self.folder / "gateway"
        self._boxes.append(host_proxy.start(self.api, self.binaries, self.proxy_kubeconfig(), folder, log))

    def stop(self) -> None:
        """Remove processes, data, certificates and the rules of the cluster's services in the root namespace."""
        for box in reversed(self._boxes):
            box.kill()
        host_proxy.remove_rules(self.binaries, self.logs / "kube-proxy-gateway.log")
        network.detach(NETNS, settings.API_SERVER_HOST)
        shutil.rmtree(self.folder, ignore_errors=True)

    def proxy_kubeconfig(self) -> Path:
        """Return the kubeconfig of kube-proxy, which is the same on every node, as on EKS."""
        path = self.pki / "kube-proxy.kubeconfig"
        if not path.exists():
            kubeconfig.write(path, self.authority.certificate, self.authority.client("kube-proxy", "system:kube-proxy"))
        return path

    def _run(self, name: str, *services: Service) -> Box:
        folder = self.folder / name
        folder.mkdir()
        argv = runner_command(folder, services, setup=filesystem.read_only())
        box = Box(f"control plane ({name})", argv, log=self.logs / f"control-plane-{name}.log", netns=NETNS)
        self._boxes.append(box)
        return box

    def _service(self, name: str, flags: dict[str, str]) -> Service:
        argv = [str(self.binaries / name), *(f"--{flag}={value}" for flag, value in flags.items())]
        return Service(name, tuple(argv), str(self.logs / f"{name}.log"))

    def _etcd(self) -> dict[str, str]:
        peer = "http://127.0.0.1:2380"
        return {
            "data-dir": str(self.folder / "etcd"),
            "listen-client-urls": _ETCD,
            "advertise-client-urls": _ETCD,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "log-level": "warn",
            # The data is deleted with the cloud, so it need not be on disk before a write is acknowledged.
            "unsafe-no-fsync": "true",
        }

    def _api_server(self) -> dict[str, str]:
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{settings.CLUSTER_DOMAIN}")
        first_service = settings.SERVICE_NETWORK.replace(".0.0/16", ".0.1")
        serving = self.authority.server("apiserver", "kube-apiserver", [settings.API_SERVER_HOST, first_service, "127.0.0.1", *names])
        kubelet = self.authority.client("apiserver-kubelet-client", _KUBELET_CLIENT)
        front = pki.Authority(self.pki, "front-proxy-ca")
        aggregation = front.client("front-proxy-client", "front-proxy-client")
        tokens = pki.signing_key(self.pki)
        review = f"{settings.AWS_ENDPOINT_URL}/localcloud/token-review/{self.name}"
        return {
            "etcd-servers": _ETCD,
            "advertise-address": settings.API_SERVER_HOST,
            "secure-port": str(settings.API_SERVER_PORT),
            "service-cluster-ip-range": settings.SERVICE_NETWORK,
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "allow-privileged": "true",
            "client-ca-file": str(self.authority.certificate),
            "tls-cert-file": str(serving.certificate),
            "tls-private-key-file": str(serving.key),
            "kubelet-certificate-authority": str(self.authority.certificate),
            "kubelet-client-certificate": str(kubelet.certificate),
            "kubelet-client-key": str(kubelet.key),
            "kubelet-preferred-address-types": "InternalIP",
            "requestheader-client-ca-file": str(front.certificate),
            "requestheader-allowed-names": "front-proxy-client",
            "requestheader-username-headers": "X-Remote-User",
            "requestheader-group-headers": "X-Remote-Group",
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "proxy-client-cert-file": str(aggregation.certificate),
            "proxy-client-key-file": str(aggregation.key),
            "enable-aggregator-routing": "true",
            "service-account-issuer": f"https://kubernetes.default.svc.{settings.CLUSTER_DOMAIN}",
            "service-account-key-file": str(tokens.certificate),
            "service-account-signing-key-file": str(tokens.key),
            "authentication-token-webhook-config-file": str(kubeconfig.write_webhook(self.pki / "token-review.kubeconfig", review)),
            "authentication-token-webhook-version": "v1",
            "authentication-token-webhook-cache-ttl": _TOKEN_CACHE,
        }

    def _component(self, name: str) -> dict[str, str]:
        """Return the flags of a component with a user of its own. It is the only one of its kind, so it needs no leader election."""
        client = self.authority.client(name, f"system:{name}")
        config = kubeconfig.write(self.pki / f"{name}.kubeconfig", self.authority.certificate, client)
        paths = {f: str(config) for f in ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")}
        return {**paths, "bind-address": "127.0.0.1", "leader-elect": "false"}

    def _controller_manager(self) -> dict[str, str]:
        return {
            **self._component("kube-controller-manager"),
            "cluster-name": self.name,
            "use-service-account-credentials": "true",
            "service-account-private-key-file": str(self.pki / "sa.key"),
            "root-ca-file": str(self.authority.certificate),
            "cluster-cidr": settings.POD_NETWORK,
            "allocate-node-cidrs": "false",
            "flex-volume-plugin-dir": str(self.folder / "volume-plugins"),
        }


def _kubelet_access() -> dict[str, object]:
    """Return a binding that lets the API server use every kubelet's API: logs, exec, port-forward."""
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": _KUBELET_CLIENT},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "system:kubelet-api-admin"},
        "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": _KUBELET_CLIENT}],
    }
