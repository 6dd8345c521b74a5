#!/usr/bin/python3
"""factmesh bench: what it says is what was there, and what is wrong it finds."""
import json
import signal

from harness import FACTMESH, check, main


def report(result):
    check(result.status == 0, f"{result.argv[1:]}: status {result.status}: {result.err[-400:]}")
    lines = result.text().strip().splitlines()
    check(len(lines) == 1, f"not one object but {len(lines)} lines: {result.text()[:300]!r}")
    return json.loads(lines[0])


def published_received_and_replayed_are_the_same_facts(lab):
    journal = lab.journal()
    seed = ("--seed", journal.address, "--json")
    sub = lab.start("sub", [FACTMESH, "bench", "sub", *seed, "--count", "20000"])
    sub.line("caught up", stream="err")
    lab.ok("pub", "other.topic", "not of bench", "--seed", journal.address)
    for run in range(2):            # numbers begin anew in the second run, in the same stream
        pub = report(lab.factmesh("bench", "pub", *seed, "--count", "10000", "--size", "300", "--topics", "7"))
        check(pub["published"] == pub["synced"] == 10000 and pub["size"] == 300, f"pub says {pub}")
    sub.ends_well(20)
    got = json.loads(sub.out())
    check(got["facts"] == got["checked"] == 20000 and got["faults"] == got["gaps"] == 0 and got["bytes"] == 20000 * 300, f"sub says {got}")
    replay = report(lab.factmesh("bench", "replay", *seed))
    check(replay["facts"] == replay["checked"] == replay["replayed"] == 20000 and replay["faults"] == 0, f"replay says {replay}")
    everything = report(lab.factmesh("bench", "replay", *seed, ">"))
    check(everything["facts"] == 20001 and everything["checked"] == 20000, f"replay of all says {everything}")
    part = report(lab.factmesh("bench", "replay", *seed, "bench.3"))
    check(0 < part["facts"] == part["checked"] < 20000 and part["faults"] == 0, f"replay of one topic says {part}")


def latency_counts_every_fact(lab):
    journal = lab.journal()
    got = report(lab.factmesh("bench", "latency", "--seed", journal.address, "--json", "--count", "300", "--rate", "3000"))
    for kind in ("live", "synced"):
        at = got[kind]
        check(at["samples"] == 300, f"{kind}: {at['samples']} samples")
        check(0 < at["p50_us"] <= at["p99_us"] <= at["p999_us"] <= at["max_us"] + 0.1, f"{kind}: percentiles out of order: {at}")
    check(got["live"]["curve"][0][0] == 1, f"the curve begins at {got['live']['curve'][0]}")
    alone = report(lab.factmesh("bench", "latency", "--no-wait", "--json", "--count", "300", "--rate", "3000", "--mesh", "alone"))
    check(alone["live"]["samples"] == 300 and "synced" not in alone, f"without a journal: {alone}")


def facts_that_only_look_like_those_of_bench_are_found(lab):
    journal = lab.journal()
    lab.ok("pub", "bench.0", "these are not the bytes of number any", "--type", "factmesh.bench", "--seed", journal.address)
    result = lab.factmesh("bench", "replay", "--seed", journal.address, "--json")
    check(result.status == 1, f"status {result.status}")
    got = json.loads(result.text())
    check(got["faults"] == 1 and got["checked"] == 0, f"replay says {got}")
    check("other bytes than were published" in result.err, result.err)


def it_ends_with_a_report_at_ctrl_c_and_says_when_nothing_moves(lab):
    journal = lab.journal()
    pub = lab.start("pub", [FACTMESH, "bench", "pub", "--seed", journal.address, "--rate", "1000", "--for", "1h", "--json"])
    sub = lab.start("sub", [FACTMESH, "bench", "sub", "--seed", journal.address, "--json", "--count", "500"])
    sub.line("caught up", stream="err")
    sub.ends_well(20)
    pub.signal(signal.SIGINT)
    status = pub.wait()
    check(status == 130, f"pub: status {status}")
    check(json.loads(pub.out())["published"] >= 500, pub.out())
    alone = lab.factmesh("bench", "pub", "--mesh", "alone", "--timeout", "300ms")
    check(alone.status == 3 and "no journal" in alone.err, f"status {alone.status}: {alone.err}")
    silent = lab.factmesh("bench", "sub", "--seed", journal.address, "--timeout", "300ms")
    check(silent.status == 3, f"status {silent.status}: {silent.err}")
    for wrong in (["bench"], ["bench", "nothing"], ["bench", "pub", "--size", "15"], ["bench", "sub", "--rate", "3"], ["bench", "pub", "x"]):
        result = lab.factmesh(*wrong)
        check(result.status == 2, f"{wrong}: status {result.status}")


main(published_received_and_replayed_are_the_same_facts, latency_counts_every_fact, facts_that_only_look_like_those_of_bench_are_found,
     it_ends_with_a_report_at_ctrl_c_and_says_when_nothing_moves)
