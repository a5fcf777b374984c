"""The tcp and tcp+tls transports of Producer Pool."""

__version__ = "0.1.0"

__all__ = ["__version__"]
