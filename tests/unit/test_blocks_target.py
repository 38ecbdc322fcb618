"""Targets: what they are made from, and what they refuse."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from blocks.addresses import is_private
from blocks.parameters import Service
from blocks.register import TargetData, image_source, main, read
from blocks.target import Target

CLOUD = {
    "endpoint_url": "http://10.213.0.2:4566",
    "region": "us-west-2",
    "access_key_id": "AKIDEXAMPLE",
    "secret_access_key": "very-secret",
    "role_arn": "arn:aws:iam::123456789012:role/leeward-pipeline",
    "redis_ca_pem": "-----BEGIN CERTIFICATE-----",
    "registry": "10.213.0.3:5000",
    "base_image": "",
    "engine": "cpu",
}
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "here",
    "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1"}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
}


def made(**data: Any) -> Target:
    return TargetData.model_validate(data).target()


def archive(path: Path, *names: str) -> str:
    with tarfile.open(path, "w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    return str(path)


def test_the_environment_of_a_cloud_is_a_target_as_it_is() -> None:
    target = made(**CLOUD)
    assert target.provisioned
    assert (target.region, target.endpoint_url) == ("us-west-2", "http://10.213.0.2:4566")
    assert target.images.plain_http == ("10.213.0.3:5000",)
    assert not target.auto_approve


def test_every_key_that_the_cloud_prints_is_known() -> None:
    assert set(CLOUD) <= set(TargetData.model_fields)


def test_a_target_does_not_show_its_secret() -> None:
    assert "very-secret" not in repr(made(**CLOUD))


def test_a_target_says_what_computes_there_and_a_service_may_say_otherwise() -> None:
    here, aws = made(**CLOUD), made(access_key_id="a", secret_access_key="b")
    assert (here.engine_of(Service()), aws.engine_of(Service())) == ("cpu", "neuron")
    assert aws.engine_of(Service(engine="cpu")) == "cpu"
    with pytest.raises(ValidationError):
        made(**{**CLOUD, "engine": "gpu"})


def test_the_key_of_the_api_is_kept_and_not_shown() -> None:
    target = made(**CLOUD, api_key="sesame")
    assert target.api_key is not None
    assert target.api_key.get_secret_value() == "sesame"
    assert "sesame" not in repr(target)
    assert made(**CLOUD).api_key is None


def test_terraform_gets_credentials_region_and_endpoint_by_environment() -> None:
    environment = made(**{**CLOUD, "role_arn": ""}).aws_environment()
    assert environment == {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_REGION": "us-west-2",
        "AWS_DEFAULT_REGION": "us-west-2",
        "AWS_ENDPOINT_URL": "http://10.213.0.2:4566",
    }


def test_aws_itself_has_no_endpoint_in_the_environment() -> None:
    environment = made(access_key_id="a", secret_access_key="b", region="eu-central-1").aws_environment()
    assert "AWS_ENDPOINT_URL" not in environment
    assert environment["AWS_REGION"] == "eu-central-1"


def test_an_endpoint_in_a_private_network_is_not_asked_through_a_proxy() -> None:
    assert made(**{**CLOUD, "role_arn": ""}).client("sts").meta.config.proxies == {}
    assert is_private("https://10.213.0.10")
    assert not is_private("https://8.8.8.8/x")
    assert not is_private("https://sts.us-west-2.amazonaws.com")


def test_a_kubeconfig_is_a_target_that_is_not_provisioned(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(json.dumps(KUBECONFIG))
    target = made(kubeconfig=str(file), context="here")
    assert not target.provisioned
    assert target.aws is None


def test_an_eks_cluster_that_is_there_is_not_provisioned() -> None:
    assert not made(**CLOUD, cluster="prod").provisioned


def test_a_target_without_any_cluster_is_refused() -> None:
    with pytest.raises(ValidationError, match="needs aws"):
        Target()


def test_an_unknown_key_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "env.json"
    file.write_text(json.dumps({**CLOUD, "secret_acces_key": "very-secret"}))
    assert main(["somewhere", "--from", str(file)]) == 2
    said = capsys.readouterr().err
    assert "secret_acces_key" in said
    assert "very-secret" not in said


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_what_is_no_json_object_is_refused_in_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(ValueError, match=r"JSON|dictionary|object"):
        read(str(tmp_path / "x"))


def test_a_base_image_in_a_file_gets_the_transport_that_reads_it(tmp_path: Path) -> None:
    oci, docker = archive(tmp_path / "oci.tar", "oci-layout", "index.json"), archive(tmp_path / "docker.tar", "manifest.json")
    assert image_source(oci) == f"oci-archive:{oci}"
    assert image_source(docker) == f"docker-archive:{docker}"
    assert image_source("docker.io/library/debian:trixie") == "docker.io/library/debian:trixie"


def test_a_base_image_that_is_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither"):
        image_source(archive(tmp_path / "x.tar", "etc/passwd"))
    with pytest.raises(ValueError, match="no file"):
        image_source(str(tmp_path / "missing.tar"))
