#!/usr/bin/python3
"""A subscription that starts from `latest` begins with the newest fact of each key, and goes on with all that comes: nothing else, nothing twice."""
import functools
import json
import os
import select
import subprocess
import time

from harness import FACTMESH, Failed, PATIENCE, check, free_port, main

KILLS = 20
KEYS, STREAMS = 100_000, 3
MEMORY_MAX = 48 << 20


def publish(lab, bind, stream, rows, *more):
    """Rows of (level below `state`, key, text); a key belongs to one stream."""
    text = "t,key,text\n" + "".join(f"{level},{key},{text}\n" for level, key, text in rows)
    lab.ok("pub", "state", "--csv", "--raw", "--topic-column", "t", "--key", "key", "--stream", f"s{stream}", "--seed", bind, *more, stdin=text.encode())


def tombstone(lab, bind, stream, level, key):
    lab.ok("pub", f"state.{level}", "--tombstone", "--key", key, "--stream", f"s{stream}", "", "--seed", bind)


def history(lab, bind, *patterns):
    return lab.ok("replay", *patterns, "--json", "--seed", bind, limit_s=60).splitlines()


@functools.cache
def parse(line):
    """Many times the same hundred thousand lines: (stream, seq), (topic, key or None), tombstone."""
    fact = json.loads(line)
    return (fact["stream"], fact["seq"]), (fact["topic"], fact.get("key")), fact.get("tombstone", False)


def key_of(line):
    return parse(line)[1]


def newest(lines):
    """Of history the lines that are the newest of their key, as they were recorded."""
    last = {}
    for n, line in enumerate(lines):
        _, key, is_tombstone = parse(line)
        if key[1] is not None:
            last[key] = None if is_tombstone else n
    return [lines[n] for n in sorted(n for n in last.values() if n is not None)]


def state(lines):
    result = {}
    for line in lines:
        _, key, is_tombstone = parse(line)
        if is_tombstone:
            result.pop(key, None)
        elif key[1] is not None:
            result[key] = line
    return result


def a_state(lab, bind, keys=200, rounds=3):
    for r in range(rounds):
        for stream in range(STREAMS):
            publish(lab, bind, stream, [("abc"[n % 3], f"s{stream}-{n}", f"round {r}") for n in range(keys) if (n + r) % 4])
    lab.ok("pub", "state.a", "no key", "--seed", bind)
    for stream in range(STREAMS):
        tombstone(lab, bind, stream, "a", f"s{stream}-6")
        tombstone(lab, bind, stream, "b", f"s{stream}-7")
    publish(lab, bind, 0, [("b", "s0-7", "back again")])
    order = json.loads(history(lab, bind, "state.c")[-1])
    lab.ok("correct", f"{order['stream']}:{order['seq']}", "corrected", "--seed", bind)


def latest_is_the_state_that_all_history_leads_to(lab):
    bind = lab.journal().address
    a_state(lab, bind)
    for patterns in [], ["state.a"], ["state.*"], ["state.>"], ["state.a", "state.c"], ["state"], ["*.b"]:
        expected = newest(history(lab, bind, *patterns))
        check(bool(expected) != (patterns == ["state"]), f"{patterns}: {len(expected)} keys in history")
        for how in ["replay"], ["sub", "--until", "end"], ["sub", "--until", "end", "--synced"]:
            got = lab.ok(*how, *patterns, "--from", "latest", "--json", "--seed", bind).splitlines()
            got = [line for line in got if b'"event"' not in line]
            check(got == expected, f"{how[0]} {patterns}: {len(got)} facts of {len(expected)}; first that differs: "
                  f"{next(((g, e) for g, e in zip(got, expected) if g != e), None)}")
    check(state(history(lab, bind)) == state(newest(history(lab, bind))), "the oracle contradicts itself")


def behind_latest_everything_comes(lab):
    bind = lab.journal().address
    a_state(lab, bind)
    before = history(lab, bind)
    expected = newest(before)
    readers = [lab.start("sub", [FACTMESH, "sub", "state.>", "--from", "latest", "--json", "--count", str(len(expected) + 52), "--seed", bind,
                                 *(["--synced"] if n else [])]) for n in range(2)]
    for reader in readers:
        reader.line(r"^\{.*\"topic\"")
    lab.ok("pub", "state.a", "no key either", "--seed", bind)
    publish(lab, bind, 1, [("a", "s1-3", f"live {n}") for n in range(50)])
    tombstone(lab, bind, 1, "a", "s1-3")
    after = history(lab, bind)[len(before):]
    for reader in readers:
        reader.ends_well(20)
        got = [line.encode() for line in reader.out().splitlines() if '"event"' not in line]
        check(got[:len(expected)] == expected, "the newest facts are others")
        check(sorted(got[len(expected):]) == sorted(after), f"behind them: {got[len(expected):]}")
        for stream in {json.loads(line)["stream"] for line in after}:
            seqs = [json.loads(line)["seq"] for line in got if json.loads(line)["stream"] == stream]
            check(seqs == sorted(set(seqs)), f"stream {stream}: not in order")


class Reader:
    """factmesh sub whose output is taken at the test's pace: its pipe fills, it waits, the journal waits for credit."""

    def __init__(self, lab, name, bind, patterns, *more):
        self.lab, self.fifo = lab, lab.path(name)
        os.mkfifo(self.fifo)
        self.fd = os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK)
        self.patterns, self.data, self.count = patterns, [], 0
        self.command = [FACTMESH, "sub", *patterns, "--from", "latest", "--json", "--seed", bind, *more]
        self.start()

    def start(self):
        self.process = self.lab.start("sub", self.command, stdin=subprocess.DEVNULL, stdout=self.fifo)

    def kill_and_start(self):
        """What it had written is read; of a line that it had begun it has not said that it is done."""
        self.process.kill9()
        while data := os.read(self.fd, 1 << 20):
            self.data.append(data)
        text = b"".join(self.data)
        self.data = [text[:text.rfind(b"\n") + 1]]
        self.count = self.data[0].count(b"\n")
        self.start()

    def read(self, done, limit_s=60):
        end = time.monotonic() + limit_s * PATIENCE
        while not done(self):
            left = end - time.monotonic()
            if left < 0:
                raise Failed(f"sub {self.patterns}: {self.count} lines within {limit_s * PATIENCE:g} s: {self.process.err()[-300:]}")
            if select.select([self.fd], [], [], min(left, 1))[0]:
                data = os.read(self.fd, 16384)
                check(data, f"sub {self.patterns} ended: {self.process.err()[-300:]}")
                self.data.append(data)
                self.count += data.count(b"\n")

    def lines(self):
        return [line for line in b"".join(self.data).split(b"\n") if b'"event"' not in line and line]


def check_reader(reader, before, after, mortal=False):
    """before: history when it had begun; after: what was recorded since then. mortal: it goes on with all of history from its
    cursor when it was killed, and what it had not said it had may come again."""
    got, numbers = reader.lines(), {}
    for line in got:
        (stream, seq), _, _ = parse(line)
        check(mortal or seq > numbers.get(stream, 0), f"{reader.patterns}: {stream}:{seq} behind {numbers.get(stream)}")
        numbers[stream] = seq
    lines = set(got)
    was_newest, later = newest(before), {key_of(line) for line in after}
    check(lines <= set(before if mortal else was_newest) | set(after), f"{reader.patterns}: facts that were not the newest came, or such as nobody published")
    check(set(after) <= lines, f"{reader.patterns}: {len(set(after) - lines)} of {len(after)} facts that came behind the newest are missing")
    missing = [line for line in was_newest if line not in lines and key_of(line) not in later]
    check(not missing, f"{reader.patterns}: {len(missing)} newest facts are missing: {missing[:3]}")
    check(state(got) == state(before + after), f"{reader.patterns}: another state")
    check(b'"event":"gap"' not in b"".join(reader.data), f"{reader.patterns}: a gap was told")


def journal_and_reader_are_killed_while_the_newest_of_a_hundred_thousand_keys_are_told(lab):
    bind = f"tcp://127.0.0.1:{free_port()}"
    journal = lab.journal("journal", bind)
    for stream in range(STREAMS):
        publish(lab, bind, stream, [("abc"[n % 3], f"s{stream}-{n}", f"first {n}") for n in range(KEYS // STREAMS)])
        publish(lab, bind, stream, [("abc"[n % 3], f"s{stream}-{n}", f"second {n}") for n in range(0, KEYS // STREAMS, 7)])
    before = history(lab, bind)
    readers = [Reader(lab, f"reader-{n}", bind, patterns) for n, patterns in enumerate([["state.>"], ["state.*"], ["state.a", "state.b"], ["state.c"]])]
    mortal = Reader(lab, "mortal", bind, ["state.>"], "--cursor", "mortal")
    for reader in readers + [mortal]:
        reader.read(lambda r: r.count > 0)
    within = 0
    for kill in range(KILLS):
        for reader in readers:
            target = reader.count + lab.random.randrange(100, KEYS // KILLS // (3 if reader.patterns == ["state.c"] else 1))
            reader.read(lambda r: r.count >= target)
            within += reader.count < len(before)
        target = mortal.count + lab.random.randrange(1, KEYS // KILLS)
        mortal.read(lambda r: r.count >= target)
        mortal.kill_and_start()
        journal.kill9()
        journal = lab.journal("journal", bind)
        stream = kill % STREAMS
        keys = [lab.random.randrange(KEYS // STREAMS) for _ in range(300)]
        publish(lab, bind, stream, [("abc"[n % 3], f"s{stream}-{n}", f"changed {kill}") for n in keys] + [("abc"[n % 3], f"s{stream}-new-{kill}-{n}", "new") for n in range(30)])
        if kill % 4 == 0:
            tombstone(lab, bind, stream, "abc"[keys[0] % 3], f"s{stream}-{keys[0]}")
            lab.ok("pub", "state.c", f"no key {kill}", "--seed", bind)
    for level in "abc":
        lab.ok("pub", f"state.{level}", "the end", "--seed", bind)
    everything = history(lab, bind)
    for reader in readers + [mortal]:
        levels = "abc" if reader.patterns[0] in ("state.>", "state.*") else [p[-1] for p in reader.patterns]
        reader.read(lambda r: b"".join(r.data[-64:]).count(b'"the end"') == len(levels))
        old, mine = ([line for line in lines if any(f'"topic":"state.{level}"'.encode() in line for level in levels)] for lines in (before, everything))
        check(mine[:len(old)] == old, "history changed")
        check_reader(reader, old, mine[len(old):], reader is mortal)
        check(reader.process.memory_peak_bytes() < MEMORY_MAX, f"{reader.patterns}: {reader.process.memory_peak_bytes() >> 20} MiB")
    lab.tell(f"{within} of {KILLS * len(readers)} sessions were killed before all was told, and {KILLS} times a reader; a reader's memory at its peak: "
             f"{max(r.process.memory_peak_bytes() for r in readers) >> 20} MiB")


def the_journals_memory_does_not_grow_with_the_keys_that_it_tells(lab):
    bind = lab.journal().address
    publish(lab, bind, 0, [("a", n, "x") for n in range(KEYS)])
    lab.ok("get", "state.a", str(KEYS - 1), "--seed", bind)
    journal = lab.processes[0]
    lab.ok("replay", "--from", "latest", "state.b", "--seed", bind)
    journal.memory_peak_reset()
    before = journal.memory_peak_bytes()
    got = lab.ok("replay", "--from", "latest", "--json", "--seed", bind, limit_s=60)
    check(got.count(b"\n") == KEYS, f"{got.count(chr(10).encode())} facts")
    grown = journal.memory_peak_bytes() - before
    lab.tell(f"{grown >> 10} KiB more for {KEYS} keys")
    check(grown < 16 << 20, f"the journal took {grown >> 20} MiB for {KEYS} keys")


main(latest_is_the_state_that_all_history_leads_to, behind_latest_everything_comes, journal_and_reader_are_killed_while_the_newest_of_a_hundred_thousand_keys_are_told,
     the_journals_memory_does_not_grow_with_the_keys_that_it_tells)
