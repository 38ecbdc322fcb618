"""A value for every placeholder of manifests/, for tests that look at all of it."""

from __future__ import annotations

from typing import Any

from blocks.parameters import ENGINES, Service
from tasks.service import compilation, preflight, rayservice

VALUES: dict[str, dict[str, Any]] = {
    "namespace": {"namespace": "mistral"},
    "redis": {"namespace": "mistral", "redis_auth_token": "t", "redis_ca_pem": "PEM"},
    "gcs-fault-tolerance": {"redis_url": "rediss://10.0.0.9:6379", "redis_ca_file": "/etc/leeward/redis/ca.crt"},
    "hf-token": {"namespace": "mistral", "hf_token": "t"},
    "node-pools": {
        "ami_alias": "al2023@v20260511",
        "kubernetes": "1.35",
        "instance_profile": "nodes",
        "inf2_subnets": [{"id": "subnet-1"}],
        "core_subnets": [{"id": "subnet-1"}, {"id": "subnet-2"}],
        "security_groups": [{"id": "sg-1"}],
        "tags": {"leeward:name": "leeward"},
        "inf2_types": ["inf2.8xlarge", "inf2.24xlarge"],
        "inf2_disk": "200Gi",
        "inf2_most": 4,
        "inf2_idle": "60s",
        "core_types": ["m6i.xlarge"],
        "core_disk": "50Gi",
        "core_most": 2,
    },
    "rayservice": {"service_name": "mistral", "namespace": "mistral", "head_image": "r/x@sha256:0", "workers": 2},
    "autoscaling": {
        "workers": 2,
        "max_workers": 4,
        "ongoing_requests": 12.0,
        "up_after_s": 10.0,
        "down_after_s": 120.0,
        "idle_worker_s": 60,
    },
    **{f"engine-{engine}": {"worker_image": "r/x@sha256:1"} for engine in ENGINES},
    "model-smollm2": {},
    "checkpoint": {"worker_image": "r/x@sha256:1", "model": "mistralai/Mistral-7B-Instruct-v0.3", "revision": "main"},
    "artifacts": {"artifacts": "s3://bucket/compiled"},
    "workers-account": {"namespace": "mistral"},
    "ingress": {
        "service_name": "mistral",
        "namespace": "mistral",
        "serve_service": "mistral-serve-svc",
        "certificate_arn": "arn:aws:acm:us-west-2:123456789012:certificate/0-1",
        "scheme": "internal",
        "inbound_cidrs": "10.0.0.0/8",
    },
    "shared-nodes": {"nodes": 2},
    "network": {"namespace": "mistral", "control_plane": [{"ipBlock": {"cidr": "10.20.8.0/24"}}]},
    "compile-job": {
        "job_name": "compile-1",
        "namespace": "mistral",
        "service": "mistral.mistral",
        "within_s": 5400,
        "pod": compilation.job(Service(), rayservice.render(Service(), "cpu", preflight.IMAGES, None, None, "s3://b/c")[-1], 60)["spec"][
            "template"
        ]["spec"],
    },
    "ray-token": {"namespace": "mistral", "ray_token": "t"},
    "api-key": {"namespace": "mistral", "api_key": "k"},
    "disruption": {"namespace": "mistral", "workers_min_available": 1},
    "chat": {"namespace": "chat", "service": "mistral.mistral", "chat_image": "r/x@sha256:2", "service_url": "http://s:8000"},
    "load-job": {
        "namespace": "leeward-load",
        "load_name": "load-1",
        "service": "mistral.mistral",
        "image": "r/x@sha256:1",
        "node_selector": {},
        "node_affinity": {},
        "pull_secrets": [],
        "load_env": [],
        "load_file": "UEs=",
        "load_plan": "{}",
        "load_deadline_s": 1800,
    },
    "neuron-device-plugin": {},
    "kuberay-operator": {"namespace": "kuberay-system", "operator_image": "quay.io/kuberay/operator:v1.6.0"},
}
FRAGMENTS = {
    "autoscaling",
    "gcs-fault-tolerance",
    "model-smollm2",
    "checkpoint",
    "artifacts",
    "shared-nodes",
    *(f"engine-{engine}" for engine in ENGINES),
}
"""Files that are merged into the RayService."""
