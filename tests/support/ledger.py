"""What was sent, and what a consumer's own record says of it: numbered, checksummed messages."""
# Rule: nothing here knows the product. It judges by bytes alone.

import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from threading import Lock
from typing import Final

__all__ = ["Ledger", "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """What is wrong with one consumer's record; nothing, if all of it is empty."""

    lost: tuple[bytes, ...] = ()
    """Sent, and not there."""
    doubled: tuple[bytes, ...] = ()
    """There more than once."""
    disordered: tuple[bytes, ...] = ()
    """First seen after a later one of the same sender."""
    corrupt: tuple[bytes, ...] = ()
    """Not as any sender wrote it."""
    foreign: tuple[bytes, ...] = ()
    """Written by a sender, but not meant for this consumer, or not by a sender of this ledger."""

    @property
    def exact(self) -> bool:
        """Whether everything is there once, whole and in order."""
        return not any(getattr(self, field.name) for field in fields(self))

    @property
    def complete(self) -> bool:
        """Whether everything is there, whole and in order, and only some of it more than once."""
        return not (self.lost or self.disordered or self.corrupt or self.foreign)

    def __repr__(self) -> str:
        parts = []
        for field in fields(self):
            found = getattr(self, field.name)
            if found:
                shown = ", ".join(str(message[:40]) for message in found[:3])
                parts.append(f"{len(found)} {field.name}: {shown}{', ...' if len(found) > 3 else ''}")
        return f"<Verdict {'; '.join(parts) or 'exact'}>"


class Ledger:
    """
    The senders' side: writes messages that prove themselves, and remembers all of them.

    A message is ``sender/number/filling/checksum``. One sender is one source: its messages keep their
    order. Several threads may write, each as a sender of its own.
    """

    def __init__(self) -> None:
        self._sent: dict[str, list[bytes]] = {}
        self._lock: Final = Lock()

    def write(self, sender: str = "main", *, size: int = 0, filling: bytes = b"") -> bytes:
        """Return the next message of *sender*, with *filling*, and filled up to *size* bytes."""
        with self._lock:
            sent = self._sent.setdefault(sender, [])
        head = b"%b/%08d/" % (sender.encode(), len(sent))
        filling += b"x" * (size - len(head) - len(filling) - 9)
        message = b"%b%b/%08x" % (head, filling, zlib.crc32(head + filling))
        sent.append(message)
        return message

    def write_many(self, count: int, sender: str = "main", *, size: int = 0) -> list[bytes]:
        """Return the next *count* messages of *sender*."""
        return [self.write(sender, size=size) for _ in range(count)]

    @property
    def sent(self) -> list[bytes]:
        """All messages, those of one sender in their order."""
        return [message for sent in self._sent.values() for message in sent]

    def judge(self, record: Iterable[bytes], expected: Iterable[bytes] | None = None) -> Verdict:
        """Compare a consumer's *record* with what is *expected* of it: by default, all that was sent."""
        wanted = dict.fromkeys(self.sent if expected is None else expected)
        counts = Counter(record)
        disordered, corrupt, foreign = [], [], []
        latest: dict[bytes, int] = {}
        for message in counts:  # In the order of their first appearance.
            origin = _origin(message)
            if origin is None:
                corrupt.append(message)
                continue
            if message not in wanted:
                foreign.append(message)
            sender, number = origin
            if number < latest.get(sender, -1):
                disordered.append(message)
            latest[sender] = max(number, latest.get(sender, -1))
        return Verdict(
            lost=tuple(message for message in wanted if message not in counts),
            doubled=tuple(message for message, count in counts.items() if count > 1),
            disordered=tuple(disordered),
            corrupt=tuple(corrupt),
            foreign=tuple(foreign),
        )


def _origin(message: bytes) -> tuple[bytes, int] | None:
    """Return sender and number of a message, or None if its checksum is wrong."""
    body, _, checksum = message.rpartition(b"/")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    sender, number, _ = body.split(b"/", 2)
    return sender, int(number)
