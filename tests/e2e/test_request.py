#!/usr/bin/python3
"""Requests and responses as facts: first, several, all, none in time; late responders; both are recorded and can be read again."""
import json
import subprocess
import time

from harness import FACTMESH, check, main, wait_until


def responder(lab, bind, *argv, name="respond"):
    process = lab.start(name, [FACTMESH, "respond", *argv, "--seed", bind], stdin=subprocess.DEVNULL)
    process.line("listening", 20, "err")
    return process


def a_request_gets_its_response_and_both_are_recorded(lab):
    bind = lab.journal().address
    one = responder(lab, bind, "stock.query", "--exec", 'echo "$(cat): 12"', "--type", "Stock")
    out = lab.ok("request", "stock.query", "lamp", "--seed", bind, "--timeout", "10s")
    check(out == b"lamp: 12\n\n", f"the response is {out}")
    facts = [json.loads(line) for line in lab.ok("replay", "stock.>", "--seed", bind, "--json").splitlines()]
    check([f["topic"] for f in facts] == ["stock.query", "stock.query-response"], f"recorded: {[f['topic'] for f in facts]}")
    request, response = facts
    check(response["correlation"] == request["correlation"] != "", "the response has another correlation")
    check(response["causation"] == f"{request['stream']}:{request['seq']}", "the response does not name its cause")
    check(response["type"] == "Stock", "the response has no type")
    one.terminate()


def several_responders_and_several_responses(lab):
    bind = lab.journal().address
    for i in range(3):
        responder(lab, bind, "who.is.there", "--exec", f"printf {i}", name=f"respond{i}")
    got = lab.ok("request", "who.is.there", "", "--seed", bind, "--count", "3", "--timeout", "10s").split()
    check(sorted(got) == [b"0", b"1", b"2"], f"three responses: {got}")
    got = lab.ok("request", "who.is.there", "", "--seed", bind, "--all", "--timeout", "1500ms").split()
    check(sorted(got) == [b"0", b"1", b"2"], f"all responses: {got}")
    result = lab.factmesh("request", "who.is.there", "", "--seed", bind, "--count", "4", "--timeout", "3s")
    check(result.status == 3 and len(result.out.split()) == 3, f"status {result.status}, {result.out}")


def who_does_not_answer_in_time_is_a_timeout_and_nothing_else(lab):
    bind = lab.journal().address
    failing = responder(lab, bind, "fails.query", "--exec", "echo no; exit 1")
    for topic in "fails.query", "nobody.query":
        started = time.monotonic()
        result = lab.factmesh("request", topic, "x", "--seed", bind, "--timeout", "700ms")
        check(result.status == 3 and result.out == b"", f"{topic}: status {result.status}, {result.out}")
        check("timed out" in result.err, f"{topic}: {result.err}")
        check(time.monotonic() - started < 8, f"{topic}: took too long")
    failing.line("no response", 10, "err")


def a_group_answers_what_was_asked_while_it_was_away_unless_it_has_expired(lab):
    bind = lab.journal().address
    expired = lab.factmesh("request", "price.query", "old", "--seed", bind, "--timeout", "200ms")
    check(expired.status == 3, f"status {expired.status}")
    waiting = lab.start("request", [FACTMESH, "request", "price.query", "new", "--seed", bind, "--timeout", "30s"], stdin=subprocess.DEVNULL)
    wait_until("the request is recorded", lambda: b"new" in lab.ok("replay", "price.query", "--seed", bind), 20)
    one = responder(lab, bind, "price.query", "--group", "pricing", "--exec", 'cat; cat >>/dev/null', name="one")
    waiting.ends_well(20)
    check(waiting.out() == "new\n", f"the response is {waiting.out()!r}")
    one.terminate()
    recorded = lab.ok("replay", "price.query-response", "--seed", bind)
    check(recorded == b"new\n", f"responses: {recorded}")


main(a_request_gets_its_response_and_both_are_recorded, several_responders_and_several_responses, who_does_not_answer_in_time_is_a_timeout_and_nothing_else,
     a_group_answers_what_was_asked_while_it_was_away_unless_it_has_expired)
