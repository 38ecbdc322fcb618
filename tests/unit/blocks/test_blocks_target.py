"""Targets: the data that make one, and the data that are refused."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from blocks import register
from blocks.addresses import is_private
from blocks.parameters import Service
from blocks.register import TargetData, image_source, main, read
from blocks.target import NoSuchTarget, Target

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


def test_the_output_of_localcloud_env_is_a_valid_target() -> None:
    target = made(**CLOUD)
    assert target.provisioned
    assert (target.region, target.endpoint_url) == ("us-west-2", "http://10.213.0.2:4566")
    assert target.images.plain_http == ("10.213.0.3:5000",)
    assert not target.auto_approve


def test_the_text_of_a_target_does_not_contain_its_secret() -> None:
    assert "very-secret" not in repr(made(**CLOUD))


def test_the_engine_comes_from_the_target_unless_the_service_names_one() -> None:
    here, aws = made(**CLOUD), made(access_key_id="a", secret_access_key="b")
    assert (here.engine_of(Service()), aws.engine_of(Service())) == ("cpu", "neuron")
    assert aws.engine_of(Service(engine="cpu")) == "cpu"
    with pytest.raises(ValidationError):
        made(**{**CLOUD, "engine": "gpu"})


def test_the_api_key_is_stored_and_not_shown() -> None:
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


def test_an_endpoint_in_a_private_network_is_reached_without_a_proxy() -> None:
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


def test_a_target_with_the_name_of_an_eks_cluster_is_not_provisioned() -> None:
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


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"region": "us-west-9"}, "no region with EKS; those are .*us-west-2"),
        ({"region": ""}, "region: it is empty"),
        ({"role_arn": "leeward"}, "role_arn: .*arn:aws:iam::"),
        ({"endpoint_url": "10.213.0.2:4566"}, "endpoint_url: .*http://"),
        ({"registry": "http://10.213.0.3:5000"}, "registry: "),
        ({"access_key_id": "AKIDEXAMPLE"}, "secret_access_key go together"),
        ({"session_token": "very-secret"}, "goes with its access_key_id"),
        ({"context": "here"}, "context .* kubeconfig"),
        ({"kubeconfig": "/nowhere/config"}, "kubeconfig: there is no file /nowhere/config"),
        ({"kubeconfig": "KUBECONFIG", "region": "us-west-2"}, "without AWS: leave out region"),
        ({"kubeconfig": "KUBECONFIG", "cluster": "prod"}, "not both"),
        ({"kubeconfig": "KUBECONFIG", "context": "there"}, "'there' not found"),
        ({"kubeconfig": "TEXT"}, "kubeconfig: .* cannot be read"),
        ({"base_image": "TEXT"}, "base_image: .* neither"),
        ({"redis": {"address": "redis.example", "auth_token": "very-secret", "prot": 6380}}, r"redis\.prot: "),
        ({"redis": {"address": "", "auth_token": "very-secret"}}, r"redis\.address: "),
        ({"api_key": ""}, "api_key: it is empty"),
        ({"api_key": "very-secret\n"}, "api_key: ASCII"),
        ({"hf_token": "very secret"}, "hf_token: ASCII"),
    ],
    ids=str,
)
def test_invalid_target_data_are_refused_with_a_message_before_the_server_is_contacted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: dict[str, Any], says: str
) -> None:
    for name, text in (("KUBECONFIG", json.dumps(KUBECONFIG)), ("TEXT", "[")):
        (tmp_path / name).write_text(text)
    here = {key: str(tmp_path / value) if value in ("KUBECONFIG", "TEXT") else value for key, value in wrong.items()}
    (tmp_path / "target.json").write_text(json.dumps(here))
    assert main(["somewhere", "--from", str(tmp_path / "target.json")]) == 2
    said = capsys.readouterr().err
    assert re.search(says, said)
    assert "very" not in said
    assert "pydantic" not in said


def test_a_server_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse_connection(*_: Any, **__: Any) -> None:
        raise httpx.ConnectError("Connection refused")

    (tmp_path / "target.json").write_text("{}")
    monkeypatch.setattr(register, "register", refuse_connection)
    assert main(["somewhere", "--from", str(tmp_path / "target.json")]) == 1
    assert "PREFECT_API_URL" in capsys.readouterr().err


def test_an_invalid_block_saved_by_prefects_form_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def saved(_: str) -> Target:
        try:
            return Target.model_validate({"api_key": "very secret"})
        except ValidationError as error:
            raise RuntimeError("Unable to load it") from error  # as Prefect does

    monkeypatch.setattr(Target, "load", saved)
    with pytest.raises(NoSuchTarget, match=r"'somewhere' cannot be used: .*save it again") as refused:
        Target.named("somewhere")
    assert "very secret" not in str(refused.value)


def test_prefect_marks_every_secret_of_a_target_as_secret() -> None:
    assert {"aws.aws_secret_access_key", "redis.auth_token", "hf_token", "api_key"} <= set(Target.model_json_schema()["secret_fields"])


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_input_that_is_no_json_object_is_refused_with_a_message(tmp_path: Path, text: str) -> None:
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
