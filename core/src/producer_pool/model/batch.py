"""Messages that arrived together: immutable, shared by all producers, encoded once for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from producer_pool.model.framing import Framing
from producer_pool.model.policies import BATCH_OVERHEAD

__all__ = ["Batch"]


class Batch:
    """
    Some messages, in the form in which they came, and in at most one other.

    Make one with ``Batch.of(messages)`` or ``Batch.from_wire(wire, framing)``. When the framing that
    comes in is the framing that goes out, the bytes are passed on as they are.
    """

    __slots__ = (
        "_count",
        "_framing",
        "_messages",
        "_misfits",
        "_other",
        "_wire",
        "kept",
        "nbytes",
        "origin",
        "received",
    )

    _count: int | None
    _messages: Sequence[bytes] | None
    _framing: Framing | None
    _wire: bytes
    _other: tuple[Framing, bytes] | None
    _misfits: tuple[Framing, tuple[int, ...]] | None

    nbytes: int
    """Bytes of the messages in the form in which they came; frames included, if they had some."""
    received: float
    """When it came, in seconds of the monotonic clock; 0.0 if nobody asked."""
    origin: str
    """Where it came from, such as ``tcp://127.0.0.1:50123``; empty if the program itself made it."""
    kept: tuple[int, ...] | None
    """For each message its index in the batch that was submitted; None: nothing was left out."""

    @classmethod
    def of(cls, messages: Iterable[bytes | str], *, received: float = 0.0, origin: str = "") -> Batch:
        """Make a batch of *messages*. Text is encoded as UTF-8."""
        batch = cls()
        batch._messages = [m if type(m) is bytes else _payload(m) for m in messages]
        batch._count = len(batch._messages)
        batch._framing = None
        batch._wire = b""
        batch.nbytes = sum(map(len, batch._messages))
        return batch._finish(received, origin)

    @classmethod
    def from_wire(
        cls,
        wire: bytes,
        framing: Framing,
        count: int | None = None,
        *,
        received: float = 0.0,
        origin: str = "",
    ) -> Batch:
        """Make a batch of *wire*, whole frames of *framing*; *count* saves counting them again."""
        batch = cls()
        batch._messages = None
        batch._count = count
        batch._framing = framing
        batch._wire = wire
        batch.nbytes = len(wire)
        return batch._finish(received, origin)

    def _finish(self, received: float, origin: str) -> Batch:
        self._other = None
        self._misfits = None
        self.received = received
        self.origin = origin
        self.kept = None
        return self

    def __len__(self) -> int:
        if self._count is None:
            assert self._framing is not None
            self._count = self._framing.count(self._wire)
        return self._count

    def __repr__(self) -> str:
        return f"<Batch of {len(self)} messages, {self.nbytes} bytes>"

    @property
    def cost(self) -> int:
        """Bytes that it counts for in every bound."""
        return self.nbytes + BATCH_OVERHEAD

    @property
    def messages(self) -> Sequence[bytes]:
        """The messages, made when first asked for, and kept for whoever asks next."""
        if self._messages is None:
            assert self._framing is not None
            self._messages = self._framing.split(self._wire)
        return self._messages

    def wire(self, framing: Framing, start: int = 0) -> bytes:
        """
        Return the messages from number *start* on as they go out in *framing*.

        Misfits must have been left out before: see misfits() and select().
        """
        wire = self._form(framing)
        return wire[framing.offset(wire, start) :] if start else wire

    def _form(self, framing: Framing) -> bytes:
        if framing is self._framing:
            return self._wire
        if self._other is None or self._other[0] is not framing:
            self._other = (framing, framing.encode(self.messages))
        return self._other[1]

    def misfits(self, framing: Framing) -> tuple[int, ...]:
        """Return the indexes of messages that *framing* cannot carry unchanged; asked by many, found once."""
        if framing is self._framing:
            return ()
        if self._misfits is None or self._misfits[0] is not framing:
            self._misfits = (framing, framing.misfits(self.messages, self._form(framing)))
        return self._misfits[1]

    def select(self, indexes: Sequence[int]) -> Batch:
        """Return a batch of only these of its messages, which remembers which they were."""
        messages = self.messages
        batch = Batch.of([messages[i] for i in indexes], received=self.received, origin=self.origin)
        batch.kept = tuple(indexes) if self.kept is None else tuple(self.kept[i] for i in indexes)
        return batch

    def replace(self, messages: Sequence[bytes | str]) -> Batch:
        """
        Return a batch with as many other messages in the place of its own.

        Raises:
            ValueError: the number differs, so that nobody could say what became of which message.
        """
        batch = Batch.of(messages, received=self.received, origin=self.origin)
        if len(batch) != len(self):
            raise ValueError(
                f"{len(self)} messages cannot be replaced by {len(batch)}; leave some out with select()"
            )
        batch.kept = self.kept
        return batch


def _payload(message: bytes | str) -> bytes:
    """Return *message* as bytes; TypeError says what a message may be."""
    if isinstance(message, str):
        return message.encode()
    if isinstance(message, bytes | bytearray | memoryview):
        return bytes(message)
    raise TypeError(f"a message is bytes or str, not {type(message).__name__}")
