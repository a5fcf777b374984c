"""From a batch to its outcomes. Clients are injected: nothing here knows how they are found."""

__all__: list[str] = []
