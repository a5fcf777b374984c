"""The loops that every message goes through: in C, where producer-pool-websocket-speedups is installed."""
# That may have another version, or have found no compiler. So a function gets another name when it changes
# there, and where one is missing, all is done in Python.

from __future__ import annotations

try:
    from producer_pool_websocket_speedups import read_messages, write_messages
except ImportError:
    from producer_pool_websocket.runs import read_messages, write_messages

__all__ = ["read_messages", "write_messages"]
