"""A new plugin from templates: its names, and its files."""

__all__: list[str] = []
