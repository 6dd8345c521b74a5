#!/usr/bin/python3
"""A subscriber that is stopped (SIGSTOP) costs the publisher and the journal no speed and no more memory than its bound, and misses nothing.

Pairs side by side: the same flow without the subscriber and with it, in alternating order; what counts is the median of the pairs'
ratios. The flow is as fast as publisher and journal go; the publisher's window is small, so that it is full in both halves of a pair and
does not hide the queue.
"""
import statistics

from harness import check, fields, main, tool

PAIRS = 5
MORE_PAIRS = 6          # when the first do not agree: a busy machine. What it costs shows in the median of more pairs, too
ROUNDS = 4
FACTS = 600_000
PAYLOAD = 100
TOPICS = 10
WINDOW = 4 << 20
LIVE_QUEUE = 100        # frames of at most 64 KiB
BOUND = LIVE_QUEUE * 65536
SLACK = 3 << 20         # allocator and ZeroMQ's own blocks
TOLERANCE = 0.10


def publisher_start(lab, journal, index=0):
    pub = lab.start("publisher", [
        tool("flow_publisher"), "--seed", journal.address, "--count", str(FACTS), "--payload", str(PAYLOAD), "--topics", str(TOPICS),
        "--window", str(WINDOW), "--live-queue", str(LIVE_QUEUE), "--first-stream", str(index)])
    pub.line("^READY", 15)
    pub.shape = ["--count", str(FACTS), "--payload", str(PAYLOAD), "--topics", str(TOPICS)]
    pub.shape += ["--stream", fields(pub.lines("^STREAM ")[0])["id"]]
    return pub


def subscriber_start(lab, journal, ends=TOPICS):
    sub = lab.start("subscriber", [tool("flow_subscriber"), "--seed", journal.address, "--topic", "flow.>", "--from", "start", "--log",
                                   lab.path("subscriber.log"), "--ends", str(ends), "--progress", "1000", "--idle-ms", "60000"])
    sub.line("^READY", 15)
    sub.log = lab.path("subscriber.log")
    return sub


def one_half(lab, number, stopped):
    """Returns facts/s published and synced, and the two processes' memory peaks."""
    journal = lab.journal(f"journal-{number}-{stopped}")
    sub = subscriber_start(lab, journal) if stopped else None
    pub = publisher_start(lab, journal)
    if stopped:
        sub.line("^CAUGHT-UP", 15)
        sub.stop()
    pub.send("go")
    pub.line("^DONE", 60)
    published = FACTS / int(fields(pub.lines("^PUBLISHED")[0])["took_us"]) * 1e6
    synced = FACTS / int(fields(pub.lines("^SYNCED")[0])["took_us"]) * 1e6
    memory = pub.memory_peak_bytes(), journal.memory_peak_bytes()
    if stopped:
        got = len(sub.lines("^PROGRESS"))
        check(got == 0, f"the stopped subscriber took {got} thousand facts: it did not stand still")
        sub.cont()
        sub.line("^DONE", 60)
        result = lab.run(tool("flow_check"), *pub.shape, "flow.>", sub.log, limit_s=60)
        check(result.status == 0, f"after SIGCONT it has other facts: {result.text()[:1000]}")
        check(not sub.lines("^GAP"), "it was told a gap")
        sub.ends_well()
    pub.close_input()
    pub.ends_well()
    journal.terminate()
    return published, synced, *memory


def a_stopped_subscriber_costs_no_speed_and_bounded_memory(lab):
    pairs = []

    def pairs_add(count):
        for _ in range(count):
            order = (False, True) if len(pairs) % 2 == 0 else (True, False)
            halves = {stopped: one_half(lab, len(pairs), stopped) for stopped in order}
            pairs.append((halves[False], halves[True]))

    def median_ratio(what):
        return statistics.median(with_it[what] / without[what] for without, with_it in pairs)

    def good():
        return all(abs(median_ratio(what) - 1) <= TOLERANCE for what in (0, 1))

    pairs_add(PAIRS)
    for _ in range(ROUNDS - 1):
        if not good():
            pairs_add(MORE_PAIRS)
    for what, name in ((0, "published"), (1, "synced")):
        rates = [f"{without[what] / 1e3:.0f}k/{with_it[what] / 1e3:.0f}k" for without, with_it in pairs]
        lab.tell(f"{name} facts/s without/with: {', '.join(rates)}; median ratio {median_ratio(what):.3f}")
    for what, name in ((2, "publisher"), (3, "journal")):
        more = statistics.median(with_it[what] - without[what] for without, with_it in pairs)
        lab.tell(f"{name}'s memory peak, median difference: {more / 1024:.0f} KiB, bound {BOUND / 1024:.0f} KiB")
        check(more <= BOUND + SLACK, f"a stopped subscriber costs the {name} {more} bytes")
    check(good(), f"a stopped subscriber changes a rate by more than {TOLERANCE:.0%}")
    lab.tell("after SIGCONT it had every byte, each time")


def a_subscriber_stopped_within_its_replay_costs_the_journal_only_its_credit(lab):
    journal = lab.journal()
    pub = publisher_start(lab, journal)
    pub.send("go")
    pub.line("^DONE", 60)
    sub = subscriber_start(lab, journal, 2 * TOPICS)
    sub.line("^PROGRESS", 15)
    sub.stop()
    check(not sub.lines("^CAUGHT-UP"), "it was done before it was stopped: nothing was tested")
    journal.memory_peak_reset()
    before = journal.memory_peak_bytes()
    other = publisher_start(lab, journal, 1)
    other.send("go")
    other.line("^DONE", 60)
    more = journal.memory_peak_bytes() - before
    lab.tell(f"{FACTS} facts recorded meanwhile: the journal's memory peak is {more / 1024:.0f} KiB higher")
    check(more <= BOUND + SLACK, f"the journal grew by {more} bytes")
    sub.cont()
    sub.line("^DONE", 60)
    result = lab.run(tool("flow_check"), *pub.shape, *other.shape[-2:], "flow.>", sub.log, limit_s=60)
    check(result.status == 0, f"after SIGCONT it has other facts: {result.text()[:1000]}")


main(a_stopped_subscriber_costs_no_speed_and_bounded_memory,
     a_subscriber_stopped_within_its_replay_costs_the_journal_only_its_credit)
