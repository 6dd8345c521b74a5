#!/usr/bin/python3
"""The newest of each key, traces, corrections; an index that is deleted or damaged comes back the same."""
import glob
import json
import os
import shutil

from harness import check, free_port, main


def ids(lab, bind, topic):
    return [f"{f['stream']}:{f['seq']}" for f in map(json.loads, lab.ok("replay", topic, "--seed", bind, "--json").splitlines())]


def publish_states(lab, bind, rounds=3, keys=50):
    for r in range(rounds):
        rows = "".join(f"k{n},{r}\n" for n in range(keys))
        lab.ok("pub", "state.of", "--seed", bind, "--csv", "--raw", "--key", "key", stdin=("key,r\n" + rows).encode())


def check_states(lab, bind, rounds=3, keys=50):
    for n in (0, 7, keys - 1):
        got = lab.ok("get", "state.of", f"k{n}", "--seed", bind)
        check(got == f"k{n},{rounds - 1}\n".encode(), f"the newest of k{n} is {got}")


def get_prints_the_newest_and_an_index_that_went_comes_back(lab):
    bind = f"tcp://127.0.0.1:{free_port()}"
    journal = lab.journal("journal", bind)
    publish_states(lab, bind)
    check_states(lab, bind)
    lab.ok("pub", "state.of", "--tombstone", "--key", "k7", "", "--seed", bind)
    result = lab.factmesh("get", "state.of", "k7", "--seed", bind)
    check(result.status == 1 and "no fact with the key" in result.err, f"a tombstone: status {result.status}, {result.err}")
    lab.ok("pub", "state.of", "--key", "k7", "k7,2", "--seed", bind)
    check_states(lab, bind)
    result = lab.factmesh("get", "state.of", "none", "--seed", bind)
    check(result.status == 1, f"no such key: status {result.status}")
    for damage in "delete", "overwrite", "truncate":
        check(journal.terminate() == 0, "the journal does not end well")
        index = lab.path("journal", "index")
        if damage == "delete":
            shutil.rmtree(index)
        else:
            for path in glob.glob(os.path.join(index, "index.db*")):
                with open(path, "r+b") as file:
                    if damage == "overwrite":
                        file.write(lab.random.randbytes(8192))
                    else:
                        file.truncate(100)
        journal = lab.journal("journal", bind)
        check_states(lab, bind)


def an_index_follows_a_journal_that_is_killed(lab):
    bind = f"tcp://127.0.0.1:{free_port()}"
    for kill in range(5):
        journal = lab.journal("journal", bind)
        publish_states(lab, bind, rounds=kill + 1)
        journal.kill9()
        journal = lab.journal("journal", bind)
        check_states(lab, bind, rounds=kill + 1)
        journal.kill9()


def a_correction_names_what_it_corrects_and_trace_shows_the_tree(lab):
    bind = lab.journal().address
    lab.ok("pub", "orders.placed", "--key", "4711", "old address", "--seed", bind)
    order = ids(lab, bind, "orders.placed")[0]
    lab.ok("pub", "orders.shipped", "--key", "4711", "--causation", order, "shipped", "--seed", bind)
    shipped = ids(lab, bind, "orders.shipped")[0]
    lab.ok("pub", "mails.sent", "--causation", shipped, "mail", "--seed", bind)
    correction = lab.ok("correct", order, "new address", "--seed", bind).decode().strip()
    again = lab.ok("correct", correction, "newest address", "--seed", bind).decode().strip()
    check(lab.ok("get", again, "--seed", bind) == b"newest address\n", "the correction has another content")
    check(lab.ok("get", "orders.placed", "4711", "--seed", bind) == b"newest address\n", "the newest of the key is another")
    rows = [json.loads(line) for line in lab.ok("trace", shipped, "--seed", bind, "--json").splitlines()]
    check([(r["depth"], r["relation"], r["payload"]) for r in rows] == [
        (0, "", "old address"), (1, "caused:", "shipped"), (2, "caused:", "mail"), (1, "corrected:", "new address"), (2, "corrected:", "newest address")],
        f"the tree is {rows}")
    text = lab.ok("trace", again, "--seed", bind).decode()
    check(text.count("\n") == 5 and [line for line in text.splitlines() if line.startswith(">")][0].count("newest address") == 1, f"as text: {text}")
    unknown = order.split(":")[0] + ":999999"
    for argv in ("correct", unknown, "x"), ("get", unknown), ("trace", unknown):
        result = lab.factmesh(*argv, "--seed", bind)
        check(result.status == 1 and "not recorded" in result.err, f"{argv[0]} of an unknown fact: status {result.status}, {result.err}")


main(get_prints_the_newest_and_an_index_that_went_comes_back, an_index_follows_a_journal_that_is_killed, a_correction_names_what_it_corrects_and_trace_shows_the_tree)
