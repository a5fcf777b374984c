"""What only this protocol knows: signatures, and the key that makes them."""

import socket
from pathlib import Path

import pytest

from producer_pool import ClientFactory, InvalidOption, ProducerPool, bind_transport
from producer_pool.plugin import Endpoint, FramingError
from producer_pool_signed.transport import SignedClientOptions, SignedLines, SignedOptions

KEY = b"only-for-tests-0123456789abcdef"
ELSEWHERE = b"another-key-0123456789abcdef"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A file with the key."""
    path = tmp_path / "key"
    path.write_bytes(KEY + b"\n")
    return path


def test_messages_on_the_wire() -> None:
    """`printf one | openssl dgst -sha256 -hmac KEY` says the same."""
    signature = b"e02ec922143fd5f46fc99f617b8ae6703f99a65a94dcdd52e2673fd13e18f514"

    assert SignedLines(KEY).encode([b"one"]) == signature + b" one\n"


@pytest.mark.parametrize(
    "line",
    [
        b"one",
        b"",
        SignedLines(ELSEWHERE).wrap(b"one"),
        SignedLines(KEY).wrap(b"one") + b" and more",
        SignedLines(KEY).wrap(b"one").upper(),
        SignedLines(KEY).wrap(b"one")[1:],
        b"\xff" * 64 + b" one",
    ],
)
def test_line_that_is_not_signed(line: bytes) -> None:
    """What came before it is good; it, and all after it, is not."""
    good = SignedLines(KEY).wrap(b"good") + b"\n"
    stream = good + line + b"\n" + good
    decoder = SignedLines(KEY).decoder(1000)

    assert decoder.feed(stream, len(stream)) == good
    assert isinstance(decoder.error, FramingError)
    assert "not signed with our key" in str(decoder.error)


def test_stranger(key: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One without the key is cut off, and heard by nobody; others go on."""
    seen: list[bytes] = []
    with (
        ProducerPool() as pool,
        bind_transport(f"signed://127.0.0.1:0?key-file={key}", pool, on_message=seen.append) as server,
        socket.create_connection((server.endpoint.host, server.endpoint.port), timeout=10) as stranger,
        ProducerPool() as honest,
    ):
        stranger.sendall(SignedLines(ELSEWHERE).wrap(b"forged") + b"\n")
        assert stranger.recv(1) == b""
        honest.add_producer("x", str(server.endpoint))
        honest.forward_to("x", "signed").check()

    assert seen == [b"signed"]
    assert "connection closed: a line is not signed with our key" in caplog.text
    assert "forged" not in caplog.text


def test_key_is_never_shown(key: Path, tmp_path: Path) -> None:
    """Not in what the objects print, and not where somebody wrote it into the URL."""
    url = f"signed://127.0.0.1:1?key-file={key}"
    client = ClientFactory.create(url)
    with pytest.raises(InvalidOption) as caught:
        ClientFactory.create(f"signed://127.0.0.1:1?key={KEY.decode()}")

    shown = f"{client!r} {vars(client)!r} {SignedLines(KEY)!r} {SignedOptions(key)!r} {caught.value}"
    assert KEY.decode() not in shown
    assert "has no option key; known: " in str(caught.value)


@pytest.mark.parametrize(
    "text, message",
    [(None, "cannot read the key: no such file"), (b"short\n", "shorter than 16 bytes; try: openssl rand")],
)
def test_key_that_cannot_be_used(tmp_path: Path, text: bytes | None, message: str) -> None:
    """Each end says why, before anything is sent or listened at."""
    path = tmp_path / "key"
    if text is not None:
        path.write_bytes(text)
    factory = ClientFactory()

    for make in (factory.create, factory.listener):
        with pytest.raises(InvalidOption, match=message):
            make(f"signed://127.0.0.1:0?key-file={path}")
        with pytest.raises(InvalidOption, match="option key-file is needed"):
            make("signed://127.0.0.1:0")


def test_options_by_hand(key: Path) -> None:
    """A program that makes a client itself gives it an endpoint and its options."""
    endpoint = Endpoint.parse("signed://127.0.0.1:1")

    assert isinstance(SignedClientOptions(key_file=key).framing(endpoint), SignedLines)
