"""What every kind of pool does before anything waits: ids, URLs, text to bytes, a place in the log."""

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from producer_pool.contract.wiring import Wiring
from producer_pool.dead_letter_office import DeadLetterOffice
from producer_pool.delivery.engine import Engine
from producer_pool.delivery.receipts import AsyncReceipt
from producer_pool.delivery.submitlog import OpenPage, SubmitLog
from producer_pool.discovery.factory import ClientFactory
from producer_pool.entrance import Entrance, opened
from producer_pool.model.errors import (
    ConfigurationError,
    PoolClosed,
    StorageError,
    UnknownProducer,
    UsageError,
)
from producer_pool.model.policies import DeliveryPolicy, Limits, Spool
from producer_pool.testing import in_virtual_time
from support.fake_clients import FakeClient


class Woken:
    """Counts how often the loop was asked to come."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


class NotedWiring(Wiring):
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def stages(self, producer_id: str, endpoint: object) -> tuple[()]:
        self.asked.append((producer_id, endpoint and str(endpoint)))
        return ()

    def started(self, pool: object) -> None:
        self.asked.append(("started", pool))

    def stopping(self, pool: object, deadline: float) -> None:
        self.asked.append(("stopping", pool, deadline))


@pytest.fixture
def woken() -> Woken:
    return Woken()


@pytest.fixture
def entrance(woken: Woken) -> Entrance[AsyncReceipt]:
    return Entrance(SubmitLog(woken, AsyncReceipt), None, None)


def wired(monkeypatch: pytest.MonkeyPatch) -> tuple[Entrance[AsyncReceipt], NotedWiring]:
    """Return an entrance whose factory has plugins."""
    wiring, factory = NotedWiring(), ClientFactory()
    monkeypatch.setattr(factory, "wiring", lambda: wiring)
    return Entrance(SubmitLog(Woken(), AsyncReceipt), None, factory), wiring


# -- messages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", ["héllo", "héllo".encode(), bytearray("héllo".encode())])
def test_message(entrance: Entrance[AsyncReceipt], woken: Woken, message: Any) -> None:
    """Text is UTF-8; what the caller goes on to change is copied; the loop is asked to come once for all."""
    for _ in range(3):
        entrance.append(("a",), message)
    if isinstance(message, bytearray):
        message.clear()
    (page,) = entrance.log.swap()

    assert isinstance(page, OpenPage)
    assert page.messages == ["héllo".encode()] * 3
    assert woken.times == 1


def test_no_message(entrance: Entrance[AsyncReceipt]) -> None:
    """What is neither text nor bytes is refused, and nothing lies in the log."""
    wrong: Any = 5
    with pytest.raises(TypeError):
        entrance.append(("a",), wrong)
    assert entrance.log.empty


def test_nobody_to_forward_to(entrance: Entrance[AsyncReceipt], caplog: pytest.LogCaptureFixture) -> None:
    """It is done at once, nothing waits in the log, and that is said once."""
    receipts = [entrance.append((), b"x") for _ in range(3)]

    assert all(receipt.done for receipt in receipts)
    assert [receipt.stored for receipt in receipts] == [None] * 3
    assert entrance.log.empty
    assert [record.message for record in caplog.records if record.name == "producer_pool.entrance"] == [
        "a message was submitted to a pool without producers: it went nowhere"
    ]


def test_nobody_to_store_for(entrance: Entrance[AsyncReceipt]) -> None:
    """Of what goes nowhere, nothing is missing in a spool; once closed, nothing is taken either."""
    entrance.log.stores = True

    assert entrance.append((), b"x").stored
    entrance.log.close(PoolClosed("the pool is closed"))
    with pytest.raises(PoolClosed):
        entrance.append((), b"x")


@pytest.mark.parametrize("message", ["abc", b"abc", bytearray(b"abc"), memoryview(b"abc")])
def test_one_where_several_are_expected(entrance: Entrance[AsyncReceipt], message: Any) -> None:
    """Its letters are not what was meant."""
    with pytest.raises(UsageError, match=rf"got one {type(message).__name__}; use submit\(\) for one"):
        entrance.several(message)


def test_several(entrance: Entrance[AsyncReceipt]) -> None:
    """Whatever yields messages will do, and is not read before its time."""
    messages = iter([b"a", b"b"])

    assert entrance.several(messages) is messages
    assert next(messages) == b"a"


def test_targets(entrance: Entrance[AsyncReceipt]) -> None:
    """None, one, several; one that is not there is named, with those that are."""
    for name in ("a", "b"):
        entrance.roster.reserve(name)
        entrance.roster.publish(name)

    assert entrance.targets(None) == ("a", "b")
    assert entrance.targets("b") == ("b",)
    assert entrance.targets(iter(["b", "a"])) == ("b", "a")
    with pytest.raises(UnknownProducer, match=r"'c'.*a, b"):
        entrance.targets(["a", "c"])


# -- producers -------------------------------------------------------------------------------------


def test_policies(entrance: Entrance[AsyncReceipt]) -> None:
    """A producer that brings none has the pool's, by default direct(); the name of one is none."""
    wrong: Any = "relay"

    assert entrance.producer("a", FakeClient(), None, None).policy == DeliveryPolicy.direct()
    assert entrance.producer("b", FakeClient(), DeliveryPolicy.relay(), None).policy == DeliveryPolicy.relay()
    with pytest.raises(ConfigurationError, match=r"such as DeliveryPolicy.relay\(\), not 'relay'"):
        entrance.producer("c", FakeClient(), wrong, None)
    with pytest.raises(ConfigurationError, match="not 'relay'"):
        Entrance(SubmitLog(Woken(), AsyncReceipt), wrong, None)


def test_url(entrance: Entrance[AsyncReceipt]) -> None:
    """Its delivery options change the policy, and *timeout* is that of its client."""
    producer = entrance.producer("a", "null:?buffer=1MiB", DeliveryPolicy.relay(), 3.0)

    assert producer.policy.buffer == 1 << 20
    assert producer.policy.deadline == DeliveryPolicy.relay().deadline
    assert producer.client.timeout == 3.0


def test_timeout_of_an_injected_client(entrance: Entrance[AsyncReceipt]) -> None:
    """It has one of its own, which a second one would contradict."""
    with pytest.raises(
        UsageError, match="timeout= goes with a URL; set the timeout of an injected client on"
    ):
        entrance.producer("a", FakeClient(), None, 3.0)


def test_plugins_come_with_the_first_url(entrance: Entrance[AsyncReceipt]) -> None:
    """Who only injects clients needs none, and none is looked for."""
    entrance.producer("a", FakeClient(), None, None)

    assert entrance._factory is None
    entrance.producer("b", "null:", None, None)
    assert entrance._factory is entrance.factory


async def test_plugins_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the pool when it runs, of each producer, and that it stops: if they were told that it runs."""
    entrance, wiring = wired(monkeypatch)
    engine, pool = Engine(Limits()), object()
    entrance.take_leave(pool, 1.0)
    for _ in range(2):
        entrance.announce(engine, pool)
    entrance.producer("a", FakeClient(), None, None)
    entrance.producer("b", "null:?buffer=1MiB", None, None)
    entrance.take_leave(pool, 2.0)

    assert wiring.asked == [("started", pool), ("a", None), ("b", "null:"), ("stopping", pool, 2.0)]


async def test_dead_letters_of_several_threads(
    entrance: Entrance[AsyncReceipt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one office, whoever comes first; without letters there is none, and nothing to close."""
    offices = []

    class Office(DeadLetterOffice):
        def __init__(self, factory: Callable[[], ClientFactory]) -> None:
            super().__init__(factory)
            offices.append(self)

    monkeypatch.setattr("producer_pool.dead_letter_office.DeadLetterOffice", Office)
    await entrance.close_letters()
    together = threading.Barrier(4)
    policy = DeliveryPolicy(dead_letters=str(tmp_path))
    made = []

    def make(name: str) -> None:
        together.wait()
        made.append(entrance.producer(name, FakeClient(), policy, None))

    threads = [threading.Thread(target=make, args=(f"p{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    await entrance.close_letters()

    assert len([producer.outbox.accounts.letters for producer in made]) == 4
    assert len(offices) == 1


# -- the log ---------------------------------------------------------------------------------------


@in_virtual_time
async def test_order_of_messages_and_calls(entrance: Entrance[AsyncReceipt]) -> None:
    """What was appended is done in its order; what raises is logged, and stops nothing behind it."""
    engine = Engine(Limits())
    done: list[object] = []

    def note(page: OpenPage, batch: Any) -> None:
        done.append([bytes(message) for message in batch.messages])

    engine.take = note  # type: ignore[method-assign,assignment]
    entrance.append(("a",), b"1")
    entrance.log.call(lambda: done.append("call"))
    entrance.append(("a",), b"2")
    entrance.process(engine)

    assert done == [[b"1"], "call", [b"2"]]


@in_virtual_time
async def test_call_that_raises(entrance: Entrance[AsyncReceipt], caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and what was submitted after it goes on."""
    engine = Engine(Limits())
    done: list[object] = []

    def fails() -> None:
        raise RuntimeError("it is wrong")

    entrance.log.call(fails)
    entrance.log.call(lambda: done.append("behind"))
    with caplog.at_level(logging.ERROR):
        entrance.process(engine)

    assert done == ["behind"]
    assert "unexpected; what was submitted after it goes on" in caplog.text


@in_virtual_time
async def test_processing_from_inside(entrance: Entrance[AsyncReceipt]) -> None:
    """What comes up in the middle of it stays for the next time: what is in the middle of it comes first."""
    engine = Engine(Limits())
    done: list[object] = []

    def inside() -> None:
        entrance.log.call(lambda: done.append("later"))
        entrance.process(engine)
        done.append("first")

    entrance.log.call(inside)
    entrance.process(engine)
    before = done.copy()
    entrance.process(engine)

    assert (before, done) == (["first"], ["first", "later"])


# -- the spool -------------------------------------------------------------------------------------


def test_no_spool() -> None:
    """There is nothing to open."""
    assert opened(None) is None


@pytest.fixture
def closing() -> Iterator[Callable[[Any], Any]]:
    """Return what takes a store, which is closed at the end."""
    stores: list[Any] = []

    def keep(store: Any) -> Any:
        stores.append(store)
        return store

    yield keep
    for store in stores:
        store.close()


def test_spool(tmp_path: Path, closing: Callable[[Any], Any]) -> None:
    """It is open, and nobody else can open it meanwhile."""
    store = closing(opened(Spool(tmp_path / "spool")))

    assert store.place == str(tmp_path / "spool")
    with pytest.raises(StorageError, match="is in use by process"):
        opened(Spool(tmp_path / "spool"))
