#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_notify.py PENSTOCK: what a service manager hears, in its order; the sockets that are left behind: none."""
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from ops import Server, Tap

P = os.path.abspath(sys.argv[1])
tap = Tap()


def hear(s, want, most=50):
    """Messages up to the first that has the line `want`."""
    got = []
    while len(got) < most:
        got.append(s.recv(4096).decode().split("\n"))
        if want in got[-1]:
            return got
    raise AssertionError("%s was not heard in %s" % (want, got))


def heard_line(s, begin, most=500):
    """The first line that begins so."""
    for _ in range(most):
        for line in s.recv(4096).decode().split("\n"):
            if line.startswith(begin):
                return line
    return None


def unread():
    """A service manager that does not read (its queue has room for some ten messages) holds nobody up."""
    with tempfile.TemporaryDirectory() as d, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        path = os.path.join(d, "notify")
        s.bind(path)
        s.settimeout(60)
        server = Server(P, env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "20000"})
        try:
            until = time.monotonic() + 2  # a hundred times what it wants to say
            while time.monotonic() < until:
                done = server.run("status", check=False)
                if done.returncode:
                    break
            tap.check("a service manager that does not read holds nobody up", not done.returncode, done)
            read = heard_line(s, "READY=1"), sum(heard_line(s, "WATCHDOG=1") is not None for _ in range(30))
            tap.check("when it reads again it hears that the server is alive", read == ("READY=1", 30), read)
        finally:
            s.setblocking(False)
            try:
                while s.recv(4096):
                    pass
            except BlockingIOError:
                pass
            server.end()


def stopped():
    """A store whose device loses power: the service manager hears of it, and who wants to come in."""
    with tempfile.TemporaryDirectory() as d, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        path, store = os.path.join(d, "notify"), os.path.join(d, "s.pst")
        subprocess.run([P, "-q", "format", store, "--size", "256m"], check=True)
        s.bind(path)
        s.settimeout(60)
        server = Server(P, device="fault:%s?cut_after=60" % store,
                        env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"})
        try:
            for i in range(100):
                if server.run("container", "create", "c%d" % i, check=False).returncode:
                    break
            line = heard_line(s, "STATUS=STOPPED: ")
            tap.check("a store that has stopped is told of, and why", line and line.endswith("error"), line)
            r = server.run("status", check=False)
            tap.check("who comes is told, too", r.returncode == 1 and "the store has stopped: " in r.stderr, r)
        finally:
            server.process.terminate()
            tap.check("it ends, and says that it could not close the store", server.process.wait(60) in (0, 1))
            server.log.close()
            server.process.stdout.close()
            shutil.rmtree(server.dir)


def main():
    with tempfile.TemporaryDirectory() as d, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        path = os.path.join(d, "notify")
        s.bind(path)
        s.settimeout(60)
        with Server(P, env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"}) as server:
            first = hear(s, "READY=1")
            tap.check("it is ready, once, with where it serves", len(first) == 1 and
                      any(l.startswith("STATUS=serving at 127.0.0.1:%s: " % server.port) for l in first[0]), first)
            alive = [hear(s, "WATCHDOG=1") for _ in range(3)]
            tap.check("it says that it is alive", all(len(a) == 1 for a in alive), alive)
            server.process.send_signal(signal.SIGSTOP)
            os.waitpid(server.process.pid, os.WUNTRACED)
            s.setblocking(False)
            try:
                while True:
                    s.recv(4096)
            except BlockingIOError:
                pass
            s.settimeout(1)
            try:
                said = s.recv(4096)
            except TimeoutError:
                said = None
            tap.check("one that stands still says nothing", said is None, said)
            server.process.send_signal(signal.SIGCONT)
            s.settimeout(60)
            hear(s, "WATCHDOG=1")
            tap.check("its socket is there", os.path.exists(server.sock))
            server.process.terminate()
            last = hear(s, "STOPPING=1")[-1]
            tap.check("it says that it ends", any(l.startswith("STATUS=ending") for l in last), last)
            status = server.process.wait(60)
            tap.check("and ends, without its socket", status == 0 and not os.path.exists(server.sock), status)
            server.end()
        with Server(P, env={"NOTIFY_SOCKET": path}) as server:
            hear(s, "READY=1")
            s.settimeout(1)
            try:
                said = s.recv(4096)
            except TimeoutError:
                said = None
            tap.check("nobody who doesn't ask hears that it is alive", said is None, said)
    with Server(P) as server:
        tap.check("without a service manager", server.end() == 0)
    unread()
    stopped()
    return tap.end()


sys.exit(main())
