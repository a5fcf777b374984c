"""A daemon whose convoys are watched, or are wrong in one way: what a story told to it has gone through."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Final

__all__ = ["BLIND", "FLAWS", "WatchedConvoys"]

BLIND: Final = "does not look for ends"

_WATCH: Final = """
import mmap
from producer_pool.delivery.convoy import Convoy
from producer_pool.plugin import hookimpl

@hookimpl
def producer_pool_transports():
    return ()

with open({counter!r}, "r+b") as file:
    counter = memoryview(mmap.mmap(file.fileno(), mmap.PAGESIZE)).cast("Q")
take = Convoy.take

def watched(self, batch, producers):
    offer, others = self._offer, []
    self._offer = lambda page, batch, ids: (others.extend(ids), offer(page, batch, ids))
    try:
        taken = take(self, batch, producers)
    finally:
        self._offer = offer
    if taken:
        counter[0] += batch.count * (len(producers) - len(others))
    counter[1] = len(self._members)
    return taken

Convoy.take = watched
"""

FLAWS: Final = {
    "takes a write for a delivery": """
def believe(self, member):
    count = self._messages - member.passed[1]
    member.done, member.passed = len(self._flights), (self._end, self._messages)
    if count:
        member.link.passes(count)

Convoy._settle = believe
""",
    "forgets what is in flight": """
part = Convoy._part

def careless(self, producer):
    self._settle(self._members[producer])
    self._members[producer].done = len(self._flights)
    part(self, producer)

Convoy._part = careless
""",
    BLIND: """
from producer_pool.toolkit.streams.plainstream import PlainStream

PlainStream.has_ended = lambda self: False
""",
}
"""What makes a convoy wrong."""


class WatchedConvoys:
    """A plugin for a daemon that counts what its convoys send, and has *flaw*, one of FLAWS, if not empty."""

    def __init__(self, folder: Path, flaw: str = "") -> None:
        self._counter = folder / "sent-in-convoys"
        self._counter.write_bytes(bytes(mmap.PAGESIZE))
        self._plugin = folder / "watched_convoys.py"
        self._plugin.write_text(_WATCH.format(counter=str(self._counter)) + FLAWS.get(flaw, ""))

    @property
    def arguments(self) -> tuple[str, str]:
        """What the daemon has to be started with."""
        return "--plugin", str(self._plugin)

    @property
    def sent(self) -> int:
        """Messages sent in convoys so far: one to two consumers is two."""
        return self._look()[0]

    @property
    def members(self) -> int:
        """Consumers in a convoy when a message came last."""
        return self._look()[1]

    def _look(self) -> tuple[int, int]:
        with self._counter.open("rb") as file:
            sent, members = struct.unpack("=QQ", file.read(16))
        return sent, members
