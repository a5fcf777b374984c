"""What the URL of a websocket consumer may say, and what becomes of it in the request."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from producer_pool.model.errors import ConnectError, InvalidOption
from support.ends import make_client
from support.streams import Consumer
from support.webs import read_head


async def test_what_the_url_asks_for(tmp_path: Path) -> None:
    """Path, query, user, origin, subprotocol and headers are sent."""
    (tmp_path / "headers").write_text("X-Room: 5\n")
    with Consumer() as consumer:
        client = make_client(
            f"ws://user:p%40ss@127.0.0.1:{consumer.port}/a%20b?query=x%3D1&origin=https://page.example"
            f"&subprotocol=chat&headers-file={tmp_path / 'headers'}"
        )
        connecting = asyncio.ensure_future(client.connect())
        peer = await consumer.accept()
        lines = (await read_head(peer)).split("\r\n")
        peer.close()
        with pytest.raises(ConnectError):
            await connecting

    assert lines[0] == "GET /a%20b?x=1 HTTP/1.1"
    assert {
        "Authorization: Basic dXNlcjpwQHNz",
        "Origin: https://page.example",
        "Sec-WebSocket-Protocol: chat",
        "X-Room: 5",
    } <= set(lines)


def test_two_proofs_of_who_we_are(tmp_path: Path) -> None:
    """There is one Authorization header, and so one of them."""
    (tmp_path / "token").write_text("abc")
    (tmp_path / "headers").write_text("authorization: x")
    for url in (
        f"ws://user:secret@here:1?token-file={tmp_path / 'token'}",
        f"ws://user:secret@here:1?headers-file={tmp_path / 'headers'}",
        f"ws://here:1?token-file={tmp_path / 'token'}&headers-file={tmp_path / 'headers'}",
    ):
        with pytest.raises(InvalidOption, match="say once who we are") as caught:
            make_client(url)

        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "query,wrong",
    [
        ("ping-timeout=0", "ping-timeout must be above 0 seconds"),
        ("max-message=0", "max-message must be at least 1 byte"),
        ("origin=gr%C3%BCn", "origin"),
        ("origin=a%0D%0AX:b", "origin"),
        ("subprotocol=a b", "subprotocol"),
        ("subprotocol=a%0Ab", "subprotocol"),
        ("query=a%0Ab", "query"),
        ("query=a%20b", "query"),
        ("query=a%23b", "query"),
    ],
)
def test_options_that_make_no_sense(query: str, wrong: str) -> None:
    """Each is an error that names it; nothing gets into a header that would be two."""
    with pytest.raises(InvalidOption, match=wrong):
        make_client(f"ws://here:1?{query.replace(' ', '%20')}")
