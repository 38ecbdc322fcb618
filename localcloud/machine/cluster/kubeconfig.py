"""Kubeconfig files of the components: who they are and where the API server is. JSON, which is YAML as well."""

from __future__ import annotations

import json
from pathlib import Path

from localcloud import settings
from localcloud.machine.box import write_private
from localcloud.machine.pki import Pair


def write(path: Path, ca: Path, client: Pair) -> Path:
    """The file makes its reader the holder of this client certificate at the cluster's API server."""
    user = {"client-certificate": str(client.certificate), "client-key": str(client.key)}
    return write_private(path, _config({"server": settings.API_SERVER_URL, "certificate-authority": str(ca)}, user))


def write_webhook(path: Path, url: str) -> Path:
    """The file tells the API server where a webhook answers."""
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
