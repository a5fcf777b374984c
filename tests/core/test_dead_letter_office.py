"""Pools whose producers keep what they give up: in folders, or at a consumer for that."""

import asyncio
import json
import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from producer_pool import AsyncProducerPool, DeliveryPolicy, ProducerPool
from producer_pool.builtin.memory import MemoryClient
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConfigurationError, ConnectError, Rejected, StorageError
from producer_pool.model.policies import Limits, Overflow
from support.fake_clients import FakeClient
from support.letters import lines_in, messages_in
from support.patience import end_patiently
from support.processes import run_program
from support.streams import until
from support.waiting import BOUND

DIRECT = DeliveryPolicy.direct()

patiently = pytest.mark.usefixtures("patient")
"""For tests of what is written or sent at the end, for which a pool has less than a second."""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    end_patiently(monkeypatch)


def refusing(*messages: bytes) -> FakeClient:
    """Return a client whose consumer never takes these."""

    class Refusing(FakeClient):
        async def send(self, message: bytes) -> None:
            if message in messages:
                raise Rejected("refused: not today")
            await super().send(message)

    return Refusing()


def unreachable() -> FakeClient:
    client = FakeClient()
    client.unreachable = ConnectError("fake: refused")
    return client


def documents(name: str) -> list[dict[str, Any]]:
    return [json.loads(message) for message in MemoryClient.named(name).messages]


@patiently
async def test_into_a_folder(tmp_path: Path) -> None:
    """The policy alone is enough, what was delivered is not there, and the counters say what is."""
    policy = replace(DIRECT, dead_letters=str(tmp_path / "letters"))
    async with AsyncProducerPool(policy=policy) as pool:
        await pool.add_producer("audit", refusing(b"2"))
        await pool.add_producer("billing", FakeClient())
        results = [await pool.forward_to_all(b"%d" % number) for number in range(4)]
    stats = (await pool.stats()).producers

    assert [result["audit"].dead_lettered for result in results] == [False, False, True, False]
    assert messages_in(tmp_path / "letters") == [b"2"]
    assert (stats["audit"].dead_lettered, stats["audit"].dead_letters_lost) == (1, 0)
    assert stats["billing"].dead_lettered == 0


@patiently
def test_into_a_folder_from_threads(tmp_path: Path) -> None:
    """The same for the pool for threads, whose producers share the folder, and write to the end of it."""
    policy = replace(DIRECT, dead_letters=f"{tmp_path}/letters/")
    with ProducerPool(policy=policy) as pool:
        pool.add_producer("audit", unreachable())
        pool.add_producer(
            "billing", unreachable(), policy=replace(DIRECT, dead_letters=f"{tmp_path}/letters")
        )
        result = pool.forward_to("audit", b"waited for")
        for number in range(500):
            pool.submit(b"%d" % number)
    letters = lines_in(tmp_path / "letters")

    assert result.dead_lettered
    assert sum(one.count for one in letters if one.producer_id == "audit") == 501
    assert sum(one.count for one in letters if one.producer_id == "billing") == 500
    assert {one.reason for one in letters} == {"ConnectError"}
    assert [each.dead_lettered for each in pool.stats().producers.values()] == [501, 500]


def test_without_dead_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is opened, kept or looked at for them."""
    monkeypatch.chdir(tmp_path)
    before = set(threading.enumerate())
    with ProducerPool() as pool:
        pool.add_producer("audit", unreachable())

        assert not pool.forward_to("audit", b"x").dead_lettered
        assert "dead-letters" not in {thread.name for thread in set(threading.enumerate()) - before}

    assert list(tmp_path.iterdir()) == []


@patiently
async def test_what_a_full_buffer_drops(tmp_path: Path) -> None:
    """An overflow is told with its reason, and says in which order messages gave way."""
    policy = DeliveryPolicy(
        buffer=2000, overflow=Overflow.DROP_OLDEST, deadline=60, dead_letters=str(tmp_path)
    )
    async with AsyncProducerPool(policy=policy) as pool:
        await pool.add_producer("audit", unreachable())
        for number in range(10):
            await pool.submit(b"%d" % number)
            await asyncio.sleep(0)
        await pool.aclose(drain=0)

    assert messages_in(tmp_path) == [b"%d" % number for number in range(7)]
    assert {(one.outcome.value, one.reason) for one in lines_in(tmp_path)} == {("dropped", "Full")}


async def test_what_is_cancelled(tmp_path: Path) -> None:
    """Nobody gave it up: it was the pool that was closed."""
    policy = replace(DeliveryPolicy.relay(), dead_letters=str(tmp_path))
    async with AsyncProducerPool(policy=policy) as pool:
        await pool.add_producer("audit", unreachable())
        await pool.submit(b"x")
        await pool.aclose(drain=0)

    assert messages_in(tmp_path) == []


@patiently
async def test_to_a_consumer() -> None:
    """It gets one JSON object for each message, and no other trace of it is in the pool."""
    MemoryClient.named("letters").clear()
    policy = replace(DIRECT, dead_letters="memory:letters")
    async with AsyncProducerPool(policy=policy) as pool:
        await pool.add_producer("audit", refusing(b"\xff"))
        results = await pool.forward_to_all(b"\xff")

        assert list(results) == ["audit"] == list(pool.producers) == list(await pool.health())
        await until(lambda: documents("letters"))

    (found,) = documents("letters")
    assert {"accepted", "given_up"} <= found.keys()
    assert found["accepted"] <= found["given_up"]
    del found["accepted"], found["given_up"]
    assert found == {
        "dead_letter": 1,
        "producer": "audit",
        "role": "required",
        "outcome": "failed",
        "reason": "Rejected",
        "error": "refused: not today",
        "attempts": 1,
        "origin": None,
        "encoding": "base64",
        "message": "/w==",
    }
    assert (await pool.stats()).producers["audit"].dead_lettered == 1


@patiently
def test_to_a_consumer_from_threads() -> None:
    """What is on its way when the pool closes still arrives, in order."""
    MemoryClient.named("letters").clear()
    with ProducerPool(policy=replace(DIRECT, dead_letters="memory:letters")) as pool:
        pool.add_producer("audit", unreachable())
        for number in range(300):
            pool.submit(b"%d" % number)

    assert [one["message"] for one in documents("letters")] == [str(number) for number in range(300)]
    assert pool.stats().producers["audit"].dead_lettered == 300


async def test_consumer_of_dead_letters_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged and counted; no dead letter becomes of a dead letter, and the end does not wait for it."""
    caplog.set_level(logging.WARNING)
    policy = replace(DIRECT, dead_letters="tcp://127.0.0.1:1")
    down = "dead-letters: down: tcp://127.0.0.1:1: connection refused"
    async with AsyncProducerPool(policy=policy, limits=Limits(drain=3600)) as pool:
        await pool.add_producer("audit", refusing(b"x"))
        results = await pool.forward_to_all(b"x")

        assert results["audit"].dead_lettered

        await until(lambda: down in caplog.text, "it is logged")
        async with asyncio.timeout(BOUND):
            await pool.aclose()

    stats = (await pool.stats()).producers["audit"]
    assert (stats.dead_lettered, stats.dead_letters_lost) == (0, 1)


async def test_dead_letters_of_dead_letters() -> None:
    """Nobody can ask for them."""
    policy = replace(DIRECT, dead_letters="memory:letters?dead-letters=elsewhere")
    async with AsyncProducerPool(policy=policy) as pool:
        with pytest.raises(ConfigurationError, match="dead letters that are given up are not kept"):
            await pool.add_producer("audit", FakeClient())

        assert pool.producers == ()


async def test_place_that_cannot_be_used(tmp_path: Path) -> None:
    """The producer is not added, and its id is free."""
    (tmp_path / "file").touch()
    async with AsyncProducerPool(policy=replace(DIRECT, dead_letters=str(tmp_path / "file"))) as pool:
        with pytest.raises(StorageError, match="is no folder"):
            await pool.add_producer("audit", FakeClient())
        await pool.add_producer("audit", FakeClient(), policy=DIRECT)

        assert (await pool.forward_to_all(b"x")).ok


@pytest.mark.parametrize("place", ["folder", "consumer"])
async def test_sender_upstream(tmp_path: Path, place: str) -> None:
    """What a required producer gave up counts as delivered for who sent it, once it is kept."""
    where = str(tmp_path) if place == "folder" else "memory:upstream"
    async with AsyncProducerPool(policy=replace(DIRECT, dead_letters=where)) as pool:
        await pool.add_producer("audit", refusing(b"b"))
        receipt = pool.intake.accept(Batch.of([b"a", b"b"]))
        done = asyncio.Event()
        receipt.when_done(done.set)
        async with asyncio.timeout(20):
            await done.wait()

        assert receipt.delivered
        assert (await pool.stats()).producers["audit"].dead_lettered == 1


async def test_sender_upstream_of_dead_letters_that_are_lost() -> None:
    """It is told that not all was delivered, and may send it again."""
    async with AsyncProducerPool(
        policy=replace(DIRECT, dead_letters="tcp://127.0.0.1:1?deadline=50ms")
    ) as pool:
        await pool.add_producer("audit", refusing(b"b"))
        receipt = pool.intake.accept(Batch.of([b"a", b"b"]))
        done = asyncio.Event()
        receipt.when_done(done.set)
        async with asyncio.timeout(20):
            await done.wait()

        assert not receipt.delivered


@patiently
async def test_secrets(tmp_path: Path) -> None:
    """No password of a URL is in the error of a dead letter, nor anywhere else in its file."""
    policy = replace(DIRECT, dead_letters=str(tmp_path))
    async with AsyncProducerPool(policy=policy) as pool:
        await pool.add_producer("billing", "ws://user:marker-s3cret@127.0.0.1:1/?timeout=2s")
        await pool.forward_to_all(b"x")

    assert len(messages_in(tmp_path)) == 1
    for path in tmp_path.iterdir():
        assert b"marker-s3cret" not in path.read_bytes()


async def test_secrets_of_where_they_go(caplog: pytest.LogCaptureFixture) -> None:
    """The password of the consumer of dead letters is in no log line, and in no text of the policy."""
    caplog.set_level(logging.DEBUG)
    policy = replace(DIRECT, dead_letters="ws://user:marker-s3cret@127.0.0.1:1/?timeout=1s&deadline=50ms")
    async with AsyncProducerPool(policy=policy) as pool:
        await pool.add_producer("audit", refusing(b"x"))
        await pool.forward_to_all(b"x")

        assert "marker-s3cret" not in f"{policy!r} {policy} {await pool.health()}"

        await until(lambda: "dead-letters: down: ws://" in caplog.text, "the consumer is away")

    assert "marker-s3cret" not in caplog.text


FORKS = """
    import os, sys, time
    from producer_pool import Client, DeliveryPolicy, ConnectError, ProducerPool

    class Away(Client):
        protocol_name = address = "away"

        async def connect(self):
            raise ConnectError("away: nobody there")

        async def send(self, message):
            raise AssertionError

    with ProducerPool(policy=DeliveryPolicy(deadline=0.001, dead_letters=sys.argv[1])) as pool:
        pool.add_producer("audit", Away())
        for number in range(15):
            for _ in range(100):
                pool.submit(b"%d" % number)
            child = os.fork()
            if not child:
                del pool
                sys.exit(0)  # All that is left of the pool is freed here.
            assert os.waitpid(child, 0)[1] == 0
        while True:
            stats = pool.stats().producers["audit"]
            if stats.dead_lettered + stats.dead_letters_lost == 1500:
                break
            time.sleep(0.01)
    print(stats.dead_lettered, stats.dead_letters_lost)
"""


def test_forked_children(tmp_path: Path) -> None:
    """A child that ends, and frees all that it has, undoes nothing of what its parent writes."""
    ended = run_program(FORKS, tmp_path)

    assert ended.stdout == "1500 0\n"
    assert len(messages_in(tmp_path)) == 1500
