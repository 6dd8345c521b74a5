"""harness: processes that are started, watched, stopped, killed; and cases whose names are promises.

A case is a function of one argument, its Lab. `main (case, …)` runs them, each in a scratch directory of its own, and prints a line
each that scripts/run-tests counts. What went wrong stays: on failure the directory is kept, and the end of every log is shown.

Nothing here sleeps and hopes: whoever waits names an event and a limit, and hears at once when the process that should cause it died.
Only processes that a lab started are ended, each by its own id.

BUILD is the directory with the binaries (default build/release); SEED fixes the random choices; KEEP=1 keeps every directory.
"""
import collections
import concurrent.futures
import ctypes
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build/release"))
FACTMESH = os.path.join(BUILD, "factmesh")
# Sanitizers and a busy machine stretch everything alike.
PATIENCE = float(os.environ.get("PATIENCE", "1"))
POLL_S = 0.005
TAIL_LINES = 15

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """A promise was not kept; the text says which and how."""


class Skipped(Exception):
    """The machine lacks what the case needs."""


def check(condition, text):
    if not condition:
        raise Failed(text)


def tool(name):
    return os.path.join(BUILD, "tests", "e2e", name)


def wait_until(what, condition, limit_s, process=None):
    """Wait until condition () is true, and return what it gave; `what` is for the message."""
    end = time.monotonic() + limit_s * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if process is not None and process.popen.poll() is not None and not condition():
            raise Failed(f"{what}: {process.name} ended with status {process.popen.returncode}")
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {limit_s * PATIENCE:g} s")
        time.sleep(POLL_S)


def free_port():
    """A port that nobody listens at, below those that connecting sockets are given: it is still free when its journal comes back."""
    while True:
        port = random.SystemRandom().randrange(15000, 30000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def fields(line):
    """`WORD a=1 b=x` as a dict of texts."""
    return dict(re.findall(r"(\S+?)=(\S*)", line))


def acked(path):
    """The last sequence in what `pub --ack-log` writes; 0 before the first."""
    try:
        with open(path, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 256))
            whole = file.read().rpartition(b"\n")[0].split(b"\n")[-1].split()
    except FileNotFoundError:
        return 0
    return int(whole[-1]) if whole else 0


class Process:
    def __init__(self, lab, name, argv, stdin, env, stdout):
        self.name = name
        base = os.path.join(lab.logs, f"{len(lab.processes):02d}-{name}")
        self.out_path = stdout or base + ".out"
        self.err_path = base + ".err"
        self.read_at = collections.defaultdict(int)
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.popen = subprocess.Popen(
                argv, stdin=subprocess.PIPE if stdin is None else stdin, stdout=out, stderr=err, cwd=lab.dir,
                env={**os.environ, **lab.env, **(env or {})},
                # Whoever kills this script must not leave its children behind.
                preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        self.pid = self.popen.pid

    def out(self):
        with open(self.out_path, errors="replace") as file:
            return file.read()

    def err(self):
        with open(self.err_path, errors="replace") as file:
            return file.read()

    def _scan(self, pattern, stream):
        """The first match in whole lines behind those matched before; moves behind its line."""
        path = self.out_path if stream == "out" else self.err_path
        with open(path, "rb") as file:
            file.seek(self.read_at[stream])
            data = file.read()
        data = data[:data.rfind(b"\n") + 1]
        match = re.search(pattern.encode(), data, re.M)
        if match:
            self.read_at[stream] += data.index(b"\n", match.end() - 1 if match.group(0).endswith(b"\n") else match.end()) + 1
            return data[data.rfind(b"\n", 0, match.start()) + 1:].split(b"\n", 1)[0].decode(errors="replace")
        return None

    def line(self, pattern, limit_s=10, stream="out"):
        """Wait for a line, behind those waited for before, and return it."""
        return wait_until(f"{self.name}: a line like {pattern!r}", lambda: self._scan(pattern, stream), limit_s, self)

    def lines(self, pattern):
        """All lines so far that match."""
        return [line for line in self.out().splitlines() if re.search(pattern, line)]

    def send(self, line):
        self.popen.stdin.write(line.encode() + b"\n")
        self.popen.stdin.flush()

    def close_input(self):
        self.popen.stdin.close()

    def wait(self, limit_s=10):
        """Wait for the end; returns the exit status."""
        try:
            return self.popen.wait(limit_s * PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name}: does not end within {limit_s * PATIENCE:g} s") from None

    def ends_well(self, limit_s=10):
        status = self.wait(limit_s)
        check(status == 0, f"{self.name}: exit status {status}, not 0: {self.err()[-300:]}")

    def alive(self):
        return self.popen.poll() is None

    def signal(self, number):
        self.popen.send_signal(number)

    def kill9(self):
        self.popen.kill()
        self.popen.wait()

    def stop(self):
        """SIGSTOP, and wait until the kernel says that it stands."""
        self.signal(signal.SIGSTOP)
        wait_until(f"{self.name} stands still", lambda: self.state() == "T", 5, self)

    def cont(self):
        self.signal(signal.SIGCONT)

    def state(self):
        with open(f"/proc/{self.pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]

    def memory_bytes(self):
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def files_open(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory_peak_bytes(self):
        with open(f"/proc/{self.pid}/status") as file:
            return int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1)) * 1024

    def memory_peak_reset(self):
        with open(f"/proc/{self.pid}/clear_refs", "w") as file:
            file.write("5")

    def terminate(self, limit_s=10):
        """Ask it to end (SIGTERM), and wait; returns the exit status."""
        if self.alive():
            self.signal(signal.SIGTERM)
        return self.wait(limit_s)


def a_fact_from_each_reaches_each(nodes, word, limit_s):
    """mesh_nodes that see each other publish, round after round, until each has a fact of the latest round from each; returns the seconds.

    A subscription to what comes from now on begins, for a publisher that it meets later, where its connection is complete: a moment after
    the member is seen. From the first fact of a sender on none may be missing, come twice or in another order.
    """
    started, rounds = time.monotonic(), 0

    def got(node, sender):
        return [int(n) for n in re.findall(rf"^FACT topic=mesh.{sender.name} text={word}-(\d+)$", node.out(), re.M)]

    def all_have(last):
        return all(last in got(node, sender) for node in nodes for sender in nodes)
    while True:
        for node in nodes:
            node.send(f"publish {word}-{rounds}")
        try:
            wait_until(f"a fact from each reaches each in round {rounds}", lambda: all_have(rounds), min(0.25, limit_s))
            break
        except Failed:
            rounds += 1
            if time.monotonic() - started > limit_s * PATIENCE:
                raise
    took = time.monotonic() - started
    for node in nodes:
        check(not node.lines("^GAP"), f"{node.name} was told a gap")
        for sender in nodes:
            numbers = got(node, sender)
            check(numbers == list(range(numbers[0], rounds + 1)), f"{node.name} has of {sender.name} the rounds {numbers} of {rounds + 1}")
    return took


class Result:
    def __init__(self, argv, done):
        self.argv = argv
        self.status = done.returncode
        self.out = done.stdout
        self.err = done.stderr.decode(errors="replace")

    def text(self):
        return self.out.decode(errors="replace")


class Lab:
    """A scratch directory and the processes that were started in it."""

    def __init__(self, name):
        self.dir = tempfile.mkdtemp(prefix=f"factmesh-e2e-{name[:40]}-")
        self.logs = self.path("logs")
        os.mkdir(self.logs)
        self.processes = []
        # The command's streams live below this: those of the user who runs the tests are not theirs.
        self.env = {"XDG_STATE_HOME": self.path("state"), "FACTMESH_SEED": "", "FACTMESH_MESH": ""}
        self.seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
        self.random = random.Random(self.seed)
        self.told = []

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def tell(self, text):
        """What was checked, or measured: printed with the verdict."""
        self.told.append(text)

    def start(self, name, argv, stdin=None, env=None, stdout=None):
        process = Process(self, name, argv, stdin, env, stdout)
        self.processes.append(process)
        return process

    def run(self, *argv, stdin=b"", limit_s=20, env=None):
        """Run to the end and return its Result; standard input is bytes or a file."""
        kind = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
        try:
            done = subprocess.run([a if isinstance(a, bytes) else str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.dir,
                                  timeout=limit_s * PATIENCE, env={**os.environ, **self.env, **(env or {})}, **kind)
        except subprocess.TimeoutExpired:
            raise Failed(f"no end within {limit_s * PATIENCE:g} s: {' '.join(str(a) for a in argv)}") from None
        return Result(argv, done)

    def factmesh(self, *argv, **more):
        return self.run(FACTMESH, *argv, **more)

    def ok(self, *argv, **more):
        """factmesh with these arguments, which must succeed; returns its output as bytes."""
        result = self.factmesh(*argv, **more)
        check(result.status == 0, f"factmesh {' '.join(str(a) for a in argv)}: status {result.status}: {result.err[-400:]}")
        return result.out

    def journal(self, directory="journal", bind=None, *more):
        """Start a journal and wait until it serves; .address is its control address."""
        bind = bind or f"tcp://127.0.0.1:{free_port()}"
        address_file = self.path(f"address-{len(self.processes)}")
        process = self.start("journal", [FACTMESH, "journal", self.path(directory), "--bind", bind, "--address-file", address_file,
                                         *more], stdin=subprocess.DEVNULL)

        def address():
            try:
                with open(address_file) as file:
                    text = file.read()
                return text.strip() if text.endswith("\n") else None
            except FileNotFoundError:
                return None
        process.address = wait_until("journal: its address file", address, 20, process)
        return process

    def damage(self, directory, recorded):
        """A bit of these bytes is flipped where a journal's only segment first has them."""
        segment, = os.listdir(self.path(directory, "segments"))
        with open(self.path(directory, "segments", segment), "r+b") as file:
            at = file.read().index(recorded)
            file.seek(at)
            file.write(bytes([recorded[0] ^ 1]))

    def close(self, keep):
        for process in self.processes:
            if process.alive():
                process.kill9()
            if process.popen.stdin:
                try:
                    process.popen.stdin.close()
                except BrokenPipeError:
                    pass
        if not keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def show(self):
        print(f"    kept: {self.dir}   (SEED={self.seed})")
        for process in self.processes:
            ended = "running" if process.alive() else f"status {process.popen.returncode}"
            for path in (process.out_path, process.err_path):
                if not os.path.isfile(path):
                    continue                # a FIFO, which is the case's to read
                with open(path, errors="replace") as file:
                    tail = collections.deque(file, TAIL_LINES)
                if tail:
                    print(f"    {os.path.basename(path)} ({ended}):")
                    for line in tail:
                        print("        " + line.rstrip()[:300])


def run_case(case):
    print(f"[ RUN      ] {case.__name__}", flush=True)
    started = time.monotonic()
    lab = Lab(case.__name__)
    verdict, keep = "      OK", os.environ.get("KEEP") == "1"
    try:
        case(lab)
    except Skipped as why:
        verdict = " SKIPPED"
        lab.tell(str(why))
    except (Failed, OSError, subprocess.SubprocessError) as why:
        verdict, keep = " FAILED ", True
        lab.tell(str(why))
        if not isinstance(why, Failed):
            traceback.print_exc()
    except BaseException:
        lab.show()
        lab.close(True)
        raise
    for text in lab.told:
        print(f"    {text}")
    if verdict == " FAILED ":
        lab.show()
    lab.close(keep)
    print(f"[ {verdict} ] {case.__name__} ({time.monotonic() - started:.1f} s)", flush=True)
    return verdict != " FAILED "


def run_at_once(cases, at_once):
    """Each case in a process of its own, at_once of them at a time; their words come together when one is done."""
    def run(case):
        done = subprocess.run([sys.executable, sys.argv[0], case.__name__], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        sys.stdout.buffer.write(done.stdout)
        sys.stdout.flush()
        return done.returncode == 0
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(run, cases))


def main(*cases, at_once=1):
    """Run all cases, or those named on the command line; ends the program. at_once: cases that mostly wait may wait side by side."""
    wanted = sys.argv[1:]
    unknown = set(wanted) - {case.__name__ for case in cases}
    if unknown:
        sys.exit(f"no such case: {', '.join(sorted(unknown))}")
    if at_once > 1 and not wanted:
        good = run_at_once(cases, at_once)
    else:
        good = [run_case(case) for case in cases if not wanted or case.__name__ in wanted]
    sys.exit(0 if all(good) else 1)
