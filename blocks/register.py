"""Saves targets: `python -m blocks.register NAME [--from FILE]`. Running it again with the same input changes nothing.

The input is one JSON object with the keys of `TargetData`, for example the output of `python -m localcloud env --json`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import httpx
import yaml
from kubernetes_asyncio.config import ConfigException
from prefect.blocks.core import Block
from prefect.settings import PREFECT_API_URL
from prefect_aws import AwsCredentials  # type: ignore[import-untyped]  # no py.typed
from prefect_aws.client_parameters import AwsClientParameters  # type: ignore[import-untyped]  # no py.typed
from prefect_kubernetes import KubernetesClusterConfig  # type: ignore[import-untyped]  # no py.typed
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from blocks.parameters import Engine
from blocks.target import DEFAULT_REGION, ExternalRedis, Images, Target, reasons

BLOCK_TYPES: tuple[type[Block], ...] = (AwsCredentials, KubernetesClusterConfig, Target)
FOR_AWS = frozenset({"endpoint_url", "region", "access_key_id", "secret_access_key", "session_token", "profile", "role_arn"})


def _given(value: Any) -> Any:
    if not value:  # e.g. from an unset variable: an empty api_key would open the service to every caller
        raise ValueError("it is empty; leave the key out where there is nothing to give")
    return value


Text = Annotated[str, AfterValidator(_given)]
Secret = Annotated[SecretStr, AfterValidator(_given)]


class TargetData(BaseModel):
    """A target as flat data. Every key is optional; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint_url: Text | None = None
    region: Text = DEFAULT_REGION
    access_key_id: Text | None = None
    secret_access_key: Secret | None = None
    session_token: Text | None = None
    profile: Text | None = None
    role_arn: str = ""
    cluster: str = ""
    kubeconfig: Path | None = None
    context: Text | None = None
    redis: ExternalRedis | None = None
    redis_ca_pem: str = ""
    registry: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+(:[0-9]+)?$")] | None = None
    """Host and port of a registry that uses plain HTTP."""
    engine: Engine = "neuron"
    base_image: str = ""
    neuron_base_image: str = ""
    image: str = ""
    platform: Literal["linux/amd64", "linux/arm64"] = "linux/amd64"
    builder: Literal["auto", "buildah", "docker"] = "auto"
    auto_approve: bool = False
    hf_token: Secret | None = None
    api_key: Secret | None = None

    @field_validator("endpoint_url")
    @classmethod
    def _a_url(cls, url: str | None) -> str | None:
        if url and not (urlsplit(url).scheme in ("http", "https") and urlsplit(url).hostname):
            raise ValueError("a URL that begins with http:// or https://")
        return url

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key go together: give both or neither")
        if self.session_token and self.access_key_id is None:
            raise ValueError("a session_token goes with its access_key_id and secret_access_key")
        if self.context and self.kubeconfig is None:
            raise ValueError("a context is one of a kubeconfig: give that file, too")
        if self.kubeconfig is not None and (unused := sorted(FOR_AWS & self.model_fields_set)):
            raise ValueError(f"a kubeconfig is used without AWS: leave out {', '.join(unused)}")
        return self

    def target(self) -> Target:
        """The target block with this data.

        Raises:
            ValueError: the data make no valid target; the message gives the reason.
        """
        images = Images(
            ready=self.image,
            base=image_source(self.base_image),
            neuron_base=image_source(self.neuron_base_image),
            platform=self.platform,
            builder=self.builder,
            plain_http=(self.registry,) if self.registry else (),
        )
        return Target(
            aws=None if self.kubeconfig else self._aws(),
            kubeconfig=kubeconfig(self.kubeconfig, self.context) if self.kubeconfig else None,
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


def kubeconfig(path: Path, context: str | None) -> KubernetesClusterConfig:
    """The cluster of a context in a kubeconfig; None: the current context.

    Raises:
        ValueError: the file is missing or no kubeconfig, or has no such context.
    """
    if not path.expanduser().is_file():  # Prefect would go on with an empty configuration
        raise ValueError(f"kubeconfig: there is no file {path}")
    try:
        return KubernetesClusterConfig.from_file(path, context)
    except (ConfigException, yaml.YAMLError, OSError) as error:
        raise ValueError(f"kubeconfig: {path} cannot be read: {error}") from error


def image_source(given: str) -> str:
    """The image for a Containerfile's FROM: the path of an archive gets the transport that reads it, everything else is returned as it is.

    Raises:
        ValueError: the archive is missing, or of an unknown format.
    """
    if not given.startswith("/"):
        return given
    if not Path(given).is_file():
        raise ValueError(f"base_image: there is no file {given}")
    try:
        with tarfile.open(given) as archive:
            names = set(archive.getnames())
    except tarfile.TarError:
        names = set()
    if "oci-layout" in names or "./oci-layout" in names:
        return f"oci-archive:{given}"
    if "manifest.json" in names:
        return f"docker-archive:{given}"
    raise ValueError(f"base_image: {given} is neither an OCI nor a Docker archive")


def register(name: str, data: TargetData) -> Target:
    """Register the block types with the Prefect server, and save the target under that name."""
    target = data.target()
    for block_type in BLOCK_TYPES:
        block_type.register_type_and_schema()
    target.save(name, overwrite=True)
    return target


def read(source: str) -> TargetData:
    """Read the data from a file, or from stdin for "-".

    Raises:
        ValueError: the file is missing or its data are wrong; the message names keys and never values, which may be secret.
    """
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
        return TargetData.model_validate(json.loads(text))
    except ValidationError as error:
        raise ValueError(reasons(error)) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at line {error.lineno}") from None
    except OSError as error:
        raise ValueError(str(error)) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Save a target. Exit code 0: saved. 1: no Prefect server answers. 2: the input is wrong."""
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
        why = reasons(error) if isinstance(error, ValidationError) else error
        print(f"target {given.name!r} is not saved: {why}", file=sys.stderr)
        return 2
    except httpx.TransportError as error:
        where = PREFECT_API_URL.value()
        print(
            f"target {given.name!r} is not saved: no Prefect server answers at {where} ({error}); is PREFECT_API_URL right?",
            file=sys.stderr,
        )
        return 1
    where = target.endpoint_url or (f"AWS {target.region}" if target.aws else "kubeconfig context")
    print(f"target {given.name!r} is saved: {where}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
