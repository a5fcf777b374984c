"""Rules: made from coroutine functions, asked only of those that declare what they are about."""

from __future__ import annotations

import pkgutil
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest

from producer_pool.builtin.memory import MemoryClient
from producer_pool.discovery.registry import Registry
from producer_pool.plugin import Ack, Transport
from producer_pool.testing import rules
from producer_pool.testing.rule import (
    CLIENT,
    CONFIRMING,
    CONSUMER,
    INSTALLED,
    LISTENER,
    OPTIONS,
    ORDERED,
    Need,
    NotApplicable,
    Rule,
    RuleBroken,
    not_applicable,
    require,
    rule,
)
from producer_pool.testing.rules import FAMILIES, RULES
from producer_pool.testing.subject import Subject
from producer_pool.testing.trial import Trial
from support.zoo.animal import Plugin, transport


def test_rule_is_named_after_its_function() -> None:
    """Its text is the docstring: a sentence, and after that why."""

    @rule(CLIENT)
    async def keeps_its_word(trial: Trial) -> None:
        """
        What is promised
        is kept.

        Who promises more
        than that is believed less.

        Promise little.
        """

    assert (keeps_its_word.name, keeps_its_word.family) == ("keeps-its-word", "test_rule")
    assert keeps_its_word.sentence == "What is promised is kept."
    assert keeps_its_word.explanation == "Who promises more\nthan that is believed less.\n\nPromise little."
    assert keeps_its_word.needs == (CLIENT,)


@pytest.mark.parametrize("one", RULES.values(), ids=RULES)
def test_every_rule_explains_itself(one: Rule) -> None:
    """A sentence says what is kept, and a text why, and how to mend what breaks it."""
    assert one.sentence.endswith(".")
    assert one.sentence.count(". ") == 0
    assert len(one.explanation) > 40
    assert one.family in FAMILIES


def test_every_rule_is_in_the_suite() -> None:
    """A module in the folder is a family, and a rule in it is one of RULES: none is forgotten."""
    found = []
    for family in pkgutil.iter_modules(rules.__path__):
        module = import_module(f"{rules.__name__}.{family.name}")
        found += [one for one in vars(module).values() if isinstance(one, Rule)]

    assert {one.family for one in found} == set(FAMILIES)
    assert len(found) == len(RULES)
    assert {one.name for one in found} == RULES.keys()


def test_require() -> None:
    """What holds is passed over; what does not is a RuleBroken with the text."""
    require(1, "not raised")

    with pytest.raises(RuleBroken, match="it said so"):
        require([], "it said so")


def test_not_applicable() -> None:
    """A rule can find out only in the middle that it has nothing to say."""
    with pytest.raises(NotApplicable, match="has no such thing"):
        not_applicable("has no such thing")


def subject(**declared: Any) -> Subject:
    registry = Registry()
    registry.register(Plugin(replace(transport(), **declared)), "zoo")
    return Subject("zoo://127.0.0.1:0", registry)


@pytest.mark.parametrize(
    "need,lacks",
    [
        (CLIENT, {"client": None}),
        (LISTENER, {"listener": None}),
        (CONSUMER, {"listener": None}),
        (CONSUMER, {"client": None}),
        (ORDERED, {"ordered": False}),
        (CONFIRMING, {"acks": {Ack.WRITTEN}}),
        (OPTIONS, {"options": None, "listener_options": None}),
    ],
    ids=["client", "listener", "consumer", "consumer's client", "ordered", "confirming", "options"],
)
def test_need(need: Need, lacks: dict[str, Any]) -> None:
    """A rule is asked of a transport that has what it needs; of another, it says what that lacks."""
    one = rule(need)(_nothing)

    assert one.lacking(subject(acks={Ack.WRITTEN, Ack.KERNEL})) == ""
    assert one.lacking(subject(**{"acks": {Ack.WRITTEN, Ack.KERNEL}, **lacks})) == need.lacking


async def _nothing(trial: Trial) -> None:
    """Ask nothing."""


def test_needs_a_consumer_of_its_own() -> None:
    """A transport without a listener can be asked what arrives if something else shows that."""
    registry = Registry()
    registry.register(Plugin(Transport(schemes=("zoo",), client=lambda *_: MemoryClient("zoo"))), "zoo")
    own = Subject("zoo:x", registry, consumer=lambda trial: pytest.fail("not asked for"))

    assert rule(CONSUMER)(_nothing).lacking(own) == ""


def test_needs_a_distribution() -> None:
    """What a distribution says of itself can be asked of an installed one only."""
    assert rule(INSTALLED)(_nothing).lacking(subject()) == INSTALLED.lacking
    assert rule(INSTALLED)(_nothing).lacking(Subject("tcp://127.0.0.1:0")) == ""
