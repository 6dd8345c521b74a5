"""spec_node: a factmesh node in Python, written from proto/SPEC.md and factmesh.proto alone. It joins a mesh, publishes, subscribes, repairs
holes and replays. One thread: nothing happens but in `turn`. The numbers in comments are sections of SPEC.md.
"""
import collections
import os
import random
import subprocess
import sys
import tempfile
import time

import zmq

MAJOR = 1
PING_S, DEAD_S, HEAD_S, SILENT_S, FENCE_S, ASK_S = 0.5, 2.5, 1.0, 0.01, 1.0, 1.0
FRAME_MAX, FILTER_MAX, PEERS_MAX, CREDIT = 65536, 245, 64, 1 << 20


def load_messages(proto_directory):
    """What protoc makes of factmesh.proto."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["protoc", f"--python_out={directory}", f"-I{proto_directory}", "factmesh.proto"], check=True)
        sys.path.insert(0, directory)
        import factmesh_pb2
        sys.path.remove(directory)
    return factmesh_pb2


pb = load_messages(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "proto"))
Delivered = collections.namedtuple("Delivered", "stream seq topic payload key replayed")


# ---------------------------------------------------------------- 4 Topics

def levels(topic):
    """Its levels without the root, the topic itself last: of a.b.c: a, a.b, a.b.c."""
    names = topic.split(b".")
    return [b".".join(names[:n]) for n in range(1, len(names) + 1)]


def is_under(topic, level):
    return not level or topic == level or topic.startswith(level + b".")


def deepest_common(topics):
    """The deepest level under which all lie."""
    shared = []
    for names in zip(*(t.split(b".") if t else [] for t in topics)):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return b".".join(shared)


def matches(pattern, topic):
    p, t = pattern.split(b"."), topic.split(b".")
    for i, name in enumerate(p):
        if name == b">":
            return len(t) > i
        if i >= len(t) or name not in (b"*", t[i]):
            return False
    return len(p) == len(t)


def literal_level(pattern):
    names = pattern.split(b".")
    wild = next((i for i, name in enumerate(names) if name in (b"*", b">")), len(names))
    return b".".join(names[:wild])


def wire_topic(level):
    return b"." + level + b"." if level else b"."


# ---------------------------------------------------------------- 3, 5, 6 Publishing

class Stream:
    """One stream in its first epoch, with its window."""

    def __init__(self, mesh):
        self.mesh, self.id, self.epoch, self.incarnation = mesh, os.urandom(16), 1, random.randrange(1, 1 << 64)
        self.next_seq, self.last_of, self.window, self.synced = 1, {}, [], 0
        self.head_told_at = self.sent_at = time.monotonic()
        self.head_told = 0

    def head(self):
        return pb.StreamHead(stream=self.id, epoch=self.epoch, incarnation=self.incarnation, next_seq=self.next_seq, epoch_first_seq=1)

    def make_batch(self, facts):
        """facts: (topic, payload, key). Returns wire topic, bytes of the batch and the frame's bytes, and keeps the batch."""
        topics = list(dict.fromkeys(topic for topic, _, _ in facts))
        now = time.time_ns()
        header = pb.Batch(major=MAJOR, mesh=self.mesh, stream=self.id, epoch=self.epoch, incarnation=self.incarnation,
                          first_seq=self.next_seq, count=len(facts), time_ns=now, epoch_first_seq=1, content_type=b"text/plain")
        for topic in topics:
            back = [self.next_seq - 1 - self.last_of.get(level, 0) for level in levels(topic)]
            header.topics.add(name=topic, back=back)
        if any(key for _, _, key in facts):
            header.features = pb.FEATURE_KEY
        only_facts = pb.Batch()
        for i, (topic, payload, key) in enumerate(facts):
            only_facts.facts.add(topic=topics.index(topic), time_delta_ns=i, payload=payload, key=key)
            for level in levels(topic):
                self.last_of[level] = self.next_seq + i
        batch = header.SerializeToString() + only_facts.SerializeToString()         # 5: facts come last
        frame = wire_topic(deepest_common(topics)) + b"\0" + batch
        if len(frame) > FRAME_MAX:
            assert len(facts) == 1
            header.announced_len = len(batch)
            frame = wire_topic(topics[0]) + b"\0" + header.SerializeToString()
        self.window.append((self.next_seq, self.next_seq + len(facts), batch))
        self.next_seq += len(facts)
        self.sent_at = time.monotonic()
        return frame

    def head_notice(self):                                                          # 8
        notice = pb.HeadNotice(major=MAJOR, mesh=self.mesh, stream=self.id, epoch=self.epoch, incarnation=self.incarnation,
                               head=self.next_seq - 1, epoch_first_seq=1)
        recent = sorted(self.last_of.items(), key=lambda item: -item[1])
        for level, last in recent[:8]:
            notice.levels.add(level=level, last_seq=last)
        notice.complete_since = recent[8][1] if len(recent) > 8 else 0
        self.head_told, self.head_told_at = self.next_seq - 1, time.monotonic()
        return b"\xffH\0" + notice.SerializeToString()

    def head_is_due(self, now):
        silent = self.head_told != self.next_seq - 1 and now - self.sent_at > SILENT_S
        return silent or now - self.head_told_at > HEAD_S


# ---------------------------------------------------------------- 7 Receiving

class Incoming:
    """A stream as one subscription sees it."""

    def __init__(self, complete):
        self.complete = complete        # P
        self.epoch = self.incarnation = 0
        self.owner = None
        self.held = []                  # batches, by first_seq
        self.known_end = 0              # from head notices and announcements: what lies below exists
        self.asked_at = 0.0


class Subscription:
    def __init__(self, patterns, from_start):
        self.patterns = patterns
        self.level = deepest_common([literal_level(p) for p in patterns])
        self.streams, self.delivered, self.gaps = {}, [], []
        self.fenced = {}                # node -> next_seq by stream
        self.from_start = self.replaying = from_start
        self.holes = self.from_publisher = 0

    def wire_filters(self):
        above = [b""] + levels(self.level)[:-1] if self.level else []
        return [f[:FILTER_MAX] for f in [wire_topic(self.level)] + [wire_topic(level) + b"\0" for level in above]]

    def wants(self, topic):
        return any(matches(p, topic) for p in self.patterns)

    def prev(self, batch):
        """None: no topic is under our level."""
        if not self.level:
            return batch.first_seq - 1
        depth = len(levels(self.level))
        backs = [t.back[depth - 1] for t in batch.topics if is_under(t.name, self.level)]
        return batch.first_seq - 1 - min(backs) if backs else None

    def deliver(self, stream, batch, replayed):
        for i, fact in enumerate(batch.facts):
            seq, topic = batch.first_seq + i, batch.topics[fact.topic].name
            if seq > stream.complete and self.wants(topic):
                self.delivered.append(Delivered(batch.stream, seq, topic, fact.payload, fact.key, replayed))
        stream.complete = max(stream.complete, batch.first_seq + batch.count - 1)

    def accept(self, node, epoch, incarnation, stream):
        """7, rule 6."""
        if epoch > stream.epoch:
            stream.epoch, stream.incarnation, stream.owner = epoch, incarnation, node
        return (epoch, incarnation, node) == (stream.epoch, stream.incarnation, stream.owner)

    def stream_of(self, node, head):
        """P begins at the fence's word, or with the epoch, when we want facts from now on (7, Where P begins)."""
        if head.stream not in self.streams:
            next_seq = self.fenced.get(node, {}).get(head.stream, max(head.epoch_first_seq, 1))
            self.streams[head.stream] = Incoming(0 if self.from_start else next_seq - 1)
        return self.streams[head.stream]

    def on_batch(self, node, batch):
        prev, last = self.prev(batch), batch.first_seq + batch.count - 1
        stream = self.stream_of(node, batch)
        if not self.accept(node, batch.epoch, batch.incarnation, stream) or prev is None or last <= stream.complete:
            return
        if batch.announced_len:
            stream.known_end = max(stream.known_end, last + 1)
        else:
            stream.held.append((batch.first_seq, prev, batch))
            stream.held.sort(key=lambda item: item[0])
        self.advance(stream)

    def on_head(self, node, notice):
        stream = self.stream_of(node, notice)
        if not self.accept(node, notice.epoch, notice.incarnation, stream):
            return
        listed = {l.level: l.last_seq for l in notice.levels}
        bound = listed.get(self.level, notice.complete_since) if self.level else notice.head
        if bound > stream.complete:
            stream.known_end = max(stream.known_end, bound + 1)
        elif not stream.held:
            stream.complete = max(stream.complete, notice.head)

    def advance(self, stream):
        while not self.replaying and stream.held and stream.held[0][1] <= stream.complete:
            self.deliver(stream, stream.held.pop(0)[2], False)

    def hole(self, stream):
        """[first, end) that is missing, or None."""
        if self.replaying:
            return None
        while stream.held and stream.held[0][2].first_seq + stream.held[0][2].count - 1 <= stream.complete:
            stream.held.pop(0)
        if stream.held:
            return stream.complete + 1, stream.held[0][1] + 1
        return (stream.complete + 1, stream.known_end) if stream.known_end > stream.complete + 1 else None

    def on_data(self, data, from_publisher):
        """11: gaps and batches by sequence, then covered. Returns how far a publisher sends us elsewhere, by stream."""
        elsewhere = {}
        parts = [(gap.first_seq, gap, None) for gap in data.gaps if gap.stream]
        for encoded in data.batches:
            batch = pb.Batch.FromString(encoded)
            parts.append((batch.first_seq, None, batch))
        for _, gap, batch in sorted(parts, key=lambda part: part[0]):
            stream = self.streams.setdefault((gap or batch).stream, Incoming(0))
            if batch:
                self.from_publisher += from_publisher
                self.deliver(stream, batch, True)
            elif gap.reason == pb.GAP_SYNCED:
                elsewhere[gap.stream] = gap.end_seq
            elif gap.end_seq - 1 > stream.complete:
                self.gaps.append((gap.stream, max(gap.first_seq, stream.complete + 1), gap.end_seq, gap.reason))
                stream.complete = gap.end_seq - 1
        for covered in data.covered:
            stream = self.streams.setdefault(covered.stream, Incoming(0))
            stream.complete = max(stream.complete, covered.through)
            self.advance(stream)
        return elsewhere


# ---------------------------------------------------------------- 9, 10 The node

class Peer:
    def __init__(self, info, dealer, address):
        self.info, self.dealer, self.address = info, dealer, address
        self.heard = time.monotonic()
        self.pinged = 0.0
        self.sub = self.nonce = None
        self.fence_at = 0.0


class Node:
    def __init__(self, seed, mesh=b"default", name=b"python"):
        self.mesh, self.name, self.id = mesh, name, os.urandom(16)
        self.zmq, self.poller = zmq.Context(), zmq.Poller()
        self.live, self.control = self._socket(zmq.XPUB), self._socket(zmq.ROUTER)
        self.live.setsockopt(zmq.XPUB_VERBOSE, 1)
        self.control.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.addresses = []
        for socket in (self.live, self.control):
            socket.bind("tcp://127.0.0.1:*")
            self.addresses.append(socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode())
        self.started_ns, self.request = time.time_ns(), 0
        self.contacts = {}              # DEALER -> address: nobody has answered there yet
        self.members, self.gone = {}, set()
        self.streams, self.subscription = [], None
        self.answers, self.errors, self.served = {}, [], []     # by request; all; ReplayOpen that we served
        self.sessions = {}              # ours: number -> (peer, callback)
        self.session = 0
        self.drop = set()               # numbers of batches not to send live (counted from 0)
        self.batches = self.fences = 0
        self.greet(seed)

    def _socket(self, kind):
        socket = self.zmq.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        self.poller.register(socket, zmq.POLLIN)
        return socket

    def _close(self, socket):
        self.poller.unregister(socket)
        socket.close()

    def close(self):
        for peer in self.members.values():
            self.tell(peer.dealer, goodbye=pb.Goodbye(node=self.id))
        for peer in self.members.values():
            peer.dealer.setsockopt(zmq.LINGER, 100)
        self.zmq.destroy()

    # ---- control messages

    def info(self):
        return pb.NodeInfo(node=self.id, name=self.name, live=[self.addresses[0]], control=[self.addresses[1]], started_ns=self.started_ns,
                           major=MAJOR, software=b"spec_node", info_version=1, streams=[s.head() for s in self.streams])

    def _encode(self, request, body):
        return pb.Control(major=MAJOR, mesh=self.mesh, request=request, **body).SerializeToString()

    def tell(self, dealer, **body):
        self.request += 1
        try:
            dealer.send(self._encode(self.request, body), zmq.DONTWAIT)
        except zmq.Again:
            pass                        # nobody is there yet: said again
        return self.request

    def answer(self, route, request, **body):
        try:
            self.control.send_multipart([route, self._encode(request, body)], zmq.DONTWAIT)
        except zmq.ZMQError:
            pass                        # the asker has gone, or does not read

    def greet(self, address):
        if address in self.contacts.values() or address == self.addresses[1]:
            return
        dealer = self._socket(zmq.DEALER)
        dealer.connect(address)
        self.contacts[dealer] = address
        self.tell(dealer, hello=pb.Hello(info=self.info()))

    def hear_of(self, info):
        if info.node != self.id and info.node not in self.members and info.node not in self.gone:
            for address in info.control:
                self.greet(address)

    def digest(self):
        digest = 0
        for node in [self.id, *self.members]:
            digest ^= int.from_bytes(node[:8], "little")
        return digest

    def on_question(self, route, frame):
        control = pb.Control.FromString(frame)
        assert control.major == MAJOR and control.mesh == self.mesh, "a stranger's message"
        body = control.WhichOneof("body")
        message = getattr(control, body) if body else None
        if body == "hello":
            self.gone.discard(message.info.node)
            self.answer(route, control.request, welcome=pb.Welcome(info=self.info(), peers=[p.info for p in self.members.values()][:PEERS_MAX]))
            self.hear_of(message.info)
        elif body == "ping":
            if message.node in self.members:
                self.members[message.node].heard = time.monotonic()
                self.answer(route, control.request, pong=pb.Pong(node=self.id, members_digest=self.digest()))
            else:
                self.answer(route, control.request, error=pb.Error(code=pb.ERROR_UNKNOWN_NODE))
        elif body == "peers":
            for info in message.peers:
                self.hear_of(info)
        elif body == "goodbye":
            self.remove(message.node)
        elif body == "watermark":
            for mark in message.marks:
                for stream in self.streams:
                    if stream.id == mark.stream:
                        assert mark.synced <= mark.written <= mark.received < stream.next_seq, "a mark beyond what was sent"
                        assert mark.synced >= stream.synced, "synced fell"
                        stream.synced = mark.synced
        elif body == "replay_open":
            self.serve(route, control.request, message)
        elif body == "error":
            self.errors.append(message)

    def on_answer(self, dealer, frame):
        control = pb.Control.FromString(frame)
        assert control.major == MAJOR and control.mesh == self.mesh, "a stranger's message"
        body = control.WhichOneof("body")
        message = getattr(control, body) if body else None
        peer = next((p for p in self.members.values() if p.dealer is dealer), None)
        if peer:
            peer.heard = time.monotonic()
        if body == "welcome":
            if message.info.node not in self.members:
                self.join(dealer, message.info)
            for info in message.peers:
                self.hear_of(info)
        elif body == "pong" and message.members_digest != self.digest():
            self.tell(dealer, peers=pb.Peers(peers=[p.info for p in self.members.values()][:PEERS_MAX]))
        elif body == "peers":
            for info in message.peers:
                self.hear_of(info)
        elif body == "error" and message.code == pb.ERROR_UNKNOWN_NODE:
            self.tell(dealer, hello=pb.Hello(info=self.info()))
        elif body in ("replay_data", "replay_end") or (body == "error" and message.session):
            if message.session in self.sessions:
                self.sessions[message.session](body, message)
        else:
            if body == "error":
                self.errors.append(message)
            self.answers[control.request] = control

    def join(self, dealer, info):
        address = self.contacts.pop(dealer, None)
        if address is None or info.node == self.id:
            return
        peer = self.members[info.node] = Peer(info, dealer, address)
        if self.subscription:
            self.listen(peer)

    def remove(self, node):
        peer = self.members.pop(node, None)
        self.gone.add(node)
        if peer:
            self._close(peer.dealer)
            if peer.sub:
                self._close(peer.sub)

    # ---- serving the window (11)

    def serve(self, route, request, asked):
        self.served.append(asked)
        stream = next((s for s in self.streams if s.id == asked.stream), None)
        if not stream or asked.WhichOneof("start") != "from_seq":
            self.answer(route, request, error=pb.Error(code=pb.ERROR_UNKNOWN_STREAM, session=asked.session))
            return
        end = asked.end_seq if asked.WhichOneof("end") == "end_seq" else stream.next_seq
        data = pb.ReplayData(session=asked.session)
        sent = asked.from_seq - 1
        for first, batch_end, batch in stream.window:
            if batch_end > asked.from_seq and first < end:
                data.batches.append(batch)
                sent = batch_end - 1
        data.covered.add(stream=stream.id, through=sent)
        self.answer(route, request, replay_data=data)
        self.answer(route, request, replay_end=pb.ReplayEnd(session=asked.session))

    # ---- publishing

    def publish(self, stream, facts):
        frame = stream.make_batch(facts)
        if self.batches not in self.drop:
            self.live.send(frame)
        self.batches += 1

    def on_subscription(self, message):
        if message[:3] == b"\x01\xffF" and len(message) == 11:
            self.fences += 1
            nonce = message[3:]
            answer = pb.FenceAnswer(major=MAJOR, mesh=self.mesh, nonce=nonce, streams=[s.head() for s in self.streams])
            self.live.send(b"\xffF" + nonce + b"\0" + answer.SerializeToString())

    # ---- subscribing

    def subscribe(self, patterns, from_start=False):
        self.subscription = Subscription([p.encode() for p in patterns], from_start)
        for peer in self.members.values():
            self.listen(peer)

    def listen(self, peer):
        host = peer.address.rpartition(":")[0]
        live = next((a for a in peer.info.live if a.rpartition(":")[0] == host), None) or next(iter(peer.info.live), None)
        if not live:
            return
        peer.sub = self._socket(zmq.SUB)
        peer.sub.setsockopt(zmq.SNDHWM, 0)
        peer.sub.connect(live)
        for f in self.subscription.wire_filters() + [b"\xffH\0"]:
            peer.sub.setsockopt(zmq.SUBSCRIBE, f)
        self.fence(peer)

    def fence(self, peer):
        if peer.nonce:
            peer.sub.setsockopt(zmq.UNSUBSCRIBE, b"\xffF" + peer.nonce)
        peer.nonce, peer.fence_at = os.urandom(8), time.monotonic()
        peer.sub.setsockopt(zmq.SUBSCRIBE, b"\xffF" + peer.nonce)

    def fenced(self):
        return all(not p.sub or p.info.node in self.subscription.fenced for p in self.members.values())

    def on_live(self, peer, frame):
        node, subscription = peer.info.node, self.subscription
        if frame[:1] == b"\xff":
            if frame[1:2] == b"H":
                notice = pb.HeadNotice.FromString(frame[3:])
                if notice.major == MAJOR and notice.mesh == self.mesh and (node in subscription.fenced or subscription.replaying):
                    subscription.on_head(node, notice)
            elif frame[1:2] == b"F" and frame[2:10] == peer.nonce:
                answer = pb.FenceAnswer.FromString(frame[11:])
                assert frame[10:11] == b"\0" and answer.nonce == peer.nonce and answer.mesh == self.mesh
                subscription.fenced[node] = {s.stream: s.next_seq for s in answer.streams}
                peer.sub.setsockopt(zmq.UNSUBSCRIBE, b"\xffF" + peer.nonce)
                peer.nonce = None
            return
        topic, _, body = frame.partition(b"\0")
        batch = pb.Batch.FromString(body)
        assert batch.major == MAJOR and batch.mesh == self.mesh and len(frame) <= FRAME_MAX
        assert topic == wire_topic(deepest_common([t.name for t in batch.topics])), "another batch's wire topic"
        assert batch.announced_len or len(batch.facts) == batch.count
        for t in batch.topics:
            assert len(t.back) - len(levels(t.name)) in (0, 1) and all(b < batch.first_seq for b in t.back)
        if node in subscription.fenced or subscription.replaying:
            subscription.on_batch(node, batch)

    # ---- asking (11)

    def replay(self, peer, callback, **what):
        """Open a session; its messages go to callback (body, message), and its credit is topped up."""
        self.session += 1
        number = self.session

        def on_message(body, message):
            if body == "replay_data":
                self.tell(peer.dealer, replay_credit=pb.ReplayCredit(session=number, bytes=message.ByteSize() + 64))
            else:
                del self.sessions[number]
            callback(body, message)
        self.sessions[number] = on_message
        self.tell(peer.dealer, replay_open=pb.ReplayOpen(session=number, credit=CREDIT, **what))
        return number

    def journal(self):
        return next((p for p in self.members.values() if p.info.HasField("journal")), None)

    def replay_from_start(self):
        """Everything that is synced; then the subscription is live."""
        def on_message(body, message):
            assert body != "error", message.text
            if body == "replay_data":
                self.subscription.on_data(message, False)
            else:
                self.subscription.replaying = False
                for stream in self.subscription.streams.values():
                    self.subscription.advance(stream)
        self.replay(self.journal(), on_message, filters=self.subscription.patterns, from_offset=1, end_at_synced=True)

    def repair(self, now):
        """Ask the stream's publisher for each hole; what it sends elsewhere, and what it no longer answers, the journal has."""
        subscription = self.subscription
        for stream_id, stream in subscription.streams.items():
            hole = subscription.hole(stream)
            if not hole or now - stream.asked_at < ASK_S:
                continue
            stream.asked_at = now
            subscription.holes += 1
            self.ask(self.members.get(stream.owner) or self.journal(), stream_id, stream, hole)

    def ask(self, peer, stream_id, stream, hole):
        from_publisher = peer is self.members.get(stream.owner)

        def on_message(body, message):
            if body == "replay_data":
                elsewhere = self.subscription.on_data(message, from_publisher)
                if stream_id in elsewhere:
                    self.ask(self.journal(), stream_id, stream, hole)
            stream.asked_at = 0.0
        if peer:
            self.replay(peer, on_message, filters=self.subscription.patterns, stream=stream_id, from_seq=hole[0], end_seq=hole[1])

    # ---- time

    def tick(self, now):
        for stream in self.streams:
            if stream.head_is_due(now):
                self.live.send(stream.head_notice())
        for node, peer in list(self.members.items()):
            if now - peer.heard > DEAD_S:
                self.remove(node)
            elif now - peer.pinged > PING_S:
                peer.pinged = now
                self.tell(peer.dealer, ping=pb.Ping(node=self.id, members_digest=self.digest(), info_version=1))
            if peer.sub and peer.nonce and now - peer.fence_at > FENCE_S:
                self.fence(peer)
        if self.subscription:
            self.repair(now)

    def turn(self, ms=5):
        """Take what came, for at most so long when nothing comes."""
        for socket, _ in self.poller.poll(ms):
            for _ in range(100):
                try:
                    frames = socket.recv_multipart(zmq.DONTWAIT)
                except zmq.ZMQError:
                    break               # nothing more, or closed meanwhile
                if socket is self.live:
                    self.on_subscription(frames[0])
                elif socket is self.control:
                    self.on_question(frames[0], frames[1])
                elif socket.type == zmq.DEALER:
                    self.on_answer(socket, frames[0])
                else:
                    peer = next((p for p in self.members.values() if p.sub is socket), None)
                    if peer:
                        self.on_live(peer, frames[0])
        self.tick(time.monotonic())
