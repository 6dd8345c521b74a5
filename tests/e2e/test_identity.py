#!/usr/bin/python3
"""Answers under an identity: handlers and the journal are killed -9 again and again, and whoever reads has one answer for each request, and the same one."""
import json
import os
import subprocess
import time

from harness import FACTMESH, check, fields, free_port, main, tool, wait_until

KILLS = 20
A_ROUND = 150                       # requests
REQUESTS = KILLS * A_ROUND
IN_THE_MIDST = 6                    # answered and not confirmed, when a handler is killed


def rows(path):
    """What `--long` printed: (id, payload) of each line."""
    with open(path) as file:
        parts = [line.split(" ", 5) for line in file.read().splitlines()]
    return [(part[4], part[5]) for part in parts]


def check_answers(name, got, want):
    payloads = [payload for _, payload in got]
    check(len(set(payloads)) == len(payloads), f"{name} has {len(payloads) - len(set(payloads))} answers twice")
    check(set(payloads) == want, f"{name} has {len(set(payloads))} answers to {len(want)} requests")


def forty_kills_leave_one_answer_to_each_request(lab):
    bind = f"tcp://127.0.0.1:{free_port()}"
    journal = lab.journal("journal", bind, "--segment-size", "1M")
    early_path, late_path = lab.path("early"), lab.path("late")
    early = lab.start("early", [FACTMESH, "sub", "work.answers", "--seed", bind, "--from", "start", "--synced", "--long"], stdin=subprocess.DEVNULL,
                      stdout=early_path)
    files = [lab.path("handled0"), lab.path("handled1")]

    def start_worker(n):
        process = lab.start(f"worker{n}", [tool("group_worker"), "--seed", bind, "--group", "g", "--topic", "work.requests", "--file", files[n], "--lease-ms",
                                           "10000", "--in-hand", "32", "--answer", "work.answers", "--directory", lab.path(f"stream{n}")])
        process.line("^JOINED", 25)
        return process

    def info():
        return json.loads(lab.ok("group", "show", "g", "--seed", bind, "--json", limit_s=30))

    def lines(n):
        if not os.path.exists(files[n]):
            return []
        with open(files[n], "rb") as f:
            return f.read().splitlines()

    def handled():
        return sum(line.startswith(b"H ") for n in (0, 1) for line in lines(n))

    def in_the_midst(n, beyond):
        """It has answered some, said so to nobody, and goes on."""
        mine = lines(n)
        return len(mine) > beyond and all(line.startswith(b"H ") for line in mine[-IN_THE_MIDST:])

    workers = [start_worker(0), start_worker(1)]
    requests = lab.start("requests", [FACTMESH, "pub", "work.requests", "--seed", bind, "--csv", "--raw", "--key", "key"])
    requests.send("key,text")
    for kill in range(KILLS):
        n = lab.random.randrange(2)
        beyond = len(lines(n)) + lab.random.randint(IN_THE_MIDST, 2 * IN_THE_MIDST)
        for i in range(kill * A_ROUND, (kill + 1) * A_ROUND):
            requests.send(f"{i % 97},request {i}")
        wait_until(f"kill {kill + 1}: handler {n} is in the midst of it", lambda: in_the_midst(n, beyond), 60, workers[n])
        workers[n].kill9()
        if lab.random.randrange(2):
            workers[n] = start_worker(n)
        want = min(handled() + lab.random.randint(0, 30), (kill + 1) * A_ROUND - 40)
        wait_until(f"kill {kill + 1}: {want} are handled", lambda: handled() >= want or not workers[1 - n].alive(), 60)
        # Each time it takes the instances seconds to find it again: so twice, every other time.
        for _ in range(2 * (kill % 2)):
            journal.kill9()
            journal = lab.journal("journal", bind, "--segment-size", "1M")
            time.sleep(lab.random.uniform(0, 0.3))
        if not workers[n].alive():
            workers[n] = start_worker(n)
        if not workers[1 - n].alive():
            workers[1 - n] = start_worker(1 - n)
    requests.close_input()
    requests.ends_well(30)

    def nothing_left():
        state = info()
        return state["behind"] == 0 and state["unfinished"] == 0
    wait_until("everything is answered", nothing_left, 120)
    for worker in workers:
        worker.close_input()
        worker.ends_well(20)

    want = {f"answer to {n % 97},request {n}" for n in range(REQUESTS)}
    replayed = lab.path("replayed")
    with open(replayed, "wb") as out:
        out.write(lab.ok("replay", "work.answers", "--seed", bind, "--long"))
    answers = rows(replayed)
    check_answers("a replay", answers, want)
    late = lab.start("late", [FACTMESH, "sub", "work.answers", "--seed", bind, "--from", "start", "--until", "end", "--synced", "--long"],
                     stdin=subprocess.DEVNULL, stdout=late_path)
    late.ends_well(30)
    wait_until("the early subscriber has them all", lambda: len(rows(early_path)) >= len(answers), 30, early)
    with open(replayed, "rb") as a, open(early_path, "rb") as b, open(late_path, "rb") as c:
        first = a.read()
        lines = sorted(first.splitlines())
        check(lines == sorted(b.read().splitlines()), "the early subscriber has other answers than a replay")
        check(first == c.read(), "the late subscriber has other answers than a replay")
    plain = lab.ok("replay", "work.answers", "--seed", bind, "--from", "-100", "--format", "%i\\n")
    check(plain.decode().split() == [fact for fact, _ in answers[-100:]], "the last 100 are not the last 100")

    everything = [json.loads(line) for line in lab.ok("replay", "work.answers", "--seed", bind, "--duplicates", "--json").splitlines()]
    everything = [fact for fact in everything if "event" not in fact]
    repeats = [fact for fact in everything if "duplicate_of" in fact]
    check(len(everything) - len(repeats) == REQUESTS, "--duplicates shows other answers")
    check(len(repeats) >= KILLS // 2, f"{len(repeats)} answers were published again: too little was tested")
    first_of = {}
    for fact in everything:
        name = f"{fact['stream']}:{fact['seq']}"
        check(fact.get("duplicate_of") == first_of.get(fact["identity"]), f"{name} is said to repeat {fact.get('duplicate_of')}")
        first_of.setdefault(fact["identity"], name)
    check(journal.terminate() == 0, "the journal does not end well")
    lab.ok("verify", lab.path("journal"))
    marked = [line for line in lab.ok("dump", lab.path("journal"), "work.answers", "--json").splitlines() if b"duplicate_of" in line]
    check(len(marked) == len(repeats), "dump shows other duplicates than replay")
    lab.tell(f"seed {lab.seed}; {REQUESTS} requests, {len(everything)} answers, of which {len(repeats)} repeat one; {KILLS} kills of handlers, {KILLS} of the journal")


def publish_some(lab, bind):
    """Ten facts, of which four repeat another."""
    csv = b"id,text\n1,a\n2,b\n1,c\n,d\n,e\n"
    lab.ok("pub", "x.csv", "--seed", bind, "--csv", "--raw", "--fact-identity", "id", stdin=csv)
    lab.ok("pub", "x.json", "--seed", bind, "--json", "--fact-identity", "id", stdin=b'{"id":1}\n{"id":"3"}\n{"id":3}\n')
    for text in ("once", "again"):
        lab.ok("pub", "x.plain", text, "--seed", bind, "--key", "k", "--fact-identity", "y" * 255)


LEFT = ["x.csv 1,a", "x.csv 2,b", "x.csv ,d", "x.csv ,e", 'x.json {"id":"3"}', "x.plain once"]


def what_repeats_is_left_out_by_replays_groups_and_the_index(lab):
    """And pub takes identities from a column, a member, or the command line."""
    journal = lab.journal()
    publish_some(lab, journal.address)
    seed = ("--seed", journal.address)
    got = lab.ok("replay", *seed, "--format", "%t %p\\n").decode().splitlines()
    check(got == LEFT, f"{got}")
    got = lab.ok("sub", *seed, "--from", "start", "--until", "end", "--format", "%t %p\\n").decode().splitlines()
    check(got == LEFT, f"sub: {got}")
    got = lab.ok("replay", *seed, "--from", "-1", "--format", "%t %p\\n").decode().splitlines()
    check(got == LEFT[-1:], f"the last one: {got}")
    got = lab.ok("replay", *seed, "--format", "%t %D\\n", "--duplicates").decode().splitlines()
    check(len([line for line in got if ":" in line]) == 4 and len(got) == 10, f"{got}")
    got = lab.ok("get", "x.plain", "k", *seed).decode()
    check(got == "once\n", f"the newest of the key is {got!r}")
    worked = lab.path("worked")
    result = lab.factmesh("work", "g", "x.>", *seed, "--effect", "idempotent", "--exec", f"(printf '%s ' $FM_TOPIC; cat; echo) >> {worked}", "--timeout", "2s", limit_s=30)
    check(result.status in (0, 3), result.err)
    with open(worked) as file:
        got = file.read().splitlines()
    check(sorted(got) == sorted(LEFT), f"the group was handed {got}")
    result = lab.factmesh("pub", "x.plain", "again", *seed, "--fact-identity", "y" * 256)
    check(result.status == 2 and "255" in result.err, result.err)


def a_second_journal_judges_for_itself(lab):
    first = lab.journal()
    publish_some(lab, first.address)
    second = lab.journal("second", None, "--seed", first.address)
    name = fields(second.line("^JOURNAL-SERVING"))["journal"]
    lab.ok("pub", "x.end", "end", "--seed", first.address, "--journals", name, limit_s=40)      # of the same stream, which the second one hears of by this

    def has_all():
        dumped = [json.loads(line) for line in lab.ok("dump", lab.path("second"), "--json").splitlines()]
        return len([fact for fact in dumped if "event" not in fact]) == 11 and dumped
    facts = wait_until("the second journal has all facts", has_all, 30)
    first_of = {}
    for fact in facts:
        if "identity" in fact:
            name = f"{fact['stream']}:{fact['seq']}"
            check(fact.get("duplicate_of") == first_of.get(fact["identity"]), f"{name} is said to repeat {fact.get('duplicate_of')}")
            first_of.setdefault(fact["identity"], name)
    check(len(first_of) == 4, f"{len(first_of)} identities")
    for journal in first, second:
        check(journal.terminate() == 0, "a journal does not end well")
    lab.ok("verify", lab.path("second"))


main(forty_kills_leave_one_answer_to_each_request, what_repeats_is_left_out_by_replays_groups_and_the_index, a_second_journal_judges_for_itself)
