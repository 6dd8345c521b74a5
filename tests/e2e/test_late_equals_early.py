#!/usr/bin/python3
"""Who joins late from the start ends with exactly what an early one has, every byte, at 200 000 facts a second over 50 topics."""
import os
import statistics
import time

from harness import PATIENCE, check, fields, main, tool

RUNS = 20
RATE = 200_000
TOPICS = 50
FILTERS = {"exact": ("flow.r2.k3", 1), "prefix": ("flow.r2.>", 10), "wildcard": ("flow.*.k3", 5)}


def subscriber(lab, name, journal, topic, ends, *more):
    log = lab.path(name + ".log")
    process = lab.start(name, [tool("flow_subscriber"), "--seed", journal.address, "--topic", topic, "--from", "start",
                               "--log", log, "--ends", str(ends), *more])
    process.log, process.topic = log, topic
    return process


def publisher(lab, journal, contents, count, streams, *more):
    process = lab.start("publisher", [
        tool("flow_publisher"), "--seed", journal.address, "--contents", str(contents), "--count", str(count // streams),
        "--rate", str(RATE), "--topics", str(TOPICS), "--streams", str(streams), "--large", *more])
    process.line("^READY", 15)
    process.ids = [fields(line)["id"] for line in process.lines("^STREAM ")]
    process.shape = ["--contents", str(contents), "--count", str(count // streams), "--topics", str(TOPICS), "--large"]
    for stream in process.ids:
        process.shape += ["--stream", stream]
    return process


def counter(process, name):
    return sum(int(fields(line)["value"]) for line in process.lines(rf"^COUNTER name={name} "))


def compare(lab, pub, early, late):
    """Every byte against what was published, and the late ones against the early one."""
    logs = []
    for process in (early, *late):
        process.line("^DONE", 60)
        gaps = process.lines("^GAP")
        check(not gaps, f"{process.name} was told gaps: {gaps[:3]}")
        logs += [process.topic, process.log]
    result = lab.run(tool("flow_check"), *pub.shape, *logs, limit_s=60)
    check(result.status == 0, f"somebody has not what was published: {result.text()[:2000]} {result.err[:300]}")
    for process, line in zip((early, *late), (l for l in result.text().splitlines() if l.startswith("CHECKED"))):
        process.facts = int(fields(line)["facts"])
        os.unlink(process.log)


def one_run(lab, contents, count, streams, live_queue=None, stop=False):
    """Returns the publisher's rate and its late subscribers, compared."""
    journal = lab.journal(f"journal-{contents}")
    early = subscriber(lab, "early", journal, "flow.>", TOPICS * streams)
    early.line("^READY")
    pub = publisher(lab, journal, contents, count, streams, *(["--live-queue", str(live_queue)] if live_queue else []))
    pub.send("go")
    late = []
    for name, (topic, ends) in FILTERS.items():
        # The moment of joining is the random choice, not a wait for something to happen.
        time.sleep(lab.random.uniform(0, 0.6 * count / RATE / len(FILTERS)))
        late.append(subscriber(lab, name, journal, topic, ends * streams))
    if stop:
        early.stop()
        time.sleep(0.3 * count / RATE)
        early.cont()
    rate = int(fields(pub.line("^PUBLISHED", 60))["facts"]) / int(fields(pub.lines("^PUBLISHED")[0])["took_us"]) * 1e6
    pub.line("^DONE", 60)
    compare(lab, pub, early, late)
    pub.close_input()
    pub.ends_well()
    for process in (early, *late):
        process.ends_well()
    journal.terminate()
    return rate, pub, early, late


def twenty_late_joiners_of_each_kind_have_what_the_early_one_has(lab):
    lab.tell(f"seed {lab.seed}")
    rates, facts = [], 0
    for run in range(RUNS):
        rate, _, early, late = one_run(lab, lab.seed + run, RATE, streams=1 + run % 2)
        rates.append(rate)
        facts += early.facts + sum(process.facts for process in late)
    check(statistics.median(rates) >= 0.9 * RATE / PATIENCE, f"published only {statistics.median(rates):.0f} facts/s: nothing was tested")
    lab.tell(f"{RUNS} runs, {facts} facts compared with what was published; published {min(rates):.0f} to {max(rates):.0f} facts/s")


def what_the_live_path_drops_is_repaired(lab):
    lab.tell(f"seed {lab.seed}")
    for run, (live_queue, stop) in enumerate([(2, False), (2, True), (50, True)]):
        _, _, early, late = one_run(lab, lab.seed + 1000 + run, RATE, 1, live_queue, stop)
        repairs = [counter(process, "repairs_asked") + counter(process, "fell_behind") for process in (early, *late)]
        check(repairs[0] > 0, "the early one missed nothing: nothing was tested")
        lab.tell(f"live queue {live_queue}, early one {'stopped for a while' if stop else 'running'}: {repairs} repairs, "
                 f"{[process.facts for process in (early, *late)]} facts, all right")


main(twenty_late_joiners_of_each_kind_have_what_the_early_one_has, what_the_live_path_drops_is_repaired)
