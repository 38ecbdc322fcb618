"""Replication groups: real Redis servers, one box each, behind addresses that follow primary and replica.

They behave like ElastiCache: no append-only file, asynchronous replication, and a failover that cuts the connections to
the old primary. The AUTH token is only in files of mode 0600 and in connections.
"""

from __future__ import annotations

import logging
import shutil
import ssl
from pathlib import Path

from localcloud import settings
from localcloud.files import write_private
from localcloud.machine import network
from localcloud.machine.box import Box
from localcloud.machine.interface import MachineError
from localcloud.machine.interface import Redis as Endpoints
from localcloud.machine.pki import Authority
from localcloud.machine.processes import wait_until
from localcloud.machine.redis.protocol import Connection, RedisError, Reply, info

log = logging.getLogger(__name__)

IN_SYNC_WITHIN = 60.0
"""Seconds until replicas must be in sync. Data sets are small here, and a failover does not need replicas in sync before it."""
_ONLY_ELASTICACHE = {"reserved-memory", "reserved-memory-percent"}
"""Parameters that a Redis server does not have: memory that ElastiCache reserves for itself."""


class Member:
    """One Redis server: its box, address and configuration."""

    def __init__(self, group: Group, index: int, address: str) -> None:
        """Describe the member; `start` starts it."""
        self.index = index
        self.address = address
        self.netns = f"redis-{group.name}-{index}"
        self._group = group
        self._folder = group.folder / str(index)
        self._log = group.logs / f"{self.netns}.log"
        self._box: Box | None = None

    def start(self, primary: Member) -> None:
        """Start the server, as a replica unless it is the primary itself, and return when it answers."""
        self._folder.mkdir(parents=True, mode=0o700)
        network.attach(self.netns, self.address)
        config = write_private(self._folder / "redis.conf", "\n".join(self._config(primary)) + "\n")
        self._box = Box(self.netns, ["redis-server", str(config)], log=self._log, netns=self.netns)
        self._box.wait_until(f"{self.netns} answers", self._ping_problem, within=60.0)

    def stop(self) -> None:
        """Remove server, address and data."""
        if self._box is not None:
            self._box.kill()
        network.detach(self.netns, self.address)
        shutil.rmtree(self._folder, ignore_errors=True)

    def call(self, *words: str) -> Reply:
        """Send a command; return the reply. MachineError names the command, never its arguments, which may be secrets."""
        try:
            with self._connect() as connection:
                return connection.call(*words)
        except RedisError as error:
            raise MachineError(f"{self.netns} refuses {words[0]}: {error}") from error
        except OSError as error:
            raise MachineError(f"{self.netns} does not answer: {error}") from error

    def replication(self) -> dict[str, str]:
        """Return the fields of INFO replication."""
        return info(self.call("INFO", "replication"))

    def _connect(self) -> Connection:
        return Connection(self.address, settings.REDIS_PORT, tls=self._group.client_tls, password=self._group.auth_token)

    def _ping_problem(self) -> str | None:
        try:
            with self._connect() as connection:
                connection.call("PING")
        except (OSError, RedisError) as error:
            return f"{type(error).__name__}: {error}"
        return None

    def _config(self, primary: Member) -> list[str]:
        lines = [
            "bind * -::*",
            "protected-mode no",
            f"dir {self._folder}",
            'save ""',
            "appendonly no",
            "repl-diskless-sync yes",
            "repl-diskless-sync-delay 0",
            f"replica-announce-ip {self.address}",
            *self._listener_config(),
        ]
        if self._group.auth_token:
            lines += [f"requirepass {quote(self._group.auth_token)}", f"masterauth {quote(self._group.auth_token)}"]
        if primary is not self:
            lines.append(f"replicaof {primary.address} {settings.REDIS_PORT}")
        return lines

    def _listener_config(self) -> list[str]:
        authority = self._group.authority
        if authority is None:
            return [f"port {settings.REDIS_PORT}"]
        # Each member may get either floating address later, so its certificate names both.
        names = [self.address, self._group.endpoints.primary, self._group.endpoints.reader]
        pair = authority.server(self.netns, self.netns, names)
        return [
            "port 0",
            f"tls-port {settings.REDIS_PORT}",
            f"tls-cert-file {pair.certificate}",
            f"tls-key-file {pair.key}",
            f"tls-ca-cert-file {authority.certificate}",
            "tls-auth-clients no",
            "tls-replication yes",
        ]


class Group:
    """A primary and its replicas."""

    def __init__(
        self, name: str, folder: Path, logs: Path, addresses: list[str], authority: Authority | None, auth_token: str | None
    ) -> None:
        """`addresses` are the primary's floating address, the reader's, then one per member. Without `authority` there is no TLS."""
        self.name = name
        self.folder = folder
        self.logs = logs
        self.addresses = addresses
        self.authority = authority
        self.auth_token = auth_token
        self.client_tls = ssl.create_default_context(cafile=str(authority.certificate)) if authority else None
        self.endpoints = Endpoints(addresses[0], addresses[1], settings.REDIS_PORT)
        self.members = [Member(self, index, address) for index, address in enumerate(addresses[2:])]
        self.primary = self.members[0]
        self.parameters: dict[str, str] = {}
        """The parameters of every member, which a replaced member gets again."""
        self._holders: dict[str, Member] = {}

    def start(self, parameters: dict[str, str]) -> None:
        """Start primary and replicas with these parameters; return when they are in sync and have the floating addresses."""
        for member in self.members:
            member.start(self.primary)
        self.set_parameters(parameters)
        self.wait_until_in_sync()
        self._point(self.endpoints.primary, self.primary)
        self._point(self.endpoints.reader, next(iter(self.replicas()), self.primary))

    def stop(self) -> None:
        """Remove every member and the group's data."""
        for member in self.members:
            member.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def replicas(self) -> list[Member]:
        """Return all members except the primary."""
        return [member for member in self.members if member is not self.primary]

    def wait_until_in_sync(self) -> None:
        """Return when every replica follows the primary."""

        def missing() -> str | None:
            states = {member.netns: member.replication().get("master_link_status", "not a replica") for member in self.replicas()}
            return None if all(state == "up" for state in states.values()) else str(states)

        wait_until(f"the replicas of {self.name} are in sync", missing, within=IN_SYNC_WITHIN)

    def set_parameters(self, parameters: dict[str, str]) -> None:
        """Set these parameters on every member; MachineError when Redis refuses one."""
        for key, value in server_parameters(parameters).items():
            for member in self.members:
                member.call("CONFIG", "SET", key, value)
            self.parameters[key] = value

    def set_auth_token(self, token: str) -> None:
        """Make every member require the new token and use it towards its primary. Open connections stay."""
        for member in self.members:
            member.call("CONFIG", "SET", "masterauth", token)
        for member in self.members:
            member.call("CONFIG", "SET", "requirepass", token)
        self.auth_token = token

    def fail_over(self) -> int:
        """Promote the replica that answers and has the most data; return its index. It gets the address, and the others follow it.

        After the promotion nothing raises: members that do not follow yet are logged. A member that does not answer is replaced,
        now or at the next failover.
        """
        offsets = {member: offset for member in self.replicas() if (offset := _replication_offset(member)) is not None}
        if not offsets:
            raise MachineError(f"{self.name} has no replica to fail over to that answers")
        best = max(offsets, key=lambda member: offsets[member])
        best.call("REPLICAOF", "NO", "ONE")
        self.primary = best
        self._point(self.endpoints.primary, best)
        following = [member for member in self.replicas() if self._follow(member)]
        self._point(self.endpoints.reader, next(iter(following), best))
        try:
            self.wait_until_in_sync()
        except MachineError as error:
            log.error("failover of %s: %s", self.name, error)
        return best.index

    def _follow(self, member: Member) -> bool:
        """Make the member follow the primary; return whether it does. A member that does not answer is replaced, as ElastiCache does."""
        try:
            member.call("REPLICAOF", self.primary.address, str(settings.REDIS_PORT))
        except MachineError:
            try:
                self._replace(member)
            except (MachineError, OSError) as error:
                log.error("failover of %s: %s is not replaced: %s", self.name, member.netns, error)
                return False
        return True

    def _replace(self, member: Member) -> None:
        """Start the member again, empty, with the group's parameters. Its floating addresses go with its old network namespace."""
        member.stop()
        self._holders = {address: holder for address, holder in self._holders.items() if holder is not member}
        member.start(self.primary)
        for key, value in self.parameters.items():
            member.call("CONFIG", "SET", key, value)

    def _point(self, address: str, member: Member) -> None:
        """Move the floating address to the member."""
        old = self._holders.get(address)
        network.move_address(address, old=old.netns if old else None, new=member.netns)
        self._holders[address] = member


def _replication_offset(replica: Member) -> int | None:
    """Return how far the replica has followed its primary, in bytes; None when it does not answer."""
    try:
        return int(replica.replication().get("slave_repl_offset", "0"))
    except MachineError:
        return None


def server_parameters(parameters: dict[str, str]) -> dict[str, str]:
    """Return those ElastiCache parameters that a Redis server has; MachineError for cluster mode."""
    if parameters.get("cluster-enabled", "no") != "no":
        raise MachineError("cluster mode is not available here: leave cluster-enabled at no")
    return {key: value for key, value in parameters.items() if key not in _ONLY_ELASTICACHE and key != "cluster-enabled"}


def quote(text: str) -> str:
    """Quote a string for redis.conf; MachineError when it is not printable."""
    if not text.isprintable():
        raise MachineError("an AUTH token has printable characters only")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
