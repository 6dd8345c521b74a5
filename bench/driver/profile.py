"""bench/run --profile: where the processes of a row spend their time, by perf, thread by thread."""
import os, shutil, signal, subprocess

import process

PROGRAMS = ("factmesh", "fm_pub", "fm_sub", "zmq_flow")
KEPT = 3                # profiles of each program: one round has as many at most that differ
watched = []            # (program, perf, path)


def watch(child):
    """Sample a process from now to its end. Called with every child that is started."""
    program = os.path.basename(child.command[0])
    if program not in PROGRAMS or sum(w[0].split()[0] == program for w in watched) >= KEPT:
        return
    path = f"{process.OUT}/profile-{len(watched)}-{program}.perf"
    perf = subprocess.Popen(["perf", "record", "-q", "-F", "997", "-g", "-o", path, "-p", str(child.child.pid)], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    watched.append((program + " " + " ".join(child.command[1:]), perf, path))


def begin():
    if not shutil.which("perf"):
        raise SystemExit("bench: --profile needs perf (Debian: linux-perf)")
    process.started.append(watch)


def report():
    for command, perf, path in watched:
        if perf.poll() is None:
            perf.send_signal(signal.SIGINT)
        perf.wait(30)
        done = subprocess.run(["perf", "report", "-i", path, "--stdio", "--no-children", "-g", "none", "--sort", "comm,symbol", "--percent-limit", "1.5"],
                              capture_output=True, text=True)
        lines = [line.rstrip(" -") for line in done.stdout.splitlines() if line.strip() and not line.startswith("#")]
        print(f"\n{command[:150]}\n" + "\n".join(lines[:25]))
