"""The endpoint of the embedded AWS: moto's threaded server in this process, extended by the services of `services.py`."""

from __future__ import annotations

import logging
from threading import Thread
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import BaseWSGIServer, make_server

from localcloud.aws import audit, current_machine, services
from localcloud.aws.auth import middleware
from localcloud.machine.interface import Machine

log = logging.getLogger(__name__)


class _QuietHandler(MotoRequestHandler):
    """Logs no line per request: a Terraform run makes hundreds, and presigned URLs are credentials."""

    timeout = 60.0
    """Seconds without a byte from or to a client before its connection is closed: a client that was stopped may never continue."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing for a request."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Log werkzeug's own messages; errors at that level, because a client that retries would hide them."""
        log.log(logging.ERROR if type == "error" else logging.DEBUG, message, *args)


class Endpoint:
    """The AWS endpoint. It listens from its construction on, and answers once it is started."""

    def __init__(self, machine: Machine, host: str, port: int) -> None:
        """Extend moto and listen. Port 0 takes a free one; OSError when the port is taken."""
        services.extend_moto()
        current_machine.use(machine)
        audit.set_baseline()
        self._server: BaseWSGIServer = make_server(host, port, self._answer, threaded=True, request_handler=_QuietHandler)
        self.host, self.port = host, self._server.port
        self._application = middleware.create_application(frozenset({f"{host}:{self.port}"}))

    @property
    def url(self) -> str:
        """The value for AWS_ENDPOINT_URL."""
        return f"http://{self.host}:{self.port}"

    def _answer(self, environ: Any, start_response: Any) -> Any:
        return self._application(environ, start_response)

    def serve_forever(self) -> None:
        """Answer requests until `stop` is called."""
        self._server.serve_forever()

    def start(self) -> None:
        """Answer requests from a thread."""
        Thread(target=self.serve_forever, name="aws-endpoint", daemon=True).start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()


def serve(machine: Machine, host: str, port: int) -> None:
    """Serve the embedded AWS on host:port in front of `machine`. Does not return."""
    Endpoint(machine, host, port).serve_forever()
