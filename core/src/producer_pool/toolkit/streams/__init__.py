"""Protocols over stream sockets: both ends, TLS, and what is known of how far the bytes got."""

__all__: list[str] = []
