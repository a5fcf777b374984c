"""Acknowledgements of the application: how they are asked for, counted and given."""

__all__: list[str] = []
