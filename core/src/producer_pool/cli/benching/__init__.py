"""What `bench` does: a real daemon between processes that send and verify, and what comes of it."""

__all__: list[str] = []
