"""Brokers: producers publish and consumers subscribe, so the load speaks their protocols at both ends."""

from __future__ import annotations

import getpass
from collections.abc import Sequence

from bench.peers.launch import Launch, free_port, scratch
from bench.peers.supplies import program

__all__ = ["mosquitto", "mosquitto_settings", "nats", "nats_settings"]


def nats_settings(port: int) -> str:
    """Return a configuration with all limits as they are by default."""
    return f'host: "127.0.0.1"\nport: {port}\n'


def nats(consumers: Sequence[int]) -> Launch:
    """nats-server, without JetStream."""
    found = program("nats-server")
    port = free_port("tcp", consumers)
    file = scratch("nats") / "nats.conf"
    file.write_text(nats_settings(port))
    return Launch([*found.command, "--config", str(file)], port, found.variables)


def mosquitto_settings(port: int) -> str:
    """Return a configuration that takes anybody on loopback, and sends what is small at once."""
    lines = [
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        # As root, it would become a user that may not be there.
        f"user {getpass.getuser()}",
        "set_tcp_nodelay true",
        "log_type error",
    ]
    return "\n".join(lines) + "\n"


def mosquitto(consumers: Sequence[int]) -> Launch:
    """mosquitto, for messages at QoS 0."""
    found = program("mosquitto")
    port = free_port("tcp", consumers)
    file = scratch("mosquitto") / "mosquitto.conf"
    file.write_text(mosquitto_settings(port))
    return Launch([*found.command, "-c", str(file)], port, found.variables)
