#!/usr/bin/python3
"""Two journals record the same facts; one is damaged at random places, and repaired from the other: every byte is there again."""
import json
import os
import shutil
import subprocess

from harness import FACTMESH, check, main, wait_until

TOPICS = 3
LINES = 8_000
SEGMENT = 1 << 20


def publish(lab, journal, journals):
    """Three streams at a time, each of a topic; returns the lines of each topic."""
    files = {}
    for i in range(TOPICS):
        path = lab.path(f"lines-{i}")
        with open(path, "wb") as file:
            for n in range(LINES):
                file.write(b"%d:%d:" % (i, n) + lab.random.randbytes(lab.random.randrange(20, 150)).hex().encode() + b"\n")
        files[f"flow.t{i}"] = path
    writers = [lab.start(f"pub{i}", [FACTMESH, "pub", topic, "--file", path, "--seed", journal.address, "--stream", f"s{i}",
                                          "--journals", ",".join(journals)])
               for i, (topic, path) in enumerate(files.items())]
    for writer in writers:
        writer.ends_well(60)
    return files


def recorded(lab, journal):
    return json.loads(lab.ok("status", "--json", "--seed", journal.address, "--journal", journal.id))["synced_offset"] - 1


def two_journals(lab):
    """Both have everything; both are down."""
    first = lab.journal("a", None, "--segment-size", str(SEGMENT))
    first.id = json.loads(lab.ok("status", "--json", "--seed", first.address))["journal"]
    second = lab.journal("b", None, "--segment-size", str(SEGMENT), "--seed", first.address)
    second.id = next(i for i in (json.loads(line)["journal"] for line in lab.ok("nodes", "--json", "--seed", second.address).splitlines()
                                 if json.loads(line).get("journal")) if i != first.id)
    files = publish(lab, first, [first.id, second.id])
    for journal in (first, second):
        wait_until("a journal has everything", lambda: recorded(lab, journal) >= TOPICS * LINES, 60, journal)
    first.terminate()
    second.terminate()
    return files


def segments(directory):
    return sorted(os.path.join(directory, "segments", name) for name in os.listdir(os.path.join(directory, "segments")) if name.endswith(".seg"))


def damage(lab, directory):
    """Random flips and zeros everywhere; one sealed segment cut, one gone."""
    files = segments(directory)
    check(len(files) >= 4, f"only {len(files)} segments: nothing is tested")
    cut, gone = lab.random.sample(files[1:-1], 2)
    for _ in range(12):
        path = lab.random.choice(files)
        with open(path, "r+b") as file:
            size = os.path.getsize(path)
            at = lab.random.randrange(4096, size // 2 if path == files[-1] else size)
            length = lab.random.choice([1, 1, 1, 8, 512, 4096])
            file.seek(at)
            old = file.read(length)
            file.seek(at)
            file.write(bytes(b ^ 0x10 for b in old) if length < 512 else bytes(len(old)))
    os.truncate(cut, lab.random.randrange(8192, os.path.getsize(cut)))
    os.unlink(gone)


def expect_everything(lab, directory, files):
    journal = lab.journal(directory)
    for topic, path in files.items():
        out = lab.ok("replay", topic, "--seed", journal.address, "--fail-on-gap", limit_s=30)
        with open(path, "rb") as file:
            check(out == file.read(), f"{topic}: not the lines that were published")
    journal.terminate()


def a_damaged_journal_is_repaired_from_another(lab):
    lab.tell(f"seed {lab.seed}")
    files = two_journals(lab)
    expect_everything(lab, "a", files)
    damage(lab, lab.path("a"))
    verified = lab.factmesh("verify", lab.path("a"), "--json")
    check(verified.status == 5, f"verify: status {verified.status}, not 5")
    ranges = [json.loads(line) for line in verified.text().splitlines()][:-1]
    alone = lab.factmesh("repair", lab.path("a"), "--json")
    check(alone.status == 5, f"repair without a holder: status {alone.status}, not 5: {alone.err}")
    other = lab.journal("b")
    in_use = lab.factmesh("repair", lab.path("b"))
    check(in_use.status == 1 and "in use" in in_use.err, f"repair of a running journal: {in_use.status} {in_use.err}")
    dry = lab.factmesh("repair", lab.path("a"), "--dry-run", "--from", other.address, "--json")
    check(dry.status == 5, f"--dry-run: status {dry.status}, not 5: {dry.err}")
    done = lab.factmesh("repair", lab.path("a"), "--from", other.address, "--json", limit_s=60)
    check(done.status == 0, f"repair: status {done.status}, not 0: {done.err} {done.text()[-2000:]}")
    result = json.loads(done.text().splitlines()[-1])
    other.terminate()
    lab.ok("verify", lab.path("a"))
    check(lab.ok("repair", lab.path("a")) == b"nothing is damaged\n", "a second repair found something")
    expect_everything(lab, "a", files)
    lab.tell(f"{len(ranges)} damaged ranges; {result['refetched']} facts refetched, {result['segments']} segments made anew; every byte compared")


def a_repair_that_is_killed_again_and_again_ends_well(lab):
    lab.tell(f"seed {lab.seed}")
    files = two_journals(lab)
    damage(lab, lab.path("a"))
    kills = 0
    limit_ms = 2
    while True:
        repair = lab.start("repair", [FACTMESH, "repair", lab.path("a"), "--from", lab.path("b")], stdin=subprocess.DEVNULL)
        try:
            # The moment of the kill is the random choice.
            status = repair.popen.wait(lab.random.uniform(0, limit_ms) / 1000)
            check(status == 0, f"repair: status {status}: {repair.err()}")
            break
        except subprocess.TimeoutExpired:
            repair.kill9()
            kills += 1
            limit_ms *= 1.15                # later and later, until it gets to the end
            if kills % 5 == 0:
                found = lab.factmesh("verify", lab.path("a"))
                check(found.status in (0, 5), f"verify after a kill: status {found.status}: {found.err}")
    check(kills >= 10, f"killed only {kills} times")
    lab.ok("verify", lab.path("a"))
    expect_everything(lab, "a", files)
    lab.tell(f"killed {kills} times, then whole; every byte compared")


main(a_damaged_journal_is_repaired_from_another, a_repair_that_is_killed_again_and_again_ends_well)
