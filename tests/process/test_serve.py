#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_serve.py PENSTOCK: a server that is killed at random moments while clients store and verify trees over it.
They ride through: every command succeeds, and in the end the store is whole. Over pipe and over tcp."""
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

P = os.path.abspath(sys.argv[1])
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KILLS, CLIENTS, ROUNDS = 10, 3, 4
failed = 0


def check(number, name, good, why=""):
    global failed
    print("%sok %d - %s" % ("" if good else "not ", number, name))
    if not good:
        failed += 1
        print("# " + why.replace("\n", "\n# "))


class Server:
    def __init__(self, store, sock):
        self.args = [P, "serve", store, "--listen", "127.0.0.1:0", "--insecure", "--socket", sock, "--control", "none"]
        self.port = None
        self.start()

    def start(self):
        args = list(self.args)
        if self.port:
            args[4] = "127.0.0.1:%s" % self.port
        self.process = subprocess.Popen(args, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("serving at "), line
        self.port = line.split(" (tcp)")[0].rsplit(":", 1)[1]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def end(self):
        self.process.terminate()
        status = self.process.wait()
        self.process.stdout.close()
        return status


def client(env, i):
    tree = os.path.join(ROOT, "src", "wire")
    steps = []
    for k in range(ROUNDS):
        d = "c:/client%d-%d" % (i, k)
        steps += ["{p} -q mkdir %s" % d, "{p} -q put -r {t} %s" % d, "{p} -q verify {t} %s/wire" % d]
    script = " && ".join(steps).format(p=P, t=tree)
    return subprocess.Popen(["sh", "-c", script], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def run(number, channel, rng):
    with tempfile.TemporaryDirectory(prefix="pst-serve-") as d:
        store, sock = os.path.join(d, "s.pst"), os.path.join(d, "s.sock")
        subprocess.run([P, "-q", "format", store, "--size", "512m"], check=True, stderr=subprocess.DEVNULL)
        server = Server(store, sock)
        uri = "pst://127.0.0.1:%s?channel=%s&connect=30" % (server.port, channel)
        env = dict(os.environ, PENSTOCK_STORE=uri + ("&socket=" + sock if channel == "pipe" else ""))
        subprocess.run([P, "container", "create", "c"], env=env, check=True)
        clients = [client(env, i) for i in range(CLIENTS)]
        kills = 0
        while kills < KILLS and any(c.poll() is None for c in clients):
            time.sleep(rng.uniform(0.02, 0.25))
            server.kill()
            kills += 1
            time.sleep(rng.uniform(0, 0.1))
            server.start()
        errors = [c.communicate()[1] for c in clients]
        check(number, "%s: clients ride through %d kills" % (channel, kills),
              all(c.returncode == 0 for c in clients), "\n".join(errors))
        status = server.end()
        check(number + 1, "%s: the server ends when it is told to" % channel, status == 0, str(status))
        fsck = subprocess.run([P, "fsck", store], capture_output=True, text=True)
        check(number + 2, "%s: the store is whole" % channel, fsck.returncode == 0, fsck.stdout + fsck.stderr)


def main():
    seed = int(os.environ.get("SEED", time.time_ns() % 1000000))
    print("# seed %d" % seed)
    rng = random.Random(seed)
    run(1, "pipe", rng)
    run(4, "tcp", rng)
    print("1..6")
    return 1 if failed else 0


sys.exit(main())
