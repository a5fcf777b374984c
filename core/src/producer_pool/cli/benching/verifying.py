"""What one consumer got: each message held against what it has to be, and how long it was under way."""
# Rule: nothing here reads a clock. A message costs nothing of its own, as long as all is well.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from producer_pool.cli.benching.board import Board
from producer_pool.cli.benching.book import Book, Ring
from producer_pool.cli.benching.histogram import Histogram
from producer_pool.model.batch import Batch
from producer_pool.model.framing import Framing

__all__ = ["Faults", "Ledger"]


@dataclass
class Faults:
    """What went wrong, in messages."""

    lost: int = 0
    doubled: int = 0
    late: int = 0
    """Arrived after one that was sent later."""
    damaged: int = 0
    """Are not, byte by byte, what anybody sent."""

    def add(self, other: Faults) -> None:
        """Count those of *other*, too."""
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)


@dataclass
class _Stream:
    """What came of one producer."""

    next: int = 0
    """The number that should come next, from 0 on."""
    holes: set[int] = field(default_factory=set)
    """Numbers before it that did not come."""


class Ledger:
    """
    Enters what one consumer receives, and reads off what went wrong.

    Chunks are compared with what the producers sent, as a whole. Only where they differ, message by message.
    """

    def __init__(self, book: Book, board: Board, consumer: int) -> None:
        self._book = book
        self._board = board
        self._consumer = consumer
        self._rings: dict[Framing | None, list[Ring]] = {}
        self.begin(1)

    def begin(self, unit: int) -> None:
        """Forget all; from now on, the producers write *unit* messages at once, and count from 0 on."""
        self._unit = unit
        self._streams = [_Stream() for _ in range(self._book.shape.producers)]
        self._faults = Faults()
        self.latencies = Histogram()
        self.received = 0
        """Messages, of whatever kind."""
        self.last = 0
        """When the last ones came, in nanoseconds."""
        for reached in self._board.reached:
            reached[self._consumer] = 0

    def enter(self, batch: Batch, now: int) -> None:
        """Take what came at *now*, in nanoseconds."""
        form = batch.form
        if isinstance(form, list):
            framing, wire = None, b"".join(form)
            whole = {len(message) for message in form} == {self._book.shape.size}
            at = self.match(framing, wire, now) if whole else 0
        else:
            framing, wire = form
            at = self.match(framing, wire, now)
        if at < len(wire):
            right = at // self._rings[framing][0].frame if at else 0
            self._judge_each(batch.messages[right:], now)
        elif not wire:
            self._judge_each(batch.messages, now)

    def match(self, framing: Framing | None, wire: bytes | memoryview, now: int) -> int:
        """
        Take what came at *now* in this framing, as far as it is what should come; return how many bytes are.

        Where it is less than there are, the rest has to be entered.
        """
        self.last = now
        rings = self._rings.get(framing) or self._make_rings(framing)
        one = len(rings) == 1
        ring = rings[0]
        frame = ring.frame
        at, end = 0, len(wire)
        while at < end:
            producer = 0 if one else self._producer(wire, at + ring.head)
            if producer < 0:
                break
            ring, stream = rings[producer], self._streams[producer]
            count = _equal(wire, at, ring, stream.next % self._book.round * frame, self._unit)
            if not count:
                break
            self._arrive(producer, stream, count, now)
            at += count * frame
        return at

    def frame(self, framing: Framing) -> int:
        """Return how many bytes each message has in this framing, with what marks it off."""
        return self._make_rings(framing)[0].frame

    def _make_rings(self, framing: Framing | None) -> list[Ring]:
        producers = range(self._book.shape.producers)
        self._rings[framing] = rings = [self._book.ring(producer, framing) for producer in producers]
        return rings

    def _producer(self, wire: bytes | memoryview, start: int) -> int:
        """Return whose message begins there; -1: nobody's."""
        book = self._book
        digits = bytes(wire[start : start + book.width])
        producer = int(digits) // book.round if digits.isdigit() else -1
        return producer if producer < book.shape.producers else -1

    def _arrive(self, producer: int, stream: _Stream, count: int, now: int) -> None:
        """Note that the next *count* messages of a producer are here."""
        number, until = stream.next, stream.next + count
        stream.next = until
        self.received += count
        due, unit, slots = self._board.due[producer], self._unit, self._board.slots
        add = self.latencies.add
        while number < until:
            write = number // unit
            upto = min(until, (write + 1) * unit)
            add(max(now - due[write % slots], 0), upto - number)
            number = upto
        self._board.reached[producer][self._consumer] = until

    def _judge_each(self, messages: Sequence[bytes], now: int) -> None:
        """Look at messages one by one: something is wrong with one of them."""
        book = self._book
        for message in messages:
            known = book.numbered(message)
            if known is None:
                self.received += 1
                self._faults.damaged += 1
                continue
            producer, index = known
            stream = self._streams[producer]
            ahead = (index - stream.next) % book.round
            if ahead <= book.round // 2:
                number = stream.next + ahead
                stream.holes.update(range(stream.next, number))
                stream.next = number
                self._arrive(producer, stream, 1, now)
                continue
            self.received += 1
            number = stream.next + ahead - book.round
            if number in stream.holes:
                stream.holes.remove(number)
                self._faults.late += 1
            else:
                self._faults.doubled += 1

    def faults(self, sent: Sequence[int]) -> Faults:
        """Return what went wrong, if the producers have sent so many messages."""
        faults = Faults(**vars(self._faults))
        for stream, count in zip(self._streams, sent, strict=True):
            faults.lost += len(stream.holes) + max(count - stream.next, 0)
            # A whole round more than was sent looks like the next one.
            faults.doubled += max(stream.next - count, 0)
        return faults

    def as_json(self, sent: Sequence[int]) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "received": self.received,
            "last": self.last,
            "faults": vars(self.faults(sent)),
            "latencies": self.latencies.as_json(),
        }


def _equal(wire: bytes | memoryview, at: int, ring: Ring, offset: int, likely: int) -> int:
    """
    Return how many whole frames of *wire*, from *at* on, are those of *ring* from *offset* on.

    It is as many as there are, or as *likely*, in most cases, and those are found soonest.
    """
    frame = ring.frame
    most = min(len(wire) - at, len(ring.wire) - offset) // frame
    if at == 0 and most * frame == len(wire) and ring.wire.startswith(wire, offset):
        return most
    view = memoryview(wire)
    same = ring.wire.startswith

    def fits(count: int) -> bool:
        return same(view[at : at + count * frame], offset)

    if not most or fits(most):
        return most
    low, high = 0, most
    step = min(likely, most - 1)
    while step and low + step < high:
        if fits(low + step):
            low += step
            step *= 2
        else:
            high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low
