"""The changes for the worse in plugins, and in what they have of the toolkit."""

from typing import Final

from support.sabotage import Sabotage

__all__ = ["PROTOCOLS"]

CORE: Final = "core/src/producer_pool"

PROTOCOLS: Final = (
    # -- datagrams ---------------------------------------------------------------------------------
    Sabotage(
        "datagrams that came back count as sent",
        f"{CORE}/toolkit/datagrams/client.py",
        "        self._withheld = lost\n        self._doubtful",
        "        self._withheld = 0\n        self._doubtful",
        "test_udp.py::test_client_alone_without_a_consumer",
    ),
    Sabotage(
        "a datagram that is too long for the system ends the connection",
        f"{CORE}/toolkit/datagrams/client.py",
        "            if stop == errno.EMSGSIZE and not returned:",
        "            if False:",
        "test_datagram_client.py::test_message_that_the_system_does_not_take",
    ),
    Sabotage(
        "what the kernel had no room for is not counted",
        f"{CORE}/toolkit/datagrams/listener.py",
        "        lost = (port.lost - before) % 2**32",
        "        lost = 0",
        "test_datagram_listener.py::test_kernel_without_room",
    ),
    Sabotage(
        "a part of joined datagrams is passed on",
        f"{CORE}/toolkit/datagrams/recvmmsg.py",
        "            if cut:",
        "            if False:",
        "test_datagram_listener.py::test_joined_datagrams_that_the_buffer_does_not_hold",
    ),
    Sabotage(
        "what stops at a full socket is read while the intake is paused",
        f"{CORE}/toolkit/datagrams/listener.py",
        "        if not self._intake.paused or not self._binding.holds_back:",
        "        if True:",
        "test_datagram_listener_waits.py::test_paused_intake_makes_senders_wait",
    ),
    Sabotage(
        "a client that is bound to the port it sends to sends to itself",
        f"{CORE}/toolkit/datagrams/udp.py",
        "                if self._port and sock.getsockname() == sock.getpeername():",
        "                if False:",
        "test_datagram_udp.py::test_socket_that_found_itself",
    ),
    # -- unix sockets ------------------------------------------------------------------------------
    Sabotage(
        "the file of a socket is anybody's until its mode is changed",
        "plugins/unix/src/producer_pool_unix/socketfile.py",
        "            os.fchmod(sock.fileno(), self._mode)",
        "            pass",
        "test_socketfile.py::test_never_wider_than_asked",
    ),
    Sabotage(
        "whoever starts second takes the file of who listens",
        "plugins/unix/src/producer_pool_unix/socketfile.py",
        "        if code not in (errno.ECONNREFUSED, errno.ENOENT):",
        "        if False:",
        "test_unix_removed.py::test_file_that_is_replaced[unix]",
    ),
    Sabotage(
        "at the end, the file is removed though it is another one's",
        "plugins/unix/src/producer_pool_unix/socketfile.py",
        "            if _identity(os.lstat(self._path)) == ours:",
        "            if True:",
        "test_unix_removed.py::test_file_that_is_replaced[unix]",
    ),
    Sabotage(
        "nobody looks whether the file is still there",
        "plugins/unix/src/producer_pool_unix/socketfile.py",
        '            return "its file is gone"',
        '            return ""',
        "test_unix_removed.py::test_file_that_is_removed[unix]",
    ),
    Sabotage(
        "nobody asks who connects to a unix socket",
        "plugins/unix/src/producer_pool_unix/place.py",
        "        if not may_come(who, self._allowed):",
        "        if False:",
        "test_unix_place.py::test_name_without_a_file",
    ),
    # -- websockets --------------------------------------------------------------------------------
    Sabotage(
        "a message is read before its length is looked at",
        "plugins/websocket/src/producer_pool_websocket/reading.py",
        "            if length > (room if self._inflater is None else self._inflater.room(room)):",
        "            if False:",
        "test_ws_reading.py::test_length_is_refused_before_the_message_comes",
    ),
    Sabotage(
        "the good messages before a bad one are thrown away",
        "plugins/websocket/src/producer_pool_websocket/reading.py",
        "            del run[good:]",
        "            run.clear()",
        "test_ws_reading.py::test_good_text_before_bad_text",
    ),
    # -- consumers that connect to us --------------------------------------------------------------
    Sabotage(
        "messages that nobody is there for are delivered",
        f"{CORE}/toolkit/serving/client.py",
        "                self._refuse(sum(map(len, batches)) - offset)\n                return",
        "                audience.skip(sum(map(len, batches)) - offset)\n                return",
        "test_serving_client.py::test_nobody_is_connected",
    ),
    Sabotage(
        "a consumer that leaves without its messages had them",
        f"{CORE}/toolkit/serving/audience.py",
        "self._coverage.leave(peer, reached, self.sent):\n            self._events.lost(messages)\n",
        "self._coverage.leave(peer, reached, self.sent):\n            pass\n",
        "test_serving_peer.py::test_only_peer_leaves_inside_of_a_message",
    ),
    Sabotage(
        "whoever connects and says nothing keeps the others out",
        f"{CORE}/toolkit/serving/audience.py",
        "            if not peer.ready:\n                if peer.parting is None:\n",
        "            if False:\n                if peer.parting is None:\n",
        "test_serving_protocol.py::test_silent_peers_keep_nobody_out",
    ),
    # -- names -------------------------------------------------------------------------------------
    Sabotage(
        "names that hang take as many threads as there are",
        f"{CORE}/toolkit/sockets/resolver.py",
        "        if len(_waiting) >= MOST_LOOKUPS:",
        "        if False:",
        "test_resolver.py::test_too_many_hang",
    ),
)
