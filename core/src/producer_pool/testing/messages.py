"""Messages of a trial: numbered ones to send, and in what those that arrived differ from them."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence

__all__ = ["difference", "numbered", "shown"]


def numbered(count: int, *, size: int = 64, start: int = 0) -> list[bytes]:
    """Return *count* different messages of *size* bytes, at least 18: number, checksum, and filler."""
    messages = []
    for number in range(start, start + count):
        head = b"%08d " % number
        filler = (b"abcdefghijklmnopqrstuvwxyz0123456789 " * (size // 37 + 2))[number % 37 :]
        body = (head + filler)[: max(size - 9, 9)]
        messages.append(b"%b %08x" % (body, zlib.crc32(body)))
    return messages


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
