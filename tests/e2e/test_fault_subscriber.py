#!/usr/bin/python3
"""Subscribers that are killed, stopped, too slow, late or poisoned: nothing is missed, and nothing comes again that was acknowledged."""
import json
import subprocess
import time

from fault_mesh import Mesh
from fault_net import Network, half_open
from harness import FACTMESH, check, fields, main, tool, wait_until

RATE = 4000
# Silence is acted on after 4 to 5 s, and the next head comes a second later at most; TCP's keepalive would take 10 to 19.
RARE_S = 8


def killed_again_and_again(lab, name, rate, *more):
    """kill -9 at twelve random moments between delivery and acknowledgement."""
    mesh = Mesh(lab)
    # So fast that facts share batches: kills fall in the midst of them.
    pub = mesh.publisher(rate)
    sub = mesh.subscriber(name, "flow.>", "--resume", lab.path("resume"), "--every", "11", "--progress", "50", *more, publishers=1)
    pub.send("go")
    for kill in range(12):
        # As many facts more, so that the kill does not fall into the start each time; then the random moment.
        for _ in range(lab.random.randrange(1, 6)):
            sub.line("^PROGRESS", 15)
        time.sleep(lab.random.uniform(0, 0.02))
        sub.kill9()
        sub = mesh.start_again(sub)
        sub.line("^READY", 15)
    mesh.end()
    facts = mesh.judge(exact=[sub])
    again = sum(int(fields(line)["facts"]) for p in lab.processes if p.name == name for line in p.lines("^AGAIN"))
    mesh.close()
    return facts, again


def kill_9_between_delivery_and_acknowledgement_resumed_by_a_named_cursor(lab):
    facts, again = killed_again_and_again(lab, "named", 4 * RATE, "--cursor", "kills")
    lab.tell(f"12 kills, {facts} facts, none missed; {again} came again, all of them above what was acknowledged")


def kill_9_between_delivery_and_acknowledgement_resumed_by_a_cursor_in_its_own_file(lab):
    facts, _ = killed_again_and_again(lab, "own", 10 * RATE, "--synced")
    lab.tell(f"12 kills, {facts} facts, none missed, none twice")


def stopped_for_longer_than_any_buffer(lab):
    mesh = Mesh(lab, payload=1000)
    pub = mesh.publisher(20000, "--live-queue", "4")
    stopped = mesh.subscriber("stopped", "flow.>", "--held", "1048576", "--progress", "100")
    other = mesh.subscriber("other", "flow.>", "--progress", "100")
    pub.send("go")
    stopped.line("^PROGRESS", 10)
    stopped.stop()
    seen = len(other.lines("^PROGRESS"))
    # 30 MB: more than sockets (a few MB), 4 frames and 1 MiB hold.
    wait_until("30 000 facts pass by", lambda: len(other.lines("^PROGRESS")) > seen + 300, 30, other)
    stopped.cont()
    mesh.end()
    facts = mesh.judge()
    check(not stopped.lines("^GAP"), "it was told a gap")
    behind = [int(fields(line)["value"]) for line in stopped.lines("^COUNTER name=(repairs_asked|fell_behind) ")]
    check(sum(behind) > 0, "it missed nothing live: nothing was tested")
    mesh.close()
    lab.tell(f"{facts} facts of 1000 bytes; it fell behind and has every byte; repairs and falls {behind}")


def slower_than_the_flow_for_ever(lab):
    mesh = Mesh(lab)
    pub = mesh.publisher(RATE)
    slow = mesh.subscriber("slow", "flow.>", "--held", "262144", "--stall-us", "400", "--progress", "100")
    pub.send("go")
    slow.line("^PROGRESS", 10)
    parties = (slow, pub, mesh.journal)
    # While it lags ever more, nobody holds more for it.
    wait_until("it lags by a second", lambda: mesh.synced(pub) > 100 * len(slow.lines("^PROGRESS")) + RATE, 30, slow)
    before = [p.memory_bytes() for p in parties]
    wait_until("it lags by two", lambda: mesh.synced(pub) > 100 * len(slow.lines("^PROGRESS")) + RATE * 2, 30, slow)
    grown = [p.memory_bytes() - b for p, b in zip(parties, before)]
    lag = mesh.synced(pub) - 100 * len(slow.lines("^PROGRESS"))
    mesh.end()
    facts = mesh.judge()
    mesh.close()
    lab.tell(f"{lag} facts behind of {facts}; memory grown meanwhile: subscriber {grown[0] >> 10}, publisher {grown[1] >> 10}, journal {grown[2] >> 10} KiB")
    check(max(grown) <= 8 << 20, f"memory grows with the lag: {grown}")


def joins_while_the_journal_is_away(lab):
    mesh = Mesh(lab)
    pub = mesh.publisher(RATE)
    early = mesh.subscriber("early", "flow.>", "--progress", "100")
    pub.send("go")
    early.line("^PROGRESS", 10)
    mesh.journal_kill()
    late = mesh.subscriber("late", "flow.>", "--open-ms", "30000", ready=False)
    seen = len(early.lines("^PROGRESS"))
    wait_until("live goes on", lambda: len(early.lines("^PROGRESS")) > seen + 20, 10, early)
    check(not late.lines("^READY"), "it opened from the start without a journal: nothing was tested")
    mesh.journal_restart()
    late.line("^READY", 30)
    mesh.end()
    facts = mesh.judge()
    mesh.close()
    lab.tell(f"{facts} facts; live went on meanwhile; it has all from the start")


def the_single_fact_of_a_rare_topic_is_dropped(lab):
    net = Network(lab)
    journal = net.journal()
    pub = net.start("pub", [tool("mesh_node"), "--name", "rare", "--seed", journal.address, "--bind", "{bind}"])
    pub.line("^READY", 10)
    sub = net.start("sub", [FACTMESH, "sub", "mesh.rare", "--json", "--seed", journal.address, "--bind", "{bind}"])
    sub.line("caught_up", 10)
    pub.send("publish first")
    sub.line('"payload":"first"', 10)
    # While it believes in a connection that is none, a fact is published, and nothing follows.
    healed = half_open(net, pub, sub)
    pub.send("publish last")
    sub.line('"payload":"last"', RARE_S)
    lab.tell(f"it had the fact {time.monotonic() - healed:.1f} s later")


def retention_overtakes_its_cursor(lab):
    journal = lab.journal("journal", None, "--segment-size", "1M", "--retain-size", "3M")
    seed = ("--seed", journal.address)
    source = lab.path("lines")
    with open(source, "w") as file:
        file.writelines(f"{i:06d} {'x' * 400}\n" for i in range(1, 20001))
    with open(source, "rb") as lines:
        pub = lab.start("pub", [FACTMESH, "pub", "kept.lines", *seed, "--ephemeral"], stdin=lines)
        # Its consumer does a hundred, and is gone.
        done = json.loads(lab.ok("sub", "kept.>", *seed, "--cursor", "late", "--from", "start", "-n", "100", "--json").splitlines()[-1])
        pub.ends_well(60)
    dropped = fields(journal.line("SEGMENTS-DROPPED", 20, "err"))
    events = [json.loads(line) for line in lab.ok("sub", "kept.>", *seed, "--cursor", "late", "--until", "end", "--json").splitlines()]
    gaps = [e for e in events if e.get("event") == "gap"]
    facts = [e for e in events if "payload" in e]
    first = int(dropped["first_offset"])            # one stream: offsets are its sequences
    # The stream's own, and, for whom the journal no longer knows, that of its offsets.
    want = [{"event": "gap", "stream": done["stream"], "first_seq": done["seq"] + 1, "end_seq": first, "reason": "expired"},
            {"event": "gap", "first_offset": done["seq"] + 1, "end_offset": first, "reason": "expired"}]
    check(gaps == want and events[:2] == gaps, f"done up to {done['seq']}, the first held is {first}; told: {events[:3]}")
    check([e["seq"] for e in facts] == list(range(first, 20001)), "behind the gap not all facts came")
    check(all(e["payload"].startswith(f"{e['seq']:06d}") for e in facts), "another payload")
    lab.tell(f"done up to {done['seq']}; gap [{gaps[0]['first_seq']}, {first}), then {len(facts)} facts to the end")


def poison_is_seen_and_stepped_over(lab):
    journal = lab.journal()
    seed = ("--seed", journal.address)

    def pub(stream, topic, text):
        return lab.ok("pub", topic, text, "--stream", stream, "--print-ids", *seed).decode().split()[0]

    def consume(count):
        """A consumer that crashes at its poison: what it took before is acknowledged."""
        lines = lab.ok("sub", "jobs.>", "--cursor", "worker", "--from", "start", "-n", str(count), "--format", "%i %p\\n", *seed).decode()
        return [line.split(" ", 1) for line in lines.splitlines()]

    ids = [pub(stream, topic, text) for stream, topic, text in (
        ("a", "jobs.a", "one"), ("b", "jobs.b", "two"), ("a", "jobs.a", "poison"), ("b", "jobs.b", "three"), ("a", "jobs.a", "four"),
        ("a", "other.a", "not asked for"), ("b", "jobs.b", "five"))]
    check([i for i, _ in consume(2)] == ids[:2], "the consumer took other facts")
    # Seen: its name and what is in it.
    shown = lab.ok("cursor", "show", "worker", *seed).decode()
    check(ids[2] in shown and "poison" in shown and ids[3] not in shown, f"cursor show does not tell the next fact: {shown}")
    shown = [json.loads(line) for line in lab.ok("cursor", "show", "worker", "--json", "--next", "9", *seed).splitlines()]
    check([e["payload"] for e in shown[1:]] == ["poison", "three", "four", "five"], f"--next tells others: {shown}")
    # Not stepped over: what does not come, and what has others before it.
    for argv, text in ((("--past", ids[0]), "not among"), (("--past", ids[4]), "comes before it"), (("--past", ids[5]), "before it")):
        result = lab.factmesh("cursor", "seek", "worker", *argv, *seed)
        check(result.status == 1 and text in result.err, f"{argv}: {result.status} {result.err}")
    before = lab.ok("cursor", "show", "worker", "--json", *seed)
    check(ids[2] in lab.ok("cursor", "show", "worker", *seed).decode(), f"what was refused moved the cursor: {before}")
    # Stepped over, and nothing else.
    lab.ok("cursor", "seek", "worker", "--past", ids[2], *seed)
    check(consume(1) == [[ids[3], "three"]], "behind the poison there is another fact")
    lab.ok("cursor", "seek", "worker", "--skip", "1", *seed)
    check(consume(1) == [[ids[6], "five"]], "--skip 1 stepped over another one")
    result = lab.factmesh("cursor", "seek", "worker", "--skip", "1", *seed)
    check(result.status == 1 and "no fact" in result.err, f"at the end: {result.status} {result.err}")
    lab.ok("cursor", "seek", "worker", "start", *seed)
    lab.ok("cursor", "seek", "worker", "--past", ids[4], "--force", *seed)
    check([i for i, _ in consume(3)] == [ids[1], ids[3], ids[6]], "--force stepped over facts of another stream")


main(kill_9_between_delivery_and_acknowledgement_resumed_by_a_named_cursor,
     kill_9_between_delivery_and_acknowledgement_resumed_by_a_cursor_in_its_own_file, stopped_for_longer_than_any_buffer,
     slower_than_the_flow_for_ever, joins_while_the_journal_is_away, the_single_fact_of_a_rare_topic_is_dropped, retention_overtakes_its_cursor,
     poison_is_seen_and_stepped_over, at_once=3)
