"""The permissions that an operation needs: actions, each on its resources, with the values of the condition keys.

Most operations need the action of their own name. S3 has other names, and some operations need more than one action.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from localcloud import settings
from localcloud.aws.auth import credentials
from localcloud.aws.auth.credentials import Credential
from localcloud.aws.authorization import resources
from localcloud.aws.authorization.operations import Operation
from localcloud.aws.authorization.resources import Parameters

Context = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Need:
    """One action on one resource. `context` has the condition keys that depend on the operation, in lower case."""

    action: str
    resource: str
    context: Context = field(default_factory=dict)


def of(operation: Operation) -> Iterator[Need]:
    """Everything that the operation needs, its own action first."""
    if operation.service == "ec2":
        yield from _of_ec2(operation)
        return
    if operation.service == "s3":
        yield from _of_s3(operation)
        return
    name, given = _ACTIONS.get((operation.service, operation.name), operation.name), operation.parameters
    context = _tags_context(_tags(given)) | _keys(operation.service, given)
    for resource in resources.of(operation.service, name, given):
        yield Need(f"{operation.service}:{name}", resource.arn, context)
    if name.startswith(("Create", "Put")) and (tagging := _TAGGING.get(operation.service)) and _tags(given):
        tag = tagging.get(name, tagging.get("", ""))
        # The parameters of a creation may name several kinds; the longest ARN is that of what is created.
        made = max((each.arn for each in resources.of(operation.service, tag, given)), key=len)
        yield Need(f"{operation.service}:{tag}", made, context)
    yield from _passed(operation)


_ACTIONS = {
    ("sqs", "ChangeMessageVisibilityBatch"): "ChangeMessageVisibility",
    ("sqs", "DeleteMessageBatch"): "DeleteMessage",
    ("sqs", "SendMessageBatch"): "SendMessage",
}
"""Operations whose action has another name. Those of S3 are below."""
_TAGGING: dict[str, dict[str, str]] = {
    "ecr": {"": "TagResource"},
    "eks": {"": "TagResource"},
    "elasticache": {"": "AddTagsToResource"},
    "elasticloadbalancing": {"": "AddTags"},
    "events": {"": "TagResource"},
    "iam": {"CreateInstanceProfile": "TagInstanceProfile", "CreatePolicy": "TagPolicy", "CreateRole": "TagRole", "CreateUser": "TagUser"},
    "kms": {"": "TagResource"},
    "logs": {"": "TagResource"},
    "secretsmanager": {"": "TagResource"},
    "sqs": {"": "TagQueue"},
}
"""The action that is needed besides when something is created with tags, by the action that creates it."""


# Roles that are passed to a service ------------------------------------------------------------------

_PASSED = {
    ("eks", "CreateCluster"): ("roleArn", "eks.amazonaws.com"),
    ("eks", "CreateNodegroup"): ("nodeRole", "eks.amazonaws.com"),
    ("eks", "CreatePodIdentityAssociation"): ("roleArn", "pods.eks.amazonaws.com"),
    ("eks", "UpdatePodIdentityAssociation"): ("roleArn", "pods.eks.amazonaws.com"),
    ("iam", "AddRoleToInstanceProfile"): ("RoleName", "ec2.amazonaws.com"),
}
"""The parameter with the role, and the service to which it is passed."""


def _passed(operation: Operation) -> Iterator[Need]:
    given = operation.parameters
    parameter, service = _PASSED.get((operation.service, operation.name), ("", ""))
    if role := given.get(parameter):
        yield _pass(role, service)
    if operation.service == "eks" and operation.name in ("CreateAddon", "UpdateAddon"):
        for association in given.get("podIdentityAssociations") or ():
            yield _pass(association.get("roleArn", "*"), "pods.eks.amazonaws.com")


def _pass(role: str, service: str) -> Need:
    arn = role if role.startswith("arn:") else resources.of("iam", "PassRole", {"RoleName": role})[0].arn
    return Need("iam:PassRole", arn, {"iam:passedtoservice": (service,)})


# EC2 ------------------------------------------------------------------------------------------------


def _of_ec2(operation: Operation) -> Iterator[Need]:
    given, launches = operation.parameters, operation.name in ("CreateFleet", "RunInstances")
    if launches:
        given = resources.with_launch_templates(given)
    tags = _tags_by_kind(given)
    yield from _ec2_action(operation.name, given, tags)
    if operation.name == "CreateFleet":
        yield from _ec2_action("RunInstances", given, tags)
    if operation.name not in ("CreateTags", "DeleteTags"):
        for kind, of_kind in tags.items():
            context = _tags_context(of_kind) | {"ec2:createaction": (operation.name,)}
            yield Need("ec2:CreateTags", f"arn:{credentials.PARTITION}:ec2:{settings.REGION}:{settings.ACCOUNT}:{kind}/*", context)
    for profile in _profiles(given) if launches else ():
        found = resources.instance_profile(profile)
        for role in found.roles if found else ():
            yield _pass(role.arn, "ec2.amazonaws.com")


def _ec2_action(name: str, given: Parameters, tags: Mapping[str, dict[str, str]]) -> Iterator[Need]:
    for resource in resources.of("ec2", name, given, created=tags.keys()):
        found = resources.tags(resource)
        context = _tags_context(tags.get(resource.kind, tags.get("", {}) if name in ("CreateTags", "DeleteTags") else {}))
        context |= {f"{prefix}:resourcetag/{key.lower()}": (value,) for key, value in found.items() for prefix in ("aws", "ec2")}
        yield Need(f"ec2:{name}", resource.arn, context)


def _tags_by_kind(given: Parameters) -> dict[str, dict[str, str]]:
    """The tags of the request by the kind of resource that gets them, also those that its launch templates give."""
    found: dict[str, dict[str, str]] = {"": _tags(given)} if _tags(given) else {}
    specifications = list(given.get("TagSpecifications") or given.get("TagSpecification") or ())
    for template in given.get("LaunchTemplates", ()):
        specifications += template["Data"].get("TagSpecifications") or []
    for each in specifications:
        found.setdefault(each.get("ResourceType", ""), {}).update(_pairs(each.get("Tags") or each.get("Tag") or []))
    return found


def _profiles(given: Parameters) -> Iterator[str]:
    for launch in (given, *(template["Data"] for template in given.get("LaunchTemplates", ()))):
        profile = launch.get("IamInstanceProfile") or {}
        if name := profile.get("Arn") or profile.get("Name"):
            yield name


# S3 -------------------------------------------------------------------------------------------------

_S3_ACTIONS = {
    "CompleteMultipartUpload": "PutObject",
    "CopyObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "DeleteBucketCors": "PutBucketCORS",
    "DeleteBucketEncryption": "PutEncryptionConfiguration",
    "DeleteBucketLifecycle": "PutLifecycleConfiguration",
    "DeleteBucketReplication": "PutReplicationConfiguration",
    "DeleteBucketTagging": "PutBucketTagging",
    "DeleteObjects": "DeleteObject",
    "DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
    "GetBucketAccelerateConfiguration": "GetAccelerateConfiguration",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "GetBucketLifecycle": "GetLifecycleConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "GetBucketNotificationConfiguration": "GetBucketNotification",
    "GetBucketReplication": "GetReplicationConfiguration",
    "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "HeadBucket": "ListBucket",
    "HeadObject": "GetObject",
    "ListBuckets": "ListAllMyBuckets",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListObjectVersions": "ListBucketVersions",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListParts": "ListMultipartUploadParts",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "PutBucketLifecycle": "PutLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "PutBucketNotificationConfiguration": "PutBucketNotification",
    "PutBucketReplication": "PutReplicationConfiguration",
    "PutObjectLockConfiguration": "PutBucketObjectLockConfiguration",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
}
_OF_VERSIONS = {"GetObject": "GetObjectVersion", "DeleteObject": "DeleteObjectVersion", "HeadObject": "GetObjectVersion"}


def _of_s3(operation: Operation) -> Iterator[Need]:
    given, name = operation.parameters, operation.name
    context: Context = {f"s3:{key}": (given[key],) for key in ("prefix", "delimiter", "max-keys") if key in given}
    if name == "DeleteObjects" and given.get("Objects"):
        for key, version in given["Objects"]:
            action = "DeleteObjectVersion" if version else "DeleteObject"
            yield from (Need(f"s3:{action}", each.arn) for each in resources.of("s3", action, {"Bucket": given["Bucket"], "Key": key}))
        return
    action = _OF_VERSIONS[name] if "versionId" in given and name in _OF_VERSIONS else _S3_ACTIONS.get(name, name)
    yield from (Need(f"s3:{action}", each.arn, context) for each in resources.of("s3", action, given))
    if source := given.get("CopySource"):
        bucket, _, key = source.partition("/")
        yield from (Need("s3:GetObject", each.arn) for each in resources.of("s3", "GetObject", {"Bucket": bucket, "Key": key}))
    if action == "GetObject" and not resources.object_exists(given["Bucket"], given["Key"]):
        # Who may not list a bucket is not told that an object is missing.
        yield from (Need("s3:ListBucket", each.arn) for each in resources.of("s3", "ListBucket", given))


# Condition keys ---------------------------------------------------------------------------------------

_KEYS = {
    "iam": {"PolicyArn": "iam:PolicyARN", "AWSServiceName": "iam:AWSServiceName", "PermissionsBoundary": "iam:PermissionsBoundary"},
    "secretsmanager": {"Name": "secretsmanager:Name"},
    "servicequotas": {"ServiceCode": "servicequotas:service"},
}
"""Condition keys of services that are simply a parameter, by the parameter."""


def _keys(service: str, given: Parameters) -> Context:
    known = _KEYS.get(service, {})
    return {key.lower(): (given[name],) for name, key in known.items() if isinstance(given.get(name), str)}


def _tags(given: Parameters) -> dict[str, str]:
    """The tags among the parameters, in any of the forms that services have; keys alone where tags are removed."""
    for name in ("Tags", "tags", "TagList", "Tag"):
        if value := given.get(name):
            return _pairs(value)
    keys = given.get("TagKeys") or given.get("tagKeys") or ()
    return {key: "" for key in keys if isinstance(key, str)}


def _pairs(value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        return {str(key): str(each) for key, each in value.items()}
    found = ({key.lower(): each for key, each in tag.items()} for tag in value if isinstance(tag, Mapping))
    return {str(tag.get("key") or tag.get("tagkey")): str(tag.get("value") or tag.get("tagvalue") or "") for tag in found}


def _tags_context(tags: Mapping[str, str]) -> Context:
    if not tags:
        return {}
    return {f"aws:requesttag/{key.lower()}": (value,) for key, value in tags.items()} | {"aws:tagkeys": tuple(tags)}


def of_caller(credential: Credential, service: str, address: str, now: datetime) -> Context:
    """The condition keys that every request has."""
    user = credential.arn.rpartition("/")[2] if credential.role_arn is None else ""
    found = {
        "aws:principalarn": credential.principal_arn,
        "aws:principalaccount": settings.ACCOUNT,
        "aws:principaltype": "User" if user else "AssumedRole",
        "aws:userid": credential.user_id,
        "aws:username": user,
        "aws:resourceaccount": settings.ACCOUNT,
        "aws:requestedregion": "us-east-1" if service == "iam" else settings.REGION,
        "aws:securetransport": "true",
        "aws:viaawsservice": "false",
        "aws:sourceip": address,
        "aws:currenttime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "aws:epochtime": str(int(now.timestamp())),
    }
    found |= {"ec2:region": settings.REGION} if service == "ec2" else {}
    return {key: (value,) for key, value in found.items() if value}
