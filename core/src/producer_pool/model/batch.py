"""Messages that arrived together: immutable, shared by all producers, encoded once for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import ge
from typing import Final

from producer_pool.model.framing import Framing
from producer_pool.model.policies import BATCH_OVERHEAD, MESSAGE_OVERHEAD

__all__ = ["Batch", "payload"]

_ONE: Final = (str, bytes, bytearray, memoryview)


class Batch:
    """
    Some messages, in the form in which they came, and in at most one other.

    Make one with ``Batch.of(messages)`` or ``Batch.from_wire(wire, framing)``. When the framing that
    comes in is the framing that goes out, the bytes are passed on as they are.
    """

    __slots__ = (
        "_longest",
        "_messages",
        "_other",
        "_pieces",
        "_runs",
        "_wire",
        "cost",
        "count",
        "framing",
        "kept",
        "nbytes",
        "origin",
        "received",
    )

    _longest: int | None
    _messages: list[bytes] | None
    """The messages one by one: their only form, or made from _wire for whoever asks next."""
    _wire: bytes
    """All messages in `framing`, if there is one."""
    _other: tuple[Framing, bytes, tuple[int, ...]] | None
    """The messages in one framing more, and which of them it cannot carry."""
    _pieces: tuple[Framing, int, tuple[Batch, ...]] | tuple[()] | None
    """The parts in which it last was asked for: in that framing, of so many bytes; (): none are kept."""
    _runs: tuple[tuple[int, int], Sequence[tuple[bytes, int, int]]] | None
    """Its runs, of so many messages and bytes at the most; none are kept where no pieces are."""

    framing: Framing | None
    """The framing that it is in; None: it has the messages one by one."""
    count: int
    """The messages in it: its len(), for who asks often."""
    nbytes: int
    """Bytes of the messages in the form in which they came; frames included, if they had some."""
    cost: int
    """Bytes that it counts for in every bound: more than `nbytes`, and never changing."""
    received: float
    """When it came, in seconds of the monotonic clock; 0.0 if nobody asked."""
    origin: str
    """Where it came from, such as ``tcp://127.0.0.1:50123``; empty if the program itself made it."""
    kept: tuple[int, ...] | None
    """For each message its index in the batch that was submitted; None: nothing was left out."""

    @classmethod
    def of(cls, messages: Iterable[bytes | str], *, received: float = 0.0, origin: str = "") -> Batch:
        """Make a batch of *messages*. Text is encoded as UTF-8."""
        if isinstance(messages, _ONE):
            raise TypeError("several messages make a batch; for a single one write Batch.of([message])")
        held = [m if type(m) is bytes else payload(m) for m in messages]
        return cls.owning(held, received=received, origin=origin)

    @classmethod
    def owning(cls, messages: list[bytes], *, received: float = 0.0, origin: str = "") -> Batch:
        """Make a batch of a list that the caller gives away. It is neither copied nor looked at."""
        batch = cls.__new__(cls)
        batch._messages = held = messages
        batch.count = len(held)
        batch.framing = None
        batch._wire = b""
        batch._other = batch._pieces = batch._runs = None
        batch._longest = None
        batch.nbytes = size = sum(map(len, held))
        batch.cost = size + BATCH_OVERHEAD
        if len(held) > 1:
            batch.cost += MESSAGE_OVERHEAD * (len(held) - 1)
        batch.received = received
        batch.origin = origin
        batch.kept = None
        return batch

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
        batch = cls.__new__(cls)
        batch._messages = None
        batch.count = framing.count(wire) if count is None else count
        batch.framing = framing
        batch._wire = wire
        batch._other = batch._pieces = batch._runs = None
        batch._longest = None
        batch.nbytes = size = len(wire)
        batch.cost = size + BATCH_OVERHEAD
        batch.received = received
        batch.origin = origin
        batch.kept = None
        return batch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.messages)

    def __repr__(self) -> str:
        return f"<Batch of {len(self)} messages, {self.nbytes} bytes>"

    @property
    def messages(self) -> Sequence[bytes]:
        """The messages, made when first asked for, and kept for whoever asks next."""
        if self._messages is None:
            assert self.framing is not None
            self._messages = self.framing.split(self._wire)
        return self._messages

    @property
    def form(self) -> tuple[Framing, bytes] | list[bytes]:
        """
        The form that it has itself: a framing with all messages in it, or the messages one by one.

        Neither is ever changed, so another thread may read it. It is made of nothing: no copy.
        """
        return self._messages or [] if self.framing is None else (self.framing, self._wire)

    def compact(self) -> None:
        """
        Let go of `messages` if they can be made again, and of its pieces and runs: none are kept from now on.

        Small messages, one by one, take many times the room that `cost` counts, and the others as much again.
        So this is called for a batch that may have to wait, once those are through who want it now.
        """
        self._pieces = ()
        self._runs = None
        if self.framing is not None:
            self._messages = None

    @property
    def longest(self) -> int:
        """Bytes of the longest message, or 0; asked by many, found once."""
        if self._longest is None:
            self._longest = max(map(len, self.messages), default=0)
        return self._longest

    def wire(self, framing: Framing, start: int = 0) -> bytes:
        """
        Return the messages from number *start* on as they go out in *framing*.

        Misfits must have been left out before: see misfits() and select().
        """
        wire = self._wire if framing is self.framing else self._encoded(framing)[1]
        return wire[framing.offset(wire, start) :] if start else wire

    def pieces(self, framing: Framing, size: int) -> Iterable[Batch]:
        """
        Return it in parts, as they go out in *framing*, of at most *size* bytes or of one message each.

        Asked by many, made once; after compact(), each is made when it is its turn. As for wire(), misfits
        must have been left out before.
        """
        pieces = self._pieces
        if pieces and pieces[0] is framing and pieces[1] == size:
            return pieces[2]
        made = (
            Batch.from_wire(wire, framing, count) for wire, count in framing.cut(self.wire(framing), size)
        )
        if pieces == ():
            return made
        self._pieces = pieces = (framing, size, tuple(made))
        return pieces[2]

    def runs(self, most: int, size: int) -> Iterable[tuple[bytes, int, int]]:
        """
        Return runs of messages that are equally long: joined, with their length and their number.

        Each has at most *most* messages, and *size* bytes, or is one message. Asked by many, made once, as
        pieces() are.
        """
        runs = self._runs
        if runs is not None and runs[0] == (most, size):
            return runs[1]
        made = _runs(self.messages, most, size)
        if self._pieces == ():
            return made
        self._runs = runs = ((most, size), tuple(made))
        return runs[1]

    def misfits(self, framing: Framing) -> tuple[int, ...]:
        """Return the indexes of messages that *framing* cannot carry unchanged; asked by many, found once."""
        return () if framing is self.framing else self._encoded(framing)[2]

    def _encoded(self, framing: Framing) -> tuple[Framing, bytes, tuple[int, ...]]:
        """Return the messages in a framing that is not their own, and which of them it cannot carry."""
        other = self._other
        if other is None or other[0] is not framing:
            messages = self.messages
            wire = framing.encode(messages)
            other = (framing, wire, framing.misfits(messages, wire))
            if self.framing is None and not other[2]:
                # From now on this is its own form; there is room for another, and compact() works.
                self.framing, self._wire = framing, wire
            else:
                self._other = other
        return other

    def select(self, indexes: Iterable[int]) -> Batch:
        """
        Return a batch of only these of its messages, which remembers which they were.

        Raises:
            ValueError: *indexes* do not rise, or there are no such messages.
        """
        chosen = tuple(indexes)
        if chosen and (chosen[0] < 0 or chosen[-1] >= len(self) or any(map(ge, chosen, chosen[1:]))):
            raise ValueError(f"select() takes rising indexes of its {len(self)} messages, each of them once")
        if len(chosen) == len(self):
            return self
        messages = self.messages
        batch = self._like([messages[index] for index in chosen])
        batch.kept = chosen if self.kept is None else tuple([self.kept[index] for index in chosen])
        return batch

    def _like(self, messages: list[bytes]) -> Batch:
        """Return a batch of *messages*, which its own framing can carry, in the form that it has itself."""
        framing = self.framing
        if framing is None:
            return Batch.of(messages, received=self.received, origin=self.origin)
        wire = framing.encode(messages)
        return Batch.from_wire(wire, framing, len(messages), received=self.received, origin=self.origin)

    def replace(self, messages: Iterable[bytes | str]) -> Batch:
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


def _runs(messages: Iterable[bytes], most: int, size: int) -> Iterator[tuple[bytes, int, int]]:
    for length, equal in groupby(messages, len):
        run = list(equal)
        count = max(1, min(most, size // max(1, length)))
        for start in range(0, len(run), count):
            part = run[start : start + count]
            yield b"".join(part), length, len(part)


def payload(message: bytes | str) -> bytes:
    """Return *message* as bytes: text as UTF-8. TypeError says what a message may be."""
    if isinstance(message, str):
        return message.encode()
    if isinstance(message, _ONE):
        return bytes(message)
    raise TypeError(f"a message is bytes or str, not {type(message).__name__}")
