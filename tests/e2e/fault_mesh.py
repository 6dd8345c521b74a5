"""fault_mesh: a mesh under faults: a journal, publishers, subscribers, each of which can be killed and started again, and the judgement.

Publishers publish until they are told to end; contents follow from stream and sequence (tests/support/flow). In the end the journal's replay
must hold all that was ever acknowledged, with the right contents, and every subscriber exactly what the replay has of its topics: in order,
once. Who delivers live may have seen more: what its publisher's death then kept out of every journal.

With a Network each process is a host of its own (fault_net.py); without, all are on loopback.
"""
from harness import check, fields, free_port, tool

TOPICS = 10


class Mesh:
    def __init__(self, lab, net=None, topics=TOPICS, journal_more=(), payload=None):
        self.lab, self.net, self.topics = lab, net, topics
        self.shape = ["--topics", str(topics)] + (["--payload", str(payload)] if payload else [])
        self.contents = lab.seed % 1_000_000
        self.publishers, self.subscribers = [], []
        self.journal_more = journal_more
        self.bind = None if net else f"tcp://127.0.0.1:{free_port()}"
        self.journal = self.journal_start()

    # ---------------------------------------------------------------- processes

    def journal_start(self, host=None):
        if self.net:
            return self.net.journal("journal", *self.journal_more, host=host)
        return self.lab.journal("journal", self.bind, *self.journal_more)

    def journal_kill(self):
        self.journal.kill9()

    def journal_restart(self):
        self.journal = self.journal_start(getattr(self.journal, "host", None))

    def start(self, name, argv, host=None, **more):
        if self.net:
            return self.net.start(name, argv, host, **more)
        argv = [a.replace("{bind}", "tcp://127.0.0.1:*") for a in argv]
        process = self.lab.start(name, argv, **more)
        process.argv = argv
        return process

    def start_again(self, process):
        """The same program at the same place, after its death; takes its place in the lists, too."""
        check(not process.alive(), f"{process.name} is still there")
        again = self.start(process.name, process.argv, getattr(process, "host", None))
        for name in ("log", "topic", "acked", "index", "synced"):
            if hasattr(process, name):
                setattr(again, name, getattr(process, name))
        for group in (self.publishers, self.subscribers):
            if process in group:
                group[group.index(process)] = again
        return again

    def publisher(self, rate, *more, durable=False):
        index = len(self.publishers)
        acked = self.lab.path(f"acked-{index}")
        argv = [tool("flow_publisher"), "--seed", self.journal.address, "--bind", "{bind}", "--contents", str(self.contents), "--endless",
                "--rate", str(rate), *self.shape, "--first-stream", str(index), "--acked", acked, *more]
        if durable:
            argv += ["--directory", self.lab.path("streams")]
        process = self.start(f"publisher-{index}", argv)
        process.acked, process.index = acked, index
        process.line("^READY", 15)
        self.publishers.append(process)
        return process

    def ends(self, topic):
        """How many topics match the filter: flow.r0.k0 to flow.r0.k9 and so on."""
        names = [f"flow.r{i // 10}.k{i % 10}" for i in range(self.topics)]
        levels = topic.split(".")

        def matches(name):
            parts = name.split(".")
            return all(level in (">", "*", part) for level, part in zip(levels, parts))
        return sum(matches(name) for name in names)

    def subscriber(self, name, topic="flow.>", *more, publishers=None, ready=True):
        log = self.lab.path(name + ".log")
        marks = self.ends(topic) * (publishers or len(self.publishers))
        argv = [tool("flow_subscriber"), "--seed", self.journal.address, "--bind", "{bind}", "--topic", topic, "--from", "start", "--log", log,
                "--ends", str(marks), "--idle-ms", "60000", *more]
        process = self.start(name, argv)
        process.log, process.topic, process.synced = log, topic, "--synced" in more
        if ready:
            process.line("^READY", 15)
        self.subscribers.append(process)
        return process

    # ---------------------------------------------------------------- judgement

    def end(self, limit_s=30):
        """Publishers put their end marks and wait until all is synced."""
        for pub in self.publishers:
            pub.send("end")
        for pub in self.publishers:
            pub.line("^DONE", limit_s)

    def synced(self, pub):
        """The last sequence that is known to be on the journal's disk."""
        try:
            with open(pub.acked) as file:
                lines = [line for line in file.read().splitlines() if line.startswith("ACKED")]
            return int(fields(lines[-1])["seq"]) if lines else 0
        except FileNotFoundError:
            return 0

    def replay(self, limit_s=60):
        sub = self.subscriber("replay", "flow.>")
        self.subscribers.remove(sub)
        sub.line("^DONE", limit_s)
        return sub

    def judge(self, limit_s=60, exact=(), replay_s=None):
        """All subscribers end, and hold what they must; returns the facts of the replay, which takes its time with a long log (replay_s)."""
        for sub in self.subscribers:
            sub.line("^DONE", limit_s)
        replay = self.replay(replay_s or limit_s)
        logs = []
        for sub in self.subscribers:
            logs += [sub.topic if sub.synced or sub in exact else "live:" + sub.topic, sub.log]
        acked = [word for pub in self.publishers for word in ("--acked", pub.acked)]
        result = self.lab.run(tool("flow_check"), "--contents", str(self.contents), *self.shape, "--replay", replay.log, *acked,
                              *logs, limit_s=2 * (replay_s or limit_s))
        lines = [line for line in result.text().splitlines() if not line.startswith("CHECKED") or " faults=0" not in line]
        check(result.status == 0, "not what was published: " + "\n        ".join(lines[:30]) + result.err[:500])
        told = [fields(line) for line in result.text().splitlines() if line.startswith("CHECKED")]
        for sub, line in zip(self.subscribers, told[1:]):
            sub.facts, sub.ghosts = int(line["facts"]), int(line["ghosts"])
        return int(told[0]["facts"])

    def close(self):
        for pub in self.publishers:
            pub.close_input()
        for pub in self.publishers:
            pub.ends_well(20)
        for sub in self.subscribers:
            sub.ends_well(20)
