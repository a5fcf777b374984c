"""The two loops that every message goes through: compiled where producer-pool-websocket-speedups is installed."""
# It is a distribution of its own, and may be of another version, or have been installed without a compiler. So one
# function that is changed there gets another name: what is not found, or all of it, is done in Python.

from __future__ import annotations

try:
    from producer_pool_websocket_speedups import read_messages, write_messages
except ImportError:
    from producer_pool_websocket.runs import read_messages, write_messages

__all__ = ["read_messages", "write_messages"]
