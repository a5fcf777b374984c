"""Seeds of tests by chance: how many are run, and those that once failed, which are always run."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

__all__ = ["block_of", "kept", "run_seeds"]

FILE = Path(__file__).with_name("seeds_that_failed.txt")
"""A line for each: the kind of test, the seed, and why it failed."""


def block_of(block: int, blocks: int, count: int) -> Iterator[int]:
    """Yield the seeds of one part of *count*; PRODUCER_POOL_SEEDS asks for another number."""
    yield from range(block, int(os.environ.get("PRODUCER_POOL_SEEDS", count)), blocks)


def kept(kind: str) -> list[int]:
    """Return the seeds that once failed this kind of test."""
    lines = [line.split() for line in FILE.read_text().splitlines() if not line.startswith("#")]
    return [int(words[1]) for words in lines if words and words[0] == kind]


def run_seeds(kind: str, run: Callable[[int], None], seeds: Iterable[int]) -> None:
    """Run *run* with each seed; one that fails is named, and written where it will be run for ever."""
    for seed in seeds:
        try:
            run(seed)
        except BaseException as error:
            error.add_note(f"{kind}: seed {seed}; it is kept in {FILE.name}: say there what was wrong")
            if isinstance(error, Exception) and seed not in kept(kind):
                with FILE.open("a") as file:
                    file.write(f"{kind} {seed} {type(error).__name__}\n")
            raise
