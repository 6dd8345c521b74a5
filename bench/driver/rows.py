"""The rows of the table: what is measured, against what, and how far it is to reach. README.md explains each.

Rounds are interleaved: each side once, then again; ratios are taken pair by pair, since a shared machine drifts.
"""
import os, shutil, statistics, sys, time

import sides
from process import BENCH, OUT, Failed, Journal, Process, directory, end_all, ready_path, remove, wait_ready
from sides import check_recorded, fm_each, fm_flow, publisher, subscriber, taken, zmq_flow

MIB = 1 << 20
median = statistics.median


class Size:
    """How much is measured."""
    quick = False
    rounds = 3


def sized(full, quick):
    return quick if Size.quick else full


def rounds(n=None):
    for i in range(n or Size.rounds):
        print(f"  round {i + 1} of {n or Size.rounds}", file=sys.stderr, flush=True)
        yield i


class Row:
    """One figure, and what it is to reach: conditions, each a factor over a peer, or a fixed value."""

    def __init__(self, id, what, unit, rule, less=False):
        self.id, self.what, self.unit, self.rule, self.less = id, what, unit, rule, less
        self.values, self.conditions, self.peers, self.also, self.more = [], [], {}, [], {}

    def add(self, value):
        self.values.append(value)

    def value(self):
        return median(self.values)

    def against(self, name, factor, peers, label=None):
        """To be `factor` times the peer, which was measured beside each of our values (a list), or once (a number)."""
        paired = isinstance(peers, list)
        ratio = median(v / p for v, p in zip(self.values, peers)) if paired else self.value() / peers
        self.peers[label or name] = median(peers) if paired else peers
        self.conditions.append((self.value() * factor / ratio, f"{ratio:.2f} of {factor:g} x {name}", ratio <= factor if self.less else ratio >= factor))

    def fixed(self, reach, text=None):
        self.conditions.append((reach, text, self.value() <= reach if self.less else self.value() >= reach))

    def reach(self):
        return (min if self.less else max)(c[0] for c in self.conditions) if self.conditions else None

    def ok(self):
        return all(c[2] for c in self.conditions) and all(a.ok() for a in self.also)

    def result(self):
        result = {"id": self.id, "what": self.what, "unit": self.unit, "is": self.value(), "reach": self.reach(), "ok": self.ok(),
                  "min": min(self.values), "max": max(self.values), "peers": self.peers, "better": "less" if self.less else "more", "rule": self.rule,
                  "note": ", ".join(c[1] for c in self.conditions if c[1]), "also": [a.result() for a in self.also], **self.more}
        return result


once = {}


def remembering_peers():
    """Redis and NATS once a run: they are slow, and far enough away for one look."""
    if not once.get("peers"):
        print("  Redis Streams, NATS JetStream", file=sys.stderr, flush=True)
        count = sized(1_000_000, 200_000)
        once["peers"] = {"redis everysec": sides.redis(count, "everysec"), "redis always": sides.redis(sized(1_000_000, 50_000), "always"),
                         "nats": sides.nats(count)}
    return once["peers"]


def recorded(topics=1, run=1):
    """A journal's directory with facts over so many topics (fact n has topic n / run modulo their number), made once a run of the benchmark."""
    key = f"recorded {topics} {run}"
    if key not in once:
        count, where = sized(10_000_000, 2_000_000), directory(f"recorded-{topics}-{run}")
        with Journal(where) as journal:
            publisher(journal, count, topics=topics, run=run).answer()
        once[key] = (where, count)
    return once[key]


# ---------------------------------------------------------------- flows

def b1():
    row = Row("B1", "recorded flow, 100 B, until synced", "facts/s", "2.5 x zmq to two, 10 x redis everysec, 30 x nats")
    peers, raw, cpu = remembering_peers(), [], {"publisher": [], "subscriber": [], "journal": []}
    for _ in rounds():
        raw.append(zmq_flow(sized(2_000_000, 1_000_000))["messages_per_s"])
        mine = fm_flow(sized(5_000_000, 2_000_000))
        row.add(mine["facts_per_s"])
        cpu["publisher"].append(mine["pub"]["cpu_ns_per_fact"])
        cpu["subscriber"].append(mine["sub"]["cpu_ns_per_fact"])
        cpu["journal"].append(mine["journal_cpu_ns_per_fact"])
    row.against("zmq to two", 2.5, raw)
    row.against("redis everysec", 10, peers["redis everysec"]["write"])
    row.against("nats", 30, peers["nats"]["write"])
    row.peers["redis always"] = peers["redis always"]["write"]
    row.more["cpu_ns_per_fact"] = {name: median(values) for name, values in cpu.items()}     # all threads, the kernel's part included
    return row


def b2():
    row = Row("B2", "recorded flow, 1 KiB, until synced", "facts/s", "1.2 x zmq to two")
    raw = []
    for _ in rounds():
        raw.append(zmq_flow(sized(1_000_000, 300_000), size=1024)["messages_per_s"])
        row.add(fm_flow(sized(1_000_000, 300_000), size=1024)["facts_per_s"])
    row.against("zmq to two", 1.2, raw)
    return row


def b15():
    row = Row("B15", "B1 over 1,000 topics at random", "facts/s", "0.8 x zmq to two")
    raw = []
    for _ in rounds():
        raw.append(zmq_flow(1_000_000)["messages_per_s"])
        row.add(fm_flow(sized(3_000_000, 1_000_000), topics=1000)["facts_per_s"])
    row.against("zmq to two", 0.8, raw)
    return row


def b9():
    row = Row("B9", "one publisher to 32 subscribers and a journal", "facts/s", "3 x zmq, delivered in all")
    raw, count = [], sized(300_000, 60_000)
    for _ in rounds(sized(3, 1)):
        raw.append(zmq_flow(count, subs=32)["messages_per_s"] * 32)
        row.add(fm_flow(count, subscribers=32)["delivered_per_s"])
    row.against("zmq to 32", 3, raw)
    return row


def b10():
    row = Row("B10", "16 publishers into one journal, synced in all", "facts/s", "0.9 x B1")
    one, count = [], sized(200_000, 60_000)
    for _ in rounds():
        one.append(fm_flow(count * 16)["facts_per_s"])
        row.add(fm_flow(count, publishers=16)["facts_per_s"])
    row.against("one publisher", 0.9, one)
    return row


# ---------------------------------------------------------------- latency

def percentiles(row, mine, raw, points, name):
    """Further rows below one: each percentile with its own factor."""
    for text, key, factor in points:
        also = Row(row.id, f"  {text}", row.unit, row.rule, less=True)
        also.values = [m[key] for m in mine]
        also.against(name, factor, [r[key] for r in raw], f"{name} {text}")
        row.also.append(also)


def b3():
    row = Row("B3", "live latency of a lone fact, recording on: p50", "us", "1.10, 1.25, 1.5 x zmq to two at p50, p99, p99.9", less=True)
    mine, raw, count = [], [], sized(10000, 1500)
    for _ in rounds():
        raw.append(zmq_flow(count, rate=1000, latency=1)["sub"])
        mine.append(fm_flow(count, rate=1000, latency=1)["sub"])
        row.add(mine[-1]["p50_us"])
    row.against("zmq to two", 1.10, [r["p50_us"] for r in raw], "zmq to two p50")
    percentiles(row, mine, raw, [("p99", "p99_us", 1.25), ("p99.9", "p999_us", 1.5)], "zmq to two")
    row.more["curves"] = {"factmesh, a lone fact, recorded": middle(mine)["curve"], "zmq, a lone message, to two": middle(raw)["curve"]}
    return row


def middle(answers):
    """The answer whose p99 is the median's: curves can't be averaged."""
    return sorted(answers, key=lambda a: a["p99_us"])[len(answers) // 2]


def b4():
    row = Row("B4", "live latency at half of B1's load: p99", "us", "under 1000 us and 3 x the idle p99", less=True)
    idle, mine, seconds = [], [], sized(3, 1)
    for _ in rounds():
        rate = int(fm_flow(sized(2_000_000, 600_000))["facts_per_s"] / 2)
        idle.append(fm_flow(sized(3000, 1000), rate=1000, latency=1)["sub"]["p99_us"])
        mine.append(fm_flow(rate * seconds, rate=rate, latency=1)["sub"])
        row.add(mine[-1]["p99_us"])
    row.fixed(1000, f"{row.value():.0f} of 1000 us")
    row.against("idle p99", 3, idle)
    row.more["curves"] = {"factmesh at half load": middle(mine)["curve"]}
    return row


def b5():
    row = Row("B5", "publish and wait until synced, one at a time: p50", "us", "1.3 and 2 x (zmq round trip + fdatasync) at p50 and p99", less=True)
    floor, mine, count = [], [], sized(3000, 700)
    for _ in rounds():
        floor.append(sides.rtt_sync(count))
        where = directory("each")
        with Journal(where) as journal:
            mine.append(fm_each(journal, count))
            check_recorded(journal, count)
        remove(where)
        row.add(mine[-1]["p50_us"])
    row.against("floor", 1.3, [f["p50_us"] for f in floor], "floor p50")
    row.peers["of it round trip p50"] = median(f["trip"]["p50_us"] for f in floor)
    row.peers["of it fdatasync p50"] = median(f["sync"]["p50_us"] for f in floor)
    percentiles(row, mine, floor, [("p99", "p99_us", 2)], "floor")
    return row


EACH_S = 8              # B8: where each takes long there are fewer


def each_beside_zmq(count):
    """B5 while raw libzmq receivers keep the processors busy."""
    where = directory("busy")
    os.sync()           # what earlier rows left would be written by our fdatasyncs
    with Journal(where) as journal:
        load = sides.zmq_load(4)
        try:
            each = fm_each(journal, count, EACH_S)
            for process in load:
                process.told_to_end()
        finally:
            for process in load:
                process.end()
        check_recorded(journal, each["facts"])
    remove(where)
    return each


def each_beside_replays(source, facts, rate, count):
    """B5 while four subscribers read all of a recorded log, again and again, and a quarter of B1's load is recorded."""
    where = directory("replaying")
    shutil.copytree(source, where)
    os.sync()           # the copy, too
    with Journal(where) as journal:
        readers = [subscriber(journal, facts, **{"from": "start", "topic": "bench.>", "endless": 1}) for _ in range(4)]
        flow = publisher(journal, rate=rate, spin=0, endless=1, prefix="flow")
        try:
            each = fm_each(journal, count, EACH_S)
            passes = [r.told_to_end()["facts"] for r in readers]
            recorded_meanwhile = flow.told_to_end()["facts"]
        finally:
            for process in [*readers, flow]:
                process.end()
        check_recorded(journal, each["facts"], topic="each.>")
        check_recorded(journal, recorded_meanwhile, topic="flow.>")
    remove(where)
    if min(passes) == 0:
        raise Failed("a reader read nothing while B5 ran")
    return each


def b8():
    row = Row("B8", "B5 beside four replays and a quarter of B1: p99", "us", "3 x B5 beside raw libzmq receivers that load the processors alike", less=True)
    where, facts = recorded()
    beside_zmq, beside_replays, count = [], [], sized(1500, 300)
    for _ in rounds(sized(3, 1)):
        rate = int(fm_flow(sized(2_000_000, 600_000))["facts_per_s"] / 4)
        beside_zmq.append(each_beside_zmq(count))
        beside_replays.append(each_beside_replays(where, facts, rate, count))
        row.add(beside_replays[-1]["p99_us"])
    row.against("beside zmq", 3, [z["p99_us"] for z in beside_zmq], "B5 beside zmq to four: p99")
    row.peers["B5 beside zmq to four: p50"] = median(z["p50_us"] for z in beside_zmq)
    row.peers["this row's p50"] = median(r["p50_us"] for r in beside_replays)
    return row


# ---------------------------------------------------------------- replay

def replay_rate(where, count, **more):
    with Journal(where) as journal:
        return check_recorded(journal, count, **more)


def b6():
    row = Row("B6", "replay to one late subscriber, page cache", "facts/s", "5 M facts/s or 0.8 x zmq's bytes/s, whichever is less; 6 x redis, 12 x nats")
    peers, raw = remembering_peers(), []
    where, count = recorded()
    for _ in rounds():
        raw.append(zmq_flow(1_000_000, subs=1)["messages_per_s"])
        row.add(replay_rate(where, count)["facts_per_s"])
    share = median(v / r for v, r in zip(row.values, raw))
    row.fixed(min(5e6, row.value() * 0.8 / share), f"{row.value() / 5e6:.2f} of 5 M/s or {share:.2f} of 0.8 x zmq to one")
    row.peers["zmq to one"] = median(raw)
    row.against("redis", 6, peers["redis everysec"]["read"], "redis XREAD")
    row.against("nats", 12, peers["nats"]["read"], "nats ordered consumer")
    return row


def b7():
    row = Row("B7", "replay of 1 fact in 1000: facts passed over", "facts/s", "20 x B6")
    runs = Row("B7", "  the same, topics in runs of 1000 facts", "facts/s", "for comparison")
    row.also.append(runs)
    where, count = recorded()
    turns, _ = recorded(1000, 1)
    bursts, _ = recorded(1000, 1000)
    plain = []
    for _ in rounds():
        plain.append(replay_rate(where, count)["facts_per_s"])
        row.add(replay_rate(turns, count // 1000, topic="bench.t0", topics=1000)["passed_per_s"])
        # Number 0, the first of the first run, is never published.
        runs.add(replay_rate(bursts, count // 1000 - 1, topic="bench.t0", topics=1000, run=1000)["passed_per_s"])
    row.against("replay of all", 20, plain, "B6")
    return row


def b14():
    row = Row("B14", "from start to live, far behind, 200,000 facts/s go on", "s", "under 4 s with 5 M facts behind", less=True)
    behind, rate, seconds = sized(5_000_000, 1_000_000), 200_000, sized(10, 4)
    for _ in rounds(sized(3, 1)):
        where = directory("behind")
        with Journal(where) as journal:
            publisher(journal, behind).answer()
            flow = publisher(journal, rate * seconds, rate=rate, spin=0)
            time.sleep(1)               # past its start; how long exactly does not matter
            late = check_recorded(journal, behind + rate * seconds, 2)
            flow.answer()
        remove(where)
        if late["live_s"] < 0:
            raise Failed("the late subscriber never went live")
        row.add(late["live_s"])
    row.fixed(4, f"{behind:,} facts behind")
    return row


# ---------------------------------------------------------------- the journal: memory, start, idleness

LOG_FACT_BYTES = 4096


class Log:
    """A log that grows step by step, for B11 and B12: starts at each size are timed on the way."""

    def __init__(self):
        # 100 MB behind whole segments of 128 MiB each: what must be scanned at a start is the same at every size.
        wish = sized([0, 2, 7, 23, 75], [0, 2, 8])
        free = shutil.disk_usage(OUT).free
        self.segments = [n for n in wish if (n + 2) * 128 * MIB < free * 0.8]
        self.where, self.facts, self.points, self.peak, self.streams = directory("log"), 0, [], 0, 0

    def size_bytes(self):
        return sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(self.where) for f in files)

    def grow(self, segments):
        with Journal(self.where) as journal:
            count = (segments * 128 * MIB + 100_000_000) // (LOG_FACT_BYTES + 24) - self.facts
            publisher(journal, count, size=LOG_FACT_BYTES).answer()
            self.facts += count
            self.streams += 1
            self.peak = max(self.peak, journal.peak_bytes())

    def forget_cache(self):
        for d, _, files in os.walk(self.where):
            for name in files:
                fd = os.open(os.path.join(d, name), os.O_RDONLY)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)

    def start_s(self, kill=False, cold=False):
        """Start it and end it; a kill makes the next start find no clean end."""
        if cold:
            self.forget_cache()
        journal = Journal(self.where)
        journal.end(kill)
        return journal.start_s

    def measure(self, segments):
        self.grow(segments)
        n = sized(5, 3)
        clean = [self.start_s() for _ in range(n)]
        cold = [self.start_s(cold=True) for _ in range(n)]
        self.start_s(kill=True)
        killed = [self.start_s(kill=True) for _ in range(n)]
        self.start_s()
        self.points.append({"bytes": segments * 128 * MIB + 100_000_000, "on_disk": self.size_bytes(), "clean": clean, "cold": cold, "killed": killed})

    def check(self):
        """Read all of it back: the contents, and the journal's memory meanwhile."""
        with Journal(self.where) as journal:
            check_recorded(journal, self.facts, self.streams)
            self.peak = max(self.peak, journal.peak_bytes())


def large_log():
    if "log" not in once:
        log = Log()
        for i, segments in enumerate(log.segments):
            print(f"  a log of {(segments * 128 * MIB + 100_000_000) / 1e9:.1f} GB", file=sys.stderr, flush=True)
            log.measure(segments)
        log.check()
        once["log"] = log
        remove(log.where)
    return once["log"]


def b12():
    log = large_log()
    small, large = log.points[0], log.points[-1]
    row = Row("B12", f"start-up to serving, {large['bytes'] / 1e9:.1f} GB against 100 MB", "s", "1.2 x, plus 0.2 s; 10 GB log", less=True)
    row.values = large["clean"]
    row.fixed(median(small["clean"]) * 1.2 + 0.2)
    row.peers["100 MB"] = median(small["clean"])
    for kind, text in (("cold", "  nothing in the page cache"), ("killed", "  after kill -9")):
        also = Row("B12", text, "s", row.rule, less=True)
        also.values = large[kind]
        also.fixed(median(small[kind]) * 1.2 + 0.2)
        also.peers["100 MB"] = median(small[kind])
        row.also.append(also)
    row.more["points"] = log.points
    return row


def b11():
    log = large_log()
    row = Row("B11", "peak memory of the journal, all rows of this run", "MiB", "256 MiB; a node 64 MiB and its window", less=True)
    row.add(Journal.peak / MIB)
    row.fixed(256)
    row.peers[f"with a log of {log.points[-1]['bytes'] / 1e9:.1f} GB"] = log.peak / MIB
    node = Row("B11", "  of a node with one subscription", "MiB", row.rule, less=True)
    node.add(sides.node_peak[0] / MIB)
    node.fixed(64 + 16)                 # what a subscription may hold by default: held_bytes
    row.also.append(node)
    return row


def b13():
    row = Row("B13", "CPU of an idle journal with 20 idle nodes", "%", "under 1 % of a core", less=True)
    where, nodes, seconds = directory("idle"), 20, sized(20, 4)
    shares = []
    with Journal(where) as journal:
        ready = [ready_path() for _ in range(nodes)]
        idle = [Process(f"{BENCH}/fm_idle", "--seed", journal.address, "--nodes", nodes, "--number", i + 1, "--ready", path)
                for i, path in enumerate(ready)]
        wait_ready(idle, ready)
        time.sleep(1)                   # head notices and pings settle
        for _ in range(2):
            cpu, began = journal.cpu_s(), time.monotonic()
            time.sleep(seconds / 2)
            row.add((journal.cpu_s() - cpu) / (time.monotonic() - began) * 100)
        shares = [process.told_to_end()["cpu_share"] * 100 for process in idle]
    remove(where)
    row.fixed(1)
    row.peers["an idle node"] = median(shares)
    return row


def b16():
    row = Row("B16", "a request with a live responder, one at a time: p50", "us", "1.5 x raw PUB/SUB ping-pong", less=True)
    floor, mine, count = [], [], sized(10000, 3000)
    for _ in rounds():
        floor.append(sides.zmq_ping(count))
        where = directory("request")
        with Journal(where) as journal:
            mine.append(sides.fm_requests(journal, count))
            check_recorded(journal, 2 * count, 2)
        remove(where)
        row.add(mine[-1]["p50_us"])
    row.against("ping-pong", 1.5, [f["p50_us"] for f in floor], "ping-pong p50")
    row.peers["ping-pong p99"] = median(f["p99_us"] for f in floor)
    row.peers["request p99"] = median(m["p99_us"] for m in mine)
    return row


# In this order: B11 looks back on all.
ROWS = {"B1": b1, "B2": b2, "B3": b3, "B4": b4, "B5": b5, "B6": b6, "B7": b7, "B8": b8, "B9": b9, "B10": b10, "B12": b12, "B13": b13, "B14": b14,
        "B15": b15, "B16": b16, "B11": b11}


# ---------------------------------------------------------------- beside the table

def throughput_by_size():
    """Recorded flow and raw libzmq to two, over payload sizes: for the plot."""
    points = []
    for size in sized([16, 64, 100, 256, 1024, 4096, 16384, 60000], [16, 100, 1024, 16384]):
        count = max(2000, min(sized(2_000_000, 400_000), sized(400, 100) * MIB // size))
        print(f"  {size} B", file=sys.stderr, flush=True)
        points.append({"size": size, "zmq": zmq_flow(count, size=size)["messages_per_s"], "factmesh": fm_flow(count, size=size)["facts_per_s"]})
    return points


def run_row(id):
    try:
        return ROWS[id]().result()
    except Failed as why:
        print(f"bench: {id} failed: {why}", file=sys.stderr)
        end_all()
        return {"id": id, "what": str(why).splitlines()[0], "unit": "", "is": None, "reach": None, "ok": False, "min": None, "max": None, "peers": {},
                "note": "failed", "also": []}
