#!/usr/bin/python3
"""What happens to a publisher, one case a fault: killed with facts that nobody acknowledged, started again too early, copied, alone for long."""
import hashlib
import json
import os
import re
import shutil
import subprocess

from harness import FACTMESH, acked, check, free_port, main, wait_until

ACKED = 300             # facts that the journal has before it goes away
MORE = 200              # and those that it has not


def pub_start(lab, journal, *more, stdin=None, name="pub"):
    return lab.start(name, [FACTMESH, "pub", "faults.line", "--seed", journal.address, "--ack-log", lab.path("ack"), "--timeout", "60s", *more], stdin=stdin)


def send_lines(pub, first, end):
    for i in range(first, end):
        pub.send(f"line {i} {'z' * (i * 31 % 200)}")


def line_of(text):
    return int(text.split(" ", 2)[1])


def has_left(lab, pub, directory, last):
    """The window's file has the last line: it was accepted, and has left."""
    def look():
        try:
            with open(os.path.join(directory, "window"), "rb") as file:
                return b"line %d " % last in file.read()
        except FileNotFoundError:
            return False
    wait_until(f"line {last} is in the window's file", look, 20, pub)


def recorded(lab, journal):
    """What the journal has, as (facts, gaps)."""
    out = lab.ok("sub", "faults.>", "--seed", journal.address, "--from", "start", "--until", "end", "--json", limit_s=60)
    events = [json.loads(text) for text in out.splitlines()]
    return [e for e in events if "payload" in e or "payload_base64" in e], [e for e in events if e.get("event") == "gap"]


def check_lines(facts, wanted):
    got = [line_of(f["payload"]) for f in facts]
    for i, (a, b) in enumerate(zip(got, wanted)):
        check(a == b, f"number {i} recorded is line {a} instead of {b}")
    check(len(got) == len(wanted), f"{len(got)} lines are recorded instead of {len(wanted)}")
    for f in facts:
        i = line_of(f["payload"])
        check(f["payload"] == f"line {i} {'z' * (i * 31 % 200)}", f"line {i} is not what it was")


def journal_at(lab, address=None, directory="journal"):
    return lab.journal(directory, address or f"tcp://127.0.0.1:{free_port()}")


def with_unacknowledged_facts(lab, *more):
    """A publisher with ACKED facts synced and MORE that no journal got: the journal stood still, and both are killed. Returns the journal, back again."""
    journal = journal_at(lab)
    pub = pub_start(lab, journal, *more)
    send_lines(pub, 0, ACKED)
    wait_until("the first facts are synced", lambda: acked(lab.path("ack")) == ACKED, 20, pub)
    journal.stop()
    send_lines(pub, ACKED, ACKED + MORE)
    return journal, pub


def kill_both(lab, journal, pub):
    journal.kill9()
    pub.kill9()
    return journal_at(lab, journal.address)


def goes_on(lab, journal, *more):
    """The next run publishes one more line."""
    pub = pub_start(lab, journal, *more, name="next")
    send_lines(pub, 1_000_000, 1_000_001)
    pub.close_input()
    pub.ends_well(30)


def kill9_with_unacknowledged_facts_and_the_window_on_disk(lab):
    identity = lab.path("identity")
    options = ("--identity", identity, "--window-on-disk")
    journal, pub = with_unacknowledged_facts(lab, *options)
    has_left(lab, pub, identity, ACKED + MORE - 1)
    journal = kill_both(lab, journal, pub)
    refused = lab.factmesh("pub", "faults.line", "x", "--seed", journal.address, "--identity", identity)
    check(refused.status == 1 and "window_on_disk" in refused.err, f"without the option the facts are passed over: {refused.status}: {refused.err}")
    # A run that publishes nothing gives the journal what the dead one left.
    lab.ok("pub", "faults.line", "--file", "/dev/null", "--seed", journal.address, *options)
    facts, gaps = recorded(lab, journal)
    check_lines(facts, range(ACKED + MORE))
    check(not gaps, f"gaps: {gaps}")
    check(not os.path.exists(os.path.join(identity, "window")), "all is synced, and the window's file is still there")
    goes_on(lab, journal, *options)
    facts, gaps = recorded(lab, journal)
    check_lines(facts, [*range(ACKED + MORE), 1_000_000])
    check(len({f["stream"] for f in facts}) == 1, "more than one stream")
    check(all(g["reason"] == "void" for g in gaps), f"gaps: {gaps}")
    check(journal.terminate() == 0, "the journal does not end well")
    lab.ok("verify", lab.path("journal"))
    lab.tell(f"{MORE} facts that only the killed publisher had are recorded, in order, once")


def what_a_killed_run_left_in_the_pool_waits_for_a_run_with_the_option(lab):
    pool = lab.path("state", "factmesh", "streams", "default")
    journal, pub = with_unacknowledged_facts(lab, "--window-on-disk")
    has_left(lab, pub, os.path.join(pool, "pub-0"), ACKED + MORE - 1)
    journal = kill_both(lab, journal, pub)
    # Anybody else takes another stream: nothing is refused, nothing is passed over.
    lab.ok("pub", "other.line", "x", "--seed", journal.address)
    lab.ok("pub", "other.line", "y", "--seed", journal.address)
    check(sorted(os.listdir(pool)) == ["pub-0", "pub-1"], f"{os.listdir(pool)}")
    check(os.path.exists(os.path.join(pool, "pub-0", "window")), "the window's file is gone")
    # Though pub-1 is as free, the one that holds facts is taken.
    os.rename(os.path.join(pool, "pub-0"), os.path.join(pool, "pub-7"))
    lab.ok("pub", "faults.line", "--file", "/dev/null", "--window-on-disk", "--seed", journal.address)
    facts, gaps = recorded(lab, journal)
    check_lines(facts, range(ACKED + MORE))
    check(not gaps, f"gaps: {gaps}")
    check(sorted(os.listdir(pool)) == ["pub-1", "pub-7"], f"{os.listdir(pool)}")
    check(not os.path.exists(os.path.join(pool, "pub-7", "window")), "all is synced, and the window's file is still there")
    lab.tell(f"{MORE} facts that a killed run had left in the pool are recorded, in order, once, and kept nobody from publishing meanwhile")


def kill9_with_unacknowledged_facts_and_a_data_directory(lab):
    options = ("--identity", lab.path("identity"))
    journal, pub = with_unacknowledged_facts(lab, *options, "--print-ids")
    pub.line(f"^[0-9a-f]{{32}}:{ACKED + 1}$", 20)
    journal = kill_both(lab, journal, pub)
    goes_on(lab, journal, *options)
    facts, gaps = recorded(lab, journal)
    # What was still in the journal's socket died with it. (Had it arrived, it would be a part of the unacknowledged ones, in order.)
    kept = len(facts) - 1 - ACKED
    check(0 <= kept <= MORE, f"{len(facts)} facts")
    check_lines(facts, [*range(ACKED + kept), 1_000_000])
    check(len({f["stream"] for f in facts}) == 1, "more than one stream")
    check([g["reason"] for g in gaps] == ["void"] and gaps[0]["first_seq"] == ACKED + kept + 1 and gaps[0]["end_seq"] == facts[-1]["seq"],
          f"what the killed publisher had alone is not told as void: {gaps}")
    lab.tell(f"{ACKED} acknowledged facts are there; of {MORE} others {MORE - kept} died with the publisher, and are told as void")


def kill9_with_unacknowledged_facts_and_no_data_directory(lab):
    journal, pub = with_unacknowledged_facts(lab, "--ephemeral", "--print-ids")
    pub.line(f"^[0-9a-f]{{32}}:{ACKED + 1}$", 20)
    journal = kill_both(lab, journal, pub)
    goes_on(lab, journal, "--ephemeral")
    facts, gaps = recorded(lab, journal)
    kept = len(facts) - 1 - ACKED
    check(0 <= kept <= MORE, f"{len(facts)} facts")
    check_lines(facts, [*range(ACKED + kept), 1_000_000])
    check(len({f["stream"] for f in facts}) == 2, "a new run is not a new stream")
    check(not gaps, f"gaps: {gaps}")
    lab.tell(f"{ACKED} acknowledged facts are there, {MORE - kept} others died with the publisher: its stream ends before them")


def restart_while_the_journal_still_holds_unsynced_facts_of_the_old_epoch(lab):
    """The journal stands still with a part of the old epoch in its sockets while the next epoch begins."""
    identity = lab.path("identity")
    options = ("--identity", identity, "--window-on-disk")
    journal, pub = with_unacknowledged_facts(lab, *options)
    has_left(lab, pub, identity, ACKED + MORE - 1)
    pub.kill9()
    again = pub_start(lab, journal, *options, name="again")
    send_lines(again, ACKED + MORE, ACKED + 2 * MORE)
    again.close_input()
    wait_until("the next epoch has begun", lambda: os.path.exists(os.path.join(identity, "window")), 10, again)
    journal.cont()
    again.ends_well(60)
    facts, gaps = recorded(lab, journal)
    check_lines(facts, range(ACKED + 2 * MORE))
    check(all(g["reason"] == "void" for g in gaps), f"gaps: {gaps}")
    lab.tell(f"{MORE} facts of the old epoch and {MORE} of the next one are recorded, in order, once")


def two_processes_under_one_identity(lab):
    journal = journal_at(lab)
    identity = lab.path("identity")
    first = pub_start(lab, journal, "--identity", identity, "--window-on-disk")
    send_lines(first, 0, 1)
    wait_until("the first fact is synced", lambda: acked(lab.path("ack")) == 1, 20, first)
    second = lab.factmesh("pub", "faults.line", "x", "--seed", journal.address, "--identity", identity, "--window-on-disk")
    check(second.status == 1 and str(first.pid) in second.err, f"the second one: status {second.status}: {second.err}")
    send_lines(first, 1, 2)
    first.close_input()
    first.ends_well()
    facts, gaps = recorded(lab, journal)
    check_lines(facts, range(2))
    check(not gaps, f"gaps: {gaps}")


def a_copied_data_directory(lab):
    """Copied while it was open, with a window: the copy's publisher is refused and told, what the first has is recorded once."""
    identity, copy = lab.path("identity"), lab.path("copy")
    journal = journal_at(lab)
    first = pub_start(lab, journal, "--identity", identity, "--window-on-disk")
    send_lines(first, 0, 10)
    wait_until("the first facts are synced", lambda: acked(lab.path("ack")) == 10, 20, first)
    first.kill9()
    shutil.copytree(identity, copy)
    first = pub_start(lab, journal, "--identity", identity, "--window-on-disk")
    send_lines(first, 10, 20)
    wait_until("those of the next epoch are synced", lambda: acked(lab.path("ack")) > 16384, 20, first)
    second = lab.factmesh("pub", "faults.line", "line 999 ", "--seed", journal.address, "--identity", copy, "--window-on-disk", "--timeout", "20s", limit_s=40)
    check(second.status == 1 and "copied data directory" in second.err, f"the copy: status {second.status}: {second.err}")
    send_lines(first, 20, 30)
    first.close_input()
    first.ends_well(30)
    facts, gaps = recorded(lab, journal)
    check_lines(facts, range(30))
    check(all(g["reason"] == "void" for g in gaps), f"gaps: {gaps}")
    check("STREAM-CONFLICT" in journal.out() + journal.err(), "the journal does not tell of it")


def a_large_window_drains_completely_when_the_journal_is_back(lab):
    """As many facts as the default window holds, published while no journal is there."""
    count, size = 130_000, 440
    path = lab.path("lines")
    with open(path, "w") as file:
        file.writelines(f"line {i} {'w' * (size - len(str(i)))}\n" for i in range(count))
    journal = journal_at(lab)
    met = pub_start(lab, journal, "--identity", lab.path("other"), name="met")
    send_lines(met, 0, 1)
    met.close_input()
    met.ends_well()
    with open(path, "rb") as lines:
        pub = lab.start("pub", [FACTMESH, "pub", "large.line", "--seed", journal.address, "--timeout", "60s", "--ack-log", lab.path("ack-large"),
                                "--identity", lab.path("large")], stdin=lines)
        wait_until("a fact is synced", lambda: acked(lab.path("ack-large")) > 0, 20, pub)
        journal.kill9()
        held_from = acked(lab.path("ack-large"))

        def position():
            with open(f"/proc/{pub.pid}/fdinfo/0") as info:
                return int(re.search(r"pos:\s*(\d+)", info.read()).group(1))
        wait_until("all lines are read", lambda: position() == os.path.getsize(path), 60, pub)
    check(held_from < count // 2, "the journal had too much of it before it went")
    journal = journal_at(lab, journal.address)
    pub.ends_well(60)
    out = lab.path("got")
    lab.start("sub", [FACTMESH, "sub", "large.line", "--seed", journal.address, "--from", "start", "--until", "end", "--fail-on-gap"],
              stdin=subprocess.DEVNULL, stdout=out).ends_well(60)
    with open(path, "rb") as a, open(out, "rb") as b:
        check(hashlib.sha256(a.read()).digest() == hashlib.sha256(b.read()).digest(), "what is recorded is not what was published")
    lab.tell(f"{count - held_from} facts, {(count - held_from) * size >> 20} MiB, waited for the journal and are recorded, in order, once")


def the_journal_is_replaced_by_an_empty_one(lab):
    """The same publisher goes on with another journal: what the old one had is told as held by nobody, what it had not is there."""
    identity = lab.path("identity")
    journal, pub = with_unacknowledged_facts(lab, "--identity", identity, "--window-on-disk")
    has_left(lab, pub, identity, ACKED + MORE - 1)
    journal.kill9()
    shutil.rmtree(lab.path("journal"))
    journal = journal_at(lab, journal.address)
    pub.close_input()
    pub.ends_well(60)
    facts, gaps = recorded(lab, journal)
    first = line_of(facts[0]["payload"])
    check(first <= ACKED, f"lines {ACKED} to {first - 1} were in the publisher's window")
    check_lines(facts, range(first, ACKED + MORE))
    if first:
        check([(g["first_seq"], g["end_seq"], g["reason"]) for g in gaps] == [(1, first + 1, "not_held")], f"gaps: {gaps}")
    lab.tell(f"lines {first} to {ACKED + MORE - 1} are in the new journal, those before are told as not held")


def empty_and_largest_payloads_through_crash_and_repair(lab):
    """Two publishers: one with the largest payload that there can be, one with none, an announced one and the largest by default."""
    journal = journal_at(lab)
    sent = {"largest": [b"", lab.random.randbytes(64 << 20)], "empty": [b"", b"", lab.random.randbytes(70_000), lab.random.randbytes(1 << 20)]}
    pubs = {}

    def options(name):
        return ["--whole", "--identity", lab.path(name), "--window-on-disk", "--payload-max", "64M", "--timeout", "60s", "--seed", journal.address]
    for name, payloads in sent.items():
        files = []
        for i, payload in enumerate(payloads):
            files.append(lab.path(f"{name}-{i}"))
            with open(files[-1], "wb") as file:
                file.write(payload)
        # The second fact is what standard input has: it comes when the journal stands still.
        pubs[name] = lab.start(name, [FACTMESH, "pub", f"sizes.{name}", *options(name), "--ack-log", lab.path(f"ack-{name}"),
                                      *(a for f in (files[0], "-", *files[2:]) for a in ("--file", f))])
    for name, pub in pubs.items():
        wait_until(f"{name}: the first fact is synced", lambda: acked(lab.path(f"ack-{name}")) == 1, 20, pub)
    journal.stop()
    for name, pub in pubs.items():
        pub.popen.stdin.write(sent[name][1])
        pub.close_input()
        size = sum(len(p) for p in sent[name])
        path = lab.path(name, "window")
        wait_until(f"{name}: the window's file has all", lambda: os.path.getsize(path) > size, 30, pub)
    journal.kill9()
    for pub in pubs.values():
        pub.kill9()
    journal = journal_at(lab, journal.address)
    for name, payloads in sent.items():
        lab.ok("pub", f"sizes.{name}", *options(name), "--file", "/dev/null", limit_s=60)       # an empty fact more
        query = ("sub", f"sizes.{name}", "--seed", journal.address, "--from", "start", "--until", "end")
        out = lab.ok(*query, "--raw", limit_s=60)
        check(out == b"".join(payloads), f"{name}: {len(out)} bytes are recorded, {sum(len(p) for p in payloads)} were published, or they differ")
        count = len(lab.ok(*query, "--format", "%s\\n", limit_s=60).split())
        check(count == len(payloads) + 1, f"{name}: {count} facts are recorded instead of {len(payloads) + 1}")
    lab.tell(f"payloads of 0, 70 000, {1 << 20} and {64 << 20} bytes came back after the crash, byte for byte")


main(kill9_with_unacknowledged_facts_and_the_window_on_disk, what_a_killed_run_left_in_the_pool_waits_for_a_run_with_the_option,
     kill9_with_unacknowledged_facts_and_a_data_directory,
     kill9_with_unacknowledged_facts_and_no_data_directory, restart_while_the_journal_still_holds_unsynced_facts_of_the_old_epoch,
     two_processes_under_one_identity, a_copied_data_directory, a_large_window_drains_completely_when_the_journal_is_back,
     the_journal_is_replaced_by_an_empty_one, empty_and_largest_payloads_through_crash_and_repair)
