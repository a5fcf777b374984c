"""Certificates for tests: a CA, and files signed by it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

__all__ = ["Authority", "Identity"]


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
