#!/usr/bin/python3
"""Effects outside, counted in files and not by what the library says: handlers that crash between intent, effect and outcome, their instances and the journal
killed; people that park, replay, drop, pause, seek and change topics; what is refused. ROUNDS=n for more kills."""
import collections
import json
import os
import subprocess
import time

from harness import FACTMESH, check, free_port, main, wait_until

ROUNDS = int(os.environ.get("ROUNDS", "1"))

# One line for each effect, in one write. In one of six runs it is killed before its effect, in one after it.
CRASHING = r"""
n=$(od -An -N1 -tu1 /dev/urandom)
[ $((n % 6)) = 0 ] && kill -9 $$
echo "$FM_ROOT $FM_ID" >>"$EFFECTS"
[ $((n % 6)) = 1 ] && kill -9 $$
exit 0
"""
# Also slow, so that kills from outside find it anywhere.
SLOW = "sleep 0.02; " + CRASHING.replace("exit 0", "sleep 0.02; exit 0")


class Work:
    """A group whose handler is a shell script; $EFFECTS is the file that it writes to."""

    def __init__(self, lab, bind, effect, handler, *more, name="g", topics=("order",), check_script=None):
        self.lab, self.bind, self.name, self.topics = lab, bind, name, topics
        self.file = lab.path(f"{name}.effects")
        open(self.file, "a").close()
        self.env = dict(os.environ, EFFECTS=self.file)
        self.argv = ["--exec", handler, "--attempts", "1000", *more] + (["--effect", effect] if effect else []) + (["--check", check_script] if check_script else [])
        self.count = 0

    def start(self, *more):
        self.count += 1
        return self.lab.start(f"{self.name}-{self.count}", [FACTMESH, "work", self.name, *self.topics, "--seed", self.bind, *self.argv, *more],
                              stdin=subprocess.DEVNULL, env=self.env)

    def run(self, *more):
        """Until everything is done."""
        process = self.start(*more)
        self.wait_done(process=process)
        process.terminate()

    def idle(self, *more, status=3, idle="700ms"):
        """Until nothing was there to do for a while; or it is refused."""
        result = self.lab.run(FACTMESH, "work", self.name, *self.topics, "--seed", self.bind, *self.argv, "--timeout", idle, *more, env=self.env, limit_s=60)
        check(result.status == status, f"work: status {result.status}, not {status}: {result.err[-400:]}")
        return result

    def lines(self):
        with open(self.file) as file:
            return file.read().splitlines()

    def group(self, verb, *more, **options):
        return self.lab.ok("group", verb, self.name, *more, "--seed", self.bind, **options)

    def info(self):
        return json.loads(self.group("show", "--json"))

    def parked(self):
        return [json.loads(line) for line in self.group("parked", "--json").splitlines()]

    def wait_done(self, limit_s=60, process=None):
        def nothing_left():
            shown = self.lab.factmesh("group", "show", self.name, "--json", "--seed", self.bind)
            info = json.loads(shown.out) if shown.status == 0 else {"instances": []}
            return info["instances"] and info["behind"] == 0 and info["unfinished"] == 0
        wait_until(f"group {self.name} has done everything", nothing_left, limit_s, process)


def publish(lab, bind, count, topic="order", start=0, keys=10):
    rows = "".join(f"k{n % keys},{n}\n" for n in range(start, start + count))
    lab.ok("pub", topic, "--seed", bind, "--csv", "--raw", "--key", "key", "--timeout", "20s", stdin=("key,n\n" + rows).encode())


def facts(lab, bind, topic="order"):
    """Without the gaps that a publisher left whose epoch nobody could close."""
    rows = map(json.loads, lab.ok("replay", topic, "--seed", bind, "--json").splitlines())
    return [row for row in rows if "seq" in row]


def ids(rows):
    return [f"{f['stream']}:{f['seq']}" for f in rows]


def check_once(lines, want, what):
    got = collections.Counter(lines)
    twice = [k for k, n in got.items() if n > 1]
    check(not twice, f"{what}: {len(twice)} had their effect twice, as {twice[:3]}")
    check(set(got) == set(want), f"{what}: {len(set(want) - set(got))} of {len(want)} had none, {len(set(got) - set(want))} should have had none")


def effects_are_had_once_whoever_is_killed(lab):
    """Three effects at once, over roots and corrections of them; the instances and the journal are killed meanwhile."""
    bind = f"tcp://127.0.0.1:{free_port()}"
    journal = lab.journal("journal", bind)
    count = 40 * ROUNDS
    publish(lab, bind, count // 2)
    roots = ids(facts(lab, bind))
    corrections = [lab.ok("correct", roots[n * 7 % len(roots)], f"corrected {n}", "--seed", bind).decode().strip() for n in range(4)]
    seen = {"once": 'grep -q "^$FM_ROOT " "$EFFECTS"', "once-per-version": 'grep -q " $FM_ID$" "$EFFECTS"', "on-correction": 'grep -q " $FM_ID$" "$EFFECTS"'}
    groups = [Work(lab, bind, effect, SLOW, "--lease", "1s", name=effect, check_script=seen[effect]) for effect in seen]
    workers = [[g, g.start()] for g in groups for _ in range(2)]
    publish(lab, bind, count - count // 2, start=count // 2)
    def had():
        return sum(len(g.lines()) for g in groups)
    before = had()
    for kill in range(20 * ROUNDS):
        time.sleep(lab.random.uniform(0.02, 0.2))
        entry = lab.random.choice(workers)
        entry[1].kill9()
        entry[1] = entry[0].start()
        # Each time it takes the instances seconds to find it again: so twice, every other time.
        for _ in range(2 * (kill % 2)):
            time.sleep(lab.random.uniform(0, 0.1))
            journal.kill9()
            journal = lab.journal("journal", bind)
    within = had() - before
    for g in groups:
        g.wait_done(100)
    everything = facts(lab, bind)
    roots = [i for i in ids(everything) if i not in corrections]
    check(len(roots) == count, f"{len(roots)} roots are recorded")
    check_once([line.split()[0] for line in groups[0].lines()], roots, "once")
    check_once([line.split()[1] for line in groups[1].lines()], roots + corrections, "once-per-version")
    check_once([line.split()[1] for line in groups[2].lines()], corrections, "on-correction")
    for g in groups:
        check(not g.parked(), f"{g.name}: parked though check knows: {g.parked()}")
    lab.tell(f"seed {lab.seed}; {20 * ROUNDS} kills each of instances and of the journal, {within} effects meanwhile")


def without_a_check_what_is_in_doubt_is_parked_until_somebody_decides(lab):
    bind = lab.journal().address
    publish(lab, bind, 2)
    # It dies after its effect the first time, and in the middle of it (--limit) for the other fact.
    g = Work(lab, bind, "once", 'echo "$FM_KEY $FM_FLAGS" >>"$EFFECTS"; case "$FM_FLAGS$FM_KEY" in k0) kill -9 $$;; k1) sleep 20;; esac', "--limit", "300ms")
    g.run()
    parked = g.parked()
    check(len(parked) == 2 and "killed by signal 9" in parked[0]["reason"] and "killed" in parked[1]["reason"], f"parked: {parked}")
    check(g.lines() == ["k0 ", "k1 "], f"effects: {g.lines()}")
    g.group("replay", str(parked[0]["offset"]))
    g.group("drop", str(parked[1]["offset"]))
    g.run()
    check(g.lines()[2:] == ["k0 redelivery,out_of_order,by_hand"], f"replayed by hand: {g.lines()[2:]}")
    check(not g.parked(), "something is parked still")


def an_instance_that_is_killed_takes_its_handler_with_it_and_leaves_a_doubt(lab):
    bind = lab.journal().address
    publish(lab, bind, 1)
    slow = 'echo "began $FM_FLAGS" >>"$EFFECTS"; sleep 2; echo "had" >>"$EFFECTS"'
    g = Work(lab, bind, "once", slow, "--lease", "1s", check_script='echo "checked" >>"$EFFECTS"; grep -q had "$EFFECTS" && exit 0; exit 1')
    one = g.start()
    wait_until("the handler is at it", lambda: g.lines(), 20)
    one.kill9()
    g.run()
    check(g.lines() == ["began ", "checked", "began redelivery,in_doubt", "had"], f"effects: {g.lines()}")


def an_instance_that_is_stopped_loses_its_fact_and_its_handler(lab):
    bind = lab.journal().address
    publish(lab, bind, 1)
    handler = 'echo "began $FM_TOKEN" >>"$EFFECTS"; sleep 2.5; echo "had $FM_TOKEN" >>"$EFFECTS"'
    g = Work(lab, bind, "once", handler, "--lease", "1s", check_script='grep -q had "$EFFECTS" && exit 0; exit 1')
    one = g.start()
    wait_until("the handler is at it", lambda: g.lines(), 20)
    one.stop()
    two = g.start()
    wait_until("another has it", lambda: len(g.lines()) >= 2, 20)
    one.cont()
    wait_until("it is had", lambda: g.lines()[-1].startswith("had"), 20)
    g.wait_done()
    check(len(g.lines()) == 3, f"effects: {g.lines()}")
    first, second, had = [line.split() for line in g.lines()]
    check(int(second[1]) > int(first[1]) and had[1] == second[1], f"effects: {g.lines()}")
    one.line("took longer than its lease", 20, "err")
    for process in one, two:
        check(process.alive(), "an instance ended")


def a_handler_that_outlasts_its_lease_keeps_it(lab):
    bind = lab.journal().address
    publish(lab, bind, 2, keys=1)
    # On a machine that is busy a process may not run for half a second, which a shorter lease would not outlast.
    g = Work(lab, bind, "once", 'sleep 3; echo "$FM_DELIVERIES" >>"$EFFECTS"', "--lease", "1500ms")
    first = g.start()
    second = g.start("--lease", "20s")      # the group's first instance decided
    g.wait_done()
    check(g.lines() == ["1", "1"], f"deliveries: {g.lines()}")
    for process in first, second:
        check(process.alive(), "an instance ended")


def outcomes_steer(lab):
    """later, failed, parked; replayed, dropped, paused, set back."""
    bind = lab.journal().address
    publish(lab, bind, 4, keys=2)           # k0: 0 2, k1: 1 3
    handler = r"""
read -r payload; echo "$payload $FM_FLAGS $FM_ATTEMPTS" >>"$EFFECTS"
case "$payload:$FM_DELIVERIES:$FM_FLAGS" in k0,0:1:) exit 65;; k1,1:1:) exit 75;; k1,1:[23]:redelivery) exit 1;; esac
"""
    g = Work(lab, bind, "idempotent", handler, "--delay", "100ms")
    g.argv[g.argv.index("1000")] = "2"
    g.run()
    lines = g.lines()
    check([line for line in lines if line.startswith("k0")] == ["k0,0  0", "k0,2 key_parked 0"], f"k0: {lines}")
    check([line for line in lines if line.startswith("k1")] == ["k1,1  0", "k1,1 redelivery 0", "k1,1 redelivery 1", "k1,3 key_parked 0"], f"k1: {lines}")
    parked = g.parked()
    check([p["reason"] for p in parked] == ["its handler ended with status 65", "its handler ended with status 1"], f"parked: {parked}")
    check(g.info()["parked"] == 2 and g.info()["unfinished"] == 0, f"{g.info()}")
    wrong = lab.factmesh("group", "replay", "g", "999", "--seed", bind)
    check(wrong.status == 1 and "not parked" in wrong.err, f"replay of what is not parked: {wrong.status} {wrong.err}")
    g.group("pause")
    g.group("replay")
    g.idle()
    check(len(g.lines()) == len(lines), "handed out though paused")
    g.group("resume")
    g.run()
    check(sorted(g.lines()[len(lines):]) == ["k0,0 redelivery,out_of_order,by_hand 0", "k1,1 redelivery,out_of_order,by_hand 0"], f"{g.lines()[len(lines):]}")
    lines = g.lines()
    g.group("seek", "start")
    g.run()
    check(sorted(line.split()[1] for line in g.lines()[len(lines):]) == ["replay"] * 4, f"set back: {g.lines()[len(lines):]}")
    g.group("seek", "start")
    g.group("seek", "end")
    lines = g.lines()
    g.run()
    check(g.lines() == lines, "what was left out was handed out")


def once_does_not_run_again_unless_told(lab):
    bind = f"tcp://127.0.0.1:{free_port()}"
    journal = lab.journal("journal", bind)
    publish(lab, bind, 3)
    g = Work(lab, bind, "once", 'cat >>"$EFFECTS"; echo >>"$EFFECTS"')
    g.run()
    g.group("seek", "start")
    g.run()
    check(len([line for line in g.lines() if line]) == 3, f"set back, once: {g.lines()}")
    # Away, and the journal restarted meanwhile: it goes on where it was.
    journal.terminate()
    journal = lab.journal("journal", bind)
    publish(lab, bind, 2, start=3)
    g.run()
    check([line for line in g.lines() if line][3:] == ["k3,3", "k4,4"], f"after it was away: {g.lines()}")
    g.group("seek", "start", "--again")
    g.run()
    check(len([line for line in g.lines() if line]) == 10, f"set back, again: {g.lines()}")
    # Deleted is deleted, also when the journal is killed at once.
    g.group("rm")
    journal.kill9()
    lab.journal("journal", bind)
    gone = lab.factmesh("group", "show", "g", "--seed", bind)
    check(gone.status == 1 and "no group" in gone.err, f"deleted: {gone.status} {gone.err}")


def topics_change_with_and_without_what_was_left_out(lab):
    bind = lab.journal().address
    publish(lab, bind, 1, topic="a")
    g = Work(lab, bind, "once", 'cat >>"$EFFECTS"; echo " $FM_TOPIC" >>"$EFFECTS"', topics=("a",))
    g.run("--from-now")
    publish(lab, bind, 2, topic="a", start=1)
    publish(lab, bind, 2, topic="b", start=10)

    def change(topics, *more):
        before = len(g.lines())
        g.topics = topics
        g.run("--change-topics", *more)
        return sorted(line for line in g.lines()[before:] if line)
    g.run()
    check(len(g.lines()) == 2, f"from now on: {g.lines()}")
    g.topics = ("b",)
    g.idle(status=1)
    check(change(("b",)) == [], "without --hand-out-skipped nothing of the past comes")
    publish(lab, bind, 1, topic="a", start=5)
    got = change(("a", "b"), "--hand-out-skipped")
    check(got == ["k5,5 a"], f"what b had left out: {got}")
    publish(lab, bind, 1, topic="c", start=20)
    publish(lab, bind, 1, topic="a", start=6)
    got = change(("a", "b", "c"), "--hand-out-skipped")
    check(got == ["k0,20 c", "k6,6 a"], f"c is new, and so is the last a: {got}")
    twice = [line for line, n in collections.Counter(g.lines()).items() if n > 1]
    check(not twice, f"twice: {twice}")


def what_is_wrong_is_refused_and_said(lab):
    bind = lab.journal().address
    publish(lab, bind, 1)
    g = Work(lab, bind, "once", "true")
    g.run()

    def refused(word, *argv, status=1):
        result = lab.factmesh(*argv, "--seed", bind, "--timeout", "8s")
        check(result.status == status and word in result.err, f"{argv}: status {result.status}: {result.err}")
    refused("no group 'none'", "group", "show", "none")
    refused("all instances declare the same", "work", "g", "order", "--effect", "idempotent", "--exec", "true")
    refused("has other topics", "work", "g", "other", "--effect", "once", "--exec", "true")
    refused("a lease of", "work", "h", "order", "--effect", "once", "--exec", "true", "--lease", "1ms")
    refused("not recorded", "correct", "00000000000000000000000000000001:1", "x")
    stay = g.start()
    wait_until("it has joined", lambda: g.info()["instances"], 20)
    refused("stop them first", "group", "rm", "g")
    stay.terminate()
    other = lab.journal("other", f"tcp://127.0.0.1:{free_port()}", "--seed", bind)
    started = time.monotonic()
    result = lab.factmesh("work", "k", "order", "--effect", "once", "--exec", "true", "--seed", f"{bind},{other.address}", "--timeout", "3s")
    check(result.status != 0 and "journals: name the one" in result.err, f"two journals: status {result.status} {result.err}")
    check(time.monotonic() - started < 15, "two journals: it took too long")


main(effects_are_had_once_whoever_is_killed, without_a_check_what_is_in_doubt_is_parked_until_somebody_decides,
     an_instance_that_is_killed_takes_its_handler_with_it_and_leaves_a_doubt, an_instance_that_is_stopped_loses_its_fact_and_its_handler,
     a_handler_that_outlasts_its_lease_keeps_it, outcomes_steer, once_does_not_run_again_unless_told, topics_change_with_and_without_what_was_left_out,
     what_is_wrong_is_refused_and_said, at_once=2)
