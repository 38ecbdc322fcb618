"""Certificate authorities and certificates: one authority per cluster, one for API aggregation, one for Redis, one for webhooks.

Keys are elliptic (P-256): made in a millisecond, where RSA takes a tenth of a second. They are in files of mode
0600 in a folder of mode 0700, are deleted with the cloud, and are never shared between two clouds.

Not trustme: it makes certificates for tests. Each has an organisation, which Kubernetes takes as the user's group, and is
valid for servers, clients and code at once.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from localcloud.files import write_private

_LIFE = datetime.timedelta(days=365)
_CLOCK_SKEW = datetime.timedelta(minutes=5)


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority. What it issues is in one folder; its own key is in no file."""

    def __init__(self, folder: Path, name: str) -> None:
        """Make a new authority; its certificate is folder/NAME.crt."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(f"leeward {name}")
        builder = _builder(self._name, self._name, self._key, self._key, _usage(signs_certificates=True))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate = folder / f"{name}.crt"
        self.pem = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
        write_private(self.certificate, self.pem)

    def client(self, file: str, user: str, groups: Sequence[str] = ()) -> Pair:
        """Issue a certificate that authenticates to Kubernetes as this user in these groups."""
        return self._issue(file, _name(user, groups), (), ExtendedKeyUsageOID.CLIENT_AUTH)

    def server(self, file: str, name: str, addresses: Iterable[str]) -> Pair:
        """Issue a certificate for a server with these IP addresses and DNS names."""
        # Redis replicas present their server certificate as clients too.
        return self._issue(file, _name(name), addresses, ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)

    def _issue(self, file: str, subject: x509.Name, addresses: Iterable[str], *purposes: x509.ObjectIdentifier) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(subject, self._name, key, self._key, _usage(signs_certificates=False))
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        if names := [_alternative(address) for address in addresses]:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        pem = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
        return Pair(
            write_private(self.folder / f"{file}.crt", pem),
            write_private(self.folder / f"{file}.key", _pem(key)),
        )


def signing_key(folder: Path) -> Pair:
    """Make the key pair that signs service account tokens. RSA, because clients of EKS's tokens expect RS256."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Pair(write_private(folder / "sa.pub", public.decode()), write_private(folder / "sa.key", _pem(key)))


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, usage: x509.KeyUsage
) -> x509.CertificateBuilder:
    """Return what every certificate has. Key identifiers are included because Python 3.13 refuses a chain without them."""
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFE)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )


def _name(common: str, organizations: Sequence[str] = ()) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
