"""
The TCP transports of Producer Pool: framed messages in a TCP stream, plain or with TLS.

tcp and tcp+tls have both ends; tcp+serve and tcp+tls+serve are clients that consumers connect to. Each has a
module of its own, so that a process loads only what its URLs ask for: no TLS for tcp.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
