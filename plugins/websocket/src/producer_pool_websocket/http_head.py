"""What both sides of the opening handshake share: RFC 6455, section 4."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Final

from producer_pool.plugin import InvalidOption

__all__ = ["END", "MOST", "PATH_SAFE", "QUIET", "check_words"]

END: Final = b"\r\n\r\n"
"""Ends the head of an HTTP message."""
MOST: Final = 16 * 1024
"""Bytes of a head. Browsers send up to half of that when a page has many cookies."""
PATH_SAFE: Final = "%/:@!$&'()*+,;=~-._"
"""Besides letters and digits, what stands for itself in a path: RFC 3986, 3.3."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, section 5.6.2."""
_ORIGIN: Final = re.compile(r"[!-~]*")

QUIET: Final = logging.Logger("websockets", logging.CRITICAL + 1)  # noqa: LOG001 - nobody shall find it
"""For the library, whose own loggers would write each header, and so each token, when they are on DEBUG."""


def check_words(subprotocols: Iterable[str], *origins: str, where: str) -> None:
    """
    Check that these can stand in headers.

    Raises:
        InvalidOption: one cannot.
    """
    for name in subprotocols:
        if not _TOKEN.fullmatch(name):
            raise InvalidOption(f"{where}: subprotocol: {name!a} is no name of one (RFC 6455, 4.1)")
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise InvalidOption(f"{where}: origin: {origin!a} is none; write it as https://page.example")
