#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_flood.py PENSTOCK: strangers come by the thousand and say nothing, or only a channel's first words. Who is there goes
on, and who comes gets in."""
import errno
import os
import re
import resource
import socket
import struct
import subprocess
import sys
import threading
import time

from ops import Server, Tap

P = os.path.abspath(sys.argv[1])
WAVE, WAVES = 1100, 9  # of more than a door's 1024 places each
HELLO = struct.pack("<BBHIQQII", 1, 0, 0, 32, 0, 0, 0, 0) + struct.pack("<QHHIII8x", 0x312d504354532d50, 1, 0, 16384, 64, 128)
FULL = "as many connections as may be are open"
tap = Tap()


class Door:
    def __init__(self, server, channel):
        self.channel = channel
        self.uri = server.uri if channel == "pipe" else server.tcp
        self.family, self.address = ((socket.AF_UNIX, server.sock) if channel == "pipe"
                                     else (socket.AF_INET, ("127.0.0.1", int(server.port))))

    def strangers(self, count, words):
        """They stay until they are closed, whatever the server does with them."""
        come = []
        for _ in range(count):
            s = socket.socket(self.family)
            s.connect(self.address)
            if words:
                try:
                    s.send(words)
                except OSError:
                    pass  # it was cut off already
            come.append(s)
        return come


class Top:
    """A client that goes on: it asks for figures all the time."""

    def __init__(self, uri):
        self.process = subprocess.Popen([P, "-s", uri, "top", "--json", "-i", "0.1", "-n", "100000"],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.samples = threading.Semaphore(0)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        self.went_on()

    def read(self):
        for line in self.process.stdout:
            if line == "}\n":
                self.samples.release()

    def went_on(self):
        """It is told something from now on."""
        while self.samples.acquire(blocking=False):
            pass
        return self.samples.acquire(timeout=30)

    def end(self):
        self.process.terminate()
        self.reader.join()
        said = self.process.stderr.read()
        self.process.wait()
        return said


def close(strangers):
    for s in strangers:
        s.close()


def gets_in(server, door, wait=""):
    begun = time.monotonic()
    r = server.run("status", uri=door.uri + wait, check=False)
    return r.returncode == 0, "%s (%.1f s)" % (r.stderr, time.monotonic() - begun)


def test_waves(server, door, words, what):
    """They stand there while somebody comes."""
    top = Top(door.uri)
    held, failed = [], []
    for wave in range(WAVES):
        held += door.strangers(WAVE, words)
        good, why = gets_in(server, door)
        if not good:
            failed.append("wave %d: %s" % (wave, why))
    tap.check("%s: a client gets in beside %d that %s" % (door.channel, len(held), what), not failed, "\n".join(failed))
    close(held)
    went_on = top.went_on()
    said = top.end()
    tap.check("%s: who was there goes on" % door.channel, went_on and not said, said)


def test_all_the_time(server, door, words):
    """They come while somebody comes."""
    stop = threading.Event()

    def flood():
        was = []
        while not stop.is_set():  # the door is never without them
            come = door.strangers(WAVE, words)
            close(was)
            was = come
        close(was)

    flooder = threading.Thread(target=flood)
    flooder.start()
    tries = [gets_in(server, door, "&connect=10") for _ in range(3)]
    stop.set()
    flooder.join()
    tap.check("%s: clients get in while strangers come" % door.channel, all(good for good, _ in tries),
              "\n".join(why for _, why in tries))


def test_told(door, words):
    """Who makes room is told why, as far as he can be."""
    come = door.strangers(3, words)
    said = b""
    come[0].settimeout(60)
    try:
        while more := come[0].recv(4096):
            said += more
    except ConnectionResetError:
        pass
    # By the wire, if his first words were heard before the others came; else by the channel: a BYE, or a HELLO's head.
    by_channel = struct.unpack_from("<I", said.ljust(64), 28 if words else 16)[0]
    told = FULL.encode() in said or by_channel == errno.EUSERS
    tap.check("%s: who makes room is told why" % door.channel, told, said)
    close(come)


def test_full():
    """Of those that are known nobody makes room, and who is refused is told why."""
    config = "insecure: true\ncontrol: none\nlimits:\n  connections: 2\n"
    with Server(P, config=config) as server:
        for door, words in [(Door(server, "pipe"), b""), (Door(server, "tcp"), HELLO)]:
            test_told(door, words)
            there = [Top(door.uri), Top(door.uri)]
            r = server.run("status", uri=door.uri, check=False)
            tap.check("%s: a full door says so" % door.channel, r.returncode != 0 and FULL in r.stderr, r.stderr)
            tap.check("%s: and nobody had to go" % door.channel,
                      all([t.went_on() and not t.end() for t in there]))


def main():
    want = WAVE * (WAVES + 1) + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < want:
        print("1..0 # skip: %d descriptors are needed, and a process may have %d" % (want, hard))
        return 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, want), hard))
    begun = time.monotonic()
    with Server(P, "--insecure", "--control", "none") as server:
        pipe, tcp = Door(server, "pipe"), Door(server, "tcp")
        test_waves(server, pipe, b"", "say nothing")
        test_waves(server, tcp, HELLO, "say only what a channel begins with")
        test_all_the_time(server, pipe, b"")
        test_all_the_time(server, tcp, HELLO)
        seconds = time.monotonic() - begun + 2
        lines = server.logged().splitlines()
        told = [l for l in lines if not re.search(r"\d+ more were refused", l)]
        tap.check("twenty a second are told of", len(told) <= 20 * seconds, "%d in %.1f s" % (len(told), seconds))
    test_full()
    return tap.end()


sys.exit(main())
