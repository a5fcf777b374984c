"""The outbox in single situations; test_outbox_rules.py has all of them in any order."""

import pytest

from producer_pool.delivery.outbox import Outbox
from producer_pool.delivery.page import Budget, Page
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, DeliveryError, Full, Rejected, SendError
from producer_pool.model.outcomes import Ack, ForwardResult, Outcome
from producer_pool.model.policies import BATCH_OVERHEAD, DeliveryPolicy, Overflow, Retry


class Told:
    """The events of an outbox, written down."""

    def __init__(self) -> None:
        self.settlements: list[tuple[Outcome, int]] = []
        self.blocks: list[bool] = []
        self.emptied_times = 0

    def settled(self, outcome: Outcome, count: int, error: DeliveryError | None) -> None:
        self.settlements.append((outcome, count))

    def blocked(self, yes: bool) -> None:
        self.blocks.append(yes)

    def emptied(self) -> None:
        self.emptied_times += 1


class Post:
    """An outbox, and pages to put into it."""

    def __init__(
        self,
        *,
        batches: float = 1000,
        overflow: Overflow = Overflow.REJECT,
        attempts: int | None = None,
        deadline: float = 10.0,
    ) -> None:
        """*batches* batches of one empty message fill it."""
        policy = DeliveryPolicy(
            buffer=int(batches * BATCH_OVERHEAD), overflow=overflow, retry=Retry(attempts=attempts)
        )
        self.told = Told()
        self.budget = Budget(10**9)
        self.outbox = Outbox("audit", policy, self.told, ack=Ack.WRITTEN, deadline=deadline)

    def offer(self, *messages: bytes, now: float = 0.0, batch: Batch | None = None) -> Page:
        page = Page(None, ("audit",), tracked=True)
        page.open(self.budget, batch or Batch.of(messages))
        assert page.batch is not None
        self.outbox.offer(page, page.batch, now)
        return page

    def fly(self, *messages: bytes) -> Page:
        page = self.offer(*messages)
        self.outbox.launch(len(self.outbox.waiting))
        return page


def result(page: Page, index: int = 0) -> ForwardResult:
    return page.results(index)["audit"]


def test_full_with_drop_oldest() -> None:
    """The oldest waiting batch gives way, and its receipt says so."""
    post = Post(batches=2, overflow=Overflow.DROP_OLDEST)
    pages = [post.offer(b""), post.offer(b""), post.offer(b"")]

    assert [result(page).outcome for page in pages] == [Outcome.DROPPED, Outcome.PENDING, Outcome.PENDING]
    assert isinstance(result(pages[0]).error, Full)


def test_drop_oldest_while_all_of_it_flies() -> None:
    """What flies stays, so that the new batch is the one to be dropped."""
    post = Post(batches=2, overflow=Overflow.DROP_OLDEST)
    flying = [post.fly(b""), post.fly(b"")]
    late = post.offer(b"")

    assert result(late).outcome is Outcome.DROPPED
    assert [result(page).outcome for page in flying] == [Outcome.PENDING, Outcome.PENDING]


def test_drop_oldest_that_would_not_make_enough_room() -> None:
    """Nothing is dropped in vain: what waits stays, and the large batch goes."""
    post = Post(batches=4, overflow=Overflow.DROP_OLDEST)
    post.fly(b"x" * 1024)
    waiting = post.offer(b"")
    large = post.offer(b"x" * 700)

    assert result(large).outcome is Outcome.DROPPED
    assert result(waiting).outcome is Outcome.PENDING


def test_dropped_after_it_was_sent_once() -> None:
    """The error says that it may have arrived."""
    post = Post(batches=1, overflow=Overflow.DROP_OLDEST)
    sent = post.fly(b"")
    post.outbox.rewind(SendError("gone"))
    post.offer(b"")

    assert "it may have arrived" in str(result(sent).error)


@pytest.mark.parametrize(
    "overflow,outcome", [(Overflow.REJECT, Outcome.FAILED), (Overflow.DROP_NEWEST, Outcome.DROPPED)]
)
def test_full_otherwise(overflow: Overflow, outcome: Outcome) -> None:
    """The new batch is not taken, and says why."""
    post = Post(batches=1, overflow=overflow)
    first, second = post.offer(b""), post.offer(b"")

    assert result(first).outcome is Outcome.PENDING
    assert result(second).outcome is outcome
    assert str(result(second).error) == "audit: buffer of 512B is full (buffer=, overflow=); not taken"


def test_batch_larger_than_the_whole_buffer() -> None:
    """It drops nothing of what fits."""
    post = Post(batches=2, overflow=Overflow.DROP_OLDEST)
    small = post.offer(b"")
    large = post.offer(b"x" * 5000)

    assert (result(small).outcome, result(large).outcome) == (Outcome.PENDING, Outcome.DROPPED)
    assert str(result(large).error) == (
        "audit: a batch that takes 5512B, what it costs in memory included, "
        "does not fit into its buffer of 1KiB (buffer=); not taken"
    )


def test_full_with_block() -> None:
    """All is taken, but the source has to wait until half of the buffer is free."""
    post = Post(batches=4, overflow=Overflow.BLOCK)
    for _ in range(5):
        post.fly(b"")

    assert post.told.blocks == [True]

    post.outbox.settle(2)

    assert post.told.blocks == [True]

    post.outbox.settle(1)

    assert post.told.blocks == [True, False]


def test_blocked_twice() -> None:
    """The lower of the two sizes has to be reached, whichever came first."""
    post = Post(batches=4)
    for _ in range(3):
        post.offer(b"")
    post.outbox.block(0)
    post.outbox.block(2 * BATCH_OVERHEAD)
    post.outbox.drop_oldest("no room")

    assert post.told.blocks == [True]


def test_partly_settled_when_the_connection_breaks() -> None:
    """It goes out again from the first message that was not settled, before what waits."""
    post = Post()
    first = post.fly(b"a", b"b", b"c")
    post.offer(b"d")
    post.outbox.settle(1)
    post.outbox.rewind(SendError("gone"))
    entries = post.outbox.leading(10**6)

    assert [(list(entry.batch)[entry.start :]) for entry in entries] == [[b"b", b"c"], [b"d"]]

    post.outbox.launch(2)
    post.outbox.settle(3)

    assert [result(first, index).attempts for index in range(3)] == [1, 2, 2]
    assert post.outbox.stats.resent == 2


def test_burst_behind_a_started_batch() -> None:
    """Only the first batch of a burst is sent from its middle, so the next burst begins there."""
    post = Post()
    post.fly(b"a", b"b")
    post.offer(b"c", b"d")
    post.outbox.launch(1)
    post.outbox.settle(1)
    post.outbox.rewind(SendError("gone"))
    post.offer(b"e")

    assert len(post.outbox.leading(10**6)) == 3


def test_refused_messages_when_the_connection_breaks() -> None:
    """They are not sent again, and the others of their batch are."""
    post = Post()
    page = post.fly(b"a", b"b", b"c")
    post.outbox.reject(1, Rejected("no b"))
    post.outbox.rewind(SendError("gone"))

    assert list(post.outbox.waiting[0].batch) == [b"a", b"c"]

    post.outbox.launch(1)
    post.outbox.settle(2)

    assert [result(page, index).outcome.value for index in range(3)] == ["delivered", "failed", "delivered"]


def test_all_of_a_batch_refused_when_the_connection_breaks() -> None:
    """Nothing is left of it."""
    post = Post()
    post.fly(b"a", b"b")
    post.outbox.reject(0, Rejected("no"))
    post.outbox.reject(1, Rejected("no"))
    post.outbox.rewind(SendError("gone"))

    assert post.outbox.empty
    assert post.budget.used == post.outbox.nbytes == 0


def test_refused_twice() -> None:
    """The second time, and once it is settled, nothing happens any more."""
    post = Post()
    post.fly(b"a", b"b")
    first = post.outbox.reject(1, Rejected("no"))
    again = post.outbox.reject(1, Rejected("no"))
    post.outbox.settle(2)
    late = post.outbox.reject(0, Rejected("no"))

    assert (first, again, late) == (True, False, False)
    assert (post.outbox.stats.delivered, post.outbox.stats.failed) == (1, 1)


def test_many_refused_at_once() -> None:
    """They may be of several batches, settled in part; each result says so, and each is told once."""
    post = Post()
    pages = [post.fly(b"a", b"b"), post.fly(b"c"), post.fly(b"d", b"e")]
    post.outbox.settle(1)
    post.outbox.reject(2, Rejected("no c"))
    all_fresh = post.outbox.reject(0, Rejected("no"), 4)
    post.outbox.settle(4)

    assert all_fresh
    outcomes = [result(page, index).outcome.value for page in pages for index in range(len(page.batch or ()))]
    assert outcomes == ["delivered", "failed", "failed", "failed", "delivered"]
    assert (post.outbox.stats.delivered, post.outbox.stats.failed) == (2, 3)
    assert post.outbox.empty


def test_last_attempt_of_one_message_of_a_batch() -> None:
    """It fails; those behind it were not handed over, and have all of their attempts."""
    post = Post(attempts=2)
    page = post.fly(b"poison", b"good")
    for _ in range(2):
        post.outbox.fail_first(SendError("reset"))
        post.outbox.rewind(SendError("reset"))
        post.outbox.launch(1)

    assert result(page, 0).attempts == 2
    assert post.outbox.flying[0].attempts == 1

    post.outbox.fail_first(SendError("reset"))
    post.outbox.rewind(SendError("reset"))

    assert result(page, 1).outcome is Outcome.PENDING
    assert post.outbox.stats.resent == 1 + 0


def test_unreachable_consumer_uses_up_no_attempt() -> None:
    """What cannot have arrived was not tried, where messages wait for their consumer."""
    post = Post(attempts=2)
    page = post.fly(b"a")
    for _ in range(5):
        post.outbox.fail_first(ConnectError("refused"))
        post.outbox.rewind(ConnectError("refused"))
        post.outbox.launch(1)

    assert result(page).outcome is Outcome.PENDING
    assert post.outbox.flying[0].attempts == 1
    assert post.outbox.stats.resent == 0


def test_expired_in_flight() -> None:
    """It has failed and may have arrived; what the client still says of it counts for nothing."""
    post = Post(deadline=5)
    page = post.fly(b"a", b"b")
    post.outbox.settle(1)
    post.outbox.expire(5.0)

    assert [result(page, index).outcome for index in range(2)] == [Outcome.DELIVERED, Outcome.FAILED]
    assert "it may have arrived" in str(result(page, 1).error)

    post.outbox.settle(1)

    assert (post.outbox.stats.delivered, post.outbox.stats.failed) == (1, 1)
    assert post.outbox.empty


def test_expired_in_flight_when_the_connection_breaks() -> None:
    """It is not sent again."""
    post = Post(deadline=5)
    post.fly(b"a")
    post.outbox.expire(5.0)
    post.outbox.rewind(SendError("gone"))

    assert post.outbox.empty
    assert post.told.emptied_times == 1


def test_next_expiry_behind_one_that_was_settled_after_its_own() -> None:
    """Each batch expires at its own deadline, whatever became of those before it."""
    post = Post(deadline=5)
    post.offer(b"a", now=0)
    later = post.offer(b"b", now=2)
    post.outbox.launch(2)
    post.outbox.expire(5.0)
    post.outbox.settle(1)

    assert post.outbox.next_deadline() == 7.0

    post.outbox.expire(7.0)

    assert result(later).outcome is Outcome.FAILED
    assert post.outbox.next_deadline() is None


@pytest.mark.parametrize("sent,says", [(True, "it may have arrived"), (False, "it was not sent")])
def test_expired_while_it_waits(sent: bool, says: str) -> None:
    """The error says whether it may have arrived, and what kept it."""
    post = Post(deadline=5)
    page = post.fly(b"a") if sent else post.offer(b"a")
    post.outbox.rewind(SendError("gone"))
    post.outbox.expire(5.0, why="; the consumer is down")

    assert str(result(page).error).endswith(f"{says}; the consumer is down")


@pytest.mark.parametrize("sent,says", [(True, "it may have arrived"), (False, "it was not sent")])
def test_cancelled(sent: bool, says: str) -> None:
    """The error says whether it may have arrived."""
    post = Post()
    page = post.fly(b"a") if sent else post.offer(b"a")
    post.outbox.cancel("closed")

    assert result(page).outcome is Outcome.CANCELLED
    assert str(result(page).error) == f"audit: closed; {says}"


def test_rewind_with_some_attempts_left() -> None:
    """It is not told that all is done while what has attempts left goes back."""
    post = Post(attempts=2)
    post.fly(b"a")
    post.outbox.rewind(SendError("gone"))
    post.offer(b"b")
    post.outbox.launch(2)
    post.outbox.rewind(SendError("gone"))

    assert post.told.emptied_times == 0
    assert [list(entry.batch) for entry in post.outbox.waiting] == [[b"b"]]


def test_what_is_told_while_it_happens() -> None:
    """Whoever is told finds all counters, queues and results as they are afterwards."""
    post = Post(attempts=1, deadline=5)
    found = []

    class Looks(Told):
        def settled(self, outcome: Outcome, count: int, error: DeliveryError | None) -> None:
            found.append(post.outbox.stats.pending == post.outbox.pending())

    post.outbox.accounts._events = Looks()
    for _ in range(6):
        post.offer(b"a", b"b")
    post.outbox.launch(4)
    post.outbox.settle(3)
    post.outbox.reject(4, Rejected("no"))
    post.outbox.fail_first(SendError("gone"))
    post.outbox.expire(1.0)
    post.outbox.rewind(SendError("gone"))
    post.outbox.drop_oldest("no room")
    post.outbox.expire(5.0)
    post.offer(b"c")
    post.outbox.cancel("closed")

    assert found == [True] * len(found)
    assert len(found) >= 7


def test_two_batches_of_a_page() -> None:
    """A page that was cut counts once for the pool, until its last piece is settled."""
    post = Post()
    page = Page(None, ("audit",), tracked=True)
    whole = Batch.of([b"a", b"b"])
    page.open(post.budget, whole)
    for index in range(2):
        post.outbox.offer(page, whole.select([index]), 0.0)
    post.outbox.launch(2)
    post.outbox.settle(1)

    assert post.budget.used == whole.cost

    post.outbox.settle(1)

    assert post.budget.used == 0
    assert page.done(None)


# -- one message alone -------------------------------------------------------------------------------


def test_oldest_message_alone() -> None:
    """It is cut off from its batch, which goes on behind it, at the same cost together."""
    post = Post()
    page = post.offer(b"a", b"b", b"c")
    post.offer(b"d")
    nbytes = post.outbox.nbytes
    post.outbox.isolate()
    post.outbox.isolate()

    assert [list(entry.batch) for entry in post.outbox.waiting] == [[b"a"], [b"b", b"c"], [b"d"]]
    assert post.outbox.nbytes == nbytes
    assert page.holders == 2

    post.outbox.launch(1)
    post.outbox.settle(1)

    assert [result(page, index).outcome.value for index in range(3)] == ["delivered", "pending", "pending"]

    post.outbox.launch(2)
    post.outbox.settle(3)

    assert post.outbox.empty
    assert (page.holders, post.outbox.nbytes) == (0, 0)
    assert result(page, 2).outcome is Outcome.DELIVERED


def test_rest_of_a_batch_that_gives_way_first() -> None:
    """What is in flight alone has no outcome from that."""
    post = Post()
    page = post.offer(b"a", b"b", b"c")
    post.outbox.isolate()
    post.outbox.launch(1)
    post.outbox.drop_oldest("no room")

    assert [result(page, index).outcome.value for index in range(3)] == ["pending", "dropped", "dropped"]

    post.outbox.settle(1)

    assert result(page, 0).outcome is Outcome.DELIVERED
    assert page.done(None)


def test_breaks_are_held_against_the_oldest_message() -> None:
    """It fails when it has no attempt left; those behind it go on, however often they were in flight."""
    post = Post(attempts=3)
    pages = [post.offer(b"poison", b"good"), post.offer(b"fine")]
    for _ in range(3):
        post.outbox.launch(2)
        post.outbox.rewind(SendError("gone"))

    assert result(pages[0], 0).outcome is Outcome.FAILED
    assert result(pages[0], 0).attempts == 3
    assert post.outbox.breaks == 0

    post.outbox.launch(2)
    post.outbox.settle(2)

    assert result(pages[0], 1).attempts == result(pages[1]).attempts == 4


def test_breaks_after_progress() -> None:
    """They are held against the message that was the oldest then, and begin anew with each."""
    post = Post(attempts=2)
    page = post.fly(b"a", b"b", b"c")
    breaks = []
    for _ in range(3):
        post.outbox.rewind(SendError("gone"))
        breaks.append(post.outbox.breaks)
        post.outbox.launch(1)
        post.outbox.settle(1)

    assert breaks == [1, 1, 1]
    assert [result(page, index).outcome.value for index in range(3)] == ["delivered"] * 3


def test_break_behind_a_message_that_was_refused() -> None:
    """That one had its answer, and nothing is held against the next."""
    post = Post(attempts=2)
    post.fly(b"a", b"b")
    post.outbox.reject(0, Rejected("no"))
    post.outbox.rewind(SendError("gone"))

    assert post.outbox.breaks == 0
    assert [list(entry.batch) for entry in post.outbox.waiting] == [[b"b"]]
