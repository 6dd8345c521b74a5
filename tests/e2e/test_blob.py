#!/usr/bin/python3
"""Blobs: any size in bounded memory, cut and gone on with, verified, kept as long as facts point to them; over the mesh and over HTTP.

LARGE=1 runs the case of 5 GiB as well; it needs some 6 GiB of disk."""
import hashlib
import json
import os
import re
import subprocess
import time

from harness import FACTMESH, Failed, Skipped, check, fields, free_port, main, tool, wait_until

MIB = 1 << 20
TOOL = tool("blob_tool")


def pattern(lab, size, seed, name):
    """A file of these bytes; returns its path and its digest."""
    path = lab.path(name)
    with open(path, "wb") as file:
        subprocess.run([TOOL, "pattern", str(size), str(seed)], stdout=file, check=True)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(MIB):
            digest.update(piece)
    return path, digest.hexdigest()


def blobs_on_disk(lab, directory="journal"):
    found = []
    for folder, _, names in os.walk(lab.path(directory, "blobs")):
        found += [name for name in names if re.fullmatch("[0-9a-f]{64}", name)]
    return sorted(found)


def uploaded(lab):
    """Bytes in the files of uploads."""
    total, folder = 0, lab.path("journal", "blobs", "upload")
    for name in os.listdir(folder):
        try:
            total += os.path.getsize(os.path.join(folder, name))
        except FileNotFoundError:
            pass
    return total


def through_the_mesh(lab, size, limit):
    """A pattern goes in through a callback and comes out through another; the same through the command. Peaks of memory stay below the limit."""
    journal = lab.journal()
    seed = lab.random.randrange(1 << 32)
    words = lab.run(TOOL, "put", "--seed", journal.address, size, seed, limit_s=300)
    check(words.status == 0, f"put: {words.err}")
    digest, _, peak = words.text().split()
    put_peak = int(peak.split("=")[1]) * 1024
    words = lab.run(TOOL, "get", "--seed", journal.address, digest, size, seed, limit_s=300)
    check(words.status == 0, f"get: {words.err}")
    get_peak = int(words.text().split("=")[1]) * 1024
    # The command, from a pipe into a pipe, each side checked by who made it.
    get = subprocess.Popen([FACTMESH, "blob", "get", digest, "--seed", journal.address], stdout=subprocess.PIPE)
    checked = subprocess.run([TOOL, "check", str(size), str(seed)], stdin=get.stdout)
    check(get.wait() == 0 and checked.returncode == 0, "blob get printed other bytes")
    journal_peak = journal.memory_peak_bytes()
    lab.tell(f"{size // MIB} MiB: peak of memory put {put_peak / MIB:.0f} MiB, get {get_peak / MIB:.0f} MiB, journal {journal_peak / MIB:.0f} MiB")
    for who, peak in (("put", put_peak), ("get", get_peak), ("journal", journal_peak)):
        check(peak < limit, f"{who}: {peak} bytes of memory, more than {limit}")
    check(blobs_on_disk(lab) == [digest], "not exactly one blob is on disk")


def a_large_blob_passes_in_bounded_memory(lab):
    through_the_mesh(lab, 300 * MIB + 12345, 96 * MIB)


def five_gib_pass_in_bounded_memory(lab):
    if os.environ.get("LARGE") != "1":
        raise Skipped("only with LARGE=1")
    through_the_mesh(lab, 5 << 30, 96 * MIB)


def the_command_stores_once_and_fetches_whole_or_a_range(lab):
    journal = lab.journal()
    seed = ("--seed", journal.address)
    path, digest = pattern(lab, 3 * MIB + 77, 1, "content")
    with open(path, "rb") as file:
        content = file.read()
    check(lab.ok("blob", "put", path, "--type", "text/x-test", *seed).decode() == f"{digest}  {path}\n", "put prints another line")
    told = json.loads(lab.ok("blob", "put", "--json", "--type", "text/other", *seed, stdin=content))
    check(told["sha256"] == digest and told["size"] == len(content), f"put --json: {told}")
    check(blobs_on_disk(lab) == [digest], "it is stored twice")
    check(lab.ok("blob", "get", digest, *seed) == content, "get printed other bytes")
    for first, last in ((0, 0), (5, 99), (262143, 262144), (262144, 600000), (3 * MIB, "")):
        end = len(content) if last == "" else last + 1
        check(lab.ok("blob", "get", digest, "--range", f"{first}-{last}", *seed) == content[first:end], f"range {first}-{last}")
    rows = [json.loads(line) for line in lab.ok("blob", "ls", "--json", *seed).splitlines()]
    check([(r["sha256"], r["size"], r["media_type"]) for r in rows] == [(digest, len(content), "text/x-test")], f"ls: {rows}")
    check(json.loads(lab.ok("blob", "stat", digest, "--json", *seed)) == rows[0], "stat and ls differ")
    # What an earlier get left is gone on with; what it left of something else is not believed.
    for beginning in (content[:MIB + 5], b"something else", content + b"more"):
        with open(lab.path("out.part"), "wb") as file:
            file.write(beginning)
        lab.ok("blob", "get", digest, "-o", lab.path("out"), *seed)
        with open(lab.path("out"), "rb") as file:
            check(file.read() == content, "get -o wrote other bytes")
    check(lab.ok("blob", "put", *seed, stdin=b"").startswith(hashlib.sha256(b"").hexdigest().encode()), "the empty blob")
    check(lab.ok("blob", "get", hashlib.sha256(b"").hexdigest(), *seed) == b"", "the empty blob")


def bad_input_is_a_clear_error(lab):
    journal = lab.journal("journal", None, "--blob-max", "1M")
    seed = ("--seed", journal.address)
    for words, exit_status, text in (
            (("get", "00" * 32), 1, "no journal has blob"),
            (("stat", "00" * 32), 1, "no journal has blob"),
            (("get", "xyz"), 2, "64 hex digits"),
            (("get", "00" * 32, "--range", "9-3"), 2, "--range"),
            (("frob",), 2, "write put, get, ls or stat"),
            (("put", lab.path("nowhere")), 1, "No such file")):
        result = lab.factmesh("blob", *words, *seed)
        check(result.status == exit_status and text in result.err, f"blob {words}: {result.status}: {result.err}")
    for argv in (["blob", "put", *seed], ["blob", "put", pattern(lab, 2 * MIB, 1, "large")[0], *seed]):
        result = lab.factmesh(*argv, stdin=bytes(2 * MIB))
        check(result.status == 1 and "1048576 bytes" in result.err, f"too large: {result.status}: {result.err}")
    digest = lab.ok("blob", "put", *seed, stdin=b"short").decode().split()[0]
    result = lab.factmesh("blob", "get", digest, "--range", "5-", *seed)
    check(result.status == 1 and "the range begins at 5" in result.err, f"behind the end: {result.status}: {result.err}")
    check(blobs_on_disk(lab) == [digest], "something else was stored")
    check(not os.listdir(lab.path("journal", "blobs", "upload")), "a refused upload was left behind")


def kills_of_journal_and_client_at_random_moments_end_in_the_same_bytes(lab):
    """kill -9 of the journal while a client stores or fetches (which goes on), and of the client (the next one goes on): twenty of each."""
    size, piping, putting, getting = 48 * MIB + 4321, 8, 12, 8
    journals = clients = 0

    def journal_again():
        nonlocal journal, journals
        journal.kill9()
        journal = lab.journal("journal", bind)
        journals += 1

    journal = lab.journal()
    bind = journal.address
    path, digest = pattern(lab, size, 3, "content")
    sent = 0
    # The journal, under a put from a pipe, which cannot be read again.
    feeder = subprocess.Popen([TOOL, "pattern", str(size), "4"], stdout=subprocess.PIPE)
    slow = lab.start("put", [FACTMESH, "blob", "put", "--seed", bind], stdin=feeder.stdout)
    for _ in range(piping):
        at = lab.random.random() * size / piping
        wait_until("the upload has moved", lambda: not slow.alive() or uploaded(lab) > sent + at, 30)
        sent = uploaded(lab)
        journal_again()
    slow.ends_well(60)
    feeder.wait()
    piped = slow.out().split()[0]
    # The client, under a put of a file, and the journal between.
    died = 0
    for kill in range(putting):
        client = lab.start("put", [FACTMESH, "blob", "put", path, "--seed", bind])
        want = uploaded(lab) + lab.random.randrange(1, size // putting)
        wait_until("it sends", lambda: not client.alive() or uploaded(lab) > want, 30)
        if client.alive():
            died += 1
        client.kill9()
        clients += 1
        if kill % 3 == 2:
            journal_again()
    check(lab.ok("blob", "put", path, "--seed", bind, limit_s=60).decode().split()[0] == digest, "another digest")
    # The client and the journal, under a get into a file.
    for _ in range(getting):
        client = lab.start("get", [FACTMESH, "blob", "get", digest, "-o", lab.path("out"), "--seed", bind])
        part = lab.path("out.part")
        want = (os.path.getsize(part) if os.path.exists(part) else 0) + lab.random.randrange(1, size // getting)
        wait_until("it writes", lambda: not client.alive() or os.path.exists(part) and os.path.getsize(part) > want, 30)
        journal_again()
        client.kill9()
        clients += 1
    check(journals >= 20 and clients >= 20, f"{journals} kills of journals, {clients} of clients")
    lab.ok("blob", "get", digest, "-o", lab.path("out"), "--seed", bind, limit_s=60)
    check(subprocess.run(["cmp", path, lab.path("out")]).returncode == 0, "other bytes came back")
    get = subprocess.Popen([FACTMESH, "blob", "get", piped, "--seed", bind], stdout=subprocess.PIPE)
    check(subprocess.run([TOOL, "check", str(size), "4"], stdin=get.stdout).returncode == 0 and get.wait() == 0, "other bytes came back of the pipe's")
    check(blobs_on_disk(lab) == sorted([digest, piped]), "not exactly two blobs are on disk")
    lab.tell(f"seed {lab.seed}; {journals} kills of the journal, {clients} of clients, {died} of {putting} puts died in the middle")


def what_is_damaged_here_comes_from_another_journal(lab):
    first = lab.journal("first")
    second = lab.journal("second", None, "--seed", first.address)
    both = f"{first.address},{second.address}"
    path, digest = pattern(lab, 5 * MIB, 9, "content")
    ids = [fields(j.line("JOURNAL-SERVING"))["journal"] for j in (first, second)]
    for journal in ids:
        lab.ok("blob", "put", path, "--journal", journal, "--seed", both)
    for directory in ("first", "second"):
        blob = lab.path(directory, "blobs", digest[:2], digest)
        with open(blob, "r+b") as file:
            file.seek(3 * MIB)
            byte = file.read(1)
            file.seek(3 * MIB)
            file.write(bytes([byte[0] ^ 1]))
        # One of them is asked first; either way each is damaged once while the other is whole.
        with open(path, "rb") as file:
            check(lab.ok("blob", "get", digest, "--seed", both) == file.read(), "other bytes")
        result = lab.factmesh("blob", "get", digest, "--journal", ids[("first", "second").index(directory)], "--seed", both)
        check(result.status == 1, "what is damaged was handed out")
        check(len([n for n in os.listdir(lab.path(directory, "quarantine")) if n.startswith(digest)]) == 1, "it is not in quarantine")
        lab.ok("blob", "put", path, "--journal", ids[("first", "second").index(directory)], "--seed", both)
    check("BLOB-DAMAGED" in first.err() + second.err(), "nobody was told")


def a_large_payload_travels_as_a_blob_and_comes_back(lab):
    journal = lab.journal()
    result = lab.run(TOOL, "publish", "--seed", journal.address, "large.facts", 3, 2 * MIB, 77)
    check(result.status == 0, result.err)
    check(len(blobs_on_disk(lab)) == 3, "not three blobs")
    result = lab.run(TOOL, "publish", "--seed", journal.address, "small.facts", 3, 1000, 77)
    check(result.status == 0 and len(blobs_on_disk(lab)) == 3, f"a small payload became a blob: {result.err}")
    result = lab.run(TOOL, "take", "--seed", journal.address, "large.facts", 3, 77)
    check(result.status == 0 and result.text().split("\n")[:3] == [f"{i} {2 * MIB + i} blob" for i in range(3)], f"{result.text()} {result.err}")
    result = lab.run(TOOL, "take", "--seed", journal.address, "small.facts", 3, 77)
    check(result.status == 0 and result.text().split("\n")[:3] == [f"{i} {1000 + i} fact" for i in range(3)], f"{result.text()} {result.err}")


def the_command_publishes_large_payloads_as_blobs_and_fetches_them(lab):
    options = ("--blob-lease", "1s", "--blob-sweep", "100ms")
    journal = lab.journal("journal", None, *options)
    seed = ("--seed", journal.address)
    path, digest = pattern(lab, 3 * MIB + 5, 21, "content")
    with open(path, "rb") as file:
        content = file.read()
    long_line, short_line = b"a long line " * 20, b"a short line"
    lines = [short_line, long_line, b"", long_line + b"!"]
    lab.ok("pub", "large.whole", "--whole", "--file", path, "--content-type", "image/x-test", "--blob-over", "64K", *seed)
    lab.ok("pub", "large.lines", "--blob-over", "100", *seed, stdin=b"".join(line + b"\n" for line in lines))
    lab.ok("pub", "large.text", "x" * 300, "--blob-over", "299", *seed)
    wanted = sorted([digest] + [hashlib.sha256(c).hexdigest() for c in (long_line, long_line + b"!", b"x" * 300)])
    check(blobs_on_disk(lab) == wanted, "other payloads than the long ones became blobs")
    # Their lease is over: the facts keep them.
    alone = lab.ok("blob", "put", *seed, stdin=b"nobody points here").decode().split()[0]
    wait_until("a sweep has passed", lambda: alone not in blobs_on_disk(lab), 20, journal)
    for command in (("replay",), ("sub", "--from", "start", "--until", "end")):
        check(lab.ok(*command, "large.whole", "--fetch", "--raw", *seed) == content, f"{command}: other bytes")
        check(lab.ok(*command, "large.lines", "--fetch", *seed) == b"".join(line + b"\n" for line in lines), f"{command}: other lines")
        check(lab.ok(*command, "large.text", "--fetch=300", *seed) == b"x" * 300 + b"\n", f"{command}: another text")
        check(lab.ok(*command, "large.whole", "--raw", *seed) == b"", f"{command}: it was fetched without being asked for")
    fact = json.loads(lab.ok("replay", "large.whole", "--json", *seed))
    check(fact["content_type"] == "image/x-test" and fact["payload"] == "", f"the fact: {fact}")
    stat = json.loads(lab.ok("blob", "stat", digest, "--json", *seed))
    check((stat["size"], stat["media_type"]) == (len(content), "image/x-test"), f"the blob: {stat}")
    # One that is too large, damaged, gone: what stands before it is printed, then it says so.
    def damage():
        journal.kill9()                     # it may have the block in memory
        at = lab.path("journal", "blobs", hashlib.sha256(long_line).hexdigest()[:2], hashlib.sha256(long_line).hexdigest())
        with open(at, "r+b") as file:
            file.seek(4100)
            byte = file.read(1)
            file.seek(4100)
            file.write(bytes([byte[0] ^ 1]))
        lab.journal("journal", journal.address, *options)
    for make, text, fetch in ((lambda: None, f"has {len(long_line)} bytes, more than 100", "--fetch=100"), (damage, "is damaged", "--fetch"),
                              (lambda: None, "no journal has blob", "--fetch")):
        make()
        for command in (("replay",), ("sub", "--from", "start", "--until", "end")):
            result = lab.factmesh(*command, "large.lines", fetch, *seed)
            check(result.status == 1 and "the payload of fact" in result.err and ":3 cannot be fetched" in result.err, f"{command}: {result.status}: {result.err}")
            check(text in result.err or (text == "is damaged" and "no journal has blob" in result.err), f"{command}: {result.err}")
            check(result.out == short_line + b"\n", f"{command}: what stands before it: {result.out}")
    # A cursor stays before what could not be printed.
    for _ in range(2):
        result = lab.factmesh("sub", "large.lines", "--from", "start", "--cursor", "c", "--fetch", *seed)
        check(result.status == 1 and "cannot be fetched" in result.err, f"with a cursor: {result.status}: {result.err}")
    for argv, text in ((("pub", "t", "x", "--blob-over", "0"), "--blob-over"), (("pub", "t", "x", "--blob-over", "1", "--no-wait"), "--no-wait"),
                       (("pub", "t", "x", "--payload-max", "65M"), "64M"), (("pub", "t", "x", "--blob-over", "1", "--payload-max", "2G"), "1G"),
                       (("sub", "--fetch=0"), "--fetch"), (("sub", "--fetch", "--no-journal"), "--no-journal"), (("replay", "--fetch=2G"), "--fetch")):
        result = lab.factmesh(*argv, *seed)
        check(result.status == 2 and text in result.err, f"{argv}: {result.status}: {result.err}")


def a_blob_goes_with_its_last_fact_and_not_before(lab):
    """Leases of a second, a look ten times a second. Kept by a fact through sweeps, a restart and a lost index; gone when retention takes the segment."""
    options = ("--blob-lease", "1s", "--blob-sweep", "100ms", "--segment-size", "1M", "--retain-size", "3M")
    journal = lab.journal("journal", None, *options)
    bind = journal.address
    seed = ("--seed", bind)
    contents = [b"pointed to", b"pointed to twice"]
    pointed, twice = (hashlib.sha256(c).hexdigest() for c in contents)
    # The facts first: however slow the machine is, no lease runs out before they are recorded.
    for digest in (pointed, twice):
        check(lab.run(TOOL, "point", *seed, "blobs.facts", digest, 10).status == 0, "point")
    for content in contents:
        lab.ok("blob", "put", *seed, stdin=content)
    alone = lab.ok("blob", "put", *seed, stdin=b"nobody points here").decode().split()[0]
    leased = lab.ok("blob", "put", "--lease", "1h", *seed, stdin=b"nobody points here yet").decode().split()[0]
    wait_until("what nobody points to goes", lambda: alone not in blobs_on_disk(lab), 20, journal)
    check(blobs_on_disk(lab) == sorted([pointed, twice, leased]), "something else went with it")
    # A restart, with the index lost: until it is made again nothing goes.
    journal.kill9()
    subprocess.run(["rm", "-rf", lab.path("journal", "index")], check=True)
    journal = lab.journal("journal", bind, *options)
    gone = lab.ok("blob", "put", *seed, stdin=b"shows that a sweep has passed").decode().split()[0]
    wait_until("a sweep has passed", lambda: gone not in blobs_on_disk(lab), 20, journal)
    check(blobs_on_disk(lab) == sorted([pointed, twice, leased]), "a blob went although its fact is there")
    filler = lab.path("filler")
    with open(filler, "wb") as file:
        for i in range(1200):
            file.write(b"%d %s\n" % (i, b"x" * 1000))
    # The later fact comes while retention has nothing to take yet; then it takes the first segment, with the earlier two.
    lab.ok("pub", "filler", "--file", filler, *seed)
    lab.ok("pub", "filler", "--file", filler, *seed)
    check("SEGMENTS-DROPPED" not in journal.err(), "retention was to come later")
    check(lab.run(TOOL, "point", *seed, "blobs.facts", twice, 10).status == 0, "point")
    lab.ok("pub", "filler", "--file", filler, *seed)

    def gone_with_its_fact():
        there = pointed in blobs_on_disk(lab)
        held = lab.ok("replay", "blobs.facts", "--json", *seed).count(b'"payload"')
        check(there or held == 1, "the blob went before its fact")
        return not there
    wait_until("the blob goes with its fact", gone_with_its_fact, 30, journal)
    check("SEGMENTS-DROPPED" in journal.err(), "retention took nothing")
    check(set(blobs_on_disk(lab)) >= {twice, leased}, "a blob went although a later fact points to it")


def a_journal_with_blobs_gets_over_a_lost_cookie(lab):
    journal = lab.journal()
    bind = journal.address
    digest = lab.ok("blob", "put", "--seed", bind, stdin=b"kept").decode().split()[0]
    journal.kill9()
    os.unlink(lab.path("journal", "journal.cookie"))
    lab.journal("journal", bind)
    check(lab.ok("blob", "get", digest, "--seed", bind) == b"kept", "other bytes")


def curl(lab, *argv, stdin=b""):
    result = lab.run("curl", "-sS", "--max-time", "20", "-D", lab.path("headers"), *argv, stdin=stdin)
    with open(lab.path("headers")) as file:
        # Of the last answer: a 100 Continue may stand before it.
        text = file.read().replace("\r", "").strip().split("\n\n")[-1].split("\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in text[1:])}
    return int(text[0].split()[1]), headers, result.out


def http_serves_blobs(lab):
    port = free_port()
    journal = lab.journal("journal", None, "--http", f"127.0.0.1:{port}", "--blob-max", "40M")
    url = f"http://127.0.0.1:{port}/blobs"
    path, digest = pattern(lab, 30 * MIB + 5, 11, "content")
    with open(path, "rb") as file:
        content = file.read()
    code, headers, body = curl(lab, "-T", path, "-H", "Content-Type: application/x-test", url)
    check((code, headers["location"]) == (201, f"/blobs/{digest}"), f"PUT: {code} {headers}")
    check(json.loads(body) == {"sha256": digest, "size": len(content)}, f"PUT: {body}")
    check(curl(lab, "--data-binary", f"@{path}", url)[0] == 200, "POST of what is there")
    check(curl(lab, "-T", "-", f"{url}/{digest}", stdin=content)[0] == 200, "PUT with its digest, chunked")
    code, _, body = curl(lab, "-T", "-", f"{url}/{digest}", stdin=b"something else")
    check(code == 422, f"PUT with another's digest: {code}")
    code, headers, body = curl(lab, f"{url}/{digest}")
    check(code == 200 and body == content, f"GET: {code}")
    check(headers["content-type"] == "application/x-test" and headers["etag"] == f'"{digest}"' and headers["accept-ranges"] == "bytes"
          and headers["content-length"] == str(len(content)), f"GET: {headers}")
    code, headers, body = curl(lab, "-I", f"{url}/{digest}")
    check(code == 200 and not body.partition(b"\r\n\r\n")[2] and headers["content-length"] == str(len(content)), f"HEAD: {code} {headers}")
    n = len(content)
    for text, first, end in (("0-0", 0, 1), ("5-99", 5, 100), ("262143-262144", 262143, 262145), (f"{n - 10}-", n - 10, n), ("-7", n - 7, n),
                             (f"10-{n + 5}", 10, n), (f"-{n + 5}", 0, n)):
        code, headers, body = curl(lab, "-r", text, f"{url}/{digest}")
        check(code == 206 and body == content[first:end] and headers["content-range"] == f"bytes {first}-{end - 1}/{n}", f"range {text}: {code} {headers}")
    code, headers, _ = curl(lab, "-r", f"{n}-", f"{url}/{digest}")
    check(code == 416 and headers["content-range"] == f"bytes */{n}", f"behind the end: {code} {headers}")
    for header in ("Range: bytes=0-1,5-6", "Range: lines=1-2", "Range: bytes=9-2"):
        check(curl(lab, "-H", header, f"{url}/{digest}")[0] == 200, f"{header}: it may be ignored")
    check(curl(lab, "-H", f'If-None-Match: "{digest}"', f"{url}/{digest}")[0] == 304, "If-None-Match")
    check(curl(lab, "-H", 'If-Range: "other"', "-r", "0-1", f"{url}/{digest}")[0] == 200, "If-Range of another")
    check(curl(lab, "-H", f'If-Range: "{digest}"', "-r", "0-1", f"{url}/{digest}")[0] == 206, "If-Range")
    for code, argv in ((404, [f"{url}/{'0' * 64}"]), (404, [f"{url}/nothing"]), (404, [f"http://127.0.0.1:{port}/other"]), (405, [url]),
                       (405, ["-X", "DELETE", f"{url}/{digest}"]), (400, ["-T", path, f"{url}?lease=soon"]), (404, ["-r", "0-1", f"{url}/{'1' * 64}"])):
        got = curl(lab, *argv)[0]
        check(got == code, f"{argv}: {got}, not {code}")
    # Too large: by what it says, and by what comes.
    check(curl(lab, "-H", "Content-Length: 99999999", "-H", "Expect: 100-continue", "-X", "PUT", "-d", "x", url)[0] == 413, "too large by its length")
    check(curl(lab, "-T", "-", "-H", "Transfer-Encoding: chunked", url, stdin=bytes(41 * MIB))[0] == 413, "too large when it comes")
    # The empty one, by name, and what the mesh stored.
    code, headers, _ = curl(lab, "-T", "-", url, stdin=b"")
    check(code == 201 and curl(lab, f"http://127.0.0.1:{port}{headers['location']}")[2] == b"", "the empty blob")
    mesh = lab.ok("blob", "put", "--seed", journal.address, stdin=b"by the mesh").decode().split()[0]
    check(curl(lab, f"{url}/{mesh}")[2] == b"by the mesh" and lab.ok("blob", "get", digest, "--seed", journal.address) == content, "mesh and HTTP differ")
    # An upload that ends early leaves nothing.
    import socket
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(b"PUT /blobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + bytes(300000))
        wait_until("the upload has begun", lambda: os.listdir(lab.path("journal", "blobs", "upload")), 10)
    wait_until("what ended early is gone", lambda: not os.listdir(lab.path("journal", "blobs", "upload")), 10, journal)
    # Damage: no wrong byte leaves.
    with open(lab.path("journal", "blobs", digest[:2], digest), "r+b") as file:
        file.seek(20 * MIB)
        file.write(b"XX")
    result = lab.run("curl", "-sS", "--max-time", "20", f"{url}/{digest}")
    check(result.status != 0 and content.startswith(result.out), f"damaged bytes left: curl's status {result.status}, {len(result.out)} bytes")
    check(curl(lab, f"{url}/{digest}")[0] == 404, "what is in quarantine is still served")
    check(journal.memory_peak_bytes() < 96 * MIB, f"{journal.memory_peak_bytes()} bytes of memory")
    check(journal.terminate() == 0, "the journal did not end well")


def http_connections_are_bounded(lab):
    """More than are let in at a time: the journal serves on, and its memory and files stay bounded."""
    import socket
    port = free_port()
    journal = lab.journal("journal", None, "--http", f"127.0.0.1:{port}")
    digest = lab.ok("blob", "put", "--seed", journal.address, stdin=b"hello").decode().split()[0]
    before = journal.files_open()
    idle = []
    for _ in range(300):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex(("127.0.0.1", port))
        idle.append(s)
    wait_until("connections are taken", lambda: journal.files_open() > before + 60, 10, journal)
    # It takes what it is going to take: those that it does not wait in the kernel's queue, which nobody can see getting no shorter.
    most = 0
    for _ in range(20):
        most = max(most, journal.files_open() - before)
        time.sleep(0.05)
    check(most <= 140, f"{most} files for 300 connections")
    for s in idle:
        s.close()
    wait_until("it serves again", lambda: lab.run("curl", "-sS", "--max-time", "5", f"http://127.0.0.1:{port}/blobs/{digest}").out == b"hello", 20, journal)


if __name__ == "__main__":
    main(a_large_blob_passes_in_bounded_memory, five_gib_pass_in_bounded_memory, the_command_stores_once_and_fetches_whole_or_a_range, bad_input_is_a_clear_error,
         kills_of_journal_and_client_at_random_moments_end_in_the_same_bytes, what_is_damaged_here_comes_from_another_journal,
         a_large_payload_travels_as_a_blob_and_comes_back, the_command_publishes_large_payloads_as_blobs_and_fetches_them, a_blob_goes_with_its_last_fact_and_not_before, a_journal_with_blobs_gets_over_a_lost_cookie, http_serves_blobs, http_connections_are_bounded)
