"""Kubeconfig files of the components: their client certificates and the API server's address. JSON, which is YAML as well."""

from __future__ import annotations

import json
from pathlib import Path

from localcloud import settings
from localcloud.files import write_private
from localcloud.machine.pki import Pair


def write(path: Path, ca: Path, client: Pair) -> Path:
    """Write a kubeconfig that uses this client certificate at the cluster's API server; return its path."""
    user = {"client-certificate": str(client.certificate), "client-key": str(client.key)}
    return write_private(path, _config({"server": settings.API_SERVER_URL, "certificate-authority": str(ca)}, user))


def write_webhook(path: Path, url: str) -> Path:
    """Write a kubeconfig that gives the API server the URL of a webhook; return its path."""
    return write_private(path, _config({"server": url}, {}))


def _config(cluster: dict[str, str], user: dict[str, str]) -> str:
    name = "leeward"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return json.dumps(config, indent=1)
