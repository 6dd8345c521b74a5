"""stranger: a node that is none. It speaks by hand (wire.py), says what the test likes, and lies."""
import wire
import zmq

from harness import wait_until


def random_frames(rng, good):
    """Noise, and good frames cut, stretched and with bits turned."""
    for size in (0, 1, 2, 3, 7, 16, 100, 1000, 70_000):
        yield rng.randbytes(size)
    for frame in good:
        for _ in range(40):
            bent = bytearray(frame)
            for _ in range(rng.randint(1, 4)):
                bent[rng.randrange(len(bent))] ^= 1 << rng.randrange(8)
            yield bytes(bent)
        for _ in range(10):
            yield frame[:rng.randrange(len(frame))]
        yield frame + frame
        yield frame + rng.randbytes(9)


def control_frames():
    node, stream = wire.new_id(), wire.new_id()
    info = wire.node_info(node, "tcp://127.0.0.1:1", "tcp://127.0.0.1:1", [wire.stream_head(stream)])
    cursor = wire.message((1, 1), (2, stream), (3, 1), (4, 2 ** 64 - 1), (5, wire.message((1, stream), (2, 2 ** 64 - 1))))
    yield wire.control(wire.HELLO, wire.message((1, info)))
    yield wire.control(wire.HELLO, wire.message((1, info)), major=9)
    yield wire.control(wire.HELLO, wire.message((1, info)), mesh=b"other")
    yield wire.control(wire.PING, wire.message((1, node), (2, wire.Fixed(7))))
    yield wire.control(wire.GOODBYE, wire.message((1, node)))
    yield wire.control(wire.PEERS, b"".join(wire.message((1, info)) for _ in range(5)))
    yield wire.control(wire.WATERMARK, wire.message((1, node), (2, 1), (3, wire.message((1, stream), (2, 2 ** 64 - 1), (4, 2 ** 64 - 1)))))
    for start in ((4, 2 ** 64 - 1), (5, 2 ** 64 - 1), (7, 2 ** 64 - 1), (8, cursor), (9, b"no such"), (10, 1)):
        yield wire.control(wire.REPLAY_OPEN, wire.message((1, 1), (2, b"a.>"), start, (16, 2 ** 63)))
    yield wire.control(wire.REPLAY_OPEN, wire.message((1, 1), (2, b"a..b"), (4, 1), (16, 1000)))
    yield wire.control(wire.CURSOR_PUT, wire.message((1, b"x" * 500), (2, cursor)))
    yield wire.control(wire.STATUS_GET, wire.message((1, 2 ** 32 - 1), (2, stream)))
    yield wire.control(49, wire.message((1, b"a message of a newer minor version")))


def wait_answer(dealer, request, who):
    dealer.send(wire.control(wire.STATUS_GET, b"", request=request))

    def answered():
        while dealer.poll(0):
            answer = dealer.recv_multipart()
            if wire.parse(answer[-1]).get(4) == [request]:
                return True
        return False
    wait_until(f"{who} answers", answered, 10)


class Stranger:
    """A node that is none: it says Hello, and then whatever the test likes, on an XPUB of its own."""

    def __init__(self, context, seed, mesh=b"default"):
        self.node, self.stream, self.mesh = wire.new_id(), wire.new_id(), mesh
        self.xpub = context.socket(zmq.XPUB)
        self.xpub.sndhwm = 0
        live = f"tcp://127.0.0.1:{self.xpub.bind_to_random_port('tcp://127.0.0.1')}"
        self.router = context.socket(zmq.ROUTER)
        control = f"tcp://127.0.0.1:{self.router.bind_to_random_port('tcp://127.0.0.1')}"
        self.dealer = context.socket(zmq.DEALER)
        self.dealer.connect(seed)
        self.info = wire.node_info(self.node, live, control, [wire.stream_head(self.stream)])
        self.hello()

    def hello(self):
        self.dealer.send(wire.control(wire.HELLO, wire.message((1, self.info)), mesh=self.mesh))

    def alive(self):
        """Answer what is asked, so that the others keep it as a member."""
        while self.router.poll(0):
            peer, *_, frame = self.router.recv_multipart()
            asked = wire.parse(frame)
            request = asked.get(4, [0])[0]
            if wire.PING in asked:
                self.router.send_multipart([peer, wire.control(wire.PONG, wire.message((1, self.node)), mesh=self.mesh, request=request)])
            elif wire.HELLO in asked:
                self.router.send_multipart([peer, wire.control(wire.WELCOME, wire.message((1, self.info)), mesh=self.mesh, request=request)])
        while self.dealer.poll(0):
            self.dealer.recv_multipart()

    def wait_subscribed(self, limit_s=10):
        def subscribed():
            self.alive()
            return self.xpub.poll(0) and self.xpub.recv()[:1] == b"\x01"
        wait_until("the journal subscribes at the stranger", subscribed, limit_s)
