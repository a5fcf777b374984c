"""The TLS options that all protocols share, and the contexts made from them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from producer_pool.contract.options import Duration, option
from producer_pool.model.errors import InvalidOption
from producer_pool.toolkit.sockets.tcp import why
from producer_pool.toolkit.streams.tls_layer import TlsLayer

__all__ = [
    "ClientTls",
    "ServerTls",
    "TlsClientOptions",
    "TlsListenerOptions",
    "client_tls",
    "server_tls",
]


@dataclass(frozen=True)
class TlsClientOptions:
    """How a client proves who it is, and whom it trusts."""

    tls_ca: Path | None = option(None, "file with the CA certificates to trust; left out: the system's")
    tls_cert: Path | None = option(None, "file with our certificate, if the consumer asks for one; PEM")
    tls_key: Path | None = option(None, "file with its key; PEM, without a passphrase")
    tls_name: str | None = option(
        None, "the name that the consumer's certificate has to hold, if not the host"
    )
    tls_verify: bool = option(True, "no: send to anybody who answers, whatever their certificate says")


@dataclass(frozen=True)
class TlsListenerOptions:
    """How a listener proves who it is, and whom it lets in."""

    tls_cert: Path | None = option(None, "file with the certificate and its chain; PEM; needed")
    tls_key: Path | None = option(None, "file with its key; PEM, without a passphrase; needed")
    tls_ca: Path | None = option(None, "file with CA certificates; who connects has to have one of theirs")
    handshake_timeout: Duration = option(10.0, "a connection is closed whose TLS handshake takes longer")


class ClientTls(NamedTuple):
    """What a client needs for its handshakes."""

    context: ssl.SSLContext
    name: str

    def layer(self) -> TlsLayer:
        """Return our side of a new connection."""
        return TlsLayer(self.context, name=self.name)


class ServerTls(NamedTuple):
    """What a listener needs for its handshakes."""

    context: ssl.SSLContext
    timeout: float

    def layer(self) -> TlsLayer:
        """Return our side of a new connection."""
        return TlsLayer(self.context, server=True)


def client_tls(options: TlsClientOptions, name: str, *, where: str) -> ClientTls:
    """
    Make the TLS side of a client: TLS 1.2 or newer, certificates verified, host name checked.

    Raises:
        InvalidOption: a file cannot be used; the text names option, file and cause.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context)
    if not options.tls_verify:
        if options.tls_ca is not None:
            raise InvalidOption(f"{where}: tls-verify=no does not look at tls-ca; leave out one of them")
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif options.tls_ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _trust(context, options.tls_ca, where)
    _identify(context, options.tls_cert, options.tls_key, where)
    return ClientTls(context, options.tls_name or name)


def server_tls(options: TlsListenerOptions, *, where: str) -> ServerTls:
    """
    Make the TLS side of a listener: TLS 1.2 or newer; with ``tls-ca``, clients need a certificate, too.

    Raises:
        InvalidOption: certificate or key are missing, or a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    if options.tls_cert is None and options.tls_key is None:
        raise InvalidOption(f"{where}: a listener with TLS needs tls-cert and tls-key")
    if options.handshake_timeout <= 0:
        raise InvalidOption(f"{where}: handshake-timeout must be above 0 seconds")
    _identify(context, options.tls_cert, options.tls_key, where)
    if options.tls_ca is not None:
        _trust(context, options.tls_ca, where)
        context.verify_mode = ssl.CERT_REQUIRED
    return ServerTls(context, options.handshake_timeout)


def _restrict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # With renegotiation, a write could have to wait for a read.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION


def _trust(context: ssl.SSLContext, ca: Path, where: str) -> None:
    _check_readable("tls-ca", ca, where)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError:
        raise InvalidOption(f"{where}: tls-ca={ca} holds no certificate in PEM form") from None


def _identify(context: ssl.SSLContext, cert: Path | None, key: Path | None, where: str) -> None:
    if cert is None and key is None:
        return
    if cert is None or key is None:
        given, missing = ("tls-key", "tls-cert") if cert is None else ("tls-cert", "tls-key")
        raise InvalidOption(f"{where}: {given} needs {missing}, too; name one file twice if it holds both")
    _check_readable("tls-cert", cert, where)
    _check_readable("tls-key", key, where)

    def no_passphrase() -> str:
        # Without this, OpenSSL would ask on the terminal, and wait.
        raise InvalidOption(f"{where}: tls-key={key} needs a passphrase; give a key without one")

    try:
        context.load_cert_chain(cert, key, no_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InvalidOption(f"{where}: tls-key={key} is not the key of tls-cert={cert}") from None
        wrong = (
            f"tls-key={key} holds no key"
            if _has_certificate(cert)
            else f"tls-cert={cert} holds no certificate"
        )
        raise InvalidOption(f"{where}: {wrong} in PEM form") from None


def _check_readable(name: str, path: Path, where: str) -> None:
    """Open *path*: the errors of OpenSSL do not say which file, or why."""
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise InvalidOption(f"{where}: cannot read {name}={path}: {why(error)}") from None


def _has_certificate(path: Path) -> bool:
    return b"-----BEGIN CERTIFICATE-----" in path.read_bytes()
