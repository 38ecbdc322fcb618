"""A model is fetched whole, from S3 and from the hub, and what cannot be had is said in one sentence."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import boto3
import pytest

from serving.fetch import CannotFetch, fetch

if TYPE_CHECKING:
    from embedded_aws import EmbeddedAws

_numbers = itertools.count()
FILES = {"config.json": b"{}", "model.safetensors": b"\0" * 70000, "deep/tokenizer.json": b"[]"}


@pytest.fixture
def bucket(aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> str:
    """Create a bucket with a model and its neighbours, and set the environment so that boto3 finds it."""
    variables = {"AWS_ENDPOINT_URL": aws.endpoint.url, "AWS_DEFAULT_REGION": "us-east-1"}
    keys = {"AWS_ACCESS_KEY_ID": aws.first.access_key_id, "AWS_SECRET_ACCESS_KEY": aws.first.secret_access_key}
    for name, value in {**variables, **keys}.items():
        monkeypatch.setenv(name, value)
    s3, name = boto3.client("s3"), f"models{next(_numbers)}"
    s3.create_bucket(Bucket=name)
    for file, content in FILES.items():
        s3.put_object(Bucket=name, Key=f"models/tuned/{file}", Body=content)
    s3.put_object(Bucket=name, Key="models/tuned/", Body=b"")
    s3.put_object(Bucket=name, Key="models/tuned-2/config.json", Body=b"other")
    return name


def _content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_all_files_below_the_folder_and_no_others_are_fetched_from_s3(bucket: str, tmp_path: Path) -> None:
    assert set(fetch(f"s3://{bucket}/models/tuned", "", tmp_path)) == set(FILES)
    assert _content(tmp_path) == FILES


def test_a_second_run_fetches_only_what_is_missing(bucket: str, tmp_path: Path) -> None:
    fetch(f"s3://{bucket}/models/tuned", "", tmp_path)
    before = (tmp_path / "model.safetensors").stat().st_mtime_ns
    (tmp_path / "config.json").unlink()
    fetch(f"s3://{bucket}/models/tuned", "", tmp_path)
    assert _content(tmp_path) == FILES
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == before


def test_a_folder_without_a_model_or_a_bucket_that_is_not_there_is_an_error(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(CannotFetch, match=r"no config\.json among its 0 files"):
        fetch(f"s3://{bucket}/models/absent", "", tmp_path)
    with pytest.raises(CannotFetch, match="NoSuchBucket"):
        fetch("s3://no-such-bucket-anywhere/models", "", tmp_path)


def test_a_file_is_never_written_outside_the_folder(bucket: str, tmp_path: Path) -> None:
    boto3.client("s3").put_object(Bucket=bucket, Key="models/tuned/../../../escaped", Body=b"!")
    with pytest.raises(CannotFetch, match="outside"):
        fetch(f"s3://{bucket}/models/tuned", "", tmp_path / "model")
    assert not (tmp_path.parent / "escaped").exists()


class Hub(BaseHTTPRequestHandler):
    """Stands in for the hub: one model at one revision, for one token."""

    files: ClassVar = {**{name: content for name, content in FILES.items() if "/" not in name}, "consolidated.safetensors": b"\1" * 50}
    token = "hf_right"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path, commit = self.path.partition("?")[0], "0" * 40
        if self.headers.get("Authorization") != f"Bearer {self.token}":
            return self._send(401, b'{"error": "gated"}', body, {"X-Error-Code": "GatedRepo"})
        if path.startswith("/api/models/somebody/tiny/tree/"):
            files = [{"type": "file", "path": name, "size": len(content), "oid": commit} for name, content in self.files.items()]
            return self._send(200, json.dumps(files).encode(), body, {})
        if path.startswith("/api/models/somebody/tiny/"):
            siblings = [{"rfilename": name} for name in self.files]
            return self._send(200, json.dumps({"id": "somebody/tiny", "sha": commit, "siblings": siblings}).encode(), body, {})
        content = self.files.get(path.rpartition("/")[2]) if path.startswith("/somebody/tiny/resolve/") else None
        if content is None:
            return self._send(404, b"{}", body, {"X-Error-Code": "EntryNotFound"})
        return self._send(200, content, body, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit})

    def _send(self, status: int, content: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Log nothing for a request."""


@pytest.fixture
def hub() -> Iterator[str]:
    """Serve the stand-in; return its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _run(hub: str, folder: Path, token: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """Run the program as an init container does; the hub's client reads the environment when it is imported."""
    variables = {"HF_ENDPOINT": hub, "HF_TOKEN": token, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "serving.fetch", "somebody/tiny", "main", str(folder)]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)


def test_a_model_of_the_hub_is_fetched_without_a_second_copy_of_its_weights(hub: str, tmp_path: Path) -> None:
    done = _run(hub, tmp_path / "model", "hf_right", tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("somebody/tiny: 2 files")
    assert set(_content(tmp_path / "model")) == {"config.json", "model.safetensors"}


def test_a_token_that_does_not_open_the_model_is_said_last(hub: str, tmp_path: Path) -> None:
    done = _run(hub, tmp_path / "model", "hf_wrong", tmp_path / "cache")
    assert done.returncode == 1
    assert "somebody/tiny at main cannot be downloaded" in done.stderr
    assert "hf_wrong" not in done.stderr
