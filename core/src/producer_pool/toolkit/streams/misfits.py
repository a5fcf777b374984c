"""Which messages cannot be carried by a framed stream, and what their errors say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from producer_pool.model.batch import Batch
from producer_pool.model.errors import Rejected
from producer_pool.model.framing import Framing

__all__ = ["NO_MISFITS", "stream_misfits"]

NO_MISFITS: Final[Mapping[int, Rejected]] = {}


def stream_misfits(
    batch: Batch, framing: Framing, limit: int | None, protocol_name: str
) -> Mapping[int, Rejected]:
    """Return the messages of *batch*, by index, that *framing* cannot carry, or that are above *limit*."""
    unfit = batch.misfits(framing)
    if not unfit and (limit is None or batch.nbytes <= limit or batch.longest <= limit):
        return NO_MISFITS
    found = {
        index: Rejected(
            f"message of {len(message)} bytes, and {protocol_name} takes {limit}; see max-message"
        )
        for index, message in enumerate(batch.messages)
        if limit is not None and len(message) > limit
    }
    found.update((index, Rejected(framing.why_misfit())) for index in unfit)
    return found
