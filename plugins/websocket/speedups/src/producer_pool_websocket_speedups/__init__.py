"""The loops over frames of producer-pool-websocket, in C. No import works where they were not compiled."""

from producer_pool_websocket_speedups._frames import read_messages, write_messages

__all__ = ["read_messages", "write_messages"]

__version__ = "0.1.0"
