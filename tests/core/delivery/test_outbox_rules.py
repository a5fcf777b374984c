"""The outbox as a state machine, beside a model that is a few lists of message numbers."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from producer_pool.delivery.entry import Entry
from producer_pool.delivery.outbox import Outbox
from producer_pool.delivery.page import Budget, Page
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, DeliveryError, Filtered, Rejected, SendError
from producer_pool.model.given_up import GivenUp
from producer_pool.model.outcomes import Ack, Outcome
from producer_pool.model.policies import DeliveryPolicy, Overflow, Retry

DELIVERED, FAILED, DROPPED, CANCELLED = (
    Outcome.DELIVERED,
    Outcome.FAILED,
    Outcome.DROPPED,
    Outcome.CANCELLED,
)


@dataclass(eq=False)
class Expected:
    """One batch, as the model sees it."""

    numbers: list[int]
    """Messages without an outcome, in their order."""
    cost: int
    deadline: float
    attempts: int = 0
    breaks: int = 0
    """Breaks that are held against the first of `numbers`."""
    first_only: bool = False
    """Whether a client was given only the first of them."""
    given: list[int] = field(default_factory=list)
    """In flight: messages that the client has not settled, whatever is known of them."""
    expired: bool = False


class OutboxRules(RuleBasedStateMachine):
    """What may happen to an outbox, in any order. The model decides without looking at it."""

    @initialize(
        buffer=st.sampled_from([1500, 2600, 5000, 700, 1, 10**6]),
        overflow=st.sampled_from(Overflow),
        attempts=st.sampled_from([None, 1, 2, 3]),
        deadline=st.sampled_from([1.0, 3.0, 10**6]),
    )
    def begin(self, buffer: int, overflow: Overflow, attempts: int | None, deadline: float) -> None:
        policy = DeliveryPolicy(buffer=buffer, overflow=overflow, retry=Retry(attempts=attempts))
        self.outbox = Outbox("audit", policy, self, ack=Ack.KERNEL, deadline=deadline)
        self.policy = policy
        self.budget = Budget(10**9)
        self.now = 0.0
        self.told: Counter[Outcome] = Counter()
        self.is_blocked = False
        self.waiting: list[Expected] = []
        self.flying: list[Expected] = []
        self.outcomes: dict[int, tuple[Outcome, int]] = {}
        self.places: dict[int, tuple[Page, int]] = {}
        """Where the receipt of a message is, if it has one."""
        self.firsts: dict[Page, int] = {}
        """The number of the first message of each page."""
        self.count = 0
        self.outbox.accounts.letters = self
        self.letters: Counter[tuple[Outcome, int, int]] = Counter()
        """What was taken as dead letters: outcome, attempts and size of each message."""
        self.sizes: list[int] = []
        self.filtered: set[int] = set()
        """Messages that a stage left out."""
        self.unwritten: list[tuple[int, Callable[[bool], None]]] = []

    # -- the dead letters ----------------------------------------------------------------------------

    def take(self, given_up: GivenUp, done: Callable[[bool], None]) -> bool:
        messages = given_up.batch.messages
        assert given_up.indexes
        assert given_up.accepted is None or given_up.accepted <= self.now
        for index in given_up.indexes:
            self.letters[given_up.outcome, given_up.attempts, len(messages[index])] += 1
        self.unwritten.append((len(given_up.indexes), done))
        return True

    @precondition(lambda self: self.unwritten)
    @rule(kept=st.booleans())
    def write(self, kept: bool) -> None:
        """Some of them are kept, and some cannot be."""
        stats = self.outbox.stats
        before = stats.dead_lettered, stats.dead_letters_lost
        count, done = self.unwritten.pop(0)
        done(kept)

        assert (stats.dead_lettered, stats.dead_letters_lost) == (
            before[0] + count * kept,
            before[1] + count * (not kept),
        )

    def is_letter(self, number: int) -> bool:
        outcome = self.outcomes[number][0]
        return outcome is FAILED or (outcome is DROPPED and number not in self.filtered)

    @invariant()
    def letters_are_the_models(self) -> None:
        expected = Counter(
            (*self.outcomes[number], self.sizes[number]) for number in self.outcomes if self.is_letter(number)
        )

        assert self.letters == expected

    # -- the outbox's events, each of which finds the outbox consistent ----------------------------

    def settled(self, outcome: Outcome, count: int, error: DeliveryError | None) -> None:
        assert count > 0
        assert (error is None) == (outcome is DELIVERED)
        self.told[outcome] += count
        stats = self.outbox.stats
        assert stats.pending == self.outbox.pending()

    def blocked(self, yes: bool) -> None:
        assert yes != self.is_blocked
        self.is_blocked = yes

    def emptied(self) -> None:
        assert self.outbox.empty

    # -- the model's own sums ----------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        return sum(each.cost for each in (*self.waiting, *self.flying))

    def end(self, numbers: list[int], outcome: Outcome, attempts: int) -> None:
        for number in numbers:
            assert number not in self.outcomes
            self.outcomes[number] = (outcome, attempts)

    def given(self) -> list[tuple[Expected, int]]:
        return [(each, number) for each in self.flying for number in each.given]

    # -- rules: taking in --------------------------------------------------------------------------

    def make(self, sizes: list[int], tracked: bool, chosen: list[bool]) -> tuple[Page, Batch, list[int]]:
        whole = Batch.of([b"x" * size for size in sizes])
        page = Page(None, ("audit",), tracked=tracked)
        page.open(self.budget, whole)
        numbers = list(range(self.count, self.count + len(sizes)))
        self.count += len(sizes)
        self.sizes += sizes
        self.firsts[page] = self.count - len(sizes)
        if tracked:
            self.places.update((number, (page, index)) for index, number in enumerate(numbers))
        stay = [index for index in range(len(sizes)) if (chosen + [True] * len(sizes))[index]]
        gone = [index for index in range(len(sizes)) if index not in stay]
        if gone:
            error = Filtered("audit: removed")
            self.outbox.accounts.turn_away(page, whole, gone, error, DROPPED)
            self.filtered.update(numbers[index] for index in gone)
            self.end([numbers[index] for index in gone], DROPPED, 0)
        return page, whole.select(stay), [numbers[index] for index in stay]

    # Sizes of which a few fill the buffers above; now and then an empty batch, and one that a stage cut.
    batches = st.tuples(
        st.one_of(st.lists(st.sampled_from([0, 1, 90, 600]), min_size=1, max_size=4), st.just([])),
        st.booleans(),
        st.one_of(st.just([]), st.lists(st.booleans(), min_size=1, max_size=3)),
    )

    @rule(batch=batches)
    def offer(self, batch: tuple[list[int], bool, list[bool]]) -> None:
        page, taken, numbers = self.make(*batch)
        buffer, overflow = self.policy.buffer, self.policy.overflow
        fits = self.nbytes + taken.cost <= buffer
        if numbers and not fits:
            in_flight = sum(each.cost for each in self.flying)
            if overflow is Overflow.BLOCK:
                fits = True
            elif overflow is Overflow.DROP_OLDEST and in_flight + taken.cost <= buffer:
                fits = True
                while self.nbytes + taken.cost > buffer:
                    oldest = self.waiting.pop(0)
                    self.end(oldest.numbers, DROPPED, oldest.attempts)
        took = self.outbox.offer(page, taken, self.now)

        assert took == (bool(numbers) and fits)

        if took:
            self.waiting.append(Expected(numbers, taken.cost, self.now + self.outbox.deadline))
        elif numbers:
            self.end(numbers, FAILED if overflow in (Overflow.REJECT, Overflow.BLOCK) else DROPPED, 0)

    @precondition(lambda self: not self.waiting)
    @rule(batch=batches)
    def take_off(self, batch: tuple[list[int], bool, list[bool]]) -> None:
        """The client has it before the outbox hears of it."""
        page, taken, numbers = self.make(*batch)
        if not numbers or not self.outbox.fits(taken):
            self.outbox.accounts.turn_away(page, taken, range(len(numbers)), Rejected("never"), FAILED)
            self.end(numbers, FAILED, 0)
            return
        self.outbox.take_off(page, taken, self.now)
        deadline = self.now + self.outbox.deadline
        self.flying.append(Expected(numbers, taken.cost, deadline, attempts=1, given=list(numbers)))

    @precondition(lambda self: not self.waiting and not self.flying)
    @rule(sizes=st.lists(st.integers(0, 700), min_size=1, max_size=5), tracked=st.booleans())
    def pass_through(self, sizes: list[int], tracked: bool) -> None:
        """The client is through with it before the outbox hears of it, and who calls tells of it."""
        page, _, numbers = self.make(sizes, tracked, [])
        self.outbox.pass_through(len(numbers))
        page.passed(self.outbox.producer_id, len(numbers), self.outbox.accounts.first_try)
        self.told[DELIVERED] += len(numbers)
        self.end(numbers, DELIVERED, 1)

    @rule(batch=batches)
    def overflow(self, batch: tuple[list[int], bool, list[bool]]) -> None:
        page, refused, numbers = self.make(*batch)
        self.outbox.overflow(page, refused, "no room elsewhere")
        rejects = self.policy.overflow in (Overflow.REJECT, Overflow.BLOCK)
        self.end(numbers, FAILED if rejects else DROPPED, 0)

    @precondition(lambda self: self.waiting)
    @rule()
    def drop_oldest(self) -> None:
        oldest = self.waiting.pop(0)
        self.outbox.drop_oldest("no room elsewhere")
        self.end(oldest.numbers, DROPPED, oldest.attempts)

    @rule(resume_at=st.integers(0, 2000))
    def block(self, resume_at: int) -> None:
        if self.nbytes > resume_at:
            self.outbox.block(resume_at)

    # -- rules: sending ----------------------------------------------------------------------------

    @precondition(lambda self: self.waiting)
    @rule(most=st.sampled_from([1, 700, 1400, 10**6]), data=st.data())
    def launch(self, most: int, data: st.DataObject) -> None:
        leading = self.outbox.leading(most)

        assert leading == list(self.outbox.waiting)[: len(leading)]
        assert len(leading) == 1 or sum(entry.cost for entry in leading) <= most
        assert all(entry.start == 0 for entry in leading[1:])

        taken = data.draw(st.integers(1, len(leading)))
        sent = self.outbox.launch(taken)

        assert sent == sum(each.cost for each in self.waiting[:taken])

        for _ in range(taken):
            each = self.waiting.pop(0)
            each.attempts += 1
            each.first_only = False
            each.given = list(each.numbers)
            self.flying.append(each)

    @precondition(lambda self: self.waiting)
    @rule()
    def isolate(self) -> None:
        """The oldest message is on its own then, with a part of what its batch costs."""
        self.outbox.isolate()
        oldest = self.waiting[0]
        if len(oldest.numbers) == 1:
            return
        number = oldest.numbers.pop(0)
        cost = min(Batch.of([b"x" * self.sizes[number]]).cost, oldest.cost // 2)
        self.waiting.insert(
            0, Expected([number], cost, oldest.deadline, oldest.attempts, breaks=oldest.breaks)
        )
        oldest.cost -= cost
        oldest.breaks = 0
        if oldest.first_only:
            oldest.attempts = 0
            oldest.first_only = False

    def move_on(self, count: int) -> None:
        """Let the model's client settle *count* messages."""
        while count:
            each = self.flying[0]
            number = each.given.pop(0)
            count -= 1
            if number in each.numbers:
                each.numbers.remove(number)
                self.end([number], DELIVERED, each.attempts)
            if each.given:
                each.breaks = 0
            else:
                self.flying.pop(0)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, len(self.given())))
        self.outbox.settle(count)
        self.move_on(count)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def advance(self, data: st.DataObject) -> None:
        first = self.flying[0]
        count = data.draw(st.integers(1, len(first.given)))
        self.outbox.advance(count)
        self.move_on(count)
        first.attempts = 1

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        given = self.given()
        place = data.draw(st.integers(-self.outbox.passed, len(given) - 1))
        count = data.draw(st.integers(1, len(given) - place))
        in_time = self.outbox.reject(self.outbox.passed + place, Rejected("never"), count)
        fresh = False
        for each, number in given[max(place, 0) : max(place + count, 0)]:
            if number in each.numbers:
                fresh = True
                each.numbers.remove(number)
                self.end([number], FAILED, each.attempts)

        assert in_time == fresh

    @rule(beyond=st.integers(0, 3))
    def reject_what_was_not_given(self, beyond: int) -> None:
        with pytest.raises(IndexError):
            self.outbox.reject(self.outbox.handed + beyond, Rejected("never"))
        with pytest.raises(IndexError):
            self.outbox.reject(-1 - beyond, Rejected("never"))
        with pytest.raises(IndexError):
            self.outbox.reject(0, Rejected("never"), self.outbox.handed + 1 + beyond)

    # -- rules: when things go wrong ---------------------------------------------------------------

    def back(self, error: DeliveryError) -> None:
        """Let the model's connection end."""
        attempts = self.policy.retry.attempts
        holds = attempts != 1
        if self.flying and not self.flying[0].expired:
            first = self.flying[0]
            number = first.given[0]
            if number not in first.numbers:
                first.breaks = 0
            elif not (holds and isinstance(error, ConnectError)):
                first.breaks += 1
                if attempts is not None and first.breaks >= attempts and (holds or first.first_only):
                    first.numbers.remove(number)
                    self.end([number], FAILED, first.attempts)
                    first.breaks = 0
                    if first.first_only:
                        first.attempts = 0
        back = []
        for each in self.flying:
            each.given = []
            if each.numbers and not holds and not each.first_only:
                self.end(each.numbers, FAILED, each.attempts)
            elif each.numbers:
                back.append(each)
        self.flying = []
        self.waiting[:0] = back

    @rule()
    def rewind(self) -> None:
        error = SendError("gone")
        self.outbox.rewind(error)
        self.back(error)

        assert self.outbox.in_flight() == self.outbox.passed == 0
        assert self.outbox.breaks == (self.waiting[0].breaks if self.waiting else 0)

    @precondition(lambda self: len(self.flying) == 1)
    @rule(unreachable=st.booleans())
    def fail_first(self, unreachable: bool) -> None:
        """A client that is given one message after the other fails at the first, and only there."""
        first = self.flying[0]
        first.first_only = True
        if unreachable and self.policy.retry.attempts != 1:
            first.attempts -= 1
        error = ConnectError("nobody there") if unreachable else SendError("gone")
        self.outbox.fail_first(error)
        self.outbox.rewind(error)
        self.back(error)

    @rule()
    def fail_waiting(self) -> None:
        tried = self.policy.retry.attempts == 1 and all(each.attempts == 0 for each in self.waiting)
        self.outbox.fail_waiting(ConnectError("nobody there"), tried=tried)
        for each in self.waiting:
            self.end(each.numbers, FAILED, each.attempts + tried)
        self.waiting = []

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 3.0]))
    def expire(self, seconds: float) -> None:
        self.now += seconds
        self.outbox.expire(self.now)
        for each in self.flying:
            if each.deadline <= self.now:
                self.end(each.numbers, FAILED, each.attempts)
                each.numbers = []
                each.expired = True
        for each in [each for each in self.waiting if each.deadline <= self.now]:
            self.waiting.remove(each)
            self.end(each.numbers, FAILED, each.attempts)
        live = [each.deadline for each in (*self.flying, *self.waiting) if not each.expired]

        assert self.outbox.next_deadline() == (live[0] if live else None)

    @rule()
    def cancel(self) -> None:
        self.outbox.cancel("closed")
        for each in (*self.flying, *self.waiting):
            self.end(each.numbers, CANCELLED, each.attempts)
        self.flying, self.waiting = [], []

    # -- what holds in every state -----------------------------------------------------------------

    @invariant()
    def counters_are_the_models(self) -> None:
        stats = self.outbox.stats
        expected = Counter(outcome for outcome, _ in self.outcomes.values())
        found = Counter(
            {
                DELIVERED: stats.delivered,
                FAILED: stats.failed,
                DROPPED: stats.dropped,
                CANCELLED: stats.cancelled,
            }
        )

        assert +found == +expected == +self.told
        assert stats.accepted == self.count
        assert stats.pending == self.outbox.pending() == self.count - len(self.outcomes)
        assert self.outbox.pending() == sum(len(each.numbers) for each in (*self.flying, *self.waiting))

    @invariant()
    def order_is_the_models(self) -> None:
        assert self.found(self.outbox.flying) == [each.numbers for each in self.flying]
        assert self.found(self.outbox.waiting) == [each.numbers for each in self.waiting]
        assert self.outbox.in_flight() == len(self.given())

    def found(self, entries: Iterable[Entry]) -> list[list[int]]:
        """Return the numbers of the open messages in one of the outbox's own queues."""
        return [
            [
                self.firsts[entry.page] + (index if entry.batch.kept is None else entry.batch.kept[index])
                for index in range(entry.start, entry.count)
                if not entry.expired and index not in (entry.rejected or ())
            ]
            for entry in entries
        ]

    @invariant()
    def bytes_are_the_models(self) -> None:
        assert self.outbox.nbytes == self.nbytes
        assert self.policy.overflow is Overflow.BLOCK or self.nbytes <= self.policy.buffer
        pages = {id(entry.page): entry.page for entry in (*self.outbox.flying, *self.outbox.waiting)}
        assert self.budget.used == sum(page.cost for page in pages.values())

    @invariant()
    def source_waits_while_full(self) -> None:
        full = self.policy.overflow is Overflow.BLOCK and self.nbytes >= self.policy.buffer
        assert self.is_blocked or not full
        assert not self.is_blocked or self.nbytes > 0

    @invariant()
    def results_are_the_models(self) -> None:
        for number, (page, index) in self.places.items():
            result = page.results(index)["audit"]
            outcome, attempts = self.outcomes.get(number, (Outcome.PENDING, 0))

            assert (result.outcome, result.attempts) == (outcome, attempts)
            assert page.done(index) == (outcome is not Outcome.PENDING)
            assert result.ack is (Ack.KERNEL if outcome is DELIVERED else None)

    def teardown(self) -> None:
        """At the end, every message has its one outcome, and nothing is held."""
        if not hasattr(self, "outbox"):
            return
        self.cancel()
        self.results_are_the_models()

        assert len(self.outcomes) == self.count == self.outbox.stats.accepted
        assert self.budget.used == self.outbox.nbytes == 0
        assert all(page.holders == 0 for page, _ in self.places.values())
        assert all(page.done(None) for page, _ in self.places.values())


OutboxRules.TestCase.settings = settings(
    max_examples=300,
    stateful_step_count=30,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestOutboxRules = OutboxRules.TestCase
