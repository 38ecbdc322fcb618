"""The size of a Ray cluster's state is counted on a real Redis, with TLS and a password that is on no command line."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.runner.waiting import Pending, Until
from localcloud.machine.pki import Authority
from serving.gcs_size import Connection, RedisError, entries

ROOT = Path(__file__).resolve().parents[3]
PASSWORD = "sesame-open-12"
pytestmark = pytest.mark.skipif(not shutil.which("redis-server"), reason="there is no redis-server on the PATH")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Return the environment of a head's container: address, password and name of the cluster in Redis."""
    folder = tmp_path_factory.mktemp("redis")
    authority = Authority(folder, "ca")
    pair = authority.server("redis", "redis", ["127.0.0.1"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lines = ["bind 127.0.0.1", "port 0", f"tls-port {port}", f"tls-cert-file {pair.certificate}", f"tls-key-file {pair.key}"]
    lines += [f"tls-ca-cert-file {authority.certificate}", "tls-auth-clients no", 'save ""', f"requirepass {PASSWORD}", f"dir {folder}"]
    (folder / "redis.conf").write_text("\n".join(lines))
    environment = {
        "RAY_REDIS_ADDRESS": f"rediss://127.0.0.1:{port}",
        "RAY_REDIS_CA_CERT": str(authority.certificate),
        "REDIS_PASSWORD": PASSWORD,
    }
    with subprocess.Popen(["redis-server", str(folder / "redis.conf")], stdout=subprocess.DEVNULL) as server:
        try:
            Until("redis to answer", lambda: answers(environment), 60, 0.05).wait()
            yield {**environment, "RAY_external_storage_namespace": "uid-1"}
        finally:
            server.kill()


def answers(environment: dict[str, str]) -> bool | Pending:
    try:
        return fill(environment, "PING") == "PONG"
    except OSError as error:
        return Pending(str(error))


def fill(environment: dict[str, str], *words: str) -> object:
    """Send one command to Redis and return the answer."""
    with Connection(environment["RAY_REDIS_ADDRESS"], environment["RAY_REDIS_CA_CERT"]) as redis:
        redis.ask("AUTH", PASSWORD)
        return redis.ask(*words)


def test_only_fields_in_hashes_of_the_cluster_are_counted(environment: dict[str, str]) -> None:
    assert entries(environment) == 0
    fill(environment, "HSET", "RAYuid-1@ACTOR", "a", "x", "b", "x", "c", "x")
    fill(environment, "HSET", "RAYuid-1@KV", "a", "x", "b", "y")
    fill(environment, "HSET", "RAYuid-12@KV", "of another cluster", "x")
    fill(environment, "SET", "RAYuid-1@cluster_id", "no hash")
    assert entries(environment) == 5


def test_the_program_prints_the_number_and_has_no_secret_on_its_command_line(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "serving.gcs_size"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip().isdigit()


def test_a_wrong_password_is_refused_with_redis_message_and_not_repeated(environment: dict[str, str]) -> None:
    with pytest.raises(RedisError, match="WRONGPASS") as raised:
        entries({**environment, "REDIS_PASSWORD": "guessed-wrong"})
    assert "guessed-wrong" not in str(raised.value)
