"""Protocols over datagram sockets: both ends, and what is known to be lost."""

__all__: list[str] = []
