"""Forward every message to many consumers, and know per message and per consumer what happened."""

__version__ = "0.1.0"

__all__ = ["__version__"]
