"""Which producers a pool has, as callers see it: ids, and the targets of a message."""
# Rule: a message's targets are a tuple that lives as long as the set it names does not change. Pages of the
# submit log compare it by identity.

from __future__ import annotations

import threading
from collections.abc import Iterable

from producer_pool.model.errors import DuplicateProducer, UnknownProducer, UsageError

__all__ = ["Roster"]


class Roster:
    """
    The ids of a pool's producers, in the order of adding. Any thread may ask.

    Adding takes two steps, so that no message can name a producer that the pool's loop has not got
    yet: reserve() refuses duplicates, publish() makes it a target.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reserved: dict[str, None] = {}
        self._one: dict[str, tuple[str]] = {}
        self.all: tuple[str, ...] = ()
        """The targets of a message to everybody."""

    def reserve(self, producer_id: str) -> None:
        """
        Take an id.

        Raises:
            DuplicateProducer: it is taken.
            UsageError: it is no id.
        """
        if type(producer_id) is not str or not producer_id or not producer_id.isprintable():
            raise UsageError(f"a producer's id is a text without control characters, not {producer_id!r}")
        with self._lock:
            if producer_id in self._reserved:
                raise DuplicateProducer(producer_id, self._reserved)
            self._reserved[producer_id] = None

    def publish(self, producer_id: str) -> None:
        """Make a reserved id a target."""
        with self._lock:
            self._one[producer_id] = (producer_id,)
            self.all = tuple(name for name in self._reserved if name in self._one)

    def discard(self, producer_id: str) -> None:
        """
        Make an id no target any more.

        Raises:
            UnknownProducer: it is none.
            UsageError: it is a collection of ids.
        """
        _check_one(producer_id, "remove_producer() takes one at a time")
        with self._lock:
            if self._one.pop(producer_id, None) is None:
                raise UnknownProducer((producer_id,), self._one)
            self.all = tuple(name for name in self.all if name != producer_id)

    def free(self, producer_id: str) -> None:
        """Let an id be reserved again."""
        with self._lock:
            self._reserved.pop(producer_id, None)

    def one(self, producer_id: str) -> tuple[str]:
        """
        Return the targets of a message to one producer.

        Raises:
            UnknownProducer: there is none of this id.
            UsageError: it is a collection of ids.
        """
        try:
            return self._one[producer_id]
        except (KeyError, TypeError):
            _check_one(producer_id, "use forward_to_many() for several")
            raise UnknownProducer((producer_id,), self.all, sending=True) from None

    def many(self, producer_ids: Iterable[str]) -> tuple[str, ...]:
        """
        Return the targets of a message to some producers, each once, in the order in which they are named.

        Raises:
            UnknownProducer: some do not exist; it names them all, and nothing was sent to the others.
            UsageError: it is no collection of ids.
        """
        if isinstance(producer_ids, str):
            raise UsageError(f"expected several ids, got the text {producer_ids!r}; use forward_to() for one")
        try:
            targets = tuple(dict.fromkeys(producer_ids))
        except TypeError:
            raise UsageError(f"expected several ids, such as a list of texts, not {producer_ids!r}") from None
        unknown = [name for name in targets if name not in self._one]
        if unknown:
            raise UnknownProducer(unknown, self.all, sending=True)
        return targets


def _check_one(given: object, advice: str) -> None:
    """Refuse several ids where one is asked for."""
    if isinstance(given, Iterable) and not isinstance(given, str | bytes):
        raise UsageError(f"expected one id, got the {type(given).__name__} {given!r}; {advice}") from None
