"""Certificates have what Kubernetes and Redis clients check."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from localcloud.machine.pki import Authority, Pair, signing_key


def read(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes())


def handshake(server: Pair, authority: Authority, name: str) -> None:
    """Open a TLS connection to `server` under `name`, with Python's strictest checks; raises what the client raises."""
    here, there = socket.socketpair()
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(server.certificate, server.key)

    def accept() -> None:
        try:
            accepting.wrap_socket(there, server_side=True).close()
        except OSError:
            there.close()

    thread = threading.Thread(target=accept)
    thread.start()
    connecting = ssl.create_default_context(cafile=str(authority.certificate))
    connecting.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    try:
        connecting.wrap_socket(here, server_hostname=name).close()
    finally:
        here.close()
        thread.join()


@pytest.mark.parametrize("name", ["10.213.0.10", "kubernetes.default.svc"])
def test_a_server_is_trusted_under_each_of_its_names(tmp_path: Path, name: str) -> None:
    authority = Authority(tmp_path, "ca")
    handshake(authority.server("api", "kube-apiserver", ["10.213.0.10", "kubernetes.default.svc"]), authority, name)


def test_a_server_is_not_trusted_under_another_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(authority.server("api", "kube-apiserver", ["10.213.0.10"]), authority, "10.213.0.11")


def test_a_server_of_another_cluster_is_not_trusted(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "a", "ca"), Authority(tmp_path / "b", "ca")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(theirs.server("api", "kube-apiserver", ["10.213.0.10"]), ours, "10.213.0.10")


def test_a_nodes_certificate_names_its_user_and_group(tmp_path: Path) -> None:
    subject = read(Authority(tmp_path, "ca").client("kubelet", "system:node:n1", ["system:nodes"])).subject
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["system:node:n1"]
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["system:nodes"]


def test_keys_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    authority = Authority(folder, "ca")
    pairs = [authority.client("c", "u"), authority.server("s", "n", ["10.0.0.1"]), signing_key(folder)]
    assert {pair.key.stat().st_mode & 0o777 for pair in pairs} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_authoritys_own_key_is_not_in_any_file(tmp_path: Path) -> None:
    Authority(tmp_path, "ca")
    assert [path.name for path in tmp_path.iterdir()] == ["ca.crt"]
