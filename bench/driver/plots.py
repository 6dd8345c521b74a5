"""Plots of a run's results, drawn by gnuplot: build/bench/*.svg."""
import os, shutil, subprocess, sys

from process import OUT

OURS, RAW = "#0b6e4f", "#c1440e"
COLOURS = [OURS, RAW, "#3a5a9b", "#8c6d1f", "#7a3b8f"]
STYLE = """
set style line 1 lw 2 pt 7 ps 0.7
set border 3 lc rgb '#555555'
set tics nomirror
set grid ytics lc rgb '#dddddd' lt 1
set key outside bottom center horizontal Left reverse samplen 2
set title font ',13'
set rmargin 4
set bmargin 6.5
"""


def gnuplot(name, commands, terminal="svg", extension="svg"):
    size = "size 920,500"
    font = "font 'sans,13'" if terminal == "svg" else "font ',13'"
    background = "background rgb 'white'" if terminal == "svg" else ""
    script = f"set terminal {terminal} {size} {font} {background}\nset output '{OUT}/{name}.{extension}'\n{STYLE}\n{commands}\n"
    done = subprocess.run(["gnuplot"], input=script, text=True, capture_output=True, timeout=60)
    if done.returncode != 0:
        print(f"bench: gnuplot: {name}: {done.stderr.strip()}", file=sys.stderr)


def block(name, rows):
    return f"${name} << EOD\n" + "\n".join(" ".join(str(v) for v in row) for row in rows) + "\nEOD\n"


def row_of(found, id):
    return next((r for r in found["rows"] if r["id"] == id and r["is"] is not None), None)


def throughput(found, draw):
    if not found.get("sizes"):
        return
    points = [(p["size"], p["factmesh"], p["zmq"], p["factmesh"] * p["size"] / 1e6, p["zmq"] * p["size"] / 1e6) for p in found["sizes"]]
    draw("throughput", block("d", points) + f"""
set title 'Recorded, synced and delivered live, against raw libzmq to two subscribers'
set logscale xy
set xlabel 'payload, bytes'
set ylabel 'facts (messages) a second'
set format y '%.0s%c'
set y2label 'MB a second'
set y2tics
set logscale y2
set border 11
set rmargin 10
plot $d using 1:2 with linespoints ls 1 lc rgb '{OURS}' title 'factmesh', \\
     $d using 1:3 with linespoints ls 1 lc rgb '{RAW}' title 'raw libzmq', \\
     $d using 1:4 axes x1y2 with lines dt 2 lw 1.5 lc rgb '{OURS}' title 'factmesh, MB/s', \\
     $d using 1:5 axes x1y2 with lines dt 2 lw 1.5 lc rgb '{RAW}' title 'raw libzmq, MB/s'
""")


def latency(found, draw):
    curves = {}
    for id in ("B3", "B4"):
        curves.update((row_of(found, id) or {}).get("curves", {}))
    if not curves:
        return
    data = "".join(block(f"c{i}", points) for i, points in enumerate(curves.values()))
    lines = ", \\\n     ".join(f"$c{i} using 1:2 with lines lw 2 lc rgb '{COLOURS[i]}' title '{name}'" for i, name in enumerate(curves))
    ticks = ", ".join(f"'{text}' {x}" for text, x in (("0", 1), ("50", 2), ("90", 10), ("99", 100), ("99.9", 1000), ("99.99", 10000), ("99.999", 100000), ("99.9999", 1000000)))
    draw("latency", data + f"""
set title 'Latency from when a fact was due to its delivery (no pause is left out)'
set logscale xy
set xlabel 'percent of facts'
set xtics ({ticks})
set xrange [1:*]
set ylabel 'us'
plot {lines}
""")


def replay(found, draw):
    b6, b1, b7 = (row_of(found, id) for id in ("B6", "B1", "B7"))
    if not b6 or not b1:
        return
    bars = [("factmesh", b1["is"], b6["is"]), ("raw libzmq", b1["peers"]["zmq to two"], b6["peers"]["zmq to one"]),
            ("Redis Streams", b1["peers"]["redis everysec"], b6["peers"]["redis XREAD"]),
            ("NATS JetStream", b1["peers"]["nats"], b6["peers"]["nats ordered consumer"])]
    over = f"; 1 in 1000 by topic: {b7['is'] / 1e6:.0f} M/s passed over" if b7 else ""
    draw("replay", block("d", [(f'"{name}"', a, b) for name, a, b in bars]) + f"""
set title '100 B, recorded and read back{over}'
set style data histograms
set style fill solid
set boxwidth 0.9
set ylabel 'M facts (messages) a second'
set yrange [0:*]
set xrange [-0.6:3.6]
plot $d using ($2/1e6):xtic(1) lc rgb '#9ab8ad' title 'written (libzmq: sent, remembers nothing)', \\
     $d using ($3/1e6) lc rgb '{OURS}' title 'read back (libzmq: received)', \\
     $d using ($0-0.17):($2/1e6):(sprintf('%.2f', $2/1e6)) with labels offset 0,0.6 font ',10' notitle, \\
     $d using ($0+0.17):($3/1e6):(sprintf('%.2f', $3/1e6)) with labels offset 0,0.6 font ',10' notitle
""")


def startup(found, draw):
    b12 = row_of(found, "B12")
    if not b12:
        return

    def middle(values):
        return sorted(values)[len(values) // 2]

    points = [(p["bytes"] / 1e9, *(f"{middle(p[k]):.4f} {min(p[k]):.4f} {max(p[k]):.4f}" for k in ("clean", "cold", "killed"))) for p in b12["points"]]
    draw("startup", block("d", points) + f"""
set title 'Start of a journal, to serving, against the size of its log'
set logscale x
set xrange [0.07:15]
set xlabel 'log, GB'
set ylabel 'seconds'
set yrange [0:*]
plot $d using 1:2:3:4 with yerrorlines ls 1 lc rgb '{OURS}' title 'after a clean end', \\
     $d using 1:5:6:7 with yerrorlines ls 1 lc rgb '{COLOURS[2]}' title 'after a clean end, nothing in the page cache', \\
     $d using 1:8:9:10 with yerrorlines ls 1 lc rgb '{RAW}' title 'after kill -9'
""")


def draw(found, terminal="svg", extension="svg"):
    if not shutil.which("gnuplot"):
        print("bench: gnuplot is not here: no plots", file=sys.stderr)
        return
    for plot in (throughput, latency, replay, startup):
        plot(found, lambda name, commands: gnuplot(name, commands, terminal, extension))
