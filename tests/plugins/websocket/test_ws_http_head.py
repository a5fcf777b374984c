"""What may stand in the headers of a handshake."""

from __future__ import annotations

import logging

import pytest

from producer_pool.model.errors import InvalidOption
from producer_pool_websocket.http_head import QUIET, check_words


@pytest.mark.parametrize("name", ["chat", "v1.mqtt", "a-b_c", "soap"])
def test_names_of_subprotocols(name: str) -> None:
    """They are tokens of HTTP."""
    check_words([name], where="ws")


@pytest.mark.parametrize("name", ["", "a b", "a,b", "a\r\nX: y", "grün", "a/b"])
def test_names_that_are_none(name: str) -> None:
    """The error names the option, and quotes what stands there."""
    with pytest.raises(InvalidOption, match=r"^ws: subprotocol: ") as caught:
        check_words([name], where="ws")

    assert str(caught.value).isprintable()


@pytest.mark.parametrize("origin", ["https://page.example", "http://[::1]:8000", "null", "*", ""])
def test_origins(origin: str) -> None:
    """As a browser writes them, or all of them."""
    check_words((), origin, where="ws")


@pytest.mark.parametrize("origin", ["a b", "a\r\nX: y", "https://grün.example"])
def test_origins_that_are_none(origin: str) -> None:
    """The error says how one is written."""
    with pytest.raises(InvalidOption, match=r"write it as https://page\.example"):
        check_words((), origin, where="ws")


def test_library_logs_nothing() -> None:
    """Not even to whoever turns everything on: its lines hold headers."""
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        assert not QUIET.isEnabledFor(logging.CRITICAL)
        assert logging.getLogger("websockets") is not QUIET
    finally:
        logging.getLogger().setLevel(logging.WARNING)
