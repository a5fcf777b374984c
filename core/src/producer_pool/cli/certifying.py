"""What `plugins check` does: run the conformance suite without pytest, and report how that went."""

from __future__ import annotations

import logging
import random
import re
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from producer_pool.cli.declared import declared, lines
from producer_pool.cli.exits import FAILED, leave
from producer_pool.cli.output import print_json, print_table
from producer_pool.cli.plugin_files import registry_with
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import InvalidOption, UsageError
from producer_pool.model.text import suggestion
from producer_pool.testing.rule import Rule
from producer_pool.testing.rules import RULES
from producer_pool.testing.running import Result, Verdict
from producer_pool.testing.subject import Subject
from producer_pool.testing.waning import WaningPatience

__all__ = ["Done", "Progress", "named", "report", "run", "subject_for"]

_EVERY: Final = 10.0
"""Seconds between two lines that say how far a check is."""
_LONG: Final = 1.0
"""Seconds after which somebody wonders what goes on."""
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+-]*\Z")


@dataclass(frozen=True)
class Done:
    """A run of the suite: on what, with which verdicts, and how long each took."""

    subject: Subject
    seed: int
    rules: Sequence[Rule]
    """Those that were asked."""
    verdicts: Sequence[Verdict]
    seconds: Sequence[float]
    left: int = 0
    """How many were to be asked, and were not: one before them was broken."""

    @property
    def ok(self) -> bool:
        """Whether no rule is broken."""
        return not self.of(Result.BROKEN)

    def of(self, result: Result) -> list[Verdict]:
        """Return the verdicts of this kind."""
        return [verdict for verdict in self.verdicts if verdict.result is result]


def named(names: Sequence[str]) -> list[Rule]:
    """
    Return the rules of these names, in the order of the suite; without names, all.

    Raises:
        click.BadParameter: there is none of a name.
    """
    for name in names:
        if name not in RULES:
            raise click.BadParameter(f"no rule {name}{suggestion(name, RULES)}", param_hint="--rule")
    return [rule for rule in RULES.values() if not names or rule.name in names]


def subject_for(
    place: str, files: Sequence[Path], client_options: Mapping[str, str], listener_options: Mapping[str, str]
) -> Subject:
    """
    Return what is to be tried.

    Raises:
        click.BadParameter: it is a scheme that does not say where its ends meet.
        PluginError: there is no plugin for it, or it cannot be used.
        ConfigurationError: the URL or an option cannot be used.
    """
    registry = registry_with(files)
    make: Callable[..., Subject] = Subject
    if _SCHEME.match(place):
        make, place = Subject.of_scheme, place.lower()
    try:
        subject = make(place, registry, client_options=client_options, listener_options=listener_options)
    except UsageError as error:
        raise click.BadParameter(str(error), param_hint="SCHEME_OR_URL") from None
    _check(subject)
    return subject


def _check(subject: Subject) -> None:
    """Make both ends once: if they cannot be made, no rule has anything to say."""
    with tempfile.TemporaryDirectory(prefix="check-") as name:
        folder = Path(name)
        place = subject.place(folder)
        Endpoint.parse(place)

        # The listener first: its URL is the one that was given, whatever is wrong with it.
        ends = (
            (
                "listener",
                subject.transport.listener,
                subject.factory.listener,
                subject.listener_url(place, folder),
            ),
            (
                "client",
                subject.transport.client,
                subject.factory.create,
                subject.client_url(subject.consumer_place(place), folder),
            ),
        )
        for end, there, make, url in ends:
            try:
                if there is not None:
                    make(url)
            except InvalidOption as error:
                text = f"{error}; --{end}-option NAME=VALUE gives each {end} an option"
                raise InvalidOption(text) from None


# -- running ---------------------------------------------------------------------------------------


class Progress:
    """
    Says which rule is being tried: on a terminal in one line, which is gone at the end.

    Where stderr is no terminal, it is a line for each rule that took long to be broken, and now and then
    one that says how far it is: who waits for a check that takes minutes sees that it goes on, and one
    that is soon done says nothing before its report.
    """

    def __init__(self, total: int, *, every: float = _EVERY) -> None:
        self._total = total
        self._every = every
        self._terminal = sys.stderr.isatty()
        self._number = 0
        self._name = ""
        self._broken: list[str] = []
        self._said = time.monotonic()

    def next(self, name: str) -> None:
        """Say that this rule is tried now."""
        self._number += 1
        self._name = name
        if self._terminal:
            self._draw(self._line(f", {self._count()}" if self._broken else ""))
        elif time.monotonic() - self._said >= self._every:
            self._say(self._line(f"; {self._count()} so far"))

    def ended(self, verdict: Verdict, seconds: float) -> None:
        """Say how it went with that rule."""
        if verdict.result is Result.BROKEN:
            self._broken.append(verdict.rule.name)
            if seconds >= _LONG and not self._terminal:
                self._say(self._line(f": broken, after {seconds:.1f} s"))

    def finish(self) -> None:
        """Take the line away."""
        if self._terminal:
            self._draw("")

    def _line(self, more: str) -> str:
        return f"[{self._number}/{self._total}] {self._name}{more}"

    def _count(self) -> str:
        """Say how many are broken, and which was the first: others may be so because of it."""
        first = f" ({self._broken[0]}{', ...' if len(self._broken) > 1 else ''})" if self._broken else ""
        return f"{len(self._broken)} broken{first}"

    def _draw(self, text: str) -> None:
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        print(text, file=sys.stderr, flush=True)


def run(
    subject: Subject, rules: Sequence[Rule], seed: int | None, progress: Progress, *, fail_fast: bool = False
) -> Done:
    """Try *rules* one after the other; with *fail_fast*, until one is broken."""
    seed = random.randrange(1 << 32) if seed is None else seed
    # What pools log here is about consumers that were made to crash.
    logging.getLogger().addHandler(logging.NullHandler())
    patience = WaningPatience(subject, seed)
    verdicts: list[Verdict] = []
    seconds: list[float] = []
    try:
        for rule in rules:
            progress.next(rule.name)
            since = time.perf_counter()
            verdicts.append(patience.ask(rule))
            seconds.append(time.perf_counter() - since)
            progress.ended(verdicts[-1], seconds[-1])
            if fail_fast and verdicts[-1].result is Result.BROKEN:
                break
    finally:
        progress.finish()
    asked = rules[: len(verdicts)]
    return Done(subject, seed, asked, verdicts, seconds, len(rules) - len(asked))


# -- reporting -------------------------------------------------------------------------------------


def report(done: Done, *, as_json: bool) -> None:
    """Print how it went."""
    counts = {result.value: len(done.of(result)) for result in Result}
    if [verdict.rule for verdict in done.verdicts] != [*done.rules]:
        leave(FAILED, [f"internal error: {len(done.rules)} rules were asked, and the verdicts are {counts}"])
    described = declared(done.subject.scheme, done.subject.loaded)
    url = done.subject.shown
    if as_json:
        rules = [
            _as_json(verdict, seconds) for verdict, seconds in zip(done.verdicts, done.seconds, strict=True)
        ]
        print_json(
            {
                **described,
                "url": url,
                "seed": done.seed,
                "ok": done.ok,
                "counts": counts,
                "not_asked": done.left,
                "rules": rules,
            }
        )
        return
    print("\n".join([*lines(described), f"{'tried at':13} {url}", f"{'seed':13} {done.seed}", ""]))
    print_table(
        ("rule", "result", "seconds", "why"),
        [
            (verdict.rule.name, verdict.result.value, f"{seconds:.2f}", verdict.text)
            for verdict, seconds in zip(done.verdicts, done.seconds, strict=True)
        ],
    )
    for verdict in done.of(Result.BROKEN):
        print(f"\n{_explained(verdict, done.seed)}")
    numbers = ", ".join(f"{count} {result}" for result, count in counts.items())
    left = f"; {done.left} more were not asked, because of --fail-fast" if done.left else ""
    print(f"\n{len(done.rules)} rules: {numbers}{left}")


def _as_json(verdict: Verdict, seconds: float) -> dict[str, Any]:
    return {
        "name": verdict.rule.name,
        "family": verdict.rule.family,
        "sentence": verdict.rule.sentence,
        "result": verdict.result.value,
        "text": verdict.text or None,
        "details": verdict.details or None,
        "seconds": round(seconds, 3),
    }


def _explained(verdict: Verdict, seed: int) -> str:
    """Say what is wrong, and how to mend it."""
    rule = verdict.rule
    again = f"to repeat this: --rule {rule.name} --seed {seed}"
    parts = [f"{rule.name}: {rule.sentence}", f"But {verdict.text}", rule.explanation, again]
    return "\n".join([parts[0], *(textwrap.indent(part, "  ") for part in parts[1:] if part)])
