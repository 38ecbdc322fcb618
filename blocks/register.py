"""Saves targets: `python -m blocks.register NAME [--from FILE]`. Running it again with the same input changes nothing.

The input is one JSON object with the keys of `TargetData`; what `python -m localcloud env --json` prints is one, and so
is anything else that names an account or a cluster.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from prefect.blocks.core import Block
from prefect_aws import AwsCredentials  # type: ignore[import-untyped]  # no py.typed
from prefect_aws.client_parameters import AwsClientParameters  # type: ignore[import-untyped]  # no py.typed
from prefect_kubernetes import KubernetesClusterConfig  # type: ignore[import-untyped]  # no py.typed
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from blocks.parameters import Engine
from blocks.target import DEFAULT_REGION, ExternalRedis, Images, Target

BLOCK_TYPES: tuple[type[Block], ...] = (AwsCredentials, KubernetesClusterConfig, Target)


class TargetData(BaseModel):
    """A target as flat data. Every key is optional; an unknown one is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint_url: str | None = None
    region: str = DEFAULT_REGION
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    session_token: str | None = None
    profile: str | None = None
    role_arn: str = ""
    cluster: str = ""
    kubeconfig: Path | None = None
    context: str | None = None
    redis: ExternalRedis | None = None
    redis_ca_pem: str = ""
    registry: str | None = None
    """A registry that speaks plain HTTP."""
    engine: Engine = "neuron"
    base_image: str = ""
    neuron_base_image: str = ""
    image: str = ""
    builder: Literal["auto", "buildah", "docker"] = "auto"
    auto_approve: bool = False
    hf_token: SecretStr | None = None
    api_key: SecretStr | None = None

    def target(self) -> Target:
        """The target that this describes.

        Raises:
            ValueError: it cannot be one; the message says why.
        """
        images = Images(
            ready=self.image,
            base=image_source(self.base_image),
            neuron_base=image_source(self.neuron_base_image),
            builder=self.builder,
            plain_http=(self.registry,) if self.registry else (),
        )
        return Target(
            aws=None if self.kubeconfig else self._aws(),
            kubeconfig=KubernetesClusterConfig.from_file(self.kubeconfig, self.context) if self.kubeconfig else None,
            role_arn=self.role_arn,
            cluster=self.cluster,
            redis=self.redis,
            redis_ca_pem=self.redis_ca_pem,
            engine=self.engine,
            images=images,
            auto_approve=self.auto_approve,
            hf_token=self.hf_token,
            api_key=self.api_key,
        )

    def _aws(self) -> AwsCredentials:
        return AwsCredentials(
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            aws_session_token=self.session_token,
            profile_name=self.profile,
            region_name=self.region,
            aws_client_parameters=AwsClientParameters(endpoint_url=self.endpoint_url),
        )


def image_source(given: str) -> str:
    """The image a Containerfile can begin FROM: a path of an archive gets the transport that reads it, all else stays.

    Raises:
        ValueError: the archive is not there, or none that is known.
    """
    if not given.startswith("/"):
        return given
    if not Path(given).is_file():
        raise ValueError(f"base_image: there is no file {given}")
    with tarfile.open(given) as archive:
        names = set(archive.getnames())
    if "oci-layout" in names or "./oci-layout" in names:
        return f"oci-archive:{given}"
    if "manifest.json" in names:
        return f"docker-archive:{given}"
    raise ValueError(f"base_image: {given} is neither an OCI nor a Docker archive")


def register(name: str, data: TargetData) -> Target:
    """The block types are known to the Prefect server, and the target is saved under that name."""
    target = data.target()
    for block_type in BLOCK_TYPES:
        block_type.register_type_and_schema()
    target.save(name, overwrite=True)
    return target


def read(source: str) -> TargetData:
    """The data in a file, or on stdin for "-".

    Raises:
        ValueError: it is not there or wrong; the message names keys and never values, which may be secret.
    """
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
        return TargetData.model_validate(json.loads(text))
    except ValidationError as error:
        raise ValueError("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at line {error.lineno}") from None
    except OSError as error:
        raise ValueError(str(error)) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: saved. 2: the input is wrong."""
    parser = argparse.ArgumentParser(prog="python -m blocks.register", description="Save a target for the pipeline.")
    parser.add_argument("name", help="name of the target, as flows are given it")
    parser.add_argument(
        "--from", dest="source", default="-", metavar="FILE", help="JSON object with the target's data; - (default) reads stdin"
    )
    parser.add_argument("--auto-approve", action="store_true", help="plans need no approval: only where nothing costs money")
    given = parser.parse_args(arguments)
    try:
        data = read(given.source)
        target = register(given.name, data.model_copy(update={"auto_approve": True}) if given.auto_approve else data)
    except ValueError as error:
        print(f"target {given.name!r} is not saved: {error}", file=sys.stderr)
        return 2
    where = target.endpoint_url or (f"AWS {target.region}" if target.aws else "kubeconfig context")
    print(f"target {given.name!r} is saved: {where}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
