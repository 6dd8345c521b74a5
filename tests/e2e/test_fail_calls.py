#!/usr/bin/python3
"""Every call that may fail does, one at a time, in every command: it ends soon, says on one line what failed or does what it should, and harms nothing.

usage: test_fail_calls.py [CASE…]      FAIL_EVERY=1: all sites; =2: in each scenario; FAIL_ONLY=NAME,…: of these scenarios alone; SEED=N
"""
import collections
import concurrent.futures
import hashlib
import http.client
import os
import re
import shutil
import signal
import subprocess
import threading
import time

from fail_calls import EVERY, RUN_LIMIT_S, Fault, Site, Tally, Watched, faults, judge_end, resolve
from harness import BUILD, FACTMESH, LIBC, PATIENCE, PR_SET_PDEATHSIG, Failed, check, free_port, main, wait_until

ONLY = [name for name in os.environ.get("FAIL_ONLY", "").split(",") if name]
JOBS = int(os.environ.get("JOBS", "2"))
BUDGET_S, SHOP_BUDGET_S = 8, 4
SCENARIOS = 12                  # as many are drawn, unless FAIL_EVERY is set
DAMAGED = 5                     # verify, repair: what cannot be read is damage, told on standard output

SAME = object()                 # as the scout run's output

# name, the arguments. {n}: a number that no other run has; {seed}: the journal's address; {dir}: of the scenario; {old}, {id}, {digest}: made by World.
# out: what it prints when it is done: SAME, a regular expression of all of it, or None (anything).
# facts: on topic fail.pub when it says that it is done. with_: factmesh's arguments, run again and again beside it. again: then the same must succeed. before: run first.
Scenario = collections.namedtuple("Scenario", "name argv stdin out facts with_ again statuses before", defaults=(b"", SAME, (), None, False, (1, 3), None))
S = Scenario
PUB = "pub fail.pub --seed {seed} --timeout 4s"
TABLE = [
    S("version", "version"),
    S("help", "--help"),
    S("pub", f"{PUB} one-{{n}} two-{{n}}", facts=("one-{n}", "two-{n}"), again=True),
    S("pub-identity", f"{PUB} --identity {{dir}}/identity --print-ids x-{{n}}", out=r"\w+:\d+\n", facts=("x-{n}",), again=True),
    S("pub-window", f"{PUB} --identity {{dir}}/window --window-on-disk w-{{n}}", facts=("w-{n}",), again=True),
    S("pub-window-synced", f"{PUB} --identity {{dir}}/synced --window-on-disk=synced --ack-log {{dir}}/acks w-{{n}}", facts=("w-{n}",), again=True),
    S("pub-ephemeral", f"{PUB} --ephemeral --key k --type T --header a=b e-{{n}}", facts=("e-{n}",)),
    S("pub-csv", f"{PUB} --csv --key key --fact-identity n --raw", stdin=b"key,n\nk1,a{n}\nk2,b{n}\n", facts=("k1,a{n}", "k2,b{n}")),
    S("pub-json", f"{PUB} --json --key k --topic-column t", stdin=b'{"k":"1","t":"a","n":"j{n}"}\n', facts=('{"k":"1","t":"a","n":"j{n}"}',)),
    S("pub-blob", "pub fail.blob --seed {seed} --timeout 4s --blob-over 8 --whole", stdin=b"a large payload {n}", facts=()),
    S("pub-no-wait", "pub fail.nowait --seed {seed} --no-wait --ephemeral z"),
    S("sub", "sub old.> --seed {seed} --from start --until end --timeout 6s"),
    S("sub-json", "sub old.> --seed {seed} --from start --until end --json --timeout 6s"),
    S("sub-cursor", "sub old.> --seed {seed} --cursor c-{n} --from start --until end --timeout 6s", again=False),
    S("sub-synced", "sub old.> --seed {seed} --from start --until end --synced --timeout 6s"),
    S("sub-latest", "sub old.> --seed {seed} --from latest --until end --timeout 6s", out=None),
    S("sub-live", "sub tick.> --seed {seed} -n 2 --timeout 6s", out="tick\ntick\n", with_="pub tick.a tick tick --seed {seed} --timeout 4s"),
    # Of one publisher, which lasts: nobody else brings its facts. 3 would be silence.
    S("sub-of-one", "sub bench.one.> --no-journal --seed {seed} -n 3 --raw --timeout 6s", out=None, statuses=(1,),
      with_="bench pub --seed {seed} --topic bench.one -n 200 --rate 20 --timeout 4s"),
    S("sub-fetch", "sub large.blob --seed {seed} --from start --until end --fetch --timeout 6s"),
    S("replay", "replay old.> --seed {seed} --timeout 6s"),
    S("replay-custom", "replay old.> --seed {seed} --timeout 6s --format %p|%t|%k\\n --stats --stream {stream}"),
    S("replay-json", "replay --seed {seed} --timeout 6s --json --duplicates old.>"),
    S("replay-fetch", "replay large.blob --seed {seed} --timeout 6s --fetch --raw"),
    S("cursor-ls", "cursor ls --seed {seed} --timeout 6s", out=None),
    S("cursor-ls-json", "cursor ls --seed {seed} --timeout 6s --json", out=None),
    S("cursor-show", "cursor show old --seed {seed} --timeout 6s --next 3", out=None),
    S("cursor-seek", "cursor seek s-{n} -5 --seed {seed} --timeout 6s", out=None, again=True),
    S("cursor-rm", "cursor rm r-{n} --seed {seed} --timeout 6s", before="cursor seek r-{n} start --seed {seed}", out=None),
    S("get", "get old.keyed k1 --seed {seed} --timeout 6s"),
    S("get-id", "get {id} --seed {seed} --timeout 6s --json"),
    S("trace", "trace {id} --seed {seed} --timeout 6s", out=None),
    S("trace-json", "trace {id} --seed {seed} --timeout 6s --json", out=None),
    S("correct", "correct {wrong} corrected-{n} --seed {seed} --timeout 4s", out=None),
    S("request", "request ask.me hello --seed {seed} --timeout 4s", out="answer\n\n"),
    S("respond", "respond answer.me --exec true --seed {seed} -n 1 --timeout 6s", with_="request answer.me hello --seed {seed} --timeout 400ms", out=None),
    S("respond-group", "respond answer.us --group r-{n} --exec true --seed {seed} -n 1 --timeout 6s",
      with_="request answer.us hello --seed {seed} --timeout 400ms", out=None),
    S("work", "work w-{n} old.> --exec true --seed {seed} --timeout 400ms --lease 2s", statuses=(1, 3), out=None),
    S("work-once", "work o-{n} old.> --effect once --check false --exec true --seed {seed} -n 2 --timeout 400ms --lease 2s", out=None),
    S("group-ls", "group ls --seed {seed} --timeout 6s", out=None),
    S("group-show", "group show g --seed {seed} --timeout 6s --json", out=None),
    S("group-parked", "group parked g --seed {seed} --timeout 6s", out=None),
    S("group-pause", "group pause h --seed {seed} --timeout 6s", out=None),
    S("group-seek", "group seek h end --seed {seed} --timeout 6s", out=None),
    S("blob-put", "blob put {dir}/file --seed {seed} --timeout 6s", out=r"[0-9a-f]{64}  .*/file\n", again=True),
    S("blob-put-pipe", "blob put --seed {seed} --timeout 6s", stdin=b"blob {n}", out=r"[0-9a-f]{64}  -\n"),
    S("blob-get", "blob get {digest} --seed {seed} --timeout 6s"),
    S("blob-get-file", "blob get {digest} -o {dir}/got-{n} --seed {seed} --timeout 6s", out=None, again=True),
    S("blob-ls", "blob ls --seed {seed} --timeout 6s --json", out=None),
    S("blob-stat", "blob stat {digest} --seed {seed} --timeout 6s", out=None),
    S("nodes", "nodes --seed {seed} --timeout 4s --json", out=None),
    S("status", "status --seed {seed} --timeout 6s --streams", out=None),
    S("status-json", "status --seed {seed} --timeout 6s --json", out=None),
    S("inspect", "inspect {old}"),
    S("inspect-json", "inspect {old} --json"),
    S("verify", "verify {old}", statuses=(1, 5)),
    S("verify-json", "verify {old} --json", statuses=(1, 5)),
    S("dump", "dump {old}"),
    S("dump-json", "dump {old} --json"),
    S("repair-dry", "repair {old} --dry-run", statuses=(1, 5)),
    S("repair-mesh", "repair {copy} --from {seed} --json --timeout 6s", statuses=(1, 3, 5)),
    S("bench-pub", "bench pub --seed {seed} -n 20 --timeout 4s --topic fail.bench", out=None),
    S("bench-latency", "bench latency --seed {seed} -n 20 --timeout 4s --topic fail.late", out=None),
    S("bench-replay", "bench replay old.> --seed {seed} --timeout 4s", out=None),
]


class World:
    """A journal that is well, with something of everything in it, and a copy of its directory."""

    def __init__(self, lab):
        self.lab = lab
        journal = lab.journal()
        self.values = {"seed": journal.address}
        rows = "".join(f"k{i % 4},row {i}\n" for i in range(40))
        lab.ok("pub", "old.keyed", "--csv", "--raw", "--key", "key", "--identity", lab.path("old-stream"), "--seed", journal.address,
               stdin=("key,n\n" + rows).encode())
        self.values["id"] = lab.ok("pub", "old.plain", "cause", "--identity", lab.path("old-stream"), "--print-ids", "--seed", journal.address).decode().strip()
        self.values["stream"] = self.values["id"].partition(":")[0]
        lab.ok("pub", "old.plain", "effect", "--causation", self.values["id"], "--seed", journal.address)
        self.values["wrong"] = lab.ok("pub", "wrong", "wrong", "--print-ids", "--seed", journal.address).decode().strip()
        lab.ok("pub", "large.blob", "--whole", "--blob-over", "16", "--seed", journal.address, stdin=b"a payload that travels as a blob" * 3000)
        self.values["digest"] = lab.ok("blob", "put", "--seed", journal.address, stdin=b"some blob" * 20000).decode().split()[0]
        lab.ok("sub", "old.>", "--cursor", "old", "--from", "start", "-n", "10", "--seed", journal.address)
        lab.run(FACTMESH, "work", "g", "old.>", "--exec", "exit 65", "-n", "3", "--seed", journal.address, "--timeout", "2s")
        lab.run(FACTMESH, "work", "h", "old.>", "--exec", "true", "-n", "1", "--seed", journal.address, "--timeout", "2s")
        check(journal.terminate() == 0, "the journal does not end well")
        self.values["old"] = lab.path("old")
        shutil.copytree(lab.path("journal"), self.values["old"])
        self.journal = lab.journal(bind=journal.address)
        self.responder = lab.start("respond", [FACTMESH, "respond", "ask.me", "--exec", "echo answer", "--seed", journal.address], stdin=subprocess.DEVNULL)
        self.count = 0
        self.lock = threading.Lock()
        self.acknowledged = []

    def arguments(self, scenario):
        with self.lock:
            self.count += 1
            n = self.count
        directory = self.lab.path(f"s-{scenario.name}-{threading.get_ident()}")
        if not os.path.exists(directory):
            os.mkdir(directory)
            with open(os.path.join(directory, "file"), "wb") as file:
                file.write(b"the same file" * 9000)
        copy = os.path.join(directory, f"copy-{n}")
        if "{copy}" in scenario.argv:
            shutil.copytree(self.values["old"], copy)
        return {**self.values, "n": str(n), "dir": directory, "copy": copy}


def fill(text, values):
    return re.sub(r"\{(\w+)\}", lambda m: values.get(m.group(1), m.group(0)), text)


class Run:
    """One run of a scenario. .done: its result; .facts: acknowledged when its status is 0."""

    def __init__(self, world, scenario, fault, values, watched):
        lab = world.lab
        # Where nothing fails all must succeed, on a busy machine too.
        text = scenario.argv if fault else re.sub(r"--timeout \ds", "--timeout 20s", scenario.argv)
        argv = [FACTMESH, *(fill(word, values).replace("\\n", "\n") for word in text.split())]
        stdin = fill(scenario.stdin.decode(), values).encode()
        self.facts = [fill(fact, values) for fact in scenario.facts]
        if scenario.before:
            lab.ok(*(fill(word, values) for word in scenario.before.split()))
        over = threading.Event()

        def beside():
            while not over.is_set():
                other = lab.start("beside", [FACTMESH, *(fill(word, values) for word in scenario.with_.split())], stdin=subprocess.DEVNULL)
                while other.alive() and not over.is_set():
                    over.wait(0.02)
                if other.alive():
                    other.kill9()
                over.wait(0.05)
        thread = threading.Thread(target=beside) if scenario.with_ else None
        if thread:
            thread.start()
        began = time.monotonic()
        try:
            self.result = lab.run(*argv, stdin=stdin, limit_s=RUN_LIMIT_S, env=watched.env if watched else None)
        finally:
            self.took_s = time.monotonic() - began
            over.set()
            if thread:
                thread.join()


def facts_alone(out):
    """Without gaps: runs that were killed leave some behind, which belong to no topic."""
    return b"".join(line for line in out.splitlines(True) if not line.startswith(b'{"event":"gap"'))


def judge(world, scenario, run, expected, values):
    r = run.result
    printed = facts_alone(r.out)
    command = "factmesh" if scenario.argv.startswith(("-", "version")) else f"factmesh {scenario.argv.split()[0]}:"
    wrong = judge_end(command, r.status, r.err, scenario.statuses)
    if wrong:
        return wrong
    want = expected if scenario.out is SAME else None
    if r.status == 0:
        world.acknowledged += run.facts
        if want is not None and printed != want:
            return f"status 0, and it printed {len(printed)} bytes, not {len(want)}: {printed[-200:]!r}: {r.err[-300:]!r}"
        if isinstance(scenario.out, str) and not re.fullmatch(scenario.out, r.text()):
            return f"status 0, and it printed {r.out[-200:]!r}: {r.err[-300:]!r}"
    elif r.status == DAMAGED:
        if not r.out:
            return f"status {r.status}, and no word of what is damaged"
    if scenario.again:
        second = Run(world, scenario, None, {**values, "n": f"{values['n']}again"}, None)
        if second.result.status != 0:
            return f"status {r.status}, and the next run does not succeed: {second.result.status}: {second.result.err[-400:]!r}"
        world.acknowledged += second.facts
    return None


def scout(world, scenario):
    """A run in which nothing fails: its output, and its sites."""
    watched = Watched(world.lab)
    run = Run(world, scenario, None, world.arguments(scenario), watched)
    check(run.result.status in (0, *scenario.statuses[1:]), f"{scenario.name}: status {run.result.status}: {run.result.err[-400:]}")
    found = watched.sites()
    watched.forget()
    return scenario, facts_alone(run.result.out), found


def try_each(world, tally, work):
    """A run for each scenario, right output and fault; then nothing that was acknowledged may be missing."""
    lab = world.lab

    def one(item):
        scenario, out, fault = item
        if tally.over():
            return
        watched, values = Watched(lab, fault), world.arguments(scenario)
        status, took_s = None, RUN_LIMIT_S
        try:
            run = Run(world, scenario, fault, values, watched)
            status, took_s = run.result.status, run.took_s
            wrong = judge(world, scenario, run, out, values)
        except Failed as why:
            wrong = str(why)
        tally.add(scenario.name, fault, watched.failed(), status, took_s, wrong)
        watched.forget()
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(one, work))
    check(world.journal.alive(), "the journal died")
    recorded = collections.Counter(lab.ok("replay", "fail.pub.>", "fail.pub", "--seed", world.values["seed"], limit_s=60).decode().splitlines())
    missing = [fact for fact in world.acknowledged if recorded[fact] == 0]
    twice = [fact for fact, times in recorded.items() if times > 1]
    check(not missing, f"{len(missing)} facts were acknowledged and are not there: {missing[:5]}")
    check(not twice, f"{len(twice)} facts are there twice: {twice[:5]}")
    check(world.journal.terminate() == 0, "the journal does not end well")
    lab.ok("verify", lab.path("journal"))


def commands_say_what_failed_or_do_what_they_should(lab):
    world = World(lab)
    table = [s for s in TABLE if not ONLY or s.name in ONLY]
    tally = Tally(lab, BUDGET_S)
    if not EVERY:
        table = lab.random.sample(table, min(len(table), SCENARIOS))
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        scouted = list(pool.map(lambda scenario: scout(world, scenario), table))
    seen, work = set(), []
    for scenario, out, found in scouted:
        for site in sorted(found.values(), key=lambda s: (s.name, s.callers)):
            if site.hash not in seen or EVERY > 1:
                work.extend((scenario, out, fault) for fault in faults(lab.random, site))
            seen.add(site.hash)
    lab.random.shuffle(work)
    try_each(world, tally, work)
    tally.close(len(seen))


# Each was wrong once: scenario, what is called by whom, from which call on, how many.
ONCE_WRONG = [
    # Facts of a replay were passed over, status 0.
    ("sub", r"calloc < subscription_stream .* subscription_replay\.c", 1, 1),
    # No connection for a publisher's facts was never tried again.
    ("sub-of-one", "zmq_socket < .*peer_connect", 1, 8),
    # Output was missing, status 0; or status 1 without a word.
    ("inspect", "realloc < text_reserve .* < put_identity", 1, 1),
    ("help", "fprintf < print_help", 3, 1),
    ("verify", "fflush < ", 1, 1),
]


def what_was_wrong_once_is_right(lab):
    world = World(lab)
    tally = Tally(lab, float("inf"))
    work = []
    for name, pattern, at, length in ONCE_WRONG:
        scenario, out, found = scout(world, next(s for s in TABLE if s.name == name))
        resolve(list(found.values()))
        matching = [Fault(site, at, length) for site in found.values() if re.search(pattern, site.where())]
        check(matching, f"{name}: no site is like {pattern!r}")
        work += [(scenario, out, fault) for fault in matching]
    try_each(world, tally, work)
    tally.close(len(work))


# --- The journal.

# The word that an outcome is durable was dropped, and its worker waited for it for ever.
JOURNAL_ONCE_WRONG = r"zmq_send < node_reply [^<]*< (groups_answer [^<]*< )?(tell_outcomes|settle_confirms)"

NOTICE = r"^\d{4}-\d\d-\d\dT"
JOURNAL_MORE = ("--segment-age", "300ms", "--blob-sweep", "100ms", "--blob-lease", "1h")


class Journal:
    """A journal of which one call fails while it starts, is used in every way, and ends."""

    def __init__(self, lab, directory, fault):
        self.lab, self.directory = lab, directory
        self.watched = Watched(lab, fault)
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.http = f"127.0.0.1:{free_port()}"
        self.base = directory + ".journal"
        with open(self.base + ".out", "wb") as out, open(self.base + ".err", "wb") as err:
            self.popen = subprocess.Popen([FACTMESH, "journal", directory, "--bind", self.address, "--http", self.http, "--address-file", self.base + ".address",
                                           *JOURNAL_MORE], stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=lab.dir,
                                          env={**os.environ, **lab.env, **(self.watched.env if fault is not None or self.scout else {})},
                                          preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        self.facts, self.blobs, self.cursors = [], [], []
        self.refused = collections.Counter()

    scout = False

    def serves(self):
        wait_until("the journal serves, or has ended", lambda: os.path.exists(self.base + ".address") or self.popen.poll() is not None, RUN_LIMIT_S)
        return self.popen.poll() is None

    def client(self, *argv, stdin=b"", good=(0,)):
        """None, or what it printed: it succeeded."""
        try:
            result = self.lab.factmesh(*argv, "--seed", self.address, "--timeout", "20s" if self.scout else "3s", stdin=stdin, limit_s=RUN_LIMIT_S)
        except Failed:
            # A worker waits for a journal that can make nothing durable any more, and has told so, until somebody starts it again.
            with open(self.base + ".err", errors="replace") as file:
                if argv[0] != "work" or "JOURNAL-READ-ONLY" not in file.read():
                    raise
            self.refused[argv[0]] += 1
            return None
        wrong = judge_end(f"factmesh {argv[0]}:", result.status, result.err, (1, 3))
        if wrong:
            raise Failed(f"{' '.join(argv)}: {wrong}")
        self.refused[argv[0]] += result.status != 0
        return result.out if result.status in good else None

    def use(self, n):
        rows = [f"k{i % 3},{n}-{i}" for i in range(12)]
        if self.client("pub", "flow.keyed", "--csv", "--raw", "--key", "key", "--fact-identity", "n", "--stream", f"s{n}",
                       stdin="\n".join(["key,n", *rows, ""]).encode()) is not None:
            self.facts += rows
        if self.client("pub", "flow.large", "--whole", "--blob-over", "100", "--ephemeral", stdin=f"{n}".encode() * 100) is not None:
            self.facts.append("blob")
        if self.client("sub", "flow.>", "--cursor", f"c{n}", "--from", "start", "--until", "end") is not None:
            self.cursors.append(f"c{n}")
        self.client("work", f"g{n}", "flow.keyed", "--exec", "exit 65", "--effect", "once", "--lease", "1s", "-n", "1")
        self.client("group", "replay", f"g{n}")
        printed = self.client("blob", "put", stdin=f"blob {n} ".encode() * 30000)
        if printed:
            self.blobs.append(printed.split()[0].decode())
            self.client("blob", "get", self.blobs[-1])
        for argv in (["get", "flow.keyed", "k1"], ["sub", "flow.keyed", "--from", "latest", "--until", "end"], ["status", "--streams"], ["cursor", "show", f"c{n}"],
                     ["cursor", "rm", f"c{n}"], ["group", "ls"]):
            self.client(*argv)
            if argv[:2] == ["cursor", "rm"]:
                self.cursors = []
        self.browse(f"by http {n}".encode() * 100)

    def browse(self, body):
        """Store and fetch over HTTP; a connection that is closed is an answer, too."""
        connection = http.client.HTTPConnection(self.http, timeout=5 * PATIENCE)
        try:
            connection.request("POST", "/blobs", body)
            stored = connection.getresponse()
            text = stored.read()
            if stored.status in (200, 201):
                digest = hashlib.sha256(body).hexdigest()
                check(digest.encode() in text or digest in (stored.getheader("Location") or ""), f"POST says {stored.status} and {text!r}")
                self.blobs.append(digest)
                connection.request("GET", f"/blobs/{digest}")
                got = connection.getresponse()
                read = got.read()
                check(got.status != 200 or read == body, f"GET brought {len(read)} other bytes")
        except TimeoutError:
            raise Failed("HTTP: no answer") from None
        except (OSError, http.client.HTTPException):
            self.refused["http"] += 1
        finally:
            connection.close()

    def end(self):
        """What is wrong with its end; None: nothing."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        try:
            status = self.popen.wait(RUN_LIMIT_S * PATIENCE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            return "it does not end when it is told to"
        with open(self.base + ".err", errors="replace") as file:
            err = "".join(line for line in file if not re.match(NOTICE, line))
        return judge_end("factmesh journal:", status, err, (1,))

    def kill(self):
        self.popen.kill()
        self.popen.wait()


def what_was_acknowledged_is_there(lab, directory, used):
    """A journal that is well, on the same directory."""
    after = Journal(lab, directory, None)
    try:
        check(after.serves(), "the next start fails")
        text = lab.ok("replay", "flow.>", "--seed", after.address, "--format", "%t %p\n").decode()
        recorded = collections.Counter("blob" if line.startswith("flow.large") else line.partition(" ")[2] for line in text.splitlines())
        missing = [fact for fact in used.facts if not recorded[fact]]
        check(not missing, f"{len(missing)} acknowledged facts are gone: {missing[:4]}")
        for digest in used.blobs:
            lab.ok("blob", "get", digest, "--seed", after.address)
        for cursor in used.cursors:
            lab.ok("cursor", "show", cursor, "--seed", after.address)
        lab.ok("pub", "flow.more", "more", "--ephemeral", "--seed", after.address)
    finally:
        wrong = after.end()
    check(wrong is None, f"the next run: {wrong}")
    result = lab.factmesh("verify", directory)
    check(result.status == 0, f"verify: {result.status}: {result.text()[-300:]} {result.err[-300:]}")


def a_journal_loses_nothing_whichever_call_fails(lab):
    count = iter(range(1, 1 << 30))
    # What a kill left behind: a start that has a tail to write again.
    first = Journal(lab, lab.path("killed"), None)
    check(first.serves(), "it does not start")
    first.use(0)
    first.kill()

    def run(which, fault):
        n = next(count)
        directory = lab.path(f"j{n}")
        if which == "killed":
            shutil.copytree(first.directory, directory)
        journal = Journal(lab, directory, fault)
        if which == "killed":
            journal.facts, journal.blobs = list(first.facts), list(first.blobs)
        wrong = None
        try:
            if journal.serves():
                journal.use(n)
        except Failed as why:
            wrong = str(why)
        wrong = wrong or journal.end()
        if journal.popen.poll() is None:
            journal.kill()
        return journal, wrong
    Journal.scout = True
    found = {}
    for which in ("new", "killed"):
        journal, wrong = run(which, None)
        check(not wrong and not +journal.refused, f"{which}: {wrong} {journal.refused}")
        for site in journal.watched.sites().values():
            found.setdefault(site.hash, (which, site))
    Journal.scout = False
    resolve([site for _, site in found.values()])
    once_wrong = [(which, Fault(site, 1, 1)) for which, site in found.values() if re.search(JOURNAL_ONCE_WRONG, site.where())]
    check(once_wrong, f"no site is like {JOURNAL_ONCE_WRONG!r}")
    tally = Tally(lab, BUDGET_S)
    work = [(which, fault) for which, site in sorted(found.values(), key=lambda f: (f[1].name, f[1].callers)) for fault in faults(lab.random, site)]
    lab.random.shuffle(work)
    work = once_wrong[:1] + work

    def one(item):
        which, fault = item
        if tally.over() and item is not work[0]:
            return
        began = time.monotonic()
        journal, wrong = run(which, fault)
        took_s = time.monotonic() - began
        try:
            what_was_acknowledged_is_there(lab, journal.directory, journal)
        except Failed as why:
            wrong = f"{wrong or ''} {why}"
        if wrong:
            with open(journal.base + ".err", errors="replace") as file:
                wrong += f" [{file.read()[-600:]}]"
        tally.add(f"journal {which}", fault, journal.watched.failed(), journal.popen.returncode if not +journal.refused else 1, took_s, wrong)
        if not wrong:
            shutil.rmtree(journal.directory)
            journal.watched.forget()
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(one, work))
    tally.close(len(found))


# --- The worked example.

SHOP = os.path.join(BUILD, "factmesh-shop")


def no_order_is_lost_or_told_in_part_whichever_call_fails(lab):
    """The shop's orders service takes in a file; the next one that nothing happens to goes on where it ended."""
    lines = lab.run(SHOP, "generate", "4", "7").out
    journal = lab.journal()
    with open(lab.path("orders.csv"), "wb") as file:
        file.write(lines)
    Site.program, Site.lines = "factmesh-shop", {}
    count = iter(range(1, 1 << 30))

    def orders(name, watched):
        directory = lab.path(name)
        os.makedirs(directory, exist_ok=True)
        process = lab.start(name, [SHOP, "orders", directory, lab.path("orders.csv"), "--seed", journal.address, "--mesh", "default"],
                            stdin=subprocess.DEVNULL, env=watched.env if watched else None)
        wait_until(f"{name} has told all orders, or ends", lambda: process.lines("on the journal's disk") or not process.alive(), RUN_LIMIT_S)
        if process.alive():
            process.signal(signal.SIGTERM)
        return process, process.wait(RUN_LIMIT_S)

    def recorded():
        """The payloads of all orders, how often each; every run of the shop brings the same ones under the same identities: only the first counts."""
        text = lab.ok("replay", "orders.>", "--duplicates", "--seed", journal.address).decode()
        return collections.Counter(text.splitlines())
    watched = Watched(lab)
    check(orders("right", watched)[1] == 0, "the shop does not take the file")
    right = recorded()
    check(len(right) == 4, f"{len(right)} orders, not 4")
    found = list(watched.sites().values())
    resolve(found)
    # What it says on standard output is for people, and here to see that it is done.
    work = [fault for site in found if "shop_say" not in site.where() for fault in faults(lab.random, site)]
    lab.random.shuffle(work)
    tally = Tally(lab, SHOP_BUDGET_S)
    for fault in work:
        if tally.over():
            break
        name, watched, began = f"shop{next(count)}", Watched(lab, fault), time.monotonic()
        process, status = orders(name, watched)
        # The library's notices are lines of a word in capitals.
        err = "".join(line for line in process.err().splitlines(True) if not re.match(r"[A-Z-]{6,} ", line))
        wrong = f"killed: status {status}: {err[-300:]!r}" if status < 0 or status >= 128 else None
        if not wrong and status != 0 and not err.strip():
            wrong = f"status {status}, without a word"
        if not wrong and orders(name, None)[1] != 0:
            wrong = f"status {status}, and the next run does not succeed"
        new = set(recorded()) - set(right)
        if not wrong and new:
            wrong = f"orders that are none: {sorted(new)[:2]}"
        right.update(new)
        tally.add("orders", fault, watched.failed(), status, time.monotonic() - began, wrong)
    tally.close(len(found))


if __name__ == "__main__":
    main(what_was_wrong_once_is_right, commands_say_what_failed_or_do_what_they_should, a_journal_loses_nothing_whichever_call_fails,
         no_order_is_lost_or_told_in_part_whichever_call_fails)
