"""What lies on a disk: the spool, and dead letters. Nothing here knows an engine, a client or a protocol."""

__all__: list[str] = []
