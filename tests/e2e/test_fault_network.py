#!/usr/bin/python3
"""Links that are cut, half open, slow, lossy, reset or flapping while facts flow: nobody loses a fact, and nobody else notices.

A journal, a publisher, and three subscribers, each on a host of its own (fault_net.py): `near`, whose links are well, `far`, whose links are
in the way of faults, and `sure`, which takes only what is on disk. Afterwards everybody has every byte.
"""
import os
import time

from fault_mesh import Mesh
from fault_net import Network, half_open
from harness import check, main, wait_until

RATE = 4000
# While another's link is bad, in facts that came against facts that were due. The rest is for a machine that is busy.
RATE_LEAST = 0.8
THOROUGH = os.environ.get("THOROUGH") == "1"        # every fault on every link, and longer
# Silence is acted on after 4 to 5 s, and the next head comes a second later at most; TCP's keepalive would take 10 to 19.
HALF_OPEN_S = 8
# A replay that owes more and says nothing for 2 s is opened again; had it owed nothing, after 10.
BROKEN_S = 8


class Setting:
    def __init__(self, lab, *pub_more):
        self.lab = lab
        self.net = Network(lab)
        self.mesh = Mesh(lab, self.net)
        self.journal = self.mesh.journal
        self.pub = self.mesh.publisher(RATE, *pub_more)
        self.near = self.mesh.subscriber("near", "flow.>", "--progress", "100")
        self.far = self.mesh.subscriber("far", "flow.>", "--progress", "100")
        self.sure = self.mesh.subscriber("sure", "flow.>", "--synced", "--progress", "100")
        self.pub.send("go")
        for sub in self.mesh.subscribers:
            sub.line("^PROGRESS", 10)
        self.worst = {}

    def facts(self, sub):
        return 100 * len(sub.lines("^PROGRESS"))

    def during(self, seconds, *untouched):
        """Let it flow for a while, and see that those who have nothing to do with the fault go on."""
        before, started = [self.facts(sub) for sub in untouched], time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - started
        for sub, start in zip(untouched, before):
            share = (self.facts(sub) - start) / (RATE * took)
            self.worst[sub.name] = min(share, self.worst.get(sub.name, 9))

    def caught_up(self, limit_s=20):
        """Everybody has what was published by now."""
        want = self.mesh.synced(self.pub) // 100 * 100
        for sub in self.mesh.subscribers:
            wait_until(f"{sub.name} has {want} facts", lambda: self.facts(sub) >= want, limit_s, sub)

    def recovers(self, limit_s=20):
        """The journal takes what comes from now on, and everybody has it."""
        want = self.mesh.synced(self.pub) + RATE // 4
        wait_until("the journal syncs again", lambda: self.mesh.synced(self.pub) >= want, limit_s, self.pub)
        self.caught_up(limit_s)

    def end(self):
        self.mesh.end()
        facts = self.mesh.judge()
        gaps = [sub.name for sub in self.mesh.subscribers if sub.lines("^GAP")]
        check(not gaps, f"gaps were told to {gaps}, though nobody lost anything")
        for name, share in self.worst.items():
            check(share >= RATE_LEAST, f"{name}, whose links were well, got {share:.0%} of the rate")
        self.mesh.close()
        shares = ", ".join(f"{name} {share:.0%}" for name, share in self.worst.items())
        self.lab.tell(f"{facts} facts; everybody has every byte; slowest share of the rate meanwhile: {shares}; "
                      f"network: {self.net.command('stats')[3:]}")


def faults(s, a, b, only, untouched):
    """Each kind of fault on the link between two hosts."""
    rules = [(s.net.between, {"drop": 1}), (s.net.link, {"drop": 1}), (lambda a, b, only, **rule: s.net.link(b, a, only, **rule), {"drop": 1}),
             (s.net.between, {"reset": 1}), (s.net.between, {"delay": 30000, "jitter": 20000}), (s.net.between, {"loss": 50000})]
    for put, rule in rules if THOROUGH else rules[:4] + [s.lab.random.choice(rules[4:])]:
        put(a, b, only, **rule)
        s.during(0.6 if THOROUGH else 0.3, *untouched)
        s.net.heal()
        s.recovers()
    for _ in range(6):
        s.net.between(a, b, only, drop=1)
        s.during(s.lab.random.uniform(0.01, 0.1))
        s.net.heal()
        s.during(s.lab.random.uniform(0.01, 0.1))
    s.recovers()


def the_link_from_publisher_to_journal(lab):
    s = Setting(lab)
    faults(s, s.pub, s.journal, "all", [s.near])
    s.end()


def the_link_from_publisher_to_subscriber(lab):
    s = Setting(lab)
    faults(s, s.pub, s.far, "all", [s.near, s.sure])
    s.end()


def the_link_from_subscriber_to_journal_while_it_replays(lab):
    s = Setting(lab)
    s.during(1)
    # So slow, also while it loses packets, that the replay lasts: what it asks for comes over this link alone, its own commits go over it.
    late = s.mesh.subscriber("late", "flow.>", "--progress", "100", "--cursor", "late", "--synced", ready=False)
    for rule in ({"drop": 1}, {"loss": 100000}, {"drop": 1}, {"reset": 1}):
        s.net.between(late, s.journal, rate=300000)
        s.during(0.5, s.near, s.sure)
        s.net.between(late, s.journal, rate=300000, **rule)
        s.during(0.4, s.near, s.sure)
    s.net.heal()
    healed, want = time.monotonic(), s.mesh.synced(s.pub) // 100 * 100
    check(s.facts(late) < want - RATE // 2, "it is not behind: nothing is tested")
    wait_until(f"the replay has brought {want} facts", lambda: s.facts(late) >= want, BROKEN_S, late)
    lab.tell(f"its connection was reset: the replay had brought all of then {time.monotonic() - healed:.1f} s later")
    s.recovers()
    s.end()


def the_link_of_watermarks(lab):
    s = Setting(lab)
    faults(s, s.pub, s.journal, "control", [s.near])
    s.end()


def a_live_connection_that_only_the_journal_believes_in(lab):
    s = Setting(lab)
    healed = half_open(s.net, s.pub, s.journal)
    s.during(1, s.near)
    want = s.mesh.synced(s.pub) + RATE // 2
    wait_until("the journal syncs again", lambda: s.mesh.synced(s.pub) >= want, HALF_OPEN_S, s.pub)
    lab.tell(f"the journal had what it missed {time.monotonic() - healed:.1f} s later")
    s.end()


def a_cut_longer_than_a_death_sentence(lab):
    s = Setting(lab)
    cuts = ((s.journal, None), (s.far, None), (s.pub, s.journal))
    for a, b in cuts if THOROUGH else cuts[:1]:
        started = time.monotonic()
        s.net.between(a, b, drop=1)
        s.during(3.5, s.near)
        s.net.heal()
        healed = time.monotonic()
        s.recovers()
        lab.tell(f"cut for {healed - started:.1f} s: all well {time.monotonic() - healed:.1f} s after it")
    s.end()


main(the_link_from_subscriber_to_journal_while_it_replays, the_link_from_publisher_to_journal, the_link_from_publisher_to_subscriber,
     the_link_of_watermarks, a_live_connection_that_only_the_journal_believes_in, a_cut_longer_than_a_death_sentence, at_once=3)
