#!/usr/bin/python3
"""The worked example: its story, with services killed at any moment; and that its proof can fail."""
import json
import os
import re
import shutil
import sqlite3
import subprocess

from harness import BUILD, ROOT, check, free_port, main, wait_until

STORY = os.path.join(ROOT, "scripts", "shop")
PROOF = os.path.join(ROOT, "scripts", "shop-proof")
SHOP = os.path.join(BUILD, "factmesh-shop")


def story(lab, **env):
    result = lab.run(STORY, limit_s=100, env={"TMPDIR": lab.dir, "ORDERS": "90", "KILLS": "6", "KEEP": "1", **env})
    check(result.status == 0, f"status {result.status}: {result.text()[-1500:]} {result.err[-1500:]}")
    kills = int(re.search(r"(\d+) kills", result.text()).group(1))
    lab.tell(f"{kills} kills")
    check(kills > 0, "nobody was killed")
    return re.search(r"KEPT (.*)", result.text()).group(1).split()


def the_story_ends_with_its_proof_and_the_proof_can_fail(lab):
    source, directory, _, _, *corrections = story(lab, KILL_SEED=str(1 + lab.seed % 1000000))
    copy, journal = lab.path("copy"), os.path.join(os.path.dirname(directory), "journal")
    http = f"127.0.0.1:{free_port()}"
    lab.journal(journal, None, "--http", http)

    def proof():
        return lab.run(PROOF, source, copy, "--blobs", f"http://{http}/blobs", *corrections)

    def change_page(change):
        """The file of an invoice's page, at the journal."""
        with sqlite3.connect(os.path.join(copy, "audit.db")) as db:
            digest, = db.execute("SELECT blob FROM ledger WHERE blob IS NOT NULL ORDER BY fact DESC").fetchone()
        change(os.path.join(journal, "blobs", digest[:2], digest))

    def damage_again(path):
        os.rename(path + ".away", path)
        with open(path, "r+b") as file:
            file.seek(4100)
            byte = file.read(1)
            file.seek(4100)
            file.write(bytes([byte[0] ^ 1]))

    def sql(database, text):
        with sqlite3.connect(os.path.join(copy, database + ".db")) as db:
            db.execute(text)

    def change_mbox(change):
        path = os.path.join(copy, "mbox")
        with open(path, "rb") as file:
            mails = re.split(rb"(?<=\n\n)(?=From )", file.read())
        with open(path, "wb") as file:
            file.write(b"".join(change(mails)))

    faults = {
        "a mail is missing": lambda: change_mbox(lambda mails: mails[1:]),
        "a mail is there twice": lambda: change_mbox(lambda mails: mails + mails[-1:]),
        "a mail went elsewhere": lambda: change_mbox(lambda mails: [mails[0].replace(b"\nTo: ", b"\nTo: x")] + mails[1:]),
        "an order was not fulfilled": lambda: sql("warehouse", "DELETE FROM fulfilment WHERE rowid = 7"),
        "an order was fulfilled twice": lambda: sql("warehouse", "INSERT INTO fulfilment SELECT 'x', number, email, units, mills, instance FROM fulfilment LIMIT 1"),
        "a sum is wrong": lambda: sql("warehouse", "UPDATE fulfilment SET mills = mills + 1 WHERE rowid = 3"),
        "a fact is not in the ledger": lambda: sql("audit", "DELETE FROM ledger WHERE rowid = 5"),
        "an invoice is missing": lambda: sql("invoices", "DELETE FROM invoice WHERE rowid = 9"),
        "an invoice points to another's page": lambda: sql("audit", "UPDATE ledger SET blob = (SELECT min (blob) FROM ledger) WHERE blob = (SELECT max (blob) FROM ledger)"),
        "an invoice points to nothing": lambda: sql("audit", "UPDATE ledger SET blob = NULL WHERE blob = (SELECT max (blob) FROM ledger)"),
        "stock was counted twice": lambda: sql("stock", "UPDATE item SET sent = sent + 1 WHERE rowid = 1"),
        "an order is not in the report": lambda: sql("report", "DELETE FROM turnover WHERE number = (SELECT number FROM turnover WHERE mills <> 0 LIMIT 1)"),
        # These two last, in this order: what they do to the journal stays.
        "a page is gone": lambda: change_page(lambda path: os.rename(path, path + ".away")),
        "a page is damaged": lambda: change_page(damage_again),
    }
    for fault, make in {"nothing": lambda: None, **faults}.items():
        shutil.copytree(directory, copy)
        make()
        result = proof()
        check((result.status == 0) == (fault == "nothing") and result.status in (0, 1), f"{fault}: the proof ends with {result.status}: {result.text()} {result.err}")
        shutil.rmtree(copy)


def what_is_typed_wrongly_is_refused(lab):
    shop, long = lab.path("shop"), "x" * 4090
    os.mkdir(shop)
    with open(os.path.join(shop, "audit.db"), "w") as file:
        file.write("no database at all\n" * 100)
    table = [
        ([], 2, "usage: factmesh-shop"), (["cellar", shop], 2, "usage: factmesh-shop"), (["orders"], 2, "usage: factmesh-shop"), (["--wrong"], 2, "--wrong"),
        (["orders", shop, "--rate", "many"], 2, "many is not a number"), (["orders", shop, "--rate", "-1"], 2, "-1 is not a number"),
        (["orders", shop, "/nothing/there.csv"], 1, "/nothing/there.csv: No such file"), (["orders", "/nothing/there"], 1, "/nothing/there/orders.db"),
        (["email", "/nothing/there"], 1, "/nothing/there/email.db"), (["audit", shop], 1, "not a database"), (["audit", long], 1, "audit: File name too long"),
        (["fulfilment", shop, "--name", long], 1, "File name too long"), (["ask", long, "22041"], 1, "ask: File name too long"),
        (["ask", shop], 1, "ask: bad argument"), (["correct", shop, "1"], 1, "correct: bad argument"), (["correct", shop, "1", "a@example.com"], 1, "correct: no such thing"),
    ]
    for argv, status, words in table:
        result = lab.run(SHOP, *argv)
        check(result.status == status and words in result.err and not result.out, f"{[a[:40] for a in argv]}: status {result.status}: {result.err[-300:]!r}")
    result = lab.run(SHOP, "--help")
    check(result.status == 0 and result.text().startswith("usage: factmesh-shop") and not result.err, "--help")
    check(lab.run(SHOP, "-s", "tcp://127.0.0.1:1", "--mesh", "m", "generate", "2", "7").out == lab.run(SHOP, "generate", "2", "7").out, "a seed makes other lines")


def order(number, email):
    return json.dumps({"number": number, "date": "d", "customer": "", "country": "UK & <b>Co</b>", "email": email,
                       "lines": [{"code": "a", "description": "1 < 2 & 3 > 2", "quantity": 2, "price": 1500}]})


def what_is_no_order_harms_nobody(lab):
    """Facts of all kinds where orders are expected; a page that could break out of its HTML; a ledger that was told all of it before; a warehouse whose table is gone."""
    journal = lab.journal()
    lab.env["FACTMESH_SEED"] = journal.address
    shop = lab.path("shop")
    os.mkdir(shop)

    for payload in ("not an order", order("1", "a@example.com"), order("2", "x" * 600 + "@example.com")):
        lab.ok("pub", "orders.placed", "--key", "k", payload)
    lab.ok("pub", "orders.fulfilled", "--key", "k", "not an order either")
    services = {name: lab.start(name, [SHOP, name, shop], stdin=subprocess.DEVNULL) for name in ("email", "fulfilment", "invoices", "audit", "report", "stock")}
    for name, last in {"email": "1 confirmed to a@example.com", "fulfilment": "2 sent: 2 pieces", "invoices": "2 invoiced", "audit": "orders.fulfilled .* is not an order",
                       "report": r"UK & <b>Co</b> +2 orders +4 pieces +6.00 GBP", "stock": "open"}.items():
        services[name].line(f"{name}: {last}", 20)
    check(services["audit"].lines("orders.placed .* is not an order"), "audit does not tell of what is no order")

    def parked(group):
        return sorted(row["reason"] for row in map(json.loads, lab.ok("group", "parked", group, "--json").splitlines()))
    wait_until("both mails that cannot be are put aside", lambda: parked("email") == ["its payload is not an order", "what it says does not fit into a mail's head"], 20)
    check(parked("fulfilment") == ["its payload is not an order"], f"fulfilment has parked {parked('fulfilment')}")
    with sqlite3.connect(os.path.join(shop, "invoices.db")) as db:
        digest, = db.execute("SELECT blob FROM invoice WHERE number = '1'").fetchone()
    page = lab.ok("blob", "get", digest).decode()
    check("UK &amp; &lt;b&gt;Co&lt;/b&gt;" in page and "<td>1 &lt; 2 &amp; 3 &gt; 2" in page, f"the page is {page}")
    wait_until("stock knows what was sent", lambda: lab.run(SHOP, "ask", shop, "a").out == b"a: 4 sent\n", 20)

    # The warehouse's disk is in trouble for a moment: the order waits, and is sent.
    def warehouse(sql):
        with sqlite3.connect(os.path.join(shop, "warehouse.db"), timeout=10) as db:
            db.execute(sql)
    warehouse("ALTER TABLE fulfilment RENAME TO elsewhere")
    lab.ok("pub", "orders.placed", "--key", "k", order("3", "c@example.com"))
    wait_until("fulfilment has found out", lambda: "no such table" in services["fulfilment"].err(), 20)
    warehouse("ALTER TABLE elsewhere RENAME TO fulfilment")
    services["fulfilment"].line("fulfilment: 3 sent: 2 pieces", 20)
    for name, service in services.items():
        check(service.terminate() == 0, f"{name} does not end well: {service.err()[-300:]}")
    # A place that was lost: whoever counts each fact once must not count it again.
    with sqlite3.connect(os.path.join(shop, "audit.db")) as db:
        before = db.execute("SELECT count (*) FROM ledger").fetchone()
        db.execute("DELETE FROM place")
    again = lab.run(SHOP, "audit", shop)
    check(again.status == 1 and "UNIQUE constraint failed" in again.err, f"audit: status {again.status}: {again.err}")
    with sqlite3.connect(os.path.join(shop, "audit.db")) as db:
        check(db.execute("SELECT count (*) FROM ledger").fetchone() == before and not db.execute("SELECT * FROM place").fetchall(), "a part of it was kept")


def what_is_nowhere_any_more_is_told_by_who_follows(lab):
    """The middle one of three orders is damaged in the only journal: the ledger has the others, and says that one is missing, once."""
    journal, shop = lab.journal(), lab.path("shop")
    lab.env["FACTMESH_SEED"] = journal.address
    os.mkdir(shop)
    for number in "first", "second", "third":
        lab.ok("pub", "orders.placed", "--key", "k", order(number, "a@example.com"))
    journal.kill9()
    lab.damage("journal", b'"second"')
    lab.journal(bind=journal.address)

    def follow(orders):
        """A run of audit until its ledger has so many; returns the gaps that it told."""
        audit = lab.start("audit", [SHOP, "audit", shop], stdin=subprocess.DEVNULL)
        audit.line("audit: open", 20)

        def ledger():
            with sqlite3.connect(os.path.join(shop, "audit.db"), timeout=10) as db:
                return [number for number, in db.execute("SELECT number FROM ledger ORDER BY rowid")]
        wait_until(f"the ledger has {orders}", lambda: ledger() == orders, 20, audit)
        check(audit.terminate() == 0, f"audit does not end well: {audit.err()}")
        return [line for line in audit.err().splitlines() if line.startswith("GAP ")]
    told = follow(["first", "third"])
    check(told == ["GAP sequences=1 reason=2: what was there is nowhere any more"], f"it says {told}")
    lab.ok("pub", "orders.placed", "--key", "k", order("fourth", "a@example.com"))
    told = follow(["first", "third", "fourth"])
    check(not told, f"it says again {told}")


main(the_story_ends_with_its_proof_and_the_proof_can_fail, what_is_typed_wrongly_is_refused, what_is_no_order_harms_nobody,
     what_is_nowhere_any_more_is_told_by_who_follows)
