"""The NodeConfig in an instance's user data, which names the cluster to join, as nodeadm in EKS's AL2023 images reads it.

User data is one NodeConfig, or a MIME document with several among shell scripts, which are not run here. Later ones add
to earlier ones (https://awslabs.github.io/amazon-eks-ami/nodeadm).
"""

from __future__ import annotations

import base64
import binascii
import email
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

_API = "node.eks.aws/"
_MIME = "application/node.eks.aws"


class InvalidNodeConfig(ValueError):
    """The user data contains a NodeConfig that cannot be parsed."""


@dataclass(frozen=True)
class NodeConfig:
    """The cluster that an instance is to join, and the labels and taints of its node."""

    cluster: str
    labels: dict[str, str]
    taints: tuple[str, ...]
    """The taints, each in the form "key=value:Effect"."""


def parse(user_data: str | None) -> NodeConfig | None:
    """Parse base64 user data; None when it names no cluster.

    Raises:
        InvalidNodeConfig: it contains a NodeConfig that cannot be parsed.
    """
    cluster, labels, taints = "", dict[str, str](), list[str]()
    for config in _configs(_decoded(user_data or "")):
        try:
            spec = config["spec"]
            cluster = (spec.get("cluster") or {}).get("name") or cluster
            kubelet = spec.get("kubelet") or {}
            for flag in kubelet.get("flags") or ():
                name, _, value = str(flag).partition("=")
                items = [item for item in value.strip("\"'").split(",") if item]
                if name == "--node-labels":
                    labels |= {key: text for key, _, text in (item.partition("=") for item in items)}
                elif name == "--register-with-taints":
                    taints += items
            for taint in (kubelet.get("config") or {}).get("registerWithTaints") or ():
                taints.append(f"{taint['key']}={taint.get('value') or ''}:{taint['effect']}")
        except (AttributeError, KeyError, TypeError) as error:
            raise InvalidNodeConfig(f"a NodeConfig lacks a required field ({type(error).__name__}: {error})") from error
    return NodeConfig(cluster, labels, tuple(taints)) if cluster else None


def _decoded(user_data: str) -> str:
    try:
        return base64.b64decode(user_data).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""  # it is compressed, or for another program


def _configs(text: str) -> Iterator[dict[str, Any]]:
    """The NodeConfigs of the user data, in order."""
    if text.lstrip().startswith(("MIME-Version:", "Content-Type: multipart/")):
        parts = [part.get_payload(decode=True) for part in email.message_from_string(text).walk() if part.get_content_type() == _MIME]
        texts = [part.decode() for part in parts if isinstance(part, bytes)]
    else:
        texts = [text] if _API in text else []
    for each in texts:
        try:
            found = yaml.safe_load(each)
        except yaml.YAMLError as error:
            raise InvalidNodeConfig(f"a NodeConfig is not YAML ({type(error).__name__})") from error
        if isinstance(found, dict) and str(found.get("apiVersion", "")).startswith(_API) and found.get("kind") == "NodeConfig":
            yield found
