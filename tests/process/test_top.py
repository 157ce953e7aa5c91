#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_top.py PENSTOCK: `penstock top` into a pipe, as JSON, and on a pseudo terminal."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

from ops import Server, Tap

P = os.path.abspath(sys.argv[1])
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROWS, COLUMNS = 12, 50
tap = Tap()


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *args):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.was = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(args, stdin=self.slave, stdout=self.slave, stderr=self.slave)
        self.said = ""

    def read_until(self, pattern, seconds=60):
        until = time.monotonic() + seconds
        while not re.search(pattern, self.said, re.S):
            ready, _, _ = select.select([self.master], [], [], max(0, until - time.monotonic()))
            if not ready:
                return False
            self.said += os.read(self.master, 65536).decode()
        return True

    def end(self):
        status = self.process.wait(60)
        restored = termios.tcgetattr(self.slave)[3] == self.was[3]
        os.close(self.slave)
        while True:
            try:
                more = os.read(self.master, 65536)
            except OSError:
                more = b""
            if not more:
                break
            self.said += more.decode()
        os.close(self.master)
        return status, restored


SCREEN = r"\033\[H(.*?)\033\[J"


def test_terminal(s, how):
    t = Terminal(P, "-s", s.uri, "top", "-i", "0.2")
    seen = t.read_until(r"%s.*%s" % (SCREEN, SCREEN))
    tap.check("%s: it draws again and again" % how, seen, repr(t.said))
    if how == "q":
        os.write(t.master, b"xq")
    else:
        t.process.send_signal(signal.SIGINT)
    status, restored = t.end()
    tap.check("%s: ends it" % how, status == 0, status)
    tap.check("%s: the terminal is as it was" % how, restored and t.said.startswith("\033[?1049h\033[?25l") and
              t.said.endswith("\033[?25h\033[?1049l"), repr(t.said[-200:]))
    for screen in re.findall(SCREEN, t.said, re.S):
        lines = screen.split("\033[K\r\n")
        bad = [l for l in lines if len(l) > COLUMNS or "\n" in l or "\033" in l]
        if bad or len(lines) > ROWS:
            tap.check("%s: screens fit" % how, False, repr(screen))
            return
    tap.check("%s: screens fit" % how, True)


def reactors_of(s):
    return json.loads(s.run("status", "--json").stdout)["reactors"]


def test_reactors():
    cores = sorted(os.sched_getaffinity(0))[:2]
    with Server(P, "--cores", ",".join(map(str, cores)), shards=len(cores)) as s:
        was = reactors_of(s)
        tap.check("a reactor on each core", [r["core"] for r in was] == cores, was)
        grew = []
        for name in ["a", "b"]: # at home on one shard, and on the next
            s.run("container", "create", name)
            was = reactors_of(s)
            s.run("put", "-r", os.path.join(ROOT, "src", "wire"), name + ":/")
            grew.append([i["ops"] - w["ops"] for i, w in zip(reactors_of(s), was)])
        files = len(os.listdir(os.path.join(ROOT, "src", "wire")))
        tap.check("the ops of a container are its reactor's",
                  all(max(g[i] for g in grew) >= files for i in range(len(cores))), grew)
        now = reactors_of(s)
        tap.check("who worked was busy for a part of the time", all(0 < r["busy_ns"] < r["up_ns"] and
                  0 < r["busy_percent"] < 100 for r in now), now)
        text = s.run("status").stdout
        tap.check("for people", re.search(r"^reactors +core %d, busy [0-9.]+ %% of \d+ s, \d+ ops$" % cores[0], text, re.M),
                  text)
        top = json.loads(s.run("top", "--json", "-i", "0.2").stdout)["reactors"]
        tap.check("top has them", [r["core"] for r in top] == [str(c) for c in cores] and
                  all(0 <= r["busy"] <= 1.5 and r["ops_per_s"] >= 0 for r in top), top)
        s.end()


def main():
    test_reactors()
    with Server(P) as s:
        s.run("container", "create", "c")
        s.run("put", "-r", os.path.join(ROOT, "src", "wire"), "c:/")
        s.run("verify", "c:/")
        r = s.run("top", "-i", "0.2", "-n", "3")
        blocks = r.stdout.split("\n\n")
        tap.check("into a pipe: blocks, without a terminal's ways", r.stdout.count("\nOP ") == 3 and
                  r.stdout.count("\nTENANT ") == 3 and "\033" not in r.stdout and r.stderr == "", r.stdout)
        tap.check("what is in one", re.search(r"^requests  \d+/s", blocks[0], re.M) and
                  re.search(r"^store .* used", blocks[0], re.M) and "connections: pipe 1" in blocks[0], blocks[0])
        one = json.loads(s.run("top", "--json", "-i", "0.2").stdout)
        ops = {o["op"]: o for o in one["ops"]}
        files = len(os.listdir(os.path.join(ROOT, "src", "wire")))
        tap.check("JSON: totals", ops["read"]["total"] >= files and ops["change"]["total"] >= files, one)
        tap.check("JSON: the rate of what it does itself", ops["other"]["per_s"] > 0 and
                  ops["other"]["p99_s"] >= ops["other"]["p50_s"] > 0, one)
        tap.check("JSON: the state", one["store_up"] is True and one["sessions"] == 1 and
                  [t["tenant"] for t in one["tenants"]] == ["0"], one)
        # Work between two samples is in the rates.
        watch = subprocess.Popen([P, "-s", s.uri, "top", "-i", "1", "--json", "-n", "30"], stdout=subprocess.PIPE, text=True)
        decoder, text, best = json.JSONDecoder(), "", 0
        for _ in range(30):
            s.run("verify", "c:/")
            while not text.rstrip().endswith("\n}"):
                text += watch.stdout.readline()
            seen, end = decoder.raw_decode(text.lstrip())
            text = ""
            best = max(best, next(o["out_bytes_per_s"] * seen["seconds"] for o in seen["ops"] if o["op"] == "read"))
            if best > 100000:
                break
        watch.terminate()
        watch.communicate()
        tap.check("rates are those of the interval", best > 100000, best)
        test_terminal(s, "q")
        test_terminal(s, "an interrupt")
        head = subprocess.Popen([P, "-s", s.uri, "top", "-i", "0.1"], stdout=subprocess.PIPE)
        head.stdout.read(10)
        head.stdout.close()
        tap.check("whoever reads goes away: it ends", head.wait(60) != 0)
        r = s.run("top", "-n", "1", check=False, uri="local:mem:64m")
        tap.check("a store of no server", r.returncode == 1 and "nobody serves this store" in r.stderr, r.stderr)
        r = s.run("top", "--interval", "0", check=False)
        tap.check("a bad interval", r.returncode == 2 and "--interval 0" in r.stderr, r.stderr)
        s.end()
    return tap.end()


sys.exit(main())
