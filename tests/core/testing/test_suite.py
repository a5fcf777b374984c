"""The suite as a class for pytest: every rule is a test, and none can vanish."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from producer_pool.model.errors import UsageError
from producer_pool.testing import ListenerConsumer, TransportConformance, Trial, TrialConsumer
from producer_pool.testing.rules import FAMILIES, RULES
from support.trials import plain
from support.zoo.animal import HEALTHY
from support.zoo.lifecycle import SecondCloseRaises


class Healthy(TransportConformance):
    url = "zoo://127.0.0.1:0"
    plugin = HEALTHY[0].plugin
    seed = 3


class Wrong(Healthy):
    plugin = SecondCloseRaises.animal.plugin  # type: ignore[attr-defined]
    patience = 2.0


class WithItsOwnConsumer(Healthy):
    made: ClassVar[list[TrialConsumer]] = []

    def consumer(self, trial: Trial) -> TrialConsumer:
        self.made.append(ListenerConsumer(trial))
        return self.made[-1]


def test_rule_that_is_kept() -> None:
    """Its test passes."""
    Healthy().test_rule(RULES["closes-twice"])


def test_rule_that_is_broken() -> None:
    """Its test fails with all that one needs to mend it: rule, fault, seed, and where it was."""
    with pytest.raises(pytest.fail.Exception) as failed:
        Wrong().test_rule(RULES["closes-twice"])

    assert str(failed.value).startswith(
        "closes-twice: A second aclose() does nothing.\n"
        "the second aclose() raised RuntimeError: closed already (seed 3)\n"
    )
    assert "in aclose\n" in str(failed.value)


class Excused(Wrong):
    excused: ClassVar = {"closes-twice": "it is a singleton"}


class BadlyExcused(Healthy):
    excused: ClassVar = {"closes-twise": "it is a singleton"}


def test_rule_that_is_broken_on_purpose() -> None:
    """It is skipped with the reason, and the others are not."""
    with pytest.raises(pytest.skip.Exception, match="excused: it is a singleton"):
        Excused().test_rule(RULES["closes-twice"])
    Excused().test_rule(RULES["has-an-address"])


def test_excuse_for_no_rule() -> None:
    """A name that is misspelt would excuse nothing, and nobody would see it."""
    with pytest.raises(
        UsageError, match=r"excused: there is no rule closes-twise; did you mean closes-twice\?"
    ):
        BadlyExcused().test_rule(RULES["has-an-address"])


def test_consumer_of_its_own() -> None:
    """What shows the arrivals can be replaced, for a transport without a listener."""
    WithItsOwnConsumer.made.clear()
    WithItsOwnConsumer().test_rule(RULES["connects-again"])

    assert len(WithItsOwnConsumer.made) == 1


def test_families() -> None:
    """Each has rules, and the order of the rules is that of the families."""
    assert tuple(dict.fromkeys(rule.family for rule in RULES.values())) == FAMILIES
    assert plain().scheme == "zoo"


SUITE = """
from producer_pool.testing import TransportConformance

class TestMemory(TransportConformance):
    url = "memory:x"
    seed = 3
"""


UNUSED = ("randomly", "asyncio", "cov", "hypothesispytest", "cacheprovider", "sybil")
"""pytest's plugins that only cost time here."""


def run_pytest(folder: Path, *arguments: str) -> str:
    (folder / "test_it.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", *arguments, "test_it.py"]
    command += [word for plugin in UNUSED for word in ("-p", f"no:{plugin}")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.timeout(180)  # Two more processes import all there is, and ask all rules.
def test_no_rule_vanishes(tmp_path: Path) -> None:
    """Those that were tried and those that were skipped are all, though two processes share them."""
    said = run_pytest(tmp_path, "-rs", "-n", "2")

    counts = {what: int(count) for count, what in re.findall(r"(\d+) (\w+)", said.splitlines()[-1])}
    assert counts.keys() == {"passed", "skipped"}
    assert sum(counts.values()) == len(RULES)
    assert "memory has no listener: it only sends" in said


def test_choice_of_rules(tmp_path: Path) -> None:
    """Each is a test of its name, and pytest says how many were left out."""
    said = run_pytest(tmp_path, "--collect-only", "-k", "daemon")

    chosen = [f"test_it.py::TestMemory::test_rule[{name}]" for name in RULES if "daemon" in name]
    assert said.splitlines()[: len(chosen)] == chosen
    assert f"{len(chosen)}/{len(RULES)} tests collected ({len(RULES) - len(chosen)} deselected)" in said
