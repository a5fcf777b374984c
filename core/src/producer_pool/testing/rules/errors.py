"""What a client raises, when, and that it can be made to stop waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from producer_pool.contract.ports import Client
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, DeliveryError, Rejected
from producer_pool.model.outcomes import Outcome
from producer_pool.testing.consumers import TrialConsumer
from producer_pool.testing.forwarding import DIRECT, Forwarding
from producer_pool.testing.rule import CONSUMER, RuleBroken, not_applicable, require, rule
from producer_pool.testing.trial import Trial, numbered

__all__ = [
    "absent_consumer_is_a_connect_error",
    "can_be_timed_out",
    "raises_only_its_errors",
    "survives_a_misfit",
]

_TIMEOUT: Final = 0.3
"""Seconds that an attempt may take, where that is what is asked about."""
_LATE: Final = 10.0
"""Times the timeout that an attempt may really take: machines are busy."""
_TRIES: Final = 200
"""Messages sent to a consumer that is gone."""
_FLOOD: Final = 24 * 1024 * 1024
"""Bytes: more than two kernels keep for a consumer that reads nothing."""


@rule(CONSUMER)
async def absent_consumer_is_a_connect_error(trial: Trial) -> None:
    """
    Where nobody is, connect() raises a ConnectError within its time.

    A ConnectError says that the message cannot have arrived, so that it can be sent again without
    doubling it. A protocol without connections may raise a ConnectError or a SendError from the send()
    that learns of it. All else that a library raises is translated where it comes in:
    ``raise ConnectError(...) from error``.
    """
    client = trial.client(await _absent(trial))
    async with trial.patience("connecting to nobody ends"):
        try:
            await client.__aenter__()
        except DeliveryError as error:
            require(
                isinstance(error, ConnectError),
                f"connect() raised {_named(error)}; nothing can have arrived, so it is a ConnectError",
            )
            return
        except Exception as error:
            raise RuleBroken(f"connect() raised {_named(error)}, and not a ConnectError") from error
        for message in numbered(_TRIES):
            try:
                await client.send(message)
            except DeliveryError as error:
                require(not isinstance(error, Rejected), f"send() to nobody raised {_named(error)}")
                return
            except Exception as error:
                raise RuleBroken(f"send() to nobody raised {_named(error)}, and not a SendError") from error
            await asyncio.sleep(0.001)
    raise RuleBroken(f"connect() to nobody, and {_TRIES} times send(), raised nothing")


@rule(CONSUMER)
async def raises_only_its_errors(trial: Trial) -> None:
    """
    Nothing but a DeliveryError leaves a client: with nobody there, after a crash, and when it is closed.

    A producer contains all else, and treats it as a fault of the plugin: the text that the operator
    reads is then that of a stranger, and whether a retry can double the message is a guess. Catch
    what the library raises, all of it, and nothing that is not an Exception.
    """
    nobody = trial.client(await _absent(trial))
    for turn in ("connect() to nobody", "connect() to nobody, once more"):
        await _only_ours(trial, turn, nobody.__aenter__)
    await _only_ours(trial, "aclose() after connect() failed", nobody.aclose)
    await _only_ours(trial, "send() after connect() failed", lambda: nobody.send(numbered(1)[0]))

    consumer = await trial.consumer()
    client = trial.client(consumer)
    await _only_ours(trial, "connect()", client.__aenter__)
    await _only_ours(trial, "send()", lambda: client.send(numbered(1)[0]))
    await consumer.crash()
    batch = Batch.of(numbered(3))
    for _ in range(_TRIES):
        failed = await _only_ours(trial, "send() after a crash", lambda: client.send(numbered(1)[0]))
        failed |= await _only_ours(trial, "send_batch() after a crash", lambda: client.send_batch(batch))
        if failed:
            break
        await asyncio.sleep(0.001)
    await _only_ours(trial, "aclose() after a crash", client.aclose)
    await _only_ours(trial, "connect() after a crash", client.__aenter__)
    await _only_ours(trial, "aclose()", client.aclose)
    await _only_ours(trial, "send() after aclose()", lambda: client.send(numbered(1)[0]))


@rule(CONSUMER)
async def can_be_timed_out(trial: Trial) -> None:
    """
    A consumer that takes connections and never reads holds up nothing for longer than the timeout.

    A producer bounds each connect() and send() by cancelling it. So a client must not catch
    CancelledError and go on, must not shield what it waits for, and must not wait in a thread or in
    the kernel. Where the network takes everything, as with datagrams, nothing has to be waited for.
    """
    consumer = await trial.consumer()
    consumer.pause()
    await _time_out_alone(trial, trial.client(consumer, timeout=f"{_TIMEOUT:g}s"))
    forwarding = await Forwarding.to(trial, consumer, DIRECT, timeout=f"{_TIMEOUT:g}s")
    loop = asyncio.get_running_loop()
    for message in _flood(trial, trial.client(consumer)):
        since = loop.time()
        async with trial.patience(f"forwarding with timeout={_TIMEOUT:g}s ends"):
            result = await forwarding.pool.forward_to("trial", message)
        passed = loop.time() - since
        require(passed < _LATE * _TIMEOUT, f"forwarding with timeout={_TIMEOUT:g}s took {passed:.3g} s")
        if result.outcome is Outcome.FAILED:
            return


@rule(CONSUMER)
async def survives_a_misfit(trial: Trial) -> None:
    """
    A message that the protocol cannot carry costs nothing else: not its connection, nor its neighbours.

    Rejected settles that message only. The connection is as it was before, nothing of the message was
    written, and the next one goes out over it.
    """
    consumer = await trial.consumer()
    fit, misfit = await _tried(trial, consumer)
    messages = numbered(3)
    pool = await trial.producing(consumer)
    (first,) = await trial.forward(pool, messages[:1])
    require(first.ok, f"an ordinary message was not delivered: {_named(first.error)}")
    results = await trial.forward(pool, [messages[1], misfit, messages[2]])
    for result in (results[0], results[2]):
        require(result.ok, f"a neighbour of the misfit was not delivered: {_named(result.error)}")
    require(isinstance(results[1].error, Rejected), f"the misfit: {_named(results[1].error)}, not Rejected")
    breaks = (await pool.stats()).producers["trial"].breaks
    require(not breaks, f"a message that was Rejected broke the connection, {breaks} times")
    await trial.arrives(consumer, fit + messages)


# -- what they share -------------------------------------------------------------------------------


def _named(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}" if error is not None else "nothing"


async def _absent(trial: Trial) -> TrialConsumer:
    """Return a consumer that was there, and is gone."""
    consumer = await trial.consumer()
    await consumer.crash()
    return consumer


async def _only_ours(trial: Trial, what: str, call: Callable[[], Awaitable[object]]) -> bool:
    """Await what *call* returns, and say whether it raised a DeliveryError; it may raise nothing else."""
    task = asyncio.current_task()
    async with trial.patience(f"{what} ends"):
        try:
            await call()
        except DeliveryError:
            return True
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            raise RuleBroken(f"{what} raised {_named(error)}, and no DeliveryError") from error
    return False


async def _time_out_alone(trial: Trial, client: Client) -> None:
    """Send until it has to wait, and see it give up when it is told to."""
    loop = asyncio.get_running_loop()

    async def attempt(message: bytes) -> None:
        async with asyncio.timeout(_TIMEOUT):
            await client.send(message)

    async def connect() -> None:
        async with asyncio.timeout(_TIMEOUT):
            await client.__aenter__()

    calls = [("connect()", connect)]
    calls += [("send()", partial(attempt, message)) for message in _flood(trial, client)]
    for name, call in calls:
        since = loop.time()
        task = asyncio.ensure_future(call())
        await asyncio.wait([task], timeout=_LATE * _TIMEOUT)
        require(
            task.done(),
            f"{name} went on for {loop.time() - since:.3g} s, and was cancelled after {_TIMEOUT:g} s: "
            "it does not let go",
        )
        error = task.exception()
        if error is not None:
            require(isinstance(error, TimeoutError | DeliveryError), f"{name} raised {_named(error)}")
            break
    await trial.within("aclose() after a call that was cancelled returns", client.aclose())


def _flood(trial: Trial, client: Client) -> list[bytes]:
    size = min(trial.longest(client) or 64 * 1024, 64 * 1024)
    return numbered(_FLOOD // size, size=size)


async def _tried(trial: Trial, consumer: TrialConsumer) -> tuple[list[bytes], bytes]:
    """Return messages that this protocol carries, and that were sent; and the first one that it does not."""
    candidates = [b"a\nb", b"\xff\xfe\xc3\x28", b"", b"a\0b"]
    longest = trial.longest(trial.client(consumer))
    if longest is not None and longest <= 64 * 1024 * 1024:
        candidates.append(b"x" * (longest + 1))
    for index, message in enumerate(candidates):
        pool = await trial.producing(consumer)
        (result,) = await trial.forward(pool, [message])
        await pool.aclose()
        if isinstance(result.error, Rejected):
            return candidates[:index], message
    return not_applicable("carries every message")
