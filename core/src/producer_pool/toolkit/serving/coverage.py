"""Which messages somebody got, or still may get; the sender has to be told of all others."""
# Rule: numbers only. Messages are counted from 0, and a range is the first one and the one after the last.

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Hashable, Iterable, Iterator

from producer_pool.toolkit.serving.backlog import Range

__all__ = ["Coverage"]


class Coverage:
    """
    Knows for whom each message is that is not settled yet.

    A message that goes to several peers is lost only when the last of them does not get it: because
    it left, or because it was too slow.
    """

    def __init__(self) -> None:
        self._since: dict[Hashable, int] = {}
        """The first message for each peer."""
        self._firsts: list[int] = []
        """The same in order."""
        self._losers: dict[int, int] = {}
        """How many peers lost what begins at a message."""
        self._lost: dict[Hashable, list[Range]] = {}
        """What a peer does not get, though it stays: rising, and apart."""
        self._got: list[Range] = []
        """What those got who have left: rising, and apart."""
        self._ignored: list[Range] = []
        """What was for nobody: rising, and apart."""

    def join(self, peer: Hashable, first: int) -> None:
        """Note that all messages from *first* on are for *peer*, too."""
        self._since[peer] = first
        insort(self._firsts, first)

    def lose(self, peer: Hashable, lost: Range) -> list[Range]:
        """Note a batch that *peer* does not get; return it, or what of it nobody gets."""
        self._lost[peer] = _united([*self._lost.get(peer, ()), lost])
        first = lost[0]
        self._losers[first] = losers = self._losers.get(first, 0) + 1
        # If all are slow, each loses each batch: only the last of them is worth a look at all.
        if losers < bisect_right(self._firsts, first):
            return []
        return self._for_nobody([lost])

    def missing(self, peer: Hashable, reached: int, end: int) -> list[Range]:
        """Return what *peer* would not get if it were gone now; what it lost before that is not among it."""
        missing = _without([(max(reached, self._since[peer]), end)], self._lost.get(peer, ()))
        return _without(missing, self._ignored)

    def leave(self, peer: Hashable, reached: int, end: int) -> list[Range]:
        """
        Note that *peer* is gone; return what nobody gets for that reason.

        It has what was for it before *reached*, but for what it lost; *end* messages were sent.
        """
        missing = self.missing(peer, reached, end)
        first = self._since.pop(peer)
        del self._firsts[bisect_right(self._firsts, first) - 1]
        got = _without([(first, max(first, reached))], self._lost.pop(peer, ()))
        self._got = _united([*self._got, *got])
        return self._for_nobody(missing)

    def ignore(self, messages: Range) -> None:
        """Note that these are for nobody, so that nobody loses them."""
        self._ignored = _united([*self._ignored, messages])

    def settle(self, count: int) -> None:
        """Forget the first *count* messages: nobody asks for them any more."""
        self._got = [(max(first, count), end) for first, end in self._got if end > count]
        self._ignored = [(max(first, count), end) for first, end in self._ignored if end > count]
        self._losers = {first: losers for first, losers in self._losers.items() if first >= count}
        for peer, lost in self._lost.items():
            if lost and lost[0][0] < count:
                self._lost[peer] = [(max(first, count), end) for first, end in lost if end > count]

    def _for_nobody(self, ranges: list[Range]) -> list[Range]:
        left = [(first, end) for first, end in ranges if first < end]
        for peer, since in self._since.items():
            if not left:
                break
            lost = self._lost.get(peer, ())
            left = [*_common(left, [(0, since)]), *_common(left, [(max(a, since), b) for a, b in lost])]
        return _without(left, self._got)


def _united(ranges: Iterable[Range]) -> list[Range]:
    """Return *ranges* in order, with those joined that touch."""
    united: list[Range] = []
    for first, end in sorted(ranges):
        if united and united[-1][1] >= first:
            united[-1] = (united[-1][0], max(united[-1][1], end))
        elif first < end:
            united.append((first, end))
    return united


def _common(ranges: Iterable[Range], others: Iterable[Range]) -> Iterator[Range]:
    """Yield what is in both."""
    others = list(others)
    for first, end in ranges:
        for start, stop in others:
            if max(first, start) < min(end, stop):
                yield max(first, start), min(end, stop)


def _without(ranges: Iterable[Range], others: Iterable[Range]) -> list[Range]:
    """Return what of *ranges*, which are apart, is in none of *others*."""
    left = list(ranges)
    for start, stop in others:
        left = [
            (first, end)
            for one in left
            for first, end in ((one[0], min(one[1], start)), (max(one[0], stop), one[1]))
            if first < end
        ]
    return _united(left)
