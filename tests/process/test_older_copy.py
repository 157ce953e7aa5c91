#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_older_copy.py PENSTOCK: a server whose store is replaced by its own older copy while a client is connected. The
client was told of changes that are not there any more: it ends, and says why. A restart without that it rides through."""
import os
import queue
import shutil
import subprocess
import sys
import threading

from ops import Server, Tap

P = os.path.abspath(sys.argv[1])
LIMIT = 60  # seconds that a client may take to find out
tap = Tap()


class Watch:
    """A client that stays connected, and prints a line when something was changed."""

    def __init__(self, uri):
        self.process = subprocess.Popen([P, "-s", uri, "watch", "c"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True)
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def line(self):
        try:
            return self.lines.get(timeout=LIMIT)
        except queue.Empty:
            return None

    def end(self):
        """Its exit status, None if it had to be ended; and what it said."""
        status = None
        try:
            status = self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait(LIMIT)
        self.reader.join()
        return status, self.process.stderr.read()


def change(server, uri, name):
    server.run("mkdir", "c:/" + name, uri=uri)


def change_until_heard(server, uri, watch, name):
    """It may not have begun to watch yet."""
    for i in range(50):
        change(server, uri, "%s%d" % (name, i))
        try:
            return watch.lines.get(timeout=LIMIT if i == 49 else 0.2) is not None
        except queue.Empty:
            pass
    return False


def run(channel, openings, restore):
    what = "%s, %s, opened %d times" % (channel, "an older copy" if restore else "the same store", openings)
    with Server(P, "--insecure", "--control", "none", size="64m") as server:
        uri = server.uri if channel == "pipe" else server.tcp
        copy = server.store + ".copy"
        server.run("container", "create", "c", uri=uri)
        server.stop()
        shutil.copyfile(server.store, copy)
        server.start()
        watch = Watch(uri)
        heard = change_until_heard(server, uri, watch, "lost")
        server.stop()
        if restore:
            with open(copy, "rb") as f, open(server.store, "r+b") as t:
                shutil.copyfileobj(f, t)
        for i in range(openings - 1):
            # Opened and closed by a tool: nobody serves it meanwhile.
            subprocess.run([P, "-q", "-s", "local:" + server.store, "mkdir", "c:/tool%d" % i], check=True)
        server.start()
        if restore:
            status, said = watch.end()
            tap.check(what + ": the client ends and says why",
                      heard and status == 1 and "the store went back in time" in said and
                      "it was restored from an older copy" in said, "%s %s %s" % (heard, status, said))
            rest = server.run("ls", "c:/", uri=uri).stdout
            tap.check(what + ": a client that comes now is served", "lost" not in rest, rest)
        else:
            change(server, uri, "more")
            tap.check(what + ": the client rides through", heard and watch.line() is not None)
            watch.process.terminate()
            watch.end()


def main():
    for channel in ["pipe", "tcp"]:
        for openings in [1, 2]:
            run(channel, openings, True)
    run("tcp", 1, False)
    run("tcp", 2, False)
    return tap.end()


sys.exit(main())
