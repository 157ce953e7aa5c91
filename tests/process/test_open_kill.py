#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_open_kill.py PENSTOCK: files that are open when the server is killed and started again. One is read while it has
no name any more, one is written before it has one; both go on as if nothing had happened, by a capability of the whole
container and by one of a directory. What nobody comes back for is collected."""
import json
import os
import select
import subprocess
import sys
import time

from ops import Server, Tap

P = os.path.abspath(sys.argv[1])
LIMIT_S = 60
SIZE = 48 << 20  # more than pipes and buffers hold
tap = Tap()


def pst(uri, *args, data=None):
    done = subprocess.run([P, "-s", uri, *args], capture_output=True, timeout=LIMIT_S, input=data)
    assert done.returncode == 0, (args, done.stderr)
    return done.stdout.decode()


def used(uri):
    return json.loads(pst(uri, "container", "show", "c", "--json"))["used_bytes"]


def collected(owner, left):
    """Waits until there is no more than @left, and what the store needs for itself."""
    until = time.monotonic() + LIMIT_S
    while used(owner) > left + (8 << 20):
        assert time.monotonic() < until, used(owner)
        time.sleep(0.1)
        pst(owner, "ls", "c:/")


def whole(server):
    assert server.stop() == 0
    fsck = subprocess.run([P, "fsck", server.store], capture_output=True, text=True)
    assert fsck.returncode == 0, fsck.stdout + fsck.stderr


def run(prefix):
    with Server(P, config="limits:\n  lease: 15s\n", size="512m") as server:
        owner = server.uri + "&connect=30"
        pst(owner, "container", "create", "c")
        pst(owner, "mkdir", "c:/in")
        data = os.urandom(1 << 20) * (SIZE >> 20)
        pst(owner, "put", "-", "c:/in/read", data=data)
        grant = json.loads(pst(owner, "capability", "grant", "--json", "c:/in" if prefix else "c", "--rights", "rw"))
        uri = server.tcp + "&connect=30&token=" + grant["token"]
        at = "c:/" if prefix else "c:/in/"
        reader = subprocess.Popen([P, "-s", uri, "cat", at + "read"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        writer = subprocess.Popen([P, "-s", uri, "put", "-", at + "write"], stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                                  stdout=subprocess.DEVNULL)
        assert select.select([reader.stdout], [], [], LIMIT_S)[0]  # it has it open
        got = os.read(reader.stdout.fileno(), 1000)
        writer.stdin.write(data[:SIZE // 2])  # more than it buffers: it has made the file
        writer.stdin.flush()
        pst(owner, "rm", "c:/in/read")
        for _ in range(3):
            server.kill()
            server.start()
            time.sleep(0.3)
            pst(owner, "ls", "-lR", "c:/")
        writer.stdin.write(data[SIZE // 2:])
        writer.stdin.close()
        rest, error = reader.communicate(timeout=LIMIT_S)
        assert reader.returncode == 0 and got + rest == data, (reader.returncode, len(got + rest), error)
        error = writer.stderr.read()
        assert writer.wait(LIMIT_S) == 0, error
        assert pst(owner, "ls", "c:/in").split() == ["write"]
        # Those who held it are gone, and with them what has no name: as it is closed, or, while others may come
        # back for it, with the first op on names after the time of grace.
        collected(owner, SIZE)
        whole(server)
    tap.check("by a capability of a directory" if prefix else "by one of the container", True)


def never_back():
    """The reader is killed with the server: its file goes when the time of grace is over, and not before."""
    with Server(P, config="limits:\n  lease: 3s\n", size="512m") as server:
        owner = server.uri + "&connect=30"
        pst(owner, "container", "create", "c")
        pst(owner, "put", "-", "c:/read", data=bytes(range(256)) * (SIZE >> 8))
        reader = subprocess.Popen([P, "-s", owner, "cat", "c:/read"], stdout=subprocess.PIPE)
        assert select.select([reader.stdout], [], [], LIMIT_S)[0]
        pst(owner, "rm", "c:/read")
        server.kill()
        reader.kill()
        reader.communicate()
        server.start()
        collected(owner, 0)
        whole(server)
    tap.check("collected when nobody comes back", True)


def main():
    run(False)
    run(True)
    never_back()
    return tap.end()


sys.exit(main())
