#!/usr/bin/python3
"""Every bad input gives one clear line and a status that is not 0, or is refused and counted; recorded facts are unharmed."""
import json
import os
import random
import shutil
import socket
import subprocess

import zmq

import wire
from harness import FACTMESH, check, free_port, main, tool, wait_until
from stranger import Stranger, control_frames, random_frames, wait_answer

FACTS = [f"fact {i}" for i in range(100)]


def record_some(lab, journal, topic="good.facts"):
    lab.ok("pub", topic, "--seed", journal.address, stdin="".join(f + "\n" for f in FACTS).encode())


def check_recorded(lab, journal, times=1, topic="good.>"):
    out = lab.ok("sub", topic, "--seed", journal.address, "--from", "start", "--until", "end").decode()
    check(out == times * "".join(f + "\n" for f in FACTS), f"what was recorded has changed: {len(out.splitlines())} lines: {out[:200]!r}")


def refused(lab, what, argv, words, stdin=b"", statuses=(1, 2, 3), limit_s=10):
    """Run factmesh; it must end with one of the statuses and one line that has the words. A usage error may add where to read more."""
    result = lab.factmesh(*argv, stdin=stdin, limit_s=limit_s)
    lines = result.err.splitlines()
    check(result.status in statuses, f"{what}: status {result.status}, not one of {statuses}: {result.err[:300]!r}")
    if len(lines) == 2 and lines[1].startswith("Try 'factmesh"):
        lines.pop()
    check(len(lines) == 1, f"{what}: {len(lines)} lines instead of one: {result.err[:500]!r}")
    for word in words:
        check(word in lines[0], f"{what}: the line does not say {word!r}: {lines[0]!r}")
    return lines[0]


def wrong_addresses_are_refused_by_name(lab):
    nobody = f"tcp://127.0.0.1:{free_port()}"
    for address in ("nonsense", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "tcp://127.0.0.1:x", "udp://127.0.0.1:1"):
        refused(lab, f"seed {address}", ["pub", "a", "x", "--seed", address, "--timeout", "2s"], [address])
        refused(lab, f"bind {address}", ["journal", lab.path("j"), "--bind", address], [address])
    for command in (["pub", "a", "x"], ["sub", "a", "--from", "start"], ["nodes", "--wait", "2"], ["status"]):
        refused(lab, f"{command[0]}: unreachable seed", [*command, "--seed", nobody, "--timeout", "1s"], [nobody])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        refused(lab, "address in use", ["journal", lab.path("j"), "--bind", address], [address])


def malformed_topics_and_payloads_are_refused_and_nothing_is_sent(lab):
    journal = lab.journal()
    record_some(lab, journal)
    bad = {"empty": "", "empty level": "a..b", "dot first": ".a", "dot last": "a.", "too long": "t" * 246, "17 levels": ".".join("a" * 17),
           "control byte": "a.\nb", "star": "a.*", "rest": "a.>"}
    for what, topic in bad.items():
        refused(lab, f"topic: {what}", ["pub", topic, "text", "--seed", journal.address], ["topic"])
    refused(lab, "topic: byte FF", ["pub", b"a.\xff", "text", "--seed", journal.address], ["topic"])
    for pattern in ("", "a..b", "a.>.b", "t" * 246):
        refused(lab, f"pattern {pattern[:10]}", ["sub", pattern, "--seed", journal.address], ["pattern"])
    lab.ok("pub", "t" * 245, "as long as may be", "--seed", journal.address)
    lab.ok("pub", ".".join("a" * 16), "as deep as may be", "--seed", journal.address)
    line = refused(lab, "payload", ["pub", "good.large", "--whole", "--seed", journal.address], ["limit"], stdin=bytes((1 << 20) + 1), limit_s=20)
    lab.tell(f"over the limit: {line}")
    check_recorded(lab, journal)
    journal.terminate()
    lab.ok("verify", lab.path("journal"))


def directories_that_are_not_ours_are_refused_and_left_alone(lab):
    journal = lab.journal()
    record_some(lab, journal)
    directory = lab.path("journal")
    said = [refused(lab, "in use", ["journal", directory, "--bind", "tcp://127.0.0.1:*"], [directory])]
    check_recorded(lab, journal)
    check(journal.terminate() == 0, "the journal does not end well")

    said.append(refused(lab, "another mesh", ["journal", directory, "--mesh", "other", "--bind", "tcp://127.0.0.1:*"], [directory, "other"]))
    os.mkdir(lab.path("foreign"))
    with open(lab.path("foreign", "letters.txt"), "w") as file:
        file.write("mine\n")
    said.append(refused(lab, "foreign", ["journal", lab.path("foreign"), "--bind", "tcp://127.0.0.1:*"], [lab.path("foreign")]))
    check(os.listdir(lab.path("foreign")) == ["letters.txt"], f"it left something behind: {os.listdir(lab.path('foreign'))}")
    # For root every directory is writable, but none lies below a file.
    below = lab.path("foreign", "letters.txt", "journal")
    said.append(refused(lab, "not writable", ["journal", below, "--bind", "tcp://127.0.0.1:*"], [below]))

    newer = lab.path("newer")
    shutil.copytree(directory, newer)
    check(lab.run(tool("cookie_newer"), os.path.join(newer, "journal.cookie")).status == 0, "the cookie cannot be changed")
    said.append(refused(lab, "newer", ["journal", newer, "--bind", "tcp://127.0.0.1:*"], [newer, "newer"]))
    for command in ("verify", "inspect", "dump"):
        said.append(refused(lab, f"{command} of what is no journal", [command, lab.path("foreign")], [lab.path("foreign")], statuses=(1, 2, 5)))
        refused(lab, f"{command} of nothing", [command, lab.path("nothing")], [lab.path("nothing")], statuses=(1, 2, 5))
    lab.tell("said: " + " | ".join(said).replace(lab.dir, ""))
    lab.ok("verify", directory)
    journal = lab.journal()
    check_recorded(lab, journal)


def an_identity_in_use_is_refused(lab):
    journal = lab.journal()
    identity = lab.path("identity")
    first = lab.start("pub", [FACTMESH, "pub", "good.slow", "--seed", journal.address, "--identity", identity])
    first.send("one")
    wait_until("the first fact is recorded",
               lambda: lab.ok("sub", "good.slow", "--seed", journal.address, "--from", "start", "--until", "end") == b"one\n", 10)
    refused(lab, "identity in use", ["pub", "good.slow", "x", "--seed", journal.address, "--identity", identity], [identity])
    first.send("two")
    first.close_input()
    first.ends_well()
    lab.ok("pub", "good.slow", "three", "--seed", journal.address, "--identity", identity)
    out = lab.ok("sub", "good.slow", "--seed", journal.address, "--from", "start", "--until", "end")
    check(out == b"one\ntwo\nthree\n", f"recorded: {out!r}")
    os.mkdir(lab.path("foreign"))
    with open(lab.path("foreign", "letters.txt"), "w") as file:
        file.write("mine\n")
    refused(lab, "no file", ["pub", "a", "--file", lab.path("nothing"), "--seed", journal.address], [lab.path("nothing")])
    refused(lab, "identity below a file", ["pub", "a", "x", "--identity", lab.path("foreign", "letters.txt", "i"), "--seed", journal.address],
            [lab.path("foreign", "letters.txt")])


def noise_on_the_control_endpoint_harms_nothing(lab):
    rng = random.Random(lab.seed)
    journal = lab.journal()
    record_some(lab, journal)
    context = zmq.Context()
    context.linger = 0
    frames = list(random_frames(rng, list(control_frames())))
    dealer = context.socket(zmq.DEALER)
    dealer.sndhwm = 0
    dealer.connect(journal.address)
    for frame in frames:
        dealer.send(frame)
    dealer.send_multipart([b"", b"two", b"frames"])
    # Frames of one connection are handled in order: once this is answered all before it were.
    wait_answer(dealer, 123456789, "the journal")
    # Not ZeroMQ at all.
    host, port = journal.address[len("tcp://"):].split(":")
    for _ in range(5):
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(rng.randbytes(500))
    context.destroy()
    check(journal.alive(), "the journal died")
    record_some(lab, journal)
    check_recorded(lab, journal, times=2)
    check(journal.terminate() == 0, "the journal does not end well")
    lab.ok("verify", lab.path("journal"))
    lab.tell(f"seed {lab.seed}: {len(frames)} frames of noise on the ROUTER; the journal answers, records and is whole")


def noise_on_the_live_path_harms_nothing(lab):
    rng = random.Random(lab.seed)
    journal = lab.journal()
    record_some(lab, journal)
    context = zmq.Context()
    context.linger = 0
    stranger = Stranger(context, journal.address)
    stranger.wait_subscribed()
    s = stranger.stream
    lies = [
        wire.frame(b"good.lie", wire.batch(s, 0, b"good.lie", [b"sequence 0"])),
        wire.frame(b"good.lie", wire.batch(s, 2 ** 64 - 1, b"good.lie", [b"the", b"end", b"of", b"numbers"])),
        wire.frame(b"good.lie", wire.batch(s, 1, b"good.lie", [b"x"], count=65535)),
        wire.frame(b"good.lie", wire.batch(s, 1, b"good.lie", [b"x"], mesh=b"other")),
        wire.frame(b"good.lie", wire.batch(s, 1, b"good.lie", [b"x"], major=9)),
        wire.frame(b"good.lie", wire.batch(s[:7], 1, b"good.lie", [b"a short stream id"])),
        wire.frame(b"good.lie", wire.batch(s, 1, b"other.topic", [b"frame and batch differ"])),
        wire.frame(b"good..lie", wire.batch(s, 1, b"good..lie", [b"x"])),
        b".good.lie.",
        b"\xffH\0" + rng.randbytes(40),
        b"\xffW\0" + rng.randbytes(40),
        b"\xffF12345678\0" + rng.randbytes(40),
    ]
    good = wire.frame(b"noise.a", wire.batch(wire.new_id(), 1, b"noise.a", [b"x", b"y", b""]))
    frames = lies + list(random_frames(rng, [good]))
    for frame in frames:
        stranger.xpub.send(frame)
    # What a SUB would never send: subscriptions that are none.
    xsub = context.socket(zmq.XSUB)
    xsub.sndhwm = 0
    xsub.connect(live_address(lab, journal))
    for junk in (b"\x01", b"\x01" + b"a" * 5000, b"\x00never subscribed", b"\x02?", b"", b"\x01\xffF" + bytes(300), b"\x01\xff" * 9):
        xsub.send(junk)
    # Behind the noise an honest fact of another stream: when it is recorded all before it was handled.
    honest = Stranger(context, journal.address)
    honest.wait_subscribed()
    stranger.xpub.send(wire.frame(b"honest.fact", wire.batch(wire.new_id(), 1, b"honest.fact", [b"I am"])))

    def recorded():
        stranger.alive()
        honest.alive()
        return lab.ok("sub", "honest.>", "--seed", journal.address, "--from", "start", "--until", "end") == b"I am\n"
    wait_until("the honest fact is recorded", recorded, 15, journal)
    context.destroy()
    record_some(lab, journal)
    check_recorded(lab, journal, times=2)
    check(journal.terminate() == 0, "the journal does not end well")
    lab.ok("verify", lab.path("journal"))
    lab.tell(f"seed {lab.seed}: {len(frames)} frames of lies and noise on the live path; the journal is whole, and holds none of the lies")


def live_address(lab, journal):
    for line in lab.ok("nodes", "--json", "--seed", journal.address, "--wait", "1").decode().splitlines():
        node = json.loads(line)
        if node.get("control") == journal.address:
            return node["live"]
    raise AssertionError("the journal is not among the nodes")


def a_node_of_another_mesh_is_not_let_in(lab):
    journal = lab.journal()
    record_some(lab, journal)
    line = refused(lab, "another mesh", ["pub", "good.intruder", "x", "--seed", journal.address, "--mesh", "other", "--timeout", "2s"],
                   [journal.address])
    check("mesh" in line, f"the line does not say why: {line}")
    check_recorded(lab, journal)
    lab.tell(f"said: {line}")


def any_bytes_pass_unchanged(lab):
    journal = lab.journal()
    payloads = {"empty": b"", "every byte": bytes(range(256)), "newlines": b"\n\r\n\0\n", "not UTF-8": b"\xff\xfe\x80", "a frame long": os.urandom(65536),
                "larger than a live frame": os.urandom(900_000)}
    for i, (what, payload) in enumerate(payloads.items()):
        # One subscriber is there already, the other asks the journal later.
        live = lab.start("sub", [FACTMESH, "sub", f"bytes.p{i}", "--seed", journal.address, "--from", "start", "--count", "1", "--raw"],
                         stdin=subprocess.DEVNULL)
        lab.ok("pub", f"bytes.p{i}", "--whole", "--key", "a key", "--seed", journal.address, stdin=payload)
        live.ends_well()
        with open(live.out_path, "rb") as file:
            check(file.read() == payload, f"{what}: changed on the way to the subscriber")
        late = lab.ok("sub", f"bytes.p{i}", "--seed", journal.address, "--from", "start", "--until", "end", "--raw")
        check(late == payload, f"{what}: changed in the journal")
    lab.tell(f"unchanged: {', '.join(payloads)}")


main(wrong_addresses_are_refused_by_name, malformed_topics_and_payloads_are_refused_and_nothing_is_sent,
     directories_that_are_not_ours_are_refused_and_left_alone, an_identity_in_use_is_refused,
     noise_on_the_control_endpoint_harms_nothing, noise_on_the_live_path_harms_nothing, a_node_of_another_mesh_is_not_let_in,
     any_bytes_pass_unchanged)
