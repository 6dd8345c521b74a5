#!/usr/bin/python3
"""The worked example: its story, with services killed at any moment; and that its proof can fail."""
import os
import re
import shutil
import sqlite3

from harness import ROOT, check, free_port, main

STORY = os.path.join(ROOT, "scripts", "shop")
PROOF = os.path.join(ROOT, "scripts", "shop-proof")


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


main(the_story_ends_with_its_proof_and_the_proof_can_fail)
