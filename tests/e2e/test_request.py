#!/usr/bin/python3
"""Requests and responses as facts: first, several, all, none in time; late responders; both are recorded and can be read again."""
import collections
import json
import subprocess
import time

from harness import FACTMESH, check, free_port, main, wait_until

KILLS = 20          # of requesters, of responders, of the journal: each


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


def who_responds_to_all_topics_does_not_respond_to_responses(lab):
    bind = lab.journal().address
    handled = lab.path("handled")
    for group in [], ["--group", "all"]:
        one = responder(lab, bind, ">", "--exec", f"echo $FM_TOPIC >>{handled}; echo yes", *group, name="respond-" + "".join(group))
        out = lab.ok("request", "is.it", "x", "--seed", bind, "--timeout", "10s")
        check(out == b"yes\n\n", f"the response is {out}")
        # Whoever took the first response for a request has handled it by now.
        out = lab.ok("request", "is.it", "x", "--seed", bind, "--timeout", "10s")
        check(out == b"yes\n\n", f"the second response is {out}")
        one.terminate()
        with open(handled) as file:
            topics = file.read().split()
        check(set(topics) == {"is.it"}, f"handled as requests: {topics}")


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


def kills_of_everybody_leave_each_question_with_its_own_answer(lab):
    """Two responders. In each round a requester is killed, then one of the responders while somebody asks, then the journal while somebody asks: whoever is
    left to ask is answered, with the answer to its own question. Counted in a file: no responder handles a question twice."""
    bind = f"tcp://127.0.0.1:{free_port()}"
    journal = lab.journal("journal", bind)
    handled = lab.path("handled")
    started = 0

    def start_responder():
        nonlocal started
        started += 1
        handler = f'read q; echo "{started} $q" >>{handled}; echo "answer to $q"'
        return lab.start(f"respond{started}", [FACTMESH, "respond", "kill.query", "--exec", handler, "--seed", bind], stdin=subprocess.DEVNULL)

    def ask(question):
        return lab.start("request", [FACTMESH, "request", "kill.query", f"{question}\n", "--seed", bind, "--timeout", "20s"], stdin=subprocess.DEVNULL)

    def is_answered(asker, question):
        asker.ends_well(30)
        check(asker.out().strip() == f"answer to {question}", f"{question}: {asker.out()!r}")

    def a_moment():
        time.sleep(lab.random.uniform(0, 0.08))

    responders = [start_responder(), start_responder()]
    for one in responders:
        one.line("listening", 20, "err")
    killed_in_time = 0
    for kill in range(KILLS):
        doomed, asker = ask(f"a{kill}"), ask(f"b{kill}")
        a_moment()
        killed_in_time += doomed.alive()
        doomed.kill9()
        a_moment()
        responders.pop(lab.random.randrange(2)).kill9()
        responders.append(start_responder())
        is_answered(asker, f"b{kill}")
        responders[1].line("listening", 20, "err")
        asker = ask(f"c{kill}")
        a_moment()
        journal.kill9()
        journal = lab.journal("journal", bind)
        is_answered(asker, f"c{kill}")
    check(killed_in_time >= KILLS // 2, f"{killed_in_time} requesters were killed before they had ended: too little was tested")
    with open(handled) as file:
        twice = [line for line, n in collections.Counter(file.read().split("\n")).items() if line and n > 1]
    check(not twice, f"handled twice by the same: {twice}")
    # What is recorded: each answer names a question, and is the answer to that.
    facts = [json.loads(line) for line in lab.ok("replay", "kill.>", "--seed", bind, "--json").splitlines()]
    questions = {f"{f['stream']}:{f['seq']}": f for f in facts if f.get("topic") == "kill.query"}
    answers = [f for f in facts if f.get("topic") == "kill.query-response"]
    for answer in answers:
        question = questions.get(answer["causation"])
        check(question is None or (answer["correlation"] == question["correlation"] and answer["payload"].strip() == "answer to " + question["payload"].strip()),
              f"{answer} answers {question}")
    asked = {question["payload"].strip() for question in questions.values()}
    lab.tell(f"{KILLS} kills each of requesters ({killed_in_time} in time), responders and the journal; {len(asked)} questions and {len(answers)} answers are recorded")
    check(len(asked & {f"{who}{n}" for n in range(KILLS) for who in "bc"}) >= KILLS, "few questions were recorded")
    for one in responders:
        one.terminate()


main(a_request_gets_its_response_and_both_are_recorded, several_responders_and_several_responses, who_does_not_answer_in_time_is_a_timeout_and_nothing_else,
     who_responds_to_all_topics_does_not_respond_to_responses, a_group_answers_what_was_asked_while_it_was_away_unless_it_has_expired, kills_of_everybody_leave_each_question_with_its_own_answer)
