"""The target of a run, saved as a Prefect Block: all that differs between clusters.

A target is AWS (or another server at its endpoint) with an EKS cluster that Terraform creates or that exists already; or any
cluster by a kubeconfig context, without AWS.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

import botocore.session
from prefect.blocks.core import Block
from prefect_aws import AwsCredentials  # type: ignore[import-untyped]  # no py.typed
from prefect_kubernetes import KubernetesClusterConfig  # type: ignore[import-untyped]  # no py.typed
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from blocks.aws_session import AwsSession
from blocks.errors import Permanent
from blocks.parameters import IAM, Engine, Service

DEFAULT_REGION = "us-west-2"
ROLE = rf"{IAM}role/\S+"


class NoSuchTarget(Permanent):
    """No target block of that name is saved, or the saved one is invalid: Prefect's UI saves any content of its form."""


def reasons(error: ValidationError) -> str:
    """Describe a validation error by key and without the values, which may be secret."""
    found = ((".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in error.errors(include_input=False))
    return "; ".join(f"{key}: {text}" if key else text for key, text in found)


class Images(BaseModel):
    """Sources of the container images."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    ready: str = ""
    """Reference of an existing image for the workers. It has all that the head and the load need, so they use it too. Then nothing is
    built or pushed, and there is no chat."""
    base: str = ""
    """Base of the images on Debian: an image reference, or a transport and a path. Empty: the default of the Containerfile."""
    neuron_base: str = ""
    """AWS's Neuron image, as the base of the workers' image: by digest, from a registry of yours. Empty: the default of its
    Containerfile."""
    platform: Literal["linux/amd64", "linux/arm64"] = "linux/amd64"
    """Platform of the nodes. Images are built for it, on whatever machine."""
    builder: Literal["auto", "buildah", "docker"] = "auto"
    """Program that builds the images. auto: buildah if it is installed, else docker."""
    plain_http: tuple[str, ...] = ()
    """Registries (host:port) that use HTTP without TLS."""


class ExternalRedis(BaseModel):
    """A Redis that Terraform did not create, with TLS and AUTH."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    address: Annotated[str, Field(min_length=1)]
    """Host name or address that the pods use. The server's certificate must be valid for it."""
    port: Annotated[int, Field(ge=1, le=65535)] = 6379
    """TLS port of the Redis."""
    auth_token: SecretStr
    """The password for AUTH."""


class Target(Block):
    """Where the pipeline works: an AWS account and region, or any Kubernetes cluster."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    _block_type_name = "Leeward Target"
    _block_type_slug = "leeward-target"
    _description = "Where the pipeline works: an AWS account and region, or any Kubernetes cluster."

    aws: AwsCredentials | None = None
    """Account, region and endpoint. Not needed with a kubeconfig."""
    role_arn: str = ""
    """IAM role to assume; empty: the credentials' own identity."""
    cluster: str = ""
    """Name of an EKS cluster that exists already. Empty: the cluster that Terraform creates."""
    kubeconfig: KubernetesClusterConfig | None = None
    """A cluster by its kubeconfig context, instead of EKS. Then nothing is provisioned or destroyed."""
    redis_ca_pem: str = ""
    """Certificate authority of Redis in PEM; empty: a public one."""
    redis: ExternalRedis | None = None
    """Redis for GCS fault tolerance on a cluster that Terraform did not create."""
    engine: Engine = "neuron"
    """Program that computes the answers, unless a service names another one. It must fit the nodes of this target."""
    images: Images = Images()
    """Sources of the container images."""
    auto_approve: bool = False
    """Whether a plan is applied without a person's approval. Only for places where nothing costs money."""
    hf_token: SecretStr | None = None
    """Hugging Face token for gated models."""
    api_key: SecretStr | None = None
    """Key that every request to the model must carry. Empty: no key is needed."""

    @model_validator(mode="after")
    def _one_cluster(self) -> Self:
        if self.kubeconfig is None and self.aws is None:
            raise ValueError("a target needs aws (credentials, region, endpoint) or a kubeconfig")
        if self.kubeconfig is not None and self.cluster:
            raise ValueError("a target has a kubeconfig or the name of an EKS cluster, not both")
        return self

    @model_validator(mode="after")
    def _known_region(self) -> Self:
        if self.aws is not None and self.region not in (known := _regions()):
            raise ValueError(f"{self.region!r} is no region with EKS; those are {', '.join(known)}")
        return self

    @field_validator("role_arn")
    @classmethod
    def _role(cls, arn: str) -> str:
        if arn and not re.fullmatch(ROLE, arn):
            raise ValueError("an IAM role's ARN, such as arn:aws:iam::123456789012:role/leeward")
        return arn

    # Not a type of its own: Prefect recognises secret fields by the bare SecretStr.
    @field_validator("hf_token", "api_key")
    @classmethod
    def _fits_a_header(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and not re.fullmatch(r"[!-~]*", secret.get_secret_value()):
            raise ValueError("ASCII without spaces and line breaks, because it is sent in a header")
        return secret

    @classmethod
    def named(cls, name: str) -> Target:
        """The saved target of that name.

        Raises:
            NoSuchTarget: there is none, or the saved one is invalid.
        """
        try:
            found = cls.load(name)
        except ValueError:  # raised by Prefect when there is none
            raise NoSuchTarget(
                f"no leeward-target block is named {name!r}; save one: python -m blocks.register {name or 'NAME'} --from FILE"
            ) from None
        except RuntimeError as error:  # and when the saved one is invalid
            if not isinstance(error.__cause__, ValidationError):
                raise
            raise NoSuchTarget(f"the leeward-target block {name!r} cannot be used: {reasons(error.__cause__)}; save it again") from None
        assert isinstance(found, Target)
        return found

    @property
    def provisioned(self) -> bool:
        """Whether Terraform creates and destroys the cluster."""
        return self.kubeconfig is None and not self.cluster

    @property
    def region(self) -> str:
        """AWS region of the target; empty without AWS."""
        return (self.aws.region_name or DEFAULT_REGION) if self.aws else ""

    @property
    def endpoint_url(self) -> str | None:
        """Endpoint for all AWS services; None: AWS's own."""
        return self.aws.aws_client_parameters.endpoint_url if self.aws else None

    def engine_of(self, service: Service) -> Engine:
        """The engine of a service on this target."""
        return service.engine or self.engine

    def session(self) -> AwsSession:
        """An AWS session that acts as the role.

        Raises:
            Permanent: the target has no AWS.
        """
        if self.aws is None:
            raise Permanent("this target is a kubeconfig context and has no AWS; give it aws credentials for that")
        return _session(self.aws, self.region, self.role_arn)

    def client(self, service_name: str, /) -> Any:
        """A boto3 client of the service."""
        return self.session().client(service_name)

    def aws_environment(self) -> dict[str, str]:
        """Environment variables with which another program acts on this target's AWS account. They hold secrets."""
        return self.session().environment()


@lru_cache(maxsize=1)
def _regions() -> list[str]:
    asked = botocore.session.get_session()
    return sorted(region for partition in asked.get_available_partitions() for region in asked.get_available_regions("eks", partition))


@lru_cache(maxsize=4)
def _session(credentials: AwsCredentials, region: str, role_arn: str) -> AwsSession:
    # One for all clients of a process: each new session would assume the role again.
    return AwsSession(credentials, region, role_arn)
