#!/usr/bin/python3
"""The publisher is killed -9 at 25 random moments and goes on behind the last line that was acknowledged to it.

Each line says in which run it was published. What was acknowledged in a run must be recorded once, in order. Of what a killed run had sent
and not been told about any part may be recorded too, in order, behind what was acknowledged; it comes again from the next run: that is
what at-least-once leaves.
"""
import json
import subprocess
import time

from harness import FACTMESH, acked, check, main, wait_until

LINES = 200_000
# Of the runs that are killed: a journal waits a second for what the killed one may still have on its way, while the next one publishes.
RATE = 10_000
KILLS = 25
EARLY_EVERY = 5         # every fifth is killed before anything of it is acknowledged
STEP_MAX = 8_000


def run_start(lab, journal, run, first):
    """Publish lines first to LINES in this run."""
    path = lab.path(f"lines-{run}")
    with open(path, "w") as file:
        file.writelines(f"{run} {i} {'y' * (i * 7919 % 90)}\n" for i in range(first, LINES + 1))
    with open(path, "rb") as lines:
        pub = lab.start(f"pub{run}", [FACTMESH, "pub", "kills.publisher", "--seed", journal.address, "--identity", lab.path("identity"),
                                      "--ack-log", lab.path(f"ack-{run}"), "--print-ids", "--timeout", "60s",
                                      *(["--rate", str(RATE)] if run < KILLS else [])], stdin=lines)
    # Sequences go on from run to run: the first one of this run tells which line an acknowledged sequence is.
    pub.first_seq = int(pub.line("^[0-9a-f]{32}:", 20).split(":")[1])
    pub.acked_lines = lambda: max(0, acked(lab.path(f"ack-{run}")) - pub.first_seq + 1)
    return pub


def read_json(path):
    recorded, streams, newest = [], set(), 0
    with open(path) as file:
        for text in file:
            fact = json.loads(text)
            if "payload" not in fact:
                continue
            run, line, _ = fact["payload"].split(" ", 2)
            recorded.append((int(run), int(line)))
            streams.add(fact["stream"])
            check(fact["seq"] > newest, f"sequence {fact['seq']} comes behind {newest}")
            newest = fact["seq"]
    return recorded, streams, newest


def check_recorded(recorded, runs):
    """runs: (first line, last acknowledged) of each; recorded: (run, line) in the journal's order. Returns how many came twice."""
    at = unacknowledged = 0
    for run, (first, last) in enumerate(runs):
        line = first
        while at < len(recorded) and recorded[at][0] == run:
            got = recorded[at][1]
            check(got == line or got > line > last, f"run {run}: line {got} is recorded where {line} should be; acknowledged are {first} to {last}")
            unacknowledged += got > last
            line = got + 1
            at += 1
        check(line > last, f"run {run}: acknowledged to line {last}, recorded only to {line - 1}")
    check(at == len(recorded), f"behind run {len(runs) - 1} there is a line of run {recorded[at][0] if at < len(recorded) else None}")
    return unacknowledged


def kills_of_the_publisher_cost_no_acknowledged_line(lab):
    journal = lab.journal("journal", None, "--segment-size", "1M")
    runs, first = [], 1
    for run in range(KILLS):
        pub = run_start(lab, journal, run, first)
        want = 0 if run % EARLY_EVERY == EARLY_EVERY - 1 else lab.random.randint(1, STEP_MAX)
        wait_until(f"run {run}: {want} lines are acknowledged", lambda: pub.acked_lines() >= want, 30, pub)
        time.sleep(lab.random.uniform(0, 0.03 if want else 0.5))
        pub.kill9()
        last = first + pub.acked_lines() - 1
        runs.append((first, last))
        first = last + 1
    check(first <= LINES - RATE, "the flow was over before the last kill: nothing was tested")
    pub = run_start(lab, journal, KILLS, first)
    pub.ends_well(120)
    check(pub.acked_lines() == LINES - first + 1, "the last run ended well without all acknowledged")
    runs.append((first, LINES))

    out = lab.path("recorded")
    lab.start("sub", [FACTMESH, "sub", "kills.publisher", "--seed", journal.address, "--from", "start", "--until", "end", "--json"],
              stdin=subprocess.DEVNULL, stdout=out).ends_well(60)
    recorded, streams, newest = read_json(out)
    twice = check_recorded(recorded, runs)
    check(len(streams) == 1, f"{len(streams)} streams instead of one that goes on")
    lab.tell(f"seed {lab.seed}; killed when these lines were acknowledged: {[last for _, last in runs[:-1]]}")
    lab.tell(f"{LINES} acknowledged lines are there in order, once; {twice} that killed runs had not been told about came again; "
             f"one stream, sequences to {newest} without one used twice")
    check(journal.terminate() == 0, "the journal does not end well")
    lab.ok("verify", lab.path("journal"))


main(kills_of_the_publisher_cost_no_acknowledged_line)
