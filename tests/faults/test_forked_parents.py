"""A process that forks in the middle of its deliveries: a child that ends takes nothing away from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.certificates import Authority
from support.consumers import RecordingConsumer
from support.faults import report, times
from support.ledger import Ledger
from support.processes import run_program

CHILDREN = times(4, 50)

FORKS = """
    import multiprocessing, os, sys

    def fork(number, end):
        if end == "multiprocessing":
            process = multiprocessing.get_context("fork").Process(target=sys.exit, args=(0,))
            process.start()
            process.join()
            assert process.exitcode == 0, process.exitcode
            return
        pid = os.fork()
        if not pid:
            if end == "os._exit":
                os._exit(0)
            sys.exit(0)
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
"""

ENDS = pytest.mark.parametrize("end", ["sys.exit", "os._exit", "multiprocessing"])


@ENDS
def test_parent_with_a_pool_for_threads(end: str) -> None:
    """Each child in the middle of messages under way: the parent's connection stays, and all arrives once."""
    ledger = Ledger()
    program = (
        FORKS
        + """
    from producer_pool import DeliveryPolicy, ProducerPool

    url, end, children, *messages = sys.argv[1:]
    each = len(messages) // int(children)
    with ProducerPool(policy=DeliveryPolicy.relay()) as pool:
        pool.add_producer("a", url)
        for number in range(int(children)):
            for message in messages[number * each : (number + 1) * each]:
                pool.submit(message)
            fork(number, end)
        assert pool.drain(wait=10)
        assert pool.stats().producers["a"].connects == 1
    """
    )
    with RecordingConsumer() as consumer:
        messages = ledger.write_many(20 * CHILDREN)
        run_program(program, consumer.url, end, CHILDREN, *(message.decode() for message in messages))

        assert ledger.judge(consumer.wait_for(len(messages))).exact


ASYNC = (
    FORKS
    + """
    import asyncio, logging
    from producer_pool import AsyncProducerPool, ClientFactory, DeliveryPolicy, bind_transport_async

    listen, to, end, children, *messages = sys.argv[1:]
    logging.basicConfig(format="%(message)s")

    async def main():
        each = len(messages) // int(children)
        came = []

        async def note(message):
            came.append(message.decode())

        async with AsyncProducerPool(policy=DeliveryPolicy.relay()) as inner, AsyncProducerPool() as outer:
            async with await bind_transport_async(listen, inner, on_message=note) as server:
                address, _, ours = str(server.endpoint.raw).partition("?")
                await outer.add_producer("here", address + to, policy=DeliveryPolicy.relay())
                await inner.add_producer("there", os.environ["THERE"])
                for number in range(int(children)):
                    for message in messages[number * each : (number + 1) * each]:
                        outer.submit_nowait(message)
                    for _ in range(number % 7):  # Each time somewhere else.
                        await asyncio.sleep(0)
                    fork(number, end)
                assert await outer.drain(wait=10)
                async with asyncio.timeout(10):
                    while len(came) < len(messages):
                        await asyncio.sleep(0.001)
                assert await inner.drain(wait=10)
                assert came == messages, (len(came), len(messages))
                for pool in (inner, outer):
                    for counted in (await pool.stats()).producers.values():
                        assert (counted.connects, counted.breaks) == (1, 0), counted
                assert server.stats.accepted == 1, server.stats

    asyncio.run(main())
"""
)

LISTENERS = {
    "tcp": ("tcp://127.0.0.1:0", ""),
    "tcp+tls": ("tcp+tls://127.0.0.1:0?{identity}", "?tls-ca={ca}"),
    "unix": ("unix://{tmp}/in.sock", ""),
    "ws": ("ws://127.0.0.1:0", ""),
    "wss": ("wss://127.0.0.1:0?{identity}", "?tls-ca={ca}"),
}


@pytest.mark.parametrize(
    "scheme, end",
    [*((scheme, "sys.exit") for scheme in LISTENERS), ("tcp", "os._exit"), ("tcp", "multiprocessing")],
)
def test_parent_on_its_own_loop(
    scheme: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that ends inside of a coroutine closes no connection, and takes none out of the epoll."""
    ledger = Ledger()
    authority = Authority(tmp_path)
    words = {"identity": authority.issue().query, "ca": authority.file, "tmp": tmp_path}
    listen, to = (text.format(**words) for text in LISTENERS[scheme])
    with RecordingConsumer() as consumer:
        messages = ledger.write_many(20 * CHILDREN)
        monkeypatch.setenv("THERE", consumer.url)
        run_program(ASYNC, listen, to, end, CHILDREN, *(message.decode() for message in messages))

        assert ledger.judge(consumer.wait_for(len(messages))).exact
    report(f"fork, {end}: {scheme}", children=CHILDREN, lost=0, doubled=0)


def test_control_of_the_loop() -> None:
    """What asyncio itself does: a child that ends takes sockets out of the epoll that both have."""
    program = (
        FORKS
        + """
    import asyncio, socket

    async def main():
        here, there = socket.socketpair()
        here.setblocking(False)
        reading = asyncio.create_task(asyncio.get_running_loop().sock_recv(here, 100))
        await asyncio.sleep(0)
        fork(0, sys.argv[1])
        there.send(b"hello")
        for _ in range(100):  # It is there already; the loop looks each time.
            await asyncio.sleep(0)
        print("deaf" if not reading.done() else reading.result())
        os._exit(0)

    sys.stdout.reconfigure(line_buffering=True)
    asyncio.run(main())
    """
    )

    assert run_program(program, "sys.exit").stdout.strip() == "deaf"
    assert run_program(program, "os._exit").stdout.strip() == "b'hello'"
