"""Everything that reads what strangers wrote, with inputs that nobody would write: only our own errors."""

import logging
import time
from itertools import islice
from random import Random
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.faults import report, times
from support.fuzzing import MARKER, TARGETS, Shown, hidden, mutations

EACH: Final = times(1_000, 130_000)
"""Inputs for each reader, and a tenth for those that do more: in full, more than a million."""
SLOWER: Final = {"URL of a producer", "environment", "TOML", "websocket request", "websocket answer"}


@pytest.mark.parametrize("name", TARGETS)
def test_usual_inputs(name: str) -> None:
    """They are read without a fault, so that what comes of them gets far."""
    for data in TARGETS[name].corpus:
        TARGETS[name].read(data)


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_inputs(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing but errors of ours comes out, and no secret is shown. Of a fault, seed and input are told."""
    target = TARGETS[name]
    seed = times(1, int(time.time()))
    count = EACH // 10 if name in SLOWER else EACH
    inputs = mutations(target, Random(seed))
    began = time.monotonic()
    with caplog.at_level(logging.CRITICAL):
        for number in range(count):
            data = next(inputs)
            try:
                target.read(data)
            except BaseException as error:
                error.add_note(f"{name}, seed {seed}, input {number}: {data!r}")
                raise
    report(f"fuzzing: {name}", inputs=count, per_s=round(count / (time.monotonic() - began)), seed=seed)


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in SLOWER])
@settings(max_examples=times(50, 2_000), suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_inputs(name: str, data: st.DataObject) -> None:
    """So does it for what has no resemblance to the usual."""
    parts = st.lists(st.one_of(st.binary(max_size=30), st.sampled_from([b"", *TARGETS[name].tokens])))
    TARGETS[name].read(b"".join(data.draw(parts)))


def test_control_of_the_errors() -> None:
    """A naive reader of lengths raises what it likes."""

    def naive(data: bytes) -> None:
        size, _, rest = data.partition(b" ")
        assert len(rest[: int(size)]) == int(size)

    inputs = mutations(TARGETS["octet-counting"], Random(1))

    with pytest.raises(Exception, match=r".*"):
        list(map(naive, islice(inputs, 1000)))


def test_control_of_the_secrets() -> None:
    """The secret in an error is found, in capitals too."""
    with pytest.raises(Shown):
        hidden(f"cannot connect to tcp://user:{MARKER.upper()}@host:1")
