"""Which messages nobody gets: against a model that keeps a set of peers for each message."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from producer_pool.toolkit.serving.coverage import Coverage


def numbers(ranges: list[tuple[int, int]]) -> set[int]:
    """Return what is in *ranges*, which have to be apart."""
    found = [number for first, end in ranges for number in range(first, end)]
    assert len(found) == len(set(found))
    return set(found)


def test_last_one_leaves() -> None:
    """What it had not got is lost, and nothing else."""
    coverage = Coverage()
    coverage.join("a", 0)

    assert coverage.leave("a", 7, 10) == [(7, 10)]


def test_another_one_gets_it() -> None:
    """As long as somebody is there for whom a message is, it is not lost; who came later does not count."""
    coverage = Coverage()
    coverage.join("a", 0)
    coverage.join("b", 0)
    coverage.join("late", 8)

    assert coverage.leave("a", 3, 10) == []
    assert coverage.leave("b", 5, 10) == [(5, 8)]
    assert coverage.leave("late", 8, 10) == [(8, 10)]


def test_somebody_got_it_and_left() -> None:
    """What one got before it left is not lost when another one leaves without it."""
    coverage = Coverage()
    coverage.join("a", 0)
    coverage.join("b", 0)

    assert coverage.leave("a", 8, 10) == []
    assert coverage.leave("b", 5, 10) == [(8, 10)]


def test_only_one_drops_it() -> None:
    """At once; and it is not lost a second time when that one leaves."""
    coverage = Coverage()
    coverage.join("a", 0)

    assert coverage.lose("a", (4, 6)) == [(4, 6)]
    assert coverage.missing("a", 4, 10) == [(6, 10)]
    assert coverage.leave("a", 4, 10) == [(6, 10)]


def test_all_drop_it() -> None:
    """It is lost with the last one."""
    coverage = Coverage()
    coverage.join("a", 0)
    coverage.join("b", 0)

    assert coverage.lose("a", (4, 6)) == []
    assert coverage.lose("a", (6, 9)) == []
    assert coverage.lose("b", (6, 9)) == [(6, 9)]


def test_all_are_slow() -> None:
    """What each of many loses is looked at only by the last of them, and by none that came later."""
    coverage = Coverage()
    for number in range(1000):
        coverage.join(number, 0)
    coverage.join("late", 10)
    found = [coverage.lose(number, (batch, batch + 1)) for batch in range(10) for number in range(1000)]

    assert [ranges for ranges in found if ranges] == [[(batch, batch + 1)] for batch in range(10)]
    assert all(found[batch * 1000 + 999] for batch in range(10))


def test_what_was_for_nobody() -> None:
    """It is not lost by those who leave."""
    coverage = Coverage()
    coverage.join("a", 0)
    coverage.ignore((2, 4))

    assert coverage.missing("a", 1, 5) == coverage.leave("a", 1, 5) == [(1, 2), (4, 5)]


class Model(RuleBasedStateMachine):
    """Peers that come, drop and leave; every message is compared."""

    def __init__(self) -> None:
        super().__init__()
        self.coverage = Coverage()
        self.sent = self.settled = 0
        self.hopes: list[set[int]] = []
        """For each message the peers that may still get it."""
        self.got: set[int] = set()
        """Messages that somebody got, or that were for nobody."""
        self.told: set[int] = set()
        self.reached: dict[int, int] = {}
        self.peers = 0
        self.batches: list[range] = []

    def check(self, found: list[tuple[int, int]], candidates: set[int]) -> None:
        expected = {
            number
            for number in candidates
            if not self.hopes[number] and number not in self.got and number not in self.told
        }
        assert numbers(found) == expected
        self.told |= expected

    @rule()
    def join(self) -> None:
        self.peers += 1
        self.coverage.join(self.peers, self.sent)
        self.reached[self.peers] = self.sent

    @rule(count=st.integers(1, 4))
    def send(self, count: int) -> None:
        if not self.reached:
            self.skip(count)
            return
        self.hopes += [set(self.reached) for _ in range(count)]
        self.batches.append(range(self.sent, self.sent + count))
        self.sent += count

    @rule(count=st.integers(1, 3))
    def skip(self, count: int) -> None:
        self.got |= set(range(self.sent, self.sent + count))
        self.hopes += [set() for _ in range(count)]
        self.coverage.ignore((self.sent, self.sent + count))
        self.sent += count

    @precondition(lambda self: self.reached)
    @rule(data=st.data())
    def get(self, data: st.DataObject) -> None:
        peer = data.draw(st.sampled_from(sorted(self.reached)))
        reached = data.draw(st.integers(self.reached[peer], self.sent))
        for number in range(self.reached[peer], reached):
            if peer in self.hopes[number]:
                self.got.add(number)
        self.reached[peer] = reached

    @precondition(lambda self: self.reached)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        peer = data.draw(st.sampled_from(sorted(self.reached)))
        reached = self.reached[peer]
        waiting = [each for each in self.batches if each.start >= reached and peer in self.hopes[each.start]]
        if waiting:
            batch = data.draw(st.sampled_from(waiting))
            for number in batch:
                self.hopes[number].discard(peer)
            self.check(self.coverage.lose(peer, (batch.start, batch.stop)), set(batch))

    @precondition(lambda self: self.reached)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        peer = data.draw(st.sampled_from(sorted(self.reached)))
        reached = self.reached.pop(peer)
        gone = {number for number in range(reached, self.sent) if peer in self.hopes[number]}
        for hopes in self.hopes[reached:]:
            hopes.discard(peer)
        self.check(self.coverage.leave(peer, reached, self.sent), gone)

    @rule()
    def settle(self) -> None:
        """Everybody who is there has, or dropped, what comes before."""
        self.settled = max(self.settled, min(self.reached.values(), default=self.sent))
        self.coverage.settle(self.settled)


TestModel = Model.TestCase
