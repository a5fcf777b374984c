"""The conformance suite as a pytest class: derive from it, name a URL, and every rule is a test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from producer_pool.discovery.registry import Registry
from producer_pool.model.errors import UsageError
from producer_pool.model.text import suggestion
from producer_pool.testing.consumers import ListenerConsumer, TrialConsumer
from producer_pool.testing.rule import Rule
from producer_pool.testing.rules import RULES
from producer_pool.testing.running import Result, run_rule
from producer_pool.testing.subject import Subject
from producer_pool.testing.trial import PATIENCE, Trial

__all__ = ["TransportConformance"]


class TransportConformance:
    """
    All rules, as tests of one transport.

    ::

        from producer_pool.testing import TransportConformance

        class TestFifo(TransportConformance):
            url = "fifo:{tmp}/pipe"

    A rule that asks for what the transport does not declare is skipped, with the reason.
    """

    url: ClassVar[str]
    """
    Where both ends can meet: port 0 is any free one, ``{tmp}`` a folder that is new for each rule.

    Options in it are those of the listener, or of the client where there is no listener.
    """
    plugin: ClassVar[object | None] = None
    """The plugin as a module, object, or path of a file; None: it is installed."""
    client_options: ClassVar[Mapping[str, str]] = {}
    """Options that each consumer's URL gets, such as ``{"tls-ca": "..."}``."""
    listener_options: ClassVar[Mapping[str, str]] = {}
    """Options that each listener's URL gets."""
    excused: ClassVar[Mapping[str, str]] = {}
    """Rules that it breaks on purpose, by their names, each with the reason; they are skipped with it."""
    seed: ClassVar[int | None] = None
    """Repeats what a failed run left to chance; its text names the number."""
    patience: ClassVar[float] = PATIENCE
    """Seconds after which what does not come true never will."""

    def consumer(self, trial: Trial) -> TrialConsumer:
        """Return what shows which messages arrive. Override it for a transport without a listener."""
        return ListenerConsumer(trial)

    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    def test_rule(self, rule: Rule) -> None:
        """The transport keeps the rule."""
        unknown = [name for name in self.excused if name not in RULES]
        if unknown:
            raise UsageError(f"excused: there is no rule {unknown[0]}{suggestion(unknown[0], RULES)}")
        if rule.name in self.excused:
            pytest.skip(f"excused: {self.excused[rule.name]}")
        verdict = run_rule(self._subject(), rule, seed=self.seed, patience=self.patience)
        if verdict.result is Result.SKIPPED:
            pytest.skip(verdict.text)
        if verdict.result is Result.BROKEN:
            pytest.fail(f"{rule.name}: {rule.sentence}\n{verdict.text}\n\n{verdict.details}", pytrace=False)

    def _subject(self) -> Subject:
        registry = Registry()
        if isinstance(self.plugin, (str, Path)):
            registry.register_file(self.plugin)
        elif self.plugin is not None:
            registry.register(self.plugin, getattr(self.plugin, "__name__", type(self.plugin).__name__))
        own = type(self).consumer is not TransportConformance.consumer
        return Subject(
            self.url,
            registry,
            client_options=self.client_options,
            listener_options=self.listener_options,
            consumer=self.consumer if own else None,
        )
