"""Rules about what is installed, on distributions of two files, and on what core brings itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from producer_pool.discovery.registry import Registry
from producer_pool.testing.rule import Rule
from producer_pool.testing.rules import RULES
from producer_pool.testing.running import Result, run_rule
from producer_pool.testing.subject import Subject
from support.zoo import cleaning
from support.zoo.metadata import HEALTHY, InstalledAnimal

FAMILY = [rule for rule in RULES.values() if rule.family == "metadata"]
each_rule = pytest.mark.parametrize("rule", FAMILY, ids=lambda rule: rule.name)


@pytest.fixture(autouse=True)
def _cleaned() -> Iterator[None]:
    before = sys.path[:]
    yield
    while cleaning:
        cleaning.pop()()
    assert sys.path == before


@each_rule
def test_distribution_that_is_as_it_should_be(rule: Rule) -> None:
    """One with all that is asked for keeps every rule."""
    verdict = run_rule(HEALTHY[0].subject(), rule)

    assert verdict.result is Result.KEPT, verdict.details


@each_rule
def test_what_core_brings_itself(rule: Rule) -> None:
    """Core's own transports need not require core."""
    verdict = run_rule(Subject("null:", Registry()), rule)

    assert verdict.result is Result.KEPT, verdict.details


@pytest.mark.parametrize(
    "requirement,text",
    [
        ("producer-pool ~= 0.1", ""),
        ("Producer_Pool[cli] (>=0.1, <0.2)", ""),
        ("producer-pool==0.1.0; python_version > '3'", ""),
        ("producer-pool<0.2", "without a floor"),
        ("producer-pool", "without a ceiling"),
        ("producer-pool-tcp>=0.1,<0.2", "does not require producer-pool"),
    ],
)
def test_forms_of_a_requirement(requirement: str, text: str) -> None:
    """Requirements are written in many ways, and only those of core count."""
    headers = f"Requires-Python: >=3.11\nRequires-Dist: {requirement}\n"
    subject = InstalledAnimal("forms", "nothing", "", "", "", headers=headers).subject()

    verdict = run_rule(subject, RULES["metadata-is-valid"])

    assert verdict.result is (Result.BROKEN if text else Result.KEPT), verdict.details
    assert text in verdict.text
