"""Why a websocket ends: close codes, and what their frames hold. RFC 6455, 7.4, and IANA's registry."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from producer_pool_websocket.frames import CLOSE, control_frame

__all__ = [
    "GOING_AWAY",
    "INVALID_TEXT",
    "NORMAL",
    "NO_CODE",
    "POLICY",
    "PROTOCOL_ERROR",
    "TOO_BIG",
    "Close",
    "close_frame",
    "read_close",
]

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
NO_CODE: Final = 1005
"""Stands for a close frame without a code, and in none."""
INVALID_TEXT: Final = 1007
POLICY: Final = 1008
TOO_BIG: Final = 1009

_MEANINGS: Final = {
    1000: "it is done",
    1001: "it is going away",
    1002: "protocol error",
    1003: "it does not take messages of this kind; see frames=",
    1005: "without a reason",
    1007: "not UTF-8, and frames=text promises it",
    1008: "it refuses us by a rule of its own",
    1009: "a message is longer than it takes; max-message= rejects such messages here",
    1010: "it wants an extension",
    1011: "an error on its side",
    1012: "it restarts",
    1013: "it has too much to do",
    1014: "a gateway has no answer from whom it stands for",
}
_MOST: Final = 123
"""Bytes of a reason: a control frame holds 125, two of them the code."""


class Close(NamedTuple):
    """What a close frame says."""

    code: int
    reason: str

    def __str__(self) -> str:
        # The reason is the other side's text: quoted, so that it can end no line of a log.
        said = f": {self.reason!a}" if self.reason else ""
        meaning = _MEANINGS.get(self.code)
        return f"{self.code}{f' ({meaning})' if meaning else ''}{said}"


def close_frame(code: int, reason: str = "", *, masked: bool) -> bytes:
    """Return the frame that ends a connection. A reason that is too long is cut."""
    if code == NO_CODE:
        return control_frame(CLOSE, b"", masked=masked)
    text = reason.encode()[:_MOST].decode(errors="ignore").encode()
    return control_frame(CLOSE, struct.pack("!H", code) + text, masked=masked)


def read_close(payload: bytes) -> Close | None:
    """
    Return what the payload of a close frame says; None: it breaks the rules.

    Raises:
        UnicodeDecodeError: its reason is not UTF-8.
    """
    if not payload:
        return Close(NO_CODE, "")
    if len(payload) < 2:
        return None
    (code,) = struct.unpack_from("!H", payload)
    reason = payload[2:].decode()
    if (code in _MEANINGS and code != NO_CODE) or 3000 <= code < 5000:
        return Close(code, reason)
    return None
