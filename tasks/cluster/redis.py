"""The Redis that keeps Ray's state: its endpoint, and whether it accepts the connection that Ray will make."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field

from pydantic import SecretStr
from redis import Redis as Client
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, SSLConnection
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.retry import Retry

from blocks.errors import Permanent
from tasks.aws.account import redis_auth_token
from tasks.support.site import Site
from tasks.terraform.infrastructure import Outputs

CONNECT_S = 5.0
"""Seconds for each step: connection, TLS and every answer."""


class RedisRefused(Permanent):
    """Redis answers, but refuses the password, or its certificate is not of the given authority."""


@dataclass(frozen=True, slots=True)
class Redis:
    """Endpoint of a Redis with TLS and AUTH."""

    address: str
    port: int
    auth_token: SecretStr = field(repr=False)
    ca_pem: str = field(default="", repr=False)
    """Certificate authority in PEM; empty: a public one."""

    @property
    def url(self) -> str:
        """Address in Ray's format, without the password."""
        return f"rediss://{self.address}:{self.port}"

    @property
    def ca_file(self) -> str:
        """Path of the authority in Ray's containers: a mounted file, or the image's own bundle."""
        return "/etc/leeward/redis/ca.crt" if self.ca_pem else "/etc/ssl/certs/ca-certificates.crt"


def find_redis(site: Site, outputs: Outputs | None) -> Redis | None:
    """The Redis of a site: Terraform's, else the one in the target; None: there is none."""
    target = site.block
    if outputs is not None and outputs.redis is not None:
        token = redis_auth_token(target.session(), site.infrastructure.name)
        return Redis(outputs.redis.address, outputs.redis.port, token, target.redis_ca_pem)
    if target.redis is not None:
        return Redis(target.redis.address, target.redis.port, target.redis.auth_token, target.redis_ca_pem)
    return None


def ping(redis: Redis, within_s: float = CONNECT_S) -> bool:
    """Whether it answers here, with TLS and AUTH; False: it cannot be reached from here, for example in a private network.

    Raises:
        RedisRefused: it can be reached, but not be used.
    """
    try:
        socket.create_connection((redis.address, redis.port), timeout=within_s).close()
    except OSError:
        return False
    pool = ConnectionPool(
        connection_class=_TlsConnection,
        host=redis.address,
        port=redis.port,
        password=redis.auth_token.get_secret_value(),
        ssl_ca_data=redis.ca_pem or None,
        socket_timeout=within_s,
        socket_connect_timeout=within_s,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,  # no CLIENT SETINFO
    )
    try:
        with Client.from_pool(pool) as client:
            client.ping()
    except (AuthenticationError, ResponseError) as error:
        raise RedisRefused(
            f"Redis at {redis.url} answers {str(error)!r}; is the AUTH token another one than that in Secrets Manager?"
        ) from error
    except (RedisError, OSError) as error:
        raise RedisRefused(f"Redis at {redis.url} does not speak TLS as expected: {error}; is redis_ca_pem of the target right?") from error
    return True


class _TlsConnection(SSLConnection):
    """A connection that trusts only the given authority, as Ray does. redis-py itself would trust the public ones too."""

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        return ssl.create_default_context(cadata=self.ca_data).wrap_socket(sock, server_hostname=self.host)
