"""Sinks that are no network protocol: standard output, nowhere, and the program's own memory."""

__all__: list[str] = []
