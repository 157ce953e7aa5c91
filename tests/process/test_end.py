#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_end.py PENSTOCK: how a server ends: soon, whatever it has under way, and whatever signals come meanwhile."""
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

from ops import Server, Tap

P = os.path.abspath(sys.argv[1])
tap = Tap()


def figure(port, name):
    with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % port, timeout=30) as page:
        return next(float(x.split()[1]) for x in page.read().decode().splitlines() if x.split()[0] == name)


def wait_for(port, name, value):
    end = time.monotonic() + 60
    while figure(port, name) != value:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def scrub_of(s):
    """One that would take for weeks."""
    return subprocess.Popen([P, "-s", "pst://localhost?socket=" + s.sock, "scrub", "--rate", "1"], stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def scrubs(cores):
    port = free_port()
    with Server(P, "--metrics", "127.0.0.1:%d" % port, *cores, shards=2) as s:
        name = "pst://localhost?socket=" + s.sock
        subprocess.run([P, "-s", name, "container", "create", "f"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([P, "-s", name, "put", "-", "f:/b"], input=os.urandom(12 << 20), check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        what = "a scrub %s" % ("on two cores" if cores else "that takes its time")
        for sig in (signal.SIGKILL, signal.SIGINT):
            client = scrub_of(s)
            began = wait_for(port, "penstock_scrubs", 1)
            client.send_signal(sig)
            client.wait(60)
            tap.check("%s ends with its client (%s)" % (what, sig.name), began and wait_for(port, "penstock_scrubs", 0))
        client = scrub_of(s)
        began = wait_for(port, "penstock_scrubs", 1)
        since = time.monotonic()
        s.process.send_signal(signal.SIGTERM)
        status = s.process.wait(60)
        took = time.monotonic() - since
        client.kill()
        client.wait(60)
        tap.check("%s holds no server that is told to end" % what, began and status == 0 and took < 30, (status, took))


def hups(s, k):
    """One that is told to open its log anew while it ends."""
    s.process.send_signal(signal.SIGTERM)
    for _ in range(12):
        s.process.send_signal(signal.SIGHUP)
        time.sleep(0.0005 * (k % 8))
    return s.process.wait(60)


def reopen_at_the_end():
    with Server(P) as s:
        s.args += ["--audit-log", os.path.join(s.dir, "audit")]
        s.stop()
        ends = []
        for k in range(16):
            s.start()
            ends.append(hups(s, k))
        tap.check("SIGHUP while a server ends harms nothing", not any(ends), ends)
        fsck = subprocess.run([P, "fsck", s.store], capture_output=True, text=True, check=False)
        tap.check("and the store is whole", fsck.returncode == 0, fsck)


def catches_hup(p):
    """Waits until the process has a handler of its own for SIGHUP, or is over."""
    while p.poll() is None:
        with open("/proc/%d/status" % p.pid) as f:
            if any(int(line.split()[1], 16) & 1 for line in f if line.startswith("SigCgt:")):
                return
        time.sleep(0.005)


def reopen_before_a_failure():
    with Server(P) as s:
        s.stop()
        held = socket.create_server(("127.0.0.1", 0))
        ends = []
        for wait in (0, 0.2, 1):
            p = subprocess.Popen([P, "serve", s.store, "--listen", "127.0.0.1:%d" % held.getsockname()[1], "--socket", s.sock],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            catches_hup(p)
            time.sleep(wait)  # it waits for the port for a while
            p.send_signal(signal.SIGHUP)
            said = p.communicate(timeout=60)[1]
            ends.append((p.returncode, said))
        held.close()
        tap.check("SIGHUP to a server that fails to start leaves its reason", all(rc == 1 and "in use" in said for rc, said in ends), ends)


scrubs(())
scrubs(("--cores", "0,1"))
reopen_at_the_end()
reopen_before_a_failure()
sys.exit(tap.end())
