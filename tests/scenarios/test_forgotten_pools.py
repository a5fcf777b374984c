"""Pools that nobody closes: the program ends, or forgets them, or their loop is gone."""

import textwrap
import threading
from collections.abc import Iterator

import pytest

from producer_pool import ProducerPool
from support.consumers import RecordingConsumer
from support.ledger import Ledger
from support.processes import run_program
from support.waiting import eventually


@pytest.fixture
def consumer() -> Iterator[RecordingConsumer]:
    with RecordingConsumer() as consumer:
        yield consumer


def test_program_forgets_to_close(consumer: RecordingConsumer) -> None:
    """All that it submitted is delivered, and it ends by itself, in silence."""
    program = """
        import sys
        from producer_pool import ProducerPool

        pool = ProducerPool()
        pool.add_producer("a", f"tcp://127.0.0.1:{sys.argv[1]}")
        for number in range(300):
            pool.submit(b"%d " % number + b"x" * 100_000)
    """
    ended = run_program(program, consumer.port)
    record = consumer.wait_for(300)

    assert [message.split()[0] for message in record] == [b"%d" % number for number in range(300)]
    assert ended.stderr == ""


def test_program_forgets_to_close_with_a_stuck_consumer(consumer: RecordingConsumer) -> None:
    """It ends within the bounded drain, says what was not delivered, and the other consumer has it all."""
    program = """
        import logging, sys, time
        from producer_pool import Limits, ProducerPool

        logging.basicConfig(level="INFO", format="%(message)s")
        pool = ProducerPool(limits=Limits(drain=0.5))
        pool.add_producer("well", f"tcp://127.0.0.1:{sys.argv[1]}")
        pool.add_producer("stuck", f"tcp://127.0.0.1:{sys.argv[2]}", timeout=600)
        for number in range(100):
            pool.submit(b"%d " % number + b"x" * 100_000)
        while pool.stats().producers["well"].pending:  # However slow this machine is.
            time.sleep(0.01)
    """
    with RecordingConsumer(reads=False) as stuck:
        ended = run_program(program, consumer.port, stuck.port)

        assert len(consumer.wait_for(100)) == 100
        assert "messages were not delivered before it was closed" in ended.stderr
        assert "stuck: " in ended.stderr
        assert "well: " not in ended.stderr.replace("well: up", "")


def test_pool_is_forgotten_while_the_program_goes_on(consumer: RecordingConsumer) -> None:
    """It delivers what it has, then closes its connections; its thread ends."""
    ledger = Ledger()

    def forget() -> set[threading.Thread]:
        before = set(threading.enumerate())
        pool = ProducerPool()
        pool.add_producer("a", consumer.url)
        for message in ledger.write_many(1000):
            pool.submit(message)
        return set(threading.enumerate()) - before

    (thread,) = forget()
    eventually(lambda: not thread.is_alive(), "the pool's thread ends")

    assert ledger.judge(consumer.wait_for(1000)).exact
    eventually(lambda: consumer.streams[0].ending, "the connection ends")
    assert consumer.streams[0].ending == "clean"


@pytest.mark.parametrize(
    "meanwhile",
    [
        "",
        "asyncio.run(collect())",
        # As who collects them does, in whatever order.
        "[task.get_coro().close() for task in asyncio.all_tasks(loop)]",
    ],
    ids=["at the end", "beside another loop", "one by one"],
)
def test_pool_is_forgotten_with_its_loop(consumer: RecordingConsumer, meanwhile: str) -> None:
    """The loop is closed, and the pool not: asyncio says so, and we nothing. The program ends."""
    program = """
        import asyncio, gc, sys
        from producer_pool import AsyncProducerPool, DeliveryPolicy

        gc.disable()

        async def forget():
            pool = AsyncProducerPool(policy=DeliveryPolicy.relay())
            await pool.add_producer("a", f"tcp://127.0.0.1:{sys.argv[1]}")
            await pool.add_producer("nobody", "tcp://127.0.0.1:1")
            assert (await pool.forward_to("a", "hello")).ok
            return pool

        async def collect():
            gc.collect()

        loop = asyncio.new_event_loop()
        pool = loop.run_until_complete(forget())
        loop.close()
        del pool
    """
    ended = run_program(textwrap.dedent(program) + meanwhile, consumer.port)

    assert consumer.wait_for(1) == [b"hello"]
    assert "Task was destroyed but it is pending!" in ended.stderr
    assert "unexpected" not in ended.stderr
    assert "aclose()" not in ended.stderr


@pytest.mark.parametrize("meanwhile", ["", "asyncio.run(collect())"])
def test_work_is_thrown_away_with_its_loop(consumer: RecordingConsumer, meanwhile: str) -> None:
    """A block that holds the pool, and a callback that waits: none of it does or says anything any more."""
    program = """
        import asyncio, gc, socket, sys
        from producer_pool import AsyncProducerPool, DeliveryPolicy, bind_transport_async

        async def wait(message):
            called.set()
            await asyncio.Event().wait()

        async def work():
            async with AsyncProducerPool(policy=DeliveryPolicy.relay()) as pool:
                await pool.add_producer("a", f"tcp://127.0.0.1:{sys.argv[1]}")
                server = await bind_transport_async("tcp://127.0.0.1:0", pool, on_message=wait)
                with socket.create_connection(("127.0.0.1", server.endpoint.port)) as line:
                    line.sendall(b"hello\\n")
                await called.wait()
                await pool.drain()
                loop.stop()
                await asyncio.Event().wait()

        async def collect():
            gc.collect()

        called = asyncio.Event()
        loop = asyncio.new_event_loop()
        task = loop.create_task(work())
        loop.run_forever()
        loop.close()
        del task
    """
    ended = run_program(textwrap.dedent(program) + meanwhile, consumer.port)

    assert consumer.wait_for(1) == [b"hello"]
    for words in ("on_message", "Exception ignored", "never awaited", "Traceback"):
        assert words not in ended.stderr.replace("name='on_message'", "")
