"""kubectl for the embedded EKS, the way `aws eks update-kubeconfig` does it. Needs the locked environment.

`python -m scripts.installed.eks kubeconfig FOLDER` (what `localcloud env --json` prints on stdin) writes FOLDER/aws-config
and FOLDER/kubeconfig; `python -m scripts.installed.eks token CLUSTER` is what the kubeconfig calls.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.session

from blocks import eks_token
from scripts.support.paths import ROOT

PROFILE = "leeward"
TOKEN_LIVES = timedelta(minutes=14)
"""EKS accepts a token for 15 minutes."""


def aws_config(endpoint: dict[str, Any]) -> str:
    """An AWS configuration whose profile acts as the pipeline's role on the embedded endpoint."""
    where = f"region = {endpoint['region']}\nendpoint_url = {endpoint['endpoint_url']}\n"
    return (
        f"[profile {PROFILE}]\nrole_arn = {endpoint['role_arn']}\nsource_profile = {PROFILE}-user\n{where}\n"
        f"[profile {PROFILE}-user]\naws_access_key_id = {endpoint['access_key_id']}\n"
        f"aws_secret_access_key = {endpoint['secret_access_key']}\n{where}"
    )


def kubeconfig(cluster: dict[str, Any], config_file: Path) -> str:
    """A kubeconfig, as JSON, for what `describe_cluster` says."""
    name = cluster["name"]
    environment = {"AWS_CONFIG_FILE": config_file, "PYTHONPATH": ROOT}
    ask = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-m", "scripts.installed.eks", "token", name],
        "env": [{"name": key, "value": str(value)} for key, value in environment.items()],
        "interactiveMode": "Never",
    }
    server = {"server": cluster["endpoint"], "certificate-authority-data": cluster["certificateAuthority"]["data"]}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": server}],
        "users": [{"name": name, "user": {"exec": ask}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return json.dumps(config, indent=1)


def fresh_token(cluster: str, profile: str = PROFILE) -> str:
    """A bearer token for the cluster, signed as that profile and for the endpoint it names, whatever AWS_* say in the shell."""
    # Named here, and not by AWS_PROFILE, the profile comes before a shell's AWS_ACCESS_KEY_ID.
    session = botocore.session.Session(profile=profile)
    where = session.get_scoped_config()
    return eks_token.token(session, cluster, where["region"], where.get("endpoint_url"))


def credential(bearer: str, now: datetime) -> str:
    """What kubectl reads from an exec plugin."""
    status = {"token": bearer, "expirationTimestamp": (now + TOKEN_LIVES).strftime("%Y-%m-%dT%H:%M:%SZ")}
    return json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status})


def write_all(folder: Path, endpoint: dict[str, Any]) -> Path:
    """Both files stand in `folder`, for its owner alone; returns the kubeconfig. Raises LookupError when no cluster exists."""
    config_file = write_private(folder / "aws-config", aws_config(endpoint))
    os.environ.update(AWS_CONFIG_FILE=str(config_file), AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    eks = boto3.Session(profile_name=PROFILE).client("eks")
    names = eks.list_clusters()["clusters"]
    if not names:
        raise LookupError("the embedded cloud has no EKS cluster")
    return write_private(folder / "kubeconfig", kubeconfig(eks.describe_cluster(name=names[0])["cluster"], config_file))


def write_private(path: Path, text: str) -> Path:
    """`path` holds `text` and only its owner can read it."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    return path


def main(arguments: list[str]) -> int:
    """See the module's text; exit code 1 with the reason."""
    what, argument = arguments
    try:
        if what == "kubeconfig":
            print(write_all(Path(argument), json.load(sys.stdin)))
        else:
            print(credential(fresh_token(argument), datetime.now(UTC)))
    except LookupError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
