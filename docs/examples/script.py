"""A script: the pool of the process, and no object to carry around."""

from producer_pool import add_producer, add_tcp_producer, forward_to_all_producers, forward_to_producer

add_tcp_producer("billing", "127.0.0.1:9000", timeout=5)
add_producer("archive", "memory:archive")

print(forward_to_all_producers("order 1"))
print(forward_to_producer("billing", "order 2").outcome)
# Nothing to close: the pool drains and closes by itself when the program ends.
