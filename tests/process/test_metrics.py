#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_metrics.py PENSTOCK: the metrics: the format to the letter, figures that follow what was done, hostile HTTP, a
server that stands still; and the log of slow requests."""
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

from ops import Server, Tap

P = os.path.abspath(sys.argv[1])
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
tap = Tap()

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(r'^(%s)(?:\{((?:%s="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)$' % (NAME, "[a-zA-Z_][a-zA-Z0-9_]*"))
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')


class Format(Exception):
    pass


def family_of(name, types):
    for suffix in ("_bucket", "_sum", "_count"):
        base = name[:-len(suffix)]
        if name.endswith(suffix) and types.get(base) == "histogram":
            return base
    return name


def check_histogram(name, samples):
    series = {}
    for (n, labels), value in samples.items():
        if n.startswith(name + "_"):
            rest = tuple(l for l in labels if l[0] != "le")
            series.setdefault(rest, {}).setdefault(n[len(name) + 1:], []).append((dict(labels).get("le"), value))
    for labels, s in series.items():
        edges = [(float(le), v) for le, v in s["bucket"]]
        if edges != sorted(edges) or edges[-1][0] != float("inf") or len({e for e, _ in edges}) != len(edges):
            raise Format("%s%s: edges out of order, or without +Inf" % (name, labels))
        if any(a[1] > b[1] for a, b in zip(edges, edges[1:])):
            raise Format("%s%s: buckets are not cumulative" % (name, labels))
        if len(s["sum"]) != 1 or len(s["count"]) != 1 or s["count"][0][1] != edges[-1][1]:
            raise Format("%s%s: count is not the last bucket" % (name, labels))


def parse(text):
    """The text format 0.0.4, strictly: {(name, labels): value}."""
    if not text.endswith("\n"):
        raise Format("no newline at the end")
    types, helps, samples, current, done = {}, {}, {}, None, set()
    for line in text[:-1].split("\n"):
        if line.startswith("# "):
            m = re.match(r"^# (HELP|TYPE) (%s) (.+)$" % NAME, line)
            if not m:
                raise Format("a bad comment: " + line)
            what, name, rest = m.groups()
            table = helps if what == "HELP" else types
            if name in table or (name in done):
                raise Format("%s of %s twice, or late" % (what, name))
            if what == "TYPE" and rest not in ("counter", "gauge", "histogram"):
                raise Format("a bad type: " + line)
            table[name] = rest
            if current and current != name:
                done.add(current)
            current = name
            continue
        m = SAMPLE.match(line)
        if not m:
            raise Format("a bad sample: " + line)
        name, labels, value = m.groups()
        family = family_of(name, types)
        if family != current or family not in types or family not in helps:
            raise Format("not in its family: " + line)
        labels = tuple(sorted(LABEL.findall(labels or "")))
        if len({k for k, _ in labels}) != len(labels) or (name, labels) in samples:
            raise Format("twice: " + line)
        samples[(name, labels)] = float(value)
        if types[family] != "gauge" and samples[(name, labels)] < 0:
            raise Format("a counter below zero: " + line)
        if types[family] == "counter" and not name.endswith("_total"):
            raise Format("a counter that isn't called _total: " + line)
    for name, kind in types.items():
        if kind == "histogram":
            check_histogram(name, samples)
    return samples


def parse_rejects():
    bad = ["x 1", "# TYPE a counter\na 1\n", "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"c} 1\n",
           "# HELP a x\n# TYPE a gauge\na 1\na 2\n", "# HELP a x\n# TYPE a gauge\nb 1\n",
           "# HELP h x\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n"]
    for text in bad:
        try:
            parse(text)
            return text
        except Format:
            pass
    return None


def brief(text):
    return "\n".join(l for l in text.splitlines() if l[0] != "#" and "_bucket" not in l and not re.search(r" 0(\.0+)?$", l))


def fetch(addr, path="/metrics", method="GET"):
    request = urllib.request.Request("http://%s%s" % (addr, path), method=method)
    with urllib.request.urlopen(request, timeout=20) as r:
        return r.headers["Content-Type"], r.read().decode()


def fetch_until(addr, good):
    """Figures are at most 100 ms old, and a command's end is heard of soon: not at once."""
    until = time.monotonic() + 30
    while True:
        text = fetch(addr)[1]
        figures = parse(text)
        if good(figures) or time.monotonic() > until:
            return text, figures
        time.sleep(0.05)


def metrics_addr(server):
    return re.search(r"(\S+) \(metrics\)", server.line).group(1)


def get(samples, metric, **labels):
    return samples.get(("penstock_" + metric, tuple(sorted(labels.items()))))


def test_figures():
    config = ("metrics: 127.0.0.1:0\ninsecure: yes\ntenants:\n"
              "  - {id: 0, name: \"all \\\"\\\\ \\u00e9\", ops-per-second: 200}\n")
    with Server(P, config=config) as s:
        addr = metrics_addr(s)
        kind, text = fetch(addr)
        tap.check("the content's type", kind == "text/plain; version=0.0.4; charset=utf-8", kind)
        before = parse(text)
        tap.check("the format, before anything was done", get(before, "requests_total", op="read") == 0, brief(text))
        s.run("container", "create", "c")
        s.run("put", "-r", os.path.join(ROOT, "src", "wire"), "c:/")
        s.run("verify", "c:/", uri=s.tcp)
        text, after = fetch_until(addr, lambda f: get(f, "sessions") == 0 and get(f, "connections", channel="tcp") == 0)
        size = sum(os.path.getsize(os.path.join(ROOT, "src", "wire", f)) for f in os.listdir(os.path.join(ROOT, "src", "wire")))
        tap.check("bytes that were read", get(after, "request_bytes_total", op="read", direction="out") == size, brief(text))
        tap.check("bytes that were written", get(after, "request_bytes_total", op="change", direction="in") == size, brief(text))
        for op in ("read", "change", "list", "flush", "other"):
            n = get(after, "requests_total", op=op)
            phases = sum(get(after, "request_phase_seconds_total", op=op, phase=p) for p in ("queue", "in", "store", "out"))
            tap.check("%s: counted, and its phases are all of its time" % op,
                      n > 0 and n == get(after, "request_seconds_count", op=op) and
                      abs(phases - get(after, "request_seconds_sum", op=op)) < 1e-6, brief(text))
        tap.check("channels", get(after, "connections_total", channel="pipe") == 2 and
                  get(after, "connections_total", channel="tcp") == 1 and
                  get(after, "connections", channel="pipe") == 0, brief(text))
        tap.check("tcp from this host is the second choice", get(after, "connections_second_choice_total") == 1, brief(text))
        name = {"tenant": "0", "name": "all \\\"\\\\ \u00e9"}
        tap.check("tenants, their names escaped", get(after, "tenant_write_bytes_total", **name) == size, brief(text))
        tap.check("what a rate made wait", get(after, "tenant_throttled_total", **name) >= 0, brief(text))
        tap.check("commands that ended leave no session", get(after, "sessions") == 0 and
                  get(after, "sessions_closed_total") == 3, brief(text))
        tap.check("the store's space", get(after, "store_used_bytes") >= size and get(after, "store_up") == 1, brief(text))
        status = s.end()
        tap.check("it ends with the metrics on", status == 0, status)


def test_audit_full():
    """An audit log that takes nothing: the log says why, and the metrics how much is missing."""
    with Server(P, "--metrics", "127.0.0.1:0", "--audit-log", "/dev/full") as s:
        text, figures = fetch_until(metrics_addr(s), lambda f: True)
        tap.check("nothing is lost yet", get(figures, "audit_lost_total") == 0, brief(text))
        s.run("container", "create", "c")
        text, figures = fetch_until(metrics_addr(s), lambda f: get(f, "audit_lost_total") >= 2)
        tap.check("lines of the audit log that are lost", get(figures, "audit_lost_total") >= 2, brief(text))
        tap.check("and why", "audit log /dev/full: can't be written: No space left on device" in s.logged(), s.logged())


def test_other_requests(addr):
    codes = []
    for path, method in (("/", "GET"), ("/metrics/x", "GET"), ("/metrics", "POST"), ("/metrics", "DELETE")):
        try:
            fetch(addr, path, method)
            codes.append(200)
        except urllib.error.HTTPError as e:
            codes.append(e.code)
    tap.check("what else is asked for", codes == [404, 404, 405, 405], codes)
    tap.check("HEAD", fetch(addr, method="HEAD")[1] == "")


def hostile(addr, data, wait=0.05):
    host, port = addr.rsplit(":", 1)
    c = socket.create_connection((host, int(port)), timeout=5)
    try:
        c.sendall(data)
        time.sleep(wait)
    except OSError:
        pass
    return c


def test_hostile():
    with Server(P, "--metrics", "127.0.0.1:0", "--insecure") as s:
        addr = metrics_addr(s)
        test_other_requests(addr)
        s.run("container", "create", "c")
        rng = __import__("random").Random(1)
        attacks = [b"GET " + b"/" * 200000, b"\r\n" * 5000, b"GET /metrics HTTP/9.9\r\n\r\n",
                   b"GET /metrics HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"y" * 100000,
                   b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\nabc",
                   b"POST /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
                   b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", b"GET /%00%ff%zz HTTP/1.1\r\nHost: a\r\n\r\n",
                   b"PST1\x00\x01\x02\x03" * 100, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]
        attacks += [bytes(rng.randrange(256) for _ in range(rng.randrange(1, 3000))) for _ in range(60)]
        for a in attacks:
            hostile(addr, a, 0).close()
        # As many as may be, that say nothing, or never read their answers.
        held = [hostile(addr, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * (i % 2 * 40), 0) for i in range(200)]
        tap.check("clients don't notice", s.run("ls", "c:/").returncode == 0)
        for c in held:
            c.close()
        threads = [threading.Thread(target=lambda: [hostile(addr, b"GET /metrics HTTP/1.0\r\n\r\n", 0).close()
                                                    for _ in range(200)]) for _ in range(4)]
        for t in threads:
            t.start()
        tap.check("nor a flood", s.run("put", "-r", os.path.join(ROOT, "src", "wire"), "c:/").returncode == 0)
        for t in threads:
            t.join()
        good = False
        for _ in range(100):
            try:
                good = bool(parse(fetch(addr)[1]))
                break
            except OSError:
                time.sleep(0.2)
        tap.check("after that it answers as ever", good and s.process.poll() is None)
        status = s.end()
        tap.check("and ends", status == 0, status)


def test_still():
    """A loop that stands still is told as such, not waited for: the server is held up in a turn by a debugger's means,
    a stop of that one thread is not to be had, so all of it stops and goes on while a request waits."""
    with Server(P, "--metrics", "127.0.0.1:0") as s:
        addr = metrics_addr(s)
        s.process.send_signal(signal.SIGSTOP)
        got = []
        t = threading.Thread(target=lambda: got.append(fetch(addr)[1]))
        t.start()
        time.sleep(0.3)
        s.process.send_signal(signal.SIGCONT)
        t.join()
        tap.check("a server that was stopped answers when it goes on", got and parse(got[0]))
        s.end()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        at = "127.0.0.1:%d" % taken.getsockname()[1]
        r = subprocess.run([P, "serve", "mem:64m", "--listen", "127.0.0.1:0", "--channels", "tcp", "--metrics", at],
                           capture_output=True, text=True)
        tap.check("a port that is taken", r.returncode == 1 and "--metrics %s: " % at in r.stderr, r.stderr)


SLOW = re.compile(r"warning: slow op: total=([\d.]+)ms queue=([\d.]+)ms in=([\d.]+)ms store=([\d.]+)ms out=([\d.]+)ms "
                  r"op=(\S+) opcode=\d+ status=-?\d+ cont=\d+ \S+ off=\d+ len=\d+ tenant=\d+ session=[0-9a-f]+ "
                  r"who=(\S+) peer=\S+ untold=(\d+)$")


def test_slow():
    # Devices that take 5 ms, and a tenant that may do ten requests a second.
    with Server(P, "--slow-op", "2", config="tenants: [{id: 0, ops-per-second: 10}]\n") as s:
        s.run("container", "create", "c")
        s.run("put", "-r", os.path.join(ROOT, "src", "loop"), "c:/")
        lines = [SLOW.search(l) for l in s.logged().splitlines() if "slow op" in l]
        tap.check("slow requests are told, each line whole", lines and all(lines), s.logged())
        parts = [[float(x) for x in m.groups()[:5]] for m in lines if m]
        tap.check("their parts are the whole", all(abs(p[0] - sum(p[1:])) < 0.01 and p[0] >= 2 for p in parts), parts)
        tap.check("a rate is told as the queue", any(p[1] > 20 and p[1] > p[0] / 2 for p in parts), parts)
        tap.check("by whom", all(m.group(7) == "uid:%d" % os.geteuid() for m in lines if m), s.logged())
        s.end()
    with Server(P, "--insecure") as s:
        s.run("container", "create", "c")
        tap.check("none is told unless asked for", "slow op" not in s.logged(), s.logged())


def main():
    wrong = parse_rejects()
    tap.check("the check of the format finds what is wrong", wrong is None, wrong)
    test_figures()
    test_audit_full()
    test_hostile()
    test_still()
    test_slow()
    return tap.end()


sys.exit(main())
