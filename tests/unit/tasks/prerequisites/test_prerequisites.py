"""What is known to fail a run later is found before anything is made, and all of it at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from embedded_aws import EmbeddedAws

from blocks.aws_session import AwsSession
from blocks.parameters import CoreNodes, Inf2Nodes, Infrastructure, Service
from blocks.register import TargetData
from blocks.target import Target
from localcloud import settings
from localcloud.aws import quotas as embedded
from tasks.prerequisites import check, hub, tools
from tasks.prerequisites.aws import check_credentials, check_kubernetes, check_zones
from tasks.prerequisites.check import PrerequisitesMissing, check_prerequisites, run_checks
from tasks.prerequisites.hub import check_bases, check_model, split_reference
from tasks.prerequisites.quotas import check_quotas, family
from tasks.prerequisites.tools import check_builder, check_programs
from tasks.support import site
from tasks.support.checks import Check

MODEL = "mistralai/Mistral-7B-Instruct-v0.3"


def target(**data: Any) -> Target:
    return TargetData.model_validate({"access_key_id": "a", "secret_access_key": "b", **data}).target()


def programs(folder: Path, *names: str) -> str:
    """Make a PATH on which only these programs are."""
    for name in names:
        file = folder / name
        file.write_text("#!/bin/sh\nexit 0\n")
        file.chmod(0o755)
    return str(folder)


def test_every_missing_program_is_named_with_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", programs(tmp_path, "go"))
    found = check_programs(target(), Infrastructure())
    assert found.result == "bad"
    assert "helm.sh" in found.detail
    assert "terraform" in found.detail
    assert "go.dev" not in found.detail
    managed = Infrastructure(inf2_nodes=Inf2Nodes(provisioner="managed"))
    programs(tmp_path, "terraform")
    assert check_programs(target(), managed).result == "ok", "Helm is for Karpenter alone"
    assert check_programs(target(), Infrastructure()).result == "bad"
    assert check_programs(target(cluster="prod"), Infrastructure()).result == "ok", "nothing is provisioned there"


def test_a_builder_is_needed_unless_the_target_has_a_ready_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_builder(target(), Service()).result == "bad"
    assert check_builder(target(image="r/x@sha256:1"), Service()).result == "ok"


def test_an_image_for_another_architecture_needs_emulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", programs(tmp_path, "buildah"))
    monkeypatch.setattr(tools, "native_platform", lambda: "linux/arm64")
    registered = tmp_path / "qemu-x86_64"
    monkeypatch.setitem(tools.EMULATORS, "linux/amd64", registered)
    found = check_builder(target(), Service())
    assert found.result == "bad"
    assert "linux/amd64" in found.detail
    registered.touch()
    assert check_builder(target(), Service()).result == "ok"
    assert check_builder(target(platform="linux/arm64"), Service()).result == "ok"


class Hub(BaseHTTPRequestHandler):
    """Stands in for the model hub and for a registry: it answers HEAD with the status of the path, and notes the requests."""

    statuses: dict[str, int]
    seen: list[tuple[str, str]]

    def do_HEAD(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization", "")))
        self.send_response(self.statuses.get(self.path, 404))
        self.send_header("Docker-Content-Digest", "sha256:1")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing for a request."""


@pytest.fixture
def stub() -> Iterator[tuple[str, type[Hub]]]:
    handler = type("OneHub", (Hub,), {"statuses": {}, "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()


def test_a_model_of_the_image_needs_nothing() -> None:
    assert check_model(target(engine="cpu"), Service()).result == "ok"
    assert check_model(target(engine="cpu"), Service(model="smollm2")).result == "ok"


def test_an_engine_that_downloads_a_model_needs_a_token(stub: tuple[str, type[Hub]], monkeypatch: pytest.MonkeyPatch) -> None:
    address, handler = stub
    monkeypatch.setenv(hub.HUB_VARIABLE, f"http://{address}/")
    handler.statuses[f"/{MODEL}/resolve/main/config.json"] = 401
    found = check_model(target(), Service())
    assert found.result == "bad"
    assert "hf_token" in found.detail
    monkeypatch.setenv(hub.HUB_VARIABLE, "http://127.0.0.1:1")
    assert check_model(target(), Service()).result == "bad", "nobody says that it is open to all"


def test_a_model_that_everybody_may_download_needs_no_token(stub: tuple[str, type[Hub]], monkeypatch: pytest.MonkeyPatch) -> None:
    address, handler = stub
    monkeypatch.setenv(hub.HUB_VARIABLE, f"http://{address}/")
    handler.statuses["/somebody/tiny/resolve/0123abc/config.json"] = 200
    assert check_model(target(), Service(model="somebody/tiny", revision="0123abc")).result == "ok"
    assert handler.seen == [("/somebody/tiny/resolve/0123abc/config.json", "")]
    assert check_model(target(), Service(model="somebody/tiny")).result == "bad", "it has no branch main"
    handler.statuses["/somebody/tiny/resolve/refs%2Fpr%2F1/config.json"] = 200
    assert check_model(target(), Service(model="somebody/tiny", revision="refs/pr/1")).result == "ok"


@pytest.mark.parametrize(
    ("status", "result"), [(200, "ok"), (307, "ok"), (401, "bad"), (403, "bad"), (404, "bad"), (429, "not checked"), (500, "not checked")]
)
def test_the_hub_is_asked_whether_the_token_opens_the_model(
    stub: tuple[str, type[Hub]], monkeypatch: pytest.MonkeyPatch, status: int, result: str
) -> None:
    address, handler = stub
    path = f"/{MODEL}/resolve/main/config.json"
    handler.statuses[path] = status
    monkeypatch.setenv(hub.HUB_VARIABLE, f"http://{address}/")
    found = check_model(target(hf_token="hf_secret"), Service())
    assert found.result == result
    assert handler.seen == [(path, "Bearer hf_secret")]
    assert "hf_secret" not in found.detail


def test_a_hub_that_does_not_answer_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hub.HUB_VARIABLE, "http://127.0.0.1:1")
    assert check_model(target(hf_token="t"), Service()).result == "not checked"


def test_a_model_in_s3_is_refused_only_if_it_is_not_there(aws: EmbeddedAws) -> None:
    keys = {"access_key_id": aws.first.access_key_id, "secret_access_key": aws.first.secret_access_key}
    there = {"endpoint_url": aws.endpoint.url, "region": settings.REGION, **keys}
    wanted = Service(model="s3://weights/mistral/tuned")
    assert check_model(target(**there), wanted).result == "bad"
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="weights", CreateBucketConfiguration={"LocationConstraint": settings.REGION})
    assert check_model(target(**there), wanted).result == "bad"
    s3.put_object(Bucket="weights", Key="mistral/tuned/config.json", Body=b"{}")
    assert check_model(target(**there), wanted).result == "ok"
    nobody = {**there, "role_arn": aws.role()}
    found = check_model(target(**nobody), wanted)
    assert found.result == "not checked", "the workers have a role of their own"


def test_a_base_image_that_is_not_in_its_registry_is_refused(stub: tuple[str, type[Hub]]) -> None:
    address, handler = stub
    handler.statuses["/v2/bases/debian/manifests/1"] = 200
    here = {"engine": "cpu", "registry": address, "base_image": f"{address}/bases/debian:1"}
    assert check_bases(target(**here), Service()).result == "ok"
    absent = check_bases(target(**here | {"base_image": f"{address}/bases/debian:2"}), Service())
    assert absent.result == "bad"
    assert f"{address}/bases/debian:2" in absent.detail
    handler.statuses["/v2/bases/debian/manifests/3"] = 401
    assert check_bases(target(**here | {"base_image": f"{address}/bases/debian:3"}), Service()).result == "not checked"
    assert check_bases(target(image="r/x@sha256:1"), Service()).result == "ok"


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("debian:trixie", ("registry-1.docker.io", "library/debian", "trixie")),
        ("docker.io/library/python:3.10", ("registry-1.docker.io", "library/python", "3.10")),
        ("public.ecr.aws/neuron/x", ("public.ecr.aws", "neuron/x", "latest")),
        ("r.example:5000/a/b:1@sha256:2", ("r.example:5000", "a/b", "sha256:2")),
    ],
)
def test_an_image_reference_is_split_as_builders_do(reference: str, parts: tuple[str, str, str]) -> None:
    assert split_reference(reference) == parts


class Ending:
    """Credentials whose end the test decides."""

    def __init__(self, aws: EmbeddedAws, end: datetime | str | None) -> None:
        self._aws, self._end = aws, end

    def client(self, service: str, /) -> Any:
        return self._aws.client(service)

    def new_credentials_end(self) -> datetime | str | None:
        return self._end


@pytest.mark.parametrize(("minutes", "result"), [(44, "bad"), (46, "ok"), (-1, "bad")])
def test_credentials_that_end_before_terraform_does_are_refused(aws: EmbeddedAws, minutes: int, result: str) -> None:
    ends: Any = Ending(aws, datetime.now(UTC) + timedelta(minutes=minutes))
    assert check_credentials(ends).result == result


def test_credentials_say_when_they_end_if_they_can(aws: EmbeddedAws) -> None:
    endpoint = {"endpoint_url": aws.endpoint.url, "region": settings.REGION}
    keys = {"access_key_id": aws.first.access_key_id, "secret_access_key": aws.first.secret_access_key}

    def session(**more: Any) -> AwsSession:
        return TargetData.model_validate({**endpoint, **keys, **more}).target().session()

    assert session().new_credentials_end() is None
    assert isinstance(session(session_token="t").new_credentials_end(), str)
    end = session(role_arn=aws.role()).new_credentials_end()
    assert isinstance(end, datetime)
    assert timedelta(minutes=50) < end - datetime.now(UTC) < timedelta(minutes=70)
    assert check_credentials(session()).result == "ok"
    refused = check_credentials(session(secret_access_key="wrong"))
    assert refused.result == "bad"
    assert "wrong" not in refused.detail


@pytest.mark.parametrize(
    ("version", "today", "result"),
    [
        ("1.35", "2026-12-26", "ok"),
        ("1.35", "2026-12-28", "warning"),
        ("1.35", "2027-03-27", "warning"),
        ("1.36", "2027-03-27", "ok"),
        ("1.29", "2026-01-01", "warning"),
        ("1.99", "2026-01-01", "not checked"),
    ],
)
def test_a_version_of_kubernetes_that_leaves_standard_support_or_has_left_it_is_a_warning(version: str, today: str, result: str) -> None:
    assert check_kubernetes(version, date.fromisoformat(today)).result == result


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {each.name: each for each in checks}


def launch(aws: EmbeddedAws, kind: str, count: int, **tags: str) -> None:
    given = [{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}] if tags else []
    aws.client("ec2").run_instances(ImageId="ami-12345678", InstanceType=kind, MinCount=count, MaxCount=count, TagSpecifications=given)


def test_a_new_account_has_too_few_vcpus_for_the_core_nodes(aws: EmbeddedAws) -> None:
    embedded.backend().values[embedded.STANDARD] = 5
    found = by_name(check_quotas(aws, Infrastructure()))["quota of core nodes"]
    assert found.result == "bad"
    assert "8 vCPUs for 2 m6i.xlarge, 5 allowed" in found.detail


def test_what_others_run_is_subtracted_and_what_the_stack_runs_is_not(aws: EmbeddedAws) -> None:
    embedded.backend().values[embedded.INF] = 384
    assert by_name(check_quotas(aws, Infrastructure()))["quota of inf2 nodes"].result == "ok"
    launch(aws, "inf2.8xlarge", 2, **{"leeward:name": "leeward"})
    assert by_name(check_quotas(aws, Infrastructure()))["quota of inf2 nodes"].result == "ok"
    embedded.backend().values[embedded.INF] = 1920
    launch(aws, "inf2.48xlarge", 2, owner="somebody")
    embedded.backend().values[embedded.INF] = 384
    refused = by_name(check_quotas(aws, Infrastructure()))["quota of inf2 nodes"]
    assert refused.result == "bad"
    assert "384 used by others" in refused.detail


def test_room_for_the_first_type_alone_is_a_warning_that_names_what_does_not_fit(aws: EmbeddedAws) -> None:
    embedded.backend().values[embedded.INF] = 64
    found = by_name(check_quotas(aws, Infrastructure()))["quota of inf2 nodes"]
    assert found.result == "warning"
    assert "192 for 2 inf2.24xlarge in its place" in found.detail
    assert "128 for a second Ray cluster" in found.detail


def test_a_full_quota_of_vpcs_or_addresses_refuses_a_new_stack_and_not_one_that_exists(aws: EmbeddedAws) -> None:
    ec2 = aws.client("ec2")
    for index in range(4):  # beside the default VPC
        ec2.create_vpc(CidrBlock=f"10.{index}.0.0/16")
    assert by_name(check_quotas(aws, Infrastructure()))["quota of VPCs"].result == "bad"
    vpc = ec2.describe_vpcs()["Vpcs"][-1]["VpcId"]
    ec2.create_tags(Resources=[vpc], Tags=[{"Key": "leeward:name", "Value": "leeward"}])
    assert by_name(check_quotas(aws, Infrastructure()))["quota of VPCs"].result == "ok"
    embedded.backend().values[embedded.ADDRESSES] = 0
    assert by_name(check_quotas(aws, Infrastructure()))["quota of elastic addresses"].result == "bad"


def test_a_type_of_which_no_quota_is_known_is_not_checked(aws: EmbeddedAws) -> None:
    assert family("q9.large") == ""
    odd = Infrastructure(core_nodes=CoreNodes(instance_type="q9.large"))
    assert by_name(check_quotas(aws, odd))["quota of core nodes"].result == "not checked"


@pytest.mark.parametrize(
    "kind", ["m6i.xlarge", "c7i.large", "t3.medium", "r5.large", "i4i.large", "inf2.xlarge", "trn1.2xlarge", "g5.xlarge"]
)
def test_every_common_type_belongs_to_one_quota(kind: str) -> None:
    assert family(kind)


class Zones:
    """EC2's answers about zones: ids by name, and where which type is."""

    def __init__(self, zones: dict[str, str], **offered: list[str]) -> None:
        self.zones = zones
        self.offered = {name.replace("_", "."): zones for name, zones in offered.items()}

    def describe_availability_zones(self, **_: Any) -> dict[str, Any]:
        return {"AvailabilityZones": [{"ZoneName": name, "ZoneId": id, "State": "available"} for name, id in self.zones.items()]}

    def can_paginate(self, _: str) -> bool:
        return True

    def get_paginator(self, _: str) -> Zones:
        return self

    def paginate(self, Filters: list[dict[str, Any]], **_: Any) -> list[dict[str, Any]]:  # boto3's name
        types = Filters[0]["Values"]
        return [{"InstanceTypeOfferings": [{"Location": zone} for each in types for zone in self.offered.get(each, [])]}]


VIRGINIA = {"us-east-1a": "use1-az1", "us-east-1b": "use1-az2", "us-east-1e": "use1-az3"}


@pytest.mark.parametrize(
    ("named", "result", "says"),
    [
        ((), "ok", "us-east-1a, us-east-1b"),
        (("us-east-1a", "us-east-1b"), "ok", ""),
        (("us-east-1a", "us-east-1e"), "bad", "EKS makes no cluster in us-east-1e (use1-az3)"),
        (("us-east-1a", "us-east-1z"), "bad", "us-east-1z is no open zone"),
    ],
)
def test_zones_that_eks_does_not_take_are_refused(named: tuple[str, ...], result: str, says: str) -> None:
    both = ["us-east-1a", "us-east-1b", "us-east-1e"]
    ec2 = Zones(VIRGINIA, m6i_xlarge=both, inf2_8xlarge=both, inf2_24xlarge=both)
    found = check_zones(ec2, Infrastructure(availability_zones=named))
    assert found.result == result
    assert says in found.detail


def test_zones_without_the_types_are_refused_or_shown() -> None:
    both = ["us-east-1a", "us-east-1b"]
    assert "fewer than two zones have m6i.xlarge" in check_zones(Zones(VIRGINIA, m6i_xlarge=["us-east-1a"]), Infrastructure()).detail
    assert "none of the zones has inf2.8xlarge" in check_zones(Zones(VIRGINIA, m6i_xlarge=both), Infrastructure()).detail
    one = Zones(VIRGINIA, m6i_xlarge=both, inf2_8xlarge=["us-east-1a"], inf2_24xlarge=["us-east-1a"])
    assert check_zones(one, Infrastructure()).result == "warning"
    dear = Zones(VIRGINIA, m6i_xlarge=both, inf2_24xlarge=both)
    assert "dearer inf2.24xlarge" in check_zones(dear, Infrastructure()).detail
    managed = Infrastructure(inf2_nodes=Inf2Nodes(provisioner="managed"))
    assert check_zones(dear, managed).result == "bad", "a managed group is only where its first type is"


def test_the_embedded_cloud_has_zones_for_the_defaults(aws: EmbeddedAws) -> None:
    assert check_zones(aws.client("ec2"), Infrastructure()).result == "ok"


def test_a_check_without_an_answer_is_not_checked_and_keeps_no_other_from_its_result() -> None:
    hangs = threading.Event()

    def fails() -> Check:
        raise RuntimeError("no route")

    def waits() -> Check:
        hangs.wait(60)
        return Check("slow", "bad", "")

    results = by_name(run_checks({"slow": waits, "broken": fails, "fine": lambda: Check("fine", "ok", "")}, within_s=3))
    hangs.set()
    assert {name: each.result for name, each in results.items()} == {"slow": "not checked", "broken": "not checked", "fine": "ok"}
    assert "no route" in results["broken"].detail


def test_all_that_is_missing_is_named_at_once_and_nothing_was_made(
    aws: EmbeddedAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"access_key_id": aws.first.access_key_id, "secret_access_key": aws.first.secret_access_key}
    saved = target(endpoint_url=aws.endpoint.url, region=settings.REGION, **keys)
    monkeypatch.setattr(site, "load_target", lambda name: saved)
    monkeypatch.setattr(check, "show_checks", lambda key, checks: "; ".join(f"{c.name}: {c.detail}" for c in checks if c.result == "bad"))
    monkeypatch.setenv("PATH", str(tmp_path))
    embedded.backend().values[embedded.STANDARD] = 5
    here = site.Site(target="t", infrastructure=Infrastructure(availability_zones=("us-west-2a", "us-west-2x")))
    with pytest.raises(PrerequisitesMissing) as refused:
        check_prerequisites.fn(here, Service())
    said = str(refused.value)
    for each in ("programs: ", "image builder: ", "model: ", "zones: ", "quota of core nodes: "):
        assert each in said
    assert said.endswith("Nothing was made")
    assert aws.get("leftovers") == {}
