"""The endpoint of the embedded AWS: moto's threaded server in this process, with our services in it."""

from __future__ import annotations

import logging
from threading import Thread
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import BaseWSGIServer, make_server

from localcloud.aws import audit, current_machine, install
from localcloud.aws.auth import middleware
from localcloud.machine.interface import Machine

log = logging.getLogger(__name__)


class _QuietHandler(MotoRequestHandler):
    """Writes no line per request: a Terraform run makes hundreds, and presigned URLs are credentials."""

    timeout = 60.0
    """Seconds without a byte from or to a client until its connection is closed: one that was stopped may never go on."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Werkzeug's own messages; errors are in the cloud's log, because a client that tries again hides them."""
        log.log(logging.ERROR if type == "error" else logging.DEBUG, message, *args)


class Endpoint:
    """The AWS endpoint, listening from the moment it is made."""

    def __init__(self, machine: Machine, host: str, port: int) -> None:
        """Port 0 takes a free one; OSError when the port is taken."""
        install.install()
        current_machine.use(machine)
        audit.remember()
        self._server: BaseWSGIServer = make_server(host, port, self._answer, threaded=True, request_handler=_QuietHandler)
        self.host, self.port = host, self._server.port
        self._application = middleware.application(frozenset({f"{host}:{self.port}"}))

    @property
    def url(self) -> str:
        """What AWS_ENDPOINT_URL must be."""
        return f"http://{self.host}:{self.port}"

    def _answer(self, environ: Any, start_response: Any) -> Any:
        return self._application(environ, start_response)

    def serve_forever(self) -> None:
        """Answers until `stop`."""
        self._server.serve_forever()

    def start(self) -> None:
        """Answers from a thread."""
        Thread(target=self.serve_forever, name="aws-endpoint", daemon=True).start()

    def stop(self) -> None:
        """No more answers, the port is free."""
        self._server.shutdown()
        self._server.server_close()


def serve(machine: Machine, host: str, port: int) -> None:
    """The embedded AWS answers on host:port, with `machine` behind it. Does not return."""
    Endpoint(machine, host, port).serve_forever()
