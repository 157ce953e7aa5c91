#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""penstock nvme: targets and hosts in processes of their own. Hosts that die, lie and stay; targets
that die; stores that live through it. See nvme_bench.py for how it is called.
"""
import array
import fcntl
import json
import mmap
import os
import pathlib
import random
import shutil
import signal
import socket
import struct
import subprocess
import time

from nvme_bench import NQN, Bench, at_work, busy, commands, free_port, hosts, main, stop, tcp_target, wait_for

F_ADD_SEALS, F_SEAL_SHRINK = 1033, 2


# --- the loop between processes -----------------------------------------------------------------


def test_loop_io():
    with Bench() as b:
        b.file("d.img", 64 << 20)
        t = b.target("d.img", "mem:16m?block=512", "--loop", "one", "--lba", "4096")
        for more in ([], ["--queues", "3", "--qdepth", "7"], ["--iosize", "256k"]):
            b.ok("perf", "nvme+loop:one", "--rw", "randrw", "--runtime", "1", "--verify", "--force",
                 "--size", "32m", *more)
        b.ok("perf", "nvme+loop:one?nsid=2", "--rw", "randrw", "--runtime", "0.5", "--verify")
        b.fails("perf", "nvme+loop:one?nsid=3", "--rw", "read", say="namespace 3")
        b.fails("perf", "nvme+loop:two", "--rw", "read", say="two")
        b.fails("perf", "nvme+loop:one?lba=512", "--rw", "read", say="lba")
        b.fails("nvme", "target", "mem:1m", "--loop", "one", say="another target has this name")
        stop(t)
        b.fails("perf", "nvme+loop:one", "--rw", "read", say="one")
        stop(b.target("d.img", "--loop", "one"))  # the name is free again


def test_loop_idle():
    """A target with a host that does nothing uses no CPU."""
    with Bench() as b:
        t = b.target("mem:16m", "--loop", "one")
        p = b.begin("perf", "nvme+loop:one", "--rw", "randread", "--rate", "5", "--runtime", "20")
        wait_for(lambda: hosts(b, "one"))

        def ticks():
            fields = pathlib.Path("/proc/%d/stat" % t.pid).read_text().rsplit(")", 1)[1].split()
            return int(fields[11]) + int(fields[12])
        before = ticks()
        time.sleep(2)
        assert ticks() - before < 20, "an idle target spins"
        p.kill()
        stop(t)


def test_loop_wakes():
    """A target that sleeps is woken for each command, whatever its doorbells stand at: nothing waits for a
    timeout. (What comes in whole batches makes doorbells come round to the same few values.)"""
    with Bench() as b:
        t = b.target("null:1g", "--loop", "one")
        for depth, batch, rate, seconds in ((128, 16, None, 4), (16, 16, None, 2), (1, 1, 4000, 1), (4, 4, 20000, 1)):
            done = b.run("perf", "nvme+loop:one", "--rw", "randread", "--runtime", seconds, "--qdepth", depth,
                         "--batch", batch, *(["--rate", rate] if rate else []))
            assert done.returncode == 0 and "takes too long" not in done.stderr, (depth, batch, done.stderr[:500])
        stop(t)


def test_loop_ana_and_allow():
    with Bench() as b:
        t = b.target("mem:16m", "--loop", "one", "--loop", "two", "--ana", "2:1=inaccessible",
                     "--allow-host", "nqn.2026-11.test:me")
        ana = json.loads(b.ok("nvme", "ana", "one", "--json"))["ana"]
        assert [(a["port"], a["state"]) for a in ana] == [(1, "optimized"), (2, "inaccessible")]
        b.fails("perf", "nvme+loop:one", "--rw", "read", say="not allowed")
        me = "?hostnqn=nqn.2026-11.test:me"
        b.ok("perf", "nvme+loop:one" + me, "--rw", "read", "--runtime", "0.2")
        b.ok("nvme", "ana", "two", "1:1=persistent-loss")
        b.fails("perf", "nvme+loop:one" + me, "--rw", "read", "--runtime", "0.2")
        p = b.begin("perf", "nvme+loop:two" + me, "--rw", "read", "--runtime", "0.2")  # waits, and says for what
        assert "inaccessible this way" in p.stderr.readline()
        b.ok("nvme", "ana", "one", "1=optimized")
        assert p.wait(20) == 0, p.stderr.read()
        b.ok("perf", "nvme+loop:two" + me, "--rw", "read", "--runtime", "0.2")
        b.fails("nvme", "ana", "one", "3:1=optimized", say="no port 3")
        b.fails("nvme", "ana", "one", "1=sideways", status=2)
        stop(t)


def test_loop_killed_target():
    """A target that dies, and one that only stops: hosts end with an error, soon, and do not hang."""
    with Bench() as b:
        b.file("d.img", 64 << 20)
        t = b.target("d.img", "--loop", "one")
        p = b.begin("perf", "nvme+loop:one?reconnect=0", "--rw", "randread", "--qdepth", "64", "--runtime", "60")
        at_work(b, "one", 1000)
        t.kill()
        assert p.wait(20) == 1, p.stderr.read()
        t = b.target("d.img", "--loop", "one")
        b.ok("perf", "nvme+loop:one", "--rw", "read", "--runtime", "0.2")
        p = b.begin("perf", "nvme+loop:one?timeout=400&reconnect=0", "--rw", "randread", "--runtime", "600")
        at_work(b, "one", 100)
        t.send_signal(signal.SIGTERM)  # in good order, with a host there
        assert t.wait(20) == 0
        assert p.wait(20) == 1


def test_loop_another_namespace():
    """A target that is killed, and comes back with something else."""
    with Bench() as b:
        b.file("d.img", 64 << 20)
        b.file("e.img", 64 << 20)
        t = b.target("d.img", "--loop", "one")
        p = b.begin("perf", "nvme+loop:one", "--rw", "randwrite", "--rate", "2000", "--runtime", "60", "--force")
        at_work(b, "one")
        t.kill()
        t.wait()
        t = b.target("e.img", "--loop", "one")
        assert p.wait(30) == 1
        assert "another namespace is there now" in p.stderr.read()
        assert not (b.dir / "e.img").read_bytes().strip(b"\0"), "it was written to"
        stop(t)


def test_loop_stopped_target():
    """A target that hangs and is let go of: what it still does, when it wakes, harms nobody."""
    with Bench() as b:
        b.file("d.img", 64 << 20)
        t = b.target("d.img", "--loop", "one")
        p = b.begin("perf", "nvme+loop:one?timeout=400&reconnect=16", "--rw", "randrw", "--verify", "--force",
                    "--qdepth", "64", "--size", "32m", "--runtime", "6")
        at_work(b, "one", 1000)
        t.send_signal(signal.SIGSTOP)
        said = ""
        while "its function was reset" not in said:
            said = p.stderr.readline()
            assert said, p.wait()
        t.send_signal(signal.SIGCONT)
        wait_for(lambda: commands(b, "one") > 1000 or p.poll() is not None)
        assert p.wait(60) == 0, p.stderr.read()
        stop(t)


def test_loop_store_reconnect():
    """A store on a target that is killed under it, again and again, goes on as if nothing had been."""
    rnd = random.Random(8)
    with Bench() as b:
        b.file("d.img", 256 << 20)
        t = b.target("d.img", "--loop", "one")
        store = "local:nvme+loop:one"
        b.ok("format", "nvme+loop:one", "--force")
        b.ok("-s", store, "container", "create", "t")
        tree = b.dir / "tree"
        tree.mkdir()
        for i in range(60):
            (tree / ("f%d" % i)).write_bytes(rnd.randbytes(rnd.randrange(1500000)))
        p = b.begin("-s", store, "put", "-r", tree, "t:/a")
        kills = 0
        while kills < 3 and busy(b, "one", p, 20):
            t.kill()
            t.wait()
            kills += p.poll() is None
            t = b.target("d.img", "--loop", "one")
        assert p.wait(120) == 0, p.stderr.read()
        assert kills, "it was done before the first kill"
        b.ok("-s", store, "get", "-r", "t:/a", "back")
        subprocess.run(["diff", "-r", tree, b.dir / "back"], check=True)
        b.ok("fsck", "nvme+loop:one")
        stop(t)


def test_verbs():
    """list, identify, log, feature, format, reset; in words and as JSON."""
    with Bench() as b:
        t = b.target("mem:16m?block=512", "mem:32m?block=4096", "--loop", "one", "--nqn", "nqn.2026-11.t:x",
                     "--serial", "S123", "--group", "2=7", "--ana", "1:7=non-optimized")
        stop_me = b.target("mem:1m", "--loop", "two", "--read-only")
        dev = "nvme+loop:one"
        got = json.loads(b.ok("nvme", "list", "--json"))
        assert sorted(d["device"] for d in got) == ["nvme+loop:one", "nvme+loop:two"], got
        one = [d for d in got if d["device"] == dev][0]
        assert one["serial"] == "S123" and one["nqn"] == "nqn.2026-11.t:x"
        assert [(n["nsid"], n["size_bytes"], n["block_bytes"]) for n in one["namespaces"]] == \
            [(1, 16 << 20, 512), (2, 32 << 20, 4096)]
        assert got[0]["namespaces"][0]["nguid"] != got[1]["namespaces"][0]["nguid"]
        assert "S123" in b.ok("nvme", "list", dev)
        stop(stop_me)
        b.fails("nvme", "list", "nvme+loop:two", say="two")
        assert json.loads(b.ok("nvme", "identify", dev, "--json"))["version"] == "2.0.0"
        ns = json.loads(b.ok("nvme", "identify", dev, "--nsid", "2", "--json"))
        assert ns["ana_group"] == 7 and ns["size_blocks"] == 8192
        ana = json.loads(b.ok("nvme", "log", dev, "ana", "--json"))
        assert [(g["group"], g["state"], g["namespaces"]) for g in ana] == \
            [(1, "optimized", [1]), (7, "non-optimized", [2])], ana
        assert "temperature_kelvin" in b.ok("nvme", "log", dev, "smart")
        for page in ("supported", "error", "firmware", "changed", "effects"):
            json.loads(b.ok("nvme", "log", dev, page, "--json"))
        assert b.ok("nvme", "log", dev, "2", "--bytes", "32").startswith("000000 ")
        b.fails("nvme", "log", dev, "nonsense", status=2)
        b.fails("nvme", "log", dev, "0xaa", say="status 0x109")
        assert json.loads(b.ok("nvme", "feature", dev, "queues", "--json"))["value"] > 0
        b.ok("nvme", "feature", dev, "events", "0x100")
        assert json.loads(b.ok("nvme", "feature", dev, "events", "0x100", "--json")) == {"feature": 11, "value": 256}
        b.fails("nvme", "feature", dev, "0xee", say="status 0x2")
        all_of_them = {f["name"]: f["value"] for f in json.loads(b.ok("nvme", "feature", dev, "--json"))}
        assert "events" in all_of_them and all_of_them["queues"] > 0, all_of_them
        b.fails("nvme", "feature", dev, "sideways", say="keep-alive", status=2)
        b.fails("nvme", "identify", dev, "--nsid", "9", say="there is no namespace 9")
        b.fails("nvme", "format", dev, "--nsid", "1", say="--force")
        b.fails("nvme", "format", dev, "--nsid", "1", "--block", "1024", "--force", say="no format")
        assert json.loads(b.ok("nvme", "format", dev, "--nsid", "1", "--block", "4096", "--force", "--json")) == \
            {"device": dev, "nsid": 1, "block_bytes": 4096, "size_blocks": 4096}
        assert not b.ok("nvme", "format", dev, "--nsid", "2", "--force")
        assert json.loads(b.ok("nvme", "list", dev, "--json"))[0]["namespaces"][0]["block_bytes"] == 4096
        assert not b.ok("nvme", "reset", dev)
        assert json.loads(b.ok("nvme", "reset", dev, "--json"))["device"] == dev
        b.fails("nvme", "sideways", status=2)
        b.fails("nvme", status=2)
        stop(t)


# --- by either way ---------------------------------------------------------------------------------


def offer(b, way, *args, port=0):
    """A target that is controlled as ctl, reached by @way (loop or tcp), and its device string."""
    if way == "tcp":
        return tcp_target(b, *args, port=port)
    return b.target(*args, "--loop", "ctl", "--nqn", NQN), "nvme+loop:ctl"


def a_tree(b, rnd, files, most):
    tree = b.dir / "tree"
    for i in range(files):
        path = tree / ("d%d" % (i % 4)) / ("f%d" % i)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rnd.randbytes(rnd.randrange(most)))
    return tree


def killed_hosts(way, options):
    """kill -9 of hosts with data under way: the target goes on, and the store is sound."""
    rnd = random.Random(5)
    with Bench() as b:
        b.file("d.img", 256 << 20)
        t, dev = offer(b, way, "d.img")
        store = "local:" + dev + options
        b.ok("format", dev, "--force")
        b.ok("-s", store, "container", "create", "t")
        tree = a_tree(b, rnd, 40, 600000)
        kept = []
        for n in range(6):
            p = b.begin("-s", store, "put", "-r", tree, "t:/n%d" % n)
            if n % 3 == 2:
                assert p.wait(60) == 0, p.stderr.read()
                kept.append("t:/n%d" % n)
            else:
                time.sleep(0.05 + rnd.random() * 0.3)
                p.kill()
                p.wait()
            assert t.poll() is None, "the target died of its host's death"
        wait_for(lambda: not hosts(b, "ctl"))
        b.ok("fsck", dev)
        for path in kept:
            b.ok("-s", store, "verify", path)
            b.ok("-s", store, "get", "-r", path, "back")
            subprocess.run(["diff", "-r", tree, b.dir / "back"], check=True)
            shutil.rmtree(b.dir / "back")
        for n in range(8):
            p = b.begin("perf", dev, "--rw", "randread", "--qdepth", "100", "--iosize", "64k", "--runtime", "30")
            at_work(b, "ctl", 1000)
            p.kill()
            p.wait()
        wait_for(lambda: not hosts(b, "ctl"))
        b.ok("fsck", dev)
        stop(t)


def test_loop_killed_hosts():
    killed_hosts("loop", "")


def test_tcp_killed_hosts():
    killed_hosts("tcp", "?ddgst=1")


def reconnects(way, options, ends):
    """A target that ends and comes back is a pause for its host; one that does not is an error."""
    with Bench() as b:
        b.file("d.img", 64 << 20)
        port = free_port()
        t, dev = offer(b, way, "d.img", port=port)
        p = b.begin("perf", dev + options, "--rw", "randrw", "--qdepth", "16", "--queues", "2", "--runtime", "5",
                    "--verify", "--force", "--size", "32m")
        for n, end in enumerate(ends):
            assert busy(b, "ctl", p) or n
            t.send_signal(end)
            t.wait()
            time.sleep(0.3)
            t, _ = offer(b, way, "d.img", port=port)
        assert p.wait(60) == 0, p.stderr.read()
        p = b.begin("perf", dev + "?reconnect=4", "--rw", "randread", "--runtime", "60")
        at_work(b, "ctl")
        t.kill()
        assert p.wait(40) == 1, p.stderr.read()


def test_loop_reconnect():
    reconnects("loop", "", (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL))


def test_tcp_reconnect():
    reconnects("tcp", "?ddgst=1", (signal.SIGKILL, signal.SIGKILL))


# What the controller does wrong, and whether the host has to send commands again for it.
PLANS = (("drop:every=3000,count=3", True), ("delay:every=900,ms=50", False), ("dup:every=9", False),
         ("cid:every=5000,count=2", True), ("status:code=34,every=50", True), ("fatal:after=4000", True),
         ("link:after=3000,ms=200", True), ("remove:after=3000", True))


def faults(way):
    """The controller's fault plan, between processes, with data verified. A link that is down and a
    device that is removed end the connection: what the host finds again is another controller."""
    with Bench() as b:
        for plan, again in PLANS:
            t, dev = offer(b, way, "mem:32m", "--faults", plan)
            got = json.loads(b.ok("perf", dev + "?timeout=300&reconnect=8", "--rw", "randrw", "--runtime", "1.5",
                                  "--verify", "--qdepth", "16", "--size", "16m", "--json"))
            what = plan, got["ios"], got["errors"], got["verified"]
            assert got["verified"]["wrong"] == 0 and got["verified"]["reads"] and not got["errors"], what
            # Where all is slow there may be too few for the plan, and a delay may be too long.
            assert not again or got["ios"] < 10000 or got["devices"][0]["queues"][0]["retries"], what
            stop(t)


def test_loop_faults():
    faults("loop")


def test_tcp_faults():
    faults("tcp")


# --- NVMe/TCP ------------------------------------------------------------------------------------

def test_tcp_io():
    with Bench() as b:
        b.file("d.img", 64 << 20)
        t, dev = tcp_target(b, "d.img", "mem:16m?block=512")
        for options in ("", "?hdgst=1", "?ddgst=1", "?hdgst=1&ddgst=1", "?sgl=0"):
            b.ok("perf", dev + options, "--rw", "randrw", "--runtime", "0.7", "--verify", "--force",
                 "--size", "24m")
        for more in (["--queues", "4", "--qdepth", "20"], ["--iosize", "8k"], ["--iosize", "12k"],
                     ["--iosize", "1m", "--qdepth", "5"], ["--iosize", "128k", "--queues", "2"]):
            b.ok("perf", dev + "?hdgst=1&ddgst=1", "--rw", "randrw", "--runtime", "0.7", "--verify",
                 "--force", *more)
        b.ok("perf", dev + "?nsid=2", "--rw", "randrw", "--runtime", "0.5", "--verify", "--iosize", "512")
        b.fails("perf", dev + "?nsid=3", "--rw", "read", say="namespace 3")
        stop(t)


def test_tcp_connect():
    with Bench() as b:
        t, dev = tcp_target(b, "mem:16m", "--allow-host", "nqn.2026-11.test:me")
        addr = "tcp://" + dev.split("//")[1].split("/")[0]
        b.fails("nvme", "connect", dev, say="does not let in a host of this NQN")
        me = "?hostnqn=nqn.2026-11.test:me"
        got = json.loads(b.ok("nvme", "connect", dev + me, "--queues", "5", "--json"))
        assert got["queues"] == 5 and got["nqn"] == NQN
        b.fails("nvme", "connect", dev + "x" + me, say="is there a subsystem of this NQN?")
        b.fails("nvme", "connect", dev + me + "&keepalive=x", say="keepalive")
        log = json.loads(b.ok("nvme", "discover", addr, "--hostnqn", "nqn.2026-11.test:me", "--json"))
        assert [(e["nqn"], e["device"]) for e in log] == [(NQN, dev)], log
        b.fails("nvme", "discover", addr, say="0x184")
        b.fails("nvme", "discover", "tcp://127.0.0.1:%d" % free_port(), say="nobody listens")
        b.fails("nvme", "connect", "nvme+tcp://127.0.0.1:%d/%s" % (free_port(), NQN), say="nobody listens")
        b.fails("nvme", "connect", "nvme+tcp:127.0.0.1", say="not //HOST")
        b.fails("nvme", "target", "mem:1m", "--listen", "tcp://0.0.0.0:%d" % free_port(), say="--insecure")
        b.fails("nvme", "target", "mem:1m", "--listen", addr, say="in use")
        stop(t)


def test_identity():
    """What answers after a lost connection is used only if it is what was there before."""
    one = ["--uuid", "1=00112233-4455-6677-8899-aabbccddeeff"]
    two = ["--uuid", "1=ffeeddccbbaa99887766554433221100"]
    with Bench() as b:
        port = free_port()
        # There before; there after; what is said of it.
        for image, before, size, options, after, say in (
                ("a.img", one, 16, "?block=4096", one + ["--serial", "OTHER"], "serial number OTHER"),
                ("a.img", one, 16, "?block=4096", two, "UUID ffeeddccbbaa99887766554433221100"),
                ("b.img", [], 16, "?block=4096", [], "NGUID"),
                ("b.img", one, 8, "?block=4096", one, "2048 blocks of 4096"),
                ("b.img", one, 16, "?block=512", one, "32768 blocks of 512"),
                ("b.img", one, 32, "?block=4096", one, None)):
            b.file("a.img", 16 << 20)
            t, dev = tcp_target(b, "a.img?block=4096", *before, port=port)
            p = b.begin("perf", dev, "--rw", "randwrite", "--rate", "2000", "--force", "--runtime",
                        "60" if say else "4")
            at_work(b, "ctl", 100)
            t.kill()
            t.wait()
            b.file(image, 0)
            b.file(image, size << 20)
            t, _ = tcp_target(b, image + options, *after, port=port)
            assert p.wait(60) == (1 if say else 0), p.stderr.read()
            said = p.stderr.read()
            stop(t)
            if not say:
                assert (b.dir / image).read_bytes().strip(b"\0"), "nothing was written"
                continue
            assert "expected" in said and say in said, said
            assert not (b.dir / image).read_bytes().strip(b"\0"), "it was written to"


def test_tcp_silence():
    """Who stops answering is noticed, by either side."""
    with Bench() as b:
        t, dev = tcp_target(b, "mem:64m")
        p = b.begin("perf", dev + "?keepalive=1000&reconnect=4", "--rw", "randread", "--runtime", "60")
        at_work(b, "ctl")
        t.send_signal(signal.SIGSTOP)
        assert p.wait(40) == 1, p.stderr.read()
        t.send_signal(signal.SIGCONT)
        wait_for(lambda: not hosts(b, "ctl"))
        p = b.begin("perf", dev + "?keepalive=1000", "--rw", "randread", "--runtime", "60")
        at_work(b, "ctl")
        p.send_signal(signal.SIGSTOP)
        wait_for(lambda: not hosts(b, "ctl"), 30)
        p.kill()
        stop(t)


class TcpLiar:
    def __init__(self, dev):
        host, port = dev.split("//")[1].split("/")[0].split(":")
        self.s = socket.create_connection((host, int(port)), timeout=10)

    def send(self, data):
        try:
            self.s.sendall(data)
        except OSError:
            pass

    def icreq(self, dgst=0, pfv=0, hpda=0):
        self.send(struct.pack("<BBBBIHBBI", 0, 0, 128, 0, 128, pfv, hpda, dgst, 0) + bytes(112))

    def read(self, n):
        got = b""
        while len(got) < n:
            try:
                part = self.s.recv(n - len(got))
            except OSError:
                part = b""
            if not part:
                break
            got += part
        return got

    def connect(self, qid=0, cntlid=0xffff, nqn=NQN, sqsize=31):
        data = bytes(16) + struct.pack("<H", cntlid) + bytes(238) + nqn.encode().ljust(256, b"\0") + \
            b"nqn.liar".ljust(256, b"\0") + bytes(256)
        cmd = struct.pack("<BBHB19xQI3xBHHHBxI12x", 0x7f, 0x40, 1, 1, 0, 1024, 0x01, 0, qid, sqsize, 0, 0)
        self.send(struct.pack("<BBBBI", 4, 0, 72, 72, 72 + 1024) + cmd + data)
        return self.read(24)

    def closed(self):
        return self.read(1 << 20)


def test_tcp_lies():
    """Hosts that break the rules are told which (C2HTermReq), and nobody else notices."""
    rnd = random.Random(9)
    with Bench() as b:
        t, dev = tcp_target(b, "mem:16m")

        def fes(data):
            return data[8] if data[:1] == b"\x03" else None
        liar = TcpLiar(dev)
        liar.send(struct.pack("<BBBBI", 4, 0, 72, 0, 72) + bytes(64))  # a command first
        assert fes(liar.closed()) == 2
        liar = TcpLiar(dev)
        liar.send(struct.pack("<BBBBI", 0, 0, 127, 0, 128) + bytes(120))
        assert fes(liar.closed()) == 1
        liar = TcpLiar(dev)
        liar.icreq(pfv=7)
        assert fes(liar.closed()) == 6
        for pdu, want in ((struct.pack("<BBBBIHHII4x", 6, 4, 24, 24, 28, 0, 5, 0, 4) + b"data", 1),
                          (struct.pack("<BBBBI", 4, 0, 72, 72, 0x7fffffff) + bytes(64), 1),
                          (struct.pack("<BBBBI", 4, 0, 72, 72, 72 + 9000) + bytes(64), 5),
                          (struct.pack("<BBBBI", 4, 1, 72, 0, 72) + bytes(64), 1),
                          (struct.pack("<BBBBI", 9, 0, 24, 0, 24) + bytes(16), 1)):
            liar = TcpLiar(dev)
            liar.icreq()
            assert liar.read(128)[0] == 1
            assert liar.connect()[16 - 8 + 14] & 0xfe == 0
            liar.send(pdu)
            assert fes(liar.closed()) == want, (pdu, want)
        liar = TcpLiar(dev)
        liar.icreq(dgst=1)  # header digests agreed, then a wrong one
        assert liar.read(128)[11] == 1
        liar.send(struct.pack("<BBBBI", 4, 1, 72, 0, 76) + bytes(64) + b"\1\2\3\4")
        assert fes(liar.closed()) == 3
        for _ in range(200):
            liar = TcpLiar(dev)
            if rnd.random() < 0.8:
                liar.icreq(dgst=rnd.randrange(4) if rnd.random() < 0.2 else 0)
            if rnd.random() < 0.7:
                liar.connect()
            for _ in range(rnd.randrange(6)):
                n = rnd.randrange(300)
                liar.send(struct.pack("<BBBBI", rnd.choice((2, 4, 6)), 0, rnd.choice((24, 72)),
                                      rnd.choice((0, 24, 72)), rnd.choice((24, 72, n))) + rnd.randbytes(n))
            liar.s.close()
        b.ok("perf", dev, "--rw", "randrw", "--runtime", "0.5", "--verify")
        wait_for(lambda: not hosts(b, "ctl"), 30)
        stop(t)


def test_multipath():
    """Two ports of one target: ANA states change, and one path dies, while data is verified."""
    with Bench() as b:
        b.file("d.img", 64 << 20)
        t = b.target("d.img", "--listen", "tcp://127.0.0.1:0", "--listen", "tcp://127.0.0.1:0", "--loop",
                     "three", "--nqn", NQN, "--ana", "2:1=non-optimized", "--ana", "3:1=inaccessible")
        devs = [l.split(": ", 1)[1].strip() for l in t.said]

        def done(port):
            return commands(b, "three", port)

        def load():
            return b.begin("perf", "multipath:%s:%s" % (policy, "|".join(devs)), "--rw", "randrw",
                           "--qdepth", "16", "--runtime", "6", "--verify", "--force", "--size", "32m")

        def moved(port, before):
            """Whether the port got more; where all is slow, one run is too short for all changes."""
            nonlocal p
            if p.poll() is not None:
                assert p.returncode == 0, p.stderr.read()
                p = load()
            return done(port) > before + 300
        for policy in ("round-robin", "queue-depth"):
            p = load()
            wait_for(lambda: done(1) > 500)
            assert done(2) < 100 and done(3) < 100, "only the optimized path"
            for rule, port in (("1:1=inaccessible", 2), ("3:1=optimized", 3), ("1:1=change", 3),
                               ("2:1=optimized", 2), ("3:1=inaccessible", 2)):
                b.ok("nvme", "ana", "three", rule)
                before = done(port)
                wait_for(lambda: moved(port, before))
            b.ok("nvme", "ana", "three", "1=inaccessible")  # no way at all: a pause
            time.sleep(0.5)
            b.ok("nvme", "ana", "three", "1:1=optimized", "2:1=non-optimized")
            assert p.wait(60) == 0, p.stderr.read()
        b.fails("perf", "multipath:sideways:" + devs[0], "--rw", "read", say="round-robin")
        b.fails("perf", "multipath:round-robin:mem:1m", "--rw", "read", say="no NVMe")
        stop(t)


def test_multipath_dead():
    """A path whose target dies: the other one goes on, without an error."""
    with Bench() as b:
        img = b.file("d.img", 32 << 20)
        one = b.target(img, "--loop", "one", "--nqn", NQN, "--read-only")
        two = b.target(img, "--loop", "two", "--nqn", NQN, "--read-only")
        p = b.begin("perf", "multipath:queue-depth:nvme+loop:one|nvme+loop:two", "--rw", "randread",
                    "--qdepth", "32", "--runtime", "5")
        wait_for(lambda: commands(b, "one") > 500)
        one.kill()
        before = commands(b, "two")
        wait_for(lambda: commands(b, "two") > before + 500)
        assert p.wait(60) == 0, p.stderr.read()
        stop(two)


def test_multipath_identity():
    """Paths to other namespaces are refused, however alike."""
    with Bench() as b:
        b.file("d.img", 32 << 20)
        b.file("e.img", 32 << 20)
        one = b.target("d.img", "--loop", "one", "--nqn", NQN, "--read-only")
        for image, more, say in (("./d.img", [], None),
                                 ("d.img", ["--serial", "OTHER"], "another subsystem: expected"),
                                 ("d.img", ["--nqn", NQN + "2"], "another subsystem: expected"),
                                 ("e.img", [], "another namespace: expected")):
            two = b.target(image, "--loop", "two", "--nqn", NQN, "--read-only", *more)
            args = ["perf", "multipath:round-robin:nvme+loop:one|nvme+loop:two", "--rw", "randread",
                    "--runtime", "0.2"]
            b.fails(*args, say=say) if say else b.ok(*args)
            stop(two)
        stop(one)


def test_multipath_back():
    """A path whose target dies and starts again, after more tries than a lone host makes, is used again."""
    with Bench() as b:
        img = b.file("d.img", 32 << 20)
        port = free_port()
        one = b.target(img, "--listen", "tcp://127.0.0.1:%d" % port, "--nqn", NQN, "--read-only", "--control", "one")
        two = b.target(img, "--loop", "two", "--nqn", NQN, "--read-only")
        dev = [l for l in one.said if "nvme+tcp" in l][0].split(": ", 1)[1].strip() + "?reconnect=0"
        p = b.begin("perf", "multipath:round-robin:%s|nvme+loop:two" % dev, "--rw", "randread",
                    "--qdepth", "32", "--runtime", "300")
        wait_for(lambda: commands(b, "one") > 500)
        one.kill()
        one.wait()
        before = commands(b, "two")
        wait_for(lambda: commands(b, "two") > before + 500)
        time.sleep(12)  # a lone host gives up after four tries of two seconds
        one = b.target(img, "--listen", "tcp://127.0.0.1:%d" % port, "--nqn", NQN, "--read-only", "--control", "one")
        wait_for(lambda: commands(b, "one") > 500, 30)
        assert p.poll() is None
        p.kill()
        said = p.stderr.read().splitlines()
        assert all("warning: nvme: " in l for l in said), said
        stop(one)
        stop(two)


# --- hosts that lie -----------------------------------------------------------------------------

MAGIC = 0x314c4e50
HELLO, WELCOME, MAP, UNMAP, ANSWER, CONTROL = 1, 2, 3, 4, 5, 6


class Liar:
    def __init__(self, b, name):
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.s.settimeout(10)
        self.s.connect(str(b.dir / "run" / (name + ".nvme")))

    def say(self, kind, text=b"", addr=0, length=0, fds=(), magic=MAGIC, text_len=None):
        head = struct.pack("<IHHIIQQ", magic, kind, len(text) if text_len is None else text_len, 0, 0,
                           addr, length)
        self.s.sendmsg([head + text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                       if fds else [])

    def hear(self):
        try:
            data, control, _, _ = self.s.recvmsg(8192, 4096)
        except ConnectionResetError:
            return None, []
        fds = array.array("i")
        for _, _, c in control:
            fds.frombytes(c[:len(c) - len(c) % 4])
        return (struct.unpack_from("<IHHIIQQ", data) if data else None), list(fds)

    def status(self, *args, **kw):
        self.say(*args, **kw)
        m, _ = self.hear()
        return m[3] if m and m[1] == ANSWER else None


def memfd(size, seals=F_SEAL_SHRINK):
    fd = os.memfd_create("liar", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if seals:
        fcntl.fcntl(fd, F_ADD_SEALS, seals)
    return fd


def test_loop_lies():
    with Bench() as b:
        t = b.target("mem:16m", "--loop", "one")
        rnd = random.Random(3)
        for kw in ({"magic": 1}, {"text_len": 77}, {"text": b""}, {"text": b"x" * 300}):
            liar = Liar(b, "one")
            liar.say(HELLO, **{"text": b"nqn.x", **kw})
            assert liar.hear()[0] is None, kw  # thrown out
        for n in range(300):
            liar = Liar(b, "one")
            if n % 2:
                liar.say(HELLO, b"nqn.x")
                liar.hear()
            try:
                for _ in range(5):
                    liar.s.send(rnd.randbytes(rnd.randrange(1, 200)) if n % 3 else
                                struct.pack("<IHHIIQQ", MAGIC, rnd.randrange(9), 0, 0, 0,
                                            rnd.getrandbits(64), rnd.getrandbits(40)))
            except OSError:
                pass
        liar = Liar(b, "one")
        liar.say(HELLO, b"nqn.x")
        m, fds = liar.hear()
        assert m[1] == WELCOME and len(fds) == 3
        assert liar.status(MAP, addr=1 << 32, length=8192, fds=[memfd(8192, 0)]) == 1, "EPERM: not sealed"
        assert liar.status(MAP, addr=1 << 32, length=8192, fds=[memfd(4096)]) == 22, "EINVAL: too short"
        assert liar.status(MAP, addr=2**64 - 4096, length=8192, fds=[memfd(8192)]) == 22
        assert liar.status(MAP, addr=1 << 32, length=8192) == 22
        assert liar.status(MAP, addr=1 << 32, length=1 << 50, fds=[memfd(8192)]) == 22
        with open("/dev/null") as null:
            assert liar.status(MAP, addr=1 << 32, length=8192, fds=[null.fileno()]) == 1
        good = memfd(1 << 20)
        assert liar.status(MAP, addr=1 << 32, length=1 << 20, fds=[good]) == 0
        assert liar.status(MAP, addr=(1 << 32) + 4096, length=4096, fds=[good]) == 17, "EEXIST"
        for i in range(63):
            assert liar.status(MAP, addr=(2 + i) << 32, length=4096, fds=[good]) == 0
        assert liar.status(MAP, addr=999 << 32, length=4096, fds=[good]) == 28, "ENOSPC"
        assert liar.status(UNMAP, addr=77) == 2
        # Memory that the controller's queues lie in goes, and comes back, while it runs.
        bar = mmap.mmap(fds[0], m[6])
        for _ in range(200):
            bar[0x24:0x28] = struct.pack("<I", 31 << 16 | 31)
            bar[0x28:0x30] = struct.pack("<Q", 1 << 32)
            bar[0x30:0x38] = struct.pack("<Q", (1 << 32) + 8192)
            bar[0x14:0x18] = struct.pack("<I", 1 | 6 << 16 | 4 << 20)
            os.write(fds[1], struct.pack("<Q", 1))
            bar[0x1000:0x1004] = struct.pack("<I", rnd.randrange(40))
            liar.status(UNMAP, addr=1 << 32)
            liar.status(MAP, addr=1 << 32, length=1 << 20, fds=[good])
            for off in range(0x1000, 0x1080, 4):
                bar[off:off + 4] = rnd.randbytes(4)
            os.pwrite(good, rnd.randbytes(8192), 0)
            bar[0x14:0x18] = struct.pack("<I", 0)
        liar.s.close()
        b.ok("perf", "nvme+loop:one", "--rw", "randrw", "--runtime", "0.5", "--verify")
        assert t.poll() is None
        stop(t)


main(globals())
