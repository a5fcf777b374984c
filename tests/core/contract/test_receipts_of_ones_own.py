"""A receipt that whoever made it finishes."""

import pytest

from producer_pool.contract.ports import IntakeReceipt
from producer_pool.contract.receipts import OwnReceipt


@pytest.mark.parametrize("delivered", [True, False])
def test_finished_later(delivered: bool) -> None:
    """Who waits is told once, in order; who asks afterwards, at once; it is never stored."""
    receipt = OwnReceipt()
    seen: IntakeReceipt = receipt
    told: list[str] = []
    seen.when_stored(lambda: told.append("stored"))
    seen.when_done(lambda: told.append("first"))
    seen.when_done(lambda: told.append("second"))
    before = told.copy(), seen.done, seen.delivered
    receipt.finish(delivered=delivered)
    seen.when_done(lambda: told.append("third"))

    assert before == (["stored"], False, False)
    assert told == ["stored", "first", "second", "third"]
    assert (seen.stored, seen.done, seen.delivered) == (None, True, delivered)
