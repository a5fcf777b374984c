"""The pool at work in ten seconds: real processes, a kill -9, and an account of every message."""

__all__: list[str] = []
