"""The results as a table: on the terminal, and in README.md."""
import json, os

from process import OUT

README = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "README.md")


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def verdict(row, good, bad):
    return "" if row["is"] is not None and row["reach"] is None else good if row["ok"] else bad


def lines(found):
    """Each row, and those below it."""
    for row in found["rows"]:
        yield row["id"], row
        for also in row["also"]:
            yield "", also


def table(found):
    print(f"\n{'row':<5}{'what':<56}{'reach':>13}{'is':>13} {'unit':<9}{'ok':<5}{'min to max':<26}against")
    for id, r in lines(found):
        span = f"{number(r['min'])} to {number(r['max'])}"
        print(f"{id:<5}{r['what'][:55]:<56}{number(r['reach']):>13}{number(r['is']):>13} {r['unit']:<9}{verdict(r, 'yes', 'no'):<5}{span:<26}{r['note']}")
    reached = sum(bool(r["ok"]) for r in found["rows"])
    print(f"\n{reached} of {len(found['rows'])} rows reached; {found['took_s']} s; {OUT}/results.json, plots beside it")


def markdown(found):
    m = found["machine"]
    yield f"{m['date']}, {m['cores']} cores ({m['cpu']}), Linux {m['kernel']}, load at the start {m['load_at_start']}" + (", `QUICK=1`" if found["quick"] else "")
    if m["load_at_start"] > 0.5:
        yield ""
        yield "**Other work ran on the machine meanwhile: a first look, ratios at best.**"
    yield ""
    yield "| row | what | reach | is | unit | | min to max | against |"
    yield "| --- | --- | ---: | ---: | --- | --- | --- | --- |"
    for id, r in lines(found):
        yield (f"| {id} | {r['what'].strip()} | {number(r['reach'])} | {number(r['is'])} | {r['unit']} | {verdict(r, 'reached', '**short**')} "
               f"| {number(r['min'])} to {number(r['max'])} | {r['note']} |")


def steps_markdown(found):
    yield "| step | ns a fact | instructions a fact | in |"
    yield "| --- | ---: | ---: | --- |"
    for s in found.get("steps", []):
        yield f"| {s['what']} | {s['ns']:.1f} | {s['instructions']:.0f} | {s['where']} |" if s.get("instructions") else f"| {s['what']} | {s['ns']:.1f} | | {s['where']} |"


def splice(text, name, new):
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, rest = text.split(begin, 1)
    return before + begin + "\n" + "\n".join(new) + "\n" + end + rest.split(end, 1)[1]


def readme():
    with open(f"{OUT}/results.json") as file:
        found = json.load(file)
    with open(README) as file:
        text = file.read()
    text = splice(text, "results", markdown(found))
    if found.get("steps"):
        text = splice(text, "steps", steps_markdown(found))
    with open(README, "w") as file:
        file.write(text)
    return 0
