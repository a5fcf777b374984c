"""The convoy: whatever happens to a member, nobody is told more than is true, and everything arrives."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer_pool.delivery import convoy
from producer_pool.delivery.convoy import Convoy
from producer_pool.delivery.engine import Engine
from producer_pool.model.batch import Batch
from producer_pool.model.framing import LINES, NUL
from producer_pool.model.outcomes import Ack
from producer_pool.model.policies import Limits, Overflow
from producer_pool.testing import in_virtual_time, run_in_virtual_time
from support.engines import add, check_books, outcomes
from support.fake_clients import FakePipelinedClient
from support.sailing import ALL, RELAY, counters, sailing
from support.streaming import FakeStream, StreamingClient, lines

pytestmark = pytest.mark.usefixtures("no_log")

# -- a story -----------------------------------------------------------------------------------------------

Step = tuple[Any, ...]

# What makes up most of a story stands first, and more than once.
feeds = st.tuples(st.just("feed"), st.lists(st.sampled_from([0, 5, 300]), min_size=1, max_size=3))
steps: st.SearchStrategy[Step] = st.one_of(
    *[feeds] * 8,
    st.tuples(st.just("feed"), st.just([6_000])),
    st.tuples(st.just("feed"), st.just([20_000])),
    st.tuples(st.just("feed"), st.just([250_000])),
    st.tuples(st.just("accept"), st.just([5])),
    st.tuples(st.just("prompt"), st.sampled_from(ALL), st.booleans()),
    st.tuples(st.just("acknowledge"), st.sampled_from(ALL), st.sampled_from([1, 7, 310, None])),
    st.tuples(st.just("room"), st.sampled_from(ALL), st.sampled_from([0, 1, 30, 8_000, None])),
    st.tuples(st.just("break"), st.sampled_from(ALL)),
    st.tuples(st.just("fault"), st.sampled_from(ALL)),
    st.tuples(st.just("end"), st.sampled_from(ALL)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.005, 0.1, 1.0])),
    st.tuples(st.just("look")),
    st.tuples(st.just("remove"), st.sampled_from(ALL)),
    st.tuples(st.just("add"), st.sampled_from(ALL)),
)


class Story:
    """What happened to an engine, and what has to be true of it at each moment."""

    def __init__(self) -> None:
        self.engine: Engine
        self.clients: dict[str, StreamingClient] = {}
        self.meant: dict[str, list[bytes]] = {}
        """The messages that each has to get, in their order."""
        self.number = 0
        self.streamed = 0

    def add(self, name: str) -> None:
        self.clients[name] = StreamingClient()
        self.meant[name] = []
        add(self.engine, name, self.clients[name], RELAY)

    def write(self, sizes: Sequence[int]) -> Batch:
        messages = []
        for size in sizes:
            messages.append(b"%d" % self.number + b"." * size)
            self.number += 1
        for each in self.meant.values():
            each += messages
        return lines(*messages)

    def watch(self) -> None:
        """Nothing counts as delivered that was not acknowledged. To look at that changes nothing."""
        for name, client in self.clients.items():
            delivered = self.engine._producers[name].outbox.stats.delivered

            assert delivered <= client.acknowledged

    def check(self) -> None:
        """All is accounted for, and nothing was written for nobody."""
        stats = self.engine.stats()
        check_books(stats)
        for name, client in self.clients.items():
            each = stats.producers[name]

            assert each.accepted == len(self.meant[name])
            assert each.delivered <= client.acknowledged
            assert not any(connection.lost for connection in client.connections)

    def check_arrivals(self, name: str, client: StreamingClient) -> None:
        """Each connection begins where the one before may have ended, and goes on in order."""
        meant, reached = self.meant[name], 0
        for arrived in client.arrived:
            if arrived:
                first = meant.index(arrived[0])

                assert first <= reached
                assert arrived == meant[first : first + len(arrived)]

                reached = max(reached, first + len(arrived))

        assert reached == len(meant)

    async def tell(self, story: Sequence[Step]) -> None:
        self.engine = Engine(Limits())
        for name in ALL:
            self.add(name)
        await self.engine.check(1.0)
        for step in story:
            match step:
                case "feed", sizes:
                    self.engine.feed(self.write(sizes))
                case "accept", sizes:
                    self.engine.accept(self.write(sizes))
                case "wait", seconds:
                    await asyncio.sleep(seconds)
                case ("look",):
                    self.check()
                case "add", name if name not in self.clients:
                    self.add(name)
                case what, name, *rest if name in self.clients:
                    await self.happen(what, name, *rest)
            self.watch()
        for client in self.clients.values():
            client.prompt, client.fault = True, None
            if client.connections:
                client.acknowledge()
                client.make_room(None)
        await self.engine.drain(60.0)
        self.check()
        for name, client in self.clients.items():
            self.check_arrivals(name, client)
            self.streamed += client.streamed

            assert counters(self.engine, name) == (len(self.meant[name]), len(self.meant[name]), 0)
        await asyncio.sleep(1.0)

        assert self.engine.budget.used == 0

        await self.engine.aclose(1.0)

    async def happen(self, what: str, name: str, *rest: Any) -> None:
        client = self.clients[name]
        match what, *rest:
            case ("remove",):
                del self.clients[name], self.meant[name]
                await self.engine.remove(name, 0.1)
            case "prompt", prompt:
                client.prompt = prompt
            case _ if client.connections:
                client.befall(what, *rest)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(late=st.sets(st.sampled_from(ALL)), story=st.lists(steps, max_size=60))
def test_story(late: set[str], story: list[Step]) -> None:
    """Connections break, end, take a part, acknowledge late: books, order and truth hold throughout."""
    first = [("prompt", name, False) for name in sorted(late)]
    run_in_virtual_time(lambda: Story().tell([*first, *story]))


def test_stories_are_of_convoys() -> None:
    """Control: what is told above is told of what is sent past the outboxes."""
    story = Story()
    run_in_virtual_time(lambda: story.tell([("feed", [5]), ("break", "a"), ("feed", [5])]))

    assert story.streamed >= 5


def told_wrong(monkeypatch: pytest.MonkeyPatch, name: str, instead: Any, *story: Step) -> None:
    monkeypatch.setattr(Convoy, name, instead)
    with pytest.raises(AssertionError):
        run_in_virtual_time(lambda: Story().tell([("feed", [5]), *story, ("look",)]))


def test_convoy_that_does_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: one that does not look for ends writes into a connection that is closed."""
    take = Convoy.take

    def hasty(self: Convoy, *rest: Any) -> Any:
        self._ended = bool
        return take(self, *rest)

    told_wrong(monkeypatch, "take", hasty, ("end", "b"), ("feed", [5]))


def test_convoy_that_believes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: one that takes for acknowledged what was sent counts too much."""

    def believe(self: Convoy, member: Any) -> None:
        count = self._messages - member.passed[1]
        member.done, member.passed = len(self._flights), (self._end, self._messages)
        member.link.passes(count)

    told_wrong(monkeypatch, "_settle", believe, ("prompt", "b", False), ("feed", [5]))


def test_convoy_that_counts_too_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: who gets nothing of a batch must not be asked how far it is as if it had got it."""
    send = Convoy._send

    def hasty(self: Convoy, wire: bytes, odd: Any) -> None:
        send(self, wire, odd)
        self._end += len(wire)

    story: list[Step] = [("prompt", "b", False), ("feed", [5]), ("room", "b", 0), ("feed", [5])]
    told_wrong(monkeypatch, "_send", hasty, *story)


# -- single situations ---------------------------------------------------------------------------------------


@in_virtual_time
async def test_all_get_it_past_their_outboxes() -> None:
    """One send for each, no call of start(), and one page's bytes in the pool's buffer for all of them."""
    async with sailing() as (it, clients):
        batch = lines(b"1", b"22")
        for client in clients:
            client.prompt = False
        it.feed(batch)

        assert [client.arrived for client in clients] == [[[b"0", b"1", b"22"]]] * 3
        assert [(client.calls, client.streamed) for client in clients] == [(0, 2)] * 3
        assert it.budget.used == batch.cost + lines(b"0").cost


@in_virtual_time
async def test_settled_without_being_asked() -> None:
    """What was acknowledged is let go of soon, and nothing is left."""
    async with sailing() as (it, _):
        await asyncio.sleep(0.1)

        assert it.budget.used == 0
        assert [counters(it, name) for name in ALL] == [(1, 1, 0)] * 3


@in_virtual_time
async def test_connection_that_takes_along_what_was_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked more often: what was acknowledged before, and nobody knew, would go out again."""
    monkeypatch.setattr(FakeStream, "lasting", False)
    async with sailing() as (it, _):
        await asyncio.sleep(0.01)

        assert it.budget.used == 0


@in_virtual_time
async def test_counters_of_what_is_in_flight() -> None:
    """Whoever asks is told of every message, acknowledged or not; and the bytes of those that are not."""
    async with sailing() as (it, clients):
        clients[1].prompt = False
        it.feed(lines(b"1", b"2"))

        assert [counters(it, name) for name in ALL] == [(3, 3, 0), (3, 1, 2), (3, 3, 0)]
        assert it.stats().producers["b"].pending_bytes == lines(b"1", b"2").cost


@in_virtual_time
async def test_part_of_a_batch_taken() -> None:
    """The rest of it goes out when there is room, before what came after it; the others do not wait."""
    async with sailing() as (it, clients):
        clients[1].make_room(3)
        it.feed(lines(b"11", b"22"))
        it.feed(lines(b"33"))

        assert [client.now.taken for client in clients] == [
            b"0\n11\n22\n33\n",
            b"0\n11\n",
            b"0\n11\n22\n33\n",
        ]

        clients[1].make_room(None)

        assert clients[1].now.taken == b"0\n11\n22\n33\n"


@in_virtual_time
async def test_late_consumer_leaves() -> None:
    """What it does not acknowledge is kept for it alone, and may expire there; it comes back later."""
    async with sailing() as (it, clients):
        await asyncio.sleep(0.1)
        clients[1].prompt = False
        it.feed(lines(b"1"))
        await asyncio.sleep(0.3)
        it.feed(lines(b"2"))

        assert [client.calls for client in clients] == [0, 1, 0]

        clients[1].prompt = True
        clients[1].acknowledge()
        await asyncio.sleep(0.2)
        it.feed(lines(b"3"))

        assert [client.calls for client in clients] == [0, 1, 0]
        assert clients[1].arrived == [[b"0", b"1", b"2", b"3"]]


@in_virtual_time
async def test_deadline_of_what_is_in_flight() -> None:
    """It counts from when the message came, and not from when its producer left."""
    async with sailing(*[replace(RELAY, deadline=1.0)] * 3) as (it, clients):
        await asyncio.sleep(0.1)
        clients[1].prompt = False
        it.feed(lines(b"1"))
        await asyncio.sleep(0.99)
        before = it.stats().producers["b"].failed
        await asyncio.sleep(0.02)

        assert [before, *(it.stats().producers[name].failed for name in ALL)] == [0, 0, 1, 0]


@in_virtual_time
async def test_resent_after_a_break() -> None:
    """What was in flight when a connection broke is sent again on the next one."""
    async with sailing() as (it, clients):
        await asyncio.sleep(0.1)
        clients[1].prompt = False
        it.feed(lines(b"1"))
        it.feed(lines(b"2"))
        clients[1].break_off()
        clients[1].prompt = True
        await it.drain(5.0)

        assert clients[1].arrived == [[b"0", b"1", b"2"], [b"1", b"2"]]
        assert it.stats().producers["b"].resent == 2


@in_virtual_time
async def test_others_beside_it() -> None:
    """Who has no stream gets each message in the usual way, and has his own page of it counted once."""
    async with sailing() as (it, clients):
        plain = FakePipelinedClient(confirms_after=1.0)
        add(it, "d", plain, replace(RELAY, overflow=Overflow.BLOCK))
        await it.check(1.0)
        await asyncio.sleep(0.1)
        it.feed(lines(b"1"))

        assert plain.messages == [b"1"]
        assert [client.calls for client in clients] == [0, 0, 0]
        assert it.budget.used == lines(b"1").cost


@in_virtual_time
async def test_batch_of_another_kind() -> None:
    """Another framing, a list of messages, a large batch: each goes the usual way, in order."""
    async with sailing() as (it, clients):
        it.feed(Batch.from_wire(b"1\0", NUL))
        it.feed(Batch.of([b"2"]))
        it.feed(lines(b"x" * convoy.LARGEST))
        it.feed(lines(b"3"))

        assert [client.arrived for client in clients] == [
            [[b"0", b"1", b"2", b"x" * convoy.LARGEST, b"3"]]
        ] * 3


@in_virtual_time
async def test_batch_of_nothing() -> None:
    """It goes nowhere, and takes no room."""
    async with sailing() as (it, clients):
        await asyncio.sleep(0.1)
        it.feed(Batch.from_wire(b"", LINES))

        assert [client.streamed for client in clients] == [1, 1, 1]
        assert it.budget.used == 0
        assert [counters(it, name) for name in ALL] == [(1, 1, 0)] * 3


@in_virtual_time
async def test_acknowledged_at_once_by_members_only() -> None:
    """The pool's buffer counts a batch as long as anybody has it, who is a member or not."""
    async with sailing() as (it, clients):
        plain = FakePipelinedClient(confirms_after=1.0)
        add(it, "d", plain, replace(RELAY, overflow=Overflow.BLOCK))
        await it.check(1.0)
        large = lines(b"x" * 800_000)
        it.feed(large)

        assert [client.streamed for client in clients] == [2, 2, 2]
        assert it.budget.used == large.cost

        await asyncio.sleep(2.0)

        assert it.budget.used == 0
        assert counters(it, "d") == (1, 1, 0)


@in_virtual_time
async def test_message_that_somebody_waits_for() -> None:
    """It goes the usual way, behind what is in flight, and counts when that is acknowledged before it."""
    async with sailing() as (it, clients):
        clients[1].prompt = False
        it.feed(lines(b"1"))
        receipt = it.accept(lines(b"2"))
        clients[1].acknowledge(2)
        await asyncio.sleep(0.1)

        assert outcomes(receipt) == {"a": "delivered", "b": "pending", "c": "delivered"}
        assert counters(it, "b") == (3, 2, 1)

        clients[1].acknowledge()
        await asyncio.sleep(0.1)

        assert outcomes(receipt)["b"] == "delivered"


@in_virtual_time
async def test_level_written() -> None:
    """What the kernel has is delivered, for who asks for no more."""
    async with sailing(*[replace(RELAY, ack=Ack.WRITTEN)] * 3) as (it, _):
        assert [counters(it, name) for name in ALL] == [(1, 1, 0)] * 3


@in_virtual_time
async def test_removed_in_flight() -> None:
    """It gets nothing more, and what it has is settled as usual."""
    async with sailing() as (it, clients):
        removed = it.remove("b", 1.0)
        it.feed(lines(b"1"))
        await removed

        assert [client.arrived for client in clients] == [[[b"0", b"1"]], [[b"0"]], [[b"0", b"1"]]]
