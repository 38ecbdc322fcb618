"""A small HTTP server that keeps objects as the Kubernetes API does: paths, resourceVersions, preconditions, conflicts.

A function of the test runs the commands in containers; their output is sent over the API server's WebSocket protocol.

It replaces the API server in tests of what the pipeline does with its responses.
"""

from __future__ import annotations

import copy
import json
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes import client
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

from drills.kubernetes.api import Api

RESOURCES = {
    "/api/v1": [
        ("configmaps", "ConfigMap", True),
        ("secrets", "Secret", True),
        ("serviceaccounts", "ServiceAccount", True),
        ("pods", "Pod", True),
        ("services", "Service", True),
        ("namespaces", "Namespace", False),
    ],
    "/apis/batch/v1": [("jobs", "Job", True)],
    "/apis/apps/v1": [("deployments", "Deployment", True), ("daemonsets", "DaemonSet", True)],
    "/apis/rbac.authorization.k8s.io/v1": [("clusterroles", "ClusterRole", False), ("clusterrolebindings", "ClusterRoleBinding", False)],
}

Message = tuple[int, bytes]
"""A channel of a command, and its data."""
SUCCESS: Message = (3, b'{"status": "Success"}')


def exit_status(code: int) -> Message:
    """The message with which the API server reports the end of a command."""
    causes = [{"reason": "ExitCode", "message": str(code)}]
    failure = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
    return SUCCESS if code == 0 else (3, json.dumps(failure).encode())


class Server:
    """Objects by path, and fixed responses."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.answers: dict[tuple[str, str], tuple[int, bytes]] = {}
        """Fixed responses by method and path."""
        self.run: Callable[[str, str, list[str]], Iterable[Message]] = lambda pod, container, command: [SUCCESS]
        """Runs a command in a container of a pod and returns its messages. The connection is closed after the last one."""
        self.requests: list[tuple[str, str, dict[str, list[str]]]] = []
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        """Headers of the requests, with names in lower case."""
        self.budgets: dict[str, str] = {}
        """By path of a pod: the message of the PodDisruptionBudget that does not allow its eviction."""
        self.starts: Callable[[str, dict[str, Any]], None] = lambda pod, container: None
        """Starts a container that was added to the pod at that path."""
        self.url = ""
        self.version = 0

    def handle(self, method: str, url: str, body: Any) -> tuple[int, Any]:
        parts = urlsplit(url)
        path, query = parts.path, parse_qs(parts.query)
        self.requests.append((method, path, query))
        self.bodies.append(body)
        if (method, path) in self.answers:
            return self.answers[method, path]
        if query.get("dryRun") == ["All"]:
            return self._dry_run(method, path, query, body)
        if method == "GET" and path in RESOURCES:
            return 200, {"resources": [{"name": n, "kind": k, "namespaced": s} for n, k, s in RESOURCES[path]]}
        return getattr(self, f"_{method.lower()}")(path, query, body)

    def _dry_run(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """Answer as if it were done, and keep everything as it was."""
        kept, version = copy.deepcopy(self.objects), self.version
        answer = getattr(self, f"_{method.lower()}")(path, query, body)
        self.objects, self.version = kept, version
        return answer  # type: ignore[no-any-return]

    def _evict(self, path: str, body: Any) -> tuple[int, Any]:
        if path in self.budgets:
            causes = [{"reason": "DisruptionBudget", "message": self.budgets[path]}]
            return 429, {"message": "Cannot evict pod as it would violate the pod's disruption budget.", "details": {"causes": causes}}
        status, answer = self._delete(path, {}, body["deleteOptions"])
        return (201, {"status": "Success"}) if status == 200 else (status, answer)

    def _get(self, path: str, query: dict[str, list[str]], _body: Any) -> tuple[int, Any]:
        if path in self.objects:
            return 200, self.objects[path]
        inside = [thing for where, thing in self.objects.items() if where.rpartition("/")[0] == path]
        # A path that ends in s is a collection, unless the part before it is one: then it is an object.
        empty = path.endswith("s") and not path.split("/")[-2].endswith("s")
        return (200, {"items": inside}) if inside or empty else (404, {"message": "not found"})

    def _post(self, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if path.endswith("/eviction"):
            return self._evict(path.removesuffix("/eviction"), body)
        where = f"{path}/{body['metadata']['name']}"
        if where in self.objects:
            return 409, {"message": "already exists"}
        return 201, self._store(where, body)

    def _put(self, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if body["metadata"].get("resourceVersion") != self.objects[path]["metadata"]["resourceVersion"]:
            return 409, {"message": "the object has been modified"}
        return 200, self._store(path, body)

    def _add_container(self, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """Add a container to a pod that runs. Pod Security is as strict as the namespace's label."""
        namespace = self.objects.get("/".join(path.split("/")[:-2]), {"metadata": {}})
        level = namespace["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce", "privileged")
        if level != "privileged":
            return 403, {"message": f'violates PodSecurity "{level}:latest": unrestricted capabilities'}
        if body["metadata"]["uid"] != self.objects[path]["metadata"]["uid"]:
            return 409, {"message": "the UID in the patch does not match"}
        self.objects[path]["spec"].setdefault("ephemeralContainers", []).extend(body["spec"]["ephemeralContainers"])
        if "dryRun" not in query:
            self.starts(path, body["spec"]["ephemeralContainers"][0])
        return 200, self.objects[path]

    def _patch(self, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if path.endswith("/ephemeralcontainers"):
            return self._add_container(path.removesuffix("/ephemeralcontainers"), query, body)
        held = self.objects.get(path, {}).get("metadata", {}).get("heldBy")
        if isinstance(body, list):
            return 200, self._store(path, _edited(self.objects[path], body))
        if "force" not in query:
            now, given = self.objects[path]["metadata"], body.get("metadata") or {}
            if any(given.get(name, now.get(name)) != now.get(name) for name in ("uid", "resourceVersion")):
                return 409, {"message": "the UID or the version in the patch does not match"}
            return 200, self._store(path, _merged(self.objects[path], body))
        if held and query["force"] == ["false"]:
            return 409, {"message": f'conflict with "{held}"'}
        return 200, self._store(path, body)

    def _delete(self, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if path not in self.objects:
            return 404, {"message": "not found"}
        uid = (body.get("preconditions") or {}).get("uid")
        if uid and uid != self.objects[path]["metadata"]["uid"]:
            return 409, {"message": "the UID in the precondition does not match"}
        return 200, self.objects.pop(path)

    def _store(self, path: str, thing: Any) -> Any:
        self.version += 1
        self.objects[path] = {**thing, "metadata": {**thing["metadata"], "resourceVersion": str(self.version)}}
        return self.objects[path]


def _merged(thing: Any, changes: Any) -> Any:
    """Apply a JSON merge patch."""
    if not isinstance(thing, dict) or not isinstance(changes, dict):
        return changes
    changed = {key: _merged(thing.get(key), value) for key, value in changes.items() if value is not None}
    return {**{key: value for key, value in thing.items() if key not in changes}, **changed}


def _edited(thing: Any, operations: list[Any]) -> Any:
    """Apply a JSON patch with the operations "test" and "add"."""
    changed = copy.deepcopy(thing)
    for one in operations:
        *steps, last = one["path"].strip("/").split("/")
        inside = changed
        for step in steps:
            inside = inside[int(step) if isinstance(inside, list) else step]
        if one["op"] == "test":
            assert inside[last] == one["value"]
        else:
            assert one["op"] == "add"
            inside[last] = one["value"]
    return changed


@contextmanager
def serving(server: Server | None = None, tls: Path | None = None, **settings_given: Any) -> Iterator[tuple[Server, Api]]:
    """Run a server and yield it with a client; `tls` is a file with certificate and key, None: without TLS."""
    server = server or Server()

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            server.headers.append({name.lower(): value for name, value in self.headers.items()})
            if "Upgrade" in self.headers and ("GET", urlsplit(self.path).path) not in server.answers:
                return self._command()
            status, answer = server.handle(self.command, self.path, body)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _command(self) -> None:
            parts = urlsplit(self.path)
            server.requests.append(("EXEC", parts.path, parse_qs(parts.query)))
            self.close_connection = True
            self.send_response(101)
            offered = self.headers["Sec-WebSocket-Protocol"].split(",")
            accepted = {"Sec-WebSocket-Accept": accept_key(self.headers["Sec-WebSocket-Key"]), "Sec-WebSocket-Protocol": offered[0]}
            for name, value in {"Upgrade": "websocket", "Connection": "Upgrade", **accepted}.items():
                self.send_header(name, value)
            self.end_headers()
            query = parse_qs(parts.query)
            with suppress(OSError):  # the caller went away
                for channel, data in server.run(parts.path.split("/")[-2], query["container"][0], query["command"]):
                    self.wfile.write(Frame(Opcode.BINARY, bytes([channel]) + data).serialize(mask=False))
                self.wfile.write(Frame(Opcode.CLOSE, b"").serialize(mask=False))

        do_HEAD = do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any

        def log_message(self, *_: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{httpd.server_port}"
    settings = client.Configuration(host=server.url, **settings_given)
    settings.no_proxy = "*"
    try:
        yield server, Api(client.ApiClient(settings))
    finally:
        httpd.shutdown()
        httpd.server_close()
