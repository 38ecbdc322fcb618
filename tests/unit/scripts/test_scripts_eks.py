"""The kubeconfig and the tokens with which kubectl reaches the embedded EKS as it would a real one."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
from botocore.configloader import load_config
from embedded_aws import EmbeddedAws

from localcloud.files import write_private
from scripts.installed import eks

ENDPOINT = {
    "endpoint_url": "http://10.213.0.2:4566", "region": "us-west-2", "role_arn": "arn:aws:iam::123456789012:role/leeward-pipeline",
    "access_key_id": "AKIAEXAMPLE", "secret_access_key": "very-secret",
}  # fmt: skip
CLUSTER = {"name": "leeward", "endpoint": "https://10.213.0.10", "certificateAuthority": {"data": "Q0E="}}


def test_a_token_is_signed_for_the_endpoint_of_the_profile_whatever_the_shell_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = aws_config_of_user(tmp_path)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(user))
    # The environment of a shell after `eval "$(python -m localcloud env)"`.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAANOTHERUSER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:1")
    monkeypatch.setenv("HTTP_PROXY", "http://localhost:1")
    encoded = eks.fresh_token("leeward", "leeward-user").removeprefix("k8s-aws-v1.")
    signed = urlparse(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode())
    assert f"{signed.scheme}://{signed.netloc}" == ENDPOINT["endpoint_url"]
    access_key, _, region, *_ = parse_qs(signed.query)["X-Amz-Credential"][0].split("/")
    assert (access_key, region) == (ENDPOINT["access_key_id"], ENDPOINT["region"])


SHELL = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1",
    "HTTP_PROXY": "http://127.0.0.1:1",
    **{"AWS_ACCESS_KEY_ID": "AKIAANOTHERUSER", "AWS_SECRET_ACCESS_KEY": "another", "AWS_SESSION_TOKEN": "x"},
    **{"AWS_PROFILE": "production", "AWS_REGION": "eu-west-1", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere"},
    "PYTHONSAFEPATH": "1",
}


# Apart from the others, because with it the AWS SDKs do not look at the first two.
@pytest.mark.parametrize("shell", [SHELL, {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}], ids=["all", "ignore"])
def test_the_pipelines_role_is_assumed_at_the_embedded_endpoint_whatever_the_shell_has(
    aws: EmbeddedAws, tmp_path: Path, shell: dict[str, str]
) -> None:
    """The plug-in of the kubeconfig, run as kubectl runs it."""
    first = aws.first
    user = {"access_key_id": first.access_key_id, "secret_access_key": first.secret_access_key, "role_arn": first.role_arn}
    file = write_private(tmp_path / "aws-config", eks.aws_config({**ENDPOINT, **user, "endpoint_url": aws.endpoint.url}))
    plugin = json.loads(eks.kubeconfig(CLUSTER, file))["users"][0]["user"]["exec"]
    variables = {one["name"]: one["value"] for one in plugin["env"]}
    done = subprocess.run(
        [plugin["command"], *plugin["args"]],
        env={**os.environ, **shell, **variables},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout)["status"]["token"].startswith("k8s-aws-v1.")


def aws_config_of_user(folder: Path) -> Path:
    return write_private(folder / "aws-config", eks.aws_config(ENDPOINT))


def test_kubectl_gets_an_expiration_time_before_the_token_really_expires() -> None:
    given = json.loads(eks.credential("t", datetime(2026, 11, 23, 22, 0, tzinfo=UTC)))
    assert given["status"] == {"token": "t", "expirationTimestamp": "2026-11-23T22:14:00Z"}


def test_the_kubeconfig_names_the_cluster_and_holds_no_secret(tmp_path: Path) -> None:
    text = eks.kubeconfig(CLUSTER, tmp_path / "aws-config")
    config = json.loads(text)
    assert config["clusters"][0]["cluster"] == {"server": "https://10.213.0.10", "certificate-authority-data": "Q0E="}
    assert config["users"][0]["user"]["exec"]["args"][-2:] == ["token", "leeward"]
    assert "very-secret" not in text


def test_the_profile_assumes_the_pipelines_role_at_the_embedded_endpoint(tmp_path: Path) -> None:
    path = write_private(tmp_path / "aws-config", eks.aws_config(ENDPOINT))
    assert path.stat().st_mode & 0o777 == 0o600
    read = load_config(str(path))["profiles"]
    assert read["leeward"]["role_arn"] == ENDPOINT["role_arn"]
    assert read[read["leeward"]["source_profile"]]["endpoint_url"] == ENDPOINT["endpoint_url"]
