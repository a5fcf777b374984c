"""Side by side measurements of throughput, cost and memory: `python tests/bench`."""
