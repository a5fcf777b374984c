"""The changes for the worse to what many producers are sent in one go, and the tests that notice."""

from typing import Final

from support.sabotage import Sabotage

__all__ = ["CONVOYS"]

CONVOY: Final = "core/src/producer_pool/delivery/convoy.py"

CONVOYS: Final = (
    Sabotage(
        "what was sent in a convoy counts as acknowledged",
        CONVOY,
        "            reached = self._end - member.stream.unconfirmed()\n",
        "            reached = self._end\n",
        "test_convoy.py::test_story",
    ),
    Sabotage(
        "a convoy does not look for connections that ended",
        CONVOY,
        "            ended = self._ended()\n",
        "            ended = False\n",
        "test_aio_voyages.py::test_voyages",
    ),
    Sabotage(
        "what is in flight for a producer that leaves its convoy is forgotten",
        CONVOY,
        "        for flight in self._flights[member.done :]:\n",
        "        for flight in ():\n",
        "test_convoy.py::test_resent_after_a_break",
    ),
    Sabotage(
        "of a batch that was sent in part, the rest is not",
        CONVOY,
        '        member.tell("took", member.stream.took, batch, sent)\n',
        "        pass\n",
        "test_convoy.py::test_part_of_a_batch_taken",
    ),
    Sabotage(
        "a convoy waits for a consumer that does not acknowledge",
        CONVOY,
        "        late = self._loop.time() - _LATE\n",
        "        late = 0.0\n",
        "test_convoy.py::test_late_consumer_leaves",
    ),
    Sabotage(
        "a convoy goes on in the middle of what an interrupt left",
        CONVOY,
        "            self.end_connections([*members.values(), *(member for member, _ in odd)])\n"
        "            raise\n        if others:\n",
        "            raise\n        if others:\n",
        "test_interrupted_loops.py::test_interrupt_at_every_point_of_a_send",
    ),
    Sabotage(
        "a client goes on in the middle of what an interrupt left",
        "core/src/producer_pool/toolkit/streams/client.py",
        "            return started\n        except BaseException:\n            self._broke(INTERRUPTED)\n",
        "            return started\n        except BaseException:\n",
        "test_interrupted_loops.py::test_interrupt_at_every_point_of_a_send",
    ),
    Sabotage(
        "a send that broke takes away what says that unread bytes were thrown away",
        "core/src/producer_pool/toolkit/streams/progress.py",
        "self._broke or not isinstance(error, (BlockingIOError, InterruptedError))\n",
        "self._broke\n",
        "test_progress.py::test_send_that_takes_the_error_away",
    ),
    Sabotage(
        "who is only not quite as far as what was sent leaves its convoy for a large batch",
        CONVOY,
        "            self._part_with([one for one in self._members.values() if not one.done])\n",
        "            self._part_with(list(self._members.values()))\n",
        "test_convoy_bounds.py::test_no_room_for_a_large_batch",
    ),
    Sabotage(
        "a message that is too long for a consumer is sent to it in a convoy",
        CONVOY,
        "            self._part_with([one for one in members.values() if one.longest < cost])\n",
        "            pass\n",
        "test_convoy_bounds.py::test_batch_in_which_a_message_may_be_too_long",
    ),
    Sabotage(
        "a message that somebody waits for is sent on a connection that ended",
        CONVOY,
        "            if not wire or self._ended():\n",
        "            if not wire:\n",
        "test_expresslane_convoy.py::test_connection_that_has_ended",
    ),
    Sabotage(
        "an interrupt in the middle of a message that somebody waits for ends no connection",
        CONVOY,
        "*(member for member, _ in odd)])\n            raise\n        return odd\n",
        "*()][:0])\n            raise\n        return odd\n",
        "test_expresslane_convoy.py::test_interrupt_in_the_middle",
    ),
)
