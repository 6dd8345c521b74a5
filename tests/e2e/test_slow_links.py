#!/usr/bin/python3
"""A subscriber behind a link that carries a tenth of what is published: all of it arrives, about as fast as the link carries it.

There silence means nothing: an answer waits behind others, and who asks again before it has come puts another one behind it. (Many holes at once:
tests/unit/test_subscription_slow.c.)
"""
import time

from fault_mesh import Mesh
from fault_net import Network
from harness import check, main, wait_until

LINK = 100_000              # bytes a second
PAYLOAD = 1000
TIMES = 3                   # so much longer than the link needs at least; once it was for ever


def bytes_of(facts):
    return facts * (PAYLOAD + 50)


def who_is_late_behind_a_slow_link(lab):
    net = Network(lab)
    mesh = Mesh(lab, net, payload=PAYLOAD)
    pub = mesh.publisher(1000)
    pub.send("go")
    wait_until("1000 facts are on the disk", lambda: mesh.synced(pub) >= 1000, 20, pub)
    mesh.end()
    far = mesh.subscriber("far", "flow.>", ready=False)
    net.between(mesh.journal, far, rate=LINK)
    facts, started = mesh.synced(pub), time.monotonic()
    least = bytes_of(facts) / LINK
    wait_until("all has come", lambda: far.lines("^DONE"), TIMES * least, far)
    took = time.monotonic() - started
    check(took > least / 2, f"{facts} facts in {took:.1f} s: the link is not slow, nothing is tested")
    lab.tell(f"{facts} facts came over {LINK / 1000:.0f} kB/s in {took:.1f} s; the link needs {least:.1f}")
    mesh.judge()
    mesh.close()


main(who_is_late_behind_a_slow_link)
