"""What a TLS error means, in the house's words."""

from __future__ import annotations

import ssl
from typing import Final

from producer_pool.toolkit.sockets.tcp import why

__all__ = ["why_tls"]

_UNTRUSTED: Final = "its certificate comes from a CA that is not trusted here; name the CA's file with tls-ca"

_VERIFICATION: Final = {
    9: "its certificate is not valid yet; is this machine's clock right?",
    10: "its certificate has expired",
    18: "its certificate is self-signed; name it, or its CA, with tls-ca",
    19: _UNTRUSTED,
    20: _UNTRUSTED,
    21: _UNTRUSTED,
}
"""By X509_V_ERR_...: openssl-verification-options(1), and x509_vfy.h."""

_OTHER_NAME: Final = (62, 64)

_REASONS: Final = {
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not acceptable",
    "HTTP_REQUEST": "it does not speak TLS, but HTTP",
    "NO_SHARED_CIPHER": "there is no cipher that both sides have",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it has no certificate, and tls-ca asks for one",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it refuses our certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it refuses; does it want a client certificate (tls-cert, tls-key)?",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it asks for a client certificate; give it tls-cert and tls-key",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it wants another TLS version; here it is 1.2 or newer",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust the CA of our certificate",
    "UNSUPPORTED_PROTOCOL": "it offers no TLS version from 1.2 up",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
}


def why_tls(error: ssl.SSLError, name: str = "") -> str:
    """Say what a TLS error means. *It* is the other side, whose certificate should hold *name*."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OTHER_NAME:
            return f"its certificate is not for {name}; tls-name says which name to expect"
        if error.verify_code in _VERIFICATION:
            return _VERIFICATION[error.verify_code]
        return f"its certificate is not acceptable: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError):
        return "it closed the connection without a word"
    # Those that Python raises by itself, and not for OpenSSL, have none.
    reason = getattr(error, "reason", None) or ""
    return _REASONS.get(reason, reason.lower().replace("_", " ") or why(error))
