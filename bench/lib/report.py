# SPDX-License-Identifier: BSD-3-Clause
"""The report: one HTML file with its charts as inline SVG. Nothing is loaded from elsewhere; colours
follow the reader's light or dark setting and print well."""
import html
import math

CSS = """
:root { --bg:#ffffff; --fg:#1c2330; --dim:#5b6472; --line:#d5dae2; --card:#f6f7f9; --ours:#1f6feb;
 --theirs:#8a6d1a; --good:#1a7f37; --bad:#c4281c; --want:#1c2330; --s1:#1f6feb; --s2:#0f8a82;
 --s3:#8250df; --s4:#bf5b04; --s5:#6e7781; --s6:#b83280; }
@media (prefers-color-scheme: dark) { :root { --bg:#10141b; --fg:#e4e8ef; --dim:#9aa4b2;
 --line:#303845; --card:#181e27; --ours:#6cb0ff; --theirs:#e0b84a; --good:#4ac26b; --bad:#ff7b72;
 --want:#e4e8ef; --s1:#6cb0ff; --s2:#4fd1c5; --s3:#c297ff; --s4:#ffa657; --s5:#9aa4b2;
 --s6:#ff8ccb; } }
* { box-sizing:border-box } body { margin:0; background:var(--bg); color:var(--fg);
 font:15px/1.5 system-ui,"DejaVu Sans",sans-serif }
main { max-width:1080px; margin:0 auto; padding:32px 24px 64px }
h1 { font-size:26px; margin:0 0 4px } h2 { font-size:19px; margin:40px 0 6px }
p { margin:6px 0; max-width:80ch } .dim { color:var(--dim) }
.card { background:var(--card); border:1px solid var(--line); border-radius:8px; padding:12px 14px;
 margin:12px 0; overflow-x:auto }
.grid { display:grid; grid-template-columns:repeat(auto-fit,minmax(460px,1fr)); gap:12px }
.grid .card { margin:0 } table { border-collapse:collapse; width:100%; font-size:14px }
th,td { padding:5px 10px 5px 0; border-bottom:1px solid var(--line); text-align:left;
 vertical-align:top } td.n,th.n { text-align:right; font-variant-numeric:tabular-nums;
 white-space:nowrap } tr:last-child td { border-bottom:0 }
.met { color:var(--good); font-weight:600 } .missed { color:var(--bad); font-weight:600 }
svg { display:block; width:100%; height:auto } svg text { fill:var(--fg); font-size:13px }
svg .t { font-weight:600 } svg .d { fill:var(--dim); font-size:12px }
code,pre { font-family:"DejaVu Sans Mono",monospace; font-size:13px }
@media print { .card { break-inside:avoid } }
"""


def esc(text):
    return html.escape(str(text))


def number(v):
    if v is None:
        return ""
    if abs(v) >= 100000:
        return "%.0fk" % (v / 1000)
    if abs(v) >= 1000:
        return "%s" % format(int(round(v)), ",")
    if abs(v) >= 100:
        return "%.0f" % v
    return "%.3g" % v


def nbytes(v):
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(v) < 1024 or unit == "TiB":
            return "%.3g %s" % (v, unit)
        v /= 1024
    return ""


class Svg:
    def __init__(self, width, height, label):
        self.size = (width, height)
        self.label = label
        self.parts = []

    def line(self, x1, y1, x2, y2, color="--line", width=1.0, dash=None):
        self.parts.append('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" style="stroke:var(%s);'
                          'stroke-width:%g%s"/>' % (x1, y1, x2, y2, color, width,
                                                    ";stroke-dasharray:" + dash if dash else ""))

    def rect(self, x, y, w, h, color, opacity=1.0, title=None):
        self.parts.append('<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="2" style="fill:'
                          'var(%s);opacity:%g">%s</rect>' % (
                              x, y, max(w, 0), h, color, opacity,
                              "<title>%s</title>" % esc(title) if title else ""))

    def circle(self, x, y, r, color, title=None):
        self.parts.append('<circle cx="%.1f" cy="%.1f" r="%g" style="fill:var(%s)">%s</circle>' % (
            x, y, r, color, "<title>%s</title>" % esc(title) if title else ""))

    def path(self, points, color, width=2.0, dash=None):
        self.parts.append('<polyline points="%s" style="fill:none;stroke:var(%s);stroke-width:%g;'
                          'stroke-linejoin:round%s"/>' % (
                              " ".join("%.1f,%.1f" % p for p in points), color, width,
                              ";stroke-dasharray:" + dash if dash else ""))

    def text(self, x, y, text, anchor="start", css="", color=None):
        self.parts.append('<text x="%.1f" y="%.1f" text-anchor="%s" class="%s"%s>%s</text>' % (
            x, y, anchor, css, ' style="fill:var(%s)"' % color if color else "", esc(text)))

    def __str__(self):
        return '<svg viewBox="0 0 %d %d" role="img" aria-label="%s">%s</svg>' % (
            self.size + (esc(self.label), "".join(self.parts)))


def nice_steps(top, count=5):
    """Round steps from 0 to at least @top."""
    raw = top / count
    unit = 10 ** math.floor(math.log10(raw)) if raw > 0 else 1
    step = next((m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw), unit)
    return [i * step for i in range(int(math.ceil(top / step - 1e-9)) + 1)]


# --- charts ---

def ratio_chart(rows):
    """A bar for each ratio from 0, its spread as a whisker, and a tick where it was wanted."""
    rows = [r for r in rows if r["unit"] == "ratio"]
    if not rows:
        return ""
    left, right, height = 400, 950, 46
    top = max([r["median"] for r in rows] + [r["wanted"] * 1.15 for r in rows if r["wanted"]])
    steps = nice_steps(min(top, 8))
    span = steps[-1]
    svg = Svg(1040, 54 + height * len(rows), "Ratios against their baselines")

    def x(v):
        return left + min(v, span * 1.02) / span * (right - left)

    bottom = 24 + height * len(rows)
    for s in steps:
        svg.line(x(s), 18, x(s), bottom)
        svg.text(x(s), bottom + 18, "%g" % s, "middle", "d")
    for i, r in enumerate(rows):
        y = 24 + i * height
        color = {True: "--good", False: "--bad", None: "--s5"}[r["met"]]
        svg.text(0, y + 17, r["title"])
        svg.text(0, y + 33, "against " + r["against"], css="d")
        svg.rect(left, y + 8, x(r["median"]) - left, 20, color, 0.75,
                 "median %.3f, from %.3f to %.3f" % (r["median"], r["min"], r["max"]))
        svg.line(x(r["min"]), y + 18, x(r["max"]), y + 18, "--fg", 1.5)
        for v in (r["min"], r["max"]):
            svg.line(x(v), y + 13, x(v), y + 23, "--fg", 1.5)
        if r["wanted"] is not None:
            svg.line(x(r["wanted"]), y + 2, x(r["wanted"]), y + 34, "--want", 2.5, "3 2")
            svg.text(x(r["wanted"]) + 5, y + 42, "%s %g" % ("at least" if r["at_least"] else
                                                           "at most", r["wanted"]), css="d")
        svg.text(1036, y + 23, "%.2f" % r["median"], "end", "t", color)
    return str(svg)


def nines(p):
    """Percentiles on a scale where each nine takes the same room."""
    return -math.log10(1 - p / 100)


def latency_chart(row):
    """Latency by percentile, both sides."""
    curves = [(name, color, row[side]["curve"]) for name, color, side in (
        ("Penstock", "--ours", "ours"), (row["against"].split(",")[0], "--theirs", "theirs"))
              if row.get(side) and row[side].get("curve")]
    if len(curves) < 2:
        return ""
    left, right, top, bottom = 64, 476, 58, 268
    values = [v for _, _, c in curves for _, v in c if v > 0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    svg = Svg(500, 312, "Latency of " + row["title"])

    def x(p):
        return left + nines(min(p, 99.99)) / 4 * (right - left)

    def y(us):
        return bottom - (math.log10(max(us, 1e-3)) - low) / (high - low) * (bottom - top)

    svg.text(0, 15, row["title"], css="t")
    at = left
    for name, color, _ in curves:
        svg.rect(at, 28, 18, 4, color)
        svg.text(at + 24, 35, name, css="d")
        at += 40 + 7 * len(name)
    for e in range(low, high + 1):
        svg.line(left, y(10 ** e), right, y(10 ** e))
        us = 10 ** e
        svg.text(left - 6, y(us) + 4, "%g %s" % ((us, "µs") if us < 1000 else (us / 1000, "ms")),
                 "end", "d")
    for p, name in ((0.01, "0"), (50, "50"), (90, "90"), (99, "99"), (99.9, "99.9"),
                    (99.99, "99.99")):
        svg.line(x(p), top, x(p), bottom)
        svg.text(x(p), bottom + 17, name, "middle", "d")
    svg.text((left + right) / 2, bottom + 36, "percent of requests are at least this fast",
             "middle", "d")
    for _, color, curve in curves:
        svg.path([(x(p), y(v)) for p, v in curve if v > 0], color)
    return str(svg)


def windows_chart(row):
    """The rate in each window of the long overwrite, both sides."""
    ours, theirs = row["ours"]["all_iops"], row["theirs"]["all_iops"]
    left, right, top, bottom = 64, 486, 58, 268
    steps = nice_steps(max(ours + theirs))
    svg = Svg(500, 312, "Rate over time")
    svg.text(0, 15, "Rate in each window of the long overwrite", css="t")
    for k, (name, color) in enumerate((("Penstock", "--ours"), ("fio O_DSYNC", "--theirs"))):
        svg.rect(left + k * 110, 28, 18, 4, color)
        svg.text(left + 24 + k * 110, 35, name, css="d")

    def y(v):
        return bottom - v / steps[-1] * (bottom - top)

    for s in steps:
        svg.line(left, y(s), right, y(s))
        svg.text(left - 6, y(s) + 4, number(s), "end", "d")
    for values, color in ((ours, "--ours"), (theirs, "--theirs")):
        points = [(left + (i + 0.5) / len(values) * (right - left), y(v))
                  for i, v in enumerate(values)]
        svg.path(points, color)
        for p, v in zip(points, values):
            svg.circle(p[0], p[1], 3.5, color, "%.0f/s" % v)
    for i in range(len(ours)):
        svg.text(left + (i + 0.5) / len(ours) * (right - left), bottom + 17, i + 1, "middle", "d")
    svg.text((left + right) / 2, bottom + 36, "window; overwrites per second", "middle", "d")
    return str(svg)


def instr_chart(row):
    """Where the instructions go: the largest functions, and what was left out."""
    top = row["top"][:14]
    left, right, height = 210, 440, 19
    svg = Svg(500, 78 + height * len(top), "Instructions of " + row["title"])
    svg.text(0, 15, row["title"], css="t")
    svg.text(0, 34, "%.0f for the op, %g wanted; left out: %s" % (
        row["median"], row["wanted"], ", ".join("%s %.0f" % kv for kv in sorted(
            row["left_out"].items(), key=lambda kv: -kv[1])[:2])), css="d")
    most = max(c for _, c in top)
    for i, (name, cost) in enumerate(top):
        y = 46 + i * height
        svg.text(left - 8, y + 13, name.split(".")[0][:26], "end", "d")
        svg.rect(left, y + 3, cost / most * (right - left), height - 6, "--ours", 0.8)
        svg.text(left + cost / most * (right - left) + 6, y + 13, "%.0f" % cost, css="d")
    svg.text(left, 46 + height * len(top) + 18, "instructions per op, by function", css="d")
    return str(svg)


def recovery_chart(row):
    points = row["points"]
    left, right, top, bottom = 64, 440, 58, 268
    svg = Svg(500, 312, "Recovery by size")
    svg.text(0, 15, "Recovery after a kill, by files in the store", css="t")
    svg.rect(left, 28, 18, 4, "--ours")
    svg.text(left + 24, 35, "seconds (left)", css="d")
    svg.rect(left + 130, 28, 18, 4, "--theirs")
    svg.text(left + 154, 35, "index in DRAM (right)", css="d")
    xs = nice_steps(max(p["files"] for p in points), 4)
    ys = nice_steps(max(p["recovery_s"] for p in points))
    ms = nice_steps(max(p["index_bytes"] for p in points) / (1 << 20))

    def x(v):
        return left + v / xs[-1] * (right - left)

    for s in ys:
        y = bottom - s / ys[-1] * (bottom - top)
        svg.line(left, y, right, y)
        svg.text(left - 6, y + 4, "%.3g s" % s, "end", "d")
    for s in ms:
        svg.text(right + 6, bottom - s / ms[-1] * (bottom - top) + 4, "%g MiB" % s, css="d")
    for s in xs:
        svg.text(x(s), bottom + 17, number(s), "middle", "d")
    svg.text((left + right) / 2, bottom + 36, "files", "middle", "d")
    for key, scale, color in (("recovery_s", ys[-1], "--ours"),
                              ("index_bytes", ms[-1] * (1 << 20), "--theirs")):
        line = [(x(p["files"]), bottom - p[key] / scale * (bottom - top)) for p in points]
        svg.path(line, color)
        for p in line:
            svg.circle(p[0], p[1], 4, color)
    return str(svg)


# --- tables ---

def cell(row, side):
    s = row.get(side) or {}
    if row["key"].startswith("seq") or row["key"] == "import":
        rate = s.get("bytes_per_s")
        text = nbytes(rate) + "/s" if rate else ""
        if row["key"] == "import" and rate:
            text = "%s files/s" % number(s["iops"])
        return text
    if "iops" in s:
        return "%s/s" % number(s["iops"])
    if "cpu_us_per_op" in s:
        return "%.2f µs" % s["cpu_us_per_op"]
    return ""


def notes(row):
    out = []
    if row.get("write_amplification"):
        out.append("write amplification %.2f, drain %.1f s, data set %.0f times the journal" % (
            row["write_amplification"], row["drain_s"], row["journals"]))
    if row.get("background") is not None and row["unit"] == "instructions":
        out.append("and %.0f behind the ops" % row["background"])
    if row.get("hits") is not None:
        total = row["hits"] + row["misses"]
        out.append("checksum pages hit %.1f %%" % (100 * row["hits"] / total if total else 0))
    if row.get("slope"):
        s = row["slope"]
        out.append("per million files: %.2f s, %s of index, %s resident" % (
            s["seconds_per_million"], nbytes(s["index_bytes_per_million"]),
            nbytes(s["rss_bytes_per_million"])))
    if row.get("ours", {}).get("cpu_us_per_op") and row["unit"] == "ratio" and \
            row["key"] != "read_cpu":
        out.append("CPU per op %.1f µs, theirs %.1f" % (row["ours"]["cpu_us_per_op"],
                                                       row["theirs"]["cpu_us_per_op"]))
    return "; ".join(out)


def wanted(row):
    if row.get("wanted") is None:
        return "report"
    return "%s %s" % ("≥" if row["at_least"] else "≤", format(row["wanted"], "g"))


def table(rows):
    out = ["<table><tr><th>what</th><th>against</th><th class=n>ours</th><th class=n>theirs</th>"
           "<th class=n>wanted</th><th class=n>measured</th><th class=n>spread</th><th>met</th>"
           "</tr>"]
    for r in rows:
        if "error" in r:
            out.append("<tr><td>%s</td><td colspan=7 class=missed>not measured: %s</td></tr>" % (
                esc(r["title"]), esc(r["error"][:300])))
            continue
        met = {None: "", True: "<span class=met>met</span>",
               False: "<span class=missed>missed</span>"}[r["met"]]
        note = notes(r)
        out.append("<tr><td>%s%s</td><td>%s</td><td class=n>%s</td><td class=n>%s</td>"
                   "<td class=n>%s</td><td class=n>%s</td><td class=n>%s</td><td>%s</td></tr>" % (
                       esc(r["title"]), "<br><span class=dim>%s</span>" % esc(note) if note
                       else "", esc(r["against"]), esc(cell(r, "ours")), esc(cell(r, "theirs")),
                       wanted(r), number(r["median"]) + (" s" if r["unit"] == "seconds" else ""),
                       "%s – %s" % (number(r["min"]), number(r["max"]))
                       if len(r["values"]) > 1 else "", met))
    return "".join(out) + "</table>"


def page(results):
    rows = results["rows"]
    good = [r for r in rows if "error" not in r]
    by = {r["key"]: r for r in good}
    judged = [r for r in rows if r.get("met") is not None]
    cards = [latency_chart(by[k]) for k in ("read_warm", "read_cold", "overwrite_burst",
                                            "overwrite_one") if k in by]
    if "overwrite_long" in by:
        cards.append(windows_chart(by["overwrite_long"]))
    if "recovery" in by:
        cards.append(recovery_chart(by["recovery"]))
    instr = [instr_chart(by[k]) 
             for k in ("instr_read", "instr_read_small", "instr_write", "instr_write_small")
             if k in by]

    def grid(parts):
        return '<div class="grid">%s</div>' % "".join('<div class="card">%s</div>' % c
                                                     for c in parts if c)

    machine = "".join("<tr><td>%s</td><td>%s</td></tr>" % (esc(k), esc(v))
                      for k, v in results["machine"].items())
    return ("<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport "
            "content='width=device-width,initial-scale=1'><title>Penstock benchmarks</title>"
            "<style>%s</style></head><body><main><h1>Penstock benchmarks</h1><p class=dim>%s. %s"
            "</p><p>%d of %d wanted figures are met.</p>"
            "<h2>Against the baselines</h2><p>Each ratio is the median over %d pairs; the two "
            "sides of a pair ran one after the other, in alternating order, on the same file "
            "system. The whisker is the smallest and the largest pair; the dashed tick is what was "
            "wanted.</p><div class=card>%s</div><h2>All figures</h2><div class=card>%s</div>"
            "<h2>Latency and time</h2>%s<h2>Instructions</h2><p>Counted by callgrind in steady "
            "state on a device in memory, from submit to completion. memcpy, memset, the CRC "
            "kernel, the loop's own turn and the bench program are left out by name.</p>%s"
            "<h2>Machine</h2><div class=card><table>%s</table></div></main></body></html>" % (
                CSS, esc(results["when"]), esc(results["mode"]),
                sum(1 for r in judged if r["met"]), len(judged), results["pairs"],
                ratio_chart(good), table(rows), grid(cards), grid(instr), machine))
