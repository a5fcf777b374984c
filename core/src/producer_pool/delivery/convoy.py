"""Producers that are at the same place: what comes is sent to all of them in one go, and kept once."""
# Rule: what is in flight here is in no outbox. Whoever looks at one, or gives it anything else, has its
# producer leave before: then all is as if each batch had come to it the long way.
# Rule: what a stream raises ends its own connection, and the others get theirs all the same.

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Final, ParamSpec

from producer_pool.contract.stream import INTERRUPTED, Stream
from producer_pool.delivery.containment import let_interrupts_pass
from producer_pool.delivery.link import Link
from producer_pool.delivery.page import Budget, Page
from producer_pool.model.batch import Batch
from producer_pool.model.framing import Framing
from producer_pool.model.outcomes import Outcome
from producer_pool.model.policies import BATCH_OVERHEAD

if TYPE_CHECKING:
    from producer_pool.delivery.producer import Producer

__all__ = ["Convoy", "Odd"]

P = ParamSpec("P")

LARGEST: Final = 1024 * 1024
"""
Bytes that a batch may cost, and that may be in flight together: of whom it is more, the consumer acknowledges
late, and it leaves.
"""
_SMALL: Final = 8 * 1024
"""Bytes that a message of every member may have. A larger batch is not for those whose limit is below it."""
_BUFFER: Final = 4 * LARGEST
"""Bytes of the smallest buffer of a member: all that is in flight has room there."""
_ASK: Final = 768 * 1024
"""Bytes in flight at which it is asked at once what was acknowledged: their memory is then used again."""
_LOOK: Final = 0.05
"""
Seconds between two looks at what was acknowledged. Nobody waits to know, and a short wait of the loop costs
the kernel more than a long one: it has to set a timer each time that something is waited for.
"""
_LOOK_OFTEN: Final = 0.004
"""The same if a member's connection, when it ends, takes along what was not asked for before."""
_LATE: Final = 0.2
"""Seconds after which a member leaves whose consumer has not acknowledged a batch."""
_TIME: Final = 1.0
"""Seconds of the shortest time limit of a member: it leaves long before that."""

_Flight = tuple[int, int, float, Batch]
"""
One batch that was sent to the members: bytes and messages sent up to its end, when it came, and itself.

Not a class with names: one is made for each batch, and that takes some times as long.
"""

_end_of: Final = itemgetter(0)


class _Member:
    """One producer, and how far its consumer is."""

    __slots__ = ("done", "joined", "link", "longest", "passed", "producer", "send", "stream")

    def __init__(self, producer: Producer, link: Link, stream: Stream) -> None:
        self.producer = producer
        self.link = link
        self.stream = stream
        self.send = stream.send
        self.longest = _longest(producer)
        self.done = 0
        """Flights from the front that are settled, or not for it."""
        self.joined = self.passed = (0, 0)
        """Of all that was sent: the bytes and messages before it joined, and up to where all is settled."""

    def has_ended(self) -> bool:
        """Whether nothing more should be sent on its connection."""
        try:
            return self.stream.has_ended()
        except BaseException as error:
            let_interrupts_pass(error)
            return True  # What is sent the long way finds out what that means.

    def tell(self, name: str, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Make one *call* to its stream. What that raises is the end of its connection."""
        try:
            call(*args, **kwargs)
        except BaseException as error:
            self.link.fault(name, error)


Odd = tuple[_Member, int | BaseException]
"""One who did not get all that was sent: how many bytes of it, or what was raised."""


class Convoy:
    """
    Sends batches of one framing to those producers that are through with all before, and keeps up with them.

    A member leaves, with what is in flight for it, as soon as there is anything unusual about it: its
    connection ends or takes no more, its consumer is late, it is given something else, or asked.
    """

    def __init__(
        self, framing: Framing, budget: Budget, offer: Callable[[Page, Batch, Sequence[str]], None]
    ) -> None:
        """Make one without members. *offer* takes a batch for those, by their ids, that are none."""
        self.framing = framing
        self._offer = offer
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        self._members: dict[Producer, _Member] = {}
        self._flights: list[_Flight] = []
        self._pages: dict[int, Page] = {}
        """Those of flights, by their ends, that outboxes hold, too."""
        self._end = self._messages = 0
        """All that were sent."""
        self._cost = 0
        """Bytes in flight, as outboxes count them."""
        self._delivered = (0, 0, 0.0)
        """Bytes and messages sent up to the end of the last message of express(), and when that was."""
        self._ended: Callable[[], bool] = bool
        self._every = _LOOK
        self._timer: asyncio.TimerHandle | None = None

    # -- sending -----------------------------------------------------------------------------------

    def take(self, batch: Batch, producers: Mapping[str, Producer]) -> bool:
        """
        Send *batch* to those of *producers* that are members, or can be now, and offer it to the others.

        False: there are no members, or no room for it, and nothing has happened to it.
        """
        wire = batch.wire(self.framing)
        size = len(wire)
        if not size:
            return True
        cost = batch.cost
        budget = self._budget
        if budget.used + cost > budget.limit:
            return False
        members = self._members
        others: Sequence[str] = ()
        if cost > _SMALL:
            if cost > LARGEST:
                return False
            self._part_with([one for one in members.values() if one.longest < cost])
        if self._cost + cost > LARGEST:
            self._make_room(cost)
        if len(members) < len(producers):
            there = producers.values()
            others = [one.id for one in there if one not in members and not self._join(one, cost)]
        if not members:
            return False
        try:
            ended = self._ended()
        except BaseException as error:
            let_interrupts_pass(error)
            ended = True
        if ended:
            others = [*others, *self._part_with([one for one in members.values() if one.has_ended()])]
        odd: list[Odd] = []
        end = self._end + size
        messages = self._messages + batch.count
        flight = (end, messages, self._loop.time(), batch)
        budget.used += cost
        try:
            self._send(wire, odd)
            if odd:  # They part as if it had not been: so it is not counted yet.
                self._part_with([member for member, _ in odd])
                others = [*others, *self.hand_on(odd, self._page(flight), batch, flight[2])]
            self._end = end
            self._messages = messages
            self._cost += cost
            self._flights.append(flight)
            if self._timer is None:
                self._timer = self._loop.call_later(self._every, self._look)
        except BaseException:
            if flight not in self._flights:
                self._release([flight])
            self.end_connections([*members.values(), *(member for member, _ in odd)])
            raise
        if others:
            self._offer(self._page(flight), batch, others)
        if self._cost >= _ASK:
            self.settle()
        return True

    def express(self, message: bytes, count: int) -> list[Odd] | None:
        """
        Send *message* to *count* members, for each of whom what is sent is delivered: nothing of it is kept.

        Returns those who did not get it whole, and who are none any more: see hand_on(). Nobody is told of
        the others before they part or settle() is called. None: there are not so many, or it is unusual, and
        nothing has happened.
        """
        members = self._members
        budget = self._budget
        cost = len(message) + BATCH_OVERHEAD
        if len(members) != count or budget.used + cost > budget.limit:
            return None
        if cost > _SMALL and (cost > LARGEST or any(one.longest < cost for one in members.values())):
            return None
        if self._flights:
            self.settle()
            if self._flights:
                return None
        try:
            wire = self.framing.frame(message)
            if not wire or self._ended():
                return None
        except BaseException as error:
            let_interrupts_pass(error)
            return None
        odd: list[Odd] = []
        try:
            self._send(wire, odd)
            if odd:  # As in take().
                self._part_with([member for member, _ in odd])
            self._end += len(wire)
            self._messages += 1
            self._delivered = self._end, self._messages, self._loop.time()
        except BaseException:
            self.end_connections([*members.values(), *(member for member, _ in odd)])
            raise
        return odd

    def _send(self, wire: bytes, odd: list[Odd]) -> None:
        """Send *wire* to all members, and put into *odd* those who did not get all of it."""
        size = len(wire)
        for member in self._members.values():
            try:
                sent = member.send(wire)
                if sent != size:
                    odd.append((member, sent))
            except BaseException as error:
                let_interrupts_pass(error)
                odd.append((member, error))

    def gather(self, producers: Mapping[str, Producer]) -> bool:
        """Take on all of *producers* who are no members yet, if each can be one; say whether all are."""
        new = [one for one in producers.values() if one not in self._members]
        if any(self._stream_of(one, _SMALL) is None for one in new):
            return False
        return all(self._join(one, _SMALL) for one in new)

    def _join(self, producer: Producer, cost: int) -> bool:
        """Take on a producer that is through with all before, and may get a batch of *cost* bytes."""
        stream, link = self._stream_of(producer, cost), producer.link
        if stream is None or not isinstance(link, Link):
            return False
        try:
            stream.watch(True)
        except BaseException as error:
            let_interrupts_pass(error)
            return False  # Such as one descriptor too many: it gets all in the usual way.
        self._ended = stream.ended
        if not stream.lasting:
            self._every = _LOOK_OFTEN
        link.leave = partial(self._part, producer)
        self._members[producer] = member = _Member(producer, link, stream)
        member.done = len(self._flights)
        member.joined = member.passed = self._end, self._messages
        return True

    def _stream_of(self, producer: Producer, cost: int) -> Stream | None:
        """Return the stream of a producer that can be a member, and get a batch of *cost* bytes."""
        link = producer.link
        stream = link.stream() if isinstance(link, Link) else None
        if stream is None or stream.framing is not self.framing or not _is_roomy(producer, cost):
            return None
        return None if self._members and stream.ended != self._ended else stream

    def end_connections(self, members: Iterable[_Member]) -> None:
        """End what something came into the middle of: nobody knows how much was sent."""
        for member in members:
            member.tell("broke", member.stream.broke, INTERRUPTED)
            member.link.fault("send", INTERRUPTED)

    def hand_on(self, odd: Iterable[Odd], page: Page, batch: Batch, now: float) -> list[str]:
        """Have those who left go on with what they got of *batch*; return the ids of who got nothing."""
        nothing = []
        for member, sent in odd:
            if isinstance(sent, int) and sent:
                self._hand_over(member, page, batch, now, sent)
                continue
            if isinstance(sent, OSError):
                if not isinstance(sent, (BlockingIOError, InterruptedError)):
                    member.tell("broke", member.stream.broke, sent)
            elif isinstance(sent, BaseException):
                member.link.fault("send", sent)
            nothing.append(member.producer.id)
        return nothing

    # -- keeping up --------------------------------------------------------------------------------

    def _look(self) -> None:
        """See how far the consumers are, and part with those that are late."""
        self._timer = None
        self.settle()
        late = self._loop.time() - _LATE
        flights = self._flights
        behind = [one for one in self._members.values() if one.done < len(flights)]
        self._part_with([one for one in behind if flights[one.done][2] < late])
        if flights:
            self._timer = self._loop.call_later(self._every, self._look)

    def settle(self) -> None:
        """See how far the consumers are, and let go of what all of them have."""
        for member in self._members.values():
            self._settle(member)
        self._let_go()

    def _make_room(self, cost: int) -> None:
        """Have room for *cost* bytes more in flight: part with those that are furthest behind."""
        self.settle()
        while self._cost + cost > LARGEST:
            self._part_with([one for one in self._members.values() if not one.done])

    def _settle(self, member: _Member) -> None:
        """Ask how far a member's consumer is, and settle that."""
        flights = self._flights
        self._pass(member, *self._delivered)
        try:
            reached = self._end - member.stream.unconfirmed()
        except BaseException as error:
            let_interrupts_pass(error)
            return  # Its link asks again, and finds out what that means.
        done = len(flights)
        if reached < self._end:
            done = bisect_right(flights, reached, member.done, key=_end_of)
        if done > member.done:
            end, messages, _, _ = flights[done - 1]
            member.done = done
            self._pass(member, end, messages, self._loop.time())

    def _pass(self, member: _Member, end: int, messages: int, when: float) -> None:
        """Settle what was sent to a member before *end*: of all *messages* those that are not settled yet."""
        count = messages - member.passed[1]
        if count > 0:
            member.passed = end, messages
            member.link.passes(count)
            member.producer.settled(Outcome.DELIVERED, count, None, when)

    def _let_go(self) -> None:
        """Forget the flights that no member needs."""
        flights = self._flights
        done = min((member.done for member in self._members.values()), default=len(flights))
        if done:
            self._cost -= self._release(flights[:done])
            del flights[:done]
            for member in self._members.values():
                member.done -= done
        if not flights and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _page(self, flight: _Flight) -> Page:
        """Return the page of a flight, for outboxes to hold it, too; the budget counts it already."""
        end, _, _, batch = flight
        page = self._pages.get(end)
        if page is None:
            self._pages[end] = page = Page(None, (), tracked=False)
            page.open(self._budget, batch)
            page.holders = 1
        return page

    def _release(self, flights: Iterable[_Flight]) -> int:
        """Note that no member needs *flights* any more, and return what they cost."""
        pages = self._pages
        total = 0
        for end, _, _, batch in flights:
            total += batch.cost
            if end in pages:
                pages.pop(end).release()
            else:
                self._budget.used -= batch.cost
        return total

    # -- leaving -----------------------------------------------------------------------------------

    def _part_with(self, leaving: Sequence[_Member]) -> list[str]:
        """Part with some, and return their ids."""
        for member in leaving:
            self._part(member.producer)
        return [member.producer.id for member in leaving]

    def _part(self, producer: Producer) -> None:
        """Part with a member: its client and its outbox get what is in flight for it, and go on with that."""
        member = self._members[producer]
        self._settle(member)
        del self._members[producer]
        if not self._members:
            self._every = _LOOK
        member.link.leave = None
        stream = member.stream
        size, count = member.passed[0] - member.joined[0], member.passed[1] - member.joined[1]
        member.tell("watch", stream.watch, False)
        member.tell("passed", stream.passed, size, count)
        for flight in self._flights[member.done :]:
            _, _, now, batch = flight
            self._hand_over(member, self._page(flight), batch, now, len(batch.wire(self.framing)))
        self._let_go()

    def _hand_over(self, member: _Member, page: Page, batch: Batch, now: float, sent: int) -> None:
        """Have the client and the outbox of who left know of a batch, of which *sent* bytes were sent."""
        member.tell("took", member.stream.took, batch, sent)
        member.producer.flies(page, batch, now)


def _longest(producer: Producer) -> int:
    """Return the bytes of a batch in which no message can be too long for it."""
    longest = producer.client.max_message
    return LARGEST if longest is None else longest


def _is_roomy(producer: Producer, cost: int) -> bool:
    """Whether all that may be in flight, and be late, is within its bounds, and *cost* bytes go unchanged."""
    return (
        not producer.stages
        and producer.policy.buffer >= _BUFFER
        and _longest(producer) >= max(cost, _SMALL)
        and min(producer.outbox.deadline, producer.client.timeout) >= _TIME
    )
