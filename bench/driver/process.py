"""Children of the benchmark: started, waited for within a time, and ended by their process ids, whatever happens.

Every child is told by the kernel to die with us (PR_SET_PDEATHSIG), for the case that we are killed; end_all ends the rest in all other
cases, Ctrl-C included. Nothing else is ever signalled.
"""
import ctypes, json, os, shutil, signal, socket, subprocess, tempfile, time

BUILD = os.environ.get("BUILD", "build/release")
BENCH = f"{BUILD}/bench"
OUT = "build/bench"
TMP = f"{OUT}/tmp"

PR_SET_PDEATHSIG = 1
ANSWER_S = 120          # a child that takes longer hangs
libc = ctypes.CDLL(None)
running = []
started = []            # called with every child that was started
deadline = [None]       # monotonic time at which the whole run gives up


class Failed(Exception):
    """A child failed, hung, or received other bytes than were sent."""


def left_s(limit_s):
    if deadline[0] is None:
        return limit_s
    left = deadline[0] - time.monotonic()
    if left <= 0:
        raise Failed("the whole run took too long (--limit)")
    return min(limit_s, left)


class Process:
    """A child; what it prints is kept in files, so that no pipe can fill."""

    def __init__(self, *command):
        self.command = [str(c) for c in command]
        self.out, self.errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.child = subprocess.Popen(self.command, stdout=self.out, stderr=self.errors, stdin=subprocess.DEVNULL,
                                      preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        running.append(self)
        for each in started:
            each(self)

    def fail(self, what):
        self.errors.seek(0)
        raise Failed(f"{what}: {' '.join(self.command)}\n{self.errors.read().decode(errors='replace')[-2000:].strip()}")

    def answer(self, limit_s=ANSWER_S):
        """Wait for the end; the JSON of its last line."""
        try:
            self.child.wait(left_s(limit_s))
        except subprocess.TimeoutExpired:
            self.end()
            self.fail(f"no end within {limit_s} s")
        running.remove(self)
        if self.child.returncode != 0:
            self.fail(f"exit {self.child.returncode}")
        self.out.seek(0)
        lines = self.out.read().decode().strip().splitlines()
        return json.loads(lines[-1]) if lines else {}

    def told_to_end(self, limit_s=ANSWER_S):
        """SIGTERM, then its answer."""
        self.child.send_signal(signal.SIGTERM)
        return self.answer(limit_s)

    def cpu_s(self):
        """CPU time of all its threads, to the nanosecond."""
        total = 0
        for task in os.listdir(f"/proc/{self.child.pid}/task"):
            with open(f"/proc/{self.child.pid}/task/{task}/schedstat") as file:
                total += int(file.read().split()[0])
        return total / 1e9

    def peak_bytes(self):
        with open(f"/proc/{self.child.pid}/status") as file:
            for line in file:
                if line.startswith("VmHWM"):
                    return int(line.split()[1]) * 1024
        return 0

    def end(self, kill=False):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        if self in running:
            running.remove(self)


class Journal(Process):
    """A journal that serves, ended with the block. The highest memory of any is kept for B11."""
    peak = 0

    def __init__(self, where, *more):
        self.directory = where
        ready = f"{where}.address"
        if os.path.exists(ready):
            os.unlink(ready)
        started = time.monotonic()
        super().__init__(f"{BUILD}/factmesh", "journal", where, "--bind", "tcp://127.0.0.1:*", "--address-file", ready, *more)
        while not os.path.exists(ready):
            if self.child.poll() is not None or time.monotonic() - started > 60:
                self.end()
                self.fail("the journal does not serve")
            time.sleep(0.001)
        self.start_s = time.monotonic() - started
        with open(ready) as file:
            self.address = file.read().strip()

    def end(self, kill=False):
        if self.child.poll() is None:
            Journal.peak = max(Journal.peak, self.peak_bytes())
        super().end(kill)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def ready_path():
    """A file that is not there yet, for a child to make when it is ready."""
    ready_path.number = getattr(ready_path, "number", 0) + 1
    path = f"{TMP}/ready{ready_path.number}"
    os.makedirs(TMP, exist_ok=True)
    if os.path.exists(path):
        os.unlink(path)
    return path


def wait_ready(processes, paths, limit_s=60):
    give_up = time.monotonic() + left_s(limit_s)
    for process, path in zip(processes, paths):
        while not os.path.exists(path):
            if process.child.poll() is not None:
                process.answer()
            if process.child.poll() is not None or time.monotonic() > give_up:
                process.fail("it does not get ready")
            time.sleep(0.002)
        os.unlink(path)


def end_all():
    for child in list(running):
        try:
            child.end()
        except OSError:
            pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_port(server, port):
    for _ in range(1000):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.child.poll() is not None:
            break
        time.sleep(0.01)
    server.fail(f"nobody listens at 127.0.0.1:{port}")


def directory(name):
    """A path in build/bench/tmp at which nothing is."""
    path = f"{TMP}/{name}"
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(TMP, exist_ok=True)
    return path


def remove(path):
    shutil.rmtree(path, ignore_errors=True)
