"""Consumers that connect to us: who they are, what waits for each, and how far it got."""

__all__: list[str] = []
