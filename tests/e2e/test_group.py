#!/usr/bin/python3
"""Groups: instances that come, leave, stop and die while facts flow, a journal that is killed; key order, nothing lost, nothing again that was confirmed."""
import collections
import json
import os
import subprocess

from harness import FACTMESH, check, main, tool, wait_until

KEYS = 500


def publish(lab, bind, count, topic="work.items", keys=KEYS, start=0):
    """Facts with the key of their number; the payload is key:number."""
    rows = "".join(f"k{n % keys},{n}\n" for n in range(start, start + count))
    lab.ok("pub", topic, "--seed", bind, "--csv", "--raw", "--key", "key", "--timeout", "60s", stdin=("key,n\n" + rows).encode(), limit_s=90)


class Group:
    def __init__(self, lab, bind, name="g", topic="work.items", *more):
        self.lab, self.bind, self.name, self.topic, self.more = lab, bind, name, topic, more
        self.file = lab.path(f"{name}.handled")
        self.count = 0

    def worker(self, *more):
        self.count += 1
        process = self.lab.start(f"worker{self.count}", [tool("group_worker"), "--seed", self.bind, "--group", self.name, "--topic", self.topic,
                                                         "--file", self.file, *self.more, *more])
        process.line("^JOINED", 25)
        return process

    def rows(self):
        """Handled: (token, offset, deliveries, flags, key, payload), in order of tokens; confirmed: offset -> how often."""
        handled, confirmed = [], collections.Counter()
        if not os.path.exists(self.file):
            return handled, confirmed
        with open(self.file) as file:
            for line in file.read().splitlines():
                parts = line.split(" ", 6)
                if parts[0] == "C":
                    confirmed[int(parts[1])] += 1
                else:
                    handled.append((int(parts[2]), int(parts[1]), int(parts[3]), int(parts[4]), parts[5], parts[6]))
        handled.sort()
        return handled, confirmed

    def done(self):
        return len(self.rows()[1])

    def handled(self):
        return len({row[1] for row in self.rows()[0]})

    def info(self):
        return json.loads(self.lab.ok("group", "show", self.name, "--seed", self.bind, "--json"))

    def wait_done(self, limit_s=120):
        """Until the journal says that nothing is left: a worker may have died after it was told, and before it wrote so down."""
        def nothing_left():
            info = self.info()
            return info["behind"] == 0 and info["unfinished"] == 0
        wait_until(f"group {self.name} has done everything", nothing_left, limit_s)


def check_key_order(handled):
    """Per key the offsets rise, in order of hand-outs, but for one that is handed out again."""
    last = {}
    for token, offset, deliveries, flags, key, payload in handled:
        before = last.get(key, 0)
        check(offset >= before, f"key {key}: offset {offset} (token {token}) after {before}")
        last[key] = offset


def check_all_done(handled, count, keys=KEYS):
    got = {row[5] for row in handled}
    want = {f"k{n % keys},{n}" for n in range(count)}
    check(got == want, f"{len(want - got)} facts of {count} were not handled, {len(got - want)} are none that were published")


def eight_instances_that_come_leave_stop_and_die_keep_the_order_of_keys(lab):
    """50,000 facts over 500 keys."""
    count = 50_000
    journal = lab.journal()
    bind = journal.address
    group = Group(lab, bind, "g", "work.items", "--lease-ms", "2000", "--in-hand", "64", "--sleep-us", "200")
    publish(lab, bind, count // 2)
    workers = [group.worker() for _ in range(8)]
    pub = lab.start("pub", [FACTMESH, "pub", "work.items", "--seed", bind, "--csv", "--raw", "--key", "key", "--rate", "10000", "--timeout", "60s"],
                    stdin=subprocess.PIPE)
    pub.popen.stdin.write(("key,n\n" + "".join(f"k{n % KEYS},{n}\n" for n in range(count // 2, count))).encode())
    pub.close_input()
    events = collections.Counter()
    for step in range(14):
        want = min(group.done() + lab.random.randint(200, count // 20), count - count // 20)
        wait_until(f"{want} facts are done", lambda: group.done() >= want, 60)
        worker = workers.pop(lab.random.randrange(len(workers)))
        kind = lab.random.choice(["kill", "kill", "leave", "stop"])
        events[kind] += 1
        if kind == "kill":
            worker.kill9()
        elif kind == "leave":
            worker.close_input()
            worker.ends_well(20)
        else:
            worker.stop()
        workers.append(group.worker())
        if kind == "stop":
            # Longer than its lease: what it had is others' by now, and it must notice.
            wait_until("others go on", lambda: group.done() >= min(want + 100, count), 60)
            worker.cont()
    pub.ends_well(90)
    group.wait_done()
    handled, confirmed = group.rows()
    check_key_order(handled)
    check_all_done(handled, count)
    twice = [offset for offset, n in confirmed.items() if n > 1]
    check(not twice, f"confirmed twice: {twice[:5]}")
    lab.tell(f"seed {lab.seed}; {dict(events)}; {len(handled) - count} handed out again of {count}")


def twenty_kills_of_the_journal_and_of_instances_lose_no_work_and_repeat_none_that_was_confirmed(lab):
    count = 6000
    journal = lab.journal()
    bind = journal.address
    group = Group(lab, bind, "g", "work.items", "--lease-ms", "10000", "--sleep-us", "300")
    publish(lab, bind, count)
    workers = [group.worker() for _ in range(3)]
    for kill in range(20):
        # By what was handled: an instance that is told that some came too late does not say which were confirmed.
        want = min(group.handled() + lab.random.randint(1, 150), count * (kill + 1) // 21)
        wait_until(f"kill {kill + 1}: {want} are handled", lambda: group.handled() >= want, 60)
        workers.pop(lab.random.randrange(len(workers))).kill9()
        workers.append(group.worker())
        journal.kill9()
        journal = lab.journal("journal", bind)
    group.wait_done()
    handled, confirmed = group.rows()
    check_key_order(handled)
    check_all_done(handled, count)
    twice = [offset for offset, n in confirmed.items() if n > 1]
    check(not twice, f"confirmed twice: {twice[:5]}")
    tokens = [row[0] for row in handled]
    check(len(set(tokens)) == len(tokens), "a token came twice")
    for worker in workers:
        worker.close_input()
        worker.ends_well(20)
    lab.tell(f"seed {lab.seed}; {len(handled) - count} handed out again of {count}")


main(eight_instances_that_come_leave_stop_and_die_keep_the_order_of_keys,
     twenty_kills_of_the_journal_and_of_instances_lose_no_work_and_repeat_none_that_was_confirmed)
