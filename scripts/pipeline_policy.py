"""`python -m scripts.pipeline_policy`: write the IAM policy of the pipeline's role from what it asked the embedded cloud for.

The running cloud has recorded every action with its resources. Names, account and region of that run become wildcards, and
what the document says already stays, so several runs add up; `--new` begins again. No run shows everything: what is called
only when a stack is changed, and what AWS itself does with the caller's rights, is listed here.
"""

from __future__ import annotations

import argparse
import json
import re
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from scripts import cloud
from scripts.support.paths import ROOT

DOCUMENT = ROOT / "terraform" / "pipeline-policy.json"
ROLE = "role/leeward-pipeline"
"""End of the ARN of the role that the pipeline has in the embedded cloud."""
_NOT_ITSELF = ("iam:*RolePolicy", "iam:DeleteRole", "iam:PassRole", "iam:UpdateAssumeRolePolicy", "iam:UpdateRole")
"""What the pipeline may do to the roles of its stacks, but not to its own."""
Rights = dict[str, set[str]]
"""Patterns of resources by action."""

_CHANGES: Mapping[str, tuple[str, ...]] = {
    "*": (
        *(
            f"ec2:{action}"
            for action in ("CreateLaunchTemplateVersion", "DeleteLaunchTemplateVersions", "DeleteTags", "ModifyLaunchTemplate")
        ),
        *(f"ec2:{action}" for action in ("ModifySecurityGroupRules", "ModifyVpcEndpoint", "ReplaceRoute")),
        *(f"eks:{action}" for action in ("DescribeUpdate", "UntagResource", "UpdateAccessEntry", "UpdateAddon", "UpdateClusterConfig")),
        *(f"eks:{action}" for action in ("UpdateClusterVersion", "UpdateNodegroupConfig", "UpdateNodegroupVersion")),
        "eks:UpdatePodIdentityAssociation",
    ),
    "arn:aws:ecr:*:*:repository/leeward-*": ("ecr:PutImageScanningConfiguration", "ecr:PutImageTagMutability", "ecr:UntagResource"),
    "arn:aws:elasticache:*:*:*:leeward-*": (
        *(f"elasticache:{action}ReplicaCount" for action in ("Decrease", "Increase")),
        *(f"elasticache:Modify{kind}" for kind in ("CacheParameterGroup", "CacheSubnetGroup", "ReplicationGroup")),
        "elasticache:RemoveTagsFromResource",
        "elasticache:ResetCacheParameterGroup",
    ),
    "arn:aws:events:*:*:rule/leeward-*": ("events:UntagResource",),
    "arn:aws:iam::*:instance-profile/leeward-*": ("iam:UntagInstanceProfile",),
    "arn:aws:iam::*:role/leeward-*": ("iam:UntagRole", "iam:UpdateAssumeRolePolicy", "iam:UpdateRole", "iam:UpdateRoleDescription"),
    "arn:aws:logs:*:*:log-group:/aws/eks/*": ("logs:UntagResource",),
    "arn:aws:sqs:*:*:leeward-*": ("sqs:UntagQueue",),
}
"""What Terraform calls when a variable of a stack is changed."""
_SELDOM: Mapping[str, tuple[str, ...]] = {
    # Karpenter is out of reach; a quota was never changed.
    "*": (
        *("ec2:TerminateInstances", "servicequotas:GetAWSDefaultServiceQuota"),
        # A service has its model in S3, or compiles it ahead.
        "eks:ListPodIdentityAssociations",
        # Others have put load balancers into the network, or taken snapshots; a stack has expired.
        *("ec2:DescribeSnapshots", "ec2:DescribeTags", "elasticache:DescribeSnapshots", "s3:ListAllMyBuckets"),
        *(f"elasticloadbalancing:Describe{kind}" for kind in ("LoadBalancers", "Tags", "TargetGroups")),
        *(f"elasticloadbalancing:Delete{kind}" for kind in ("LoadBalancer", "TargetGroup")),
    ),
    "arn:aws:s3:::leeward-*": ("s3:GetBucketTagging", "s3:PutBucketTagging"),
    "arn:aws:s3:::leeward-*/*": ("s3:AbortMultipartUpload",),
    # The newest AMI, when a stack is made or refreshed.
    "arn:aws:ssm:*::parameter/aws/service/*": ("ssm:GetParameter",),
}
"""What the pipeline calls only when something is not as it should be."""
_BY_AWS: Mapping[str, tuple[str, ...]] = {
    # The first use of a service in an account creates the role with which the service acts.
    "arn:aws:iam::*:role/aws-service-role/*": ("iam:CreateServiceLinkedRole",),
    # EKS and Auto Scaling try a node group's launch template with the rights of who creates the group. With a key of one's own for
    # Secrets, EKS gives itself the use of it.
    "*": (
        *("ec2:RunInstances", "kms:CreateGrant", "kms:DescribeKey"),
        *("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
    ),
    # A push asks the registry, which is open here; a base image may be in any repository.
    "arn:aws:ecr:*:*:repository/leeward-*": tuple(
        f"ecr:{action}" for action in ("CompleteLayerUpload", "InitiateLayerUpload", "PutImage", "UploadLayerPart")
    ),
    # The bucket's policy is set where the endpoint has TLS, which the embedded one has not.
    "arn:aws:s3:::leeward-*": ("s3:PutBucketPolicy",),
}
"""What AWS does with the rights of the caller, or only there."""
_SERVICES = ("autoscaling", "eks", "eks-nodegroup", "elasticache", "spot")
_CONDITIONS: Sequence[tuple[re.Pattern[str], Mapping[str, Any]]] = (
    (re.compile(r"ec2:(Delete(?!Tags)|Release|Terminate)\w+"), {"Null": {"aws:ResourceTag/leeward:name": "false"}}),
    (
        re.compile("iam:AttachRolePolicy"),
        {"ArnLike": {"iam:PolicyARN": [f"arn:aws:iam::aws:policy/Amazon{name}*" for name in ("EC2ContainerRegistry", "EKS")]}},
    ),
    (
        re.compile("iam:CreateServiceLinkedRole"),
        {"StringEquals": {"iam:AWSServiceName": [f"{name}.amazonaws.com" for name in _SERVICES]}},
    ),
    (
        re.compile("iam:PassRole"),
        {"StringEquals": {"iam:PassedToService": [f"{name}.amazonaws.com" for name in ("ec2", "eks", "pods.eks")]}},
    ),
    (re.compile("kms:CreateGrant"), {"Bool": {"kms:GrantIsForAWSResource": "true"}}),
)
"""Conditions of actions that would otherwise give away more than is needed: other stacks, other policies, other services."""


def recorded(calls: Iterable[Mapping[str, Any]]) -> Rights:
    """The rights that the pipeline used, from the cloud's record. What it was refused is not among them."""
    found: Rights = {}
    for call in calls:
        if call["allowed"] and str(call["principal"]).endswith(ROLE):
            patterns = {pattern for resource in call["resources"] if (pattern := _pattern(resource))}
            found.setdefault(call["action"], set()).update(patterns)
    return {action: patterns for action, patterns in found.items() if patterns}


def _pattern(resource: str) -> str:
    """The resource without what differs between stacks; nothing for a bare name, which no policy can have."""
    if resource == "*":
        return "*"
    parts = resource.split(":", 5)
    if len(parts) < 6:
        return ""
    partition, service, region, account, name = parts[1:]
    if service in _NAMED_FREELY:
        return "*"
    if name.endswith((":*", "/*")):
        pass  # all of a kind, which is what a list without a name asks for
    elif service == "s3":
        name = "leeward-*/*" if "/" in name else "leeward-*"
    elif service == "elasticache":
        name = "*:leeward-*"
    elif known := _PREFIX.match(name):
        name = f"{known[0]}*"
    else:
        name = "*"
    return ":".join(("arn", partition, service, "*" if region else "", "*" if account else "", name))


_NAMED_FREELY = {"ec2", "eks", "kms"}
"""Services whose resources have no name of ours in their ARN. The kind alone restricts nothing: the action tells it, too."""
_PREFIX = re.compile(r"(log-group:/aws/eks/|parameter/aws/service/|([\w-]+[/:])?leeward[-/]|[\w-]+[/:])")
"""The part of a resource's name that is the same for every stack."""


def rights_in(document: Mapping[str, Any]) -> Rights:
    """The rights that a document of this module gives."""
    found: Rights = {}
    for statement in document["Statement"]:
        for action in statement["Action"] if statement["Effect"] == "Allow" else ():
            found.setdefault(action, set()).update(statement["Resource"])
    return found


def document(rights: Rights) -> dict[str, Any]:
    """The policy that gives these rights and those that no run shows, one statement for each set of resources."""
    everything: Rights = {action: set(patterns) for action, patterns in rights.items()}
    for extra in (_CHANGES, _SELDOM, _BY_AWS):
        for pattern, more in extra.items():
            for action in more:
                everything.setdefault(action, set()).add(pattern)
    statements: dict[tuple[tuple[str, ...], int], list[str]] = {}
    for action, patterns in sorted(everything.items()):
        resources = tuple(sorted(each for each in patterns if not any(fnmatchcase(each, wider) for wider in patterns - {each})))
        conditional = next((number for number, (which, _) in enumerate(_CONDITIONS) if which.fullmatch(action)), -1)
        statements.setdefault((resources, conditional), []).append(action)
    made = []
    for (names, conditional), actions in sorted(statements.items(), key=lambda item: item[1]):
        condition = {"Condition": _CONDITIONS[conditional][1]} if conditional >= 0 else {}
        made.append({"Effect": "Allow", "Action": actions, "Resource": list(names)} | condition)
    made.append({"Sid": "NotItself", "Effect": "Deny", "Action": list(_NOT_ITSELF), "Resource": [f"arn:aws:iam::*:{ROLE}"]})
    return {"Version": "2012-10-17", "Statement": made}


def size(policy: Mapping[str, Any]) -> int:
    """The characters that IAM counts: all but white space."""
    return len(json.dumps(policy, separators=(",", ":")))


def main() -> None:
    """Write the document, and print how much it gives."""
    parser = argparse.ArgumentParser(prog="python -m scripts.pipeline_policy", description=__doc__)
    parser.add_argument("--endpoint", help="address of the AWS endpoint that kept the record; default: that of the running cloud")
    parser.add_argument("--new", action="store_true", help="forget what the document says")
    arguments = parser.parse_args()
    endpoint = arguments.endpoint or cloud.endpoint()["endpoint_url"]
    with urllib.request.urlopen(f"{endpoint}/localcloud/calls", timeout=60) as answer:
        rights = recorded(json.load(answer))
    if not arguments.new and DOCUMENT.exists():
        for action, patterns in rights_in(json.loads(DOCUMENT.read_text())).items():
            rights.setdefault(action, set()).update(patterns)
    made = document(rights)
    DOCUMENT.write_text(json.dumps(made, indent=2) + "\n")
    print(f"{DOCUMENT.relative_to(ROOT)}: {len(rights_in(made))} actions, {size(made)} characters")


if __name__ == "__main__":
    main()
