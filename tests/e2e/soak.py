#!/usr/bin/python3
"""Random faults at random moments, everything at once: `make soak MINUTES=30`; a short run is test_soak.py.

A journal, five publishers with lasting streams, ten subscribers: to one topic, a prefix, a wildcard, everything; live, synced, with a named
cursor, with a cursor of their own; some join late. Where the machine allows it each is a host of its own and links go bad (fault_net.py);
where not, that is said, and the other faults remain.

At the end everything is healed, publishers put their end marks, and the oracle compares: nothing acknowledged is lost, order, once. Memory and
open files of those who lived long must be flat. SEED=N repeats the choices; their moments depend on the machine.
"""
import collections
import os
import statistics
import subprocess
import time

from fault_mesh import Mesh
from fault_net import Network
from harness import LIBC, Skipped, check, fields, main

SECONDS = int(os.environ.get("SOAK_SECONDS", "300"))
PUBLISHERS = 5
RATE = int(os.environ.get("SOAK_RATE", "400"))          # of each publisher
TOPICS = 20
# Seconds between faults, and how long one lasts.
PAUSE_S = (0.1, 1.5)
LASTS_S = (0.05, 4.0)
LONG_S = (5.0, 12.0)                                     # one in ten: longer than it takes to be declared dead
LIVE_QUEUE = 20                                          # frames: drops in long runs as soon as somebody stands still
RECOVERY_S = 60
REPLAY_S = RECOVERY_S + SECONDS / 10                     # for the checker, who has the whole log to replay
DISK_BYTES = (1 << 30) + SECONDS * (1 << 20)               # a second's facts take 0.8 MB: it is full when a fault fills it, and only then
SETTLED = 0.35                                           # of a process's life: from then on its memory is compared
MEMORY_SLOPE = 8 << 20                                   # bytes that it may grow from there to the end
MEMORY_HELD = 16 << 20                                   # what a subscription holds: one that is young may still come to it
MEMORY_PEAK = 192 << 20                                  # of any: a full window has 64 MiB, what a subscription holds 16
FILES_SLOPE = 12
JUDGED_S = 120                                           # the slope of one that lived shorter says little
GROWN_S = 450                                            # one that lived as long has met what there is to meet

SUBSCRIBERS = [
    # name, topics, options
    ("exact", "flow.r0.k3", []),
    ("prefix", "flow.r1.>", []),
    ("wildcard", "flow.*.k7", []),
    ("all", "flow.>", []),
    ("all-synced", "flow.>", ["--synced"]),
    ("prefix-synced", "flow.r0.>", ["--synced"]),
    ("named", "flow.>", ["--cursor", "soak-named", "--every", "500"]),
    ("named-synced", "flow.*.k1", ["--cursor", "soak-synced", "--synced"]),
    ("own", "flow.>", ["--synced"]),
    ("slow", "flow.r1.>", ["--stall-us", "100", "--held", "262144"]),
]
# Those that keep their place can be killed.
RESUMED = ("named", "named-synced", "own")
LATE = ("prefix", "named", "own")

# What happened: its kind and a text, the process that it befell (None: a link), how to undo it.
Fault = collections.namedtuple("Fault", "kind text victim undo")


def small_disk(directory):
    """A file system for the journal alone, which can be filled. False: not allowed here."""
    CLONE_NEWNS = 0x20000
    os.mkdir(directory)
    # A mount namespace of our own: it goes with us.
    return LIBC.unshare(CLONE_NEWNS) == 0 and all(
        subprocess.run(["mount", *argv], stderr=subprocess.DEVNULL).returncode == 0
        for argv in (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", directory]))


class Soak:
    def __init__(self, lab):
        self.lab, self.random = lab, lab.random
        self.started = time.monotonic()
        self.say(f"SEED={lab.seed} SOAK_SECONDS={SECONDS}")
        self.disk = small_disk(lab.path("journal"))
        if not self.disk:
            self.say("the disk is never full: no mounts are allowed here")
        try:
            self.net = Network(lab)
        except Skipped as why:
            self.net = None
            self.say(f"links stay well: {why}")
        self.mesh = Mesh(lab, self.net, TOPICS, ("--segment-size", "8M"))
        for _ in range(PUBLISHERS):
            self.mesh.publisher(RATE, "--live-queue", str(LIVE_QUEUE), durable=True)
        self.late = []
        for spec in SUBSCRIBERS:
            if spec[0] in LATE:
                self.late.append((self.random.uniform(0.05, 0.6) * SECONDS, spec))
            else:
                self.subscribe(spec)
        for pub in self.mesh.publishers:
            pub.send("go")
        self.active = []                    # (when it is undone, fault)
        self.counts = collections.Counter()
        self.samples = collections.defaultdict(list)
        self.next_sample = self.next_word = 0

    def now(self):
        return time.monotonic() - self.started

    def say(self, text):
        print(f"    {self.now():6.1f} s  {text}", flush=True)

    def subscribe(self, spec, ready=True):
        name, topic, more = spec
        if name in RESUMED:
            more = ["--every", "50", *more, "--resume", self.lab.path(name + ".resume")]
        return self.mesh.subscriber(name, topic, *more, "--open-ms", "120000", publishers=PUBLISHERS, ready=ready)

    def processes(self):
        return [self.mesh.journal, *self.mesh.publishers, *self.mesh.subscribers]

    def free(self):
        """Those that nothing has befallen."""
        victims = [fault.victim for _, fault in self.active]
        return [p for p in self.processes() if p not in victims]

    # ---------------------------------------------------------------- faults: None where it cannot be done now

    def kill_journal(self):
        journal = self.mesh.journal
        if journal not in self.free():
            return None
        journal.kill9()
        return Fault("kill-journal", "", journal, self.mesh.journal_restart)

    def kill_publisher(self):
        choice = [p for p in self.mesh.publishers if p in self.free()]
        if not choice:
            return None
        victim = self.random.choice(choice)
        victim.kill9()
        return Fault("kill-publisher", victim.name, victim, lambda: self.mesh.start_again(victim).send("go"))

    def kill_subscriber(self):
        choice = [p for p in self.mesh.subscribers if p in self.free() and p.name in RESUMED]
        if not choice:
            return None
        victim = self.random.choice(choice)
        victim.kill9()
        return Fault("kill-subscriber", victim.name, victim, lambda: self.mesh.start_again(victim))

    def stop(self):
        victim = self.random.choice(self.free())
        victim.stop()
        return Fault("stop", victim.name, victim, victim.cont)

    def disk_is_full(self):
        return any(fault.kind == "full-disk" for _, fault in self.active)

    def fill_disk(self):
        if not self.disk or self.disk_is_full():
            return None
        ballast = os.path.join(self.lab.path("journal"), "ballast")
        with open(ballast, "wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 20)):
                    pass
            except OSError:
                pass
        return Fault("full-disk", "", None, lambda: os.unlink(ballast))

    def rule(self):
        return self.random.choice([{"drop": 1}, {"drop": 1}, {"delay": 50000, "jitter": 50000}, {"loss": 100000}, {"reset": 1},
                                   {"rate": 100000}])

    def bad_link(self):
        """One link, both ways or one, all of it or one of its two connections."""
        if not self.net:
            return None
        a, b = self.random.sample(self.processes(), 2)
        only, rule, both = self.random.choice(["all", "all", "live", "control"]), self.rule(), self.random.random() < 0.6
        (self.net.between if both else self.net.link)(a, b, only, **rule)
        return Fault("link", f"{a.name} {'<->' if both else '->'} {b.name}, {only}, {rule}", None, lambda: self.net.between(a, b))

    def bad_host(self):
        if not self.net:
            return None
        victim, rule = self.random.choice(self.processes()), self.rule()
        self.net.part(victim, **rule)
        return Fault("host", f"{victim.name}, {rule}", None, lambda: self.net.part(victim))

    def flap(self):
        if not self.net:
            return None
        a, b = self.random.sample(self.processes(), 2)
        for _ in range(self.random.randrange(2, 10)):
            self.net.between(a, b, drop=1)
            time.sleep(self.random.uniform(0.005, 0.05))
            self.net.between(a, b)
            time.sleep(self.random.uniform(0.005, 0.05))
        return Fault("flap", f"{a.name}, {b.name}", None, lambda: None)

    # ---------------------------------------------------------------- the run

    def look(self):
        """Has somebody died by himself? Memory and files; a line now and then."""
        for process in self.free():
            check(process.alive() or process.popen.returncode == 0, f"{process.name} ended by itself with status {process.popen.returncode}")
        if self.now() > self.next_sample:
            self.next_sample = self.now() + 1
            for process in self.free():
                if process.alive():
                    self.samples[process].append((process.memory_bytes(), process.files_open()))
        if self.disk and not self.disk_is_full():
            room = os.statvfs(self.lab.path("journal"))
            check(room.f_bavail * room.f_frsize > DISK_BYTES // 16, "the disk is too small for what is published: it would be full for good")
        if self.now() > self.next_word:
            self.next_word = self.now() + 15
            self.say(f"{sum(self.counts.values())} faults, {len(self.active)} now; synced "
                     + " ".join(str(self.mesh.synced(p)) for p in self.mesh.publishers))
            if os.environ.get("SOAK_VERBOSE"):
                self.say("MiB: " + " ".join(f"{p.name} {p.memory_bytes() / 1048576:.1f}" for p in self.free() if p.alive()))

    def inject(self):
        kinds = [self.kill_journal, self.kill_publisher, self.kill_subscriber, self.stop, self.stop, self.bad_link, self.bad_link, self.bad_link,
                 self.bad_host, self.flap, self.fill_disk]
        fault = self.random.choice(kinds)()
        if not fault:
            return
        lasts = self.random.uniform(*(LONG_S if SECONDS >= 60 and self.random.random() < 0.1 else LASTS_S))
        self.counts[fault.kind] += 1
        self.active.append((self.now() + lasts, fault))
        if os.environ.get("SOAK_VERBOSE"):
            self.say(f"{fault.kind} {fault.text} for {lasts:.1f} s")

    def undo(self, until):
        for item in [item for item in self.active if item[0] <= until]:
            item[1].undo()
            self.active.remove(item)
        if not self.active and self.net:
            self.net.heal()

    def run(self):
        next_fault = 1
        while self.now() < SECONDS:
            self.look()
            self.undo(self.now())
            for item in [item for item in self.late if item[0] <= self.now()]:
                self.late.remove(item)
                self.say(f"{item[1][0]} joins")
                self.subscribe(item[1], ready=False)
            if self.now() >= next_fault:
                next_fault = self.now() + self.random.uniform(*PAUSE_S)
                self.inject()
            time.sleep(0.02)
        self.undo(float("inf"))
        self.say("all is healed; " + ", ".join(f"{count} {kind}" for kind, count in sorted(self.counts.items())))

    # ---------------------------------------------------------------- the judgement

    def flat(self):
        """Memory and files of those who lived long: the median of the last quarter against that of an earlier one."""
        growth = []                         # (bytes, open files, name, seconds) of each
        for process, samples in self.samples.items():
            if len(samples) < JUDGED_S:
                continue
            quarter = len(samples) // 4
            early, late = samples[int(len(samples) * SETTLED):][:quarter], samples[-quarter:]
            growth.append((*(statistics.median(s[what] for s in late) - statistics.median(s[what] for s in early) for what in (0, 1)),
                           f"{process.name} ({len(samples)} s)", len(samples)))
        growth.sort(reverse=True)
        peak, who = max((s[0], process.name) for process, samples in self.samples.items() for s in samples)
        self.lab.tell(f"memory of the {len(growth)} that lived for {JUDGED_S} s grew most in "
                      + ", ".join(f"{name} by {memory / 1048576:.1f} MiB" for memory, _, name, _ in growth[:4])
                      + f"; open files by {max((files for _, files, _, _ in growth), default=0):.0f} at most; highest memory of any {peak / 1048576:.0f} MiB ({who})")
        for memory, files, name, lived_s in growth:
            check(memory <= MEMORY_SLOPE + (lived_s < GROWN_S) * MEMORY_HELD, f"{name} grew by {memory / 1048576:.1f} MiB")
            check(files <= FILES_SLOPE, f"{name} has {files:.0f} more files open")
        check(peak <= MEMORY_PEAK, f"{who} had {peak / 1048576:.0f} MiB")

    def judge(self):
        started = time.monotonic()
        self.mesh.end(RECOVERY_S)
        self.say(f"all is synced {time.monotonic() - started:.1f} s after the last fault")
        waiting = list(self.mesh.subscribers)
        while waiting and time.monotonic() < started + RECOVERY_S:
            for sub in [sub for sub in waiting if sub.lines("^DONE")]:
                waiting.remove(sub)
                self.say(f"{sub.name} has all {time.monotonic() - started:.1f} s after the last fault")
            time.sleep(0.1)
        check(not waiting, f"{', '.join(sub.name for sub in waiting)}: not done within {time.monotonic() - started:.0f} s")
        facts = self.mesh.judge(RECOVERY_S, replay_s=REPLAY_S)
        took = time.monotonic() - started
        again = sum(int(fields(line)["facts"]) for sub in self.mesh.subscribers for line in sub.lines("^AGAIN"))
        self.lab.tell(f"seed {self.lab.seed}; {sum(self.counts.values())} faults: "
                      + ", ".join(f"{count} {kind}" for kind, count in sorted(self.counts.items())))
        self.lab.tell(f"{facts} facts in the journal, every acknowledged one among them; all subscribers have them {took:.1f} s after the last "
                      f"fault; seen live and then void: {sum(s.ghosts for s in self.mesh.subscribers)}, delivered again to a named cursor: {again}")
        self.flat()
        self.mesh.close()
        check(self.mesh.journal.terminate(20) == 0, "the journal does not end well")
        self.lab.ok("verify", self.lab.path("journal"))


def everything_at_once_loses_nothing(lab):
    soak = Soak(lab)
    soak.run()
    soak.judge()


if __name__ == "__main__":
    main(everything_at_once_loses_nothing)
