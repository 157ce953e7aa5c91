#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_signals.py PENSTOCK: SIGHUP opens the audit log anew, and no signal but TERM and INT ends a server."""
import os
import signal
import sys
import tempfile
import time

from ops import Server, Tap

P = os.path.abspath(sys.argv[1])
tap = Tap()


def said(server, what, times=1):
    """Waits until the log has it so often."""
    until = time.monotonic() + 60
    while server.logged().count(what) < times:
        if server.process.poll() is not None or time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def size(path):
    return os.stat(path).st_size


def rotation(d):
    audit, old = os.path.join(d, "audit"), os.path.join(d, "audit.1")
    with Server(P, "--audit-log", audit, "--log-level", "info") as s:
        s.run("container", "create", "c")
        os.rename(audit, old)
        before = size(old)
        s.run("status")
        tap.check("a file that was renamed is written to still", size(old) > before and not os.path.exists(audit))
        s.process.send_signal(signal.SIGHUP)
        tap.check("SIGHUP: the log says that it is another one", said(s, "audit log is opened anew"), s.logged())
        before = size(old)
        s.run("status")
        tap.check("lines go there, and no longer to the old one", size(audit) > 0 and size(old) == before)
        os.rename(audit, os.path.join(d, "audit.2"))
        os.mkdir(audit)
        s.process.send_signal(signal.SIGHUP)
        tap.check("one that can't be opened is told of", said(s, "the old one is written to still"), s.logged())
        before = size(os.path.join(d, "audit.2"))
        s.run("status")
        tap.check("and the old one goes on", size(os.path.join(d, "audit.2")) > before)
        os.rmdir(audit)
        os.link(s.store, audit)
        before = size(s.store)
        s.process.send_signal(signal.SIGHUP)
        tap.check("a device of the store is not opened", said(s, "it is a device of the store: the old one"), s.logged())
        s.run("status")
        tap.check("and has nothing appended", size(s.store) == before)
        os.unlink(audit)
        for n in range(2, 12):
            s.process.send_signal(signal.SIGHUP)
            said(s, "audit log is opened anew", n)
        tap.check("as often as one likes", os.path.exists(audit) and s.logged().count("opened anew") == 11, s.logged())
        tap.check("and it ends as ever", s.end() == 0)


def others():
    with Server(P, "--log-level", "info") as s:
        s.process.send_signal(signal.SIGHUP)
        tap.check("SIGHUP without an audit log", said(s, "no audit log"), s.logged())
        s.process.send_signal(signal.SIGUSR1)
        s.process.send_signal(signal.SIGUSR2)
        tap.check("USR1 and USR2 mean nothing", s.run("status").returncode == 0)
        tap.check("it ends as ever", s.end() == 0)


def main():
    with tempfile.TemporaryDirectory() as d:
        rotation(d)
    others()
    return tap.end()


sys.exit(main())
