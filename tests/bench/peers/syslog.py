"""Log daemons, which take lines and datagrams and forward them. They are told to change no byte of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.peers.launch import Launch, free_port, scratch
from bench.peers.supplies import program
from bench.places import unix_socket

__all__ = ["rsyslog", "rsyslog_settings", "syslog_ng", "syslog_ng_settings"]


def rsyslog_settings(wire: str, port: int, consumers: Sequence[int], stored: Path | None = None) -> str:
    """Return a configuration; with *stored*, all lies there in a synced queue before it is forwarded."""
    over, module, framing, end = "tcp", "imptcp", ' SupportOctetCountedFraming="off"', "\\n"
    if wire == "udp":
        over, module, framing, end = "udp", "imudp", "", ""
    queue = ' queue.type="Disk" queue.filename="all" queue.syncQueueFiles="on"' if stored else ""
    queue += f' queue.spoolDirectory="{stored}"' if stored else ""
    lines = [
        'global(parser.escapeControlCharactersOnReceive="off")',
        'main_queue(queue.workerThreads="1")',  # with two, as by default, messages overtake each other
        f'module(load="{module}")',
        f'input(type="{module}" address="127.0.0.1" port="{port}" ruleset="all"{framing})',
        f'template(name="raw" type="string" string="%rawmsg%{end}")',
        f'ruleset(name="all"{queue}) {{',
        *(
            f'  action(type="omfwd" target="127.0.0.1" port="{consumer}" protocol="{over}" template="raw")'
            for consumer in consumers
        ),
        "}",
    ]
    return "\n".join(lines) + "\n"


def rsyslog(wire: str, *, stored: bool = False) -> Callable[[Sequence[int]], Launch]:
    """rsyslog: imptcp or imudp, its main queue in memory or on disk, and one omfwd for each consumer."""

    def launch(consumers: Sequence[int]) -> Launch:
        found = program("rsyslogd")
        port = free_port(wire, consumers)
        folder = scratch("rsyslog")
        file = folder / "rsyslog.conf"
        file.write_text(rsyslog_settings(wire, port, consumers, folder if stored else None))
        modules = [part for path in found.modules for part in ("-M", str(path))]
        command = [*found.command, "-n", "-f", str(file), "-i", str(folder / "pid"), *modules]
        return Launch(command, port, found.variables)

    return launch


def syslog_ng_settings(wire: str, version: str, port: int, consumers: Sequence[int]) -> str:
    """
    Return a configuration with flow control, without which it drops what a full queue does not take.

    Each of 100 connections may have 10,000 messages under way, and 1,000 are fetched at once: with 10, as by
    default, it is half as fast.
    """

    def at(number: int) -> str:
        if wire == "unix":
            return f'unix-stream("{unix_socket(number)}"'
        return f'network("127.0.0.1" transport("tcp") port({number})'

    listens = at(port) if wire == "unix" else f'network(ip("127.0.0.1") transport("tcp") port({port})'
    lines = [
        f"@version: {version}",
        "options { stats-freq(0); keep-hostname(yes); };",
        f"source all {{ {listens} flags(no-parse) max-connections(100) log-iw-size(1000000)",
        "  log-fetch-limit(1000)); };",
        *(
            f'destination to{index} {{ {at(consumer)} template("$MSG\\n") log-fifo-size(1100000)); }};'
            for index, consumer in enumerate(consumers)
        ),
        "log { source(all);",
        *(f"  destination(to{index});" for index in range(len(consumers))),
        "  flags(flow-control); };",
    ]
    return "\n".join(lines) + "\n"


def syslog_ng(wire: str) -> Callable[[Sequence[int]], Launch]:
    """syslog-ng: one network or unix-stream source, and one destination for each consumer."""

    def launch(consumers: Sequence[int]) -> Launch:
        found = program("syslog-ng")
        port = free_port(wire, consumers)
        folder = scratch("syslog-ng")
        file = folder / "syslog-ng.conf"
        version = ".".join(found.version().split(".")[:2])
        file.write_text(syslog_ng_settings(wire, version, port, consumers))
        command = [*found.command, "--foreground", "--no-caps", "--cfgfile", str(file)]
        for option in ("persist-file", "pidfile", "control"):
            command += [f"--{option}", str(folder / option)]
        command += ["--module-path", ":".join(map(str, found.modules))] if found.modules else []
        return Launch(command, port, found.variables)

    return launch
