"""What the daemon says of itself."""

from dataclasses import replace
from typing import Any

import pytest

from producer_pool import Ack, ConnectError, Health, ListenerStats, PoolStats, ProducerStats, Role, State
from producer_pool.cli.report import (
    BANNER,
    Snapshot,
    banner,
    ended_well,
    final_lines,
    in_json,
    is_safe,
    remained,
    status_line,
)


def snapshot(listeners: int, at: float = 10.0, **consumers: tuple[State, dict[str, int]]) -> Snapshot:
    """Return a snapshot of so many listeners, and of consumers with their states and counters."""
    health = {
        name: Health(
            name,
            state,
            0.0,
            address=f"tcp://{name}",
            ack=Ack.KERNEL,
            last_error=ConnectError(f"tcp://{name}: connection refused") if state is State.DOWN else None,
            reason=f"tcp://{name}: connection refused" if state is State.DOWN else "",
        )
        for name, (state, _) in consumers.items()
    }
    stats = {name: ProducerStats(**counters) for name, (_, counters) in consumers.items()}
    at_each = [(f"tcp://127.0.0.1:{9100 + n}", ListenerStats(messages=500)) for n in range(listeners)]
    return Snapshot(at, at_each, PoolStats(stats), health)


def with_health(now: Snapshot, **changes: dict[str, Any]) -> Snapshot:
    """Return *now* with some fields of the health of some consumers changed."""
    changed = {name: replace(now.health[name], **fields) for name, fields in changes.items()}
    return now._replace(health={**now.health, **changed})


def test_banner_of_a_few() -> None:
    """A line for each listener, and one for each consumer with address, level and state."""
    now = snapshot(1, billing=(State.UP, {}), archive=(State.DOWN, {}))

    assert banner("title", now) == [
        "title",
        "listen   tcp://127.0.0.1:9100",
        "billing  tcp://billing  ack kernel  up",
        "archive  tcp://archive  ack kernel  down: tcp://archive: connection refused",
    ]


@pytest.mark.parametrize("listeners", [1, 2, 5, 6, 20])
@pytest.mark.parametrize("consumers", [1, 2, 5, 6, 7, 300])
def test_banner_is_short(listeners: int, consumers: int) -> None:
    """However much is configured, there are eight lines at most, and what is left out is counted."""
    given: dict[str, Any] = {f"c{n}": (State.UP if n else State.DOWN, {}) for n in range(consumers)}

    lines = banner("title", snapshot(listeners, **given))

    assert len(lines) <= BANNER == 8
    for line, kind, count in (
        (next((text for text in lines if "more listeners" in text), ""), "listen ", listeners),
        (next((text for text in lines if "more consumers" in text), ""), "c", consumers),
    ):
        shown = sum(text.startswith(kind) and "tcp://" in text for text in lines)
        left_out = int(line.split()[2]) if line else 0
        assert shown + left_out == count
        assert shown >= min(count, 1)


def test_status_of_a_few() -> None:
    """Each consumer is named, with what is not zero."""
    before = snapshot(1, at=0.0)
    before.listeners[0][1].messages = 100
    now = snapshot(
        1,
        a=(State.UP, {"accepted": 500, "delivered": 500}),
        b=(State.DOWN, {"accepted": 500, "delivered": 1, "dropped": 9}),
    )

    assert status_line(now, before) == (
        "in 500 messages, 40/s; a up, 500 delivered; b down, 1 delivered, 490 pending, 9 dropped"
    )


def test_status_of_many() -> None:
    """Many consumers are counted by state and summed up; some that are down are named."""
    given: dict[str, Any] = {
        f"c{n}": (State.DOWN if n < 6 else State.UP, {"accepted": 10, "delivered": 10}) for n in range(10)
    }

    line = status_line(snapshot(1, **given), snapshot(1, at=0.0))

    assert line == ("in 500 messages, 0/s; 10 consumers: 6 down, 4 up (c0, c1, c2, c3, ...), 100 delivered")


def test_status_of_consumers_that_connect() -> None:
    """It says how many are there now; of a consumer that we connect to, nothing is said."""
    served: dict[str, Any] = {"accepted": 9, "delivered": 4, "failed": 5, "peers": 3}
    now = snapshot(1, a=(State.UP, served), b=(State.UP, {"accepted": 9, "delivered": 9}))
    many: dict[str, Any] = {f"c{n}": (State.UP, served) for n in range(10)}

    assert "; a up, 4 delivered, 5 failed, 3 peers; b up, 9 delivered" in status_line(now, now)
    assert status_line(snapshot(1, **many), now).endswith("40 delivered, 50 failed, 30 peers")
    assert in_json("status", now)["consumers"]["a"]["peers"] == 3


def test_dead_letters() -> None:
    """Of what was lost, it says how much is kept, and how much is not."""
    lost = {"accepted": 9, "delivered": 2, "failed": 7, "dead_lettered": 4, "dead_letters_lost": 3}
    now = snapshot(1, a=(State.UP, lost))
    given: dict[str, Any] = {f"c{n}": (State.UP, lost) for n in range(10)}
    many = snapshot(1, **given)
    told = "7 failed, 4 kept as dead letters, 3 dead letters lost"

    assert status_line(now, now).endswith(f"a up, 2 delivered, {told}")
    assert status_line(many, many).endswith("70 failed, 40 kept as dead letters, 30 dead letters lost")
    assert final_lines(now) == [f"a: 9 accepted, 2 delivered (kernel), {told}; nothing remained"]
    assert in_json("end", now)["consumers"]["a"]["dead_letters_lost"] == 3


def test_final_lines() -> None:
    """One line for each producer says what remained."""
    now = snapshot(
        1,
        a=(State.CLOSED, {"accepted": 5000, "delivered": 5000}),
        b=(State.CLOSED, {"accepted": 5000, "delivered": 1000, "failed": 2, "dropped": 3, "cancelled": 3995}),
    )

    assert final_lines(now) == [
        "a: 5,000 accepted, 5,000 delivered (kernel); nothing remained",
        "b: 5,000 accepted, 1,000 delivered (kernel), 2 failed, 3 dropped; 3,995 remained",
    ]
    assert [remained(stats) for stats in now.stats.producers.values()] == [0, 3995]


def test_final_lines_with_a_spool() -> None:
    """What remained and is stored is said to be, with the place; what is not stored is not."""
    now = snapshot(
        1,
        a=(State.CLOSED, {"accepted": 10, "delivered": 7, "cancelled": 3, "left_stored": 3}),
        b=(State.CLOSED, {"accepted": 10, "delivered": 6, "cancelled": 4, "left_stored": 3}),
        c=(State.CLOSED, {"accepted": 10, "delivered": 10}),
    )
    now = now._replace(spool="/var/spool/pool")

    assert final_lines(now) == [
        "a: 10 accepted, 7 delivered (kernel); 3 remained, stored in /var/spool/pool",
        "b: 10 accepted, 6 delivered (kernel); 4 remained, 3 of them stored in /var/spool/pool",
        "c: 10 accepted, 10 delivered (kernel); nothing remained",
    ]
    assert [is_safe(stats) for stats in now.stats.producers.values()] == [True, False, True]


def test_trouble_of_the_spool() -> None:
    """That nothing can be stored stands in the status line, and a program finds it, too."""
    now = snapshot(1, a=(State.UP, {}))
    now = now._replace(spool="spool", stats=replace(now.stats, unstored=7, storage="no space; make some"))

    assert status_line(now, now).endswith("; spool: no space; make some")
    assert in_json("status", now)["spool"] == {
        "folder": "spool",
        "trouble": "no space; make some",
        "unstored": 7,
    }


def test_json_has_every_counter() -> None:
    """A program finds where the daemon listens and what became of every message."""
    now = snapshot(1, b=(State.DOWN, {"accepted": 7, "delivered": 3, "failed": 1}))

    told = in_json("status", now)

    consumer = told["consumers"]["b"]
    assert told["event"] == "status"
    assert told["listeners"][0]["address"] == "tcp://127.0.0.1:9100"
    assert told["listeners"][0]["messages"] == 500
    assert consumer["state"] == "down"
    assert consumer["ack"] == "kernel"
    assert consumer["error"] == "tcp://b: connection refused"
    assert consumer["accepted"] == sum(
        consumer[name] for name in ("delivered", "failed", "dropped", "cancelled", "pending")
    )


# -- roles, and reasons ------------------------------------------------------------------------------


def test_reasons_in_the_status_line() -> None:
    """It says why a consumer that is connected does not do well, or why its source waits."""
    now = snapshot(1, a=(State.UP, {}), b=(State.DEGRADED, {}), c=(State.PAUSED, {}), d=(State.DOWN, {}))
    now = with_health(now, b={"reason": "messages failed lately: no"}, c={"reason": "its source has to wait"})

    assert status_line(now, now).partition("; ")[2] == (
        "a up, 0 delivered; b degraded (messages failed lately: no), 0 delivered; "
        "c paused (its source has to wait), 0 delivered; d down, 0 delivered"
    )


def test_roles_are_named() -> None:
    """Where a consumer is shown, its role is, unless it is required."""
    now = snapshot(1, a=(State.UP, {}), b=(State.UP, {}), c=(State.DOWN, {}))
    now = with_health(now, b={"role": Role.BEST_EFFORT}, c={"role": Role.SHADOW})

    assert banner("title", now)[2:] == [
        "a       tcp://a  ack kernel  up",
        "b       tcp://b  ack kernel  best-effort  up",
        "c       tcp://c  ack kernel  shadow  down: tcp://c: connection refused",
    ]
    assert "; a up, 0 delivered; b (best-effort) up, 0 delivered; c (shadow) down" in status_line(now, now)
    assert [line.partition(":")[0] for line in final_lines(now)] == ["a", "b (best-effort)", "c (shadow)"]
    roles = {name: told["role"] for name, told in in_json("status", now)["consumers"].items()}
    assert roles == {"a": "required", "b": "best-effort", "c": "shadow"}


def test_shadows_in_sums() -> None:
    """The states that are counted are those of the others; a best-effort consumer counts."""
    given: dict[str, Any] = {f"c{n}": (State.DOWN if n < 3 else State.UP, {}) for n in range(8)}
    now = snapshot(1, **given)
    now = with_health(now, c0={"role": Role.SHADOW}, c1={"role": Role.BEST_EFFORT}, c7={"role": Role.SHADOW})

    assert status_line(now, now).partition("; ")[2] == (
        "8 consumers: 2 down, 4 up (c1, c2), 2 shadows, 0 delivered"
    )


@pytest.mark.parametrize("role", Role)
def test_what_remained_by_role(role: Role) -> None:
    """It is said of each, and is a failure of the daemon only if the producer is required."""
    now = snapshot(1, a=(State.CLOSED, {"accepted": 5, "delivered": 5}), b=(State.CLOSED, {"accepted": 3}))
    now = with_health(now, b={"role": role})

    assert final_lines(now)[1].endswith("; 3 remained")
    assert ended_well(now) == (role is not Role.REQUIRED)


def test_times_in_json() -> None:
    """They are told as from now: no reader knows the daemon's clock."""
    now = snapshot(1, a=(State.UP, {}), b=(State.DOWN, {}))
    now = now._replace(clock=1100.0)
    now = with_health(
        now, a={"since": 1000.0, "last_delivery": 1099.5}, b={"since": 1050.0, "next_retry": 1101.25}
    )
    told = in_json("status", now)["consumers"]

    names = ("seconds_in_state", "seconds_since_delivery", "seconds_to_retry", "reason")
    assert [told["a"][name] for name in names] == [100, 0.5, None, None]
    assert [told["b"][name] for name in names] == [50, None, 1.25, "tcp://b: connection refused"]
