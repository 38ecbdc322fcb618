"""EKS Pod Identity's two listeners: the agent, from which pods get credentials, and the webhook that API servers ask.

On EKS every node has an agent. Here one answers for all: nodes and pods reach its link-local address through the cloud's
gateway, and the token alone tells who asks.
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
"""Bytes. An AdmissionReview holds a pod, and the API server takes no object above 3 MB."""


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
        """No line per request."""


class _Listener(ThreadingHTTPServer):
    """Listening from the moment it is made; port 0 takes a free one."""

    daemon_threads = True
    request_queue_size = 128
    """A node's pods, or a deployment's, ask all at once."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or does not trust us, is no news; anything else is a mistake of ours."""
        level = logging.DEBUG if isinstance(sys.exception(), OSError) else logging.ERROR
        log.log(level, "a request from %s was not answered", client_address[0], exc_info=True)

    def start(self) -> None:
        """Answers from a thread."""
        Thread(target=self.serve_forever, name=type(self).__name__, daemon=True).start()

    def stop(self) -> None:
        """No more answers, the port is free."""
        self.shutdown()
        self.server_close()


class Agent(_Listener):
    """What EKS's add-on eks-pod-identity-agent is on every node."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__((host, port), _AgentHandler)


class _AgentHandler(_Handler):
    def do_GET(self) -> None:
        """Credentials of the pod whose token is in the header Authorization; a plain message when there are none."""
        if urlsplit(self.path).path != _CREDENTIALS:
            return self._answer(404, "text/plain", "404 page not found\n")
        try:
            answer = credentials(self.headers.get("Authorization", ""))
        except Refused as refused:
            log.info("pod at %s has no credentials: %s: %s", self.client_address[0], refused.code, refused.message)
            return self._answer(refused.status, "text/plain", f"({refused.code}): {refused.message}\n")
        return self._answer(200, "application/json", json.dumps(answer))


def credentials(token: str) -> dict[str, str]:
    """What an SDK's container provider reads. `Refused` when the token has no role, or the cluster no agent."""
    if not token:
        raise Refused("InvalidTokenException", "Service account token cannot be empty", 400)
    clusters = models.clusters()
    if not clusters or ADDON not in clusters[0].addons:
        # On EKS nobody would listen. We do always, and say so, lest what works here fails there.
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
    """Answers AdmissionReviews at podwebhook.ROUTE and a cluster's name, over TLS."""

    def __init__(self, host: str, port: int, pair: Pair) -> None:
        super().__init__((host, port), _WebhookHandler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        # The handshake is the handler's: a client that never ends it must not keep the others waiting.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)


class _WebhookHandler(_Handler):
    def do_POST(self) -> None:
        """The AdmissionReview with its answer; 400 when it is none, 404 when there is no such cluster."""
        path = urlsplit(self.path).path  # the API server adds its time-out as a query
        cluster = models.find(unquote(path.removeprefix(pod_webhook.ROUTE)))
        if cluster is None or not path.startswith(pod_webhook.ROUTE):
            return self._answer(404, "text/plain", f"no such cluster: {self.path}\n")
        try:
            asked = json.loads(self.rfile.read(min(int(self.headers.get("Content-Length", 0)), _MAX_REVIEW)))
            answer = pod_webhook.review(asked, lambda namespace, account: bool(pod_identity.find(cluster, namespace, account)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("not an AdmissionReview of a pod: %s: %s", type(error).__name__, error)
            return self._answer(400, "text/plain", "the body is not an AdmissionReview of a pod\n")
        return self._answer(200, "application/json", json.dumps(answer))
