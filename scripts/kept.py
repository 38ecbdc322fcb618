"""What `./demo --keep` leaves up, at addresses on this machine's loopback."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.cloud import CloudError, Endpoint, built
from scripts.services.forward import Forward
from scripts.services.services import Services, free_port
from scripts.support.paths import PYTHON, ROOT, RUN

SERVICES = {
    "Ray dashboard": (8265, "{name}-head-svc.{namespace}.svc.cluster.local"),
    "Model": (8000, "{name}-serve-svc.{namespace}.svc.cluster.local"),
    "Chat": (7860, "chat.chat.svc.cluster.local"),
}
"""Title → port and name in the cluster. A name, because a service that is deployed again has another address."""
DEPLOYED = {"name": "mistral", "namespace": "mistral", "chat": True}
"""What blocks/parameters.py deploys where nothing else is said."""
PATHS = {"Model": "/infer?sentence=Hello"}


@dataclass(frozen=True)
class KeptUp:
    """The loopback ports that lead into the cluster."""

    ports: dict[str, int]
    hosts: dict[str, str]

    @classmethod
    def choose(cls, service: Mapping[str, Any]) -> KeptUp:
        """The usual port of each thing that is deployed where it is free, else another. `service`: the run's parameter."""
        told = {**DEPLOYED, **service}
        up = {title: port for title, (port, _) in SERVICES.items() if told["chat"] or title != "Chat"}
        return cls({title: free_port(port) for title, port in up.items()}, {title: SERVICES[title][1].format(**told) for title in up})

    @property
    def forwards(self) -> list[Forward]:
        """What the forwarders carry."""
        return [Forward(self.ports[title], host, SERVICES[title][0]) for title, host in self.hosts.items()]

    def tell(self, services: Services, endpoint: Endpoint) -> None:
        """Prints every address; kubeconfig and AWS configuration stand in the run folder (0600)."""
        print("Everything is left up. On this machine's loopback:")
        _line("Prefect UI", services.api_url.removesuffix("/api"))
        for title, port in self.ports.items():
            _line(title, f"http://127.0.0.1:{port}{PATHS.get(title, '/')}")
        try:
            _line("Kubernetes", f"export KUBECONFIG={shlex.quote(str(write_kubeconfig(endpoint)))}")
            _line("", f"{shlex.quote(str(link_kubectl()))} get pods -A")
            _line("AWS", f"export AWS_CONFIG_FILE={shlex.quote(str(RUN / 'aws-config'))} AWS_PROFILE=leeward")
        except CloudError as error:
            _line("Kubernetes", str(error))
        _line("Take it down", "./demo --down")


def _line(title: str, text: str) -> None:
    print(f"  {title:<14} {text}", flush=True)


def write_kubeconfig(endpoint: Endpoint) -> Path:
    """A kubeconfig that asks for an EKS token whenever it needs one; raises CloudError when there is no cluster."""
    command = [str(PYTHON), "-m", "scripts.installed.eks", "kubeconfig", str(RUN)]
    done = subprocess.run(command, input=json.dumps(endpoint), text=True, capture_output=True, cwd=ROOT, timeout=60, check=False)
    if done.returncode:
        raise CloudError(f"no kubeconfig: {done.stderr.strip()[-300:]}")
    return Path(done.stdout.strip())


def link_kubectl() -> Path:
    """The kubectl that the embedded cloud was built with, under that name; raises CloudError when it is not built."""
    link = RUN / "kubectl"
    program = built("kubernetes")
    link.unlink(missing_ok=True)
    link.symlink_to(program)
    return link
