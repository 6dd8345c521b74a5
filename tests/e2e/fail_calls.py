"""Runs of a program in which one call fails, by tests/e2e/fail_calls.c, which see.

A scout run tells the sites: which function, called from where, how often. Each is then a Fault: the first such call fails, or one that is drawn, or
SEVERAL from the first on. FAIL_EVERY=1 takes every site in the first scenario that has it, FAIL_EVERY=2 in all that have it; otherwise as many,
drawn by SEED, as a budget of seconds allows.
"""
import os
import re
import struct
import subprocess
import time

from harness import BUILD, PATIENCE, ROOT, Failed, check, tool

PRELOAD = tool("fail_calls.so")
SITES_MAX, CALLERS_MAX, SITE = 8192, 4, struct.Struct("<QQQ4Q32s")
EVERY = int(os.environ.get("FAIL_EVERY") or 0)
# What a run of one call's failure may last: all that waits in the commands ends within 10 s.
RUN_LIMIT_S = 30
SEVERAL = 8                     # so that whoever tries again and again gets through in the end
# Lines that tell what is, not what failed.
NO_ERROR = r"^factmesh \w+: (gap: |caught up|fell behind|listening$|\d+ facts, |offset \d+: its handler)"


class Site:
    lines = {}                      # caller: FUNCTION FILE:LINE
    program = "factmesh"            # in BUILD: whose addresses these are

    def __init__(self, hash_, calls, failed, callers, name):
        self.hash, self.calls, self.failed, self.callers, self.name = hash_, calls, failed, tuple(c for c in callers if c), name

    def where(self):
        """Function and callers with file and line."""
        resolve([self])
        return " < ".join([self.name, *(Site.lines[caller] for caller in self.callers)])


def resolve(wanted):
    """The lines of all these sites' callers, at once."""
    for module, file in ((0, Site.program), (1, "libfactmesh.so")):
        callers = sorted({c for site in wanted for c in site.callers if c >> 56 == module and c not in Site.lines})
        if not callers:
            continue
        # The call stands before its return address.
        addresses = "".join(f"{(c & (1 << 56) - 1) - 1:x}\n" for c in callers)
        done = subprocess.run(["addr2line", "-s", "-f", "-e", os.path.join(BUILD, file)], input=addresses, stdout=subprocess.PIPE, text=True, check=True)
        lines = done.stdout.splitlines()
        Site.lines.update((c, f"{lines[2 * i]} {lines[2 * i + 1].split(' ')[0]}") for i, c in enumerate(callers))


def sites(path):
    """The sites that a run told, by their hash."""
    with open(path, "rb") as file:
        data = file.read()
    lost = struct.unpack_from("<Q", data)[0]
    check(lost == 0, f"{lost} sites more than fail_calls.c has room for")
    found = {}
    for i in range(SITES_MAX):
        hash_, calls, failed, *callers, name = SITE.unpack_from(data, 8 + i * SITE.size)
        if hash_:
            found[hash_] = Site(hash_, calls, failed, callers, name.rstrip(b"\0").decode())
    return found


class Fault:
    """The at-th call of a site fails, and length - 1 more."""

    def __init__(self, site, at, length):
        self.site, self.at, self.length = site, at, length

    def environment(self):
        return {"FAIL_SITE": f"{self.site.hash:x}", "FAIL_AT": str(self.at), "FAIL_FOR": str(self.length)}

    def text(self):
        return f"call {self.at}{f' and {self.length - 1} more' if self.length > 1 else ''} of {self.site.calls} of {self.site.where()}"


def faults(rng, site):
    """What is tried of a site."""
    tried = [Fault(site, 1, 1)]
    if site.calls > 1:
        tried.append(Fault(site, rng.randint(2, site.calls), 1))
        tried.append(Fault(site, 1, SEVERAL))
    return tried


class Watched:
    """A process whose calls are counted, and one of them may fail."""

    def __init__(self, lab, fault=None):
        self.report = lab.path(f"calls-{time.monotonic_ns():x}-{os.urandom(3).hex()}")
        self.env = {"LD_PRELOAD": PRELOAD, "FAIL_CALLS": self.report, **(fault.environment() if fault else {})}
        self.fault = fault

    def sites(self):
        return sites(self.report)

    def failed(self):
        """Whether the call that was to fail did: the threads of another run may go another way."""
        site = self.sites().get(self.fault.site.hash)
        return site is not None and site.failed > 0

    def forget(self):
        if os.path.exists(self.report):
            os.unlink(self.report)


def judge_end(program, status, err, statuses):
    """What is wrong with how a process ended; None: nothing. It says on one line what failed, or it is done."""
    if status < 0 or status >= 128:
        return f"killed: status {status}: {err[-400:]!r}"
    if status == 0:
        return None
    if status not in statuses:
        return f"status {status}: {err[-400:]!r}"
    if status == 5:
        return None
    lines = [line for line in err.splitlines() if not re.search(NO_ERROR, line)]
    if len(lines) != 1 or not lines[0].startswith(program) or len(lines[0]) < len(program) + 8:
        return f"status {status}, and instead of one clear line: {err[-600:]!r}"
    return None


class Tally:
    """Counts, and gathers what went wrong, so that one run shows all of it."""

    def __init__(self, lab, budget_s):
        self.lab, self.end = lab, time.monotonic() + budget_s * PATIENCE
        self.runs = self.fired = self.good = 0
        self.wrong = []
        self.slow = []

    def over(self):
        return not EVERY and time.monotonic() > self.end

    def add(self, name, fault, fired, status, took_s, wrong):
        self.runs += 1
        self.fired += fired
        self.good += status == 0
        if wrong:
            self.wrong.append(f"{name}: {fault.text()}: {wrong}")
            print(f"    {self.wrong[-1]}", flush=True)
        if took_s > 3:
            self.slow.append(f"{name}: {took_s:.1f} s, status {status}: {fault.text()}")
            if os.environ.get("FAIL_SLOW"):
                print(f"    slow: {self.slow[-1]}", flush=True)

    def close(self, count):
        self.lab.tell(f"SEED={self.lab.seed}: {count} sites, {self.runs} runs, in {self.fired} of them the call failed, {self.good} of them were done "
                      f"all the same, {len(self.slow)} took more than 3 s")
        check(self.fired > 0, "no call failed")
        if self.wrong:
            raise Failed(f"{len(self.wrong)} of {self.runs} runs, the first: {self.wrong[0]}")
