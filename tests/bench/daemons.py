"""Relays that do nothing yet: their memory, the time until they accept, and what other distributions add."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from bench import websocket
from bench.certificate import trusting
from bench.installed import crowd, timed
from bench.process import BenchError, Child, cores, environment, placed_on, resident
from bench.relays import RELAYS, Relay, UnavailableError
from bench.runs import BOUND, Run, Settings
from bench.traffic import LoadProcess, Traffic
from bench.workloads import Crowded, Idle, Start

__all__ = ["measure_crowded", "measure_idle", "measure_start"]

SETTLED = 0.5
"""Seconds of doing nothing before memory is looked at."""
WAIT = 20.0


def measure_idle(name: str, workload: Idle, settings: Settings) -> Iterator[Run]:
    """The resident memory of each relay with all consumers, and what idle connections add."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the relays inherit it
    wanted = [contestant for contestant in workload.contestants if settings.wants(contestant)]
    for repetition in range(settings.repetitions or workload.repetitions):
        for contestant in list(wanted):
            try:
                figures = _idle(contestant, workload.connections)
            except UnavailableError as error:
                wanted.remove(contestant)
                yield Run(name, contestant, repetition, True, {}, skipped=str(error))
            except BenchError as error:
                wanted.remove(contestant)
                yield Run(name, contestant, repetition, False, {}, skipped=f"a run failed: {error}")
            else:
                yield Run(name, contestant, repetition, True, figures)


def _idle(contestant: str, connections: int) -> dict[str, float]:
    relay = RELAYS.get(contestant)
    if relay is None:
        raise UnavailableError("this bench has no such relay")
    relay_core, load_core = cores()
    traffic = Traffic(wire=relay.wire, count=1)
    with ExitStack() as opened:
        load = opened.enter_context(LoadProcess(traffic, core=load_core, bound=BOUND))
        child, port = relay.start(load.ports, core=relay_core, bound=BOUND)
        opened.enter_context(child)
        time.sleep(SETTLED)
        idle, _ = resident(child.pid)
        before = _files(child)
        for _ in range(connections):
            opened.enter_context(_connected(relay, port))
        _until(lambda: _files(child) - before >= connections, f"{contestant} has not accepted them all")
        time.sleep(SETTLED)
        busy, _ = resident(child.pid)
    return {"idle_mb": idle / 1e6, "connection_kib": (busy - idle) / connections / 1024}


def _connected(relay: Relay, port: int) -> socket.socket:
    """Return a connection on which a message might be sent."""
    sock = socket.create_connection(("127.0.0.1", port), WAIT)
    try:
        if relay.encrypts:
            sock = trusting().wrap_socket(sock, server_hostname="127.0.0.1")
        if relay.wire == "ws":
            sock.sendall(websocket.REQUEST)
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                got = sock.recv(websocket.REQUEST_MOST)
                if not got:
                    raise BenchError(f"{relay.name} ended a handshake after {answer!r}")
                answer += got
    except OSError as error:
        sock.close()
        raise BenchError(f"{relay.name} does not take a connection: {error}") from error
    except BaseException:
        sock.close()
        raise
    return sock


def _files(child: Child) -> int:
    return sum(1 for _ in Path(f"/proc/{child.pid}/fd").iterdir())


def _until(reached: Callable[[], bool], otherwise: str) -> None:
    until = time.monotonic() + WAIT
    while not reached():
        if time.monotonic() > until:
            raise BenchError(f"{otherwise} after {WAIT:g} s")
        time.sleep(0.01)


def measure_start(name: str, workload: Start, settings: Settings) -> Iterator[Run]:
    """Python alone, the relay, and the relay among many distributions in turn; of each the fastest counts."""
    with crowd(workload.distributions) as folder:
        for repetition in range(settings.repetitions or workload.repetitions):
            python, alone, among = [], [], []
            for _ in range(workload.runs):
                python.append(_pass())
                alone.append(_accepts({}))
                among.append(_accepts({"PYTHONPATH": str(folder)}))
            yield Run(name, "python", repetition, True, {"wall_ms": min(python)})
            added = {"among_ms": min(among), "added_ms": min(among) - min(alone)}
            yield Run(name, "product", repetition, True, {"wall_ms": min(alone), **added})


def _pass() -> float:
    with placed_on(cores()[0]):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], env=environment(), check=True)
        return (time.perf_counter() - began) * 1e3


def _accepts(added: Mapping[str, str]) -> float:
    """Start the relay on a port that is free, and try to connect until it accepts; milliseconds."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = str(Path(sys.executable).parent / "producer-pool")
    command = [program, "run", "--listen", f"tcp://127.0.0.1:{port}", "--to", "tcp://127.0.0.1:9"]
    program_core, own_core = cores()
    with placed_on(program_core):
        began = time.perf_counter()
        process = subprocess.Popen(
            command, env={**environment(), **added}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    try:
        with placed_on(own_core):  # to ask all the time costs something, too
            while time.perf_counter() - began < WAIT:
                try:
                    socket.create_connection(("127.0.0.1", port), WAIT).close()
                except ConnectionRefusedError:
                    time.sleep(0.0002)
                else:
                    return (time.perf_counter() - began) * 1e3
        raise BenchError(f"producer-pool accepts no connection {WAIT:g} s after its start")
    finally:
        process.kill()
        process.wait()


def measure_crowded(name: str, workload: Crowded, settings: Settings) -> Iterator[Run]:
    """Each command alternates between both; of the runs of a repetition the fastest counts."""
    with crowd(workload.distributions) as folder:
        for repetition in range(settings.repetitions or workload.repetitions):
            for command in workload.commands:
                alone, among = [], []
                for _ in range(workload.runs):
                    alone.append(timed(command, {}))
                    among.append(timed(command, {"PYTHONPATH": str(folder)}))
                figures = {unit: min(run[unit] for run in alone) for unit in alone[0]}
                figures |= {f"among_{unit}": min(run[unit] for run in among) for unit in among[0]}
                yield Run(name, " ".join(command), repetition, True, figures)
