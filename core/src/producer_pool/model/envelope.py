"""A framing of a plugin's own: each message in an envelope, and those marked off by another framing."""
# Rule: bytes in, bytes out. No socket, no batch.

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from producer_pool.model.decoders import Decoder
from producer_pool.model.errors import FramingError, MessageTooLarge
from producer_pool.model.framing import LINES, Framing

__all__ = ["EnvelopeFraming"]


class EnvelopeFraming(Framing):
    """
    Puts each message into an envelope, and marks off the envelopes as another framing does.

    Derive from it for a protocol in which there is more on the wire than the message::

        from producer_pool.plugin import EnvelopeFraming, FramingError

        class Put(EnvelopeFraming):
            name = "put"

            def wrap(self, message):
                return b"PUT " + message

            def unwrap(self, envelope):
                if not envelope.startswith(b"PUT "):
                    raise FramingError("a line does not begin with PUT")
                return envelope[4:]

    wrap() and unwrap() are called for each message: they are what such a protocol costs.
    """

    inner: Framing = LINES
    """What marks off the envelopes."""

    @abstractmethod
    def wrap(self, message: bytes) -> bytes:
        """Return the envelope of *message*, in which unwrap() finds it again: at least as long as it is."""

    @abstractmethod
    def unwrap(self, envelope: bytes) -> bytes:
        """
        Return the message in *envelope*, which has passed check().

        Raises:
            FramingError: see check(), which calls this unless it is overridden.
        """

    def check(self, envelope: bytes) -> None:
        """
        Refuse *envelope*, which has just arrived, if it is none. Nothing of it is passed on then.

        By default unwrap() is tried, and called again when somebody asks for the message: override this
        one where finding out is dear, and let unwrap() only cut.

        Raises:
            FramingError: it is none; the connection is closed, and the text is logged. It never shows what
                was received. A ValueError means the same, and its text is not shown.
        """
        self.unwrap(envelope)

    def longest(self, max_message: int) -> int:
        """
        Return how long the envelope of a message of *max_message* bytes may be.

        By default each envelope is longer than its message by as much as that of an empty one.
        """
        return max_message + len(self.wrap(b""))

    # -- the framing -------------------------------------------------------------------------------

    def encode(self, messages: Sequence[bytes]) -> bytes:
        return self.inner.encode([self.wrap(message) for message in messages])

    def misfits(self, messages: Sequence[bytes], wire: bytes) -> tuple[int, ...]:
        envelopes = self.inner.split(wire)
        if len(envelopes) != len(messages):
            # One of them holds what ends a frame, so that it does not come back as it was.
            envelopes = [self.wrap(message) for message in messages]
        return self.inner.misfits(envelopes, wire)

    def why_misfit(self) -> str:
        return f"{self.name}: {self.inner.why_misfit().partition(';')[0]}"

    def split(self, wire: bytes) -> list[bytes]:
        return [self.unwrap(envelope) for envelope in self.inner.split(wire)]

    def count(self, wire: bytes) -> int:
        return self.inner.count(wire)

    def offset(self, wire: bytes, index: int) -> int:
        return self.inner.offset(wire, index)

    def index(self, wire: bytes, offset: int) -> int:
        return self.inner.index(wire, offset)

    def cut(self, wire: bytes, size: int) -> Iterator[tuple[bytes, int]]:
        return self.inner.cut(wire, size)

    def decoder(self, max_message: int) -> Decoder:
        return _EnvelopeDecoder(self, max_message)

    # Two of one name may hold two keys: a batch must not take the bytes of the one for those of the other.
    __eq__ = object.__eq__
    __hash__ = object.__hash__


class _EnvelopeDecoder(Decoder):
    """Finds envelopes as the inner framing does, and lets none pass that is none."""

    def __init__(self, framing: EnvelopeFraming, max_message: int) -> None:
        super().__init__(max_message)
        self._framing = framing
        self._inner = framing.inner.decoder(framing.longest(max_message))

    def feed(self, data: bytes | bytearray, size: int) -> bytes:
        if self.error is not None:
            self.frames = 0
            return b""
        inner = self._inner
        wire = inner.feed(data, size)
        self.frames = inner.frames
        if isinstance(inner.error, MessageTooLarge):
            self.error = MessageTooLarge(self._limit)  # in the words of the limit that was asked for
        else:
            self.error = inner.error
        return self._checked(wire)

    def _checked(self, wire: bytes) -> bytes:
        """Return *wire* up to the first envelope that is none: the error is that one's then."""
        inner = self._framing.inner
        for number, envelope in enumerate(inner.split(wire)):
            fault = self._fault(envelope)
            if fault is not None:
                self.error, self.frames = fault, number
                return wire[: inner.offset(wire, number)]
        return wire

    def _fault(self, envelope: bytes) -> FramingError | None:
        framing = self._framing
        try:
            framing.check(envelope)
            # No message is longer than its envelope, so that few have to be looked at.
            if len(envelope) > self._limit and len(framing.unwrap(envelope)) > self._limit:
                return MessageTooLarge(self._limit)
        except FramingError as error:
            return error
        except ValueError as error:
            return FramingError(f"{framing.name}: {type(error).__name__} while unwrapping what came")
        return None

    @property
    def tail(self) -> int:
        return 0 if self.error is not None else self._inner.tail

    def finish(self) -> bytes | None:
        envelope = None if self.error is not None else self._inner.finish()
        if envelope is None or self._fault(envelope) is not None:
            return None
        return self._framing.unwrap(envelope)

    def _body(self, tail: bytes) -> bytes:
        return tail  # finish() asks the inner decoder.
