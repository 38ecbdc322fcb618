"""The API behaves as its OpenAPI document says."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from api_service import SETTINGS, StandIn, served, tokenizer
from fastapi import FastAPI

from serving import api

LIE = "positive_data_acceptance"
"""Check that is left out: no schema can express that a conversation ends with the user's turn, or that a prompt fits."""


def application(key: str = "") -> FastAPI:
    return api.build_app(StandIn(), tokenizer(), replace(SETTINGS, api_key=key))


def operations(document: dict[str, Any]) -> dict[str, Any]:
    return {f"{method} {path}": what for path, methods in document["paths"].items() for method, what in methods.items()}


def test_schemathesis_finds_no_server_error_and_no_undocumented_response(tmp_path: Path) -> None:
    tool = Path(sys.executable).with_name("schemathesis")
    fixed = ["--seed", "7", "--generation-database", "none", "--max-examples", "12", "--no-color"]
    with served(StandIn()) as service:
        command = [tool, "run", f"{service.url}/openapi.json", *fixed, "--checks", "all", "--exclude-checks", LIE]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tested: 7" in done.stdout


def test_all_paths_document_errors_in_one_format_and_no_422() -> None:
    found = operations(application().openapi())
    assert set(found) == {
        "post /v1/chat/completions", "post /v1/completions", "get /v1/models", "get /v1/models/{model}",
        "get /infer", "get /healthz", "get /readyz",
    }  # fmt: skip
    for what in found.values():
        assert "422" not in what["responses"]
        for status, response in what["responses"].items():
            if status != "200":
                assert response["content"]["application/json"]["schema"]["$ref"].endswith("/Error")
    assert "text/event-stream" in found["post /v1/completions"]["responses"]["200"]["content"]


def test_the_key_is_documented_for_every_path_that_needs_it() -> None:
    assert "securitySchemes" not in application().openapi()["components"]
    document = application("key-1").openapi()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    needed = {name for name, what in operations(document).items() if "security" in what}
    assert needed == set(operations(document)) - {"get /healthz", "get /readyz"}
    assert "key-1" not in str(document)
