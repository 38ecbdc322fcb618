"""kubectl access to the embedded EKS, like that of `aws eks update-kubeconfig`.

`python -m scripts.installed.eks kubeconfig FOLDER`, with the output of `localcloud env --json` on stdin, writes FOLDER/aws-config
and FOLDER/kubeconfig. The kubeconfig's exec plugin is `python -m scripts.installed.eks token CLUSTER`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.session

from blocks import eks_token
from localcloud.files import write_private
from scripts.support.paths import ROOT
from startup import environment

PROFILE = "leeward"
TOKEN_LIVES = timedelta(minutes=14)
"""Time after which kubectl asks for a new token. EKS accepts a token for 15 minutes."""


def aws_config(endpoint: dict[str, Any]) -> str:
    """Return an AWS configuration with a profile that assumes the pipeline's role at the embedded endpoint."""
    target = f"region = {endpoint['region']}\nendpoint_url = {endpoint['endpoint_url']}\n"
    return (
        f"[profile {PROFILE}]\nrole_arn = {endpoint['role_arn']}\nsource_profile = {PROFILE}-user\n{target}\n"
        f"[profile {PROFILE}-user]\naws_access_key_id = {endpoint['access_key_id']}\n"
        f"aws_secret_access_key = {endpoint['secret_access_key']}\n{target}"
    )


def kubeconfig(cluster: dict[str, Any], config_file: Path) -> str:
    """Return a kubeconfig, as JSON, for a cluster as `describe_cluster` returns it."""
    name = cluster["name"]
    variables = {"AWS_CONFIG_FILE": config_file, "PYTHONPATH": ROOT}
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-m", "scripts.installed.eks", "token", name],
        "env": [{"name": key, "value": str(value)} for key, value in variables.items()],
        "interactiveMode": "Never",
    }
    server = {"server": cluster["endpoint"], "certificate-authority-data": cluster["certificateAuthority"]["data"]}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": server}],
        "users": [{"name": name, "user": {"exec": plugin}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return json.dumps(config, indent=1)


def fresh_token(cluster: str, profile: str = PROFILE) -> str:
    """Return a bearer token for the cluster, signed with the profile for its endpoint; the shell's AWS_* variables do not matter."""
    with _own_environment():
        # A profile that is named here, unlike AWS_PROFILE, takes precedence over the shell's AWS_ACCESS_KEY_ID.
        session = botocore.session.Session(profile=profile)
        config = session.get_scoped_config()
        return eks_token.token(session, cluster, config["region"], config.get("endpoint_url"))


@contextmanager
def _own_environment() -> Iterator[None]:
    """Remove the shell's settings of AWS and its proxies for this cloud while the block runs; AWS_CONFIG_FILE stays."""
    before = dict(os.environ)
    ours = {"AWS_CONFIG_FILE": before.get("AWS_CONFIG_FILE", os.devnull), "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    os.environ.clear()
    os.environ.update(environment.own(before) | ours)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def credential(bearer: str, now: datetime) -> str:
    """Return the ExecCredential, as JSON, that kubectl reads from an exec plugin."""
    status = {"token": bearer, "expirationTimestamp": (now + TOKEN_LIVES).strftime("%Y-%m-%dT%H:%M:%SZ")}
    return json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status})


def write_config_files(folder: Path, endpoint: dict[str, Any]) -> Path:
    """Write both files to `folder`, readable by their owner only; return the kubeconfig. Raises LookupError without a cluster."""
    config_file = write_private(folder / "aws-config", aws_config(endpoint))
    os.environ.update(AWS_CONFIG_FILE=str(config_file), AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    eks = boto3.Session(profile_name=PROFILE).client("eks")
    names = eks.list_clusters()["clusters"]
    if not names:
        raise LookupError("the embedded cloud has no EKS cluster")
    return write_private(folder / "kubeconfig", kubeconfig(eks.describe_cluster(name=names[0])["cluster"], config_file))


def main(arguments: list[str]) -> int:
    """Run the command that the module describes; print the reason and return 1 when it fails."""
    what, argument = arguments
    try:
        if what == "kubeconfig":
            print(write_config_files(Path(argument), json.load(sys.stdin)))
        else:
            print(credential(fresh_token(argument), datetime.now(UTC)))
    except LookupError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
