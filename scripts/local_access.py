"""Access to what `./demo --keep` leaves running: loopback ports, a kubeconfig, kubectl."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcloud.build.artifacts import artifacts
from localcloud.build.command import BuildError
from scripts.cloud import CloudError, Endpoint
from scripts.services.services import Forward, Services, free_port
from scripts.support.paths import PREFECT_HOME, PYTHON, RUN
from scripts.support.processes import output_of

SERVICES = {
    "Ray dashboard": (8265, "{name}-head-svc.{namespace}.svc.cluster.local"),
    "Model": (8000, "{name}-serve-svc.{namespace}.svc.cluster.local"),
    "Chat": (7860, "chat.chat.svc.cluster.local"),
}
"""Title → port and DNS name in the cluster. A name, because a service that is deployed again gets another address."""
DEPLOYED = {"name": "mistral", "namespace": "mistral", "chat": True}
"""The defaults of blocks/parameters.py for the service."""
OVERRIDING = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"),
    *("AWS_ENDPOINT_URL", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"),
)
"""Variables of a shell that win over a profile of AWS."""
PATHS = {"Model": "/infer?sentence=Hello"}


@dataclass(frozen=True)
class LocalAccess:
    """Loopback ports that are forwarded into the cluster."""

    ports: dict[str, int]
    hosts: dict[str, str]
    namespace: str
    """Namespace of the service, in which Ray's token is."""

    @classmethod
    def choose(cls, service: Mapping[str, Any]) -> LocalAccess:
        """Choose a port for everything that is deployed: its usual one if free, else another. `service`: the run's parameter."""
        settings = {**DEPLOYED, **service}
        up = {title: port for title, (port, _) in SERVICES.items() if settings["chat"] or title != "Chat"}
        hosts = {title: SERVICES[title][1].format(**settings) for title in up}
        return cls({title: free_port(port) for title, port in up.items()}, hosts, settings["namespace"])

    @property
    def forwards(self) -> list[Forward]:
        """The forwards to start, one per port."""
        return [Forward(self.ports[title], host, SERVICES[title][0]) for title, host in self.hosts.items()]

    def print_addresses(self, services: Services, endpoint: Endpoint) -> None:
        """Print every address; write kubeconfig and AWS configuration to the run folder (mode 0600)."""
        print("Everything is left up. On this machine's loopback:")
        _print_line("Prefect UI", services.api_url.removesuffix("/api"))
        _print_line("Prefect", f"export PREFECT_API_URL={services.api_url} PREFECT_HOME={shlex.quote(str(PREFECT_HOME))}")
        _print_line("", f"{shlex.quote(str(PYTHON.with_name('prefect')))} deployment run status/main -p target=embedded")
        for title, port in self.ports.items():
            _print_line(title, f"http://127.0.0.1:{port}{PATHS.get(title, '/')}")
        try:
            _print_line("Kubernetes", f"export KUBECONFIG={shlex.quote(str(write_kubeconfig(endpoint)))}")
            kubectl = shlex.quote(str(link_kubectl()))
            _print_line("", f"{kubectl} get pods -A")
            _print_line("Delete the head", f"{kubectl} -n {self.namespace} delete pod -l ray.io/node-type=head")
            template = "-o go-template='{{.data.auth_token | base64decode}}'"
            _print_line("Ray's token", f"{kubectl} -n {self.namespace} get secret ray-token {template}")
            _print_line("AWS", f"unset {' '.join(OVERRIDING)}")
            _print_line("", f"export AWS_CONFIG_FILE={shlex.quote(str(RUN / 'aws-config'))} AWS_PROFILE=leeward")
        except (BuildError, CloudError) as error:
            _print_line("Kubernetes", str(error))
        if excepted := os.environ.get("NO_PROXY"):
            _print_line("Behind a proxy", f"export NO_PROXY={excepted} no_proxy={excepted}; unset ALL_PROXY all_proxy")
        _print_line("Take it down", "./demo --down")


def _print_line(title: str, text: str) -> None:
    print(f"  {title:<15} {text}", flush=True)


def write_kubeconfig(endpoint: Endpoint) -> Path:
    """Write a kubeconfig whose exec plugin gets EKS tokens, and return its path; raises CloudError when there is no cluster."""
    command = [str(PYTHON), "-m", "scripts.installed.eks", "kubeconfig", str(RUN)]
    return Path(output_of(command, lambda reason: CloudError(f"no kubeconfig: {reason}"), stdin=json.dumps(endpoint)).strip())


def link_kubectl() -> Path:
    """Link the embedded cloud's Kubernetes binary as `kubectl` and return the link; raises BuildError when it is not built."""
    link = RUN / "kubectl"
    program = artifacts().kubernetes
    link.unlink(missing_ok=True)
    link.symlink_to(program)
    return link
