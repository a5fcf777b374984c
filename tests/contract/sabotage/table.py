"""The changes for the worse, and for each the scenario that has to notice."""

from typing import Final

from support.sabotage import Sabotage

__all__ = ["TABLE"]

CORE: Final = "core/src/producer_pool"

TABLE: Final = (
    # -- what is promised of each message ----------------------------------------------------------
    Sabotage(
        "no look at acknowledgements after the fast path",
        f"{CORE}/delivery/link.py",
        "        self._unasked += 1\n        self._follow_up()\n",
        "        self._unasked += 1\n",
        "test_one_producer_alone.py::test_producer_that_waits_for_acknowledgements",
    ),
    Sabotage(
        "no rewind on a break",
        f"{CORE}/delivery/producer.py",
        "        self.outbox.rewind(error)\n        self._down(error, lasted=self._now() - since",
        "        self._down(error, lasted=self._now() - since",
        "test_bad_neighbours.py::test_consumer_is_killed_with_much_on_its_way",
    ),
    Sabotage(
        "what was in flight is sent again behind what waits",
        f"{CORE}/delivery/outbox.py",
        "        self.waiting.extendleft(reversed(back))",
        "        self.waiting.extend(back)",
        "test_bad_neighbours.py::test_consumer_is_killed_with_much_on_its_way",
    ),
    Sabotage(
        "attempts are not counted",
        f"{CORE}/delivery/outbox.py",
        "            entry.attempts += 1\n            total",
        "            entry.attempts = 1\n            total",
        "test_bad_neighbours.py::test_consumer_is_killed_with_much_on_its_way",
    ),
    Sabotage(
        "what is sent again is not counted",
        f"{CORE}/delivery/outbox.py",
        "        entry.attempts = 1\n        entry.again = None\n",
        "        entry.attempts = 1\n",
        "test_daemon_outages.py::test_consumer_is_killed_with_a_full_buffer",
    ),
    Sabotage(
        "sent again from the beginning of a batch, though its first messages are settled",
        f"{CORE}/model/batch.py",
        "return wire[framing.offset(wire, start) :] if start else wire",
        "return wire",
        "test_daemon_outages.py::test_consumer_is_killed_with_a_full_buffer",
    ),
    Sabotage(
        "WRITTEN reported as KERNEL",
        f"{CORE}/toolkit/stream_client.py",
        "        if progress is None:\n            return Settled(written, written)",
        "        if True:\n            return Settled(written, written)",
        "test_daemon_outages.py::test_consumer_is_killed_with_a_full_buffer",
    ),
    Sabotage(
        "settled is off by one inside a batch",
        f"{CORE}/toolkit/ledger.py",
        "                return before + self._whole(entry, reached)[0]",
        "                return before + self._whole(entry, reached)[0] + 1",
        "test_daemon_outages.py::test_consumer_is_killed_with_a_full_buffer",
    ),
    Sabotage(
        "the end of the other side is not looked at before a write",
        f"{CORE}/toolkit/stream_client.py",
        "        if not self._open or (self._gone(0) and self._has_ended()):",
        "        if not self._open:",
        "test_clean_closes.py::test_closes_between_messages",
    ),
    Sabotage(
        "the rest of a partly written batch starts one byte too late",
        f"{CORE}/toolkit/stream_client.py",
        "        self._keep(memoryview(wire)[sent:])\n        return 1\n",
        "        self._keep(memoryview(wire)[sent + 1 :])\n        return 1\n",
        "test_daemon_outages.py::test_consumer_freezes_and_goes_on",
    ),
    Sabotage(
        "a connection is closed in good order inside a message",
        f"{CORE}/toolkit/stream_client.py",
        "        if inside:\n            reset(sock)",
        "        if False:\n            reset(sock)",
        "test_one_consumer_by_url.py::test_message_cut_by_a_timeout_is_not_a_message",
    ),
    Sabotage(
        "a connection is kept after a cancelled send",
        f"{CORE}/delivery/producer.py",
        "                await self.client.aclose()\n",
        "                pass\n",
        "test_your_own_client.py::test_send_is_cancelled_in_the_middle_of_a_message",
    ),
    Sabotage(
        "the deadline is ignored",
        f"{CORE}/delivery/outbox.py",
        "        while self.waiting and self.waiting[0].deadline <= now:",
        "        while False:",
        "test_daemon_outages.py::test_deadline_passes_while_it_is_down",
    ),
    Sabotage(
        "a message that the framing cannot carry is sent anyway",
        f"{CORE}/toolkit/misfits.py",
        "    unfit = batch.misfits(framing)\n",
        "    unfit: tuple[int, ...] = ()\n",
        "test_bad_input.py::test_message_that_a_framing_cannot_carry",
    ),
    # -- bounds ------------------------------------------------------------------------------------
    Sabotage(
        "the bound of a buffer is not counted",
        f"{CORE}/delivery/outbox.py",
        "        if self.nbytes + entry.cost > policy.buffer and not self._make_room(entry.cost):",
        "        if False:",
        "test_daemon_outages.py::test_queue_is_full",
    ),
    Sabotage(
        "drop-oldest drops what is in flight",
        f"{CORE}/delivery/outbox.py",
        '        entry = self._next_waiting()\n        arrived = "; it may',
        '        entry = (self.flying or self.waiting).popleft()\n        arrived = "; it may',
        "test_daemon_outages.py::test_queue_is_full_and_much_is_in_flight",
    ),
    Sabotage(
        "what is dropped is not counted",
        f"{CORE}/delivery/accounts.py",
        "            stats.dropped += count",
        "            pass",
        "test_daemon_outages.py::test_queue_is_full",
    ),
    Sabotage(
        "a source waits longer than the deadline",
        f"{CORE}/delivery/engine.py",
        "        return min((producer.outbox.deadline for producer in producers), default=0.0)",
        "        return 6.0",
        "test_many_producers.py::test_source_of_a_full_producer",
    ),
    Sabotage(
        "an endless line is kept for ever",
        f"{CORE}/model/decoders.py",
        "            if len(tail) > self._limit:",
        "            if False:",
        "test_bad_input.py::test_endless_line",
    ),
    # -- isolation ---------------------------------------------------------------------------------
    Sabotage(
        "the failure of one producer is raised",
        f"{CORE}/pool.py",
        "        return self._forward(self._roster.all, message).results(wait)",
        "        return self._forward(self._roster.all, message).results(wait).check()",
        "test_many_producers.py::test_one_consumer_is_down",
    ),
    Sabotage(
        "an exception of on_message is not counted",
        f"{CORE}/server.py",
        "        self.errors += 1\n",
        "        self.errors += 0\n",
        "test_bound_server.py::test_callback_raises",
    ),
    Sabotage(
        "a producer that is removed loses what it has",
        f"{CORE}/pool.py",
        "            await engine.remove(producer_id, self.limits.drain if drain else 0.0)",
        "            await engine.remove(producer_id, 0.0)",
        "test_many_producers.py::test_producer_is_removed",
    ),
    Sabotage(
        "duplicate ids are accepted",
        f"{CORE}/delivery/roster.py",
        "            if producer_id in self._reserved:",
        "            if False:",
        "test_many_producers.py::test_duplicate_id",
    ),
    # -- threads, signals, forks -------------------------------------------------------------------
    Sabotage(
        "submit takes no lock",
        f"{CORE}/delivery/submitlog.py",
        "        try:\n            with self._lock:\n                if self._refusal is not None:",
        "        try:\n            if True:\n                if self._refusal is not None:",
        "test_odd_places.py::test_other_thread_at_every_point_of_a_submit",
    ),
    Sabotage(
        "signals are not deferred while the main thread does the loop's step",
        f"{CORE}/lending.py",
        "        if ident == threading.main_thread().ident:",
        "        if False:",
        "test_interrupted_calls.py::test_interrupt_at_every_point_of_a_verb[forward_to_all-in the pool]",
    ),
    Sabotage(
        "a wake-up that was interrupted is not made again",
        f"{CORE}/delivery/submitlog.py",
        "            self._awake = False\n            self._wake()\n            raise",
        "            raise",
        "test_interrupted_calls.py::test_interrupt_at_every_point_of_a_verb[submit-in the pool]",
    ),
    Sabotage(
        "a call may wait in the middle of a submit of its own thread",
        f"{CORE}/delivery/submitlog.py",
        "        if self._lock._is_owned():  # type: ignore[attr-defined]",
        "        if False:",
        "test_odd_places.py::test_signal_handler_at_every_point[forward_to_all-submit]",
    ),
    Sabotage(
        "a forked child goes on with its parent's pool",
        f"{CORE}/delivery/submitlog.py",
        "        log.closed_by_fork()",
        "        pass",
        "test_odd_places.py::test_fork_while_threads_submit",
    ),
    Sabotage(
        "a program that forgets to close loses what it submitted last",
        f"{CORE}/worker.py",
        "        worker.join(max(give_up - time.monotonic(), 0.0))",
        "        pass",
        "test_odd_places.py::test_program_forgets_to_close",
    ),
    # -- input, the daemon, secrets ----------------------------------------------------------------
    Sabotage(
        "the decoder forgets the unfinished message",
        f"{CORE}/model/decoders.py",
        "            tail += view[end:size]",
        "            pass",
        "test_foreign_programs.py::test_plain_sockets",
    ),
    Sabotage(
        "half a message is passed on at the end of a stream",
        f"{CORE}/toolkit/stream_listener.py",
        "        if clean and tail is not None and self._options.tail is Tail.DELIVER:",
        "        if tail is not None:",
        "test_bad_input.py::test_stream_ends_inside_a_message",
    ),
    Sabotage(
        "SIGTERM does not read what has arrived",
        f"{CORE}/cli/daemon.py",
        "        await listener.drain()\n",
        "",
        "test_daemon_ends.py::test_signal_while_messages_arrive",
    ),
    Sabotage(
        "a second SIGTERM is ignored",
        f"{CORE}/cli/signals.py",
        "        self._loop.call_soon_threadsafe(self.insisted.set)\n",
        "        return\n",
        "test_daemon_ends.py::test_second_signal",
    ),
    Sabotage(
        "the variables of Kubernetes are taken for producers",
        f"{CORE}/discovery/environment.py",
        "            found |= {name for service in services if _belongs(name, service, _LINK)}",
        "            pass",
        "test_configured_by_environment.py::test_kubernetes_service_named_producer",
    ),
    Sabotage(
        "the password is printed",
        f"{CORE}/model/endpoint.py",
        "        return redact(self.raw, self._hidden)",
        "        return self.raw",
        "test_hidden_secrets.py::test_url_that_works",
    ),
)
