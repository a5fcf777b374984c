"""Patience for a whole run of the suite: of a transport where nothing works, the last rules expect little."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from producer_pool.testing.rule import Rule
from producer_pool.testing.running import Result, Verdict, run_rule
from producer_pool.testing.subject import Subject
from producer_pool.testing.trial import PATIENCE

__all__ = ["WaningPatience"]

_MUCH: Final = 3.0
"""Times the patience that rules may lose by waiting in vain, until the others get less of it."""
_TOO_MUCH: Final = 4.0
"""The same, until they get so little that what takes longer says nothing of the transport."""
_LESS: Final = 1 / 10
"""Parts of the patience that are still enough for a healthy transport."""
_LITTLE: Final = 1 / 40
_LIMIT: Final = 2.5


class WaningPatience:
    """
    Asks rules one after the other, with less patience when several have waited in vain.

    Each of the first waits for as long as a slow machine may need. A transport that has let three of them
    wait in vain has faults enough to mend, and what else it does wrong is found in a tenth of that. When
    there is no end of it, a rule that is not done in an instant is left out, and says so: of those that
    need no more, one still learns whether they are kept.
    """

    def __init__(self, subject: Subject, seed: int, *, patience: float = PATIENCE) -> None:
        self._subject = subject
        self._seed = seed
        self._patience = patience
        self._lost = 0.0
        """Seconds that rules took which are broken; of each, no more than it had patience."""

    def ask(self, rule: Rule) -> Verdict:
        """Return what *rule* says of the transport."""
        hopeless = self._lost >= _TOO_MUCH * self._patience
        less = self._lost >= _MUCH * self._patience
        patience = self._patience * (_LITTLE if hopeless else _LESS if less else 1)
        # Where little is left, a rule has no time for anything but waiting.
        limit = _LIMIT * patience if hopeless else None
        since = time.monotonic()
        verdict = run_rule(self._subject, rule, seed=self._seed, patience=patience, limit=limit)
        if verdict.late or verdict.result is Result.BROKEN:
            # A client's own timeout may end what the patience of the suite would not have. What is beyond
            # that, the machine may have taken for others.
            self._lost += min(time.monotonic() - since, patience)
        if not (hopeless and verdict.late and verdict.result is Result.BROKEN):
            return verdict
        text = f"not done within {patience:g} s; no longer was waited, for what rules before it took in vain"
        return replace(verdict, result=Result.SKIPPED, text=text, details="")
