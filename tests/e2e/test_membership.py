#!/usr/bin/python3
"""Twenty nodes find each other through one seed; the seed is killed; a twenty-first joins through another."""
import time

from harness import a_fact_from_each_reaches_each, check, fields, main, tool, wait_until

NODES = 20
LIMIT_S = 5


def node_start(lab, index, seed=None):
    name = f"n{index:02d}"
    node = lab.start(name, [tool("mesh_node"), "--name", name] + (["--seed", seed] if seed else ["--bind", "tcp://127.0.0.1:*"]))
    return node


def node_ready(node):
    node.address = fields(node.line("^READY "))["address"]


def members(node):
    """Whom it sees now: the last list that it printed."""
    lists = node.lines("^MEMBERS ")
    return set(fields(lists[-1])["names"].split(",")) if lists else set()


def all_see(nodes, started):
    want = {node.name for node in nodes}
    for node in nodes:
        wait_until(f"{node.name} sees exactly the {len(want)} living; it sees {len(members(node))}",
                   lambda node=node: members(node) == want, max(0.0, started + LIMIT_S - time.monotonic()), node)
    return time.monotonic() - started


def twenty_nodes_survive_their_seed_and_a_newcomer_finds_all(lab):
    nodes = [node_start(lab, 0)]
    node_ready(nodes[0])
    started = time.monotonic()
    nodes += [node_start(lab, i, nodes[0].address) for i in range(1, NODES)]
    for node in nodes[1:]:
        node_ready(node)
    lab.tell(f"{NODES} nodes see {NODES} through one seed after {all_see(nodes, started):.2f} s")
    lab.tell(f"a fact from each reached each after {a_fact_from_each_reaches_each(nodes, 'first', LIMIT_S):.2f} s")

    killed = nodes.pop(0)
    killed.kill9()
    started = time.monotonic()
    other = lab.random.choice(nodes)
    nodes.append(node_start(lab, NODES, other.address))
    node_ready(nodes[-1])
    lab.tell(f"seed killed, {nodes[-1].name} joined through {other.name}: all {len(nodes)} see the {len(nodes)} living, "
             f"and the dead one no more, after {all_see(nodes, started):.2f} s")
    lab.tell(f"a fact from each reached each after {a_fact_from_each_reaches_each(nodes, 'second', LIMIT_S):.2f} s")


def who_says_goodbye_is_gone_at_once(lab):
    nodes = [node_start(lab, 0)]
    node_ready(nodes[0])
    nodes += [node_start(lab, i, nodes[0].address) for i in range(1, 3)]
    for node in nodes[1:]:
        node_ready(node)
    all_see(nodes, time.monotonic())
    leaver = nodes.pop()
    leaver.close_input()
    started = time.monotonic()
    leaver.ends_well()
    took = all_see(nodes, started)
    check(took < 2.0, f"it took {took:.2f} s, as long as for a dead one")
    lab.tell(f"the others saw it go after {took:.2f} s")


main(twenty_nodes_survive_their_seed_and_a_newcomer_finds_all, who_says_goodbye_is_gone_at_once)
