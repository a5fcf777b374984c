"""
A program that embeds the pool: its threads call, and the time of each call is taken by the block.

`python -m bench.embedded --verbs forward,sendall --block 500 --blocks 12 --size 128 PORT...` prints one line
of JSON. Each verb and thread is one connection id of the numbered messages: so the consumers prove each.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Sequence

from bench.messages import Format
from bench.verbs import VERBS, Verb


def call(verb: Verb, shares: Sequence[Sequence[bytes]]) -> float:
    """Call for each share on a thread of its own, a single one on this thread; return the seconds taken."""
    if len(shares) == 1:
        return verb.timed(shares[0])
    failed: list[BaseException] = []

    def run(share: Sequence[bytes]) -> None:
        try:
            verb.call(share)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(share,)) for share in shares]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    if failed:
        raise failed[0]
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verbs", required=True)
    parser.add_argument("--block", type=int, required=True, help="calls of each thread, before it is settled")
    parser.add_argument("--blocks", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("ports", type=int, nargs="+")
    options = parser.parse_args()
    form, calls = Format(options.size), options.block * options.threads
    verbs = {name: VERBS[name](options.ports) for name in options.verbs.split(",")}
    times: dict[str, dict[str, list[float]]] = {
        unit: {name: [] for name in verbs} for unit in ("call_us", "settled_us", "cpu_us")
    }
    failed: list[str] = []
    for block in range(options.blocks):
        numbers = range(block * options.block, (block + 1) * options.block)
        for place, (name, verb) in enumerate(verbs.items()):
            conns = range(place * options.threads, (place + 1) * options.threads)
            shares = [[form.encode(conn, seq) for seq in numbers] for conn in conns]
            began, cpu_began = time.perf_counter(), time.process_time()
            took = call(verb, shares)
            if not verb.settle():
                failed.append(name)
            times["call_us"][name].append(took / calls * 1e6)
            times["settled_us"][name].append((time.perf_counter() - began) / calls * 1e6)
            times["cpu_us"][name].append((time.process_time() - cpu_began) / calls * 1e6)
    print(json.dumps({**times, "failed": failed}), flush=True)


if __name__ == "__main__":
    main()
