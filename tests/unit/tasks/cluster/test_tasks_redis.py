"""The check of Redis: TLS with the given authority only, the password, and the errors when one of them is wrong."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from localcloud.machine.pki import Authority
from tasks.cluster.redis import Redis, RedisRefused, ping


@contextmanager
def server(authority: Authority, answers: dict[bytes, bytes], name: str = "127.0.0.1") -> Iterator[tuple[int, list[bytes]]]:
    """A TLS server that answers commands of Redis's protocol by their first word; yields its port and the received data."""
    made = authority.server("redis", "redis", [name])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    received: list[bytes] = []

    def serve(listening: socket.socket) -> None:
        while True:
            try:
                plain, _ = listening.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(plain, server_side=True) as connection:
                    while data := connection.recv(4096):
                        received.append(data)
                        connection.sendall(answers[data.split(b"\r\n")[2]])
            except OSError:  # the client refused the certificate, or only tried the port
                continue

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        yield listening.getsockname()[1], received
        listening.shutdown(socket.SHUT_RDWR)


def redis(port: int, authority: Authority | None, token: str = "secret") -> Redis:
    return Redis("127.0.0.1", port, SecretStr(token), authority.certificate.read_text() if authority else "")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca", "ca")


def test_a_redis_with_the_right_authority_and_password_answers(authority: Authority) -> None:
    with server(authority, {b"AUTH": b"+OK\r\n", b"PING": b"+PONG\r\n"}) as (port, received):
        assert ping(redis(port, authority))
    assert received == [b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n", b"*1\r\n$4\r\nPING\r\n"]


@pytest.mark.parametrize(
    "answer", [b"-WRONGPASS invalid username-password pair", b"-ERR AUTH <password> called without any password configured"]
)
def test_a_refused_password_is_an_error_that_names_the_answer_and_not_the_password(authority: Authority, answer: bytes) -> None:
    with (
        server(authority, {b"AUTH": answer + b"\r\n"}) as (port, _),
        pytest.raises(RedisRefused, match=r"answers .*Secrets Manager") as caught,
    ):
        ping(redis(port, authority))
    assert "secret'" not in str(caught.value)


def test_only_the_given_authority_is_trusted_and_not_those_of_the_machine(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    another = Authority(tmp_path / "another", "ca")
    with server(authority, {b"AUTH": b"+OK\r\n", b"PING": b"+PONG\r\n"}) as (port, received):
        assert ping(redis(port, None)), "without an authority of its own, those of the machine count"
        received.clear()
        with pytest.raises(RedisRefused, match=r"CERTIFICATE_VERIFY_FAILED.*redis_ca_pem"):
            ping(redis(port, another))
        assert received == []


def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    with server(authority, {}, name="127.0.0.2") as (port, received), pytest.raises(RedisRefused, match="redis_ca_pem"):
        ping(redis(port, authority))
    assert received == []


def test_a_server_that_does_not_answer_in_time_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(RedisRefused, match="does not speak TLS as expected"):
        ping(redis(silent.getsockname()[1], None), within_s=0.2)


def test_a_redis_that_cannot_be_reached_gives_false() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert not ping(redis(port, None))
