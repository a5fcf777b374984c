"""What a client asks for, and what it makes of answers."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConnectError, InvalidEndpoint
from producer_pool_websocket.answering import House
from producer_pool_websocket.asking import Asking, Wish, raw_path, wish_of
from producer_pool_websocket.options import ClientOptions, ServerOptions

SECRET = "a-secret-token"
OK = "HTTP/1.1 {}\r\nConnection: close\r\n\r\n"


def asking(wish: Wish | None = None) -> Asking:
    return Asking(wish or Wish("here", 8080, False, "/"), "ws://here:8080")


def answer(made: Asking, *, compresses: bool = False) -> bytes:
    """Return what our listener says to it."""
    return House("/", ServerOptions(), None, compresses).answer(made.request).data


def test_what_is_asked() -> None:
    """Path, host, origin, subprotocols and further headers are where others look for them."""
    wish = Wish(
        "here", 8080, False, "/a%20b?c=d", "https://page.example", ("chat", "mqtt"), True, [("X-Room", "5")]
    )
    lines = asking(wish).request.decode().split("\r\n")

    assert lines[0] == "GET /a%20b?c=d HTTP/1.1"
    assert {
        "Host: here:8080",
        "Origin: https://page.example",
        "Sec-WebSocket-Protocol: chat, mqtt",
        "X-Room: 5",
        "Sec-WebSocket-Version: 13",
    } <= set(lines)
    assert any(line.startswith("Sec-WebSocket-Extensions: permessage-deflate") for line in lines)


def test_nothing_that_was_not_asked_for() -> None:
    """Plain handshakes have no compression, no origin, no subprotocol."""
    text = asking().request.decode()

    assert all(word not in text for word in ("Extensions", "Origin", "Protocol:", "Authorization"))


@pytest.mark.parametrize(
    "host,port,secure,shown",
    [
        ("here", 80, False, "here"),
        ("here", 443, True, "here"),
        ("here", 443, False, "here:443"),
        ("::1", 8080, False, "[::1]:8080"),
    ],
)
def test_host(host: str, port: int, secure: bool, shown: str) -> None:
    """The port is left out where the scheme says it."""
    assert f"\r\nHost: {shown}\r\n" in asking(Wish(host, port, secure, "/")).request.decode()


@given(sizes=st.lists(st.integers(1, 60), max_size=10))
def test_answer_in_pieces(sizes: list[int]) -> None:
    """However it was cut, it is understood once it is whole, and what came after it is given back."""
    made = asking()
    data = answer(made)
    size = len(data)
    data += b"\x81\x00rest"
    rest = None
    position = 0
    for length in (*sizes, len(data)):
        if position >= size:
            break
        rest = made.feed(data[position : position + length])
        position += length
        assert (rest is not None) is (position >= size)

    assert rest == data[size:position]


@pytest.mark.parametrize(
    "status,hint",
    [
        ("200 OK", "does it speak websocket at this path"),
        ("401 Unauthorized", "token-file=, or user:password@"),
        ("403 Forbidden", "origin="),
        ("404 Not Found", "there is nothing at this path: /"),
        ("503 Service Unavailable", "is not ready"),
        ("418 I'm a Teapot", "418 I'm a Teapot: does it speak"),
        ("599 Whatever", "599: does it speak"),
    ],
)
def test_answers_that_say_no(status: str, hint: str) -> None:
    """The error has the status, and what to do about it."""
    with pytest.raises(ConnectError, match=f"^ws://here:8080: handshake: {status[:3]}") as caught:
        asking().feed(OK.format(status).encode())

    assert hint in str(caught.value)


def test_path_that_is_not_there() -> None:
    """The error has it, without the query: a token may be in there."""
    with pytest.raises(ConnectError, match=r"there is nothing at this path: /a%20b$"):
        asking(Wish("here", 8080, False, "/a%20b?token=hunter2")).feed(OK.format("404 Not Found").encode())


@pytest.mark.parametrize(
    "location,shown",
    [
        ("https://there.example/login?token=a-secret-token", ", to https://there.example,"),
        ("http://there.example:8080/", ", to http://there.example:8080,"),
        ("https://user:a-secret-token@there.example/", ", to https://there.example,"),
        ("/elsewhere", "elsewhere, and"),
        ("https://there.example:port/", "elsewhere, and"),
        ("https://th\x1bere/", "elsewhere, and"),
    ],
)
def test_redirects(location: str, shown: str) -> None:
    """They are not followed; the error says where they lead, without what may be secret there."""
    with pytest.raises(ConnectError, match="301 Moved Permanently: it leads elsewhere") as caught:
        asking().feed(f"HTTP/1.1 301 X\r\nLocation: {location}\r\n\r\n".encode())

    assert shown in str(caught.value)
    assert "redirects are not followed" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "data,why",
    [
        (b"", "closed the connection without an answer"),
        (b"220 mail.here ESMTP ready\r\n\r\n", "what it answers is not HTTP"),
        (b"\x00" * 20, "what it answers is not HTTP"),
        (b"HTTP/2 200\r\n\r\n", "what it answers is not HTTP"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "is not HTTP; is wss:// meant"),
        (b"hello", "is not HTTP; does it speak websocket"),
        (b"HTTP/1.1 101 X\r\n\r\n", "breaks the rules"),
        (b"HTTP/1.1 101 X\r\nnonsense\r\n\r\n", "breaks the rules"),
        (b"HTTP/1.1 101 X\r\nX: " + b"x" * 17_000, "more than 16384 bytes"),
    ],
)
def test_answers_that_are_none(data: bytes, why: str) -> None:
    """Each is an error after which nothing can have arrived."""
    with pytest.raises(ConnectError, match=why):
        asking().feed(data)


def test_end_inside_the_answer() -> None:
    """It is no answer."""
    made = asking()
    assert made.feed(b"HTTP/1.1 101 Sw") is None
    with pytest.raises(ConnectError, match="in the middle of its answer"):
        made.feed(b"")


def test_answer_to_somebody_else() -> None:
    """A key that was not ours proves nothing: a cache may have answered (RFC 6455, 1.3)."""
    with pytest.raises(ConnectError, match="breaks the rules"):
        asking().feed(answer(asking()))


def test_what_was_not_asked_for() -> None:
    """An extension or a subprotocol out of nothing is refused."""
    for line in (b"Sec-WebSocket-Extensions: permessage-deflate", b"Sec-WebSocket-Protocol: chat"):
        made = asking()
        with pytest.raises(ConnectError, match="agreed to something that was not asked for"):
            made.feed(answer(made).replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n"))


def test_subprotocol_that_is_not_spoken() -> None:
    """A consumer that does not say that it speaks ours would not understand us."""
    made = asking(Wish("here", 1, False, "/", None, ("chat", "mqtt")))
    with pytest.raises(ConnectError, match="it speaks none of these: chat, mqtt"):
        made.feed(answer(made))


@pytest.mark.parametrize("agreed", [True, False])
def test_compression(agreed: bool) -> None:
    """It is there only if the consumer agreed."""
    made = asking(Wish("here", 1, False, "/", compresses=True))
    made.feed(answer(made, compresses=agreed))

    assert (made.inflater is not None) is agreed


def test_secrets_are_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """Neither in errors, whatever the consumer repeats, nor by the library when everything is logged."""
    caplog.set_level(logging.DEBUG)
    wish = Wish("here", 1, False, "/?x=" + SECRET, headers=[("Authorization", f"Bearer {SECRET}")])
    for data in (
        f"HTTP/1.1 403 {SECRET}\r\n\r\n",
        f"{SECRET}\r\n\r\n",
        f"HTTP/1.1 101 X\r\nUpgrade: {SECRET}\r\nConnection: {SECRET}\r\n\r\n",
        f"HTTP/1.1 301 X\r\nLocation: ws://here/{SECRET}\r\n\r\n",
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        f"Sec-WebSocket-Accept: {SECRET}\r\n\r\n",
    ):
        made = asking(wish)
        assert SECRET in made.request.decode()
        with pytest.raises(ConnectError) as caught:
            made.feed(data.encode())

        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert SECRET not in caplog.text
    assert SECRET not in repr(wish)


@pytest.mark.parametrize(
    "url,host",
    [
        ("ws://[fe80::1%25eth0]:1", "fe80::1"),
        ("ws://b%C3%BCcher.example:1", "xn--bcher-kva.example"),
        ("ws://[::1]:1", "::1"),
    ],
)
def test_host_of_a_url(url: str, host: str) -> None:
    """It is asked for as a header can hold it."""
    assert wish_of(Endpoint.parse(url), ClientOptions(), where="ws").host == host


def test_host_that_is_no_name() -> None:
    """It is an error, and not one of a codec."""
    with pytest.raises(InvalidEndpoint, match="no name that can be looked up"):
        wish_of(Endpoint.parse(f"ws://{'%C3%BC' * 70}:1"), ClientOptions(), where="ws")


@pytest.mark.parametrize(
    "url,path",
    [
        ("ws://here:1", "/"),
        ("ws://here:1/", "/"),
        ("ws://here:1?frames=text", "/"),
        ("ws://here:1/a/b%20c?frames=text", "/a/b%20c"),
        ("ws://user:pw@here:1/a%2Fb", "/a%2Fb"),
        ("ws://here:1/grün", "/gr%C3%BCn"),
        ("ws://here:1//a", "//a"),
        ("ws://here:1/a;b=c,d:e", "/a;b=c,d:e"),
    ],
)
def test_path_of_a_url(url: str, path: str) -> None:
    """It is asked for as it was written, as far as HTTP can carry that."""
    assert raw_path(Endpoint.parse(url)) == path
