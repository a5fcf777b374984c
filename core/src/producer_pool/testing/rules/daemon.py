"""The transport in the real daemon: as an operator has it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from producer_pool.contract.ports import Client
from producer_pool.model.outcomes import Ack
from producer_pool.testing.consumers import TrialConsumer
from producer_pool.testing.daemons import COMMAND, LOADABLE, TrialDaemon
from producer_pool.testing.messages import difference, numbered
from producer_pool.testing.rule import CONSUMER, require, rule
from producer_pool.testing.trial import Trial

__all__ = [
    "daemon_ends_cleanly",
    "daemon_survives_its_consumer",
    "daemon_takes_and_forwards",
    "found_by_environment",
]

_AT_ONCE: Final = 20
"""Messages on their way at one time, where nothing makes who sends too much wait."""
_MOMENT: Final = 1.0
"""Seconds in which a daemon notices that its consumer is gone, if it can."""
_ANSWERS: Final = 50
"""How often it has said how things are by then, at the least: who does not get to run notices nothing."""
_SOON: Final = {"retry_backoff": "10ms", "retry_max_backoff": "50ms"}
"""For consumers that are back in no time."""


@rule(CONSUMER, COMMAND, LOADABLE)
async def daemon_takes_and_forwards(trial: Trial) -> None:
    """
    The daemon listens at a URL of the scheme, and forwards to one.

    Here ``producer-pool run --listen ... --to ...`` is a process of its own, messages go to it through the
    transport's client, and come out at a consumer. What a plugin needs in order to be loaded, it has to
    bring: no other module of this program is there.
    """
    consumer = await trial.consumer()
    async with TrialDaemon(trial, "--to", trial.url(consumer)) as daemon:
        client = await _sender(trial, daemon, consumer)
        await _forwarded(trial, daemon, client, consumer, numbered(200))


@rule(CONSUMER, COMMAND, LOADABLE)
async def daemon_survives_its_consumer(trial: Trial) -> None:
    """
    What the daemon gets while its consumer is away arrives when that is back.

    At WRITTEN, the first messages may be lost in the connection that broke.
    """
    consumer = await trial.consumer(comes=False)
    messages = numbered(300)
    async with TrialDaemon(trial, "--to", trial.url(consumer, **_SOON)) as daemon:
        client = await _sender(trial, daemon, consumer)
        await _forwarded(trial, daemon, client, consumer, messages[:10])
        await consumer.crash()
        await _send(trial, client, messages[10:30])
        await _notices(daemon)
        await consumer.start()
        if max(trial.subject.transport.acks) > Ack.WRITTEN:
            await _arrive(trial, daemon, consumer, messages[10:30])
        back = await trial.one_arrives(consumer, messages[30:-10], client.send)
        require(back, f"nothing arrived after the consumer came back; the daemon said: {daemon.said}")
        await _send(trial, client, messages[-10:])
        await _arrive(trial, daemon, consumer, messages[-10:])


@rule(CONSUMER, COMMAND, LOADABLE)
async def daemon_ends_cleanly(trial: Trial) -> None:
    """
    A daemon that is asked to end forwards what has arrived, and exits with 0.

    On SIGTERM it calls the listener's stop_accepting(), and drain(), which reads what the kernel has, and
    only then aclose(); it waits until its consumers have what is queued. A client that does not come to
    an end, a listener that throws away what it has, or a handler for SIGTERM of the plugin's own break it.
    """
    consumer = await trial.consumer()
    messages = numbered(101)
    async with TrialDaemon(trial, "--to", trial.url(consumer)) as daemon:
        client = await _sender(trial, daemon, consumer)
        await _forwarded(trial, daemon, client, consumer, messages[:1])
        await _send(trial, client, messages[1:])
        code = await daemon.end()
        require(code == 0, f"after SIGTERM, the daemon ended with {code}; it said: {daemon.said}")
        await _arrive(trial, daemon, consumer, messages)


@rule(CONSUMER, COMMAND, LOADABLE)
async def found_by_environment(trial: Trial) -> None:
    """
    ``PRODUCER_X=<url>`` in the environment is all that the daemon needs.

    It is how containers are configured. The plugin is found by the scheme of the URL, and nothing on the
    command line names it.
    """
    consumer = await trial.consumer()
    async with TrialDaemon(trial, env={"PRODUCER_X": trial.url(consumer)}) as daemon:
        require(daemon.consumers == ["x"], f"the daemon has the consumers {daemon.consumers}, and not x")
        client = await _sender(trial, daemon, consumer)
        await _forwarded(trial, daemon, client, consumer, numbered(10))


# -- what they share -------------------------------------------------------------------------------


async def _sender(trial: Trial, daemon: TrialDaemon, consumer: TrialConsumer) -> Client:
    """Return a client that is connected to the daemon, when *consumer* is; it is closed after the rule."""
    if consumer.comes:
        await trial.until(lambda: consumer.connections, "a consumer connects to the daemon")
    client = trial.client(daemon.address) if daemon.own else trial.other_client(daemon.address)
    await trial.within("the daemon can be connected to", trial.reach(client))
    return client


async def _send(trial: Trial, client: Client, messages: Sequence[bytes]) -> None:
    async with trial.patience("the daemon takes what it is sent"):
        for message in messages:
            await client.send(message)


async def _forwarded(
    trial: Trial, daemon: TrialDaemon, client: Client, consumer: TrialConsumer, messages: Sequence[bytes]
) -> None:
    """Send *messages* through the daemon, not too many at a time, and wait until all have arrived."""
    for start in range(0, len(messages), _AT_ONCE):
        await _send(trial, client, messages[start : start + _AT_ONCE])
        await _arrive(trial, daemon, consumer, messages[: start + _AT_ONCE])
    ordered = trial.subject.transport.ordered
    fault = difference(messages, consumer.received, ordered=ordered)
    require(not fault, fault)


async def _notices(daemon: TrialDaemon) -> None:
    """Wait until the daemon has tried in vain to reach its consumer; for a moment, if it cannot know."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + _MOMENT
    answers = 0
    while await daemon.breaks() < 2 and (loop.time() < give_up or answers < _ANSWERS):
        answers += 1


async def _arrive(
    trial: Trial, daemon: TrialDaemon, consumer: TrialConsumer, messages: Sequence[bytes]
) -> None:
    missing = await trial.missing(consumer, messages)
    require(
        not missing,
        f"{len(missing)} of {len(messages)} messages did not arrive through the daemon; it said: "
        f"{daemon.said}",
    )
