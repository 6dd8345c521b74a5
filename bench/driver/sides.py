"""One measurement of one side: factmesh, raw libzmq, Redis Streams, NATS JetStream. Each ends with a check of every byte.

The programs check what they receive; `check_recorded` then reads the whole journal back.
"""
import os, time

from process import BENCH, TMP, Journal, Process, directory, free_port, ready_path, remove, wait_port, wait_ready

LONE_PER_S = 10000
node_peak = [0]         # of a process with one subscription, for B11


def taken(process, limit_s=120):
    """The answer of an fm_sub."""
    answer = process.answer(limit_s)
    node_peak[0] = max(node_peak[0], answer["peak_bytes"])
    return answer


def publisher(journal, count=0, members=2, **more):
    options = [x for name, value in more.items() for x in (f"--{name}", value)]
    return Process(f"{BENCH}/fm_pub", "--seed", journal.address, "--count", count, "--members", members, *options)


def subscriber(journal, count, **more):
    options = [x for name, value in more.items() for x in (f"--{name}", value)]
    return Process(f"{BENCH}/fm_sub", "--seed", journal.address, "--count", count, *options)


def check_recorded(journal, count, streams=1, **more):
    """Read everything back from the journal and compare it with what was published."""
    options = {"from": "start", "streams": streams, **more}
    return taken(subscriber(journal, count, **options))


def begin_together(go):
    """Publishers that wait for this file begin at the time in it."""
    with open(f"{go}.part", "w") as file:
        file.write(str(time.clock_gettime_ns(time.CLOCK_MONOTONIC) + 10_000_000))
    os.rename(f"{go}.part", go)


def fm_flow(count, size=100, topics=1, rate=0, latency=0, publishers=1, subscribers=1):
    """count facts from each publisher, one journal, live subscribers that read every field; facts/s until all are synced."""
    where = directory("flow")
    with Journal(where) as journal:
        ready = [ready_path() for _ in range(subscribers)]
        subs = [subscriber(journal, count * publishers, latency=latency, streams=publishers, ready=path) for path in ready]
        wait_ready(subs, ready)
        # Lone facts: its own wake-up shall not count. Under load it would take a core from the others by waiting awake.
        spin = int(rate <= LONE_PER_S)
        starts, go = [ready_path() for _ in range(publishers)], ready_path()
        pubs = [publisher(journal, count, 1 + subscribers + publishers, size=size, topics=topics, rate=rate, spin=spin, ready=path, go=go) for path in starts]
        wait_ready(pubs, starts)
        begin_together(go)
        cpu_s = journal.cpu_s()
        took = [p.answer() for p in pubs]
        got = [taken(s) for s in subs]
        cpu_s = journal.cpu_s() - cpu_s
        check_recorded(journal, count * publishers, publishers)
    remove(where)
    start = min(t["start_ns"] for t in took)
    synced = max(t["start_ns"] + t["synced_s"] * 1e9 for t in took)
    delivered = max(g["end_ns"] for g in got)
    return {"facts_per_s": count * publishers / (synced - start) * 1e9, "sub": got[0], "pub": took[0],
            "journal_cpu_ns_per_fact": cpu_s * 1e9 / (count * publishers),
            "delivered_per_s": count * publishers * subscribers / (delivered - start) * 1e9}


def fm_each(journal, count, seconds=0):
    """Publish and wait until synced, one at a time, for so many seconds at most; the answer's `facts` were published."""
    return publisher(journal, count, each=1, prefix="each", **{"for": seconds}).answer()


def zmq_flow(count, size=100, subs=2, rate=0, latency=0):
    address, done = f"tcp://127.0.0.1:{free_port()}", f"tcp://127.0.0.1:{free_port()}"
    common = ["--address", address, "--done", done, "--count", count, "--latency", latency]
    receivers = [Process(f"{BENCH}/zmq_flow", "--role", "sub", *common) for _ in range(subs)]
    took = Process(f"{BENCH}/zmq_flow", "--role", "pub", "--subs", subs, "--size", size, "--rate", rate, *common).answer()
    took["sub"] = [r.answer() for r in receivers][0]
    return took


def zmq_load(subs, size=100):
    """Receivers that take what one publisher can send, until they are told to end: a processor load. The publisher is the first."""
    common = ["--address", f"tcp://127.0.0.1:{free_port()}", "--done", f"tcp://127.0.0.1:{free_port()}", "--endless", 1, "--queue", 1000]
    receivers = [Process(f"{BENCH}/zmq_flow", "--role", "sub", *common) for _ in range(subs)]
    return [Process(f"{BENCH}/zmq_flow", "--role", "pub", "--subs", subs, "--size", size, *common), *receivers]


def rtt_sync(count):
    """A raw round trip and an fdatasync, one at a time: the floor under fm_each."""
    return Process(f"{BENCH}/rtt_sync", "--count", count, "--file", f"{TMP}/rtt_sync", "--address", f"tcp://127.0.0.1:{free_port()}").answer()


def zmq_ping(count):
    """A raw ping-pong over two PUB/SUB pairs, one at a time."""
    return Process(f"{BENCH}/zmq_ping", "--count", count, "--ping", f"tcp://127.0.0.1:{free_port()}", "--pong", f"tcp://127.0.0.1:{free_port()}").answer()


def fm_requests(journal, count):
    """Requests to a live responder, one at a time; all is synced at the end."""
    return Process(f"{BENCH}/fm_request", "--seed", journal.address, "--count", count).answer()


def peer_flow(program, server, port, count, size):
    try:
        wait_port(server, port)
        wrote = Process(f"{BENCH}/{program}", "--role", "pub", "--port", port, "--count", count, "--size", size).answer()
        read = Process(f"{BENCH}/{program}", "--role", "sub", "--port", port, "--count", count).answer()
        return {"write": wrote["messages_per_s"], "read": read["messages_per_s"]}
    finally:
        server.end()


def redis(count, sync, size=100):
    """As redis.io advises for throughput: pipelines on several connections; no snapshots beside the append-only file."""
    port, where = free_port(), directory("redis")
    os.makedirs(where)
    server = Process("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", os.path.abspath(where), "--save", "", "--appendonly", "yes",
                     "--appendfsync", sync)
    try:
        return peer_flow("redis_flow", server, port, count, size)
    finally:
        remove(where)


def nats(count, size=100):
    """Asynchronous publishing with many in flight, a file store, an ordered consumer: docs.nats.io."""
    port, where = free_port(), directory("nats")
    server = Process("nats-server", "-js", "-a", "127.0.0.1", "-p", port, "-sd", os.path.abspath(where))
    try:
        return peer_flow("nats_flow", server, port, count, size)
    finally:
        remove(where)
