#!/usr/bin/python3
"""A peer that is broken or lies is refused and counted, and nobody else notices: contents, rate and memory of the others hold.

What it can do all the same is told in the README's "What it does not do": a mesh trusts its members, and has no authorisation.
"""
import json
import resource
import socket
import statistics
import struct
import time

import zmq

import wire
from harness import FACTMESH, acked, check, fields, main, tool, wait_until
from stranger import Stranger, control_frames, random_frames, wait_answer

FACTS, RATE, TOPICS = 150_000, 50_000, 10
RATE_KEPT = 0.5         # of the rate that was asked for, until all is synced; the attacker takes its share of the same two cores
MEMORY_SLACK = 64 << 20 # more than the same flow takes in peace
SESSIONS, SESSIONS_PER_PEER = 4096, 1024        # that a journal opens at most
SESSION_BYTES = 64 << 10                        # that each may take
UNREAD_LOG_BYTES, UNREAD_CONNECTIONS = 60 << 20, 8
UNREAD_BYTES, UNREAD_SLACK = 64 << 20, 32 << 20 # SERVER_OUTGOING_BYTES; readers of the log, allocators
FLOOD_BYTES = 768 << 20 # a machine with other work may let what reads stand still while what receives goes on
MANY = 5000             # facts of one lie
HUGE = 60 << 20         # below what a control endpoint takes at most: memory may follow the bytes, not the claim


class Flow:
    """A journal, a subscriber that was there first, and a publisher."""

    def __init__(self, lab, name, *more):
        self.lab, self.memory = lab, {}      # memory: the peak of each, in bytes
        self.journal = lab.journal(f"journal-{name}", None, *more)
        self.log = lab.path(f"{name}.log")
        self.sub = lab.start("subscriber", [tool("flow_subscriber"), "--seed", self.journal.address, "--topic", "flow.>", "--from", "start",
                                            "--log", self.log, "--ends", str(TOPICS), "--idle-ms", "60000"])
        self.sub.line("^READY", 15)
        self.pub = lab.start("publisher", [tool("flow_publisher"), "--seed", self.journal.address, "--count", str(FACTS), "--rate", str(RATE),
                                           "--topics", str(TOPICS), "--payload", "100", "--bind", "tcp://127.0.0.1:*"])
        self.stream = fields(self.pub.line("^STREAM", 15))["id"]
        self.publisher_address = fields(self.pub.line("^READY", 5))["address"]
        self.sub.line("^CAUGHT-UP", 15)

    def finish(self, while_it_runs=lambda: None):
        """Publish all; returns the rate up to synced."""
        def work():
            for process in (self.journal, self.pub, self.sub):
                try:
                    self.memory[process.name] = process.memory_peak_bytes()
                except (AttributeError, OSError):       # the subscriber ends by itself: it has no memory then
                    pass
            while_it_runs()
        self.pub.send("go")
        wait_until("all is synced", lambda: work() or self.pub.lines("^SYNCED"), 60, self.pub)
        wait_until("the subscriber has all", lambda: work() or self.sub.lines("^DONE"), 60, self.sub)
        return FACTS / int(fields(self.pub.lines("^SYNCED")[0])["took_us"]) * 1e6

    def check_contents(self):
        """Of who was there, and of who comes late: every byte of every fact, once, and no gap."""
        late_log = self.lab.path("late.log")
        late = self.lab.start("late", [tool("flow_subscriber"), "--seed", self.journal.address, "--topic", "flow.>", "--from", "start",
                                       "--log", late_log, "--ends", str(TOPICS), "--idle-ms", "30000"])
        late.line("^DONE", 30)
        for who, log in ((self.sub, self.log), (late, late_log)):
            result = self.lab.run(tool("flow_check"), "--count", str(FACTS), "--payload", "100", "--topics", str(TOPICS), "--stream", self.stream,
                                  "flow.>", log, limit_s=60)
            check(result.status == 0, f"{who.name} has other facts: {result.text()[:1000]}")
            check(not who.lines("^GAP"), f"{who.name} was told a gap")

    def end(self):
        """End them; returns the publisher's and the subscriber's counters."""
        self.pub.close_input()
        self.pub.ends_well()
        check(self.journal.terminate() == 0, "the journal does not end well")
        return [{f["name"]: int(f["value"]) for f in map(fields, p.lines("^COUNTER"))} for p in (self.pub, self.sub)]


def journal_counters(lab, journal):
    status = json.loads(lab.ok("status", "--json", "--seed", journal.address))
    return {c["name"]: c["value"] for c in status["counters"]} if isinstance(status["counters"], list) else status["counters"]


def host_port(address):
    host, port = address[len("tcp://"):].rsplit(":", 1)
    return host, int(port)


def heads_of(context, address):
    """What a node tells of its streams to whoever says Hello: (stream, epoch, incarnation)."""
    dealer = context.socket(zmq.DEALER)
    dealer.connect(address)
    info = wire.node_info(wire.new_id(), "tcp://127.0.0.1:1", "tcp://127.0.0.1:1")
    dealer.send(wire.control(wire.HELLO, wire.message((1, info))))
    check(dealer.poll(5000), f"{address} does not answer a Hello")
    welcome = wire.parse(wire.parse(dealer.recv_multipart()[-1])[wire.WELCOME][0])
    dealer.close()
    heads = [wire.parse(h) for h in wire.parse(welcome[1][0]).get(6, [])]
    return [(h[1][0], h[2][0], h[3][0]) for h in heads]


class Attacker:
    """One liar with a place in the mesh, a connection to each victim's control endpoint, and raw sockets."""

    def __init__(self, lab, flow):
        self.rng = lab.random
        self.context = zmq.Context()
        self.context.linger = 0
        self.victims = [flow.journal.address, flow.publisher_address]
        (self.stream, self.epoch, self.incarnation), = heads_of(self.context, flow.publisher_address)
        check(self.stream.hex() == flow.stream, f"{flow.stream} is not the stream of the Welcome: {self.stream.hex()}")
        self.liar = Stranger(self.context, flow.journal.address)
        self.liar.wait_subscribed()
        self.noise = list(random_frames(self.rng, list(control_frames())))
        self.dealers = []
        for address in self.victims:
            dealer = self.context.socket(zmq.DEALER)
            dealer.sndhwm = 100
            dealer.connect(address)
            self.dealers.append(dealer)
        self.raw, self.sent, self.session = [], 0, 0
        self.many = wire.message(*[(15, wire.message((15, b"lie")))] * MANY)
        self.started = None

    def live_lies(self):
        s, topic = self.stream, b"flow.t0"
        # What the stream's owner is about to send, said in its name: whoever believes it has it before the truth.
        self.started = self.started or time.monotonic()
        first = 1 + int((time.monotonic() - self.started) * RATE)
        yield wire.frame(topic, wire.batch(s, max(1, first - MANY // 2), topic, [], epoch=self.epoch, incarnation=self.incarnation,
                                           count=MANY) + self.many)
        for first in (1, 5, FACTS // 2, FACTS + 1000, 2 ** 62):
            # The stream of another node: as its owner would say it, as another start of it, and as an older one.
            yield wire.frame(topic, wire.batch(s, first, topic, [b"a lie"], epoch=self.epoch, incarnation=self.incarnation))
            yield wire.frame(topic, wire.batch(s, first, topic, [b"a lie"], epoch=self.epoch, incarnation=self.incarnation ^ 1))
            yield wire.frame(topic, wire.batch(s, first, topic, [b"a lie"], mesh=b"other"))
            yield wire.frame(topic, wire.batch(s, first, topic, [b"a lie"], major=9))
        yield b"\xffH\0" + wire.message((1, 1), (3, b"default"), (4, s), (5, self.epoch), (6, wire.Fixed(self.incarnation)), (7, 2 ** 63), (8, 1), (10, 1))
        yield b"\xffH\0" + self.rng.randbytes(50)
        yield b".flow.t0.\0" + self.rng.randbytes(500)

    def control_lies(self):
        mark = wire.message((1, self.stream), (2, 2 ** 62), (3, 2 ** 62), (4, 2 ** 62))
        yield wire.control(wire.WATERMARK, wire.message((1, wire.new_id()), (2, 1), (3, mark), (4, b"default")))
        for first, end in ((1, 2 ** 64 - 1), (2 ** 63, 2 ** 64 - 1), (2 ** 64 - 1, 1), (0, 0)):
            self.session += 1
            # No credit: it may never be answered, and must not cost.
            yield wire.control(wire.REPLAY_OPEN, wire.message((1, self.session), (2, b">"), (3, self.stream), (5, first), (11, end)))
        if self.session < 20:
            # All the credit there is: it reads what comes, so this costs the journal time, and memory for what is under way.
            yield wire.control(wire.REPLAY_OPEN, wire.message((1, 2 ** 40), (2, b"flow.>"), (4, 1), (15, 1), (16, 2 ** 63)))
        yield wire.control(wire.STATUS_GET, b"", mesh=b"other")
        yield wire.control(wire.STATUS_GET, b"", major=9)

    def raw_lies(self):
        """Not ZeroMQ, or ZeroMQ's greeting and then a frame that claims to be huge."""
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31)
        ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
        yield self.rng.randbytes(500)
        for size in (HUGE, 2 ** 40, 2 ** 63):
            yield greeting + b"\x04" + bytes([len(ready)]) + ready + b"\x02" + struct.pack(">Q", size) + b"x" * 1000
        yield greeting[:20]

    def strike(self):
        """One round: everything once, to everybody; never waits."""
        self.liar.alive()
        for frame in self.live_lies():
            self.liar.xpub.send(frame)
            self.sent += 1
        for dealer in self.dealers:
            for frame in [*self.control_lies(), *self.rng.sample(self.noise, 30)]:
                if dealer.poll(0, zmq.POLLOUT):
                    dealer.send(frame)
                    self.sent += 1
            while dealer.poll(0):
                dealer.recv_multipart()
        if len(self.raw) < 1000:
            for address in self.victims:
                for lie in self.raw_lies():
                    raw = socket.create_connection(host_port(address))
                    raw.sendall(lie)
                    self.raw.append(raw)
        time.sleep(0.002)       # a liar, not a flood: the rate of what is refused is not what is measured here

    def end(self):
        for raw in self.raw:
            raw.close()
        self.context.destroy()


def lies_from_a_member_cost_the_others_nothing(lab):
    peace = Flow(lab, "peace")
    rate_in_peace = peace.finish()
    peace.end()

    flow = Flow(lab, "lies")
    attacker = Attacker(lab, flow)
    rate = flow.finish(attacker.strike)
    check(attacker.sent > 1000, f"only {attacker.sent} lies were told while the flow ran")
    counters = journal_counters(lab, flow.journal)
    attacker.end()
    flow.check_contents()
    of_publisher, of_subscriber = flow.end()
    lab.ok("verify", lab.path("journal-lies"))

    check(rate >= RATE_KEPT * min(RATE, rate_in_peace), f"{rate:.0f} facts/s, {rate_in_peace:.0f} in peace")
    for name, peak in flow.memory.items():
        more = MEMORY_SLACK + (SESSIONS_PER_PEER * SESSION_BYTES if name == "journal" else 0)
        check(peak <= peace.memory[name] + more, f"{name}: {peak >> 20} MiB at most, {peace.memory[name] >> 20} in peace")
    refused = {
        "journal: batches_refused": counters["batches_refused"], "journal: stream_conflicts": counters["stream_conflicts"],
        "journal: sessions_refused": counters["sessions_refused"], "journal: control_refused": counters["control_refused"],
        "publisher: watermarks_refused": of_publisher["watermarks_refused"], "publisher: control_refused": of_publisher["control_refused"],
        "subscriber: frames_refused": of_subscriber["frames_refused"]}
    for what, count in refused.items():
        check(count > 0, f"{what} is 0: {refused}")
    lab.tell(f"{attacker.sent} lies, {len(attacker.raw)} connections: {rate:.0f} facts/s, {rate_in_peace:.0f} in peace; memory "
             + ", ".join(f"{name} {flow.memory[name] >> 20} MiB ({peace.memory[name] >> 20})" for name in flow.memory))
    lab.tell("refused: " + ", ".join(f"{what} {count}" for what, count in refused.items()))


def acknowledgements_from_the_future_let_nothing_go(lab):
    journal = lab.journal()
    pub = lab.start("publisher", [tool("flow_publisher"), "--seed", journal.address, "--count", "1000", "--topics", "1", "--bind",
                                  "tcp://127.0.0.1:*"])
    stream = bytes.fromhex(fields(pub.line("^STREAM", 15))["id"])
    address = fields(pub.line("^READY", 5))["address"]
    journal.stop()
    pub.send("go")
    pub.line("^PUBLISHED", 10)
    context = zmq.Context()
    context.linger = 0
    dealer = context.socket(zmq.DEALER)
    dealer.connect(address)
    for synced in (1002, 2 ** 40, 2 ** 64 - 1):
        mark = wire.message((1, stream), (2, synced), (3, synced), (4, synced))
        dealer.send(wire.control(wire.WATERMARK, wire.message((1, wire.new_id()), (2, 1), (3, mark), (4, b"default"))))
    # In order, on one connection: when this is answered all before it were handled.
    dealer.send(wire.control(wire.PING, wire.message((1, wire.new_id()), (2, wire.Fixed(0))), request=77))
    wait_until("the publisher answers", lambda: dealer.poll(0) and wire.parse(dealer.recv_multipart()[-1]).get(4) == [77], 10, pub)
    check(not pub.lines("^SYNCED"), "what no journal has counts as synced")
    check("WATERMARK-REFUSED" in pub.err(), f"it does not say so: {pub.err()[-300:]}")
    context.destroy()
    journal.cont()
    pub.line("^SYNCED", 20)
    pub.close_input()
    pub.ends_well()
    counters = {f["name"]: int(f["value"]) for f in map(fields, pub.lines("^COUNTER"))}
    check(counters["watermarks_refused"] == 3, f"3 lies, {counters['watermarks_refused']} refused")
    lab.tell(next(line for line in pub.err().splitlines() if "WATERMARK-REFUSED" in line))


def a_thousand_connections_and_sessions_without_credit_leave_room_for_others(lab):
    journal = lab.journal()
    lab.ok("pub", "good.facts", "--seed", journal.address, stdin=b"".join(b"fact %d\n" % i for i in range(1000)))
    read = ["sub", "good.>", "--seed", journal.address, "--from", "start", "--until", "end"]

    def timed():
        started = time.monotonic()
        out = lab.ok(*read)
        check(out.count(b"\n") == 1000, f"{out.count(10)} lines")
        return time.monotonic() - started
    before = statistics.median(timed() for _ in range(3))
    peak = journal.memory_peak_bytes()
    context = zmq.Context()
    context.linger = 0
    raw = [socket.create_connection(host_port(journal.address)) for _ in range(1000)]
    dealers = []
    for _ in range(4):
        dealer = context.socket(zmq.DEALER)
        dealer.sndhwm = dealer.rcvhwm = 0
        dealer.connect(journal.address)
        for session in range(1, 1501):
            dealer.send(wire.control(wire.REPLAY_OPEN, wire.message((1, session), (2, b">"), (4, 1), (15, 1))))
        wait_answer(dealer, 4_000_000_000, "the journal, behind the sessions")
        dealers.append(dealer)
    during = statistics.median(timed() for _ in range(3))
    counters = journal_counters(lab, journal)
    grown = journal.memory_peak_bytes() - peak
    check(counters["sessions_refused"] > 0, f"no session was refused: {counters}")
    check(grown <= SESSIONS * SESSION_BYTES + MEMORY_SLACK, f"its memory grew by {grown >> 20} MiB")
    check(during <= before + 2, f"a reader waits {during:.2f} s, {before:.2f} before")
    for connection in raw:
        connection.close()
    context.destroy()
    check(timed() <= before + 2, "it did not recover")
    check(journal.terminate() == 0, "the journal does not end well")
    lab.tell(f"a reader takes {during * 1000:.0f} ms beside 1000 connections and {counters['sessions_opened']} sessions "
             f"({counters['sessions_refused']} refused); {before * 1000:.0f} ms before; the journal's memory grew by {grown >> 20} MiB")


def connections_that_take_every_descriptor_hold_recording_up_no_longer_than_they_last(lab):
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    journal = lab.journal("journal", None, "--segment-size", "1M")
    published = [b"%06d %s\n" % (i, b"x" * 1000) for i in range(4000)]
    lines, ack_log = lab.path("lines"), lab.path("ack")
    with open(lines, "wb") as file:
        file.writelines(published)
    files = journal.files_open()
    soft, hard = resource.prlimit(journal.pid, resource.RLIMIT_NOFILE)
    check(soft == hard, f"it is content with {soft} descriptors of {hard}")
    with open(lines, "rb") as source:
        pub = lab.start("pub", [FACTMESH, "pub", "good.facts", "--seed", journal.address, "--rate", "1000", "--ack-log", ack_log, "--timeout", "60s"],
                        stdin=source)
    wait_until("some are acknowledged", lambda: acked(ack_log) > 100, 20, pub)
    limit = journal.files_open() + 20
    resource.prlimit(journal.pid, resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    raw = [socket.create_connection(host_port(journal.address)) for _ in range(100)]
    journal.line("RECORDING-WAITS", 30, "err")
    held_at = acked(ack_log)
    for connection in raw:
        connection.close()
    journal.line("RECORDING-GOES-ON", 30, "err")
    pub.ends_well(60)
    check("READ-ONLY" not in journal.err(), "the journal is read-only")
    check(held_at < len(published), "all was acknowledged before: nothing was tested")
    check(lab.ok("sub", "good.>", "--seed", journal.address, "--from", "start", "--until", "end") == b"".join(published), "other facts")
    check(journal.terminate() == 0, "the journal does not end well")
    lab.tell(f"of {limit} descriptors ({files} its own) none was left; held up at {held_at} of {len(published)} facts, then on without a loss")


def replays_that_are_never_read_cost_bounded_memory(lab):
    journal = lab.journal()
    payload = b"x" * 60_000 + b"\n"
    for _ in range(UNREAD_LOG_BYTES // (len(payload) * 100)):
        lab.ok("pub", "good.facts", "--seed", journal.address, stdin=payload * 100)
    read = ["sub", "good.>", "--seed", journal.address, "--from", "start", "--until", "end"]
    want = len(lab.ok(*read))
    peak = journal.memory_peak_bytes()
    context = zmq.Context()
    context.linger = 0
    unread = []
    for _ in range(UNREAD_CONNECTIONS):
        dealer = context.socket(zmq.DEALER)
        dealer.rcvhwm = 1
        dealer.rcvbuf = 4096
        dealer.connect(journal.address)
        dealer.send(wire.control(wire.REPLAY_OPEN, wire.message((1, 1), (2, b">"), (4, 1), (15, 1), (16, 2 ** 40))))
        unread.append(dealer)
    wait_until("the replays are open", lambda: journal_counters(lab, journal)["sessions_opened"] >= UNREAD_CONNECTIONS + 1, 10)
    for _ in range(3):      # readers get all of it beside them
        got = len(lab.ok(*read))
        check(got == want, f"{got} bytes of {want}")
    held_back = journal_counters(lab, journal)["replays_held_back"]
    grown = journal.memory_peak_bytes() - peak
    check(grown <= UNREAD_BYTES + UNREAD_SLACK, f"its memory grew by {grown >> 20} MiB")
    check(held_back > 0, "no replay was held back: nothing is tested")
    context.destroy()
    check(journal.terminate() == 0, "the journal does not end well")
    lab.tell(f"{UNREAD_CONNECTIONS} replays of {UNREAD_LOG_BYTES >> 20} MiB with all credit that are never read: its memory grew by {grown >> 20} MiB, "
             f"held back {held_back} times")


def zmtp(address, socket_type):
    """A connection that speaks ZMTP by hand."""
    raw = socket.create_connection(host_port(address), timeout=5)
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(socket_type)) + socket_type
    raw.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + b"\x00" + bytes(31) + b"\x04" + bytes([len(ready)]) + ready)
    got = b""
    while len(got) < 64 + 2 + 6:        # its greeting, and the beginning of its READY
        got += raw.recv(4096)
    return raw


def pour(raw, data, seconds):
    """As much as goes; returns the bytes."""
    raw.setblocking(False)
    until, sent = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        try:
            sent += raw.send(data)
        except BlockingIOError:
            pass
        except OSError:
            break
    return sent


def connections_that_ping_and_break_while_their_queue_is_full_abort_nobody(lab):
    """libzmq 4.3.4 aborts the process then, wherever a queue has a bound."""
    journal = lab.journal()
    pub = lab.start("publisher", [tool("flow_publisher"), "--seed", journal.address, "--count", "1000", "--bind", "tcp://127.0.0.1:*"])
    address = fields(pub.line("^READY", 5))["address"]
    members = map(json.loads, lab.ok("nodes", "--wait", "2", "--json", "--seed", journal.address).splitlines())
    live = next(node["live"] for node in members if node["control"] == address)
    ping = b"\x04\x07\x04PING\x00\x00"
    for what, kind, message in ((journal.address, b"DEALER", b"\x00\x00"), (address, b"DEALER", b"\x00\x01x"), (live, b"SUB", b"\x00\x02\x01x")):
        for i in range(15):
            raw = zmtp(what, kind)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))    # it ends by a reset
            check(pour(raw, (message * 200 + ping) * 400, 0.003 * (i + 1)) > 0, f"{what} takes nothing")
            raw.close()
    check(journal.alive() and pub.alive(), "a stranger ended it")
    pub.send("go")
    pub.line("^SYNCED", 30)
    pub.close_input()
    pub.ends_well()
    check(journal.terminate() == 0, "the journal does not end well")


def a_flood_is_dropped_unread_and_costs_bounded_memory(lab):
    journal = lab.journal()
    lab.ok("pub", "good.facts", "--seed", journal.address, stdin=b"".join(b"fact %d\n" % i for i in range(1000)))
    read = ["sub", "good.>", "--seed", journal.address, "--from", "start", "--until", "end"]
    peak = journal.memory_peak_bytes()
    sent = 0
    for message in (b"\x00\x00", b"\x02" + struct.pack(">Q", 1000) + bytes(1000)):
        raw = zmtp(journal.address, b"DEALER")
        sent += pour(raw, message * (262144 // len(message)), 2)
        check(lab.ok(*read).count(b"\n") == 1000, "a reader beside it misses facts")
        raw.close()
    wait_until("what came is read", lambda: journal_counters(lab, journal)["control_shed"] > 0, 20)
    grown = journal.memory_peak_bytes() - peak
    check(grown <= FLOOD_BYTES, f"its memory grew by {grown >> 20} MiB")
    check("CONTROL-FLOOD" in journal.err(), f"it does not say so: {journal.err()[-300:]}")
    shed = journal_counters(lab, journal)["control_shed"]
    check(journal.terminate() == 0, "the journal does not end well")
    lab.tell(f"{sent >> 20} MiB poured over a journal: {shed} messages dropped unread, its memory grew by {grown >> 20} MiB")


main(lies_from_a_member_cost_the_others_nothing, acknowledgements_from_the_future_let_nothing_go,
     a_thousand_connections_and_sessions_without_credit_leave_room_for_others,
     connections_that_take_every_descriptor_hold_recording_up_no_longer_than_they_last, replays_that_are_never_read_cost_bounded_memory,
     connections_that_ping_and_break_while_their_queue_is_full_abort_nobody, a_flood_is_dropped_unread_and_costs_bounded_memory)
