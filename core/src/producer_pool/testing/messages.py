"""Messages of a trial: numbered ones to send, and in what those that arrived differ from them."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Final

__all__ = ["difference", "numbered", "shown"]

_NOISE: Final = 1 << 20
"""Bytes of filler that there are."""
_APART: Final = 648_059
"""Bytes of it from the beginning of one message to that of the next: never near one of the last hundreds."""


def numbered(count: int, *, size: int = 64, start: int = 0) -> list[bytes]:
    """
    Return *count* different messages of *size* bytes, at least 18: number, checksum, and filler.

    They are one line of ASCII each, and hardly shorter when they are compressed, alone or together: what
    arrives only in part was on its way as a whole.
    """
    filler = _filler()
    if size > _NOISE:
        filler *= size // _NOISE + 1
    messages = []
    for number in range(start, start + count):
        begin = number * _APART % _NOISE
        body = (b"%08d " % number + filler[begin : begin + size])[: max(size - 9, 9)]
        messages.append(b"%b %08x" % (body, zlib.crc32(body)))
    return messages


@cache
def _filler() -> bytes:
    """Return the filler twice, so that a message can begin anywhere in it."""
    letters = bytes(range(48, 58)) + bytes(range(65, 91)) + bytes(range(97, 123)) + b" -"
    return Random(1).randbytes(_NOISE).translate(letters * 4) * 2


def difference(sent: Sequence[bytes], received: Sequence[bytes], *, ordered: bool = True) -> str:
    """Say in what *received* differs from *sent*: altered, doubled, missing, in another order; or nothing."""
    known = set(sent)
    strangers = [index for index, message in enumerate(received) if message not in known]
    if strangers:
        first = strangers[0]
        place = f" in the place of {shown(sent[first])}" if ordered and first < len(sent) else ""
        others = f", and {len(strangers) - 1} others like it" if len(strangers) > 1 else ""
        return f"{shown(received[first])} arrived{place}, and nobody sent it{others}"
    balance = Counter(received)
    balance.subtract(Counter(sent))
    doubled = [message for message, surplus in balance.items() if surplus > 0]
    if doubled:
        return f"{len(doubled)} of {len(sent)} messages arrived more than once, such as {shown(doubled[0])}"
    missing = [message for message, surplus in balance.items() if surplus < 0]
    if missing:
        return f"{len(missing)} of {len(sent)} messages did not arrive, such as {shown(min(missing))}"
    if ordered and list(received) != list(sent):
        pairs = zip(sent, received, strict=True)
        first = next(index for index, (one, other) in enumerate(pairs) if one != other)
        return f"another order: {shown(received[first])} arrived before {shown(sent[first])}"
    return ""


def shown(message: bytes) -> str:
    """Return *message* as a verdict shows it: in full if it is short."""
    return repr(message) if len(message) <= 60 else f"{message[:40]!r}... ({len(message)} bytes)"
