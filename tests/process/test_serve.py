#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_serve.py PENSTOCK: a server that is killed at random moments while clients store and verify trees over it.
They ride through: every command succeeds, and in the end the store is whole. Over pipe and over tcp."""
import os
import random
import subprocess
import sys
import time

from ops import Server, Tap

P = os.path.abspath(sys.argv[1])
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KILLS, CLIENTS, ROUNDS = 10, 3, 4
tap = Tap()


def client(env, i):
    tree = os.path.join(ROOT, "src", "wire")
    steps = []
    for k in range(ROUNDS):
        d = "c:/client%d-%d" % (i, k)
        steps += ["{p} -q mkdir %s" % d, "{p} -q put -r {t} %s" % d, "{p} -q verify {t} %s/wire" % d]
    script = " && ".join(steps).format(p=P, t=tree)
    return subprocess.Popen(["sh", "-c", script], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def run(channel, rng):
    with Server(P, "--insecure", "--control", "none", size="512m") as server:
        env = dict(os.environ, PENSTOCK_STORE=(server.uri if channel == "pipe" else server.tcp) + "&connect=120")
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
        tap.check("%s: clients ride through %d kills" % (channel, kills),
              all(c.returncode == 0 for c in clients), "\n".join(errors))
        status = server.stop()
        tap.check("%s: the server ends when it is told to" % channel, status == 0, str(status))
        fsck = subprocess.run([P, "fsck", server.store], capture_output=True, text=True)
        tap.check("%s: the store is whole" % channel, fsck.returncode == 0, fsck.stdout + fsck.stderr)


def main():
    seed = int(os.environ.get("SEED", time.time_ns() % 1000000))
    print("# seed %d" % seed)
    rng = random.Random(seed)
    run("pipe", rng)
    run("tcp", rng)
    return tap.end()


sys.exit(main())
