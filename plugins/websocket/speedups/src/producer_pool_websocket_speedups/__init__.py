"""The loops over frames of producer-pool-websocket, compiled. Where nothing was compiled, it cannot be imported."""

from producer_pool_websocket_speedups._frames import read_messages, write_messages

__all__ = ["read_messages", "write_messages"]

__version__ = "0.1.0"
