"""What ElastiCache keeps: replication groups and parameter groups, which moto has not or only by halves."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from threading import RLock
from typing import Any

from moto.core.utils import utcnow
from moto.elasticache import urls as elasticache_urls
from moto.elasticache.exceptions import ElastiCacheException
from moto.elasticache.models import ElastiCacheBackend
from moto.elasticache.responses import ElastiCacheResponse

from localcloud import settings
from localcloud.machine.interface import Redis

Shape = dict[str, Any]
"""A structure of the ElastiCache API, with the API's own keys."""

DEFAULT_PARAMETERS = {"maxmemory-policy": "volatile-lru"}
"""Where ElastiCache's default is not that of Redis itself."""


def arn(kind: str, name: str) -> str:
    """ARN of an ElastiCache resource."""
    return f"arn:aws:elasticache:{settings.REGION}:{settings.ACCOUNT}:{kind}:{name}"


@dataclass
class ParameterGroup:
    """A named set of Redis parameters."""

    name: str
    family: str
    description: str
    values: dict[str, str] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        """For tags."""
        return arn("parametergroup", self.name)

    def shape(self) -> Shape:
        """As the API tells it."""
        return {
            "CacheParameterGroupName": self.name,
            "CacheParameterGroupFamily": self.family,
            "Description": self.description,
            "IsGlobal": False,
            "ARN": self.arn,
        }


@dataclass
class Group:
    """A replication group of one shard. `primary` is the index of the member that is primary."""

    name: str
    settings: Shape
    """By the names of CreateReplicationGroup's parameters."""
    zones: tuple[str, ...]
    """Availability zone of each member."""
    auth_token: str | None = field(repr=False)
    status: str = "creating"
    redis: Redis | None = None
    primary: int = 0
    created_at: datetime = field(default_factory=utcnow)
    auth_token_changed_at: datetime | None = None
    lock: Any = field(default_factory=RLock, repr=False)
    """Held by work in the background, one after the other. Requests look at the status instead: it tells of that work."""

    @property
    def arn(self) -> str:
        """For tags."""
        return arn("replicationgroup", self.name)

    @property
    def members(self) -> list[str]:
        """Names of the members' cache clusters."""
        return [f"{self.name}-{index + 1:03}" for index in range(len(self.zones))]


class CacheBackend(ElastiCacheBackend):
    """Moto's ElastiCache with our groups beside its own."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        kinds = "cluster|snapshot|subnetgroup|replicationgroup|user|usergroup|parametergroup|serverlesscache"
        self.arn_regex = re.compile(rf"^arn:aws:elasticache:.*:[0-9]*:({kinds}):.*$")
        self.groups: dict[str, Group] = {}
        self.parameter_groups: dict[str, ParameterGroup] = {}

    @property
    def _url_module(self) -> Any:
        return elasticache_urls

    def parameters(self, name: str | None) -> dict[str, str]:
        """What Redis is to be set to under a parameter group, the default ones included."""
        group = self.parameter_groups.get(name or "")
        return DEFAULT_PARAMETERS | (group.values if group else {})


class CacheBase(ElastiCacheResponse):
    """The books that the request is about."""

    @property
    def books(self) -> CacheBackend:
        """Of the request's account and region."""
        backend = self.elasticache_backend
        assert isinstance(backend, CacheBackend)
        return backend


def fault(code: str, message: str) -> ElastiCacheException:
    """An error with one of ElastiCache's codes, 400."""
    error = ElastiCacheException(message)
    error.code = code
    return error
