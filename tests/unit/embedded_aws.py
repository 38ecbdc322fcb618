"""The embedded AWS in this process, in front of a machine that makes nothing: for tests that call AWS."""

from __future__ import annotations

import base64
import itertools
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.loaders import Loader
from botocore.signers import RequestSigner
from moto.core.base_backend import BackendDict
from moto.s3.models import s3_backends

from localcloud import settings
from localcloud.aws import audit, current_machine
from localcloud.aws.auth import first_user
from localcloud.aws.ec2 import shortages
from localcloud.aws.fake_machine import FakeMachine
from localcloud.aws.server import Endpoint

# Retries would only make a refusal slow.
_CONFIG = Config(retries={"max_attempts": 1}, connect_timeout=60, read_timeout=60)
_names = itertools.count()
_models = Loader()
"""The loader of botocore's service models. All sessions share it: to read the models takes most of a session's time."""


def session_of(access_key_id: str, secret: str, token: str | None = None) -> boto3.Session:
    """Return a session with these credentials."""
    core = botocore.session.get_session()
    core.register_component("data_loader", _models)
    return boto3.Session(access_key_id, secret, token, region_name=settings.REGION, botocore_session=core)


class EmbeddedAws:
    """An endpoint and its clients. `fresh` empties the cloud."""

    def __init__(self) -> None:
        self.first = first_user.create()
        self.machine = FakeMachine()
        self.endpoint = Endpoint(self.machine, "127.0.0.1", 0)
        self.endpoint.start()
        self.session = session_of(self.first.access_key_id, self.first.secret_access_key)
        self._clients: dict[str, Any] = {}

    def fresh(self) -> None:
        """Delete everything except users and roles, and start with a new machine."""
        for backends in list(BackendDict._instances):
            if backends.service_name not in ("iam", "sts"):  # to make IAM's backend takes half a second
                backends.clear()
        s3_backends.bucket_accounts.clear()  # or a bucket of an earlier test would be looked for in a backend that is gone
        self.machine = FakeMachine()
        current_machine.use(self.machine)
        audit.set_baseline()
        shortages.end_all()

    def client(self, service: str, session: boto3.Session | None = None) -> Any:
        """Return a client of the endpoint, with the first user's key when no session is given."""
        if session is not None:
            return session.client(service, endpoint_url=self.endpoint.url, config=_CONFIG)
        if service not in self._clients:
            self._clients[service] = self.session.client(service, endpoint_url=self.endpoint.url, config=_CONFIG)
        return self._clients[service]

    def assume(self, role_arn: str, name: str = "tester", session: boto3.Session | None = None) -> boto3.Session:
        """Assume the role, and return the session."""
        made = self.client("sts", session).assume_role(RoleArn=role_arn, RoleSessionName=name)["Credentials"]
        return session_of(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])

    def get(self, path: str) -> Any:
        """Return the JSON of one of the endpoint's own routes."""
        with urllib.request.urlopen(f"{self.endpoint.url}/localcloud/{path}", timeout=60) as answer:
            return json.load(answer)

    def review(self, token: str, cluster: str) -> dict[str, Any]:
        """Post a TokenReview, as the API server does, and return its status."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        request = urllib.request.Request(f"{self.endpoint.url}/localcloud/token-review/{cluster}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            status: dict[str, Any] = json.load(answer)["status"]
            return status

    def role(self) -> str:
        """Create a role that any principal of the account may assume, and return its ARN."""
        trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": f"arn:aws:iam::{settings.ACCOUNT}:root"}}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        made = self.client("iam").create_role(RoleName=f"role-{next(_names)}", AssumeRolePolicyDocument=document)
        return str(made["Role"]["Arn"])

    def subnets(self) -> list[str]:
        """Create a VPC with two subnets in two zones, and return their ids."""
        ec2 = self.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
        zones = settings.AVAILABILITY_ZONES[:2]
        made = [ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.20.{i}.0/24", AvailabilityZone=zone) for i, zone in enumerate(zones)]
        return [str(each["Subnet"]["SubnetId"]) for each in made]

    def cluster(self, name: str = "demo", **wanted: Any) -> dict[str, Any]:
        """Create a cluster, and wait until it is no longer CREATING."""
        wanted = {"accessConfig": {"authenticationMode": "API"}} | wanted
        eks = self.client("eks")
        eks.create_cluster(name=name, roleArn=self.role(), resourcesVpcConfig={"subnetIds": self.subnets()}, **wanted)
        return eventually(lambda: eks.describe_cluster(name=name)["cluster"], lambda c: c["status"] != "CREATING")

    def nodegroup(self, name: str = "inf2", size: int = 2, **wanted: Any) -> dict[str, Any]:
        """Create a node group in the cluster `demo`, and wait until it is no longer CREATING."""
        eks = self.client("eks")
        subnets = eks.describe_cluster(name="demo")["cluster"]["resourcesVpcConfig"]["subnetIds"]
        scaling = {"minSize": 0, "maxSize": 5, "desiredSize": size}
        eks.create_nodegroup(
            **{"clusterName": "demo", "nodegroupName": name, "scalingConfig": scaling, "subnets": subnets, "nodeRole": self.role()}
            | {"instanceTypes": ["inf2.8xlarge"]}
            | wanted
        )
        describe = lambda: eks.describe_nodegroup(clusterName="demo", nodegroupName=name)["nodegroup"]  # noqa: E731
        return eventually(describe, lambda group: group["status"] != "CREATING")

    def instances(self, state: str = "running") -> list[dict[str, Any]]:
        """Return the instances in that state."""
        found = self.client("ec2").describe_instances(Filters=[{"Name": "instance-state-name", "Values": [state]}])
        return [instance for reservation in found["Reservations"] for instance in reservation["Instances"]]


def eventually(look: Callable[[], Any], enough: Callable[[Any], bool], within: float = 60.0) -> Any:
    """Call `look` until `enough` accepts its result, and return that. AssertionError with the last result after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        result = look()
        if enough(result):
            return result
        assert time.monotonic() < deadline, f"still not so after {within} s, last saw {result}"
        time.sleep(0.02)


@contextmanager
def blocked_call(machine: FakeMachine, method: str) -> Iterator[Event]:
    """Let calls of the method begin, and end only after the block. The event is set when the first one has begun."""
    begun, over, original = Event(), Event(), getattr(machine, method)

    def call(*arguments: Any, **named: Any) -> Any:
        begun.set()
        over.wait()
        return original(*arguments, **named)

    setattr(machine, method, call)
    try:
        yield begun
    finally:
        over.set()


def eks_token(session: boto3.Session, cluster: str, endpoint_url: str, action: str = "GetCallerIdentity") -> str:
    """Return a token in the form of `aws eks get-token`."""
    sts = session.client("sts", endpoint_url=endpoint_url)
    signer = RequestSigner(sts.meta.service_model.service_id, settings.REGION, "sts", "v4", session.get_credentials(), session.events)
    request = {
        "method": "GET",
        "url": f"{endpoint_url}/?Action={action}&Version=2011-06-15",
        "body": {},
        "headers": {"x-k8s-aws-id": cluster},
        "context": {},
    }
    url = signer.generate_presigned_url(request, region_name=settings.REGION, expires_in=60, operation_name="")
    return as_token(url)


def as_token(url: str) -> str:
    """Encode any URL in the form of a token."""
    return "k8s-aws-v1." + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")
