"""What a listener reads into."""

from producer_pool.model.policies import DeliveryPolicy
from producer_pool.toolkit.streams.connection import StreamListenerOptions
from producer_pool.toolkit.streams.readbuffer import ReadBuffer
from support.streams import FakeIntake


class Choosy(FakeIntake):
    """An intake that wants small batches."""

    bite = 0


def test_little_comes() -> None:
    """As long as no read fills it, it stays as small as it was."""
    buffer = ReadBuffer()
    size = len(buffer.data)

    buffer.fit(size - 1, FakeIntake())

    assert len(buffer.data) == len(buffer.view) == size


def test_much_comes() -> None:
    """Once a read filled it, the next may be much larger, and it grows no more than that."""
    buffer = ReadBuffer()
    size = len(buffer.data)

    buffer.fit(size, FakeIntake())
    large = len(buffer.data)
    buffer.fit(large, FakeIntake())

    assert len(buffer.data) == len(buffer.view) == large
    assert large >= 4 * size


def test_intake_that_wants_less() -> None:
    """It gets no larger than that, shrinks again if need be, and is never smaller than it began."""
    buffer = ReadBuffer()
    first = len(buffer.data)
    intake = Choosy()
    sizes = []
    for intake.bite in (first + 1000, 2 * first, 1, 1 << 40):
        buffer.fit(len(buffer.data), intake)
        sizes.append(len(buffer.data))

    assert sizes[:3] == [first + 1000, 2 * first, first]
    assert sizes[3] > 4 * first


def test_protocol_that_wants_less() -> None:
    """It grows no larger than a protocol says, whatever the intake would take."""
    buffer = ReadBuffer()
    buffer.most = 2 * len(buffer.data)

    intake = Choosy()
    intake.bite = 1 << 40
    for taker in (FakeIntake(), intake):
        buffer.fit(len(buffer.data), taker)

        assert len(buffer.data) == buffer.most


def test_what_it_holds_needs_no_look_at_single_messages() -> None:
    """A batch that was read at once is below the usual limit of a message, and fits into a buffer."""
    buffer = ReadBuffer()

    buffer.fit(len(buffer.data), FakeIntake())

    assert len(buffer.data) < StreamListenerOptions().max_message
    assert len(buffer.data) < DeliveryPolicy.relay().buffer // 4
