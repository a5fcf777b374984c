"""A plugin in one file that watches a pool: what changes, and what comes to an end."""

from producer_pool.plugin import Health, Outcome, hookimpl


class Watch:
    def state_changed(self, health: Health) -> None:
        print(f"{health.producer_id} is {health.state.value}", health.reason, flush=True)

    def settled(self, producer_id: str, outcome: Outcome, count: int) -> None:
        if outcome is not Outcome.DELIVERED:
            print(f"{producer_id}: {outcome.value}: {count}", flush=True)


@hookimpl
def producer_pool_observer(pool: object) -> Watch:
    return Watch()
