"""What a plugin implements and what it offers: the ports, the transport, the hooks."""

__all__: list[str] = []
