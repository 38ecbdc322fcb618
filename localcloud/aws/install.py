"""Puts our services in moto's place. Once per process, before the first request."""

from __future__ import annotations

import os
from threading import Lock

from localcloud import settings

_lock = Lock()
_done = False


def install() -> None:
    """Every service of the embedded AWS is ours where we have one. Doing it again changes nothing."""
    global _done
    with _lock:
        if _done:
            return
        # Else AttachRolePolicy of AWS's own policies answers NoSuchEntity. Read when the IAM books are opened.
        os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"
        # Else moto looks the account up on every request, in every partition, and opens IAM books for each.
        os.environ["MOTO_ACCOUNT_ID"] = settings.ACCOUNT
        from localcloud.aws import ecr, iam, sqs, ssm, sts
        from localcloud.aws.ec2 import ec2
        from localcloud.aws.eks import eks
        from localcloud.aws.elasticache import elasticache

        for service in (ec2, ecr, eks, elasticache, iam, sqs, ssm, sts):
            service.install()
        _done = True
