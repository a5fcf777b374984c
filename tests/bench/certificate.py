"""A certificate for relays that encrypt, and who trusts it. Made when first needed."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path

from bench.peers.launch import UnavailableError, scratch

__all__ = ["certificate", "trusting"]


@cache
def _made() -> tuple[Path, Path]:
    """Return the file of a CA, and that of a certificate for this machine with its key."""
    try:
        import trustme
    except ImportError:
        raise UnavailableError("trustme is not installed beside this Python; use make bench") from None
    folder = scratch("certificate")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    own = authority.issue_cert("127.0.0.1")
    own.private_key_and_cert_chain_pem.write_to_path(str(folder / "own.pem"))
    return folder / "ca.pem", folder / "own.pem"


def certificate() -> Path:
    """Return the file of a certificate for this machine, with its key."""
    return _made()[1]


@cache
def trusting() -> ssl.SSLContext:
    """Return what trusts that certificate, and no other."""
    return ssl.create_default_context(cafile=_made()[0])
