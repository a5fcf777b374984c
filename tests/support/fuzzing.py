"""
What reads bytes of strangers, as functions of bytes: for hypothesis, for mutations, and for atheris.

    python tests/support/fuzzing.py NAME [atheris's options]    fuzzes one of them, if atheris is installed
"""
# Rule: a target raises nothing for what it has to refuse. What it raises is a fault, as is a secret shown.

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Final

from producer_pool.contract.options import coerce
from producer_pool.discovery.environment import read_environment
from producer_pool.discovery.factory import ClientFactory
from producer_pool.discovery.tomlfile import read_file
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import FramingError, ProducerPoolError
from producer_pool.model.framing import framing_named
from producer_pool.toolkit.acknowledging.answers import AnswerReader
from producer_pool_websocket.answering import House, Request
from producer_pool_websocket.asking import Asking, Wish
from producer_pool_websocket.options import ServerOptions
from producer_pool_websocket.reading import FrameReader

__all__ = ["MARKER", "TARGETS", "Shown", "Target", "mutations"]

MARKER: Final = "s3cr3tMarker"
"""Stands where a secret is. No error, repr or log may have it."""
LIMIT: Final = 1000


class Shown(AssertionError):
    """The secret was shown."""


def hidden(text: str) -> None:
    """Fail if *text* shows the secret."""
    if MARKER.lower() in text.lower():
        raise Shown(text)


def refused(error: ProducerPoolError) -> None:
    """Look at how something was refused."""
    hidden(f"{error!s} {error!r}")
    hidden("".join(traceback.format_exception(error)))


@dataclass(frozen=True)
class Target:
    """One reader, and what it usually reads."""

    read: Callable[[bytes], None]
    corpus: tuple[bytes, ...]
    tokens: tuple[bytes, ...] = ()
    """What mutations put in."""


TARGETS: Final[dict[str, Target]] = {}


def target(
    name: str, *corpus: bytes, tokens: Iterable[bytes] = ()
) -> Callable[[Callable[[bytes], None]], None]:
    def added(read: Callable[[bytes], None]) -> None:
        TARGETS[name] = Target(read, corpus, tuple(tokens))

    return added


# -- framings ----------------------------------------------------------------------------------------


def cuts(data: bytes) -> Iterator[bytes]:
    """Yield the parts of *data*; where it is cut, it says itself."""
    while data:
        size = data[0] % 37 + 1
        yield data[:size]
        data = data[size:]


def decode(name: str) -> Callable[[bytes], None]:
    framing = framing_named(name)

    def read(data: bytes) -> None:
        decoder = framing.decoder(LIMIT)
        found: list[bytes] = []
        for part in cuts(data):
            found += framing.split(decoder.feed(part, len(part)))
            if decoder.error is not None:
                assert isinstance(decoder.error, FramingError)
                break
        assert all(len(message) <= LIMIT for message in found)
        assert decoder.tail <= LIMIT + 40
        rest = decoder.finish()
        assert rest is None or len(rest) <= LIMIT
        whole = framing.decoder(LIMIT)
        assert framing.split(whole.feed(data, len(data))) == found

    return read


target("lines", b"one\ntwo\n\nthree", b"x" * 1100 + b"\n", tokens=[b"\n", b"\r\n", b"\0"])(decode("lines"))
target("nul", b"one\0two\0\0three", tokens=[b"\0"])(decode("nul"))
target(
    "length4",
    b"\0\0\0\3one\0\0\0\0\0\0\0\1x",
    tokens=[b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\x03\xe8", b"\0\0\x03\xe9"],
)(decode("length4"))
target("octet-counting", b"3 one0 11 hello world", tokens=[b" ", b"0", b"999999999", b"-1", b"+1", b"1e3"])(
    decode("octet-counting")
)


@target("acknowledgements", b"1\n2\n30\n", tokens=[b"\n", b"-1", b"9" * 20, "²".encode(), b" 1"])
def read_answers(data: bytes) -> None:
    reader = AnswerReader(framing_named("lines"))
    before = 0
    for part in cuts(data):
        try:
            count = reader.feed(part)
        except FramingError as error:
            refused(error)
            return
        assert count >= before
        before = count


# -- websockets --------------------------------------------------------------------------------------

FRAMES: Final = (
    b"\x81\x05hello",
    b"\x82\x7e\x01\x00" + b"x" * 256,
    b"\x01\x03abc\x89\x00\x80\x02de",
    b"\x88\x02\x03\xe8",
    b"\x81\x85\x5a\xc3\x0f\x962\xa6c\xfa5",
)
FRAME_TOKENS: Final = (
    b"\x81\x7f" + b"\xff" * 8,
    b"\x81\x7e\xff\xff",
    b"\x88\x00",
    b"\x89\x7d",
    b"\xc1\x01",
    b"\x80\x00",
    b"\xff",
)


def frames(*, masked: bool, limit: int | None) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        reader = FrameReader(limit, masked=masked)
        for part in cuts(data):
            for message in reader.feed(part, len(part)):
                assert limit is not None
                assert len(message) <= limit
            if reader.error is not None:
                assert isinstance(reader.error, FramingError)
                refused(reader.error)
            if reader.is_over():
                assert not reader.feed(b"\x81\x05hello", 7)
                break
        # A control frame and the head of another, at the most, beside an unfinished message.
        assert reader.tail <= LIMIT + 300

    return read


target("websocket frames, listening", *FRAMES, tokens=FRAME_TOKENS)(frames(masked=True, limit=LIMIT))
target("websocket frames, sending", *FRAMES, tokens=FRAME_TOKENS)(frames(masked=False, limit=None))

HEAD_TOKENS: Final = (
    b"\r\n",
    b"\r\n\r\n",
    b": ",
    b"Upgrade: websocket\r\n",
    b"Sec-WebSocket-Key: x\r\n",
    b"Host: a\r\nHost: b\r\n",
    b"Content-Length: 5\r\n",
    b"Authorization: Bearer x\r\n",
    b"?token=x",
    b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99\r\n",
    b"\x16\x03\x01",
    b"HTTP/1.0",
    "é".encode(),
    b"\0",
)
REQUEST: Final = (
    b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ANSWER: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
_OPTIONS: Final = coerce(ServerOptions, {}, where="ws://here:1")
HOUSES: Final = (House("/", _OPTIONS, MARKER), House("/", _OPTIONS, None, True))


@target("websocket request", REQUEST, b"HEAD / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0", tokens=HEAD_TOKENS)
def read_request(data: bytes) -> None:
    for house in HOUSES:
        asked = Request(house)
        for part in cuts(data):
            answer, _ = asked.feed(part)
            if answer is not None:
                hidden(f"{answer.refused} {answer.data!r}")
                status = answer.data.split(b" ", 2)[1]
                assert (status == b"101") == (not answer.refused)
                break


@target("websocket answer", ANSWER, b"HTTP/1.1 403 Forbidden\r\n\r\n", tokens=HEAD_TOKENS)
def read_answer(data: bytes) -> None:
    wish = Wish(
        "here", 1, False, f"/?token={MARKER}", subprotocols=["a"], compresses=True, headers=[("X", MARKER)]
    )
    asking = Asking(wish, "ws://here:1")
    for part in cuts(data):
        try:
            if asking.feed(part) is not None:
                hidden(repr(asking.inflater))
                return
        except ProducerPoolError as error:
            refused(error)
            return


# -- URLs and configuration ----------------------------------------------------------------------------

URL_TOKENS: Final = tuple(
    text.encode(errors="surrogatepass")
    for text in (
        *("://", ":", "/", "?", "#", "@", "[", "]", "%", "%00", "%2", "%40", "&", "=", "+", "..", "\n", "\0"),
        *("\u2100", "\xe9", " ", "user:", "[::1]", "127.0.0.1", "99999", "-1", "timeout=1h", "buffer=8EiB"),
        *("ack=app", "framing=lines", "tcp", "ws", "unix", "tcp+tls", "a" * 300),
    )
)
URLS: Final = (
    b"tcp://127.0.0.1:9000?timeout=5s&buffer=64MiB",
    f"tcp://user:{MARKER}@host:9000/path".encode(),
    f"wss://host:443/path?token={MARKER}&query=a%3Db".encode(),
    f"tcp://user:{MARKER}@[::1]:1?password={MARKER}".encode(),
    b"unix:///run/x.sock?framing=length4",
)


@target("URL", *URLS, tokens=URL_TOKENS)
def read_url(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    try:
        endpoint = Endpoint.parse(text)
    except ProducerPoolError as error:
        refused_url(error, text)
        return
    for name in ("host", "port", "consumer_port", "username", "password", "path", "scheme", "options"):
        try:
            getattr(endpoint, name)
        except ProducerPoolError as error:
            refused_url(error, text)
    if is_secret(text):
        hidden(f"{endpoint} {endpoint!r} {endpoint.without(endpoint.options)!r}")


def is_secret(text: str) -> bool:
    """Whether the marker stands where a secret is, and nowhere else: mutations move and double it."""
    bare, _, query = text.partition("?")
    pairs = [pair for pair in query.split("&") if pair not in (f"password={MARKER}", f"token={MARKER}")]
    rest = f"{bare.replace(f':{MARKER}@', '', 1)} {pairs}"
    return MARKER in text and MARKER.lower() not in rest.lower()


def refused_url(error: ProducerPoolError, text: str) -> None:
    if is_secret(text):
        refused(error)


@target("URL of a producer", *URLS, tokens=URL_TOKENS)
def read_plan(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    for make in (ClientFactory.plan, ClientFactory.listener):
        try:
            make(_factory(), text)
        except ProducerPoolError as error:
            refused_url(error, text)


_made: list[ClientFactory] = []


def _factory() -> ClientFactory:
    if not _made:
        _made.append(ClientFactory())
    return _made[0]


@target(
    "environment",
    f"PRODUCER_ONE=tcp://user:{MARKER}@host:1\nPRODUCER_POOL_BUFFER=1MiB\nPRODUCER_PORT=tcp://192.0.2.7:5".encode(),
    b"PRODUCER_POOL_LISTEN=tcp://127.0.0.1:0\nPRODUCER_A_B=null:\nPRODUCER_POOL_ALLOW_PLUGINS=a b",
    tokens=(b"PRODUCER_", b"PRODUCER_POOL_", b"_FILE", b"\n", b"_SERVICE_HOST", b"_", *URL_TOKENS),
)
def read_variables(data: bytes) -> None:
    environ = {}
    text = data.decode(errors="surrogateescape").replace("\0", "")
    for line in text.split("\n"):
        name, _, value = line.partition("=")
        if not name.endswith("_FILE"):
            environ[name] = value
    try:
        layer = read_environment(environ)
    except ProducerPoolError as error:
        refused_url(error, text)
    else:
        if is_secret(text):
            hidden(repr(layer))


TOML: Final = (
    f'[pool]\nlisten = ["tcp://127.0.0.1:9100"]\nbuffer = "1MiB"\n[producers.a]\nurl = "tcp://u:{MARKER}@h:1"\n'
    '[plugins]\nallow = ["x"]\nuse = { tcp = "y" }\n'
).encode()


@target(
    "TOML",
    TOML,
    tokens=(
        b"[",
        b"]",
        b'"',
        b"\n",
        b"=",
        b"{",
        b"}",
        b"1",
        b"true",
        b"[producers.b]\n",
        b"1979-05-27",
        *URL_TOKENS,
    ),
)
def read_toml(data: bytes) -> None:
    path = _folder() / "pool.toml"
    path.write_bytes(data)
    try:
        read_file(path)
    except ProducerPoolError as error:
        refused_url(error, data.decode(errors="replace"))


_folders: list[tempfile.TemporaryDirectory[str]] = []


def _folder() -> Path:
    if not _folders:
        _folders.append(tempfile.TemporaryDirectory(prefix="fuzzing"))
    return Path(_folders[0].name)


# -- where inputs come from --------------------------------------------------------------------------------


def mutations(target: Target, random: Random) -> Iterator[bytes]:
    """Yield what comes of the corpus when it is cut, joined, flipped and filled with tokens; without end."""
    while True:
        data = bytearray(random.choice(target.corpus))
        for _ in range(random.choice((1, 1, 2, 3, 8))):
            at = random.randint(0, len(data))
            match random.randrange(7):
                case 0 if data:
                    data[min(at, len(data) - 1)] ^= 1 << random.randrange(8)
                case 1:
                    data[at:at] = random.choice(target.tokens or (b"",))
                case 2:
                    del data[at : at + random.choice((1, 2, 5, 50))]
                case 3:
                    data[at:at] = random.randbytes(random.choice((1, 1, 4, 40)))
                case 4:
                    data += random.choice(target.corpus)[at:]
                case 5:
                    data[at : at + 1] = random.choice(target.tokens or (b"",))
                case _:
                    piece = bytes(data[at : at + random.choice((1, 3, 20))])
                    data[at:at] = piece * random.choice((1, 2, 30))
        yield bytes(data)


def _main(name: str, options: list[str]) -> None:
    atheris = import_module("atheris")
    for data in TARGETS[name].corpus:
        TARGETS[name].read(data)
    atheris.instrument_all()
    atheris.Setup([name, *options], TARGETS[name].read)
    atheris.Fuzz()


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2:])
