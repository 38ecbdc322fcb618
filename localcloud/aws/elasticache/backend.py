"""ElastiCache's state: replication groups and parameter groups, which moto has only in part."""

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
"""Parameters for which ElastiCache's default differs from that of Redis itself."""


def arn(kind: str, name: str) -> str:
    """Return the ARN of an ElastiCache resource."""
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
        """The ARN by which tags are kept."""
        return arn("parametergroup", self.name)

    def shape(self) -> Shape:
        """Return the group as a CacheParameterGroup of the API."""
        return {
            "CacheParameterGroupName": self.name,
            "CacheParameterGroupFamily": self.family,
            "Description": self.description,
            "IsGlobal": False,
            "ARN": self.arn,
        }


@dataclass
class Group:
    """A replication group of one shard."""

    name: str
    settings: Shape
    """Values by the names of CreateReplicationGroup's parameters."""
    zones: tuple[str, ...]
    """The availability zone of each member."""
    auth_token: str | None = field(repr=False)
    status: str = "creating"
    redis: Redis | None = None
    primary: int = 0
    """Index of the member that is the primary."""
    created_at: datetime = field(default_factory=utcnow)
    auth_token_changed_at: datetime | None = None
    lock: Any = field(default_factory=RLock, repr=False)
    """Held by background work, of which one follows the other. Requests look at `status` instead, which shows that work."""

    @property
    def arn(self) -> str:
        """The ARN by which tags are kept."""
        return arn("replicationgroup", self.name)

    @property
    def members(self) -> list[str]:
        """Names of the members, which the API calls cache clusters."""
        return [f"{self.name}-{index + 1:03}" for index in range(len(self.zones))]


class CacheBackend(ElastiCacheBackend):
    """Moto's ElastiCache, with these replication and parameter groups in place of its own."""

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
        """Return the parameters that a group sets in Redis, ElastiCache's defaults included."""
        group = self.parameter_groups.get(name or "")
        return DEFAULT_PARAMETERS | (group.values if group else {})


class CacheBase(ElastiCacheResponse):
    """What all parts of the ElastiCache API need of a request."""

    @property
    def backend(self) -> CacheBackend:
        """The backend of the request's account and region."""
        found = self.elasticache_backend
        assert isinstance(found, CacheBackend)
        return found


def fault(code: str, message: str) -> ElastiCacheException:
    """Return an error with one of ElastiCache's codes, HTTP status 400."""
    error = ElastiCacheException(message)
    error.code = code
    return error
