"""The two HTTP servers of EKS Pod Identity: the agent, which gives pods credentials, and the admission webhook.

On EKS every node has an agent. Here one answers for all nodes: nodes and pods reach its link-local address through the
cloud's gateway, and the token alone identifies the pod.
"""

from __future__ import annotations

import json
import logging
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from localcloud.aws.auth.signatures import Refused
from localcloud.aws.eks import models, pod_credentials, pod_identity
from localcloud.machine.cluster import pod_webhook
from localcloud.machine.pki import Pair

log = logging.getLogger(__name__)

ADDON = "eks-pod-identity-agent"
_CREDENTIALS = "/v1/credentials"
_MAX_REVIEW = 8 << 20
"""Bytes of a request's body. An AdmissionReview contains a pod, and the API server accepts no object above 3 MB."""


class _Handler(BaseHTTPRequestHandler):
    timeout = 10.0

    def _answer(self, status: int, kind: str, body: str) -> None:
        content = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log no line per request."""


class _Listener(ThreadingHTTPServer):
    """A server that listens from its construction on; port 0 takes a free one."""

    daemon_threads = True
    request_queue_size = 128
    """Connections that may wait: the pods of a node, or of a deployment, ask at the same time."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log an error, except where the client closed the connection or does not trust the certificate."""
        level = logging.DEBUG if isinstance(sys.exception(), OSError) else logging.ERROR
        log.log(level, "a request from %s was not answered", client_address[0], exc_info=True)

    def start(self) -> None:
        """Answer requests from a thread."""
        Thread(target=self.serve_forever, name=type(self).__name__, daemon=True).start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        self.shutdown()
        self.server_close()


class Agent(_Listener):
    """The agent, which on EKS the add-on eks-pod-identity-agent runs on every node."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__((host, port), _AgentHandler)


class _AgentHandler(_Handler):
    def do_GET(self) -> None:
        """Answer with credentials for the pod's token in the Authorization header, or with the reason in plain text."""
        if urlsplit(self.path).path != _CREDENTIALS:
            return self._answer(404, "text/plain", "404 page not found\n")
        try:
            answer = credentials(self.headers.get("Authorization", ""))
        except Refused as refused:
            log.info("pod at %s has no credentials: %s: %s", self.client_address[0], refused.code, refused.message)
            return self._answer(refused.status, "text/plain", f"({refused.code}): {refused.message}\n")
        return self._answer(200, "application/json", json.dumps(answer))


def credentials(token: str) -> dict[str, str]:
    """Return what an SDK's container provider reads. `Refused` when the token has no role, or the cluster no agent."""
    if not token:
        raise Refused("InvalidTokenException", "Service account token cannot be empty", 400)
    clusters = models.clusters()
    if not clusters or ADDON not in clusters[0].addons:
        # Without the add-on there is no listener on EKS. Here there always is one, so it must refuse.
        raise Refused("ServiceUnavailableException", f"the cluster does not have the add-on {ADDON}", 503)
    answer = pod_credentials.assume_role_for_pod_identity(clusters[0].name, token)
    made = answer["credentials"]
    return {
        "AccessKeyId": made["accessKeyId"],
        "SecretAccessKey": made["secretAccessKey"],
        "Token": made["sessionToken"],
        "AccountId": answer["assumedRoleUser"]["arn"].split(":")[4],
        "Expiration": f"{made['expiration']:%Y-%m-%dT%H:%M:%SZ}",
    }


class Webhook(_Listener):
    """The webhook: it answers AdmissionReviews at `pod_webhook.ROUTE` plus a cluster's name, over TLS."""

    def __init__(self, host: str, port: int, pair: Pair) -> None:
        super().__init__((host, port), _WebhookHandler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        # The handler's thread does the handshake: a client that never completes it must not block other clients.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)


class _WebhookHandler(_Handler):
    def do_POST(self) -> None:
        """Answer the AdmissionReview; 400 when the body is none, 404 when there is no such cluster."""
        path = urlsplit(self.path).path  # the API server adds its time-out as a query
        cluster = models.find_cluster(unquote(path.removeprefix(pod_webhook.ROUTE)))
        if cluster is None or not path.startswith(pod_webhook.ROUTE):
            return self._answer(404, "text/plain", f"no such cluster: {self.path}\n")
        try:
            review = json.loads(self.rfile.read(min(int(self.headers.get("Content-Length", 0)), _MAX_REVIEW)))
            answer = pod_webhook.review(review, lambda namespace, account: bool(pod_identity.find_association(cluster, namespace, account)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("not an AdmissionReview of a pod: %s: %s", type(error).__name__, error)
            return self._answer(400, "text/plain", "the body is not an AdmissionReview of a pod\n")
        return self._answer(200, "application/json", json.dumps(answer))
