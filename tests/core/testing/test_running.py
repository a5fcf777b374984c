"""How rules are tried: each alone, within bounds, and whatever the transport does, there is a verdict."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from producer_pool.testing import running
from producer_pool.testing.rule import LISTENER, Rule, RuleBroken, not_applicable, require
from producer_pool.testing.running import Result, run_rule
from producer_pool.testing.subject import Subject
from producer_pool.testing.trial import Trial
from support.trials import plain, rule_of, subject_of
from support.waiting import BOUND
from support.zoo.healthy import PlainClient


class Clock:
    """What running knows of time, where that stands still until the rule is where the test wants it."""

    def __init__(self) -> None:
        self.goes = threading.Event()

    def monotonic(self) -> float:
        return time.monotonic() if self.goes.is_set() else 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(running, "time", made)
    return made


class LeftBehind:
    """The thread of a rule that hangs, until the end of the block; then nothing of it goes on."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self._thread: threading.Thread | None = None

    def here(self) -> threading.Event:
        """Note that the rule is on this thread, and return what it may wait for."""
        self._thread = threading.current_thread()
        return self.over

    def end(self) -> None:
        self.over.set()
        if self._thread is not None:
            self._thread.join(BOUND)
            assert not self._thread.is_alive()


@pytest.fixture
def left_behind() -> Iterator[LeftBehind]:
    made = LeftBehind()
    yield made
    made.end()


@rule_of
async def kept(trial: Trial) -> None:
    await asyncio.sleep(0)


@rule_of
async def broken(trial: Trial) -> None:
    require(False, "it does what it must not do")


@rule_of
async def skipped(trial: Trial) -> None:
    not_applicable("has no such thing")


def test_verdicts() -> None:
    """A rule is kept, broken, or has nothing to say; the last two say why."""
    one, other, third = (run_rule(plain(), rule, seed=7) for rule in (kept, broken, skipped))

    assert (one.result, one.text, one.details) == (Result.KEPT, "", "")
    assert (other.result, other.text) == (Result.BROKEN, "it does what it must not do (seed 7)")
    assert "in broken" in other.details
    assert (third.result, third.text) == (Result.SKIPPED, "zoo has no such thing")
    assert [one.rule, other.rule, third.rule] == [kept, broken, skipped]


def test_rule_that_is_not_asked() -> None:
    """A transport that lacks what a rule needs is not tried."""
    rule = Rule("x", "tests", "", "", (LISTENER,), broken.check)
    verdict = run_rule(Subject("memory:x"), rule)

    assert (verdict.result, verdict.text) == (Result.SKIPPED, "memory has no listener: it only sends")


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit("no"), KeyboardInterrupt("no")], ids=repr)
def test_transport_that_raises(error: BaseException) -> None:
    """Whatever it raises is its fault, and ends nothing but the rule."""

    @rule_of
    async def check(trial: Trial) -> None:
        raise error

    verdict = run_rule(plain(), check, seed=1)

    assert (verdict.result, verdict.text) == (Result.BROKEN, f"raised {type(error).__name__}: no (seed 1)")


def test_transport_that_blocks_the_loop(clock: Clock, left_behind: LeftBehind) -> None:
    """It is left behind after a bounded time, and the verdict says where it hangs."""

    @rule_of
    async def check(trial: Trial) -> None:
        over = left_behind.here()
        clock.goes.set()
        over.wait()  # here

    verdict = run_rule(plain(), check, limit=0.3)

    assert verdict.result is Result.BROKEN
    assert re.search(r"not done within 0\.3 s; it hangs in wait\(\) .*, called by check\(\) ", verdict.text)
    assert "over.wait()  # here" in verdict.details


def test_transport_that_waits_for_ever(clock: Clock) -> None:
    """Where nothing happens any more, the verdict says who waits."""

    async def waits() -> None:
        clock.goes.set()
        await asyncio.Event().wait()

    @rule_of
    async def check(trial: Trial) -> None:
        await waits()

    verdict = run_rule(plain(), check, limit=0.3)

    assert verdict.result is Result.BROKEN
    assert re.search(r"not done within 0\.3 s; it hangs in wait\(\) .*, called by waits\(\) ", verdict.text)
    assert "await waits()" in verdict.details


def test_machine_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that it took for others is none that the rule had."""
    hours = itertools.count(step=3600.0)
    monkeypatch.setattr(running, "time", SimpleNamespace(monotonic=lambda: next(hours)))

    @rule_of
    async def check(trial: Trial) -> None:
        await asyncio.sleep(0.2)

    verdict = run_rule(plain(), check, limit=20)

    assert (verdict.result, verdict.late) == (Result.KEPT, False)


def test_transport_whose_task_goes_on(left_behind: LeftBehind) -> None:
    """A task that cannot be cancelled holds up nobody for long."""
    ended = []

    @rule_of
    async def check(trial: Trial) -> None:
        left_behind.here()

        async def stubborn() -> None:
            for _ in range(3):
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    ended.append(1)

        trial.task = asyncio.create_task(stubborn())  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    verdict = run_rule(plain(), check, patience=0.2)
    left_behind.end()

    assert verdict.result is Result.KEPT
    assert ended == [1]


def test_rule_that_waited_in_vain() -> None:
    """The verdict says so: who asks many rules knows that this one cost all its patience."""

    @rule_of
    async def check(trial: Trial) -> None:
        await trial.until(lambda: False, "it comes")

    @rule_of
    async def tolerant(trial: Trial) -> None:
        trial._patience = 0.05
        with pytest.raises(RuleBroken):
            await trial.until(lambda: False, "it comes")

    assert run_rule(plain(), check, patience=0.05).late
    assert not run_rule(plain(), broken).late
    assert not run_rule(plain(), tolerant).late


def test_transport_that_ignores_its_cancellation(left_behind: LeftBehind) -> None:
    """It is left behind soon after the patience is over, and not only when all time is."""

    async def nothing() -> None:
        while not left_behind.over.is_set():
            await asyncio.sleep(0.01)

    @rule_of
    async def check(trial: Trial) -> None:
        over = left_behind.here()
        async with trial.patience("it ends"):
            while not over.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await nothing()

    # Without an end of that patience, the test would not end either.
    verdict = run_rule(plain(), check, patience=0.2, limit=1e9)

    assert (verdict.result, verdict.late) == (Result.BROKEN, True)
    assert "it hangs in sleep() " in verdict.text


def test_transport_that_blocks_the_loop_for_all_the_patience(
    monkeypatch: pytest.MonkeyPatch, left_behind: LeftBehind
) -> None:
    """It is left behind when that is over: nothing that waits there can ever end."""
    monkeypatch.setattr(running, "_STILL", 0.3)

    @rule_of
    async def check(trial: Trial) -> None:
        left_behind.here().wait()

    # Without an end of that patience, the test would not end either.
    verdict = run_rule(plain(), check, patience=0.2, limit=1e9)

    assert (verdict.result, verdict.late) == (Result.BROKEN, True)


def test_rule_that_is_left_behind_takes_nothing_with_it(
    capsys: pytest.CaptureFixture[str], clock: Clock, left_behind: LeftBehind
) -> None:
    """What it put in the place of stdout, stderr and other things of the program is gone with it."""
    root = logging.getLogger()
    before = (threading.excepthook, root.level, root.handlers[:])

    @rule_of
    async def check(trial: Trial) -> None:
        threading.excepthook = lambda args: None
        root.setLevel(1)
        root.addHandler(logging.NullHandler())
        over = left_behind.here()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            clock.goes.set()
            over.wait()

    run_rule(plain(), check, limit=0.3)
    print("the report")
    left_behind.end()

    assert capsys.readouterr().out == "the report\n"
    assert (threading.excepthook, root.level, root.handlers) == before


class ClosesBadly(PlainClient):
    async def aclose(self) -> None:
        await super().aclose()
        raise RuntimeError("closed already")


class NeverCloses(PlainClient):
    async def aclose(self) -> None:
        await asyncio.Event().wait()


def test_fault_is_not_hidden_by_a_closing_that_never_ends(left_behind: LeftBehind) -> None:
    """The verdict is known before what the rule made is closed."""

    @rule_of
    async def check(trial: Trial) -> None:
        left_behind.here()
        for _ in range(5):
            trial.client("zoo://h:1")
        require(False, "what it is about")

    verdict = run_rule(subject_of(NeverCloses), check, seed=1, patience=0.1)

    assert verdict.text == "what it is about (seed 1)"


def test_fault_is_not_hidden_by_one_in_closing() -> None:
    """The verdict is that of the rule, though closing what it made fails, too."""

    @rule_of
    async def check(trial: Trial) -> None:
        trial.client("zoo://h:1")
        require(False, "what it is about")

    assert run_rule(subject_of(ClosesBadly), check, seed=1).text == "what it is about (seed 1)"


def test_each_run_has_a_loop_and_a_folder_of_its_own(tmp_path: Path) -> None:
    """Nothing of one rule is there in the next: not its loop, nor its files."""
    folders: list[Path] = []
    loops: list[asyncio.AbstractEventLoop] = []

    @rule_of
    async def check(trial: Trial) -> None:
        require(not any(trial.folder.iterdir()), "its folder is not empty")
        (trial.folder / "file").write_text("x")
        folders.append(trial.folder)
        loops.append(asyncio.get_running_loop())

    assert [run_rule(plain(), check).result for _ in range(2)] == [Result.KEPT] * 2
    assert folders[0] != folders[1]
    assert not any(folder.exists() for folder in folders)
    assert all(loop.is_closed() for loop in loops)


def test_chance_comes_from_the_seed() -> None:
    """The number in the text of a broken rule repeats what happened; without one, each run is another."""

    @rule_of
    async def check(trial: Trial) -> None:
        require(False, f"{trial.random.random()}")

    one, other = (run_rule(plain(), check).text for _ in range(2))
    seed = int(one.partition("(seed ")[2].rstrip(")"))

    assert one != other
    assert run_rule(plain(), check, seed=seed).text == one


def test_exceptions_that_nobody_sees() -> None:
    """A rule can ask for those that the loop was told of."""
    seen: list[Callable[[], list[str]]] = []

    @rule_of
    async def check(trial: Trial) -> None:
        asyncio.get_running_loop().call_exception_handler({"message": "lost", "exception": OSError("x")})
        asyncio.get_running_loop().call_exception_handler({"message": "told"})
        seen.append(lambda: trial.unseen)

    run_rule(plain(), check)

    assert seen[0]() == ["lost: OSError('x')", "told"]
