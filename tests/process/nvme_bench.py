# SPDX-License-Identifier: BSD-3-Clause
"""What tests of penstock nvme and penstock perf share: a folder with the processes that were begun in it,
targets, waiting, and the run of a file's tests, which prints TAP.

  TEST.py PENSTOCK [NAME...]     NAME: only the tests of these names
"""
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

PENSTOCK = os.path.abspath(sys.argv[1])


class Bench:
    """A temporary directory with a run directory in it, and the processes that were begun."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="pst-nvme-", dir=os.environ.get("TMPDIR")))
        self.env = dict(os.environ, PENSTOCK_RUN_DIR=str(self.dir / "run"))
        self.env.pop("PENSTOCK_STORE", None)
        self.begun = []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for p in self.begun:
            if p.poll() is None:
                p.kill()
            p.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def begin(self, *args, **kw):
        p = subprocess.Popen([PENSTOCK] + [str(a) for a in args], cwd=self.dir, env=self.env,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)
        self.begun.append(p)
        return p

    def target(self, *args):
        p = self.begin("nvme", "target", *args)
        p.said = []
        while True:
            line = p.stdout.readline()
            assert line, (args, p.wait(), p.stderr.read())
            if line == "ready\n":
                return p
            p.said.append(line)

    def run(self, *args):
        done = subprocess.run([PENSTOCK] + [str(a) for a in args], cwd=self.dir, env=self.env,
                              capture_output=True, text=True, timeout=120)
        assert done.returncode in (0, 1, 2), (args, done.returncode, done.stderr)
        return done

    def ok(self, *args):
        done = self.run(*args)
        assert done.returncode == 0, (args, done.stdout, done.stderr)
        return done.stdout

    def fails(self, *args, say="", status=1):
        done = self.run(*args)
        assert done.returncode == status and say in done.stderr, (args, done.returncode, done.stderr)

    def file(self, name, size):
        with open(self.dir / name, "wb") as f:
            f.truncate(size)
        return self.dir / name


def stop(p):
    """Ends a target as an operator would; it must do so in good order."""
    p.send_signal(signal.SIGTERM)
    assert p.wait(30) == 0, p.stderr.read()


def hosts(b, name):
    return json.loads(b.ok("nvme", "ana", name, "--json"))["hosts"]


def wait_for(what, seconds=20):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "waited for nothing"
        time.sleep(0.01)


def commands(b, name, port=None):
    """That the target's hosts have sent since each connected; those at @port, or all."""
    return sum(h["commands"] for h in hosts(b, name) if port in (None, h["port"]))


def at_work(b, name, least=500):
    """Waits until a host of the target is."""
    wait_for(lambda: any(h["commands"] > least for h in hosts(b, name)))


def busy(b, name, p, least=500):
    """Waits until a host of the target is at work. False: @p, which is to be at work, is done; on a slow
    machine that may be before all that was meant to happen meanwhile."""
    wait_for(lambda: p.poll() is not None or commands(b, name) > least, 60)
    assert not p.poll(), p.stderr.read()
    return p.poll() is None


# --- NVMe/TCP

NQN = "nqn.2026-11.io.penstock:test"


def free_port():
    """None that the kernel gives to who connects: a host that looks for its target could get just that one,
    and be connected to itself."""
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", random.randrange(1024, first)))
                return s.getsockname()[1]
            except OSError:
                pass


def tcp_target(b, *args, port=0):
    """A target at a port that the kernel chooses (or @port), and its device string."""
    t = b.target("--listen", "tcp://127.0.0.1:%d" % port, "--nqn", NQN, "--control", "ctl", *args)
    line = [l for l in t.said if "nvme+tcp" in l][0]
    return t, line.split(": ", 1)[1].strip()


# --- the run


def main(everything):
    """Runs what is called test_... in @everything (a module's globals()), and exits."""
    tests = [(n[5:], f) for n, f in everything.items() if n.startswith("test_")]
    wanted = sys.argv[2:]
    tests = [(n, f) for n, f in tests if not wanted or n in wanted]
    print("1..%d" % len(tests))
    failed = 0
    for i, (name, test) in enumerate(tests, 1):
        try:
            test()
            print("ok %d - %s" % (i, name), flush=True)
        except Exception:
            failed += 1
            print("not ok %d - %s" % (i, name))
            print("# " + traceback.format_exc().replace("\n", "\n# "), flush=True)
    sys.exit(1 if failed else 0)
