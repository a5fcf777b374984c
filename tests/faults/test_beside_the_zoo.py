"""Each animal of the zoo in a pool: whatever is wrong with it, the producer beside it has everything once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import support.beside_the_zoo
from support.beside_the_zoo import animals
from support.fake_clients import FakeClient
from support.faults import report
from support.processes import clean_environment
from support.waiting import BOUND
from support.zoo import ANIMALS, Animal

PARTS = 4
"""The zoo is gone through in so many tests, so that none takes long."""


@pytest.mark.parametrize("part", range(PARTS))
def test_producer_beside_an_animal(part: int) -> None:
    """Its messages arrive once and in order, the books add up, nothing stays pending, and the pool ends."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    ended = subprocess.run(
        [sys.executable, support.beside_the_zoo.__file__, str(PARTS), str(part)],
        env=clean_environment({"PYTHONPATH": path}),
        capture_output=True,
        text=True,
        timeout=600,
    )
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    failed = [one for one in found if "failed" in one]
    closing = max((one["closing"] for one in found if one not in failed), default=0.0)

    report(f"beside the zoo, part {part}", animals=len(found), failed=len(failed), longest_close_s=closing)
    assert [one["animal"] for one in found] == [animal.name for animal in animals()[part::PARTS]], (
        ended.stderr
    )
    assert failed == []
    assert [one for one in found if not one["exact"] or one["pending"]] == []
    assert closing < BOUND


async def send_to_each(clients: list[FakeClient], message: bytes) -> None:
    """Be naive: send to one after the other."""
    for client in clients:
        try:
            await client.send(message)
        except Exception:
            continue


async def test_control_of_the_zoo() -> None:
    """Beside the animal that raises what ends programs, a naive loop gives the good one nothing."""
    animal: Animal = next(one for one in ANIMALS if one.name == "raises-what-ends-programs")
    bad, good = FakeClient(), FakeClient()
    bad.is_open = good.is_open = True
    bad.always = SystemExit(animal.wrong)
    with pytest.raises(SystemExit):
        await send_to_each([bad, good], b"one")

    assert good.messages == []
