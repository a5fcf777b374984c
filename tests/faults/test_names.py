"""Host names whose address moves, that hang, and that nobody knows: nobody else waits for them."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from producer_pool import ConnectError, DeliveryPolicy, Limits, Outcome, ProducerPool
from support.consumers import RecordingConsumer, reserved_port
from support.faults import needs_mounts, needs_namespaces, report, times
from support.ledger import Ledger
from support.names import HANGS, IN_NAMESPACE, NOTHING, Names, NameServer, PatchedNames, in_namespace
from support.waiting import BOUND, eventually

INSIDE = os.environ.get(IN_NAMESPACE) == "1"
MOVES = times(3, 20)
HANGING = 20
THREADS = 5
"""What asyncio looks up names with on a machine with one processor; each more is one more."""

QUICK = "retry-backoff=10ms&retry-max-backoff=20ms"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """Names that answer what a test says: in the namespace from a name server, else in this process."""
    with NameServer() if INSIDE else PatchedNames(monkeypatch.setattr) as names:
        yield names


@pytest.fixture
def pool() -> Iterator[ProducerPool]:
    with ProducerPool(policy=DeliveryPolicy.relay(), limits=Limits(drain=0.5)) as pool:
        yield pool


def test_name_moves(names: Names, pool: ProducerPool) -> None:
    """Each time that its consumer ends, the next connection goes to where the name leads by then."""
    ledger = Ledger()
    with ExitStack() as stack:
        holder = stack.enter_context(reserved_port())
        port = holder.getsockname()[1]
        places = [f"127.0.1.{number + 1}" for number in range(MOVES + 1)]
        consumers = [
            stack.enter_context(RecordingConsumer(host=host, port=port, listens=False)) for host in places
        ]
        consumers[0].come_back()
        names.answers["moves.test"] = places[0]
        pool.add_producer("moves", f"tcp://moves.test:{port}?{QUICK}")
        expected: list[list[bytes]] = []
        for number, consumer in enumerate(consumers):
            expected.append(ledger.write_many(20))
            assert all(pool.submit(message).results(wait=BOUND).ok for message in expected[-1])
            consumer.wait_for(20)
            if consumer is not consumers[-1]:
                consumers[number + 1].come_back()
                names.answers["moves.test"] = places[number + 1]
                consumer.go_away()
        counted = pool.stats().producers["moves"]
        report("names move", moves=MOVES, connects=counted.connects, breaks=counted.breaks)

        for consumer, messages in zip(consumers, expected, strict=True):
            assert ledger.judge(consumer.messages, messages).exact
        # One connection for each place, and none that was tried in vain.
        assert (counted.connects, counted.breaks) == (MOVES + 1, MOVES)


def test_names_hang(names: Names, pool: ProducerPool) -> None:
    """The consumer whose name answers is connected, served and lost and found again all the same."""
    ledger = Ledger()
    with RecordingConsumer() as consumer:
        names.answers["answers.test"] = "127.0.0.1"
        for number in range(HANGING):
            names.answers[f"hangs{number}.test"] = HANGS
            pool.add_producer(f"hangs{number}", f"tcp://hangs{number}.test:9?timeout=300ms&{QUICK}")
        hanging = set(names.answers) - {"answers.test"}
        eventually(lambda: hanging <= set(names.asked), "all that hang are asked for")
        pool.add_producer("answers", f"tcp://answers.test:{consumer.port}?{QUICK}")
        longest = 0.0
        for _ in range(5):
            began = time.monotonic()
            for message in ledger.write_many(20):
                assert pool.submit(message, to="answers").results(wait=BOUND).ok
            longest = max(longest, time.monotonic() - began)
            consumer.wait_for(len(ledger.sent))
            consumer.end_connections()
        one = pool.submit("one", to="hangs0")
        health = eventually(
            lambda: (now := pool.health()["hangs0"]).last_error and now, "a lookup that takes too long"
        )
        began = time.monotonic()
        pool.close()
        closing = time.monotonic() - began

        report("names hang", hanging=HANGING, longest_s=longest, closing_s=closing)
        assert ledger.judge(consumer.messages).exact
        assert one.results(wait=0)["hangs0"].outcome is Outcome.CANCELLED
        assert health
        assert re.search(
            r"cannot look up hangs0\.test: no answer within|took longer than", str(health.last_error)
        )
        assert closing < BOUND / 2


def test_name_answers_nothing(names: Names, pool: ProducerPool) -> None:
    """The error says which name it is; what waits is delivered as soon as somebody knows it."""
    ledger = Ledger()
    with RecordingConsumer() as consumer:
        names.answers["unknown.test"] = NOTHING
        pool.add_producer("unknown", f"tcp://unknown.test:{consumer.port}?{QUICK}")
        receipts = [pool.submit(message) for message in ledger.write_many(20)]
        health = eventually(lambda: (now := pool.health()["unknown"]).last_error and now, "an error")
        assert health
        names.answers["unknown.test"] = "127.0.0.1"

        assert isinstance(health.last_error, ConnectError)
        assert "cannot look up unknown.test: " in str(health.last_error)
        assert all(receipt.results(wait=BOUND).ok for receipt in receipts)
        assert ledger.judge(consumer.wait_for(20)).exact


# -- controls --------------------------------------------------------------------------------------


class ResolvesOnce:
    """A sender that looks up its consumer when it is made, and connects to that address ever after."""

    def __init__(self, name: str, port: int) -> None:
        self._address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0][4]

    def send(self, message: bytes) -> bool:
        try:
            with socket.socket() as sock:
                sock.connect(self._address)
                sock.sendall(message + b"\n")
        except OSError:
            return False
        return True


def test_control_of_the_move(names: Names) -> None:
    """A naive sender goes on trying where nobody is any more."""
    with reserved_port() as holder:
        port = holder.getsockname()[1]
        with (
            RecordingConsumer(host="127.0.1.1", port=port) as before,
            RecordingConsumer(host="127.0.1.2", port=port) as after,
        ):
            names.answers["moves.test"] = "127.0.1.1"
            sender = ResolvesOnce("moves.test", port)
            assert sender.send(b"one")
            before.wait_for(1)
            names.answers["moves.test"] = "127.0.1.2"
            before.go_away()

            assert not any(sender.send(b"two") for _ in range(10))
            assert after.messages == []


async def test_control_of_the_hanging_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """On asyncio's own threads, the names that hang keep the one waiting that would answer."""
    loop = asyncio.get_running_loop()
    with PatchedNames(monkeypatch.setattr) as names, ThreadPoolExecutor(THREADS) as threads:
        loop.set_default_executor(threads)
        names.answers = {f"hangs{number}.test": HANGS for number in range(HANGING)}
        names.answers["answers.test"] = "127.0.0.1"
        hanging = [
            asyncio.ensure_future(loop.getaddrinfo(name, 9))
            for name in names.answers
            if name != "answers.test"
        ]
        while len(names.asked) < THREADS:
            await asyncio.sleep(0.001)
        answer = asyncio.ensure_future(loop.getaddrinfo("answers.test", 9))
        await asyncio.wait([answer], timeout=0.5)
        answered = answer.done()
        names.close()
        await asyncio.gather(answer, *hanging, return_exceptions=True)

        assert not answered


# -- again, with a real name server ------------------------------------------------------------------


def test_all_of_this_with_a_name_server(tmp_path: Path) -> None:
    """The stories hold for the system's own resolver, with a server that moves, hangs and answers nothing."""
    needs_namespaces()
    needs_mounts()
    options = (
        "-q",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
        "-k",
        "not with_a_name_server and not control",
    )
    ended = in_namespace(tmp_path, sys.executable, "-m", "pytest", *options, __file__)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "3 passed" in ended.stdout
