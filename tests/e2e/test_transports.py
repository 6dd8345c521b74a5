#!/usr/bin/python3
"""Publisher, journal and subscriber over tcp, over ipc and after UDP discovery; filters; every place to start from; a journal that is away."""
import json
import os
import shutil
import socket
import subprocess
import threading
import time

from harness import FACTMESH, Skipped, a_fact_from_each_reaches_each, check, fields, free_port, main, tool, wait_until

TOPICS = ["shop.orders.placed", "shop.orders.paid", "shop.carts.placed", "shops", "shop"]
PATTERNS = {
    "shop.orders.placed": ["shop.orders.placed"],
    "shop.orders.>": ["shop.orders.placed", "shop.orders.paid"],
    "shop.*.placed": ["shop.orders.placed", "shop.carts.placed"],
    "shop.>": ["shop.orders.placed", "shop.orders.paid", "shop.carts.placed"],
    "*": ["shops", "shop"],
    ">": TOPICS,
}


def sub_start(lab, journal, *more, name="sub"):
    """A subscriber; returns when it has caught up: what is published from now on reaches it live."""
    sub = lab.start(name, [FACTMESH, "sub", "--seed", journal.address, *more], stdin=subprocess.DEVNULL)
    sub.line("caught up", 15, "err")
    return sub


def recorded(lab, journal, *more):
    return lab.ok("sub", "--seed", journal.address, "--until", "end", *more).decode().splitlines()


def pub(lab, journal, topic, *texts):
    lab.ok("pub", topic, "--seed", journal.address, stdin="".join(t + "\n" for t in texts).encode())


def filters_give_exactly_what_matches(lab, bind):
    journal = lab.journal("journal", bind)
    live = {pattern: sub_start(lab, journal, pattern, "--from", "end", name=f"sub{i}") for i, pattern in enumerate(PATTERNS)}
    for i in range(3):
        for topic in TOPICS:
            pub(lab, journal, topic, f"{topic} {i}")
    for pattern, topics in PATTERNS.items():
        want = [f"{topic} {i}" for i in range(3) for topic in TOPICS if topic in topics]
        late = recorded(lab, journal, pattern, "--from", "start")
        check(late == want, f"{pattern} from the start: {late}")
        wait_until(f"{pattern} live has all", lambda: len(live[pattern].out().splitlines()) >= len(want), 10, live[pattern])
        check(live[pattern].out().splitlines() == want, f"{pattern} live: {live[pattern].out().splitlines()}")
    late = recorded(lab, journal, "shop.orders.placed", "shop.carts.>", "--from", "start")
    check(late == [f"shop.{x}.placed {i}" for i in range(3) for x in ("orders", "carts")], f"two patterns: {late}")
    for sub in live.values():
        check(sub.terminate() == 143, f"a subscriber that is told to end ends with {sub.popen.returncode}")
    check(journal.terminate() in (0, 143), "the journal does not end well")
    lab.ok("verify", lab.path("journal"))
    lab.tell(f"{', '.join(PATTERNS)}: early and late have what matches, nothing else")


def filters_over_tcp(lab):
    filters_give_exactly_what_matches(lab, None)


def filters_over_ipc(lab):
    filters_give_exactly_what_matches(lab, f"ipc://{lab.path('control.sock')}")


def every_start_begins_where_it_says(lab):
    journal = lab.journal("journal", None, "--segment-size", "1M")
    pub(lab, journal, "some.other", *(f"other {i}" for i in range(50)))
    pub(lab, journal, "some.lines", *(f"early {i}" for i in range(300)))
    wait_s = 1.1
    time.sleep(wait_s)      # not for an event: so that a time lies between
    between = time.time()
    pub(lab, journal, "some.lines", *(f"late {i}" for i in range(200)))
    everything = [f"early {i}" for i in range(300)] + [f"late {i}" for i in range(200)]
    cases = {
        ("--from", "start"): everything,
        ("--from", "-100"): everything[-100:],
        ("--from", "-1"): everything[-1:],
        ("--from", "-100000"): everything,
        ("--from", "@-1h"): everything,
        ("--from", f"@{between - wait_s / 2:.3f}"): everything[300:],
        ("--from", f"@{time.time() + 3600:.0f}"): [],
        ("--from", "end"): [],
        ("--from", "start", "--count", "7"): everything[:7],
    }
    for options, want in cases.items():
        got = recorded(lab, journal, "some.lines", *options)
        check(got == want, f"{' '.join(options)}: {len(got)} facts instead of {len(want)}: {got[:2]} … {got[-2:]}")
    sub = sub_start(lab, journal, "some.lines", "--from", "end")
    pub(lab, journal, "some.lines", "newest")
    wait_until("what comes behind the end arrives", lambda: sub.out() == "newest\n", 10, sub)
    lab.tell("right: " + ", ".join(" ".join(options) for options in cases))


def a_cursor_goes_on_behind_what_was_printed_when_its_owner_is_killed(lab):
    journal = lab.journal()
    want = [f"line {i:05d}" for i in range(20000)]
    source = lab.path("source")
    with open(source, "w") as file:
        file.writelines(line + "\n" for line in want)
    publisher = lab.start("pub", [FACTMESH, "pub", "cursor.lines", "--seed", journal.address, "--rate", "10000", "--file", source])
    printed, again = [], 0
    for run in range(5):
        sub = lab.start(f"sub{run}", [FACTMESH, "sub", "cursor.>", "--seed", journal.address, "--cursor", "reader", "--from", "start"],
                        stdin=subprocess.DEVNULL)
        more = lab.random.randint(1, 3000)
        wait_until(f"{more} lines are printed", lambda: sub.out().count("\n") > more, 15, sub)
        sub.kill9()
        lines = sub.out().split("\n")[:-1]
        # Printed, but killed before the cursor moved: printed again. Never left out.
        overlap = want.index(lines[0])
        check(overlap <= len(printed), f"run {run} begins with {lines[0]!r}: {overlap - len(printed)} lines are left out")
        check(lines == want[overlap:overlap + len(lines)], f"run {run}: not the published lines in order")
        again += len(printed) - overlap
        printed = want[:overlap + len(lines)]
    publisher.ends_well(20)
    rest = recorded(lab, journal, "cursor.>", "--cursor", "reader")
    overlap = want.index(rest[0]) if rest else len(want)
    check(overlap <= len(printed) and rest == want[overlap:], f"the last run prints {len(rest)} lines from {rest[:1]}")
    check(recorded(lab, journal, "cursor.>", "--cursor", "reader") == [], "what was printed and committed comes again")
    check(recorded(lab, journal, "cursor.>", "--from", "cursor:reader") == [], "from the cursor there is more")
    lab.tell(f"seed {lab.seed}: five kills, no line left out; {again} printed again because the kill came before the commit")


def a_window_fills_while_the_journal_is_away_and_empties_when_it_is_back(lab):
    bind = f"tcp://127.0.0.1:{free_port()}"
    journal = lab.journal("journal", bind)
    node = lab.start("publisher", [
        tool("flow_publisher"), "--bind", f"tcp://127.0.0.1:{free_port()}", "--seed", bind, "--count", "30000", "--payload", "100", "--topics", "5",
        "--window", str(1 << 20), "--block-ms", "60000"])
    node.line("^READY", 15)
    live = lab.start("subscriber", [tool("flow_subscriber"), "--seed", fields(node.lines("^READY")[0])["address"], "--topic", "flow.>", "--from",
                                    "end", "--no-journal", "--ends", "5", "--progress", "1000", "--idle-ms", "60000"])
    live.line("^READY", 15)
    live.line("^CAUGHT-UP", 15)
    journal.kill9()
    node.send("go")
    # 1 MiB holds a third of the flow at most: live goes on until then, and then the publisher blocks.
    live.line("^PROGRESS facts=3000", 20)
    window = wait_until("the publisher blocks", lambda: blocked(node), 20, node)
    check(not node.lines("^PUBLISHED"), "all was published without a journal: the window has no limit")
    journal = lab.journal("journal", bind)
    node.line("^SYNCED", 60)
    live.line("^DONE", 30)
    check(not live.lines("^GAP"), "the live subscriber was told a gap")
    check(fields(live.lines("^ENDED")[0])["facts"] == "30005", f"the live subscriber has {live.lines('^ENDED')}")
    node.close_input()
    node.ends_well()
    late = recorded(lab, journal, "flow.>", "--from", "start", "--format", "%s\\n")
    check(late == [str(i) for i in range(1, 30006)], f"the journal has {len(late)} facts of 30005, or others")
    lab.tell(f"blocked with {window}; with the journal back all 30005 are recorded, and live had each once")


def blocked(process):
    """It has used no processor time to speak of for a while: true only after two looks at the clock of the kernel."""
    def ticks():
        with open(f"/proc/{process.pid}/stat") as file:
            parts = file.read().rpartition(")")[2].split()
        return int(parts[11]) + int(parts[12])
    before = ticks()
    time.sleep(0.3)
    return f"{ticks() - before} ticks in 0.3 s" if ticks() - before <= 2 else None


def a_replay_of_one_stream_ends(lab):
    journal = lab.journal()
    streams = []
    for i in range(3):
        ids = lab.ok("pub", f"own.n{i}", "--seed", journal.address, "--ephemeral", "--print-ids", f"fact {i}").decode()
        streams.append(ids.split(":")[0].split()[-1])
    for i, stream in enumerate(streams):    # all but the last end before the journal does
        got = lab.ok("replay", "--seed", journal.address, "--stream", stream).decode()
        check(got == f"fact {i}\n", f"stream {i}: {got!r}")
    unknown = lab.factmesh("replay", "--seed", journal.address, "--stream", "0123456789abcdef" * 2)
    check(unknown.status == 1 and "holds no stream" in unknown.err, f"an unknown stream: {unknown.status}, {unknown.err!r}")


def a_cursor_is_of_its_patterns(lab):
    journal = lab.journal()
    pub(lab, journal, "shop.paid", "paid")
    pub(lab, journal, "shop.placed", "placed")
    start = ("--cursor", "c", "--from", "start")
    check(recorded(lab, journal, "shop.paid", "other.>", *start) == ["paid"], "the first run")
    for patterns in (["shop.placed"], ["shop.>"], ["shop.paid"], []):
        other = lab.factmesh("sub", "--seed", journal.address, "--until", "end", *patterns, *start)
        check(other.status == 2 and "shop.paid,other.>" in other.err and not other.out, f"with {patterns}: {other.status}, {other.err!r}")
    check(recorded(lab, journal, "other.>", "shop.paid", *start) == [], "the same patterns in another order")
    lab.ok("cursor", "seek", "c", "start", "--seed", journal.address)
    check(lab.factmesh("sub", "--seed", journal.address, "--until", "end", "shop.placed", *start).status == 2, "seek forgets what it is of")
    check(recorded(lab, journal, "shop.placed", "--force", *start) == ["placed"], "--force goes on")


def what_retention_drops_is_told(lab):
    journal = lab.journal("journal", None, "--segment-size", "1M", "--retain-size", "2M")
    pub(lab, journal, "old.lines", *("x" * 1000 for i in range(6000)))
    journal.line("SEGMENTS-DROPPED", 20, "err")

    def all_is_told():      # it looks every few seconds: while it was being written, too
        held = sum("payload" in line for line in lab.factmesh("replay", "--seed", journal.address, "--json").text().splitlines())
        told = [fields(line) for line in journal.err().splitlines() if "SEGMENTS-DROPPED" in line]
        last = 1
        for t in told:
            check(int(t["was"]) == last and int(t["first_offset"]) == last + int(t["facts"]), f"told: {told}")
            last = int(t["first_offset"])
        return held == 6001 - last and held <= 3000
    wait_until("what is not held any more has been told", all_is_told, 20, journal)


def what_cannot_be_is_refused_at_once(lab):
    journal = lab.journal()
    pub(lab, journal, "some.topic", "one", "two")
    cases = {
        ("nodes", "--seed", "nonsense"): (2, "--seed"), ("nodes", "--seed", f"{journal.address},"): (2, "comma"),
        ("nodes", "--seed", f",{journal.address}"): (2, "empty"), ("nodes", "--bind", "nonsense"): (2, "--bind"),
        ("sub", "--from", "bogus"): (2, "write start, end,"), ("sub", "--from", "@bogus"): (2, "'@bogus'"),
        ("replay", "--format", "%o"): (2, "dump"), ("replay", "--from", "offset:9"): (1, "behind the journal's end, 3"),
        ("replay", "--until", "offset:9"): (1, "behind the journal's end, 3"),
        ("replay", "--from", "offset:2", "--until", "offset:1"): (2, "before --from"), ("cursor", "seek", "c", "offset:0"): (2, "is 1"),
        ("journal", lab.path("other"), "--bind", journal.address): (1, "--bind"), ("version", "more"): (2, "more"),
        ("replay", "some*"): (0, "literal text"),
    }
    for argv, (status, word) in cases.items():
        got = lab.factmesh(*argv, env={"FACTMESH_SEED": journal.address})
        check(got.status == status and word in got.err, f"{' '.join(argv)}: {got.status}, {got.err!r}")


def a_subscriber_ends_when_its_reader_has_gone(lab):
    journal = lab.journal()
    ours, theirs = os.pipe()
    sub = lab.start("sub", [FACTMESH, "sub", "--seed", journal.address], stdin=subprocess.DEVNULL, stdout=theirs)     # and closes ours
    sub.line("caught up", 15, "err")
    os.close(ours)
    sub.ends_well(10)


def a_publisher_of_a_moment_reaches_who_listens(lab):
    """It is gone before a subscriber's connection to it is up, or before the subscriber hears of it."""
    journal = lab.journal()
    longest_s = 0.0
    for i in range(15):
        sub = sub_start(lab, journal, f"moment.m{i}", "--from", "end", "--count", "1", name=f"sub{i}")
        pub(lab, journal, f"moment.m{i}", f"fact {i}")
        started = time.monotonic()
        sub.ends_well(10)
        longest_s = max(longest_s, time.monotonic() - started)
        check(sub.out() == f"fact {i}\n", f"it got {sub.out()!r}")
    lab.tell(f"15 one-fact publishers, each heard by a subscriber that had just come; at most {longest_s:.2f} s after the publisher was gone")


def nodes_lists_who_is_there(lab):
    journal = lab.journal()
    node = lab.start("node", [tool("mesh_node"), "--name", "one-of-us", "--seed", journal.address])
    node.line("^READY")
    lines = lab.ok("nodes", "--json", "--seed", journal.address, "--wait", "2").decode().splitlines()
    nodes = [json.loads(line) for line in lines]
    names = [n["name"] for n in nodes]
    check("one-of-us" in names, f"nodes lists {names}")
    check(any(n.get("control") == journal.address for n in nodes), f"the journal's address is not among {nodes}")
    text = lab.ok("nodes", "--seed", journal.address, "--wait", "2").decode()
    check("one-of-us" in text and "journal" in text, f"for people: {text}")
    node.close_input()
    node.ends_well()


def nodes_find_each_other_by_udp_alone(lab):
    if os.geteuid() != 0 or not shutil.which("ip"):
        raise Skipped("needs root and ip(8), for a network namespace in which broadcasts go nowhere else")
    space = f"factmesh-{os.getpid()}"
    made = lab.run("ip", "netns", "add", space)
    if made.status != 0:
        raise Skipped(f"no network namespaces here: {made.err.strip()}")
    try:
        inside = ["ip", "netns", "exec", space]
        for command in (["ip", "link", "set", "lo", "up"], ["ip", "link", "add", "fm0", "type", "veth", "peer", "name", "fm1"],
                        ["ip", "addr", "add", "10.98.76.1/24", "broadcast", "10.98.76.255", "dev", "fm0"], ["ip", "link", "set", "fm0", "up"],
                        ["ip", "link", "set", "fm1", "up"]):
            done = lab.run(*inside, *command)
            if done.status != 0:
                raise Skipped(f"{' '.join(command)}: {done.err.strip()}")
        found_in(lab, inside)
    finally:
        for process in lab.processes:
            if process.alive():
                process.kill9()
        lab.run("ip", "netns", "del", space)


def found_in(lab, inside):
    # `ip netns exec` becomes the program, so that its process id is that of the node.
    started = time.monotonic()
    nodes = [lab.start(f"u{i}", [*inside, tool("mesh_node"), "--name", f"u{i}", "--interface", "fm0"]) for i in range(3)]
    for node in nodes:
        node.line("^READY")
        node.line("^MEMBERS count=3 names=u0,u1,u2$", 15)
    took = time.monotonic() - started
    reached = a_fact_from_each_reaches_each(nodes, "hello", 10)
    lab.tell(f"three nodes without a seed found each other after {took:.2f} s, and a fact from each reached each after {reached:.2f} s more")


class PortMapping(threading.Thread):
    """What address translation does: whoever connects to .port is carried to a port of 127.0.0.1."""

    def __init__(self, host, target):
        super().__init__(daemon=True)
        self.target, self.carried = target, 0
        self.listener = socket.create_server((host, 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            client = self.listener.accept()[0]
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            self.carried += 1
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self.carry, args=(source, sink), daemon=True).start()

    @staticmethod
    def carry(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def a_node_behind_address_translation_is_reached(lab):
    control, live = free_port(), free_port()
    outside, outside_live = PortMapping("127.0.0.9", control), PortMapping("127.0.0.9", live)
    pub = lab.start("pub", [FACTMESH, "pub", "nat.lines", "--ephemeral", "--no-wait", "--bind", f"tcp://127.0.0.1:{control}", "--bind-live",
                            f"tcp://127.0.0.1:{live}", "--advertise", f"127.0.0.9:{outside.port}", "--advertise-live",
                            f"127.0.0.9:{outside_live.port}", "--seed", "tcp://127.0.0.1:1"])
    sub = lab.start("sub", [FACTMESH, "sub", "nat.>", "--no-journal", "-n", "1", "--seed", f"tcp://127.0.0.9:{outside.port}"])
    wait_until("the subscriber's live connection", lambda: outside_live.carried, 10, sub)

    def came():
        pub.send("a line")
        time.sleep(0.05)            # not a flood: the first ones may be too early for its subscription
        return sub.out()
    check(wait_until("a fact comes through", came, 10, pub).startswith("a line\n"), f"another text: {sub.out()}")
    sub.ends_well()
    told = lab.factmesh("nodes", "--seed", f"tcp://127.0.0.9:{outside.port}", "--json")
    check(f"127.0.0.9:{outside.port}" in told.text() and f"127.0.0.1:{control}" not in told.text(), f"it tells its inner address: {told.text()}")
    pub.close_input()
    pub.ends_well()


main(filters_over_tcp, filters_over_ipc, every_start_begins_where_it_says, a_cursor_goes_on_behind_what_was_printed_when_its_owner_is_killed,
     a_window_fills_while_the_journal_is_away_and_empties_when_it_is_back, a_publisher_of_a_moment_reaches_who_listens,
     what_retention_drops_is_told, what_cannot_be_is_refused_at_once, a_subscriber_ends_when_its_reader_has_gone,
     a_replay_of_one_stream_ends, a_cursor_is_of_its_patterns, nodes_lists_who_is_there, nodes_find_each_other_by_udp_alone,
     a_node_behind_address_translation_is_reached)
