"""A model of one's own, from S3 by pod identity, compiled ahead by a Job."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from system_under_test import ELASTIC, SCALED, Run, System

MODEL = "/opt/leeward/model"


def workers(system: System) -> list[str]:
    """Names of the workers' pods that are not being deleted."""
    found = system.objects("pods", "-l", "ray.io/node-type=worker")["items"]
    return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


def inside(system: System, pod: str, *command: str) -> str:
    done = system.kubectl("-n", "mistral", "exec", pod, "-c", "ray-worker", "--", *command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_network_policies_are_those_of_the_manifests(system: System, protected: Run) -> None:
    found = {item["metadata"]["name"]: item["spec"] for item in system.objects("networkpolicies")["items"]}
    assert set(found) == {"ray", "model"}
    blocks = [peer["ipBlock"]["cidr"] for rule in found["ray"]["ingress"] for peer in rule.get("from", ()) if "ipBlock" in peer]
    assert blocks == ["10.20.8.0/24", "10.20.9.0/24"]


@pytest.fixture
def in_s3(scaled: System, aws: Callable[[str], Any]) -> Iterator[str]:
    """The tiny model in the stack's bucket; afterwards the service has that of its image again."""
    command = [
        *scaled.kubectl_command(),
        "-n",
        "mistral",
        "exec",
        workers(scaled)[0],
        "-c",
        "ray-worker",
        "--",
        "tar",
        "-C",
        MODEL,
        "-c",
        ".",
    ]
    packed = subprocess.run(command, capture_output=True, timeout=120, check=True).stdout
    account = aws("sts").get_caller_identity()["Account"]
    bucket = f"leeward-leeward-{account}-{scaled.endpoint['region']}"
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            if member.isfile() and (file := archive.extractfile(member)):
                aws("s3").put_object(Bucket=bucket, Key=f"models/tiny/{member.name.removeprefix('./')}", Body=file.read())
    yield bucket
    run = scaled.run("deploy/main", infrastructure=ELASTIC, service=SCALED)
    assert run.state == "COMPLETED", run.snapshot.message


@pytest.mark.long
def test_a_model_in_s3_is_fetched_compiled_ahead_by_a_job_and_loaded_by_every_worker(
    scaled: System, aws: Callable[[str], Any], in_s3: str
) -> None:
    service = {**SCALED, "model": f"s3://{in_s3}/models/tiny", "compile_ahead": True}
    run = scaled.run("deploy/main", infrastructure=ELASTIC, service=service)
    assert run.state == "COMPLETED", run.snapshot.message
    (job,) = scaled.objects("jobs")["items"]
    assert job["status"]["succeeded"] == 1
    kept = {entry["Key"] for entry in aws("s3").list_objects_v2(Bucket=in_s3, Prefix="compiled/")["Contents"]}
    assert len({key.split("/")[1] for key in kept}) == 1, "the Job and the workers have the same key"
    for pod in workers(scaled):
        assert inside(scaled, pod, "sh", "-c", "grep -rhs 'loads the compiled artifacts' /tmp/ray/session_latest/logs")
    again = scaled.run("deploy/main", infrastructure=ELASTIC, service=service)
    assert again.state == "COMPLETED", again.snapshot.message
    assert [item["metadata"]["uid"] for item in scaled.objects("jobs")["items"]] == [job["metadata"]["uid"]], "it was not compiled again"
