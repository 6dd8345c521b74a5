#!/usr/bin/python3
"""A subscriber behind a link that carries a tenth of what is published: all of it arrives, about as fast as the link carries it, and who sends it
is not taken for dead.

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


def who_sends_facts_is_not_taken_for_dead_while_its_answers_wait(lab):
    """As behind what fills a link, for longer than a silence is believed; facts go on meanwhile."""
    RATE, WAIT_S = 200, 5
    net = Network(lab)
    mesh = Mesh(lab, net)
    pub = mesh.publisher(RATE)
    far = mesh.subscriber("far", "flow.>", "--progress", "100")
    pub.send("go")
    far.line("^PROGRESS", 10)
    net.link(pub, far, "control", drop=1)
    for _ in range(WAIT_S * RATE // 100):
        far.line("^PROGRESS", 10)
    check("NODE-SILENT" not in far.err(), "it was taken for dead: " + far.err()[-300:])
    net.heal()
    mesh.end()
    mesh.judge()
    mesh.close()


main(who_is_late_behind_a_slow_link, who_sends_facts_is_not_taken_for_dead_while_its_answers_wait)
