"""Certificates for tests: a CA, and files signed by it."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

__all__ = ["Authority", "Identity", "encrypted", "self_signed"]


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as files and as the options that name them."""

    cert: Path
    key: Path

    @property
    def query(self) -> str:
        return f"tls-cert={self.cert}&tls-key={self.key}"


class Authority:
    """A CA whose files lie in one folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.file))
        self._name = name

    def issue(self, *names: str, expired: bool = False) -> Identity:
        """Sign a certificate for these names, by default for this machine."""
        after = datetime.datetime(2001, 1, 1) if expired else None
        before = datetime.datetime(2000, 1, 1) if expired else None
        leaf = self._ca.issue_cert(
            *(names or ("localhost", "127.0.0.1", "::1")), not_after=after, not_before=before
        )
        stem = f"{self._name}-{'-'.join(names) or 'here'}{'-expired' if expired else ''}".replace(":", "_")
        identity = Identity(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        for number, pem in enumerate(leaf.cert_chain_pems):
            pem.write_to_path(str(identity.cert), append=number > 0)
        leaf.private_key_pem.write_to_path(str(identity.key))
        return identity


def encrypted(identity: Identity) -> Identity:
    """Return the same with a key that needs a passphrase."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(identity.key.read_bytes(), None)
    path = identity.key.with_suffix(".locked")
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"secret"))
    )
    return Identity(identity.cert, path)


def self_signed(folder: Path) -> Identity:
    """Return a certificate for this machine that nobody but its own key has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "here")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    identity = Identity(folder / "self-signed.pem", folder / "self-signed.key")
    identity.cert.write_bytes(certificate.public_bytes(Encoding.PEM))
    identity.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return identity
