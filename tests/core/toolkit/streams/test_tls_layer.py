"""TLS as bytes in and bytes out."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer_pool.toolkit.streams.tls_layer import TlsLayer
from producer_pool.toolkit.streams.tls_records import TlsError, whole_plaintext
from support.certificates import Authority

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Pair:
    """Two sides that have shaken hands."""

    def __init__(self, authority: Authority, version: ssl.TLSVersion, ciphers: str = "DEFAULT") -> None:
        here = authority.issue()
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(here.cert, here.key)
        client = ssl.create_default_context(cafile=str(authority.file))
        for context in (server, client):
            context.minimum_version = context.maximum_version = version
            context.set_ciphers(ciphers)
        self.client = TlsLayer(client, name="localhost")
        self.server = TlsLayer(server, server=True)
        sides = [self.client, self.server]
        while not (self.client.ready and self.server.ready):
            one, other = sides
            if not one.ready:
                one.handshake()
            if data := one.outgoing():
                other.receive(data)
            sides.reverse()
        self.client.receive(self.server.outgoing())


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def pair(request: pytest.FixtureRequest, authority: Authority) -> Pair:
    return Pair(authority, request.param)


def read(layer: TlsLayer, room: int = 100_000) -> bytes:
    buffer = memoryview(bytearray(room))
    return bytes(buffer[: layer.decrypt_into(buffer)])


def test_bytes_pass(pair: Pair) -> None:
    """What one side encrypts, the other reads, as much of it as has come."""
    wire = pair.client.encrypt(b"x" * 50_000)
    pair.server.receive(wire[:20_000])
    first = read(pair.server)
    pair.server.receive(wire[20_000:])

    assert len(first) == 16384
    assert first + read(pair.server) == b"x" * 50_000
    assert read(pair.server) == b""
    assert pair.client.encrypt(b"") == b""


def test_small_buffer(pair: Pair) -> None:
    """What does not fit comes with the next call."""
    pair.server.receive(pair.client.encrypt(b"0123456789"))

    assert [read(pair.server, 4) for _ in range(4)] == [b"0123", b"4567", b"89", b""]


def test_end_of_the_other_side(pair: Pair) -> None:
    """It is known for a good one, after the last bytes."""
    pair.server.receive(pair.client.encrypt(b"last") + pair.client.close())

    assert read(pair.server) == b"last"
    assert pair.server.ended


def test_stream_that_was_cut(pair: Pair) -> None:
    """An end without a word is an error, so that nobody can shorten a stream unnoticed."""
    pair.server.receive(pair.client.encrypt(b"last"))
    pair.server.cut()

    assert read(pair.server) == b"last"
    with pytest.raises(TlsError, match="it closed the connection without a word"):
        read(pair.server)
    assert not pair.server.ended


def test_bytes_before_a_broken_record(pair: Pair) -> None:
    """What came whole before somebody meddled is not lost with the rest."""
    good, bad = pair.client.encrypt(b"good"), bytearray(pair.client.encrypt(b"bad"))
    bad[-1] ^= 1
    pair.server.receive(good + bad)

    assert read(pair.server) == b"good"
    with pytest.raises(TlsError):
        read(pair.server)
    with pytest.raises(TlsError):
        read(pair.server)


def test_looking_keeps_what_it_sees(pair: Pair) -> None:
    """Bytes that came with the end of the handshake are there for the first read."""
    pair.client.look()
    pair.client.receive(pair.server.encrypt(b"hello"))
    pair.client.look()
    pair.client.receive(pair.server.encrypt(b" again"))

    assert read(pair.client) == b"hello again"


@pytest.mark.parametrize(
    "version,ciphers",
    [
        (ssl.TLSVersion.TLSv1_3, "DEFAULT"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-CHACHA20-POLY1305"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES256-SHA384"),
    ],
    ids=["tls1.3", "gcm", "chacha", "cbc"],
)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_plaintext_in_a_part_of_the_ciphertext(
    authority: Authority, version: ssl.TLSVersion, ciphers: str, data: st.DataObject
) -> None:
    """
    The computed position is never beyond what the other side can decrypt of the same bytes.

    And it is exactly that, unless the cipher pads its records.
    """
    key = ciphers + version.name
    pair = _pairs.get(key) or _pairs.setdefault(key, Pair(authority, version, ciphers))
    size = data.draw(st.integers(1, 70_000))
    wire = pair.client.encrypt(bytes(size))
    reached = data.draw(st.integers(0, len(wire)))
    pair.server.receive(wire[:reached])
    there = len(read(pair.server))
    claimed = whole_plaintext(reached, len(wire), size)
    pair.server.receive(wire[reached:])
    rest = len(read(pair.server))

    assert claimed <= there
    assert claimed == there or "SHA384" in ciphers
    assert there + rest == size


_pairs: dict[str, Pair] = {}
