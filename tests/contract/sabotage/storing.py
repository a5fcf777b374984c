"""The changes for the worse to the way through a store, and to dead letters, and the tests that notice."""

from typing import Final

from support.sabotage import Sabotage

__all__ = ["STORING"]

CORE: Final = "core/src/producer_pool"
DELIVERY: Final = f"{CORE}/delivery"

STORING: Final = (
    Sabotage(
        "a new batch overtakes what lies in the store",
        f"{DELIVERY}/lane.py",
        "        if not self.behind and self.has_room(batch.cost):\n",
        "        if self.has_room(batch.cost):\n",
        "test_lane.py::test_order_of_old_and_new",
    ),
    Sabotage(
        "what was cancelled at the end is settled in the store",
        f"{DELIVERY}/lane.py",
        "        self._cursor.keeps = keep\n",
        "        self._cursor.keeps = False\n",
        "test_lane.py::test_close_keeps_what_is_left",
    ),
    Sabotage(
        "nobody looks at the quota of a lane",
        f"{DELIVERY}/lane.py",
        "        if self._pressure.crowding or self.size + size > self._policy.spool_quota:\n",
        "        if self._pressure.crowding:\n",
        "test_lane_bounds.py::test_full_quota_refuses_the_newest",
    ),
    Sabotage(
        "what could not be stored goes out behind what came after it",
        f"{DELIVERY}/lane.py",
        "        while self._unstored.next_behind(number - 1) is not None:\n",
        "        while self._unstored.next_behind(-1) is not None:\n",
        "test_lane_trouble.py::test_order_over_a_full_disk",
    ),
    Sabotage(
        "what the store lost without a word stays pending",
        f"{DELIVERY}/lane.py",
        "            if self.messages:\n                self.lost(",
        "            if not self.last:\n                self.lost(",
        "test_lane_trouble.py::test_store_that_loses_without_a_word",
    ),
    Sabotage(
        "the cursor moves to what was handed over",
        f"{DELIVERY}/cursor.py",
        "        at = opened[0].number - 1 if opened else self.handed\n",
        "        at = self.handed\n",
        "test_cursor.py::test_handing_over_does_not_move_it",
    ),
    Sabotage(
        "the cursor moves over what was cancelled",
        f"{DELIVERY}/cursor.py",
        "opened[0].over and not (self.keeps and opened[0].cancelled):\n",
        "opened[0].over:\n",
        "test_cursor.py::test_what_is_cancelled_is_kept",
    ),
    Sabotage(
        "what could not be stored is said to be",
        f"{DELIVERY}/writeahead.py",
        "        page.decide_stored(number is not None)\n",
        "        page.decide_stored(True)\n",
        "test_lane_trouble.py::test_full_disk_stops_nothing",
    ),
    Sabotage(
        "what is for some is stored for all",
        f"{DELIVERY}/writeahead.py",
        "        targets = None if len(lanes) == len(self._ways) else [lane.producer.id for lane in lanes]\n",
        "        targets = None\n",
        "test_lane.py::test_batch_for_some_comes_back_for_them_only",
    ),
    Sabotage(
        "a producer that was removed leaves what lies in the store for it",
        f"{DELIVERY}/writeahead.py",
        "            self._store.leave(lane.producer.id)\n",
        "            pass\n",
        "test_lane.py::test_removed_producer_leaves_nothing",
    ),
    Sabotage(
        "everybody gives way where one has filled the store",
        f"{DELIVERY}/writeahead.py",
        "            lane.give_way(excess if lane is chosen else 0)\n",
        "            lane.give_way(excess)\n",
        "test_lane_bounds.py::test_store_that_is_too_large",
    ),
    Sabotage(
        "the files of another spool are taken for one's own",
        "core/src/producer_pool/storage/upkeep.py",
        "        self._folder.set_others_aside(self._files)\n",
        "",
        "test_keeper_replaced.py::test_another_spool_in_its_place",
    ),
    # -- dead letters ------------------------------------------------------------------------------
    Sabotage(
        "a replay removes what was not delivered",
        f"{CORE}/cli/dead_letters_replaying.py",
        "            if all(oks):\n",
        "            if True:\n",
        "test_dead_letters_replay.py::test_refused_again",
    ),
    Sabotage(
        "a wrong message of a damaged file is given out",
        f"{CORE}/storage/dead_letters.py",
        "        whole = isinstance(payload, bytes) and crc == seal(letter, payload)\n",
        "        whole = isinstance(payload, bytes)\n",
        "test_dead_letters.py::test_damaged_message",
    ),
    Sabotage(
        "dead letters count as kept while they wait to be written",
        f"{CORE}/storage/dead_letters_writer.py",
        "        self._queue.append(_Waiting(letter, payload, cost, done))\n",
        "        self._queue.append(_Waiting(letter, payload, cost, lambda kept: None))\n"
        "        done(True)\n",
        "test_dead_letters_writer.py::test_close_does_not_wait_for_ever",
    ),
    Sabotage(
        "a sender is told before it is known whether dead letters are kept",
        f"{DELIVERY}/accounts.py",
        "            track.letters += count\n        return True",
        "            pass\n        return True",
        "test_accounts.py::test_acknowledging_dead_letters",
    ),
)
