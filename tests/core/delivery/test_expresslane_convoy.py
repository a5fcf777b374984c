"""The express lane in a convoy: nobody can tell that the messages were not handed over one by one."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer_pool.delivery import expresslane
from producer_pool.delivery.convoy import Convoy
from producer_pool.delivery.engine import Engine
from producer_pool.model.batch import Batch
from producer_pool.model.outcomes import Ack, Outcome, Results
from producer_pool.model.policies import DeliveryPolicy, Limits, Role
from producer_pool.model.stats import Health
from producer_pool.testing import in_virtual_time, run_in_virtual_time
from support.engines import add, check_books, engine
from support.fake_clients import FakePipelinedClient
from support.sailing import ALL
from support.streaming import StreamingClient, lines, no_longer_watched
from support.ways import Express, Way

pytestmark = pytest.mark.usefixtures("no_log")

DIRECT = DeliveryPolicy.direct()
POLICIES = (DIRECT, replace(DIRECT, role=Role.BEST_EFFORT), replace(DIRECT, ack=Ack.KERNEL))

# -- a story -----------------------------------------------------------------------------------------------

Step = tuple[Any, ...]

forwards = st.tuples(st.just("forward"), st.just(ALL), st.sampled_from([b"x", b"", b"a\nb", b"y" * 9_000]))
steps: st.SearchStrategy[Step] = st.one_of(
    *[st.tuples(st.just("forward"), st.just(ALL), st.just(b"x"))] * 6,
    forwards,
    st.tuples(st.just("forward"), st.lists(st.sampled_from(ALL), min_size=1, unique=True), st.just(b"x")),
    st.tuples(st.just("feed"), st.sampled_from([5, 300])),
    st.tuples(st.just("room"), st.sampled_from(ALL), st.sampled_from([0, 1, 3, 8_000, None])),
    st.tuples(st.just("break"), st.sampled_from(ALL)),
    st.tuples(st.just("fault"), st.sampled_from(ALL)),
    st.tuples(st.just("end"), st.sampled_from(ALL)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.005, 0.1, 12.0])),
    st.tuples(st.just("look")),
    st.tuples(st.just("ask")),
    st.tuples(st.just("remove"), st.sampled_from(ALL)),
    st.tuples(st.just("add"), st.sampled_from(ALL), st.sampled_from(POLICIES)),
)


@dataclass
class Told:
    """All that anybody can see of a story."""

    counters: list[str] = field(default_factory=list)
    arrived: list[tuple[str, list[list[bytes]]]] = field(default_factory=list)
    lost: list[bytes] = field(default_factory=list)
    observed: list[tuple[str, Outcome, int]] = field(default_factory=list)
    results: list[dict[str, tuple[Any, ...]]] = field(default_factory=list)

    def state_changed(self, health: Health) -> None:
        pass

    def settled(self, producer_id: str, outcome: Outcome, count: int) -> None:
        self.observed.append((producer_id, outcome, count))

    def arrive(self, name: str, client: StreamingClient) -> None:
        self.arrived.append((name, client.arrived))
        self.lost += [connection.lost for connection in client.connections]


async def tell(story: Sequence[Step], make: Callable[[Engine], Way], *, observed: bool) -> Told:
    """Tell a story of an engine whose messages go that way."""
    no_longer_watched()
    told = Told()
    clients: dict[str, StreamingClient] = {}
    asks: list[Callable[[], Results]] = []
    here = Engine(Limits())
    if observed:
        here.observers.extend([told])
    way = make(here)

    def join(name: str, policy: DeliveryPolicy = DIRECT) -> None:
        clients[name] = StreamingClient()
        add(here, name, clients[name], policy)

    for name in ALL:
        join(name)
    await here.check(1.0)
    for step in story:
        match step:
            case "forward", targets, message:
                asks.append(way.forward(tuple(targets), message))
            case "feed", size:
                here.feed(lines(b"." * size))
            case "wait", seconds:
                await asyncio.sleep(seconds)
            case ("look",):
                told.counters.append(repr(here.stats()))
                check_books(here.stats())
            case ("ask",):
                told.counters.append(repr([each.last_delivery for each in here.health().values()]))
            case "remove", name if name in clients:
                told.arrive(name, clients.pop(name))
                await here.remove(name, 0.1)
            case "add", name, policy if name not in clients:
                join(name, policy)
            case what, name, *rest if name in clients and clients[name].connections:
                clients[name].befall(what, *rest)
    for client in clients.values():
        client.fault = None
        if client.connections:
            client.make_room(None)
    await here.aclose(30.0)
    for name, client in clients.items():
        told.arrive(name, client)
    told.counters.append(repr(here.stats()))
    check_books(here.stats())
    told.results = [
        {name: (each.outcome, each.ack, each.attempts, str(each.error)) for name, each in ask().items()}
        for ask in asks
    ]

    await asyncio.sleep(1.0)  # A convoy lets go of what nobody has any more when it looks next.

    assert here.budget.used == 0

    return told


def along(story: Sequence[Step], make: Callable[[Engine], Way], *, observed: bool = True) -> Told:
    """Tell it in virtual time."""
    return run_in_virtual_time(lambda: tell(story, make, observed=observed))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each message that all settle at once have them join a convoy."""
    monkeypatch.setattr(expresslane, "_STEADY", 1)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(steps, max_size=25), observed=st.booleans())
def test_same_story_in_a_convoy(at_once: None, story: list[Step], observed: bool) -> None:
    """Outcomes, levels, errors, counters, order, observers: all is as when each is offered its own."""
    assert along(story, Express, observed=observed) == along(story, Way, observed=observed)


def test_convoy_that_does_not_look(at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: one that writes into connections that have ended tells another story."""
    forward = ("forward", ALL, b"x")
    story: list[Step] = [forward, forward, ("end", "b"), forward]
    express = Convoy.express

    def blind(self: Convoy, message: bytes, count: int) -> Any:
        self._ended = bool
        return express(self, message, count)

    assert along(story, Express) == along(story, Way)

    monkeypatch.setattr(Convoy, "express", blind)

    assert along(story, Express) != along(story, Way)


# -- single situations ---------------------------------------------------------------------------------------


async def sailing_lane(it: Engine) -> tuple[Express, list[StreamingClient]]:
    """Return a lane whose producers are in a convoy, and their clients."""
    clients = [StreamingClient() for _ in ALL]
    for name, client in zip(ALL, clients, strict=True):
        add(it, name, client)
    await it.check(1.0)
    way = Express(it)
    for _ in range(expresslane._STEADY):
        way.forward(ALL, b"0")

    assert [client.streamed for client in clients] == [0, 0, 0]

    return way, clients


@in_virtual_time
async def test_they_join_when_it_goes_on() -> None:
    """After some messages it goes past all clients, the results are the same, and everything is counted."""
    async with engine() as it:
        way, clients = await sailing_lane(it)
        first, second = way.lane.forward(ALL, b"1"), way.lane.forward(ALL, b"2")

        assert isinstance(first, Results)
        assert first is second
        assert [client.streamed for client in clients] == [2, 2, 2]
        assert [client.now.taken for client in clients] == [b"0\n" * expresslane._STEADY + b"1\n2\n"] * 3
        assert [each.delivered for each in it.stats().producers.values()] == [expresslane._STEADY + 2] * 3
        assert it.budget.used == 0


@in_virtual_time
async def test_others_meanwhile() -> None:
    """What goes to one of them only has it leave; they join again when as many more have gone to all."""
    async with engine() as it:
        way, clients = await sailing_lane(it)
        way.forward(ALL[:1], b"1")
        for _ in range(expresslane._STEADY):
            way.forward(ALL, b"2")

        assert [client.streamed for client in clients] == [0, 0, 0]

        way.forward(ALL, b"3")

        assert [client.streamed for client in clients] == [1, 1, 1]


@in_virtual_time
async def test_one_that_cannot_join() -> None:
    """Then none of them does: they would have to leave again for the next message."""
    async with engine() as it:
        add(it, "d", FakePipelinedClient())
        way, clients = await sailing_lane(it)
        targets = (*ALL, "d")
        for _ in range(3 * expresslane._STEADY):
            way.forward(targets, b"1")

        assert [client.streamed for client in clients] == [0, 0, 0]
        assert no_longer_watched() == []


@in_virtual_time
async def test_level_above_written() -> None:
    """What was sent is not delivered yet, so somebody has to keep it."""
    async with engine() as it:
        add(it, "d", StreamingClient(), replace(DIRECT, ack=Ack.KERNEL))
        way, clients = await sailing_lane(it)
        for _ in range(2 * expresslane._STEADY):
            way.forward((*ALL, "d"), b"1")
            await asyncio.sleep(0.1)

        assert [client.streamed for client in clients] == [0, 0, 0]


@in_virtual_time
async def test_part_of_a_message_taken() -> None:
    """Who took part of it gets the rest, and is told so; the others have it."""
    async with engine() as it:
        way, clients = await sailing_lane(it)
        clients[1].make_room(2)
        ask = way.forward(ALL, b"123")

        assert [each.outcome for each in ask().values()] == [
            Outcome.DELIVERED,
            Outcome.PENDING,
            Outcome.DELIVERED,
        ]

        clients[1].make_room(None)

        assert ask().ok
        assert [client.arrived[0][-1] for client in clients] == [b"123"] * 3


@in_virtual_time
async def test_no_memory_behind_half_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing follows it: the connection of who took half of it ends, and of nobody else."""

    def no_memory(messages: list[bytes]) -> Batch:
        raise MemoryError

    async with engine() as it:
        way, clients = await sailing_lane(it)
        clients[1].make_room(2)
        with monkeypatch.context() as patch:
            patch.setattr(Batch, "owning", no_memory)
            with pytest.raises(MemoryError):
                way.forward(ALL, b"123")

        assert [client._broken for client in clients] == [False, True, False]


@in_virtual_time
async def test_observer_that_comes_later() -> None:
    """It is told of what comes after it, and of nothing before."""
    async with engine() as it:
        way, _ = await sailing_lane(it)
        way.forward(ALL, b"1")
        told = Told()
        it.observe([told])
        way.forward(ALL, b"2")
        await asyncio.sleep(0.1)

        assert told.observed == [(name, Outcome.DELIVERED, 1) for name in ALL]


@in_virtual_time
async def test_connection_that_has_ended() -> None:
    """It is seen before anything is sent, and nothing is written for nobody."""
    async with engine() as it:
        way, clients = await sailing_lane(it)
        clients[1].ended = True
        ask = way.forward(ALL, b"1")

        assert [each.outcome for each in ask().values()] == [
            Outcome.DELIVERED,
            Outcome.PENDING,
            Outcome.DELIVERED,
        ]
        assert not clients[1].now.lost


@in_virtual_time
async def test_interrupt_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what was sent: all connections end, and the message counts nowhere."""

    def interrupted(data: bytes) -> int:
        raise KeyboardInterrupt

    async with engine() as it:
        way, clients = await sailing_lane(it)
        monkeypatch.setattr(clients[1], "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            way.forward(ALL, b"1")
        monkeypatch.undo()
        await asyncio.sleep(0.1)
        stats = it.stats().producers.values()

        assert [(each.accepted, each.delivered, each.breaks) for each in stats] == [(8, 8, 1)] * 3


@in_virtual_time
async def test_last_delivery_of_who_is_in_a_convoy() -> None:
    """It is the time of the last message, whenever it is asked for."""
    async with engine() as it:
        way, _ = await sailing_lane(it)
        await asyncio.sleep(1.0)
        way.forward(ALL, b"1")
        then = it.now()
        await asyncio.sleep(1.0)

        assert [each.last_delivery for each in it.health().values()] == [then] * 3


@in_virtual_time
async def test_targets_that_are_not_all_any_more() -> None:
    """A message to who was there goes to nobody else, and not to who is gone."""
    async with engine() as it:
        way, _ = await sailing_lane(it)
        late = StreamingClient()
        await it.remove("c", 0.0)
        add(it, "d", late)
        await it.check(1.0)
        it.feed(lines(b"1"))
        ask = way.forward(ALL, b"2")

        assert [each.outcome for each in ask().values()] == [
            Outcome.DELIVERED,
            Outcome.DELIVERED,
            Outcome.CANCELLED,
        ]
        assert late.arrived == [[b"1"]]


@in_virtual_time
async def test_no_room_in_the_pool() -> None:
    """At the pool's own bound nothing goes this way."""
    async with engine(buffer=1_000) as it:
        way, clients = await sailing_lane(it)

        assert way.lane.forward(ALL, b"x" * 1_000) is None
        assert [client.streamed for client in clients] == [0, 0, 0]
