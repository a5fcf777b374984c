"""The suite tested by transports that are wrong on purpose: the rule that names the fault finds each."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from producer_pool.testing.daemons import TrialDaemon
from producer_pool.testing.rule import Rule
from producer_pool.testing.rules import RULES
from producer_pool.testing.running import Result, run_rule
from support.waiting import BOUND
from support.zoo import ANIMALS, HEALTHY, IN_FILES, Animal, cleaning

PATIENCE = 1.0
"""Seconds. Most animals are found at once, and those that let one wait are found by that alone."""
MORE = 4.0
"""The same for rules that have a daemon, or collect the garbage of all tests before, on a busy machine."""
LIMIT = 50.0
"""Seconds for all that a rule does: those that it has for transports that keep it."""
SEED = 1
"""What is left to chance: an animal that few draws bring to light is drawn one of them."""


@pytest.fixture(autouse=True)
def _cleaned() -> Iterator[None]:
    """Some leave things behind; that is what they are there for."""
    yield
    while cleaning:
        cleaning.pop()()


@pytest.fixture
def _in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a daemon begin in its own time, which is that of a process, and have patience from then on."""
    begin = TrialDaemon.__aenter__

    async def begun(daemon: TrialDaemon) -> TrialDaemon:
        made = await begin(daemon)
        daemon._trial._patience = MORE
        return made

    monkeypatch.setattr(TrialDaemon, "__aenter__", begun)


@pytest.mark.usefixtures("_in_its_time")
@pytest.mark.parametrize("animal", ANIMALS, ids=lambda animal: animal.name)
def test_animal_is_rejected_by_the_rule_that_names_its_fault(animal: Animal) -> None:
    """The rule is broken, and what it says is what is wrong."""
    rule = RULES[animal.breaks]
    patience = {"daemon": BOUND, "lifecycle": MORE, "loop": MORE}.get(rule.family, PATIENCE)
    verdict = run_rule(animal.subject(), rule, seed=SEED, patience=patience, limit=LIMIT)

    assert verdict.result is Result.BROKEN, f"{animal.wrong} {animal.breaks} did not notice: {verdict.text}"
    assert re.search(animal.says, verdict.text), f"{animal.wrong} The verdict is another: {verdict.text}"


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_healthy_transports_keep_the_rule(rule: Rule) -> None:
    """None breaks it: what an animal is rejected for is its fault. And one at least was really asked."""
    results = set()
    reason = ""
    for healthy in (*HEALTHY, *IN_FILES):
        if healthy in IN_FILES and Result.KEPT in results:
            break
        verdict = run_rule(healthy.subject(), rule)
        results.add(verdict.result)
        reason = verdict.text

        assert verdict.result is not Result.BROKEN, f"{healthy.name}: {verdict.text}\n{verdict.details}"
    assert Result.KEPT in results, reason


def test_every_rule_has_an_animal() -> None:
    """A rule that nothing breaks may not notice anything."""
    assert RULES.keys() - {animal.breaks for animal in ANIMALS} == set()
    assert len(ANIMALS) >= 25
