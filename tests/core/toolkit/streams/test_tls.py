"""The TLS options: what they make, and what their errors say."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from producer_pool.contract.options import coerce
from producer_pool.model.errors import InvalidOption
from producer_pool.toolkit.streams.tls import (
    TlsClientOptions,
    TlsListenerOptions,
    client_tls,
    server_tls,
)
from support.certificates import Authority, encrypted

WHERE = "tcp+tls://here:1"


def _client(**query: object) -> ssl.SSLContext:
    words = {name.replace("_", "-"): str(value) for name, value in query.items()}
    return client_tls(coerce(TlsClientOptions, words, where=WHERE), "here", where=WHERE).context


def _server(**query: object) -> ssl.SSLContext:
    words = {name.replace("_", "-"): str(value) for name, value in query.items()}
    return server_tls(coerce(TlsListenerOptions, words, where=WHERE), where=WHERE).context


def test_safe_by_default() -> None:
    """Certificates are verified, the name is checked, and TLS is 1.2 or newer."""
    context = _client()

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_only_the_ca_that_was_named(authority: Authority) -> None:
    """With tls-ca the system's authorities are not trusted besides it."""
    assert len(_client(tls_ca=authority.file).get_ca_certs()) == 1


def test_unsafe_when_asked_for(authority: Authority) -> None:
    """tls-verify=no says what it does, and contradicts tls-ca."""
    assert _client(tls_verify="no").verify_mode is ssl.CERT_NONE
    with pytest.raises(InvalidOption, match="tls-verify=no does not look at tls-ca"):
        _client(tls_verify="no", tls_ca=authority.file)


def test_listener_asks_for_certificates(authority: Authority) -> None:
    """Only with tls-ca do clients need one."""
    here = authority.issue()

    assert _server(tls_cert=here.cert, tls_key=here.key).verify_mode is ssl.CERT_NONE
    assert (
        _server(tls_cert=here.cert, tls_key=here.key, tls_ca=authority.file).verify_mode is ssl.CERT_REQUIRED
    )


def test_listener_without_a_certificate() -> None:
    """The error names both options."""
    with pytest.raises(
        InvalidOption, match=r"tcp\+tls://here:1: a listener with TLS needs tls-cert and tls-key"
    ):
        _server()


@pytest.mark.parametrize("given,missing", [("tls-cert", "tls-key"), ("tls-key", "tls-cert")])
def test_half_an_identity(authority: Authority, given: str, missing: str) -> None:
    """A certificate without a key, or the other way round, is an error at both ends."""
    words = {given.replace("-", "_"): authority.issue().cert}
    for make in (_client, _server):
        with pytest.raises(InvalidOption, match=f"{given} needs {missing}, too"):
            make(**words)


@pytest.mark.parametrize("name", ["tls_ca", "tls_cert", "tls_key"])
def test_file_that_is_not_there(authority: Authority, tmp_path: Path, name: str) -> None:
    """The error names option, file and cause."""
    here = authority.issue()
    words: dict[str, object] = {"tls_cert": here.cert, "tls_key": here.key, name: tmp_path / "gone"}
    shown = name.replace("_", "-")

    for make in (_client, _server):
        with pytest.raises(
            InvalidOption, match=f"cannot read {shown}={tmp_path}/gone: no such file or directory"
        ):
            make(**words)


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    """That cause is named, too."""
    with pytest.raises(InvalidOption, match="is a directory"):
        _client(tls_ca=tmp_path)


def test_files_that_hold_something_else(authority: Authority, tmp_path: Path) -> None:
    """Each error says which file, and what it should hold."""
    here, other = authority.issue(), authority.issue("other.test")
    junk = tmp_path / "junk"
    junk.write_text("junk")

    with pytest.raises(InvalidOption, match=f"tls-ca={junk} holds no certificate in PEM form"):
        _client(tls_ca=junk)
    with pytest.raises(InvalidOption, match=f"tls-cert={junk} holds no certificate in PEM form"):
        _server(tls_cert=junk, tls_key=here.key)
    with pytest.raises(InvalidOption, match=f"tls-key={junk} holds no key in PEM form"):
        _server(tls_cert=here.cert, tls_key=junk)
    with pytest.raises(InvalidOption, match=f"tls-key={other.key} is not the key of tls-cert={here.cert}"):
        _server(tls_cert=here.cert, tls_key=other.key)


def test_key_with_a_passphrase(authority: Authority) -> None:
    """It is an error, and nobody is asked at the terminal."""
    locked = encrypted(authority.issue())

    with pytest.raises(InvalidOption, match="needs a passphrase; give a key without one"):
        _server(tls_cert=locked.cert, tls_key=locked.key)


def test_timeout_that_makes_no_sense(authority: Authority) -> None:
    """Such an option is an error that names it."""
    here = authority.issue()
    with pytest.raises(InvalidOption, match="handshake-timeout must be above 0 seconds"):
        _server(tls_cert=here.cert, tls_key=here.key, handshake_timeout="0s")
