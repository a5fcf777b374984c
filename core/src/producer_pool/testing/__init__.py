"""
What tests use: of programs that embed a pool, and of protocols.

    from producer_pool.testing import FlakyClient, Refuse

    pool.add_producer("audit", FlakyClient([Refuse(2)]))

Every name is imported when it is first used. Only those that say so need pytest, which
``pip install "producer-pool[testing]"`` brings.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from producer_pool.builtin.memory import MemoryClient
    from producer_pool.testing.consumers import ListenerConsumer, TrialConsumer
    from producer_pool.testing.dialing import DialingConsumer
    from producer_pool.testing.flaky import FlakyClient, FlakyEvent, FlakyPipelinedClient
    from producer_pool.testing.proxied import ProxiedConnection
    from producer_pool.testing.proxy import Direction, FaultProxy
    from producer_pool.testing.proxy_faults import Faults, Traffic
    from producer_pool.testing.steps import (
        Away,
        Deliver,
        Die,
        Fail,
        HalfOpen,
        Hang,
        Refuse,
        Reject,
        Slow,
        Step,
    )
    from producer_pool.testing.suite import TransportConformance
    from producer_pool.testing.trial import Trial
    from producer_pool.testing.virtual_time import (
        Standstill,
        VirtualTimeLoop,
        in_virtual_time,
        run_in_virtual_time,
    )

# By the module they come from. Type checkers, which run nothing, need __all__ and the block above in full.
_MODULES = {
    "builtin.memory": ["MemoryClient"],
    "testing.consumers": ["ListenerConsumer", "TrialConsumer"],
    "testing.dialing": ["DialingConsumer"],
    "testing.flaky": ["FlakyClient", "FlakyEvent", "FlakyPipelinedClient"],
    "testing.proxied": ["ProxiedConnection"],
    "testing.proxy": ["Direction", "FaultProxy"],
    "testing.proxy_faults": ["Faults", "Traffic"],
    "testing.steps": [
        "Away",
        "Deliver",
        "Die",
        "Fail",
        "HalfOpen",
        "Hang",
        "Refuse",
        "Reject",
        "Slow",
        "Step",
    ],
    "testing.suite": ["TransportConformance"],
    "testing.trial": ["Trial"],
    "testing.virtual_time": ["Standstill", "VirtualTimeLoop", "in_virtual_time", "run_in_virtual_time"],
}
_HOMES = {name: f"producer_pool.{module}" for module, names in _MODULES.items() for name in names}

__all__ = [
    # builtin.memory
    "MemoryClient",
    # testing.consumers
    "ListenerConsumer",
    "TrialConsumer",
    # testing.dialing
    "DialingConsumer",
    # testing.flaky
    "FlakyClient",
    "FlakyEvent",
    "FlakyPipelinedClient",
    # testing.proxied
    "ProxiedConnection",
    # testing.proxy
    "Direction",
    "FaultProxy",
    # testing.proxy_faults
    "Faults",
    "Traffic",
    # testing.steps
    "Away",
    "Deliver",
    "Die",
    "Fail",
    "HalfOpen",
    "Hang",
    "Refuse",
    "Reject",
    "Slow",
    "Step",
    # testing.suite
    "TransportConformance",
    # testing.trial
    "Trial",
    # testing.virtual_time
    "Standstill",
    "VirtualTimeLoop",
    "in_virtual_time",
    "run_in_virtual_time",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'producer_pool.testing' has no attribute {name!r}") from None
    try:
        value = getattr(import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name != "pytest":
            raise
        text = f'producer_pool.testing.{name} needs pytest; try: pip install "producer-pool[testing]"'
        raise ModuleNotFoundError(text, name=error.name) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
