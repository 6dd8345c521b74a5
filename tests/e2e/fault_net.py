"""fault_net: hosts on a network that misbehaves on command.

    net = Network (lab)                     # Skipped where namespaces or tun devices are not allowed
    journal = net.journal ("journal")       # a host of its own: journal.host, journal.address
    sub = net.start ("sub", argv)           # argv may hold {bind}: the address where this host's node should listen
    net.link (sub, journal, drop=1)         # one direction; net.between: both; net.part: everything from and to a host
    net.heal ()

Keys of a rule: drop, loss (in a million), delay, jitter (us), rate (bytes/s), reset; see fault_net.c. `only` is "live" or
"control" (what goes over the control port: membership, watermarks, replay, repairs).
"""
import subprocess
import time

from harness import FACTMESH, Skipped, check, tool, wait_until

CONTROL_PORT = 7400


class Network:
    def __init__(self, lab):
        tried = subprocess.run([tool("fault_host"), "--check"], stderr=subprocess.PIPE)
        if tried.returncode == 77:
            raise Skipped(f"no network of its own here: {tried.stderr.decode().strip()}")
        self.lab = lab
        self.socket = lab.path("net")
        self.switch = lab.start("network", [tool("fault_net"), self.socket])
        self.switch.line("^READY", 10)
        self.hosts = 0

    def new_host(self):
        self.hosts += 1
        check(self.hosts < 64, "the network has 63 hosts")
        return self.hosts

    @staticmethod
    def address(host):
        return f"tcp://10.77.0.{host}:{CONTROL_PORT}"

    def start(self, name, argv, host=None, **more):
        """Start a program as a host; as the same one as before when its number is given."""
        host = host or self.new_host()
        argv = [a.replace("{bind}", self.address(host)) for a in argv]
        process = self.lab.start(name, [tool("fault_host"), self.socket, str(host), *argv], **more)
        process.host, process.argv = host, argv
        return process

    def journal(self, directory="journal", *more, host=None):
        host = host or self.new_host()
        address_file = self.lab.path(f"address-{len(self.lab.processes)}")
        process = self.start("journal", [FACTMESH, "journal", self.lab.path(directory), "--bind", "{bind}", "--address-file", address_file, *more],
                             host=host, stdin=subprocess.DEVNULL)
        process.address = self.address(host)

        def serves():
            try:
                with open(address_file) as file:
                    return file.read().endswith("\n")
            except FileNotFoundError:
                return False
        wait_until("journal: its address file", serves, 20, process)
        return process

    def run(self, *argv, limit_s=20):
        """A program from start to end on a host of its own; returns its Result."""
        return self.lab.run(tool("fault_host"), self.socket, str(self.new_host()), *argv, limit_s=limit_s)

    def command(self, text):
        self.switch.send(text)
        answer = self.switch.line("^(OK|ERROR)", 10)
        check(answer.startswith("OK"), f"the network does not understand {text!r}")
        return answer

    @staticmethod
    def name(end):
        return "*" if end is None else str(getattr(end, "host", end))

    def link(self, source, target, only="all", **rule):
        """One direction; None is everybody."""
        keys = "".join(f" {key}={value}" for key, value in rule.items())
        self.command(f"rule {self.name(source)} {self.name(target)} {only}{keys}")

    def between(self, a, b, only="all", **rule):
        self.link(a, b, only, **rule)
        self.link(b, a, only, **rule)

    def part(self, host, only="all", **rule):
        self.between(host, None, only, **rule)

    @staticmethod
    def accepted(process, peer):
        """How many connections that `peer` made to the process's live endpoint its kernel knows."""
        ESTABLISHED, LISTEN = "01", "0A"
        with open(f"/proc/{process.pid}/net/tcp") as file:
            rows = [line.split()[1:4] for line in file.read().splitlines()[1:]]
        ports = {local.split(":")[1] for local, _, state in rows if state == LISTEN} - {f"{CONTROL_PORT:04X}"}
        host = f"{peer.host:02X}004D0A"
        return sum(state == ESTABLISHED and local.split(":")[1] in ports and remote.split(":")[0] == host for local, remote, state in rows)

    def heal(self):
        self.link(None, None)


def half_open(net, pub, receiver):
    """The publisher's end of a live connection goes, and the receiver does not hear of it. Returns when the link was well again."""
    check(net.accepted(pub, receiver) == 1, "there is no live connection: nothing is tested")
    net.link(pub, receiver, "live", forget=1)
    wait_until("the publisher's end is gone", lambda: net.accepted(pub, receiver) == 0, 10, receiver)
    # Late acknowledgements must meet the fault, too, not a kernel that answers them with RST.
    time.sleep(0.3)
    net.heal()
    check(net.accepted(pub, receiver) == 0, "it has connected anew already: nothing is tested")
    return time.monotonic()
