#!/usr/bin/python3
"""proto/SPEC.md is enough: a node in Python, written from it alone (spec_node.py), meets factmesh's own."""
import json
import os
import sys
import time

from google.protobuf.message import DecodeError

from harness import FACTMESH, PATIENCE, ROOT, Failed, Skipped, check, main

try:
    import zmq
    from spec_node import Node, Stream, pb
except ImportError as missing:
    sys.exit(f"test_spec needs python3-zmq and python3-protobuf: {missing}")

PAYLOAD = '"payload'     # in a line of JSON: a fact, not an event
GOLDEN = os.path.join(ROOT, "tests", "golden", "wire")


def turn_until(what, condition, *nodes, limit_s=20):
    """Let the Python nodes work until condition () is true."""
    end = time.monotonic() + limit_s * PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {limit_s * PATIENCE:g} s")
        for node in nodes:
            node.turn(5 if len(nodes) == 1 else 1)


def join(lab, journal):
    node = Node(journal.address)
    turn_until("the journal answers our Hello", node.journal, node)
    return node


def publish_some(node, stream, random, count):
    """Batches of one and of several topics, with and without keys, and one fact too large for a live frame. Returns what was published."""
    topics = [b"orders.placed", b"orders.paid", b"orders", b"stock.eu.berlin", b"stock.eu.rome"]
    said = []
    for number in range(count):
        facts = []
        for _ in range(random.choice((1, 1, 2, 5))):
            topic = random.choice(topics)
            payload = b"%d of batch %d" % (len(said) + len(facts), number) + b"." * random.randrange(60)
            facts.append((topic, payload, random.choice((b"", b"k%d" % random.randrange(9)))))
        if number == count // 2:
            facts = [(topics[0], b"large " + b"x" * 100_000, b"k")]
        node.publish(stream, facts)
        said += facts
        node.turn(0)
    return said


def check_same(what, got, said):
    for i, (a, b) in enumerate(zip(got, said)):
        check(a == b, f"{what}: number {i}: {str(a)[:150]} instead of {str(b)[:150]}")
    check(len(got) == len(said), f"{what}: {len(got)} facts instead of {len(said)}")


def replayed(node, *patterns):
    """What a replay from the start brings, once it has ended."""
    node.subscribe(patterns, from_start=True)
    node.replay_from_start()
    turn_until("the replay ends", lambda: not node.subscription.replaying, node)
    return [(d.topic, d.payload, d.key) for d in node.subscription.delivered]


def a_stranger_is_recorded_and_replays_every_byte(lab):
    journal = lab.journal()
    node = join(lab, journal)
    stream = Stream(b"default")
    node.streams.append(stream)
    said = publish_some(node, stream, lab.random, 300)
    turn_until("the journal says that all is synced", lambda: stream.synced == len(said), node)

    check_same("replayed", replayed(node, ">"), said)
    streams = {d.stream for d in node.subscription.delivered}
    check(streams == {stream.id}, f"streams {streams}")
    check([d.seq for d in node.subscription.delivered] == list(range(1, len(said) + 1)), "the sequences are not 1, 2, 3 …")
    for pattern, wanted in (("orders.>", lambda t: t.startswith(b"orders.")), ("stock.*.rome", lambda t: t == b"stock.eu.rome"),
                            ("orders", lambda t: t == b"orders")):
        check_same(f"replayed {pattern}", replayed(node, pattern), [fact for fact in said if wanted(fact[0])])

    out = lab.ok("sub", ">", "--seed", journal.address, "--from", "start", "--until", "end")
    check_same("factmesh sub", out.split(b"\n")[:-1], [payload for _, payload, _ in said])
    node.close()
    check(journal.terminate() == 0, "the journal does not end well")
    lab.ok("verify", lab.path("journal"))
    lab.tell(f"{len(said)} facts in {node.batches} batches; repairs served: {len(node.served)}")


def holes_that_a_stranger_leaves_are_asked_for(lab):
    journal = lab.journal()
    node = join(lab, journal)
    stream = Stream(b"default")
    node.streams.append(stream)
    node.drop = set(range(5, 300, 7)) | {299}          # the last one, too: only a head notice tells of it
    said = publish_some(node, stream, lab.random, 300)
    turn_until("the journal has what it missed", lambda: stream.synced == len(said), node)
    check(any(asked.stream == stream.id and asked.from_seq >= 1 for asked in node.served), "it never asked")
    check_same("replayed", replayed(node, ">"), said)
    node.close()
    lab.tell(f"{len(node.drop)} of 300 batches were not sent; {len(node.served)} questions brought them")


def publishes_that_come_twice_or_again_are_recorded_once(lab):
    """Every frame is sent twice, at the end all of them once more; a live subscriber and the journal have each fact once."""
    journal = lab.journal()
    node = join(lab, journal)
    stream = Stream(b"default")
    node.streams.append(stream)
    sub = lab.start("sub", [FACTMESH, "sub", ">", "--seed", journal.address, "--from", "start", "--format", "%s\\n"])
    turn_until("the subscriber is there", lambda: node.fences >= 2, node)       # its own, and the journal's
    frames = []

    def publish_twice(stream, facts):
        frames.append(stream.make_batch(facts))
        node.live.send(frames[-1])
        node.live.send(frames[-1])
    node.publish = publish_twice
    said = publish_some(node, stream, lab.random, 300)
    turn_until("the journal has it", lambda: stream.synced == len(said), node)
    for frame in frames + frames[::-1]:
        node.live.send(frame)
        node.turn(0)
    said += publish_some(node, stream, lab.random, 1)                           # behind all that came again
    turn_until("the journal has the last one", lambda: stream.synced == len(said), node)
    wanted = [str(seq) for seq in range(1, len(said) + 1)]
    turn_until("the subscriber has the last one", lambda: sub.out().split()[-1:] == wanted[-1:], node)
    check(sub.out().split() == wanted, "the subscriber has a fact twice, or one is missing")
    check_same("replayed", replayed(node, ">"), said)
    node.close()
    lab.tell(f"{len(frames)} batches were sent twice and then twice again: {len(said)} facts, each once")


def a_stranger_reads_the_past_and_slides_onto_live(lab):
    """The past is one epoch of a stream, the present the next one."""
    journal = lab.journal()
    lines = [f"line {i}" for i in range(2000)]
    pub = ["pub", "orders.placed", "--seed", journal.address, "--identity", lab.path("identity")]
    lab.ok(*pub, stdin="".join(line + "\n" for line in lines[:1000]).encode())
    node = join(lab, journal)
    node.subscribe(["orders.>"], from_start=True)
    node.replay_from_start()
    present = lab.start("pub", [FACTMESH, *pub])
    for line in lines[1000:1500]:           # before, while and after the node finds the publisher
        present.send(line)
    turn_until("the publisher's fence", lambda: len(node.members) == 2 and node.fenced(), node)
    for line in lines[1500:]:
        present.send(line)
        node.turn(0)
    turn_until("all that was said", lambda: len(node.subscription.delivered) >= 2000, node)
    got = node.subscription.delivered
    check_same("delivered", [d.payload.decode() for d in got], lines)
    check(len({d.stream for d in got}) == 1, "two streams under one identity")
    check(all(a.seq < b.seq for a, b in zip(got, got[1:])), "the sequences do not rise")
    check({s.epoch for s in node.subscription.streams.values()} == {2}, "the present is not the second epoch")
    past = sum(d.replayed for d in got)
    check(1000 <= past < 2000, f"{past} of 2000 were replayed: of past and present one was not seen")
    check(not [gap for gap in node.subscription.gaps if gap[3] != pb.GAP_VOID], f"gaps: {node.subscription.gaps}")
    present.close_input()
    present.ends_well()
    lab.tell(f"{past} replayed or repaired, {2000 - past} live, {node.subscription.holes} holes")
    node.close()


def from_a_fence_on_nothing_is_missing(lab):
    """Two Python nodes and factmesh sub: who publishes sees the fences, and what it says behind them reaches both."""
    journal = lab.journal()
    publisher, subscriber = join(lab, journal), join(lab, journal)
    stream = Stream(b"default")
    publisher.streams.append(stream)
    publish_some(publisher, stream, lab.random, 50)
    before = stream.next_seq - 1
    # Then the journal listens, and its fence is not taken for another's.
    turn_until("the journal has the first facts", lambda: stream.synced == before, publisher, subscriber)
    subscriber.subscribe(["orders.>", "stock.*.rome"])
    turn_until("the Python subscriber's fences", lambda: len(subscriber.members) == 2 and subscriber.fenced(), publisher, subscriber)
    fences = publisher.fences
    sub = lab.start("sub", [FACTMESH, "sub", ">", "--seed", journal.address, "--json"])
    turn_until("the fence of factmesh sub", lambda: publisher.fences > fences, publisher, subscriber)

    said = publish_some(publisher, stream, lab.random, 100)
    wanted = [f for f in said if f[0].startswith(b"orders.") or f[0] == b"stock.eu.rome"]
    turn_until("the Python subscriber has them", lambda: len(subscriber.subscription.delivered) >= len(wanted), publisher, subscriber)
    got = subscriber.subscription.delivered
    check_same("the Python subscriber", [(d.topic, d.payload, d.key) for d in got], wanted)
    check(all(d.seq > before for d in got), "it got what was said before its fence")
    check(subscriber.subscription.from_publisher > 0, "the large fact did not come from its publisher")

    turn_until("factmesh sub has them", lambda: len(sub.lines(PAYLOAD)) >= len(said), publisher, subscriber)
    facts = [json.loads(line) for line in sub.lines(PAYLOAD)]
    check_same("factmesh sub", [(f["topic"], f["payload"], f.get("key", "")) for f in facts],
               [tuple(text.decode() for text in fact) for fact in said])
    lab.tell(f"{len(wanted)} of {len(said)} facts to Python, {len(facts)} to factmesh sub")
    publisher.close()
    subscriber.close()


def a_stranger_of_another_mesh_or_version_is_told_so(lab):
    journal = lab.journal()
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(journal.address)
    hello = pb.Hello(info=pb.NodeInfo(node=os.urandom(16), control=["tcp://127.0.0.1:1"]))
    for mesh, major, code in ((b"other", 1, pb.ERROR_MESH), (b"default", 2, pb.ERROR_VERSION), (b"", 1, pb.ERROR_MALFORMED)):
        dealer.send(pb.Control(major=major, mesh=mesh, request=7, hello=hello).SerializeToString())
        check(dealer.poll(5000 * PATIENCE), f"mesh {mesh}, major {major}: no answer")
        error = pb.Control.FromString(dealer.recv()).error
        check(error.code == code and error.text, f"mesh {mesh}, major {major}: {error}")
        lab.tell(error.text.decode())
    context.destroy(0)


def protobuf_itself_reads_the_golden_files(lab):
    for name in sorted(os.listdir(GOLDEN)):
        if not name.endswith(".bin"):
            continue
        with open(os.path.join(GOLDEN, name), "rb") as file:
            data = file.read()
        kind = name.split("_")[0].removesuffix(".bin")
        body = {"frame": lambda: data.partition(b"\0")[2], "control": lambda: data, "beacon": lambda: data[4:],
                "notice": lambda: data[11:] if data[1:2] == b"F" else data[3:]}[kind]()
        message = {"frame": pb.Batch, "control": pb.Control, "beacon": pb.Beacon,
                   "notice": {b"H": pb.HeadNotice, b"F": pb.FenceAnswer, b"W": pb.Watermark}.get(data[1:2])}[kind]()
        try:
            message.ParseFromString(body)
        except DecodeError as why:
            raise Failed(f"{name}: {why}") from None
        again = message.SerializeToString(deterministic=True)
        if kind == "frame":             # SPEC.md 5: facts come last
            facts = pb.Batch(facts=message.facts)
            message.ClearField("facts")
            again = message.SerializeToString() + facts.SerializeToString()
        check(again == body, f"{name}: protobuf writes {len(again)} other bytes for {len(body)}")


main(protobuf_itself_reads_the_golden_files, a_stranger_of_another_mesh_or_version_is_told_so, a_stranger_is_recorded_and_replays_every_byte,
     holes_that_a_stranger_leaves_are_asked_for, publishes_that_come_twice_or_again_are_recorded_once, a_stranger_reads_the_past_and_slides_onto_live, from_a_fence_on_nothing_is_missing)
