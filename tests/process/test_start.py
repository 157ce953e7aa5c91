#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_start.py PENSTOCK: how a server starts, and how it fails to: what is in use is found out before the store is
opened, and who finds tcp open finds the pipe open."""
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

from ops import Server, Tap

P = os.path.abspath(sys.argv[1])
tap = Tap()


def taken():
    """A listening socket, and where."""
    s = socket.create_server(("127.0.0.1", 0))
    return s, s.getsockname()[1]


def pair():
    """A free port below a taken one."""
    while True:
        s, port = taken()
        try:
            socket.create_server(("127.0.0.1", port - 1)).close()
            return s, port
        except OSError:
            s.close()


def epoch(store):
    r = subprocess.run([P, "-s", "local:" + store, "status", "--json"], capture_output=True, text=True, check=True)
    return json.loads(r.stdout)["epoch"]


def fails(name, server, want, *args):
    before = epoch(server.store)
    r = subprocess.run([P, "serve", server.store, *args], capture_output=True, text=True, timeout=60)
    tap.check(name + ": it does not start, and says why", r.returncode == 1 and want in r.stderr, r)
    after = epoch(server.store)
    tap.check(name + ": the store was not opened", before == after, (before, after))


def in_use():
    with Server(P) as s:
        s.stop()
        sock = ("--socket", s.sock)
        held, port = taken()
        fails("the port of --listen is in use", s, "in use", "--listen", "127.0.0.1:%d" % port, *sock)
        fails("the port of --metrics is in use", s, "--metrics 127.0.0.1:%d: " % port, "--listen", "127.0.0.1:0",
              "--metrics", "127.0.0.1:%d" % port, *sock)
        fails("the port of --control is in use", s, "--control 127.0.0.1:%d: " % port, "--listen", "127.0.0.1:0",
              "--control", "127.0.0.1:%d" % port, *sock)
        held.close()
        held, port = pair()
        fails("the control plane's port is in use", s, "the control plane (the port after --listen 127.0.0.1:%d)" % (port - 1),
              "--listen", "127.0.0.1:%d" % (port - 1), *sock)
        held.close()
        with socket.socket(socket.AF_UNIX) as held:
            held.bind(s.sock)
            held.listen()
            fails("the pipe's socket is in use", s, "in use", "--listen", "127.0.0.1:0", *sock)
        os.unlink(s.sock)
        control = s.sock[:-5] + ".control"
        with socket.socket(socket.AF_UNIX) as held:
            held.bind(control)
            held.listen()
            fails("the control plane's socket is in use", s, control + " is in use", "--listen", "127.0.0.1:0", *sock)
        s.start()
        tap.check("and what was held is free again", s.run("status").returncode == 0)
        os.unlink(control)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(control)
        s.stop()
        tap.check("a socket that somebody else has put there stays", os.path.exists(control))
        tap.check("no lock is left", not [f for f in os.listdir(os.path.dirname(s.sock)) if f.endswith(".lock")])


def listens(family, addr):
    with socket.socket(family) as s:
        return s.connect_ex(addr) == 0


def order():
    """libfabric takes its time to start: nobody shall find tcp without the pipe meanwhile."""
    ofi = subprocess.run([P, "serve", "--check", "mem:64m", "--channels", "ofi:tcp"], capture_output=True).returncode == 0
    channels = "pipe,tcp,ofi:tcp" if ofi else "pipe,tcp"
    with Server(P, "--channels", channels, "--control", "none") as s:
        for _ in range(3):
            s.stop()
            p = subprocess.Popen(s.args + ["--listen", "127.0.0.1:" + s.port], stdout=subprocess.PIPE, stderr=s.log,
                                 text=True)
            until = time.monotonic() + 60
            while not listens(socket.AF_INET, ("127.0.0.1", int(s.port))) and time.monotonic() < until:
                pass
            pipe = listens(socket.AF_UNIX, s.sock)
            line = p.stdout.readline()
            s.process = p
            tap.check("tcp is open: so is the pipe (%s)" % channels, pipe, s.logged())
            tap.check("tcp is told of first", line.startswith("serving at 127.0.0.1:%s (tcp)" % s.port), line)


def descriptors():
    """What is closed is no place for a store; what is full is no place for the line that it is ready."""
    with tempfile.TemporaryDirectory() as d:
        store, sock = os.path.join(d, "s.pst"), os.path.join(d, "s.sock")
        subprocess.run([P, "-q", "format", store, "--size", "256m"], check=True)
        serve = [P, "serve", store, "--listen", "127.0.0.1:0", "--socket", sock]
        with open("/dev/full", "w") as full:
            r = subprocess.run(serve, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        tap.check("nobody hears that it is ready: it ends", r.returncode == 1 and "standard output: No space left" in r.stderr, r)
        p = subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *serve])
        try:
            until = time.monotonic() + 60
            while not listens(socket.AF_UNIX, sock) and p.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            there = [os.readlink("/proc/%d/fd/%d" % (p.pid, fd)) for fd in range(3)]
            # A library may have taken the first one, for a descriptor without a file, before the command began.
            tap.check("what was closed leads nowhere", there[1:] == ["/dev/null"] * 2 and d not in there[0], there)
        finally:
            p.terminate()
            tap.check("and it serves as ever", p.wait(60) == 0)


def main():
    in_use()
    order()
    descriptors()
    return tap.end()


sys.exit(main())
