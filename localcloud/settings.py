"""Fixed values of the embedded cloud: addresses, ports, versions, names.

One place, no logic, standard library only: the machine side, the AWS side and the doctor read it. They are
constants rather than options because one cloud runs per machine, and requests signed for one address
must be valid from the host, the nodes and the pods alike.
"""

from __future__ import annotations

from typing import Final

# AWS -----------------------------------------------------------------------------------------------
REGION: Final = "us-west-2"
"""A region with inf2 instances, and the embedded cloud's only one."""
ACCOUNT: Final = "123456789012"
"""Account number in moto's answers."""
AVAILABILITY_ZONES: Final = ("us-west-2a", "us-west-2b", "us-west-2c")
USER: Final = "leeward"
"""IAM user of the access key that `env` prints."""
ROLE: Final = "leeward-pipeline"
"""IAM role that USER may assume; the pipeline acts as it."""
USER_ARN: Final = f"arn:aws:iam::{ACCOUNT}:user/{USER}"
ROLE_ARN: Final = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"

# Network -------------------------------------------------------------------------------------------
BRIDGE: Final = "lw0"
"""Bridge inside the cloud's network namespace, which connects nodes, Redis and the control plane."""
NETWORK: Final = "10.213.0.0/24"
NETWORK_PREFIX: Final = 24
GATEWAY: Final = "10.213.0.1"
AWS_HOST: Final = "10.213.0.2"
AWS_PORT: Final = 4566
AWS_ENDPOINT_URL: Final = f"http://{AWS_HOST}:{AWS_PORT}"
"""URL for host, nodes and pods alike. With an address instead of a name the SDKs use path-style S3."""
WEBHOOK_PORT: Final = 4567
"""HTTPS port on AWS_HOST of the admission webhook of EKS Pod Identity."""
POD_IDENTITY_HOST: Final = "169.254.170.23"
POD_IDENTITY_PORT: Final = 80
POD_IDENTITY_URL: Final = f"http://{POD_IDENTITY_HOST}/v1/credentials"
"""URL from which pods get credentials, as on EKS. The SDKs accept plain HTTP for credentials from few addresses; this is one."""
POD_IDENTITY_SERVICE: Final = "pods.eks.amazonaws.com"
"""Service that roles of pods trust, and the audience of the tokens that pods send for credentials."""
REGISTRY_HOST: Final = "10.213.0.3"
REGISTRY_PORT: Final = 5000
REGISTRY: Final = f"{REGISTRY_HOST}:{REGISTRY_PORT}"
API_SERVER_HOST: Final = "10.213.0.10"
API_SERVER_PORT: Final = 443
API_SERVER_URL: Final = f"https://{API_SERVER_HOST}"
REDIS_HOSTS: Final = tuple(f"10.213.0.{n}" for n in range(20, 40))
REDIS_PORT: Final = 6379
NODE_HOSTS: Final = tuple(f"10.213.0.{n}" for n in range(100, 200))
POD_NETWORK: Final = "10.214.0.0/16"
"""Network of all pods. Node N (0 = first of NODE_HOSTS) has 10.214.N.0/24."""
SERVICE_NETWORK: Final = "172.20.0.0/16"
CLUSTER_DNS: Final = "172.20.0.10"
CLUSTER_DOMAIN: Final = "cluster.local"
UPLINK: Final = "leeward0"
"""The host's end of the one veth between host and cloud."""
UPLINK_NETWORK: Final = "10.213.255.0/30"
UPLINK_HOST: Final = "10.213.255.1"
UPLINK_CLOUD: Final = "10.213.255.2"
UPLINK_PREFIX: Final = 30
ROUTES: Final = (NETWORK, POD_NETWORK, SERVICE_NETWORK)
"""Networks that the host routes into the cloud."""
CLAIMED_NETWORKS: Final = ("10.213.0.0/16", POD_NETWORK, SERVICE_NETWORK)
"""Networks that nothing else on the machine may use while the cloud is up."""

# Versions: each repeats a pin of build/go/*/go.mod; tests/unit/localcloud/machine/test_settings.py holds them equal. -------
KUBERNETES_VERSION: Final = "1.35.4"
KUBERAY_VERSION: Final = "1.6.0"
COREDNS_VERSION: Final = "1.15.0"
KARPENTER_VERSION: Final = "1.14.3"
GO_MINIMUM: Final = (1, 26, 10)
"""Oldest Go that can be used: Karpenter 1.14 requires it."""
DEBIAN_SUITE: Final = "trixie"
"""Debian suite of the serving image's base. Its python3-torch is the CPU build."""

# Images that every node has before it joins, under the names that AWS and upstream give them. --------------
PAUSE_IMAGE: Final = "registry.k8s.io/pause:3.10"
COREDNS_IMAGE: Final = f"602401143452.dkr.ecr.{REGION}.amazonaws.com/eks/coredns:v1.13.2-eksbuild.1"
"""Name of the EKS add-on's image; its content is our build of COREDNS_VERSION."""
KUBERAY_OPERATOR_IMAGE: Final = f"quay.io/kuberay/operator:v{KUBERAY_VERSION}"
KARPENTER_IMAGE: Final = f"public.ecr.aws/karpenter/controller:{KARPENTER_VERSION}"
NEURON_DEVICE_PLUGIN_IMAGE: Final = "public.ecr.aws/neuron/neuron-device-plugin:2.31.0.0"
"""Name of AWS's image; its content is our own program, which simulates chips."""
PRELOADED_IMAGES: Final = (PAUSE_IMAGE, COREDNS_IMAGE, KUBERAY_OPERATOR_IMAGE, KARPENTER_IMAGE, NEURON_DEVICE_PLUGIN_IMAGE)
BASE_IMAGE: Final = "docker.io/library/debian:trixie-slim"
"""Image name inside the archive of the serving image's base."""

# Host side -----------------------------------------------------------------------------------------
MIN_FREE_DISK: Final = 25 * 10**9
"""Bytes that must be free before the first build. It takes 11 GB: artefacts, Go's modules and packages, image store, Python packages."""
MIN_FREE_DISK_BUILT: Final = 12 * 10**9
"""Bytes that must be free after the first build: a running cloud's data, with four unpacked copies of the serving image, and rebuilds."""
MIN_AVAILABLE_MEMORY: Final = 8 * 10**9
"""Bytes that must be available: control plane 1.5 GB, four nodes 0.5 GB each, four Ray pods 1 GB each."""
MIN_PYTHON: Final = (3, 11)
