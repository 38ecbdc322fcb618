"""The Redis that Ray's state is kept in: where it is, and whether it answers as Ray will ask it."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field

from pydantic import SecretStr

from blocks.errors import Permanent
from tasks.aws.account import redis_auth_token
from tasks.support.site import Site
from tasks.terraform.infrastructure import Outputs

CONNECT_S = 5.0


class RedisRefused(Permanent):
    """Redis answers, but not to this password or certificate authority."""


@dataclass(frozen=True, slots=True)
class Redis:
    """A Redis with TLS and AUTH."""

    address: str
    port: int
    auth_token: SecretStr = field(repr=False)
    ca_pem: str = field(default="", repr=False)
    """Empty: a public authority."""

    @property
    def url(self) -> str:
        """As Ray takes it, without the password."""
        return f"rediss://{self.address}:{self.port}"

    @property
    def ca_file(self) -> str:
        """Where Ray's containers find the authority: mounted by us, or their own bundle."""
        return "/etc/leeward/redis/ca.crt" if self.ca_pem else "/etc/ssl/certs/ca-certificates.crt"


def find_redis(site: Site, outputs: Outputs | None) -> Redis | None:
    """The Redis of a site: Terraform's, else the target's own; None when there is none."""
    target = site.block
    if outputs is not None and outputs.redis is not None:
        token = redis_auth_token(target.session(), site.infrastructure.name)
        return Redis(outputs.redis.address, outputs.redis.port, token, target.redis_ca_pem)
    if target.redis is not None:
        return Redis(target.redis.address, target.redis.port, target.redis.auth_token, target.redis_ca_pem)
    return None


def ping(redis: Redis, within_s: float = CONNECT_S) -> bool:
    """Whether it answers here, with TLS and AUTH; False when it cannot be reached from here, as in a private network.

    Raises:
        RedisRefused: it can be reached, but not be used.
    """
    try:
        plain = socket.create_connection((redis.address, redis.port), timeout=within_s)
    except OSError:
        return False
    try:
        context = ssl.create_default_context(cadata=redis.ca_pem or None)
        with plain, context.wrap_socket(plain, server_hostname=redis.address) as connection:
            said = _say(connection, "AUTH", redis.auth_token.get_secret_value())
            said = _say(connection, "PING") if said == "+OK" else said
    except OSError as error:  # ssl.SSLError is one
        raise RedisRefused(f"Redis at {redis.url} does not speak TLS as expected: {error}; is redis_ca_pem of the target right?") from error
    if said != "+PONG":
        raise RedisRefused(f"Redis at {redis.url} answers {said!r}; is the AUTH token another one than that in Secrets Manager?")
    return True


def _say(connection: ssl.SSLSocket, *words: str) -> str:
    encoded = [word.encode() for word in words]
    connection.sendall(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in encoded))
    answer = b""
    while not answer.endswith(b"\r\n"):
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionResetError("Redis closed the connection")
        answer += piece
    return answer.decode(errors="replace").strip()
