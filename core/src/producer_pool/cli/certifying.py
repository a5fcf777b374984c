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
from producer_pool.testing.running import Result, Verdict, run_rule
from producer_pool.testing.subject import Subject

__all__ = ["Done", "Progress", "named", "report", "run", "subject_for"]

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+-]*\Z")


@dataclass(frozen=True)
class Done:
    """A run of the suite: on what, with which verdicts, and how long each took."""

    subject: Subject
    seed: int
    rules: Sequence[Rule]
    """Those that were asked for."""
    verdicts: Sequence[Verdict]
    seconds: Sequence[float]

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

        ends = (
            ("client", subject.transport.client, subject.factory.create, subject.client_url),
            ("listener", subject.transport.listener, subject.factory.listener, subject.listener_url),
        )
        for end, there, make, url in ends:
            try:
                if there is not None:
                    make(url(place, folder))
            except InvalidOption as error:
                text = f"{error}; --{end}-option NAME=VALUE gives each {end} an option"
                raise InvalidOption(text) from None


# -- running ---------------------------------------------------------------------------------------


class Progress:
    """Says on a terminal which rule is being tried, in one line, which is gone at the end."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._shown = sys.stderr.isatty()
        self._number = 0

    def next(self, name: str) -> None:
        """Say that this rule is tried now."""
        self._number += 1
        self._write(f"[{self._number}/{self._total}] {name}")

    def finish(self) -> None:
        """Take the line away."""
        self._write("")

    def _write(self, text: str) -> None:
        if self._shown:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def run(subject: Subject, rules: Sequence[Rule], seed: int | None, progress: Progress) -> Done:
    """Try *rules* one after the other."""
    seed = random.randrange(1 << 32) if seed is None else seed
    # What pools log here is about consumers that were made to crash.
    logging.getLogger().addHandler(logging.NullHandler())
    verdicts, seconds = [], []
    try:
        for rule in rules:
            progress.next(rule.name)
            since = time.perf_counter()
            verdicts.append(run_rule(subject, rule, seed=seed))
            seconds.append(time.perf_counter() - since)
    finally:
        progress.finish()
    return Done(subject, seed, rules, verdicts, seconds)


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
            {**described, "url": url, "seed": done.seed, "ok": done.ok, "counts": counts, "rules": rules}
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
    print(f"\n{len(done.rules)} rules: {numbers}")


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
