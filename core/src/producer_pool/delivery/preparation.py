"""What happens to a batch before it gets into an outbox: stages, and what the client can never carry."""
# Rule: this decides, and changes nothing. Each message is in the answer once: sent, or turned away.

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from producer_pool.contract.ports import Client, Stage
from producer_pool.delivery.containment import let_interrupts_pass
from producer_pool.model.batch import Batch
from producer_pool.model.errors import DeliveryError, Filtered, Rejected
from producer_pool.model.outcomes import Outcome
from producer_pool.model.policies import BATCH_OVERHEAD, MESSAGE_OVERHEAD

__all__ = ["TurnedAway", "fitting", "pieces", "prepared", "staged"]


class TurnedAway(NamedTuple):
    """Messages that do not get in."""

    batch: Batch
    indexes: Sequence[int]
    outcome: Outcome
    error: DeliveryError
    """Its cause is what somebody's code raised, if that is the reason."""


def prepared(
    producer_id: str, stages: Sequence[Stage], client: Client, batch: Batch
) -> tuple[Batch | None, list[TurnedAway]]:
    """Return what is left of *batch* after the stages, less what *client* can never carry, and the rest."""
    left: Batch | None = batch
    away: list[TurnedAway] = []
    if stages:
        left, away = staged(producer_id, stages, batch)
    if left is not None:
        left, unfit = fitting(producer_id, client, left)
        away += unfit
    return left, away


def staged(producer_id: str, stages: Sequence[Stage], batch: Batch) -> tuple[Batch | None, list[TurnedAway]]:
    """Return what the stages make of *batch*, and what goes no further: DROPPED, FAILED where one raised."""
    whole = batch
    away = []
    left: Batch | None = batch
    for stage in stages:
        if not len(batch):
            break
        try:
            batch = left = _checked(stage(batch), batch)
        except BaseException as error:
            let_interrupts_pass(error)
            failure = Filtered(f"{producer_id}: a stage raised {type(error).__name__}: {error}")
            failure.__cause__ = error
            away.append(TurnedAway(batch, range(len(batch)), Outcome.FAILED, failure))
            left = None
            break
    if batch.kept is not None:
        kept = set(batch.kept)
        gone = [index for index in range(len(whole)) if index not in kept]
        removed = Filtered(f"{producer_id}: removed by a stage")
        away.append(TurnedAway(whole, gone, Outcome.DROPPED, removed))
    return left, away


def _checked(made: object, given: Batch) -> Batch:
    """Return what a stage made of *given*, if each message of that can be accounted for."""
    if made is given:
        return given
    if made is None:
        return given.select(())
    if not isinstance(made, Batch):
        raise TypeError(f"a stage returns a Batch or None, not {type(made).__name__}")
    if made.kept is None and len(made) == len(given):
        return made if given.kept is None else given.replace(made.messages)
    roots = range(len(given)) if given.kept is None else given.kept
    if made.kept is None or not set(made.kept).issubset(roots):
        raise TypeError("a stage leaves messages out with batch.select(), so that each is accounted for")
    return made


def fitting(producer_id: str, client: Client, batch: Batch) -> tuple[Batch | None, list[TurnedAway]]:
    """Return *batch* without what *client* can never carry, and those messages."""
    try:
        misfits = client.misfits(batch)
        if not misfits:
            return batch, []
        _check_misfits(misfits, len(batch))
    except BaseException as error:
        let_interrupts_pass(error)
        failure = Rejected(f"{producer_id}: misfits() raised {type(error).__name__}: {error}")
        failure.__cause__ = error
        return None, [TurnedAway(batch, range(len(batch)), Outcome.FAILED, failure)]
    away = [TurnedAway(batch, (index,), Outcome.FAILED, reason) for index, reason in misfits.items()]
    if len(misfits) == len(batch):
        return None, away
    return batch.select([index for index in range(len(batch)) if index not in misfits]), away


def _check_misfits(misfits: object, count: int) -> None:
    if not isinstance(misfits, Mapping) or not all(
        type(index) is int and 0 <= index < count and isinstance(reason, Rejected)
        for index, reason in misfits.items()
    ):
        raise TypeError("misfits() returns a mapping of the batch's indexes to Rejected errors")


def pieces(batch: Batch, most: int) -> Iterator[Batch]:
    """Cut *batch* into pieces of at most *most* bytes each, as far as its messages allow that."""
    if batch.cost <= most or len(batch) < 2:
        yield batch
        return
    start, size = 0, BATCH_OVERHEAD
    for index, message in enumerate(batch.messages):
        cost = len(message) + MESSAGE_OVERHEAD
        if index > start and size + cost > most:
            yield batch.select(range(start, index))
            start, size = index, BATCH_OVERHEAD
        size += cost
    yield batch.select(range(start, len(batch)))
