"""wire: just enough of proto/SPEC.md, by hand, to speak to a node as a stranger would, and to lie to it.

A message is a list of (field number, value): int is a varint, bytes a length and bytes, Fixed a fixed64, a list a message within.
"""
import os

MAJOR, MINOR = 1, 0


class Fixed(int):
    pass


def varint(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def message(*fields):
    out = bytearray()
    for number, value in fields:
        if isinstance(value, Fixed):
            out += varint(number << 3 | 1) + value.to_bytes(8, "little")
        elif isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return bytes(out)


def parse(data):
    """A message as a dict of number to list of values; raises ValueError on what is none."""
    fields, pos = {}, 0

    def take():
        nonlocal pos
        n = shift = 0
        while True:
            if pos >= len(data):
                raise ValueError("cut off")
            byte = data[pos]
            pos += 1
            n |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return n
    while pos < len(data):
        tag = take()
        kind = tag & 7
        if kind == 0:
            value = take()
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, pos = int.from_bytes(data[pos:pos + size], "little"), pos + size
        elif kind == 2:
            size = take()
            value, pos = data[pos:pos + size], pos + size
        else:
            raise ValueError(f"wire type {kind}")
        if pos > len(data):
            raise ValueError("cut off")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


# Numbers of Control.body.
HELLO, WELCOME, PEERS, PING, PONG, GOODBYE, ERROR = 10, 11, 12, 13, 14, 15, 16
WATERMARK, REPLAY_OPEN, CURSOR_PUT, STATUS_GET = 20, 30, 40, 50


def control(body, value, mesh=b"default", request=1, major=MAJOR, minor=MINOR):
    return message((1, major), (2, minor), (3, mesh), (4, request), (body, value))


def node_info(node, live, control_address, streams=(), name=b"stranger"):
    return message((1, node), (2, name), (3, live.encode()), (4, control_address.encode()), *((6, s) for s in streams),
                   (7, Fixed(1)), (8, MAJOR), (9, MINOR), (10, b"test"))


def stream_head(stream, next_seq=1, epoch=1, incarnation=1):
    return message((1, stream), (2, epoch), (3, Fixed(incarnation)), (4, next_seq), (5, 1), (6, b"stranger"))


def batch(stream, first_seq, topic, payloads, mesh=b"default", epoch=1, incarnation=1, major=MAJOR, back=None, count=None):
    levels = topic.count(b".") + 1
    packed = b"".join(varint(b) for b in (back if back is not None else [0] * levels))
    facts = [(15, message((15, payload))) for payload in payloads]
    return message((1, major), (2, MINOR), (3, mesh), (4, stream), (5, epoch), (6, Fixed(incarnation)), (7, first_seq),
                   (8, len(payloads) if count is None else count), (9, Fixed(1_700_000_000_000_000_000)), (10, 1),
                   (11, message((1, topic), (2, packed))), *facts)


def frame(topic, body):
    """A live frame: wire topic, NUL, batch."""
    return b"." + topic + b".\0" + body


def new_id():
    return os.urandom(16)
