"""Building blocks for protocols over sockets: clients, listeners, TLS, name lookups, blocking libraries."""

__all__: list[str] = []
