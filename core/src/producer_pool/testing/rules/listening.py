"""How a listener begins, waits, counts and ends; and that no connection is another one's trouble."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import Final

from producer_pool.contract.ports import Client
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError, DeliveryError, ListenError
from producer_pool.model.stats import ListenerStats
from producer_pool.testing.consumers import ListenerConsumer
from producer_pool.testing.leftovers import COUNTED, CYCLES, descriptors, require_back
from producer_pool.testing.messages import numbered, shown
from producer_pool.testing.patience import bounded
from producer_pool.testing.rule import CLIENT, LISTENER, RuleBroken, not_applicable, require, rule
from producer_pool.testing.trial import Trial
from producer_pool.toolkit.sockets.tcp import reset

__all__ = [
    "listener_closes_its_connections",
    "listener_closes_twice",
    "listener_counts",
    "listener_drains_what_has_arrived",
    "listener_feeds_on_its_loop",
    "listener_frees_its_address",
    "listener_keeps_its_limit",
    "listener_leaves_nothing",
    "listener_outlives_strangers",
    "listener_reads_nothing_while_paused",
    "listener_stays_where_it_was_told",
    "listener_stops_accepting_alone",
    "listener_tells_its_address",
    "taken_address_is_a_listen_error",
]

_MOMENT: Final = 0.05
"""Seconds in which what must not happen would have happened. Should that take longer, less is asked."""
_TOO_LONG: Final = 64 * 1024
"""Bytes of a message for a listener that was told to take 1 KiB."""


@rule(LISTENER)
async def listener_closes_twice(trial: Trial) -> None:
    """
    A listener can be closed before it was started, and twice after that.

    A server that cannot start one of its listeners closes all of them, and may be closed itself then.
    """
    never = trial.listener(trial.place)
    async with trial.patience("aclose() of a listener returns"):
        await never.aclose()
        listener = (await trial.listening()).listener
        await listener.aclose()
        try:
            await listener.aclose()
        except Exception as error:
            require(False, f"the second aclose() raised {type(error).__name__}: {error}")


@rule(LISTENER)
async def listener_tells_its_address(trial: Trial) -> None:
    """
    start() returns where the listener really is, so that a client reaches it there.

    Whoever asked for port 0 has no other way to know.
    """
    consumer = await trial.listening()
    require(not consumer.url.endswith(":0"), f"start() returned {consumer.url}, where nobody can connect")
    if trial.subject.transport.client is not None:
        await trial.reached(consumer, numbered(1)[0])


@rule(LISTENER)
async def listener_stays_where_it_was_told(trial: Trial) -> None:
    """
    A listener at an address of this machine alone cannot be reached at another one.

    Whoever writes 127.0.0.1 wants no other machine to connect. To bind a port at all addresses, which is
    what an empty host means to many libraries, opens it to the network.
    """
    consumer = await trial.listening()
    try:
        endpoint = Endpoint.parse(consumer.url)
        port = endpoint.port
    except ConfigurationError:
        not_applicable("has no ports")
    if endpoint.host not in ("127.0.0.1", "localhost") or sys.platform != "linux":
        not_applicable(f"is at {endpoint.host}, beside which this platform has no other address")
    taken = all(not _is_free(f"127.0.0.{number}", port) for number in range(2, 5))
    require(not taken, f"it listens at {endpoint.host}, as it says, and at all other addresses, too")


@rule(LISTENER)
async def listener_frees_its_address(trial: Trial) -> None:
    """
    Where a listener was closed, the next one can be started at once.

    A daemon that is restarted listens where the old one did, and its consumers look for it there. A
    connection that was open then keeps a port of TCP busy for a minute, unless the next socket has
    ``SO_REUSEADDR`` when it is bound.
    """
    consumer = await trial.listening()
    for turn in range(2):
        if trial.subject.transport.client is not None:
            await trial.reached(consumer, numbered(1, start=turn)[0])
        await consumer.crash()
        try:
            await consumer.start()
        except ListenError as error:
            require(False, f"the address could not be listened at again: {type(error).__name__}: {error}")


@rule(LISTENER)
async def taken_address_is_a_listen_error(trial: Trial) -> None:
    """
    Where somebody listens already, start() raises a ListenError, and disturbs nobody.

    Its text tells an operator what to do; with anything else, the daemon ends in a traceback. What
    start() had opened is closed, and what belongs to the other one, such as a file, stays. Where several
    can listen at one address, start() may return, too.
    """
    consumer = await trial.listening()
    before = 0
    for turn in range(3):
        other = trial.listener(consumer.url)
        async with trial.patience("start() where another listens, and aclose(), return"):
            try:
                await other.start(trial.pool().intake)
            except ListenError:
                pass
            except Exception as error:
                raise RuleBroken(
                    f"start() where another listens raised {type(error).__name__}: {error}, and not a "
                    "ListenError"
                ) from error
            await other.aclose()
        before = before or descriptors()
        if trial.subject.transport.client is not None:
            client = await trial.reached(consumer, numbered(1, start=turn)[0])
            await client.aclose()
    await require_back(trial, before, descriptors, "file descriptors", "start() where another listens")


@rule(CLIENT, LISTENER)
async def listener_leaves_nothing(trial: Trial) -> None:
    """
    A listener that was closed leaves no file descriptor, task or thread behind, though it had connections.

    aclose() ends the connections, too, and whatever was made for them or for listening.
    """
    consumer = await trial.listening()
    await consumer.crash()
    before: dict[str, int] = {}
    for number, message in enumerate(numbered(CYCLES + 2)):
        async with trial.patience("a listener is started, reached, and closed, many times"):
            await consumer.start()
            client = await trial.reached(consumer, message)
            # Both at once: some protocols have words to part with, and wait for an answer.
            await asyncio.gather(consumer.crash(), client.aclose())
        if number == 1:  # What is made once and kept, such as a buffer, is no leak.
            before = {what: count() for what, count in COUNTED.items()}
    for what, count in COUNTED.items():
        await require_back(trial, before[what], count, what, f"{CYCLES} listeners were closed")


@rule(CLIENT, LISTENER)
async def listener_closes_its_connections(trial: Trial) -> None:
    """
    aclose() of a listener returns though a client stays, and nothing is passed on after it.

    Clients stay for days: who waits for them to go never ends. Closing what listens is not enough, for
    the connections would go on. So close them, one and all.
    """
    consumer = await trial.listening()
    client = await trial.reached(consumer, numbered(1)[0])
    stats = consumer.listener.stats
    await consumer.crash()
    with contextlib.suppress(DeliveryError):
        async with trial.patience("send() to a listener that was closed ends"):
            for message in numbered(5, start=1):
                await client.send(message)
                await asyncio.sleep(0)
    await trial.steady(lambda: len(consumer.received), _MOMENT)
    late = len(consumer.received) - 1
    require(not late, f"{late} messages were passed on after aclose() had returned")
    await trial.until(lambda: not stats.connections, "stats.connections is 0 after aclose()")


@rule(CLIENT, LISTENER)
async def listener_drains_what_has_arrived(trial: Trial) -> None:
    """
    drain() passes on what has arrived already, and returns.

    An orderly end is stop_accepting(), drain(), aclose(). Senders know what was taken from them: what
    lies in a buffer of the kernel or of the listener then must not be lost. More may come for ever, from
    clients that stay: that is not waited for.
    """
    messages = numbered(21)
    # What was sent may need a moment to arrive, on a busy machine. So one time in three is enough.
    for last in (False, False, True):
        consumer = await trial.listening()
        client = await trial.reached(consumer, messages[0])
        async with trial.patience("messages are sent, and drain() returns though their client stays"):
            for message in messages[1:]:
                await client.send(message)
            await consumer.listener.stop_accepting()
            await consumer.listener.drain()
            arrived = len(consumer.received)
            await asyncio.gather(consumer.listener.aclose(), client.aclose())
        if arrived == len(messages) or last:
            await trial.arrives(consumer, messages)
            return


@rule(CLIENT, LISTENER)
async def listener_stops_accepting_alone(trial: Trial) -> None:
    """
    After stop_accepting(), nobody new is heard, and the connections that are open go on.

    Their senders are in the middle of something. drain() and aclose() end them, in their time. Who comes
    now looks for the next daemon.
    """
    consumer = await trial.listening()
    before, newcomers, after = numbered(3)
    client = await trial.reached(consumer, before)
    await trial.within("stop_accepting() returns", consumer.listener.stop_accepting())
    if consumer.connections:  # Where there are none, nobody is new.
        newcomer = trial.client(consumer)
        with contextlib.suppress(DeliveryError, TimeoutError):
            async with bounded(4 * _MOMENT):
                await trial.reach(newcomer)
                await newcomer.send(newcomers)
        await trial.steady(lambda: len(consumer.received), _MOMENT)
        heard = newcomers in consumer.received
        require(not heard, "a connection that was made after stop_accepting() was served")
    with contextlib.suppress(DeliveryError):
        await trial.within("a message is sent after stop_accepting()", client.send(after))
    await trial.arrives(consumer, [before, after])


@rule(CLIENT, LISTENER)
async def listener_reads_nothing_while_paused(trial: Trial) -> None:
    """
    While its intake is paused, a listener passes nothing on, also from connections that are new.

    Look at ``intake.paused`` before each read, and wait for ``resumed()``: so the senders have to wait,
    and not the program's memory. Datagrams cannot wait: they are dropped, and counted in
    ``stats.dropped``.
    """
    consumer = await trial.listening()
    client = await trial.reached(consumer, numbered(1)[0])
    consumer.pause()
    messages = numbered(20, start=1)

    async def send(client: Client, messages: list[bytes]) -> None:
        await trial.reach(client)
        for message in messages:
            await client.send(message)

    # Each may have to wait, too.
    await client.aclose()
    sending = asyncio.gather(send(client, messages), send(trial.client(consumer), numbered(1, start=21)))
    await trial.steady(lambda: len(consumer.received), 2 * _MOMENT)
    passed_on = len(consumer.received) - 1
    require(not passed_on, f"{passed_on} messages were passed on while the intake was paused")
    consumer.resume()
    await trial.within("what had to wait is sent after the pause", sending)
    stats = consumer.listener.stats

    def lost() -> int:
        return 22 - len(consumer.received) - stats.dropped

    with contextlib.suppress(RuleBroken):
        await trial.until(lambda: lost() <= 0, "what waited is passed on after the pause")
    lossy = not trial.subject.transport.ordered
    require(lost() <= 0 or lossy, f"{lost()} messages that came during a pause were not passed on after it")


@rule(CLIENT, LISTENER)
async def listener_feeds_on_its_loop(trial: Trial) -> None:
    """
    What a listener has, it feeds on the event loop on which it was started.

    An intake is not made for several threads. A library that calls back on a thread of its own needs
    ``loop.call_soon_threadsafe(intake.feed, batch)``.
    """
    consumer = await trial.listening()
    await trial.reached(consumer, numbered(1)[0])
    require(not consumer.astray, "feed() was called from another thread than that of the loop")


@rule(CLIENT, LISTENER)
async def listener_keeps_its_limit(trial: Trial) -> None:
    """
    A message longer than ``max-message`` is not passed on, in whole or in part, and others are.

    Else anybody can fill the memory of the daemon, with one message that does not end. So count before
    the bytes are kept, close the connection that brings too many, and count it in ``stats.evicted``.
    """
    if not trial.has_option("max-message", listener=True):
        not_applicable("has no option max-message for its listeners")
    consumer = await trial.listening(max_message="1KiB")
    first, second, third = numbered(3)
    client = await trial.reached(consumer, first)
    other = await trial.reached(consumer, second)
    longest = trial.longest(other)
    if longest is not None and longest < _TOO_LONG:
        not_applicable(f"has no client that sends more than {longest} bytes")
    with contextlib.suppress(DeliveryError):
        async with trial.patience("a message that is too long is sent, or refused"):
            await other.send(numbered(1, size=_TOO_LONG, start=3)[0])
    await trial.steady(lambda: consumer.connections, _MOMENT)
    await _require_served(trial, consumer, client, third, "a message that was too long")
    await trial.steady(lambda: len(consumer.received), _MOMENT)
    parts = [message for message in consumer.received if message not in (first, second, third)]
    require(not parts, f"with max-message=1KiB, {shown(b''.join(parts[:1]))} was passed on")


@rule(CLIENT, LISTENER)
async def listener_outlives_strangers(trial: Trial) -> None:
    """
    Whoever connects and speaks another protocol, says nothing, or is gone at once, disturbs nobody else.

    Ports are scanned, and health checks connect and leave. What one connection makes a listener raise
    ends that connection, and not the loop that accepts others. A socket that was accepted may be dead
    already: even getpeername() can fail.
    """
    consumer = await trial.listening()
    client = await trial.reached(consumer, numbered(1)[0])
    try:
        _stranger(consumer).close()
    except OSError:
        not_applicable("is no stream to which a stranger could connect")
    before, after = numbered(2, start=1)
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        for _ in range(3):
            reset(_stranger(consumer))
            stack.enter_context(_stranger(consumer))  # says nothing
            rude = stack.enter_context(_stranger(consumer))
            rude.send(trial.random.randbytes(2000) + b"\r\n\r\n")
            rude.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0)
        await trial.steady(lambda: consumer.connections, _MOMENT)
        await _require_served(trial, consumer, client, before, "strangers had come")
        try:
            await trial.reached(consumer, after)
        except (DeliveryError, RuleBroken) as error:
            raise RuleBroken(f"after strangers had come, no client is served: {error}") from error


@rule(CLIENT, LISTENER)
async def listener_counts(trial: Trial) -> None:
    """
    ``listener.stats`` counts the messages that were passed on, and the connections that are open.

    It is a ListenerStats that the listener keeps itself, and what an operator sees of it. A connection
    that ended, however it did, is not open any more: count it down in a ``finally``.
    """
    consumer = await trial.listening()
    stats = getattr(consumer.listener, "stats", None)
    if not isinstance(stats, ListenerStats):
        raise RuleBroken(f"listener.stats is {stats!r}, and not a ListenerStats")
    for number, message in enumerate(numbered(3), 1):
        client = await trial.reached(consumer, message)
        # A listener may count when it has passed them on, from a thread of its own even.
        await trial.steady(lambda: stats.messages, _MOMENT)
        told = f"stats.messages is {stats.messages}, and {number} were passed on"
        require(stats.messages == number, told)
        told = f"stats.connections is {stats.connections}, and one is open"
        require(stats.connections <= 1, told)
        await client.aclose()
        await trial.until(lambda: not stats.connections, "stats.connections falls when a connection ends")


# -- what they share -------------------------------------------------------------------------------


def _is_free(host: str, port: int) -> bool:
    """Whether a socket can be bound there: it cannot if one at all addresses has the port."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            try:
                sock.bind((host, port))
            except OSError:
                return False
    return True


async def _require_served(
    trial: Trial, consumer: ListenerConsumer, client: Client, message: bytes, after: str
) -> None:
    """Require that *message* still arrives over the connection of *client*, *after* something."""
    try:
        await trial.within("a message is sent", client.send(message))
        await trial.until(lambda: message in consumer.received, "it arrives")
    except (DeliveryError, RuleBroken) as error:
        raise RuleBroken(f"after {after}, the connection of another client is not served: {error}") from error


def _stranger(consumer: ListenerConsumer) -> socket.socket:
    """Connect to where *consumer* is as somebody who does not know the protocol."""
    endpoint = Endpoint.parse(consumer.url)
    try:
        try:
            return socket.create_connection((endpoint.host, endpoint.port))
        except ConfigurationError:
            path = endpoint.path
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(f"\0{path[1:]}" if path.startswith("@") else path)
        except BaseException:
            sock.close()
            raise
        return sock
    except OSError:
        not_applicable("is no stream to which a stranger could connect")
