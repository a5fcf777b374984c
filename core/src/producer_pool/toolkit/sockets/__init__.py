"""What all sockets need: names, addresses, binding, readiness, and a child that inherits them."""

__all__: list[str] = []
