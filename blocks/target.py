"""Where everything happens: the one thing that differs between clusters, saved as a Prefect Block.

A target is AWS (real, or whatever answers at its endpoint) with an EKS cluster that Terraform makes or that is
there already; or any cluster by a kubeconfig context, without AWS.
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
    """No target block of that name is saved, or one that can be none: Prefect's UI saves whatever its form holds."""


def reasons(error: ValidationError) -> str:
    """What is wrong, by key and without the values, which may be secret."""
    found = ((".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in error.errors(include_input=False))
    return "; ".join(f"{key}: {text}" if key else text for key, text in found)


class Images(BaseModel):
    """Where the images come from."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    ready: str = ""
    """Reference of a workers' image that is there already: it has all that the head and the load need, and serves them too.
    Then nothing is built or pushed, and there is no chat."""
    base: str = ""
    """What the images on Debian are built from; empty: as the Containerfile says. An image reference, or a transport and a path."""
    neuron_base: str = ""
    """The Neuron image of AWS that the workers' is built from; empty: as its Containerfile says. By digest, from a registry of yours."""
    builder: Literal["auto", "buildah", "docker"] = "auto"
    """What builds them. auto: buildah when there is one, else docker."""
    plain_http: tuple[str, ...] = ()
    """Registries (host:port) that speak HTTP without TLS."""


class ExternalRedis(BaseModel):
    """A Redis that Terraform did not make, with TLS and AUTH."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    address: Annotated[str, Field(min_length=1)]
    """Host name or address, as the pods reach it; it must be one that its certificate is for."""
    port: Annotated[int, Field(ge=1, le=65535)] = 6379
    """Where it speaks TLS."""
    auth_token: SecretStr
    """Its password."""


class Target(Block):
    """Where the pipeline works: an AWS account and region, or any Kubernetes cluster."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    _block_type_name = "Leeward Target"
    _block_type_slug = "leeward-target"
    _description = "Where the pipeline works: an AWS account and region, or any Kubernetes cluster."

    aws: AwsCredentials | None = None
    """Account, region and endpoint. Not needed with a kubeconfig."""
    role_arn: str = ""
    """IAM role to act as; empty: the credentials' own identity."""
    cluster: str = ""
    """Name of an EKS cluster that is there already. Empty: the cluster that Terraform makes."""
    kubeconfig: KubernetesClusterConfig | None = None
    """Any cluster by a context, instead of EKS; then nothing is provisioned or destroyed."""
    redis_ca_pem: str = ""
    """Authority that signed Redis's certificate; empty: a public one."""
    redis: ExternalRedis | None = None
    """For GCS fault tolerance on a cluster that Terraform did not make."""
    engine: Engine = "neuron"
    """What computes the answers, where a service does not say otherwise: what the nodes of this target are made for."""
    images: Images = Images()
    """Where the images come from."""
    auto_approve: bool = False
    """Whether a plan may be carried out without a person's approval: only where nothing costs money."""
    hf_token: SecretStr | None = None
    """Token for gated models."""
    api_key: SecretStr | None = None
    """What every request to the model must know. Empty: who reaches it may ask it."""

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

    # Not a type of its own: Prefect finds what it must keep secret by the bare SecretStr.
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
            NoSuchTarget: there is none, or what is saved can be none.
        """
        try:
            found = cls.load(name)
        except ValueError:  # Prefect's way of saying so
            raise NoSuchTarget(
                f"no leeward-target block is named {name!r}; save one: python -m blocks.register {name or 'NAME'} --from FILE"
            ) from None
        except RuntimeError as error:  # and that it found one
            if not isinstance(error.__cause__, ValidationError):
                raise
            raise NoSuchTarget(f"the leeward-target block {name!r} cannot be used: {reasons(error.__cause__)}; save it again") from None
        assert isinstance(found, Target)
        return found

    @property
    def provisioned(self) -> bool:
        """Whether Terraform makes the cluster and takes it down."""
        return self.kubeconfig is None and not self.cluster

    @property
    def region(self) -> str:
        """The region of everything; empty without AWS."""
        return (self.aws.region_name or DEFAULT_REGION) if self.aws else ""

    @property
    def endpoint_url(self) -> str | None:
        """Where AWS is asked; None: AWS itself."""
        return self.aws.aws_client_parameters.endpoint_url if self.aws else None

    def engine_of(self, service: Service) -> Engine:
        """What computes the answers of a service here."""
        return service.engine or self.engine

    def session(self) -> AwsSession:
        """A session that acts as the role.

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
        """The variables by which another program acts on this target's AWS. They hold secrets."""
        return self.session().environment()


@lru_cache(maxsize=1)
def _regions() -> list[str]:
    asked = botocore.session.get_session()
    return sorted(region for partition in asked.get_available_partitions() for region in asked.get_available_regions("eks", partition))


@lru_cache(maxsize=4)
def _session(credentials: AwsCredentials, region: str, role_arn: str) -> AwsSession:
    # One for all clients of a process: each new one would assume the role again.
    return AwsSession(credentials, region, role_arn)
