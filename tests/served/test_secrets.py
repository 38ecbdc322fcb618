"""Secrets are in no log."""

from __future__ import annotations

from pathlib import Path

import httpx
from asking import URL
from deployed import KEY, deploy


def test_the_api_key_is_in_no_log_of_ray() -> None:
    deploy()
    assert httpx.get(URL + "/v1/models", headers={"Authorization": f"Bearer {KEY}"}, timeout=60).status_code == 200
    assert httpx.get(URL + "/v1/models", headers={"Authorization": f"Bearer not-{KEY}"}, timeout=60).status_code == 401
    logs = [path for path in Path("/tmp/ray/session_latest/logs").rglob("*") if path.is_file()]
    assert any("api" in path.name for path in logs)
    assert [path.name for path in logs if KEY.encode() in path.read_bytes()] == []
