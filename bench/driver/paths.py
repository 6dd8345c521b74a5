"""Where a fact's time goes, step by step: the path programs, run plainly (nanoseconds) and under callgrind (instructions).

Each step runs alone, in one thread, with 100 B payloads and full 64 KiB frames unless said. bench/common/path.h says what is counted.
"""
import json, os, re, subprocess

from process import BENCH, TMP, Failed, Process, directory, left_s, remove
from sides import zmq_flow

FIGURES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "instructions.json")
COUNT = 100_000         # facts, under callgrind

# glibc's plainest variants of memcpy and memcmp, whatever the processor has: a copy by `rep movsb`, of which callgrind counts every byte, would
# drown the rest. Nothing else of the environment either: its length moves the stack, and with it the alignment of copies.
PLAIN = {"PATH": os.environ["PATH"], "LC_ALL": "C",
         "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-ERMS,-FSRM,-AVX_Fast_Unaligned_Load,-AVX512VL,-AVX512BW,-BMI2,-MOVBE,-RTM"}

# name: program and options, what it is, where it runs
PATHS = {
    "publish": (["path_publish"], "fm_publish, all of it: check, encode, frame, window, live socket", "publisher, caller's thread"),
    "publish, 1000 topics": (["path_publish", "--topics", 1000], "the same over 1,000 topics at random", "publisher, caller's thread"),
    "encode": (["path_publish", "--step", "encode"], "of it: the fact's bytes into the batch", "publisher, caller's thread"),
    "decode": (["path_take"], "batch header, every field of every fact", "subscriber, caller's thread"),
    "check": (["path_take", "--step", "check"], "a journal's check of what it records", "journal, intake thread"),
    "append": (["path_journal", "--step", "append"], "into the log's buffer", "journal, intake thread"),
    "intake": (["path_journal", "--step", "intake"], "intake: check and append", "journal, intake thread"),
    "checksum": (["path_journal", "--step", "checksum"], "XXH3 over the batch", "journal, sync thread"),
    "write": (["path_journal", "--step", "write"], "checksum, index, write to the page cache", "journal, sync thread"),
    "sync": (["path_journal", "--step", "sync"], "fdatasync, 4 MiB at a time", "journal, sync thread"),
    "replay": (["path_journal", "--step", "replay"], "read, check, build the message", "journal, server thread"),
    "filter": (["path_journal", "--step", "filter"], "pass over: no batch has the topic", "journal, server thread"),
    "filter, 300 topics": (["path_journal", "--step", "filter", "--topics", 300], "pass over: 300 topics in each batch, none of them it", "journal, server thread"),
    "cut, 300 topics": (["path_journal", "--step", "cut", "--topics", 300], "the same, one of them it: its facts are cut out", "journal, server thread"),
}

# Those whose instructions are watched. The others are what the kernel makes of them; the checksum what the processor has (AVX2 or not), so that it
# is taken off what it is a part of.
WATCHED = ["publish", "publish, 1000 topics", "encode", "decode", "check", "intake", "write", "replay", "filter, 300 topics", "cut, 300 topics"]
CHECKSUMMED = ["write", "replay", "filter, 300 topics", "cut, 300 topics"]


def command(name, count):
    program, *options = PATHS[name][0]
    where = ["--directory", directory("path")] if program == "path_journal" else []
    return [f"{BENCH}/{program}", *map(str, options), *where, "--count", str(count)]


def nanoseconds(name, count):
    return Process(*command(name, count)).answer()["ns_per_fact"]


def watched(name):
    """What bench-check compares: instructions of user code, a fact, the checksum taken off."""
    return instructions(name) - (instructions("checksum") if name in CHECKSUMMED else 0)


def instructions(name):
    out = f"{TMP}/callgrind.out"
    done = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--collect-atstart=no", "--toggle-collect=path_measured",
                           *command(name, COUNT)], capture_output=True, text=True, env=PLAIN, timeout=left_s(300))
    remove(f"{TMP}/path")
    if done.returncode != 0:
        raise Failed(f"valgrind: {name}: {done.stderr.strip()[-2000:]}")
    facts = json.loads(done.stdout.strip().splitlines()[-1])["facts"]
    collected = re.search(r"Collected : (\d+)", done.stderr)
    if not collected or int(collected[1]) == 0:
        raise Failed(f"valgrind: {name}: nothing was counted: is path_measured inlined?\n{done.stderr.strip()[-2000:]}")
    return int(collected[1]) / facts


def known():
    with open(FIGURES) as file:
        return json.load(file)


def steps(quick):
    """The table of nanoseconds: the best of some runs each, as what a step costs when nothing disturbs it."""
    figures = known()["instructions"] if os.path.exists(FIGURES) else {}
    found = []
    for name, (_, what, where) in PATHS.items():
        times = [nanoseconds(name, 300_000 if quick else 2_000_000) for _ in range(1 if quick else 5)]
        found.append({"name": name, "what": what, "where": where, "ns": min(times), "instructions": figures.get(name)})
    remove(f"{TMP}/path")
    frame, facts = 60000, 60000 // 113
    moved = max(zmq_flow(2000 if quick else 20000, size=frame)["messages_per_s"] for _ in range(2))
    found.append({"name": "transport", "what": "raw libzmq moves full frames to two processes, wall clock", "where": "all threads, kernel",
                  "ns": 1e9 / moved / facts, "instructions": None})
    return found
