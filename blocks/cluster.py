"""Kubernetes API clients: for an EKS cluster (endpoint and CA from DescribeCluster, signed tokens), or for a kubeconfig context."""

from __future__ import annotations

import base64
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from kubernetes import client, config

from blocks.addresses import is_private
from blocks.eks_token import FreshToken, token
from blocks.errors import Permanent, Transient
from blocks.target import Target

CONNECTIONS = 8
"""Size of the connection pool: a snapshot sends several requests in parallel."""


class NoCluster(Permanent):
    """The EKS cluster does not exist."""


class ClusterNotActive(Transient):
    """The EKS cluster is being made, changed or deleted."""


def api_client(target: Target, cluster: str) -> Any:
    """A client of the target's cluster. `cluster` is the name of the EKS cluster, used when the target names none.

    Raises:
        NoCluster, ClusterNotActive: EKS has no cluster of that name, or it is not ACTIVE.
        Permanent: the kubeconfig cannot be used.
    """
    if target.kubeconfig is not None:
        return _client_for_kubeconfig(target)
    return _client_for_eks(target, target.cluster or cluster)


def _client_for_kubeconfig(target: Target) -> Any:
    assert target.kubeconfig is not None
    try:
        return config.new_client_from_config_dict(  # type: ignore[no-untyped-call]  # the package is half typed
            config_dict=target.kubeconfig.config, context=target.kubeconfig.context_name, persist_config=False
        )
    except config.ConfigException as error:
        raise Permanent(f"the kubeconfig of the target cannot be used: {error}; save the target again") from error


def _client_for_eks(target: Target, name: str) -> Any:
    session = target.session()
    described = describe(session, name)
    fresh = FreshToken(lambda: token(session.botocore, name, session.region, session.endpoint_url))
    settings = client.Configuration(
        host=described["endpoint"],
        # As data, because a file would have to be removed again.
        ca_cert_data=base64.b64decode(described["certificateAuthority"]["data"]).decode(),
        api_key={"authorization": fresh()},
    )
    settings.api_key_prefix = {"authorization": "Bearer"}
    settings.refresh_api_key_hook = lambda it: it.api_key.update(authorization=fresh())  # type: ignore[assignment]  # declared as None
    settings.connection_pool_maxsize = CONNECTIONS
    if is_private(described["endpoint"]):
        settings.no_proxy = "*"
    return client.ApiClient(settings)


def describe(session: Any, name: str) -> dict[str, Any]:
    """The DescribeCluster response of an ACTIVE cluster.

    Raises:
        NoCluster, ClusterNotActive: there is none, or it is not ACTIVE.
        Transient: EKS did not answer.
    """
    try:
        found: dict[str, Any] = session.client("eks").describe_cluster(name=name)["cluster"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            raise NoCluster(f"there is no EKS cluster {name!r} in {session.region}; provision it first (provision/main)") from error
        raise Permanent(f"EKS does not describe cluster {name!r}: {error}") from error
    except BotoCoreError as error:
        raise Transient(f"EKS could not be asked for cluster {name!r}: {error}") from error
    if found["status"] not in ("ACTIVE", "UPDATING"):
        raise ClusterNotActive(f"EKS cluster {name!r} is {found['status']}")
    return found
