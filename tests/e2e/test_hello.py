#!/usr/bin/python3
"""The README's publisher and subscriber, copied out of it, compiled against an installed factmesh, and run."""
import os
import re

from harness import BUILD, ROOT, check, main

LINES_MAX = 20          # "ten lines" and what C needs around them


def block(name):
    with open(os.path.join(ROOT, "README.md")) as file:
        found = re.search(rf"<!-- {re.escape(name)} -->\n```c\n(.*?)```", file.read(), re.S)
    check(found, f"README.md has no block {name}")
    return found.group(1)


def install(lab):
    """make install into the lab; returns the environment in which pkg-config finds it."""
    prefix = lab.path("prefix")
    done = lab.run("make", "-s", "-C", ROOT, f"BUILD={os.path.relpath(BUILD, ROOT)}", f"PREFIX={prefix}", "install", limit_s=300)
    check(done.status == 0, f"make install: {done.err[-500:]}")
    return {"PKG_CONFIG_PATH": os.path.join(prefix, "lib", "pkgconfig"), "LD_LIBRARY_PATH": os.path.join(prefix, "lib")}


def compile_block(lab, name, seed, env):
    text = block(name)
    check("tcp://127.0.0.1:7400" in text, f"{name} names no seed")
    check(len(text.strip().splitlines()) <= LINES_MAX, f"{name} has grown to {len(text.strip().splitlines())} lines")
    with open(lab.path(name), "w") as file:
        # The only change: tests run side by side, each with a port of its own.
        file.write(text.replace("tcp://127.0.0.1:7400", seed))
    flags = lab.run("pkg-config", "--cflags", "--libs", "factmesh", env=env)
    check(flags.status == 0, f"pkg-config does not find factmesh: {flags.err}")
    program = lab.path(name[:-2])
    done = lab.run("cc", "-Wall", "-Wextra", "-Werror", lab.path(name), "-o", program, *flags.text().split(), env=env, limit_s=60)
    check(done.status == 0, f"{name} does not compile as the README says: {done.err[-800:]}")
    return program


def the_programs_of_the_readme_compile_and_meet(lab):
    env = install(lab)
    journal = lab.journal()
    hello_pub = compile_block(lab, "hello_pub.c", journal.address, env)
    hello_sub = compile_block(lab, "hello_sub.c", journal.address, env)

    early = lab.start("hello_sub", [hello_sub], env=env)
    for _ in range(2):
        done = lab.run(hello_pub, env=env)
        check(done.status == 0, f"hello_pub: status {done.status}: {done.err}")
    late = lab.start("hello_sub_late", [hello_sub], env=env)
    for sub in (early, late):       # each ends when nothing has come for five seconds
        sub.ends_well(30)
        check(sub.out() == 2 * "Hello, world\n", f"{sub.name}: {sub.out()!r}")
    lab.tell("both compiled with pkg-config alone; two facts reached the early and the late subscriber")


main(the_programs_of_the_readme_compile_and_meet)
