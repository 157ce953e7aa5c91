#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_idle.py PENSTOCK IDLE_CLIENTS: what an idle server with 100 idle clients costs. Printed is the figure; the bound
is a generous one (a sanitizer's build, a busy machine), so that only something that wakes it all the time fails."""
import os
import subprocess
import sys
import time

from ops import Server, Tap

P, CLIENTS = (os.path.abspath(a) for a in sys.argv[1:3])
SECONDS, BOUND = 10, 0.03
tap = Tap()


def cpu_seconds(pid):
    """Of all threads: the scheduler's own count, in ns, where the kernel keeps it; else ticks of utime and stime."""
    total = 0
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/schedstat" % (pid, task)) as f:
                total += int(f.read().split()[0])
        if total:
            return total / 1e9
    except OSError:
        pass
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def switches(pid):
    with open("/proc/%d/status" % pid) as f:
        return sum(int(l.split()[1]) for l in f if "ctxt_switches" in l)


def main():
    with Server(P, "--insecure", "--metrics", "127.0.0.1:0") as s:
        s.run("container", "create", "c")
        clients = subprocess.Popen([CLIENTS, s.uri, "50", s.tcp, "50"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   text=True)
        tap.check("100 clients", clients.stdout.readline() == "ready\n")
        time.sleep(1)  # what opening them left to do
        before, woken = cpu_seconds(s.process.pid), switches(s.process.pid)
        time.sleep(SECONDS)
        used = (cpu_seconds(s.process.pid) - before) / SECONDS
        woken = switches(s.process.pid) - woken
        print("# server: %.3f %% of a CPU, %.1f context switches a second" % (100 * used, woken / SECONDS))
        tap.check("an idle server", used < BOUND, "%.2f %%" % (100 * used))
        tap.check("its clients are there", clients.poll() is None)
        before = cpu_seconds(clients.pid)
        time.sleep(2)
        print("# 100 clients: %.3f %% of a CPU" % (100 * (cpu_seconds(clients.pid) - before) / 2))
        clients.stdin.close()
        tap.check("they end", clients.wait(60) == 0)
        clients.stdout.close()
        tap.check("and so does the server", s.end() == 0)
    return tap.end()


sys.exit(main())
