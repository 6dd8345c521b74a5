#!/usr/bin/python3
"""The journal is killed -9 at twenty random moments while 200 000 lines are published: afterwards it holds exactly those lines, in order."""
import subprocess
import threading
import time

from harness import FACTMESH, Failed, acked, check, free_port, main, wait_until

LINES = 200_000
RATE = 20_000
KILLS = 20
# Each kill has its part of the flow, and the next one is on its way then: however slow the machine is, some of it is left for the last.
PARTS = KILLS + 2


def lines_write(lab, count):
    """Lines of all lengths, an empty one among them, each with its number; returns the path."""
    path = lab.path("lines")
    with open(path, "w") as file:
        file.writelines(f"{i:06d} {'x' * (lab.random.randrange(120))}\n" if i != 777 else "\n" for i in range(1, count + 1))
    return path


def compare_lines(got, want):
    if got == want:
        return
    got_lines, want_lines = got.split(b"\n"), want.split(b"\n")
    at = next((i for i, (g, w) in enumerate(zip(got_lines, want_lines)) if g != w), min(len(got_lines), len(want_lines)))
    raise Failed(f"{len(got_lines) - 1} lines recorded, {len(want_lines) - 1} published; the first that differs is number {at + 1}: "
                 f"{got_lines[at:at + 2]} instead of {want_lines[at:at + 2]}")


def feed(pub, source, allowed):
    with open(source, "rb") as file:
        lines = file.readlines()
    for part in range(PARTS):
        allowed.acquire()
        pub.popen.stdin.writelines(lines[part * LINES // PARTS:(part + 1) * LINES // PARTS])
        pub.popen.stdin.flush()
    pub.close_input()


def twenty_kills_of_the_journal_cost_no_line(lab):
    source, ack_log = lines_write(lab, LINES), lab.path("ack")
    bind = f"tcp://127.0.0.1:{free_port()}"
    journal = lab.journal("journal", bind, "--segment-size", "1M")
    pub = lab.start("pub", [FACTMESH, "pub", "kills.lines", "--seed", bind, "--rate", str(RATE), "--ack-log", ack_log, "--timeout", "60s"])
    allowed = threading.Semaphore(1)
    threading.Thread(target=feed, args=(pub, source, allowed), daemon=True).start()
    moments, longest_ms = [], 0
    for kill in range(KILLS):
        allowed.release()
        want = lab.random.randint(kill * LINES // PARTS + 1, (kill + 1) * LINES // PARTS)
        wait_until(f"kill {kill + 1}: line {want} is acknowledged", lambda: acked(ack_log) >= want, 30, pub)
        # Within the group commits that follow: this is the random choice of the moment.
        time.sleep(lab.random.uniform(0, 0.03))
        journal.kill9()
        moments.append(acked(ack_log))
        started = time.monotonic()
        journal = lab.journal("journal", bind, "--segment-size", "1M")
        longest_ms = max(longest_ms, (time.monotonic() - started) * 1000)
    check(moments[-1] < LINES, "the flow was over before the last kill: nothing was tested")
    allowed.release()
    pub.ends_well(120)
    check(acked(ack_log) == LINES, f"pub ended well, but acknowledged only {acked(ack_log)} of {LINES}")
    lab.tell(f"seed {lab.seed}; killed when these lines were acknowledged: {moments}")
    lab.tell(f"slowest restart until serving: {longest_ms:.0f} ms")

    out = lab.path("recorded")
    sub = lab.start("sub", [FACTMESH, "sub", "kills.lines", "--seed", bind, "--from", "start", "--until", "end"],
                    stdin=subprocess.DEVNULL, stdout=out)
    sub.ends_well(60)
    with open(out, "rb") as got, open(source, "rb") as want:
        compare_lines(got.read(), want.read())
    check(journal.terminate() == 0, "the journal does not end well")
    lab.ok("verify", lab.path("journal"))
    lab.tell(f"{LINES} lines recorded exactly once, in order, every byte; verify finds no damage")


main(twenty_kills_of_the_journal_cost_no_line)
