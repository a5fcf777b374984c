"""Plain values without I/O: what everything else is built from."""

__all__: list[str] = []
