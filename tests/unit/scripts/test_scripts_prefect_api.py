"""What the client of Prefect's API does with answers that are no success."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from scripts.services.prefect_api import Api, ApiError


@contextmanager
def server(*answers: tuple[int, bytes]) -> Iterator[tuple[Api, list[bytes]]]:
    """A client of a server that gives these answers one after the other, and the bodies that it was sent."""
    left, sent = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(self.rfile.read(int(self.headers["Content-Length"])))
            code, body = left.pop(0)
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield Api(f"http://127.0.0.1:{http.server_port}"), sent
        finally:
            http.shutdown()
            thread.join()


def test_a_call_is_repeated_while_prefects_database_is_locked() -> None:
    with server((503, b'{"exception_message":"Service Unavailable"}'), (201, b'{"id": "1"}')) as (api, sent):
        assert api.post("/deployments/1/create_flow_run", {"name": "run"}) == {"id": "1"}
        assert sent == [b'{"name": "run"}'] * 2


def test_a_call_that_prefect_refuses_is_not_repeated() -> None:
    with server((422, b"no such parameter")) as (api, sent):
        with pytest.raises(ApiError, match="HTTP 422 no such parameter"):
            api.post("/flow_runs/filter", {})
        assert len(sent) == 1
