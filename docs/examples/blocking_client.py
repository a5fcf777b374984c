"""A library that blocks, made a client: its calls are made on a thread of their own."""

import time

from producer_pool import BlockingClient, ProducerPool


class Pager:
    """Stands for any library of which a call takes its time. It knows nothing of Producer Pool."""

    def send(self, message: bytes) -> None:
        time.sleep(0.05)
        if b"nobody" in message:
            raise RuntimeError("no such person")


with ProducerPool() as pool:
    pool.add_producer("pager", BlockingClient(Pager(), protocol_name="pager", address="pager:on-call"))
    print(pool.forward_to("pager", "disk full"))
    print(pool.forward_to("pager", "call nobody").error)
