"""Patience for a whole run: enough for a slow machine, and not for a transport where nothing works."""

from __future__ import annotations

import asyncio
import time

import pytest

from producer_pool.testing.patience import settling
from producer_pool.testing.rule import Rule, require
from producer_pool.testing.running import Result, Verdict
from producer_pool.testing.trial import PATIENCE as PATIENCE_OF_ALL
from producer_pool.testing.trial import Trial
from producer_pool.testing.waning import WaningPatience
from support.trials import plain, rule_of

PATIENCE = 0.4


@rule_of
async def in_vain(trial: Trial) -> None:
    await trial.until(lambda: False, "it comes")


@rule_of
async def broken_at_once(trial: Trial) -> None:
    require(False, "it does what it must not do")


def slow(seconds: float) -> Rule:
    """Return a rule that is kept after so many seconds of patience."""

    @rule_of
    async def check(trial: Trial) -> None:
        async with trial.patience("it comes late"):
            # In the time that patience is counted in, too: a machine that stands still helps neither.
            await settling(lambda: None, seconds)

    return check


@pytest.fixture
def waning() -> WaningPatience:
    return WaningPatience(plain(), 7, patience=PATIENCE)


def text(verdict: Verdict) -> str:
    return verdict.text.partition(" in vain")[0]


def test_three_that_wait_in_vain(waning: WaningPatience) -> None:
    """Each waits for as long as it may; all others wait for a tenth of that, and are broken as well."""
    said = [text(waning.ask(in_vain)) for _ in range(4)]

    assert said == ["waited 0.4 s"] * 3 + ["waited 0.04 s"]


def test_machine_that_is_busy(waning: WaningPatience) -> None:
    """What it takes for others is not lost by waiting in vain."""

    @rule_of
    async def late(trial: Trial) -> None:
        time.sleep(1.5 * PATIENCE)
        require(False, "it does what it must not do")

    for _ in range(2):
        waning.ask(late)

    assert text(waning.ask(in_vain)) == "waited 0.4 s"


def test_healthy_rule_after_them(waning: WaningPatience) -> None:
    """It is kept, as long as it needs no more than a tenth."""
    for _ in range(3):
        waning.ask(in_vain)

    assert waning.ask(slow(0)).result is Result.KEPT
    assert waning.ask(slow(PATIENCE / 2)).result is Result.BROKEN


def test_transport_where_nothing_works(waning: WaningPatience) -> None:
    """In the end, what is not done at once is left out, and not said to be broken."""
    verdicts = [waning.ask(in_vain) for _ in range(20)]

    assert {verdict.result for verdict in verdicts[:3]} == {Result.BROKEN}
    assert {verdict.result for verdict in verdicts[15:]} == {Result.SKIPPED}
    told = "not done within 0.01 s; no longer was waited, for what rules before it took"
    assert all(verdict.text.startswith(told) for verdict in verdicts[15:])


def test_rules_that_are_asked_to_the_end() -> None:
    """Of those that need no more than an instant, one still learns whether they are kept."""
    waning = WaningPatience(plain(), 7)
    waning._lost = 5 * PATIENCE_OF_ALL

    assert waning.ask(slow(0)).result is Result.KEPT
    assert waning.ask(broken_at_once).result is Result.BROKEN
    assert waning.ask(in_vain).result is Result.SKIPPED


def test_client_that_gives_up_by_itself(waning: WaningPatience) -> None:
    """What its own timeout ended was waited for as well."""

    @rule_of
    async def times_out(trial: Trial) -> None:
        await asyncio.sleep(PATIENCE)
        require(False, "no answer")

    for _ in range(3):
        assert not waning.ask(times_out).late

    assert text(waning.ask(in_vain)) == "waited 0.04 s"


def test_rules_that_are_broken_at_once() -> None:
    """They cost no time, and take none away from others."""
    waning = WaningPatience(plain(), 7)
    for _ in range(10):
        assert waning.ask(broken_at_once).result is Result.BROKEN

    assert waning.ask(slow(1.2 * PATIENCE_OF_ALL / 10)).result is Result.KEPT
