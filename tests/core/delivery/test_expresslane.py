"""The express lane, side by side with the long way: whatever happens, nobody can tell which one was taken."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer_pool.contract.ports import Settled
from producer_pool.delivery.engine import Engine
from producer_pool.delivery.producer import Producer
from producer_pool.delivery.receipts import Handle
from producer_pool.model.batch import Batch
from producer_pool.model.errors import Rejected
from producer_pool.model.outcomes import Ack, Outcome, Results
from producer_pool.model.policies import DeliveryPolicy, Limits, Overflow, Retry, Role
from producer_pool.model.stats import Health
from producer_pool.testing import in_virtual_time, run_in_virtual_time
from support.engines import add, check_books, dead, engine
from support.fake_clients import FakeClient, FakePipelinedClient
from support.ways import Express, Way

pytestmark = pytest.mark.usefixtures("no_log")

ALL = ("a", "b", "c", "d")

DIRECT = DeliveryPolicy.direct()
POLICIES = (
    DIRECT,
    DIRECT,
    replace(DIRECT, role=Role.BEST_EFFORT),
    replace(DIRECT, buffer=1500),
    replace(DIRECT, ack=Ack.KERNEL, deadline=0.5),
    replace(DIRECT, retry=Retry(attempts=3), overflow=Overflow.DROP_OLDEST, buffer=4000),
    replace(DeliveryPolicy.relay(), ack=Ack.WRITTEN, role=Role.SHADOW),
    DeliveryPolicy.relay(),
)


class Moody(FakePipelinedClient):
    """Does what its mood says."""

    mood = "well"

    def misfits(self, batch: Batch) -> Mapping[int, Rejected]:
        if self.mood == "cannot say what it carries":
            raise ZeroDivisionError("misfits")
        messages = enumerate(batch.messages)
        return {index: Rejected("fake: never") for index, message in messages if b"!" in message}

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        if self.mood == "raises":
            raise ZeroDivisionError("start")
        return 0 if self.mood == "shut" else super().start(batches, offset)

    def settled(self) -> Settled:
        if self.mood == "does not know":
            raise ZeroDivisionError("settled")
        return super().settled()

    def change(self, mood: str) -> None:
        """Be like that from now on, and say so."""
        self.mood = mood
        self.written = len(self._times) if mood == "slow" else None
        if self.is_open and mood in ("well", "slow"):
            self.signals[-1].writable()


MOODS = ("well", "slow", "shut", "raises", "does not know", "cannot say what it carries")

Step = tuple[Any, ...]

steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(
        st.just("forward"),
        st.lists(st.sampled_from(ALL), min_size=1, unique=True),
        st.sampled_from([b"x", b"", b"no!", b"y" * 900, b"z" * 3000]),
    ),
    st.tuples(st.just("forward"), st.just(ALL), st.just(b"x")),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.002, 0.3, 12.0])),
    st.tuples(st.just("mood"), st.sampled_from(ALL), st.sampled_from(MOODS)),
    st.tuples(st.just("break"), st.sampled_from(ALL)),
    st.tuples(st.just("remove"), st.sampled_from(ALL)),
    st.tuples(st.just("add"), st.sampled_from(ALL), st.sampled_from(POLICIES)),
)


@dataclass
class Told:
    """All that anybody can see of a story."""

    counters: list[str] = field(default_factory=list)
    arrived: dict[str, list[bytes]] = field(default_factory=dict)
    observed: list[tuple[str, Outcome, int]] = field(default_factory=list)
    results: list[dict[str, tuple[Any, ...]]] = field(default_factory=list)
    failed: list[list[str]] = field(default_factory=list)

    def state_changed(self, health: Health) -> None:
        pass

    def settled(self, producer_id: str, outcome: Outcome, count: int) -> None:
        self.observed.append((producer_id, outcome, count))


async def tell(
    story: Sequence[Step], make: Callable[[Engine], Way], policies: Sequence[DeliveryPolicy]
) -> Told:
    """Tell a story of an engine whose messages go that way."""
    told = Told()
    clients: dict[str, FakePipelinedClient | FakeClient] = {}
    asks: list[Callable[[], Results]] = []
    here = Engine(Limits(buffer=9000))
    here.observers.extend([told])
    way = make(here)

    def join(name: str, policy: DeliveryPolicy) -> None:
        # The last of them has no pipeline, and no other level.
        if name == ALL[-1]:
            clients[name] = FakeClient()
            policy = replace(policy, ack=None)
        else:
            clients[name] = Moody()
        add(here, name, clients[name], policy)

    for name, policy in zip(ALL, policies, strict=False):
        join(name, policy)
    await here.check(1.0)
    for step in story:
        match step:
            case "forward", targets, message:
                asks.append(way.forward(tuple(targets), message))
            case "wait", seconds:
                await asyncio.sleep(seconds)
            case "mood", name, mood if isinstance(client := clients.get(name), Moody):
                client.change(mood)
            case "break", name if isinstance(client := clients.get(name), Moody) and client.is_open:
                client.break_off()
            case "remove", name if name in clients:
                told.arrived.setdefault(name, []).extend(clients.pop(name).messages)
                await here.remove(name, 0.1)
            case "add", name, policy if name not in clients:
                join(name, policy)
        told.counters.append(repr(here.stats()))
        check_books(here.stats())
    await here.aclose(30.0)
    for name, client in clients.items():
        told.arrived.setdefault(name, []).extend(client.messages)
    told.counters.append(repr(here.stats()))
    for ask in asks:
        results = ask()
        told.results.append(
            {
                name: (each.outcome, each.ack, each.attempts, str(each.error), each.dead_lettered)
                for name, each in results.items()
            }
        )
        told.failed.append(list(results.failed))
    return told


def along(story: Sequence[Step], make: Callable[[Engine], Way], policies: Sequence[DeliveryPolicy]) -> Told:
    """Tell it in virtual time."""
    return run_in_virtual_time(lambda: tell(story, make, policies))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    story=st.lists(steps, max_size=25),
    policies=st.lists(st.sampled_from(POLICIES), min_size=1, max_size=4),
)
def test_same_story_both_ways(
    monkeypatch: pytest.MonkeyPatch, story: list[Step], policies: list[DeliveryPolicy]
) -> None:
    """Outcomes, levels, attempts, errors, counters, order, observers: all is as on the long way."""
    express = along(story, Express, policies)
    fan_out = along(story, Way, policies)
    with monkeypatch.context() as patch:
        patch.setattr(Producer, "express", lambda self, batch, now: None)
        long_way = along(story, Way, policies)

    assert express == fan_out
    assert express == long_way


@in_virtual_time
async def test_all_take_it_at_once() -> None:
    """The results are there at once, nothing is kept, and all messages of that kind share them."""
    async with engine() as it:
        clients = [FakePipelinedClient() for _ in ALL]
        for name, client in zip(ALL, clients, strict=True):
            add(it, name, client)
        await it.check(1.0)
        way = Express(it)
        first, second = way.lane.forward(ALL, b"1"), way.lane.forward(ALL, b"2")

        assert isinstance(first, Results)
        assert first is second
        assert [(one.producer_id, one.outcome, one.ack, one.attempts) for one in first.values()] == [
            (name, Outcome.DELIVERED, Ack.WRITTEN, 1) for name in ALL
        ]
        assert [client.messages for client in clients] == [[b"1", b"2"]] * 4
        assert it.budget.used == 0


@in_virtual_time
async def test_results_of_who_is_there_now() -> None:
    """Of other targets there are other results, and who is not required is not asked for."""
    async with engine() as it:
        for name in ALL[:2]:
            add(it, name, FakePipelinedClient(), replace(DIRECT, role=Role.SHADOW) if name == "a" else None)
        await it.check(1.0)
        lane = Express(it).lane

        for targets in (("a", "b"), ("b",), ("b", "a")):
            results = lane.forward(targets, b"x")

            assert isinstance(results, Results)
            assert tuple(results) == targets
            assert results._optional == [name for name in targets if name == "a"]


@in_virtual_time
async def test_one_of_them_does_not_take_it() -> None:
    """Those before it have it already, and it waits for those behind it no longer than on the long way."""
    async with engine() as it:
        clients = [FakePipelinedClient(room=room) for room in (None, 0, None)]
        for name, client in zip(ALL, clients, strict=False):
            add(it, name, client)
        add(it, "d", dead(), DeliveryPolicy.relay())
        await it.check(1.0)
        receipt = Express(it).lane.forward(ALL, b"x")

        assert isinstance(receipt, Handle)
        outcomes = [result.outcome for result in receipt._page.results(0).values()]
        assert outcomes == [Outcome.DELIVERED, Outcome.PENDING, Outcome.DELIVERED, Outcome.PENDING]
        assert not receipt.done
        clients[1].make_room(1)
        assert [client.messages for client in clients] == [[b"x"]] * 3


@in_virtual_time
async def test_closed_for_who_has_no_room() -> None:
    """At the pool's own bound nothing goes this way: there are others to be relieved first."""
    async with engine(buffer=1000) as it:
        client = FakePipelinedClient()
        add(it, "a", client)
        await it.check(1.0)

        assert Express(it).lane.forward(("a",), b"x" * 1000) is None
        assert client.messages == []


@in_virtual_time
async def test_defect_in_a_producer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays with that one, as on the long way."""

    def defect(*_: object) -> None:
        raise ZeroDivisionError

    async with engine() as it:
        client = FakePipelinedClient()
        monkeypatch.setattr(add(it, "a", FakePipelinedClient()), "express", defect)
        add(it, "b", client)
        await it.check(1.0)
        receipt = Express(it).lane.forward(("a", "b"), b"x")

        assert isinstance(receipt, Handle)
        assert receipt._page.results(0)["b"].ok
        assert client.messages == [b"x"]


def test_lane_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a lane that takes what is in flight for delivered tells another story."""
    express = Producer.express
    story: list[Step] = [("mood", "a", "slow"), ("forward", ALL, b"x")]
    long_way = along(story, Way, POLICIES)
    monkeypatch.setattr(
        Producer, "express", lambda self, batch, now: 1 if express(self, batch, now) is not None else None
    )

    assert along(story, Express, POLICIES) != long_way


def test_story_that_takes_the_lane() -> None:
    """Control: the stories do come along it."""
    seen: list[Express] = []

    def make(engine: Engine) -> Express:
        seen.append(Express(engine))
        return seen[-1]

    along([("forward", ALL[:3], b"x")] * 3, make, POLICIES[:3])

    assert seen[0].at_once == 3
