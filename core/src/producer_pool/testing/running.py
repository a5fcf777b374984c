"""Rules tried on a transport, each on a loop and thread of its own, so that none holds up another."""

from __future__ import annotations

import asyncio
import enum
import logging
import random
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

from producer_pool.model.whereabouts import of_coroutine, of_thread, where
from producer_pool.testing.rule import NotApplicable, Rule, RuleBroken
from producer_pool.testing.subject import Subject
from producer_pool.testing.trial import PATIENCE, Trial

__all__ = ["Result", "Verdict", "run_rule"]

_ASYNCIO: Final = Path(asyncio.__file__).parent
_LIMIT: Final = 2.5
"""Times the patience that a rule may take as a whole: longer than it waits for anything."""
_WORK: Final = 20.0
"""Seconds for all else that it does, on a machine that is busy."""
_ENDING: Final = 5.0
"""Seconds in which the tasks of a rule have to end when they are cancelled."""
_STILL: Final = 5.0
"""Seconds, at the least, for which a loop that is blocked for good stands still: rules block it for less."""
_BEAT: Final = 0.05
_LOOK: Final = 0.05
"""Seconds between two looks at a rule. One that comes late counts for no more: others make nobody late."""


class Result(enum.Enum):
    """How a rule ended."""

    KEPT = "kept"
    BROKEN = "broken"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Verdict:
    """What a rule says of a transport."""

    rule: Rule
    result: Result
    text: str = ""
    """What the transport did, or why the rule was skipped."""
    details: str = ""
    """For the one who mends it: a traceback."""
    late: bool = False
    """Whether it waited in vain, with all its patience, or was left behind."""


def run_rule(
    subject: Subject,
    rule: Rule,
    *,
    seed: int | None = None,
    patience: float = PATIENCE,
    limit: float | None = None,
) -> Verdict:
    """
    Return what *rule* says of *subject*. Never raises for anything that the transport does.

    *seed* repeats what an earlier run left to chance. What does not come true within *patience*, in
    seconds, never will; what is not done within *limit*, by default longer, is left behind. So is what
    blocks the loop for all that patience, and what does not end though it was cancelled, or closed.
    """
    lacking = rule.lacking(subject)
    if lacking:
        return Verdict(rule, Result.SKIPPED, f"{subject.scheme} {lacking}")
    seed = random.randrange(1 << 32) if seed is None else seed
    with tempfile.TemporaryDirectory(prefix="trial-", ignore_cleanup_errors=True) as folder:
        trial = Trial(subject, Path(folder), seed, patience=patience)
        limit = max(_LIMIT * patience, _WORK) if limit is None else limit
        verdict = _Run(rule, trial, patience, limit).verdict()
    if verdict.result is not Result.BROKEN:
        return verdict
    return replace(verdict, text=f"{verdict.text} (seed {seed})")


class _Run:
    """One rule, on a thread of its own: a transport that blocks the loop for ever is left behind there."""

    def __init__(self, rule: Rule, trial: Trial, patience: float, limit: float) -> None:
        self._rule = rule
        self._trial = trial
        self._patience = patience
        self._limit = limit
        self._ending = min(_ENDING, patience)
        self._beats = 0
        self._check: Coroutine[Any, Any, None] = rule.check(trial)
        self._verdict: Verdict | None = None

    def verdict(self) -> Verdict:
        restore = _surroundings()
        thread = threading.Thread(target=self._work, name=f"rule {self._rule.name}", daemon=True)
        thread.start()
        seconds = self._wait_for(thread)
        # It may be known, though what the rule made is still being closed.
        verdict = self._verdict or self._unfinished(sys._current_frames().get(thread.ident or 0), seconds)
        if thread.is_alive():
            restore()
            verdict = replace(verdict, late=True)
        return verdict

    def _wait_for(self, thread: threading.Thread) -> float:
        """Wait until *thread* ends, or until there is no hope for it; return the seconds that it had."""
        beats, still, over, had = 0, 0.0, 0.0, 0.0
        while thread.is_alive() and had < self._limit:
            beats, still = self._beats, still + _LOOK if beats == self._beats else 0.0
            over = over + _LOOK if self._verdict or self._trial.stuck else 0.0
            if still > max(self._patience, _STILL) or over > 2 * self._ending:
                break
            since = time.monotonic()
            thread.join(min(_LOOK, self._limit - had))
            had += min(time.monotonic() - since, _LOOK)
        return had

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beats += 1
        loop.call_later(_BEAT, self._beat, loop)

    def _unfinished(self, frame: FrameType | None, seconds: float) -> Verdict:
        """Say where a rule is that does not end within so many *seconds*; *frame* is where its thread is."""
        stack = of_thread(frame) if frame is not None else of_coroutine(self._check)
        if frame is not None and self._is_idle(frame):  # Somebody waits in vain.
            stack = of_coroutine(self._check) or stack
        text = f"not done within {seconds:.2g} s; it hangs {where(stack) if stack else 'at its end'}"
        return Verdict(self._rule, Result.BROKEN, text, "".join(stack.format()))

    def _is_idle(self, frame: FrameType) -> bool:
        """Whether a loop has nothing to do whose thread is at *frame*; its heart beats all the same."""
        code = frame.f_code
        at_rest = code.co_name == "select" or Path(code.co_filename).parent == _ASYNCIO
        return at_rest or code is _Run._beat.__code__

    def _work(self) -> None:
        try:
            self._in_a_loop(self._try())
        except BaseException as error:
            self._verdict = self._verdict or self._broken(error)

    def _broken(self, error: BaseException) -> Verdict:
        text = str(error) if isinstance(error, RuleBroken) else f"raised {type(error).__name__}: {error}"
        details = "".join(traceback.format_exception(error))
        return Verdict(self._rule, Result.BROKEN, text, details, self._trial.late)

    async def _try(self) -> None:
        trial = self._trial
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: trial.unseen.append(_described(context)))
        try:
            await self._check
        except NotApplicable as reason:
            self._verdict = Verdict(self._rule, Result.SKIPPED, f"{trial.subject.scheme} {reason}")
        except BaseException as error:
            self._verdict = self._broken(error)
        else:
            self._verdict = Verdict(self._rule, Result.KEPT)
        await trial.aclose()

    def _in_a_loop(self, story: Coroutine[Any, Any, None]) -> None:
        """Run *story*. Unlike asyncio.run(), wait a bounded time for tasks that ignore their cancellation."""
        loop = asyncio.new_event_loop()
        try:
            asyncio.set_event_loop(loop)
            self._beat(loop)
            loop.run_until_complete(story)
        finally:
            try:
                self._end_tasks(loop)
            finally:
                asyncio.set_event_loop(None)
                loop.close()

    def _end_tasks(self, loop: asyncio.AbstractEventLoop) -> None:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=self._ending))
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()
            # Those that go on belong to the transport, and the rule that it breaks has its own text.
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.run_until_complete(loop.shutdown_asyncgens())


def _surroundings() -> Callable[[], None]:
    """
    Return what makes the program what it is now, for when a rule is left behind.

    Some rules listen to what is printed and logged, and that one may never come to the end of that.
    """
    root = logging.getLogger()
    stdout, stderr, hook = sys.stdout, sys.stderr, threading.excepthook
    level, handlers = root.level, root.handlers[:]

    def restore() -> None:
        sys.stdout, sys.stderr, threading.excepthook = stdout, stderr, hook
        root.setLevel(level)
        root.handlers[:] = handlers

    return restore


def _described(context: dict[str, Any]) -> str:
    error = context.get("exception")
    return f"{context['message']}: {error!r}" if error is not None else str(context["message"])
