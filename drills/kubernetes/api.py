"""The Kubernetes API: objects as plain dicts, server-side apply, the proxies into pods and services, commands in containers.

Permanent
├── CommandFailed  a command in a container ended with another exit status than 0, or printed too much
└── Refused        the API server refused the request; `status` is the HTTP status
    ├── NotFound
    ├── Conflict   another client changed the object, or a precondition did not hold
    └── EvictionBlocked   a PodDisruptionBudget does not allow the eviction now
Transient
└── Unavailable    no answer, or one after which the request should be repeated
    └── NoCredentials   what answers behind the proxy wants another token
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
import websocket

from blocks.errors import Permanent, Transient

Object = dict[str, Any]
"""A Kubernetes object as JSON."""

FIELD_MANAGER = "leeward"
TIMEOUT_S = 15.0
"""Seconds for one request. The API server answers within milliseconds; slower means unreachable."""
MOST_BYTES = 4 << 20
"""Largest output of a command in a container; it is held in memory."""
EXEC_PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io"]
"""Protocols for commands in containers: a message is one byte for the channel, then its data. The versions differ only in what commands
with input need."""
STDOUT, STDERR, STATUS = 1, 2, 3
RETRIED_STATUSES = frozenset({401, 408, 429, 500, 502, 503, 504})
"""HTTP statuses that count as Unavailable. 401 is among them because a new access entry takes a moment to take effect."""


class Unavailable(Transient):
    """No answer from the API server, or one after which the request should be repeated."""


class NoCredentials(Unavailable):
    """A pod or service behind the proxy answers that it wants credentials, or others."""


class Refused(Permanent):
    """The API server refused the request."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NotFound(Refused):
    """There is no such object or kind."""


class Conflict(Refused):
    """Another client changed the object, or a precondition did not hold."""


class EvictionBlocked(Refused):
    """A PodDisruptionBudget does not allow the eviction now; the message names it."""


class CommandFailed(Permanent):
    """A command in a container ended with another exit status than 0, or printed too much (then without a status)."""

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """The API of one cluster, over the connection pool of a `kubernetes.client.ApiClient`. Thread-safe."""

    def __init__(self, client: Any) -> None:
        self._settings = client.configuration
        self._pool: urllib3.PoolManager = client.rest_client.pool_manager
        self._resources: dict[tuple[str, str], tuple[str, bool]] = {}
        """The path of each kind, by apiVersion and kind, and whether its objects are in namespaces."""

    def raw(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Object | list[Object] | None = None,
        content_type: str = "application/json",
        timeout_s: float = TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Send one request, without retries; returns status and body. `headers` are added to the client's own.

        Raises:
            Unavailable: there was no answer within `timeout_s` seconds.
        """
        url = f"{self._settings.host}{path}" + (f"?{urlencode(query)}" if query else "")
        sent = {**(headers or {}), "Content-Type": content_type, "Accept": "application/json, */*", **self._identity()}
        try:
            answer = self._pool.request(
                method, url, body=None if body is None else json.dumps(body), headers=sent, timeout=timeout_s, retries=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(f"{method} {path}: no answer from the API server: {_short(error)}") from error
        return answer.status, answer.data

    def call(self, method: str, path: str, **options: Any) -> Object:
        """Send one request; returns the JSON of the response.

        Raises:
            Unavailable, NotFound, Conflict, Refused: see the module's docstring.
        """
        status, data = self.raw(method, path, **options)
        if status < 300:
            return dict(json.loads(data)) if data else {}
        raise _failure(method, path, status, data)

    def get(self, path: str, **query: object) -> Object:
        """Return the object at a path."""
        return self.call("GET", path, query=query)

    def find(self, path: str, **query: object) -> Object | None:
        """Return the object at a path; None: there is none."""
        try:
            return self.get(path, **query)
        except NotFound:
            return None

    def items(self, path: str, **query: object) -> list[Object]:
        """Return the objects of a collection; empty if the kind does not exist."""
        found = self.find(path, **query)
        return list(found["items"]) if found else []

    def path(self, obj: Object) -> str:
        """Return the path of an object with apiVersion, kind and metadata.

        Raises:
            NotFound: the cluster does not know the kind.
        """
        path, namespaced = self._resource(obj["apiVersion"], obj["kind"])
        metadata = obj["metadata"]
        middle = f"/namespaces/{metadata['namespace']}" if namespaced else ""
        prefix, name = path.rsplit("/", 1)
        return f"{prefix}{middle}/{name}/{quote(metadata['name'], safe='')}"

    def apply(self, obj: Object) -> str:
        """Create or update the object (server-side apply), and take over fields that another field manager had set differently.

        Returns:
            The API server's message about those fields. Empty: there were none.
        """
        path = self.path(obj)
        try:
            self._patch(path, obj, force=False)
        except Conflict as conflict:
            self._patch(path, obj, force=True)
            return str(conflict)
        return ""

    def apply_all(self, objects: Iterable[Object]) -> list[str]:
        """Apply all objects in this order; returns the messages of `apply`, without the empty ones."""
        return [message for obj in objects if (message := self.apply(obj))]

    def merge(self, path: str, changes: Object) -> Object:
        """Change these fields of an object (JSON merge patch): mappings are merged by key, null removes a key, all else is replaced."""
        return self.call("PATCH", path, query={"fieldManager": FIELD_MANAGER}, body=changes, content_type="application/merge-patch+json")

    def edit(self, path: str, operations: list[Object]) -> Object:
        """Run these operations on an object, all of them or none (JSON patch). Needed for changes inside lists.

        Raises:
            Refused: a "test" operation did not hold; nothing was changed.
        """
        return self.call("PATCH", path, query={"fieldManager": FIELD_MANAGER}, body=operations, content_type="application/json-patch+json")

    def delete(self, path: str, *, uid: str | None = None, grace_s: int | None = None) -> bool:
        """Delete the object; returns whether there was one. Does not wait until it is gone.

        Raises:
            Conflict: the object there has another UID.
        """
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        try:
            self.call("DELETE", path, body=options)
        except NotFound:
            return False
        return True

    def evict(self, path: str, *, uid: str) -> bool:
        """Evict the pod at that path, as a node drain does; returns whether there was one. Does not wait until it is gone.

        Raises:
            EvictionBlocked: a PodDisruptionBudget does not allow it now.
            Conflict: the pod there has another UID.
        """
        namespace, name = path.split("/")[-3], path.split("/")[-1]
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        status, data = self.raw("POST", f"{path}/eviction", body=body)
        if status < 300:
            return True
        if status == 404:
            return False
        if causes := _disruption_budgets(data):
            raise EvictionBlocked(f"{namespace}/{name} may not be evicted: {'; '.join(causes)}", status)
        raise _failure("POST", f"{path}/eviction", status, data)

    def proxy(
        self,
        method: str,
        namespace: str,
        kind: str,
        name: str,
        port: int,
        path: str,
        timeout_s: float = TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> bytes:
        """Send a request to a pod or service through the API server; returns the body. `kind` is "pods" or "services". The API server
        passes on all headers except Authorization.

        Raises:
            NoCredentials: the status is 401 or 403.
            Unavailable: there is no answer, or one with another status than 200.
        """
        where = f"/api/v1/namespaces/{namespace}/{kind}/{name}:{port}/proxy/{path.lstrip('/')}"
        status, data = self.raw(method, where, timeout_s=timeout_s, headers=headers, body=body)
        if status != 200:
            kind_of_error = NoCredentials if status in (401, 403) else Unavailable
            raise kind_of_error(f"{kind} {namespace}/{name}:{port} /{path.lstrip('/')}: HTTP {status} {_text(data)}")
        return data

    def exec(
        self,
        namespace: str,
        pod: str,
        container: str,
        command: Sequence[str],
        *,
        timeout_s: float = TIMEOUT_S,
        most_bytes: int = MOST_BYTES,
    ) -> bytes:
        """Run a command without input in a container of a pod; returns its standard output.

        Audit logs and process lists show the command, so it must not contain secrets.

        Raises:
            CommandFailed: it ended with another exit status than 0, or printed more than `most_bytes`.
            NotFound, Refused: there is no such pod or container, or the caller has no permission.
            Unavailable: it was not started, or did not end within `timeout_s` seconds. It may still be running.
        """
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/exec"
        where = f"{command[0]} in {namespace}/{pod} ({container})"
        deadline = time.monotonic() + timeout_s
        query = {"container": container, "command": command, "stdin": "false", "stdout": "true", "stderr": "true", "tty": "false"}
        connection = websocket.WebSocket(skip_utf8_validation=True)
        try:
            connection.connect(  # type: ignore[no-untyped-call]  # the package is half typed
                f"{self._settings.host.replace('http', 'ws', 1)}{path}?{urlencode(query, doseq=True)}",
                header=self._identity(),
                subprotocols=EXEC_PROTOCOLS,
                socket=self._connected(timeout_s),
            )
            channels = _received(connection, deadline, most_bytes)
        except websocket.WebSocketBadStatusException as error:
            raise _failure("GET", path, error.status_code, error.resp_body or b"") from error
        except (websocket.WebSocketException, urllib3.exceptions.HTTPError, OSError) as error:
            over = time.monotonic() >= deadline
            what = f"no end of it within {timeout_s:g} s" if over else "the connection to it failed or broke, and it may be tried again"
            raise Unavailable(f"{where}: {what}: {_short(error)}") from error
        finally:
            connection.shutdown()  # type: ignore[no-untyped-call]
        return _printed(where, channels, most_bytes)

    def _identity(self) -> dict[str, str]:
        """Headers that authenticate the client."""
        return {"User-Agent": FIELD_MANAGER, **{one["key"]: one["value"] for one in self._settings.auth_settings().values()}}

    def _connected(self, timeout_s: float) -> socket.socket:
        """A connection to the API server, made by urllib3 with the same CA, client certificate and proxy as every other request."""
        pool = self._pool.connection_from_url(self._settings.host)
        connection: Any = pool._new_conn()
        connection.timeout = timeout_s
        if pool.proxy is not None:
            pool._prepare_proxy(connection)
        else:
            connection.connect()
        sock: socket.socket = connection.sock
        return sock

    def _patch(self, path: str, obj: Object, *, force: bool) -> None:
        query = {"fieldManager": FIELD_MANAGER, "force": str(force).lower()}
        self.call("PATCH", path, query=query, body=obj, content_type="application/apply-patch+yaml")

    def _resource(self, api_version: str, kind: str) -> tuple[str, bool]:
        if (api_version, kind) not in self._resources:
            base = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
            for found in self.get(base)["resources"]:
                if "/" not in found["name"]:
                    self._resources[api_version, found["kind"]] = f"{base}/{found['name']}", found["namespaced"]
        try:
            return self._resources[api_version, kind]
        except KeyError:
            raise NotFound(f"the cluster knows no {kind} in {api_version}", 404) from None


def conditions(obj: Object | None) -> dict[str, bool]:
    """The conditions of an object: whether each type is "True"."""
    found = (obj or {}).get("status", {}).get("conditions") or ()
    return {c["type"]: c["status"] == "True" for c in found}


def _received(connection: websocket.WebSocket, deadline: float, most_bytes: int) -> dict[int, bytearray]:
    """Receive the channels until the command ends, or until they exceed `most_bytes`: then without a status."""
    channels = {channel: bytearray() for channel in (STDOUT, STDERR, STATUS)}
    while not channels[STATUS] and sum(map(len, channels.values())) <= most_bytes:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise websocket.WebSocketTimeoutException("the command goes on")
        connection.settimeout(left_s)
        opcode, frame = connection.recv_data_frame(control_frame=True)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise websocket.WebSocketConnectionClosedException("the connection was closed before the command's end")
        if opcode in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT) and frame.data[:1] and frame.data[0] in channels:
            channels[frame.data[0]] += frame.data[1:]
    return channels


def _printed(where: str, channels: Mapping[int, bytearray], most_bytes: int) -> bytes:
    if not channels[STATUS]:
        raise CommandFailed(f"{where} printed more than {most_bytes:,} bytes", None)
    try:
        ended: Object = json.loads(channels[STATUS])
    except ValueError as error:
        raise Unavailable(f"{where} ended without a readable status: {_text(bytes(channels[STATUS]))}") from error
    if ended.get("status") == "Success":
        return bytes(channels[STDOUT])
    causes = (ended.get("details") or {}).get("causes") or ()
    codes = [int(cause["message"]) for cause in causes if cause.get("reason") == "ExitCode"]
    if not codes:
        raise Unavailable(f"{where} could not be run: {ended.get('message', '')}")
    raise CommandFailed(f"{where} ended with exit status {codes[0]}: {_text(bytes(channels[STDERR]))}", codes[0])


def _disruption_budgets(data: bytes) -> list[str]:
    """The messages of PodDisruptionBudgets in a refusal; empty when they are not its reason."""
    with suppress(ValueError, AttributeError, TypeError):
        causes = (json.loads(data).get("details") or {}).get("causes") or ()
        return [str(cause.get("message", "")) for cause in causes if cause.get("reason") == "DisruptionBudget"]
    return []


def _failure(method: str, path: str, status: int, data: bytes) -> Exception:
    text = _text(data)
    message = f"{method} {path}: HTTP {status} {text}"
    if status in RETRIED_STATUSES or (status in (403, 409) and "being terminated" in text):
        return Unavailable(message)
    kind = {404: NotFound, 409: Conflict}.get(status, Refused)
    return kind(message, status)


def _text(data: bytes) -> str:
    """The message of a Kubernetes Status, else the beginning of the data."""
    with suppress(ValueError, AttributeError):
        message = json.loads(data).get("message")
        if isinstance(message, str):
            return message[:500]
    return data[:200].decode(errors="replace").strip()


def _short(error: Exception) -> str:
    return str(error).replace("\n", " ")[:200]
