"""Rules about the daemon, on a plugin that is a file, and on one that cannot bring messages itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer_pool.discovery.registry import Registry
from producer_pool.testing.daemons import TrialDaemon
from producer_pool.testing.rule import Rule, RuleBroken
from producer_pool.testing.rules import RULES
from producer_pool.testing.running import Result, run_rule
from producer_pool.testing.subject import Subject
from producer_pool.testing.trial import Trial
from support.zoo import HEALTHY as OBJECTS
from support.zoo import cleaning
from support.zoo.daemon import HEALTHY

FAMILY = [rule for rule in RULES.values() if rule.family == "daemon"]
each_rule = pytest.mark.parametrize("rule", FAMILY, ids=lambda rule: rule.name)


@pytest.fixture(autouse=True)
def _cleaned() -> Iterator[None]:
    yield
    while cleaning:
        cleaning.pop()()


@each_rule
def test_plugin_in_a_file(rule: Rule) -> None:
    """The daemon is given the file, and all goes well."""
    verdict = run_rule(HEALTHY[0].subject(), rule)

    assert verdict.result is Result.KEPT, verdict.details


@each_rule
def test_plugin_that_is_an_object(rule: Rule) -> None:
    """Another process cannot have it, and the rule says so."""
    verdict = run_rule(OBJECTS[0].subject(), rule)

    assert verdict.result is Result.SKIPPED
    assert verdict.text == "zoo is an object of this program, which a daemon cannot load"


def test_consumer_at_a_fixed_place() -> None:
    """Where the URL names one port, the consumer has it, and messages come to the daemon over tcp."""
    # An address of this test alone, at which nobody gets a port by chance.
    url = f"tcp://127.77.{os.getpid() % 250}.{os.getpid() // 250 % 250}:9000"
    verdict = run_rule(Subject(url, Registry()), RULES["daemon-takes-and-forwards"])

    assert verdict.result is Result.KEPT, verdict.details


async def test_daemon_ends_with_the_block(tmp_path: Path) -> None:
    """Whatever happens in the block, no process is left."""
    trial = Trial(Subject("tcp://127.0.0.1:0", Registry()), tmp_path, seed=1)
    daemon = TrialDaemon(trial, "--to", "null:")

    with pytest.raises(ZeroDivisionError):
        await _fail_inside(daemon)

    assert daemon.own
    assert daemon._process is not None
    assert daemon._process.returncode == -9


async def _fail_inside(daemon: TrialDaemon) -> None:
    async with daemon:
        raise ZeroDivisionError


async def test_daemon_that_cannot_start(tmp_path: Path) -> None:
    """What it said is in the verdict."""
    trial = Trial(Subject("tcp://127.0.0.1:0", Registry()), tmp_path, seed=1)

    with pytest.raises(RuleBroken, match=r"(?s)the daemon ended with 78; it said: .*no installed plugin"):
        async with TrialDaemon(trial, "--to", "nothing:"):
            pass


async def test_environment_of_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What configures pools here does not configure that one; which plugins may be used, it has to know."""
    monkeypatch.setenv("PRODUCER_A", "null:")
    monkeypatch.setenv("PRODUCER_POOL_POLICY", "nonsense")
    monkeypatch.setenv("PRODUCER_POOL_DISABLE_PLUGINS", "something")
    trial = Trial(Subject("tcp://127.0.0.1:0", Registry()), tmp_path, seed=1)

    async with TrialDaemon(trial, env={"PRODUCER_B": "null:"}) as daemon:
        assert daemon.consumers == ["b"]
        assert daemon._env["PRODUCER_POOL_DISABLE_PLUGINS"] == "something"
        assert await daemon.end() == 0
