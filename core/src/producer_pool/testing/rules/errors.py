"""What a client raises, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from producer_pool.contract.ports import PipelinedClient
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, DeliveryError, Rejected, SendError
from producer_pool.testing.between import between
from producer_pool.testing.consumers import TrialConsumer
from producer_pool.testing.messages import numbered
from producer_pool.testing.patience import bounded
from producer_pool.testing.proxy_faults import Faults
from producer_pool.testing.rule import CONFIRMING, CONSUMER, RuleBroken, not_applicable, require, rule
from producer_pool.testing.trial import Trial

__all__ = [
    "absent_consumer_is_a_connect_error",
    "lost_answer_is_a_send_error",
    "raises_only_its_errors",
]

_AT_ONCE: Final = 1.0
"""Seconds in which the kernel has said that nobody is there, and the client has passed that on."""
_TRIES: Final = 200
"""Messages sent to a consumer that is gone."""


@rule(CONSUMER)
async def absent_consumer_is_a_connect_error(trial: Trial) -> None:
    """
    Where nobody is, connect() raises a ConnectError, at once: to try again is its producer's part.

    A ConnectError says that the message cannot have arrived, so that it can be sent again without
    doubling it. A protocol without connections may raise a ConnectError or a SendError from the send()
    that learns of it. All else that a library raises is translated where it comes in:
    ``raise ConnectError(...) from error``. A client never sleeps: the producer knows how long to wait
    before the next attempt, and who has to be told.
    """
    client = trial.client(await _absent(trial, comes=False))
    try:
        async with bounded(_AT_ONCE):
            await trial.reach(client)
    except DeliveryError as error:
        require(
            isinstance(error, ConnectError),
            f"connect() raised {_named(error)}; nothing can have arrived, so it is a ConnectError",
        )
        return
    except TimeoutError:
        raise RuleBroken(f"connect() to nobody was not done after {_AT_ONCE:g} s") from None
    except Exception as error:
        raise RuleBroken(f"connect() raised {_named(error)}, and not a ConnectError") from error
    async with trial.patience("sending to nobody ends"):
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


@rule(CONSUMER, CONFIRMING)
async def lost_answer_is_a_send_error(trial: Trial) -> None:
    """
    When a connection breaks after a message arrived, and before its answer did, send() raises a SendError.

    It says that the message may have arrived. A ConnectError would say that it cannot have: then it is
    sent again although nobody asked for that, and arrives twice.
    """
    consumer = await trial.consumer()
    client = trial.client(consumer)
    if isinstance(client, PipelinedClient):
        not_applicable("has a client that tells how far messages got, and not whether one did")
    first, lost = numbered(2)
    async with between(trial, consumer) as proxy:
        client = trial.client(proxy.url)
        async with trial.patience("a client connects, and sends a message"):
            await trial.reach(client)
            await client.send(first)
        proxy.back.faults = Faults(black_hole=True)
        sending = asyncio.ensure_future(client.send(lost))
        await trial.until(lambda: lost in consumer.received, "a message arrives")
        proxy.reset()
        async with trial.patience("send() ends when the connection breaks"):
            await asyncio.wait([sending])
        error = sending.exception()
        require(isinstance(error, SendError), f"send() of a message that arrived raised {_named(error)}")


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
        await _only_ours(trial, turn, lambda: trial.reach(nobody))
    await _only_ours(trial, "aclose() after connect() failed", nobody.aclose)
    await _only_ours(trial, "send() after connect() failed", lambda: nobody.send(numbered(1)[0]))

    consumer = await trial.consumer()
    client = trial.client(consumer)
    await _only_ours(trial, "connect()", lambda: trial.reach(client))
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
    await _only_ours(trial, "connect() after a crash", lambda: trial.reach(client))
    await _only_ours(trial, "aclose()", client.aclose)
    await _only_ours(trial, "send() after aclose()", lambda: client.send(numbered(1)[0]))


# -- what they share -------------------------------------------------------------------------------


def _named(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}" if error is not None else "nothing"


async def _absent(trial: Trial, *, comes: bool = True) -> TrialConsumer:
    """Return a consumer that was there, and is gone."""
    consumer = await trial.consumer(comes=comes)
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
