#!/usr/bin/python3
"""What scripts build on: contents from standard input, readers that go, signals that end a command, handlers that do not do what they should."""
import os
import resource
import signal
import subprocess
import time

from fail_calls import Fault, Watched
from harness import FACTMESH, check, free_port, main, wait_until


def expect(result, status, words=""):
    check(result.status == status and words in result.err, f"{result.argv[1:]}: status {result.status}, not {status}: {result.err[-300:]!r}")
    return result


def without_a_reader(lab, name, argv, stdin=None):
    """Its standard output is a pipe that nobody reads."""
    ours, theirs = os.pipe()
    os.close(ours)
    return lab.start(name, [FACTMESH, *argv], stdin=stdin, stdout=theirs)          # and closes it


def contents_come_from_standard_input(lab):
    journal = lab.journal()
    lab.env["FACTMESH_SEED"] = journal.address
    wrong = lab.ok("pub", "in.null", "--null", "--print-ids", stdin=b"one\nline\0two\0\0").decode().split()
    check(lab.ok("replay", "in.null", "--null") == b"one\nline\0two\0\0", "other facts than were separated by NUL")
    corrected = lab.ok("correct", wrong[0], stdin=b"the right\ncontent").decode().strip()
    check(lab.ok("get", corrected, "--raw") == b"the right\ncontent", "the correction has another content")
    directory = os.open(lab.dir, os.O_RDONLY)
    expect(lab.factmesh("correct", wrong[1], stdin=directory), 1, "factmesh correct: the new content: standard input:1: Is a directory\n")
    os.close(directory)
    responder = lab.start("respond", [FACTMESH, "respond", "in.query", "--exec", "cat"], stdin=subprocess.DEVNULL)
    responder.line("listening", stream="err")
    check(lab.ok("request", "in.query", "--raw", "--timeout", "10s", stdin=b"who\nis there?") == b"who\nis there?", "another answer")
    expect(lab.factmesh("request", "in.query", stdin=bytes((1 << 20) + 1)), 1, "the request's content: ")
    check(expect(lab.factmesh("pub", "in.said", "a", "b", "--verbose"), 0, "factmesh pub: 2 facts recorded\n").out == b"", "it prints something")
    expect(lab.factmesh("pub", "in.said", "--json", "--no-wait", stdin=b'{"a":1}\nno JSON\n'), 1, "the 1 facts before were published, nothing from there on")


def readers_may_go(lab):
    journal = lab.journal()
    lab.env["FACTMESH_SEED"] = journal.address
    # Nobody reads the ids any more: no reason to stop publishing what comes, now and later.
    pub = without_a_reader(lab, "pub", ["pub", "gone.a", "--print-ids"])
    for text in "one", "two":
        pub.send(text)
        wait_until(f"{text} is recorded", lambda: text.encode() in lab.ok("replay", "gone.a"), 20, pub)
        time.sleep(0.1)                 # it is idle meanwhile, and writes the ids
    pub.close_input()
    pub.ends_well()
    check(pub.err() == "", f"it says {pub.err()!r}")
    result = lab.run("sh", "-c", f"exec '{FACTMESH}' pub gone.b x --print-ids >/dev/full")
    check(result.status == 1 and "No space left" in result.err, f"status {result.status}: {result.err!r}")
    for argv in ["replay"], ["get", "gone.a", "none"], ["sub", "--from", "start", "--until", "end"]:
        process = without_a_reader(lab, argv[0], argv, subprocess.DEVNULL)
        check(process.wait() == (1 if argv[0] == "get" else 0), f"{argv}: {process.err()}")
    responder = lab.start("respond", [FACTMESH, "respond", "gone.query", "--exec", "cat"], stdin=subprocess.DEVNULL)
    responder.line("listening", stream="err")
    request = without_a_reader(lab, "request", ["request", "gone.query", "x", "--timeout", "10s"], subprocess.DEVNULL)
    request.ends_well(15)


def a_signal_ends_a_command_and_it_says_what_it_did(lab):
    journal = lab.journal()
    lab.env["FACTMESH_SEED"] = journal.address
    started = []

    def begin(name, *argv, stdin=subprocess.DEVNULL, stdout=None):
        started.append((name, lab.start(name, [FACTMESH, *argv], stdin=stdin, stdout=stdout)))
        return started[-1][1]
    for name, more in ("recorded", []), ("no-wait", ["--no-wait"]):
        begin(name, "pub", f"signal.{name}", "--ephemeral", *more, stdin=None).send("one")
    begin("paced", "pub", "signal.paced", "--ephemeral", "--rate", "1", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
    begin("request", "request", "signal.query", "x", "--timeout", "60s")
    # Far more than a pipe holds, and nobody takes it.
    lab.ok("pub", "signal.much", "--stream", "much", stdin=b"x" * 999 + b"\n" + (b"y" * 999 + b"\n") * 3000)
    ours, theirs = os.pipe()
    begin("replay", "replay", "signal.much", stdout=theirs)

    def all_are_there():
        recorded = lab.ok("replay", "--format", "%t ").decode().split()
        return {"signal.recorded", "signal.no-wait", "signal.paced", "signal.query"} <= set(recorded)
    wait_until("all have begun", all_are_there, 20)
    check(os.read(ours, 1000) == b"x" * 999 + b"\n", "the replay begins with something else")
    for name, process in started:
        process.signal(signal.SIGTERM)
    for name, process in started:
        check(process.wait() == 143, f"{name}: status {process.popen.returncode}: {process.err()!r}")
    said = {name: process.err() for name, process in started}
    check(said["recorded"] == "factmesh pub: interrupted: 1 facts are recorded\n", f"pub says {said['recorded']!r}")
    check(said["paced"].startswith("factmesh pub: interrupted: ") and "facts are recorded" in said["paced"], f"pub --rate says {said['paced']!r}")
    check(said["replay"] == said["no-wait"] == said["request"] == "", f"said: {said}")
    os.close(ours)


def handlers_that_do_not_answer_are_told(lab):
    journal = lab.journal()
    lab.env["FACTMESH_SEED"] = journal.address
    # It has ended before the responder, which it stops meanwhile, looks how much it wrote.
    quick = ("kill -STOP $PPID; until grep -q '^State:.T' /proc/$PPID/status; do :; done; head -c 1100000 /dev/zero; "
             "setsid sh -c 'until grep -q \"^State:.Z\" /proc/$0/status; do :; done; kill -CONT $1' $$ $PPID >/dev/null &")
    table = {"slow": ("--limit", "200ms", "--exec", "sleep 60"), "long": ("--exec", "head -c 1100000 /dev/zero; sleep 60"), "quick": ("--exec", quick),
             "failed": ("--exec", "exit 7"), "quiet": ("--quiet", "--exec", "exit 7"), "group": ("--group", "g", "--exec", "cat")}
    responders = {name: lab.start(f"respond-{name}", [FACTMESH, "respond", f"ask.{name}", "-n", "1", "--topic", f"ask.{name}", *argv], stdin=subprocess.DEVNULL)
                  for name, argv in table.items()}
    for name, process in responders.items():
        if name != "quiet":
            process.line("listening", 20, "err")
        # Neither is a request: it has no correlation; it is on the topic of responses.
        lab.ok("pub", f"ask.{name}", "no request")
        lab.ok("pub", f"ask.{name}", "a response", "--correlation", "c")
    for name, process in responders.items():
        check(process.alive(), f"{name} took what is no request for one")
        process.terminate()
    words = {"slow": "no response: the handler ran for more than 200 ms, and was killed", "long": "no response: the handler wrote more than 1048576 bytes",
             "quick": "no response: the handler wrote more than 1048576 bytes", "failed": "no response: the handler ended with status 7", "quiet": ""}
    for name, said in words.items():
        # However late a request comes: on a busy machine its deadline has passed.
        responder = lab.start(f"again-{name}", [FACTMESH, "respond", f"ask.{name}", "-n", "1", "--expired-too", *table[name]], stdin=subprocess.DEVNULL)

        def asked():
            expect(lab.factmesh("request", f"ask.{name}", "x", "--timeout", "300ms"), 3, "timed out: 0 of 1 responses")
            return not responder.alive()
        wait_until(f"{name} is asked, and ends", asked, 20)
        responder.ends_well()
        check(said in responder.err() and (said or not responder.err()), f"{name} says {responder.err()!r}")


def waiting_ends_when_it_should(lab):
    journal = lab.journal()
    lab.env["FACTMESH_SEED"] = journal.address
    lab.ok("pub", "end.a", "before")
    until = time.time() + 1.5
    sub = lab.start("sub", [FACTMESH, "sub", "end.>", "--from", "start", "--until", f"@{until:.3f}"], stdin=subprocess.DEVNULL)
    sub.line("caught up", 20, "err")
    lab.ok("pub", "end.a", "in time")
    sub.ends_well(20)
    check(time.time() >= until, "it ended before its time")
    lab.ok("pub", "end.a", "too late")
    check(sub.out().split("\n")[:2][0] == "before" and "too late" not in sub.out(), f"it printed {sub.out()!r}")
    got = lab.ok("sub", "end.>", "--from", "start", "--until", f"@{until:.3f}").decode()
    check("too late" not in got and got.startswith("before\n"), f"it printed {got!r}")
    idle = expect(lab.factmesh("work", "w", "nothing.here", "--exec", "true", "--timeout", "2s", "--verbose"), 3, "timed out: there was nothing to do for 2000 ms; 0 facts were handled")
    check("factmesh work: EFFECT-UNDECLARED " in idle.err, f"--verbose tells nothing: {idle.err!r}")
    expect(lab.factmesh("sub", "--from", "cursor:none"), 1, "no cursor 'none'")
    expect(lab.factmesh("journal", lab.path("j"), "--bind", "tcp://127.0.0.1:*", "--address-file", "x" * 4096), 1, "--address-file: 4096 bytes: too long for a path")
    expect(lab.factmesh("nodes", "--seed", "tcp://127.0.0.1:1", "--timeout", "100ms"), 3, "no node")


def a_journal_takes_all_descriptors_that_it_may(lab):
    """A connection takes one, and the usual soft limit is for programs that select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard - 1, hard))
    journal = lab.journal()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    check(resource.prlimit(journal.pid, resource.RLIMIT_NOFILE) == (hard, hard), "its limit is what it was given")


def what_a_journal_finds_damaged_is_told_and_the_rest_is_served(lab):
    journal = lab.journal()
    lab.env["FACTMESH_SEED"] = journal.address
    for text in "the first", "the second", "the third":
        lab.ok("pub", "told.a", text)
    journal.kill9()
    lab.damage("journal", b"the second")
    journal = lab.journal(bind=journal.address)
    told = [line.partition("JOURNAL-RECOVERED ")[2] for line in journal.err().splitlines() if "JOURNAL-RECOVERED" in line]
    check(told == ["torn_bytes=0 damaged_ranges=1: what was cut off is in quarantine/; what is damaged is a gap until factmesh repair mends it"], f"it says {told}")
    replayed = lab.factmesh("replay", "told.a")
    check(replayed.out == b"the first\nthe third\n" and "damaged" in replayed.err, f"the replay: {replayed.out!r}, {replayed.err!r}")
    check(journal.terminate() == 0, f"it ends with {journal.popen.returncode}")
    check(lab.factmesh("verify", lab.path("journal")).status == 5, "verify does not find it")


def a_journal_that_finds_no_room_for_a_new_directory_starts_when_there_is_some(lab):
    """The disk is full for the first writes of its cookie."""
    address, ready = f"tcp://127.0.0.1:{free_port()}", lab.path("ready")

    def start(watched, directory):
        return lab.start(directory, [FACTMESH, "journal", lab.path(directory), "--bind", address, "--address-file", ready], stdin=subprocess.DEVNULL, env=watched.env)
    scout = Watched(lab)
    journal = start(scout, "scout")
    wait_until("it serves", lambda: os.path.exists(ready), 20, journal)
    check(journal.terminate() == 0, f"it ends with {journal.popen.returncode}")
    os.unlink(ready)
    sites = [site for site in scout.sites().values() if site.name == "pwrite" and "cookie_write" in site.where()]
    check(len(sites) == 1, f"{len(sites)} calls write a cookie")
    for length in 1 << 30, 2:
        journal = start(Watched(lab, Fault(sites[0], 1, length)), f"full-{length}")
        journal.line("DISK-FULL", 20, "err")
        if length > 2:
            check(journal.terminate() == -signal.SIGTERM and not os.path.exists(ready), "a signal does not end its waiting")
    wait_until("it serves", lambda: os.path.exists(ready), 20, journal)
    told = [line.partition("DISK-FULL ")[2] for line in journal.err().splitlines() if "DISK-FULL" in line]
    check(told == [f"cannot write {lab.path('full-2')}/journal.cookie: No space left on device: nothing is served until there is space; tried again each second"],
          f"it says {told}")
    lab.ok("pub", "disk.a", "taken", "--seed", address)
    check(lab.ok("replay", "disk.a", "--seed", address) == b"taken\n", "what it took is not there")
    check(journal.terminate() == 0, f"it ends with {journal.popen.returncode}")


def a_journal_whose_disk_failed_ends_with_a_word(lab):
    """Its files may not grow beyond so many bytes: from then on each write fails, as a broken disk's do."""
    address, ready = f"tcp://127.0.0.1:{free_port()}", lab.path("ready")
    journal = lab.start("journal", ["sh", "-c", 'trap "" XFSZ; exec "$@"', "sh", FACTMESH, "journal", lab.path("journal"), "--bind", address, "--address-file", ready],
                        stdin=subprocess.DEVNULL)
    wait_until("it serves", lambda: os.path.exists(ready), 20, journal)
    lab.env["FACTMESH_SEED"] = address
    lab.ok("pub", "disk.a", "before")
    resource.prlimit(journal.pid, resource.RLIMIT_FSIZE, (1024, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    expect(lab.factmesh("pub", "disk.a", "after", "--ephemeral", "--timeout", "1s"), 3, "0 facts are recorded")
    journal.line("JOURNAL-READ-ONLY", stream="err")
    check(lab.ok("replay", "disk.a") == b"before\n", "what was recorded is not served")
    check(journal.terminate() == 1, f"it ends with {journal.popen.returncode}")
    said = journal.err().splitlines()[-1]
    check(said == f"factmesh journal: {lab.path('journal')}: ends READ-ONLY: a write had failed, and nothing was recorded since; mend the disk and start it again", said)
    again = lab.journal(bind=address)
    lab.ok("pub", "disk.a", "mended")
    check(lab.ok("replay", "disk.a") == b"before\nmended\n", "other facts than were acknowledged")
    check(again.terminate() == 0, f"the next one ends with {again.popen.returncode}")


main(contents_come_from_standard_input, readers_may_go, a_signal_ends_a_command_and_it_says_what_it_did, handlers_that_do_not_answer_are_told, waiting_ends_when_it_should,
     a_journal_takes_all_descriptors_that_it_may, what_a_journal_finds_damaged_is_told_and_the_rest_is_served,
     a_journal_that_finds_no_room_for_a_new_directory_starts_when_there_is_some, a_journal_whose_disk_failed_ends_with_a_word,
     at_once=3)
