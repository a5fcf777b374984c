"""When a consumer that failed is tried again, and how carefully."""
# Rule: nothing here reads a clock or draws a random number. Callers pass both in.

from __future__ import annotations

from producer_pool.model.policies import Retry

__all__ = ["Breaker"]


class Breaker:
    """
    Keeps the time of the next attempt: after each failure a random one, below a ceiling that doubles.

    Like the breaker of an electric circuit, it may be half open: while `careful`, a connection is given
    one message alone, and the rest when that one has arrived. So a consumer that comes back is not
    flooded, and a message that breaks each connection is found.
    """

    def __init__(self, retry: Retry) -> None:
        self.failures = 0
        """Failures in a row: attempts to connect, and connections that did not last."""
        self.retry_at = 0.0
        self.careful = False
        self._retry = retry

    def learn(self, handed: int, passed: int) -> None:
        """Note how far a connection got that is over now: messages handed to it, and those it settled."""
        if passed:
            self.careful = False
            if passed == handed:
                # It did all that was asked of it, and was closed when it was idle, as balancers do. That is
                # no reason to let the next message wait for longer and longer.
                self.failures = 0
        elif handed:
            self.careful = True

    def failed(self, now: float, *, lasted: float, useful: bool | None, draw: float) -> bool:
        """
        Note that there is no connection, or none any more; return whether that counts as a failure.

        *lasted* says how many seconds one was there, *useful* whether it took messages; None: nobody was
        there, whatever it looked like. After one that was good for something, a direct producer tries
        again at once. All others count, also those that are closed as soon as they are made: else it would
        do nothing but connect.
        """
        retry = self._retry
        # One that took messages and settled none may last as long as it likes: it ran into its timeout.
        if lasted >= retry.stable and not self.careful:
            self.failures = 0
        self.failures += 1
        good = useful is not None and (useful or lasted >= retry.ceiling(self.failures))
        if good and not retry.holds:
            self.retry_at = now
            return False
        self.retry_at = now + retry.delay(self.failures, draw)
        return True
