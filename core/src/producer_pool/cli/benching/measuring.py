"""Takes the measurements: everything that is measured, in turn, until the time is over."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from producer_pool.cli.benching.bar import Bar
from producer_pool.cli.benching.certificate import make_certificate
from producer_pool.cli.benching.elsewhere import Elsewhere
from producer_pool.cli.benching.figures import Outcome
from producer_pool.cli.benching.machine import divided, usable_cores
from producer_pool.cli.benching.plan import Plan
from producer_pool.cli.benching.relay import OwnRelay
from producer_pool.cli.benching.rig import Rig
from producer_pool.cli.benching.talk import Setup
from producer_pool.cli.processes import Processes
from producer_pool.cli.signals import Interrupts

__all__ = ["measure"]

_KNOCK: Final = 60.0
"""Seconds in which a daemon that runs already has found our consumers: it looks again every half a minute."""
_WARM: Final = 0.25
"""Seconds that are not counted: buffers grow to their size."""
_LEAST: Final = 0.1
_LONGEST: Final = 1.0
"""Seconds of one run, at the least and at the most."""
_ROUNDS: Final = 5
"""Runs of each kind there should be."""
_ROUNDS_TO_COMPARE: Final = 3
"""and at the least, where a median is to say which of two is faster."""


def measure(plan: Plan, outcome: Outcome, bar: Bar) -> None:
    """
    Measure, and enter into *outcome* what is seen as it is: who interrupts this has what there is so far.

    Raises:
        ProcessError: something does not start, or ends before its time.
        ConfigurationError: an end cannot be made as it is asked for.
    """
    since = time.monotonic()
    # Whoever asks again must not stop the end that has begun. Folders go when nobody writes into them any
    # more.
    interrupts = Interrupts(signal.SIGHUP, insists=False)
    with interrupts, ExitStack() as folders, Processes(interrupts) as processes:
        folder = Path(folders.enter_context(tempfile.TemporaryDirectory(prefix="pp-")))
        rigs = _rigs(plan, folder, processes, folders)
        for rig in rigs:
            bar.show("starting", 0.0)
            rig.start(max(1, outcome.cores - 1))
            if rig.relay.process is None:
                bar.show("waiting until the daemon has found its consumers", 0.0)
                rig.knock(_KNOCK)
                since = time.monotonic()
        for number, load in enumerate(plan.loads):
            for side, rig in enumerate(rigs):
                bar.show("warming up", 0.0)
                one = rig.measure(load.unit, min(_WARM, plan.seconds / 20), load.rate)
                if any(vars(one.faults).values()):
                    outcome.enter(number, side, one, rig.relay.memory)
        began = time.monotonic()
        end = max(since + plan.seconds, began)
        kinds = len(plan.loads) * len(rigs)
        seconds = min(max((end - began) / kinds / _ROUNDS, _LEAST), _LONGEST)
        least = _ROUNDS_TO_COMPARE if len(rigs) > 1 else 1
        # What is lost once would be waited for in each run.
        while outcome.intact and (outcome.rounds < least or time.monotonic() + kinds * seconds / 2 < end):
            for number, load in enumerate(plan.loads):
                for side, rig in enumerate(rigs):
                    done = (time.monotonic() - began) / max(end - began, least * kinds * seconds)
                    bar.show(f"{load.name}{outcome.glance(number)}", done)
                    one = rig.measure(load.unit, seconds, load.rate)
                    outcome.enter(number, side, one, rig.relay.memory)
            outcome.rounds += 1
        bar.show("ending", 1.0)
        for side, rig in enumerate(rigs):
            outcome.counted[side] = rig.relay.counted()


def _rigs(plan: Plan, folder: Path, processes: Processes, folders: ExitStack) -> list[Rig]:
    """Prepare what each way needs. Nothing runs yet."""
    ways = []
    for way in plan.ways:
        if isinstance(way, Elsewhere):
            setup = Setup(folder, plan.shape, plan.consumers, plan.window, plugins=plan.plugins)
            return [Rig(way, setup, processes)]
        ways.append(way)
    wanted = [*ways, *([plan.into] if plan.into is not None else [])]
    if any(way.wants_certificate for way in wanted):
        make_certificate(folder)
        wanted = [way.certified(folder) if way.wants_certificate else way for way in wanted]
    for way in wanted:
        way.check(folder)
    relay_cores, load_cores = divided(usable_cores())
    rigs = []
    for number, way in enumerate(wanted[: len(ways)]):
        own = folder / str(number)
        own.mkdir()
        setup = Setup(
            own, plan.shape, plan.consumers, plan.window, tuple(relay_cores), tuple(load_cores), plan.plugins
        )
        into = way if plan.into is None else wanted[-1]
        relay = OwnRelay(way, into, setup, processes, tuple(_stored(plan, folders)))
        rigs.append(Rig(relay, setup, processes))
    return rigs


def _stored(plan: Plan, folders: ExitStack) -> Iterator[str]:
    """Yield the options of the relay that have it store what it gets."""
    if plan.spool is not None:
        with contextlib.suppress(FileExistsError):
            plan.spool.mkdir()
        folder = tempfile.TemporaryDirectory(prefix="bench-", dir=plan.spool)
        yield from ("--spool", folders.enter_context(folder))
        if plan.spool_sync is not None:
            yield from ("--spool-sync", plan.spool_sync)
